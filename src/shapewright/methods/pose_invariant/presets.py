"""Ready settings of ``pose_invariant``."""

from __future__ import annotations

from dataclasses import replace

from shapewright.data.picture_folders import PictureOptions
from shapewright.engine.schedule import TrainConfig
from shapewright.methods.pose_invariant.config import (
    AdversaryConfig,
    LossConfig,
    NetworkConfig,
    OptimConfig,
    PoseInvariantConfig,
    RenderConfig,
)

DEFAULT_PRESET = "cpu"

# A laptop: fifty objects or more, 64 px. Smaller encoders cannot tell the poses apart, and show no entanglement.
_CPU = PoseInvariantConfig(
    network=NetworkConfig(
        encoder_widths=(32, 64, 128),
        encoder_hidden=512,
        code_dim=256,
        decoder_hidden=(512,),
        discriminator_hidden=(128,),
        image_widths=(16, 32, 64, 64, 64),
    ),
    loss=LossConfig(code_prior_weight=0.0, inflation_weight=1e-4),
    adversary=AdversaryConfig(weight=1.0, calibrated=True),
    optim=OptimConfig(batch_size=48, lr=1e-3, warm_up_steps=300, schedule="cosine"),
    train=TrainConfig(steps=3000),
)

# View prior learning (arXiv:1811.10719), thirteen classes in one network.
_VPL_SHAPENET = PoseInvariantConfig(
    mode="view_prior",
    augment="flip_and_colours",
    data=PictureOptions(image_size=224, views_per_object=1, views="first"),
    network=NetworkConfig(encoder="preactivation", channels=3, decoder="patches", class_conditional="discriminator"),
    render=RenderConfig(supersample=1),
    loss=LossConfig(silhouette="pyramid", smoothness_weight=0.0, inflation_weight=1e-4),
    adversary=AdversaryConfig(weight=0.2),
    optim=OptimConfig(batch_size=64, lr=4e-4, beta1=0.5),
    train=TrainConfig(steps=100_000),
)

PRESETS: dict[str, PoseInvariantConfig] = {
    "cpu": _CPU,
    # The same, and meshes are read again from other sides: pose labels matter less then.
    "cpu_cycle": replace(_CPU, loss=replace(_CPU.loss, cycle_weight=0.3)),
    # cpu with a discriminator that looks at unseen sides: at a weight of 1 it crumples the meshes.
    "cpu_view_prior": replace(
        _CPU, mode="view_prior", adversary=AdversaryConfig(weight=0.1), loss=replace(_CPU.loss, inside_out_weight=0.3)
    ),
    # arXiv:2004.01347 on Kato's renderings, a model a class.
    "kato": PoseInvariantConfig(),
    # The same on those of LSM: one picture an object, random poses in 72 bins.
    "lsm": PoseInvariantConfig(data=PictureOptions(views_per_object=1, views="first")),
    # The same on photographs: colours alone, 224 px, symmetric shapes.
    "pascal3d": PoseInvariantConfig(
        augment="moving_crops",
        data=PictureOptions(image_size=224),
        network=NetworkConfig(encoder="resnet", channels=3, symmetric=True),
        render=RenderConfig(size=64),
        loss=LossConfig(code_prior_weight=0.01),
        adversary=AdversaryConfig(weight=0.01),
        train=TrainConfig(steps=40_000),
    ),
    "vpl_shapenet": _VPL_SHAPENET,
    # The same with two pictures of an object at a time, of all twenty.
    "vpl_multi_view": replace(
        _VPL_SHAPENET,
        mode="multi_view_prior",
        data=PictureOptions(image_size=224),
        loss=replace(_VPL_SHAPENET.loss, colour_weight=0.1),
        adversary=AdversaryConfig(weight=0.03),
        train=TrainConfig(steps=500_000),
    ),
    # On photographs of one class.
    "vpl_pascal": PoseInvariantConfig(
        mode="view_prior",
        augment="moving_crops",
        data=PictureOptions(image_size=224),
        network=NetworkConfig(encoder="resnet", channels=3, decoder="patches_fc", symmetric=True),
        render=RenderConfig(supersample=1),
        loss=LossConfig(smoothness_weight=0.0, inflation_weight=3e-5, colour_weight=0.01),
        adversary=AdversaryConfig(weight=0.5),
        optim=OptimConfig(batch_size=16, lr=2e-5, beta1=0.5),
        train=TrainConfig(steps=80_000),
    ),
    # The Neural Mesh Renderer's reconstruction (arXiv:1711.07566): two pictures of an object teach each other.
    "nmr": PoseInvariantConfig(
        mode="multi_view",
        network=NetworkConfig(decoder="bounded", rectified_code=True),
        optim=OptimConfig(batch_size=64, schedule="drop", lr_decay_factor=0.1),
        train=TrainConfig(steps=50_000),  # of cars; docs/pose_invariant.md lists the other classes
    ),
}
