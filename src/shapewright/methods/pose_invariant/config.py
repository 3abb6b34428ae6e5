"""Settings of ``pose_invariant`` and of its baselines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shapewright.checks import check_range
from shapewright.data.picture_folders import PictureOptions
from shapewright.engine.schedule import TrainConfig
from shapewright.rendering.soft_silhouette import SilhouetteGradient

Mode = Literal["pose_invariant", "plain", "prior", "view_prior", "multi_view", "multi_view_prior"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the networks; the defaults are the published ones at 64 px.

    Args:
        encoder: conv: strided convolutions; resnet: ResNet-18 (224 px); preactivation: the ResNet-18 of view prior
            learning.
        channels: 4: colours and mask; 3: colours alone; with preactivation they are still told from the background by
            the mask, where there is one.
        encoder_widths: Channels after each convolution of ``conv``.
        encoder_hidden: Width of its hidden fully connected layers.
        code_dim: Length of the code.
        rectified_code: Make the code of ``conv`` non-negative, as the Neural Mesh Renderer has it.
        decoder: mesh: an offset a vertex; bounded: the Neural Mesh Renderer's; patches and patches_fc: those of view
            prior learning, on a cube sphere.
        symmetric: Every mesh is its own mirror image at z = 0.
        decoder_hidden: Widths of its hidden layers, where it has some.
        template: icosphere, cube_sphere, or the file of a closed mesh of about radius 1.
        texture: Paint the mesh too, with the decoders patches and patches_fc.
        discriminator_hidden: Widths of the pose discriminator.
        image_widths: Channels of the picture discriminator after each convolution.
        class_conditional: Who is told the category, as a one-hot vector: none; the discriminator; both, it and the
            decoder.
    """

    encoder: Literal["conv", "resnet", "preactivation"] = "conv"
    channels: Literal[3, 4] = 4
    encoder_widths: tuple[int, ...] = (64, 128, 256)
    encoder_hidden: int = 1024
    code_dim: int = 512
    rectified_code: bool = False
    decoder: Literal["mesh", "bounded", "patches", "patches_fc"] = "mesh"
    symmetric: bool = False
    decoder_hidden: tuple[int, ...] = (1024, 2048)
    template: str = "icosphere"
    texture: bool = False
    discriminator_hidden: tuple[int, ...] = (256, 128)
    image_widths: tuple[int, ...] = ()
    class_conditional: Literal["none", "discriminator", "both"] = "none"

    def __post_init__(self) -> None:
        """Check that every layer has a width."""
        check_range("number of encoder_widths", len(self.encoder_widths), 1)
        sizes = {
            "code_dim": [self.code_dim],
            "encoder_hidden": [self.encoder_hidden],
            "encoder_widths": self.encoder_widths,
            "decoder_hidden": self.decoder_hidden,
            "discriminator_hidden": self.discriminator_hidden,
            "image_widths": self.image_widths,
        }
        for name, values in sizes.items():
            check_range(name, min(values, default=1), 1)
        if self.decoder == "bounded":
            check_range("number of decoder_hidden with the decoder bounded", len(self.decoder_hidden), 1)
        if self.image_widths:
            check_range("number of image_widths", len(self.image_widths), 2)
        if self.rectified_code and self.encoder != "conv":
            raise ValueError("Only the encoder conv has a rectified_code.")
        if self.decoder.startswith("patches") and self.template not in ("icosphere", "cube_sphere"):
            raise ValueError(f"The decoder {self.decoder} moves a cube sphere, not the template {self.template}.")


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """How silhouettes are drawn and differentiated.

    Args:
        gradient: nmr, reach, contour or soft.
        supersample: Samples along each side of a pixel.
        size: Pixels along each side; none: that of the masks.
    """

    gradient: SilhouetteGradient = "nmr"
    supersample: int = 2
    size: int | None = None

    def __post_init__(self) -> None:
        """Check that there are pixels and samples."""
        check_range("render.supersample", self.supersample, 1)
        if self.size is not None:
            check_range("render.size", self.size, 1)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Terms of the loss and their weights.

    Args:
        silhouette: iou: 1 - intersection over union; pyramid: squared differences at five sizes.
        smoothness_weight: Of the flatness of neighbouring faces.
        smoothness: flatness: as published; dihedral: from face normals, without its spikes at slivers.
        laplacian_weight: Of each vertex's distance to the mean of its neighbours.
        edge_length_weight: Of the spread of edge lengths.
        code_prior_weight: Of the mean squared length of the codes, in pose_invariant and prior.
        inflation_weight: Of the push outwards along the normals, in view_prior and multi_view_prior.
        inside_out_weight: Of the share of a picture that shows the inside of the mesh, from the picture's side and from
            that of another one of the batch (with form onehot: from any).
        cycle_weight: Of how far the code of the mesh, drawn from another side and read again, is from that of the
            picture, over how far the codes of the batch are apart. It needs pictures with masks.
        colour_weight: Of the difference in colour at five sizes, with network.texture.
    """

    silhouette: Literal["iou", "pyramid"] = "iou"
    smoothness_weight: float = 1e-3
    smoothness: Literal["flatness", "dihedral"] = "flatness"
    laplacian_weight: float = 0.0
    edge_length_weight: float = 0.0
    code_prior_weight: float = 1.0
    inflation_weight: float = 0.0
    inside_out_weight: float = 0.0
    cycle_weight: float = 0.0
    colour_weight: float = 0.5


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig:
    """What a discriminator sees and how it is fooled.

    Args:
        kind: Of pose_invariant. log_l2: the squared distance of log-probabilities to uniform ones; cross_entropy: from
            uniform ones; reversal: the discriminator's loss with the gradient reversed; continuous: azimuth and
            elevation are guessed as numbers, without bins, and the encoder makes the mean the best guess; mmd: between
            the bins of a batch, without a discriminator; none: no adversary.
        weight: Of the adversarial term.
        every: The encoder is trained to fool the discriminator in every n-th step; the discriminator in the others.
        codes: What the discriminator is given. raw: the code; standardised: centred and scaled by one number a batch;
            directions: where each code lies from the mean of the batch, without its length.
        noise: Deviation of the noise added to what the discriminator is given, over the root mean square of that. It
            keeps the discriminator from learning pictures by heart instead of poses.
        lr_share: Rate of the discriminator over that of the other networks. A quick one jitters around what it knows,
            which squeezes the codes whatever the labels are.
        weight_decay: Of the discriminator, apart from the gradient (AdamW); for the same purpose.
        calibrated: Two discriminators learn from half of the objects each, and are trusted with the other half as far
            as they are right there: one that knows pictures by heart teaches nothing. With log_l2 and cross_entropy.
        shuffle_poses: Give every picture a fixed wrong pose bin: a control, which should lose the gain.
        form: Of view_prior and multi_view_prior, as the next two. vpl: conditioned on where the camera is; onehot: on
            the number of the view.
        real: What counts as real. seen: the mesh drawn from the picture's side; pictures: the masks.
        iterative: Train the discriminator in a step of its own rather than by gradient reversal.
    """

    kind: Literal["log_l2", "cross_entropy", "reversal", "continuous", "mmd", "none"] = "log_l2"
    weight: float = 1.0
    every: int = 2
    codes: Literal["raw", "standardised", "directions"] = "raw"
    noise: float = 0.0
    lr_share: float = 1.0
    weight_decay: float = 0.0
    calibrated: bool = False
    shuffle_poses: bool = False
    form: Literal["vpl", "onehot"] = "vpl"
    real: Literal["seen", "pictures"] = "seen"
    iterative: bool = False

    def __post_init__(self) -> None:
        """Check that the discriminator is ever trained."""
        check_range("adversary.every", self.every, 2)
        check_range("adversary.noise", self.noise, 0.0)
        check_range("adversary.lr_share", self.lr_share, 0.0)
        check_range("adversary.weight_decay", self.weight_decay, 0.0)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How parameters are changed.

    Args:
        batch_size: Objects a step, each with one picture (multi_view, multi_view_prior: two).
        lr: Rate of all networks.
        beta1: Of Adam.
        beta2: Of Adam.
        warm_up_steps: The rate rises to its own over this many steps, on top of the schedule. The first steps of Adam
            are as long as any, in directions that know little yet: they fold meshes and dull the encoder for good.
        schedule: constant; cosine down to a hundredth; step: times lr_decay_factor every lr_decay_every steps; drop:
            times lr_decay_factor for the last twentieth of the run.
        lr_decay_start: First step at which the rate falls, with the schedule step.
        lr_decay_every: Steps between two falls.
        lr_decay_factor: What the rate is multiplied by.
        ema_decay: Judge the mean of encoder and decoder over the steps, each of which weighs less than the next one by
            this factor, such as 0.999; 0: judge them as they are.
        precision: Of products: bf16, fp32, or auto: bf16 where the processor multiplies it natively.
    """

    batch_size: int = 128
    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    warm_up_steps: int = 0
    schedule: Literal["constant", "cosine", "step", "drop"] = "constant"
    lr_decay_start: int = 40_000
    lr_decay_every: int = 2_000
    lr_decay_factor: float = 0.5
    ema_decay: float = 0.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("ema_decay", self.ema_decay, 0.0, 0.999999)
        check_range("batch_size", self.batch_size, 1)
        check_range("lr", self.lr, 0.0)
        check_range("beta1", self.beta1, 0.0, 0.999999)
        check_range("beta2", self.beta2, 0.0, 0.999999)
        check_range("lr_decay_every", self.lr_decay_every, 1)
        check_range("warm_up_steps", self.warm_up_steps, 0)


