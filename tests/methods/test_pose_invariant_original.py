"""Checkpoints of the original program: what they computed, in the right-handed world, and what is wrong with a file."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mesh_edges import edge_table
from shapewright.methods.pose_invariant.config import AdversaryConfig, OptimConfig, PoseInvariantConfig
from shapewright.methods.pose_invariant.method import PoseInvariantMethod
from shapewright.methods.pose_invariant.model import PictureKind
from shapewright.methods.pose_invariant.original import published_order, read_original
from shapewright.networks.discriminators import PoseDiscriminator
from shapewright.networks.image_encoders import ConvEncoder
from shapewright.networks.mesh_decoders import MeshDecoder

# Some lines of sphere_642.obj and some of its faces, counted from 1.
LINES = {
    1: (-1.0, 0.0, 0.0),
    2: (-0.99044, 0.0, -0.13795),
    3: (-0.99044, 0.0, 0.13795),
    7: (-0.98769, 0.13307, 0.08224),
    33: (-0.91298, 0.39961, 0.08232),
    46: (-0.85065, -0.52573, 0.0),
    47: (-0.85065, 0.0, -0.52573),
    48: (-0.85065, 0.0, 0.52573),
    306: (0.0, -1.0, 0.0),
    307: (0.0, -0.96386, -0.26640),
    322: (0.0, 0.0, 1.0),
    338: (0.08109, -0.61564, -0.78384),
    342: (0.08114, -0.78020, -0.62024),
    642: (1.0, 0.0, 0.0),
}
FACES = [(1, 2, 4), (1, 3, 7), (1, 4, 5), (1, 5, 3), (1, 6, 2), (1, 7, 6), (2, 8, 4), (3, 11, 7), (4, 12, 5)]
FACES += [(9, 25, 21), (10, 26, 22), (13, 33, 32), (14, 2, 10), (14, 28, 20), (15, 3, 9)]
WIDTHS, HIDDEN, CODE, DECODER_HIDDEN, BINS = (3, 4, 5), 6, 7, (8, 9), 5
# From the frame of the original's renderer to the world.
A = torch.tensor([[0.0, 0, -1], [0, 1, 0], [-1, 0, 0]])


def original_encoder(channels=4, widths=WIDTHS, dead=True):
    """Return the original's encoder under its names."""
    layers = []
    for before, after in zip((channels, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.ReLU()]
    parts = {
        "convBlocks": nn.Sequential(*layers),
        "FC": nn.Sequential(nn.Linear(widths[-1] * 64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
        "shapeLayer": nn.Linear(HIDDEN, CODE),
    }
    if dead:
        parts |= {"muLayer": nn.Linear(HIDDEN, CODE), "logvarLayer": nn.Linear(HIDDEN, CODE)}
    return nn.ModuleDict(parts)


def original_decoder(outputs=1926):
    first, second = DECODER_HIDDEN
    return nn.ModuleDict(
        {
            "fclayers": nn.Sequential(nn.Linear(CODE, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()),
            "bias_layer": nn.Linear(second, outputs),
        }
    )


def original_discriminator():
    return nn.ModuleDict(
        {
            "hidden_layer0": nn.Linear(CODE, 10),
            "hidden_layer1": nn.Linear(10, 11),
            "digit_layer": nn.Linear(11, BINS),
        }
    )


@pytest.fixture
def kept(tmp_path):
    """Write a checkpoint of small networks in the original's layout."""
    torch.manual_seed(0)
    networks = {"E": original_encoder(), "G": original_decoder(), "D": original_discriminator()}
    for name, network in networks.items():
        torch.save(network.state_dict(), tmp_path / f"last-{name}.ckpt")
    return SimpleNamespace(folder=tmp_path, **networks)


def loaded(found):
    network = found.network
    encoder = ConvEncoder(
        network.channels, found.image_size, network.encoder_widths, network.encoder_hidden, network.code_dim
    )
    encoder.load_state_dict(found.encoder)
    decoder = MeshDecoder(network.code_dim, network.decoder_hidden)
    decoder.load_state_dict(found.decoder)
    return encoder, decoder


def test_lines_of_the_published_template_are_known():
    ordered = icosphere().vertices[published_order()]
    assert sorted(published_order().tolist()) == list(range(642))
    for line, position in LINES.items():
        assert torch.allclose(ordered[line - 1], torch.tensor(position), atol=1e-5)
    # Its faces are faces of ours, and look outwards in its own frame.
    known = {frozenset(face) for face in icosphere().faces.tolist()}
    for face in FACES:
        ours = published_order()[torch.tensor(face) - 1]
        assert frozenset(ours.tolist()) in known
        a, b, c = ordered[torch.tensor(face) - 1]
        assert torch.linalg.cross(b - a, c - a) @ (a + b + c) > 0


def test_the_encoder_and_the_discriminator_compute_what_they_did(kept):
    found = read_original(kept.folder)
    encoder, _ = loaded(found)
    assert (found.image_size, found.num_bins, found.network.encoder_widths) == (64, BINS, WIDTHS)
    pictures = torch.rand(2, 4, 64, 64)
    theirs = kept.E["shapeLayer"](kept.E["FC"](kept.E["convBlocks"](pictures).flatten(1)))
    assert torch.allclose(encoder(pictures), theirs, atol=1e-6)
    judge = PoseDiscriminator(CODE, found.num_bins, found.network.discriminator_hidden)
    judge.load_state_dict(found.discriminator)
    inside = kept.D["hidden_layer1"](kept.D["hidden_layer0"](theirs).relu()).relu()
    assert torch.allclose(judge(theirs), kept.D["digit_layer"](inside).log_softmax(1), atol=1e-6)
    assert set(found.reconstructor_state()) == {f"encoder.{name}" for name in found.encoder} | {
        f"decoder.{name}" for name in found.decoder
    }


def test_training_starts_from_all_of_the_original_networks(kept):
    found = read_original(kept.folder)
    config = PoseInvariantConfig(
        network=found.network,
        adversary=AdversaryConfig(calibrated=True),
        optim=OptimConfig(ema_decay=0.9, precision="fp32"),
    )
    kind = PictureKind(size=found.image_size, num_bins=BINS, classes=("thing",), half_angle_deg=15.0)
    method = PoseInvariantMethod(config, kind, None, torch.device("cpu"))
    method.take_over(found)
    for networks in (method.model, method.judged):
        for name, value in found.encoder.items():
            assert torch.equal(networks.encoder.state_dict()[name], value)
        assert torch.equal(networks.decoder.state_dict()["layers.0.weight"], found.decoder["layers.0.weight"])
    for network in method.adversary.discriminator:
        assert all(torch.equal(network.state_dict()[name], value) for name, value in found.discriminator.items())


def test_meshes_come_out_in_the_world_and_look_outwards(kept):
    _, decoder = loaded(read_original(kept.folder))
    codes = torch.randn(3, CODE)
    with torch.no_grad():
        offsets = kept.G["bias_layer"](kept.G["fclayers"](codes)).view(3, 642, 3)
        theirs = 0.5 * (icosphere().vertices[published_order()] + offsets)
        ours = decoder(codes)
    distance = torch.cdist(ours[0], theirs[0] @ A.T, compute_mode="donot_use_mm_for_euclid_dist")
    assert distance.min(1).values.max() < 1e-5
    lines = distance.argmin(1)
    assert torch.equal(lines.sort().values, torch.arange(642))
    assert torch.allclose(ours, (theirs @ A.T)[:, lines], atol=1e-5)
    # Faces are the original's, the other way round because the frame is mirrored.
    their_faces = published_order().argsort()[icosphere().faces]
    ours_in_lines = lines[decoder.faces]
    assert {frozenset(face) for face in ours_in_lines.tolist()} == {frozenset(face) for face in their_faces.tolist()}
    for mesh in range(3):
        volume = Mesh(ours[mesh], decoder.faces).volume
        assert volume > 0
        assert volume == pytest.approx(Mesh(theirs[mesh], their_faces).volume, rel=1e-4)
    assert len(edge_table(decoder.faces)) == 1920


@pytest.mark.parametrize(("widths", "size"), [((3, 4, 5), 64), ((2, 3, 4, 5), 128)])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_size_of_pictures_follows_from_the_layers(tmp_path, widths, size, channels):
    torch.save(original_encoder(channels, widths, dead=False).state_dict(), tmp_path / "E.ckpt")
    torch.save(original_decoder().state_dict(), tmp_path / "G.ckpt")
    found = read_original(tmp_path)
    assert (found.image_size, found.network.channels, found.num_bins) == (size, channels, None)
    assert loaded(found)[0](torch.zeros(1, channels, size, size)).shape == (1, CODE)


def test_a_checkpoint_is_chosen_by_its_name(kept):
    for name in ("500", "20000", "best"):
        for part in ("E", "G"):
            state = torch.load(kept.folder / f"last-{part}.ckpt", weights_only=True)
            torch.save({**state}, kept.folder / f"{name}-{part}.ckpt")
    assert read_original(kept.folder).num_bins == BINS
    assert read_original(kept.folder, "500").num_bins is None
    with pytest.raises(UserError, match="has no checkpoint '700'") as caught:
        read_original(kept.folder, "700")
    assert caught.value.hint == "There are: 20000, 500, best, last."
    for part in ("E", "G"):
        (kept.folder / f"last-{part}.ckpt").unlink()
    (kept.folder / "20000-G.ckpt").unlink()
    with pytest.raises(UserError, match=r"20000-G\.ckpt does not exist"):
        read_original(kept.folder)


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


def without(name):
    return lambda state: {k: v for k, v in state.items() if k != name}


def having(name, value):
    return lambda state: {**state, name: value}


DAMAGES = {
    "code that would run": ("G", lambda _: Evil(), "cannot be read as a file of torch"),
    "no table": ("G", lambda _: [1.0], "holds no table of parameters"),
    "an empty table": ("D", lambda _: {}, "holds no table of parameters"),
    "a layer less": ("E", without("FC.2.bias"), r"misses the parameter 'FC\.2\.bias'"),
    "no convolutions": ("E", lambda _: {"x": torch.zeros(1)}, r"misses the parameter 'convBlocks\.0\.weight'"),
    "a layer more": ("D", having("other.weight", torch.zeros(1)), r"'other\.weight', which is not known"),
    "a NaN": ("G", having("bias_layer.bias", torch.full((1926,), torch.nan)), "not finite"),
    "another rank": ("G", having("bias_layer.bias", torch.zeros(2, 2)), r"has shape \[2, 2\]"),
    "layers that do not fit": ("G", having("fclayers.2.weight", torch.zeros(9, 4)), "do not fit together"),
    "a bias that does not fit": ("E", having("FC.0.bias", torch.zeros(3)), "do not fit together"),
    "pictures that are not square": ("E", having("FC.0.weight", torch.zeros(HIDDEN, 5 * 63)), "no encoder of square"),
    "the ResNet": ("E", lambda _: {"model.conv1.weight": torch.zeros(64, 3, 7, 7)}, "holds the ResNet of 224 px"),
    "the symmetric decoder": ("G", lambda _: original_decoder(979).state_dict(), "returns 979 numbers for a mesh"),
    "another encoder's decoder": ("G", having("fclayers.0.weight", torch.zeros(8, 5)), "takes codes of 5 numbers"),
    "another encoder's judge": ("D", having("hidden_layer0.weight", torch.zeros(10, 31)), "takes codes of 31 numbers"),
}


@pytest.mark.parametrize(("part", "change", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_with_its_file(kept, capsys, part, change, message):
    path = kept.folder / f"last-{part}.ckpt"
    torch.save(change(torch.load(path, weights_only=True)), path)
    with pytest.raises(UserError, match=message) as caught:
        read_original(kept.folder)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("length", [0, 10, 500])
def test_a_truncated_file_is_named(kept, length):
    path = kept.folder / "last-E.ckpt"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"last-E\.ckpt cannot be read"):
        read_original(kept.folder)


def test_a_folder_without_checkpoints_is_named(tmp_path):
    with pytest.raises(UserError, match=r"has no file E\.ckpt"):
        read_original(tmp_path)
    with pytest.raises(UserError, match="There is no folder"):
        read_original(tmp_path / "none")
