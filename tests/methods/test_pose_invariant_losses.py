"""Every term of the loss is in it, at its weight, in the modes that have it."""

import dataclasses

import pytest
import torch

from shapewright.data.picture_folders import open_pictures
from shapewright.data.picture_sets import project_to
from shapewright.data.render_pictures import draw_pictures
from shapewright.engine.schedule import Moment
from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.orbit import kato_ring
from shapewright.losses.code_agreement import code_agreement_loss
from shapewright.losses.code_prior import code_prior_loss
from shapewright.losses.flatness import dihedral_loss, flatness_loss
from shapewright.losses.inflation import inflation_loss
from shapewright.losses.inside_out import inside_out_loss
from shapewright.losses.laplacian import edge_length_loss, laplacian_loss
from shapewright.losses.silhouette_pictures import iou_loss, pyramid_loss
from shapewright.methods.pose_invariant.config import (
    AdversaryConfig,
    LossConfig,
    OptimConfig,
    PoseInvariantConfig,
)
from shapewright.methods.pose_invariant.training import prepare_method
from shapewright.rendering.rasterizer import rasterize
from tests.methods.picture_family import SMALL, write_ellipsoids

START = Moment(0, 0.0)
NOTHING = LossConfig(smoothness_weight=0.0, code_prior_weight=0.0)
TERMS = (
    *("silhouette_loss", "smoothness", "laplacian", "edge_length"),
    *("code_prior", "inflation", "inside_out", "cycle"),
)
OF_ADVERSARIES = ("discriminator", "calibration", "adversarial")


@pytest.fixture(scope="module")
def eggs(tmp_path_factory):
    return write_ellipsoids(tmp_path_factory.mktemp("eggs") / "data", sizes={"train": 5})


def prepared(eggs, mode="plain", loss=NOTHING, network=SMALL, **adversary):
    config = PoseInvariantConfig(
        mode=mode,
        network=network,
        loss=loss,
        adversary=AdversaryConfig(**adversary),
        optim=OptimConfig(batch_size=4, lr=1e-3, precision="fp32"),
    )
    method = prepare_method(config, open_pictures(eggs, "train", config.data), eggs, torch.device("cpu"), 0)
    # Networks that have just been made return spheres, for which some terms are zero.
    torch.manual_seed(3)
    for parameter in method.model.decoder.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return method


def made_of(method, batch):
    with torch.no_grad():
        codes = method.model.encode(batch.pictures)
        return codes, method.model.decode(codes, batch.classes)


def inside_out(method, batch, vertices):
    shares = []
    for poses in (batch.poses, batch.unseen):
        screen = project_to(vertices, poses, 15.0, 64)
        face_id = rasterize(screen, method.model.faces, 64, near=0.1).face_id
        shares.append(inside_out_loss(screen, method.model.faces, face_id))
    return sum(shares) / 2


def cycle(method, batch, codes, vertices):
    drawn = method.painter.redrawn(vertices.detach(), method.model.faces, batch.unseen, batch.pictures)
    return code_agreement_loss(codes, method.model.encode(drawn))


EXPECTED = {
    "flatness": ("smoothness", {}, lambda m, b, c, v: flatness_loss(v, m.edges)),
    "dihedral": ("smoothness", {"smoothness": "dihedral"}, lambda m, b, c, v: dihedral_loss(v, m.edges)),
    "laplacian": ("laplacian", {}, lambda m, b, c, v: laplacian_loss(v, m.edges)),
    "edge_length": ("edge_length", {}, lambda m, b, c, v: edge_length_loss(v, m.edges)),
    "code_prior": ("code_prior", {}, lambda m, b, c, v: code_prior_loss(c)),
    "inflation": ("inflation", {}, lambda m, b, c, v: inflation_loss(v, m.model.faces)),
    "inside_out": ("inside_out", {}, lambda m, b, c, v: inside_out(m, b, v)),
    "cycle": ("cycle", {}, cycle),
}
ALL_MODES = ("plain", "pose_invariant", "view_prior", "multi_view", "multi_view_prior")
MODES = dict.fromkeys(EXPECTED, ALL_MODES) | {
    "code_prior": ("pose_invariant", "prior"),
    "inflation": ("view_prior", "multi_view_prior"),
}


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name in EXPECTED for mode in MODES[name]])
def test_a_term_is_in_the_loss_at_its_weight(name, mode, eggs):
    term, options, expected = EXPECTED[name]
    method = prepared(eggs, mode, dataclasses.replace(NOTHING, **{f"{term}_weight": 0.3}, **options))
    batch = method.next_batch(START)
    value = 0.3 * float(expected(method, batch, *made_of(method, batch)).detach())
    values = method.train_step(batch, START)
    assert value > 0
    assert values[term] == pytest.approx(value, rel=1e-4)
    there = [values[one] for one in (*TERMS, *OF_ADVERSARIES) if one in values]
    assert values["loss"] == pytest.approx(sum(there), rel=1e-5)
    assert [one for one in TERMS if one in values] == ["silhouette_loss", term]