@dataclass(frozen=True, kw_only=True)
class PoseInvariantConfig:
    """All settings of a run.

    Args:
        mode: pose_invariant; plain: silhouettes alone; prior: and short codes; view_prior: unseen sides are to look
            like seen ones; multi_view: two pictures of an object teach each other; multi_view_prior: and unseen sides
            are to look like seen ones.
        select: How ``best`` is chosen: by silhouettes of held-out objects, or by voxels (3D supervision).
        augment: How pictures are varied in training. flip: half are mirrored together with their cameras and bins;
            flip_and_colours: and red, green and blue change places (view prior learning); moving_crops: photographs of
            Pascal3D+ are cut with moving sides, and half are mirrored without their masks.
        media_every: Steps between two pictures of the training.
        data: Which pictures.
        network: Sizes.
        render: Silhouettes.
        loss: Terms of the loss.
        adversary: The discriminator.
        optim: Optimisation.
        train: Length and cadence.
    """

    mode: Mode = "pose_invariant"
    select: Literal["silhouette", "voxel_compat"] = "silhouette"
    augment: Literal["none", "flip", "flip_and_colours", "moving_crops"] = "none"
    media_every: int = 500
    data: PictureOptions = field(default_factory=PictureOptions)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=20_000))

    def __post_init__(self) -> None:
        """Check that pictures are made at times, and that no setting is without effect."""
        check_range("media_every", self.media_every, 1)
        if self.mode == "prior" and not self.loss.code_prior_weight > 0:
            raise ValueError("The mode prior needs loss.code_prior_weight above 0, such as 0.01.")
        if self.loss.cycle_weight and self.network.channels == 3:
            raise ValueError("The cycle_weight needs pictures with masks: network.channels 4.")
        if self.network.texture and self.render.gradient != "nmr":
            raise ValueError("A texture is drawn with the render.gradient nmr alone.")

    @property
    def has_pairs(self) -> bool:
        """Tell if training sees two pictures of an object at once."""
        return self.mode in ("multi_view", "multi_view_prior")

    @property
    def has_view_prior(self) -> bool:
        """Tell if a discriminator looks at meshes from unseen sides."""
        return self.mode in ("view_prior", "multi_view_prior")