def test_the_cycle_rises_with_the_rate_and_needs_masks(eggs):
    values = []
    for warm_up in (0, 4):
        method = prepared(eggs, loss=dataclasses.replace(NOTHING, cycle_weight=0.3))
        method.config = dataclasses.replace(method.config, optim=OptimConfig(batch_size=4, warm_up_steps=warm_up))
        values.append(method.train_step(method.next_batch(START), START)["cycle"])
    assert values[1] == pytest.approx(values[0] / 4, rel=1e-4)
    with pytest.raises(ValueError, match="cycle_weight needs pictures with masks"):
        PoseInvariantConfig(
            network=dataclasses.replace(SMALL, channels=3), loss=dataclasses.replace(NOTHING, cycle_weight=0.3)
        )


def test_a_mesh_is_redrawn_as_data_render_draws_it(eggs):
    painter = prepared(eggs).painter
    mesh, ring = icosphere(3), kato_ring()
    vertices = mesh.vertices * torch.tensor([0.5, 0.2, 0.3])
    red = Mesh(vertices, mesh.faces, vertex_colors=torch.tensor([0.7, 0.4, 0.2]).expand(len(vertices), 3))
    given = torch.from_numpy(draw_pictures(red, ring).images).float() / 255
    poses = ring.world_from_camera.float()
    drawn = painter.redrawn(vertices.expand(24, -1, -1), mesh.faces, poses, given)
    assert float((drawn - given).abs().mean()) < 0.004
    assert float((drawn - given).abs().max()) < 0.3
    # From elsewhere: the outline of there, the mean colour of here.
    turned = painter.redrawn(vertices.expand(24, -1, -1), mesh.faces, poses.roll(5, 0), given)
    assert float((turned[:, 3] - given[:, 3].roll(5, 0)).abs().mean()) < 0.003
    means = [one[:, :3].sum((2, 3)) / one[:, 3:].sum((2, 3)) for one in (turned, given)]
    assert torch.allclose(*means, atol=1e-3)


@pytest.mark.parametrize(
    ("mode", "weight"), [("plain", "code_prior"), ("multi_view", "code_prior"), ("pose_invariant", "inflation")]
)
def test_other_modes_are_without_it(mode, weight, eggs):
    method = prepared(eggs, mode, dataclasses.replace(NOTHING, **{f"{weight}_weight": 0.3}))
    assert weight not in method.train_step(method.next_batch(START), START)


@pytest.mark.parametrize(("silhouette", "compare"), [("iou", iou_loss), ("pyramid", pyramid_loss)])
@pytest.mark.parametrize(("mode", "share"), [("plain", None), ("multi_view", 0.25), ("multi_view_prior", 1.0)])
def test_silhouettes_are_compared_with_the_masks_that_the_mode_shows(
    silhouette, compare, mode, share, eggs, monkeypatch
):
    method = prepared(eggs, mode, dataclasses.replace(NOTHING, silhouette=silhouette))
    batch = method.next_batch(START)
    # A new encoder has nearly the same code for all pictures: their meshes would not differ.
    sizes = torch.linspace(0.4, 1.2, len(batch.masks))[:, None, None]
    decode = method.model.decode
    monkeypatch.setattr(method.model, "decode", lambda *given: sizes * decode(*given))
    vertices = made_of(method, batch)[1]

    def agreement(of, at):
        drawn = method.painter.draw(vertices[of], method.model.faces, batch.poses[at])
        return float(compare(drawn, batch.masks[at]))

    if share is None:
        value = agreement(slice(None), slice(None))
    else:  # the Neural Mesh Renderer's mean, or view prior learning's sum, of two meshes from two sides
        first, second = slice(0, 4), slice(4, 8)
        value = share * sum(agreement(of, at) for of in (first, second) for at in (first, second))
    assert method.train_step(batch, START)["silhouette_loss"] == pytest.approx(value, rel=1e-5)


def test_the_centroid_learns_at_a_tenth_of_the_rate(eggs):
    method = prepared(eggs, network=dataclasses.replace(SMALL, decoder="bounded"))
    decoder = method.model.decoder
    layers = {"bias": decoder.bias.bias, "centroid": decoder.centroid.bias}
    before = {name: parameter.detach().clone() for name, parameter in layers.items()}
    method.train_step(method.next_batch(START), START)
    # Adam's first step has the length of the rate, whatever the gradient is.
    moved = {name: float((parameter.detach() - before[name]).abs().max()) for name, parameter in layers.items()}
    assert moved["bias"] == pytest.approx(1e-3, rel=0.01)
    assert moved["centroid"] == pytest.approx(1e-4, rel=0.01)


def test_numbered_views_need_objects_that_are_seen_alike(eggs):
    config = PoseInvariantConfig(
        mode="view_prior",
        network=dataclasses.replace(SMALL, image_widths=(4, 4, 8)),
        adversary=AdversaryConfig(form="onehot"),
    )
    pictures = open_pictures(eggs, "train", config.data)
    assert prepare_method(config, pictures, eggs, torch.device("cpu"), 0)
    own = pictures.views.world_from_camera.repeat(len(pictures), 1, 1, 1)
    own = dataclasses.replace(pictures, views=dataclasses.replace(pictures.views, world_from_camera=own))
    with pytest.raises(UserError, match="seen from the same views"):
        prepare_method(config, own, eggs, torch.device("cpu"), 0)
