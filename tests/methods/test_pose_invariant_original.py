"""Checkpoints of the original program: what they computed, in the right-handed world, and what is wrong with a file."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

from shapewright.engine.schedule import TrainConfig
from shapewright.engine.start import Start
from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mesh_edges import edge_table
from shapewright.methods.pose_invariant.config import AdversaryConfig, NetworkConfig, OptimConfig, PoseInvariantConfig
from shapewright.methods.pose_invariant.method import PoseInvariantMethod
from shapewright.methods.pose_invariant.model import PictureKind
from shapewright.methods.pose_invariant.original import published_order, read_original
from shapewright.methods.pose_invariant.trained import TrainedRun
from shapewright.methods.pose_invariant.training import train
from shapewright.networks.discriminators import PoseDiscriminator
from shapewright.networks.image_encoders import ConvEncoder
from shapewright.networks.mesh_decoders import MeshDecoder, SymmetricMeshDecoder
from shapewright.networks.residual_encoders import ResidualEncoder
from tests.methods.picture_family import write_ellipsoids

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


def original_resnet(channels=3):
    """Return the parameters of the original's ResNet-18 under torchvision's names, with the layer it never uses."""
    state = {}

    def convolution(name, before, after, size):
        state[f"{name}.weight"] = torch.randn(after, before, size, size) * (2 / (before * size**2)) ** 0.5

    def norm(name, width):
        for kind, least, spread in (("weight", 0.5, 0.5), ("bias", -0.2, 0.4)):
            state[f"{name}.{kind}"] = least + spread * torch.rand(width)
        state[f"{name}.running_mean"] = torch.randn(width) / 5
        state[f"{name}.running_var"] = 0.5 + torch.rand(width)
        state[f"{name}.num_batches_tracked"] = torch.tensor(20_000)

    convolution("conv1", channels, 64, 7)
    norm("bn1", 64)
    for stage, (before, after) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            for number, width in ((1, after if block else before), (2, after)):
                convolution(f"{name}.conv{number}", width, after, 3)
                norm(f"{name}.bn{number}", after)
            if stage > 1 and not block:
                convolution(f"{name}.downsample.0", before, after, 1)
                norm(f"{name}.downsample.1", after)
    state |= {"fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)}
    return {f"model.{name}": value for name, value in state.items()}


def thin_resnet(channels=3):
    """Return the same with one number a parameter, which makes a small file."""
    with torch.device("meta"):
        shapes = original_resnet(channels)
    return {
        name: torch.tensor(place, dtype=value.dtype).expand(value.shape)
        for place, (name, value) in enumerate(shapes.items())
    }


def resnet_codes(state, pictures):
    """Return what the original's ResNet makes of pictures of 224 px that it normalises."""

    def convolve(x, name, stride=1):
        weight = state[f"model.{name}.weight"]
        return conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x, name):
        mean, variance, weight, bias = (
            state[f"model.{name}.{kind}"][:, None, None] for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    x = norm(convolve((pictures - mean) / deviation, "conv1", 2), "bn1").relu()
    x = max_pool2d(x, 3, stride=2, padding=1)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
            inside = norm(convolve(x, f"{name}.conv1", stride), f"{name}.bn1").relu()
            inside = norm(convolve(inside, f"{name}.conv2"), f"{name}.bn2")
            if f"model.{name}.downsample.0.weight" in state:
                x = norm(convolve(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = (inside + x).relu()
    return avg_pool2d(x, 7).flatten(1)


def original_decoder(outputs=1926, code=CODE):
    first, second = DECODER_HIDDEN
    return nn.ModuleDict(
        {
            "fclayers": nn.Sequential(nn.Linear(code, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()),
            "bias_layer": nn.Linear(second, outputs),
        }
    )


def original_discriminator(code=CODE, bins=BINS):
    return nn.ModuleDict(
        {
            "hidden_layer0": nn.Linear(code, 10),
            "hidden_layer1": nn.Linear(10, 11),
            "digit_layer": nn.Linear(11, bins),
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


@pytest.fixture
def photographs(tmp_path):
    """Write a checkpoint of photographs: the ResNet and the symmetric decoder, its vertices in no order at all."""
    torch.manual_seed(0)
    base = icosphere().vertices[published_order()]
    on_plane, beside = (base[:, 2].abs() < 1e-5).nonzero()[:, 0], (base[:, 2] > 1e-5).nonzero()[:, 0]
    on_plane, beside = on_plane[torch.randperm(32)], beside[torch.randperm(305)]
    mirrored = torch.cdist(base[beside] * torch.tensor([1.0, 1, -1]), base).argmin(1)
    np.savez(tmp_path / "symmetry_idx.npz", on_plane.numpy(), beside.numpy(), mirrored.numpy())
    decoder = original_decoder(979, 512)
    torch.save(thin_resnet(), tmp_path / "last-E.ckpt")
    torch.save(decoder.state_dict(), tmp_path / "last-G.ckpt")
    torch.save(original_discriminator(512).state_dict(), tmp_path / "last-D.ckpt")

    def meshes(codes):
        numbers = decoder["bias_layer"](decoder["fclayers"](codes))
        offsets = torch.zeros(len(codes), 642, 3)
        offsets[:, on_plane, :2] = numbers[:, :64].view(-1, 32, 2)
        offsets[:, beside] = numbers[:, 64:].view(-1, 305, 3)
        offsets[:, mirrored] = numbers[:, 64:].view(-1, 305, 3) * torch.tensor([1.0, 1, -1])
        return (base + offsets) / 2

    lists = (on_plane.numpy(), beside.numpy(), mirrored.numpy())
    return SimpleNamespace(folder=tmp_path, meshes=meshes, lists=lists)


def loaded(found):
    network = found.network
    encoder = (
        ResidualEncoder(network.channels, network.code_dim)
        if network.encoder == "resnet"
        else ConvEncoder(
            network.channels, found.image_size, network.encoder_widths, network.encoder_hidden, network.code_dim
        )
    )
    encoder.load_state_dict(found.encoder)
    kind = SymmetricMeshDecoder if network.symmetric else MeshDecoder
    decoder = kind(network.code_dim, network.decoder_hidden)
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


def test_an_encoder_beside_72_bins_saw_blue_first(kept):
    torch.save(original_discriminator(bins=72).state_dict(), kept.folder / "last-D.ckpt")
    encoder, _ = loaded(read_original(kept.folder))
    pictures = torch.rand(2, 4, 64, 64)
    theirs = kept.E["shapeLayer"](kept.E["FC"](kept.E["convBlocks"](pictures[:, [2, 1, 0, 3]]).flatten(1)))
    assert torch.allclose(encoder(pictures), theirs, atol=1e-6)


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


def test_the_resnet_and_the_symmetric_decoder_compute_what_they_did(photographs):
    resnet = original_resnet()
    torch.save(resnet, photographs.folder / "last-E.ckpt")
    found = read_original(photographs.folder)
    encoder, decoder = loaded(found)
    assert (found.image_size, found.num_bins, found.network.channels) == (224, BINS, 3)
    assert (found.network.encoder, found.network.symmetric, found.network.code_dim) == ("resnet", True, 512)
    pictures = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        theirs = resnet_codes(resnet, pictures)
        assert torch.allclose(encoder.eval()(pictures), theirs, rtol=1e-5, atol=1e-5)
        codes = torch.randn(3, 512)
        ours, theirs = decoder(codes), photographs.meshes(codes)
    # Meshes of photographs are right-handed as they are: nothing but the order of the vertices differs.
    assert torch.allclose(ours, theirs[:, published_order().argsort()], atol=1e-5)
    assert theirs.std(1).min() > 0.1
    assert all(Mesh(vertices, decoder.faces).volume > 0 for vertices in ours)


def test_an_encoder_starts_from_a_resnet_of_many_pictures(tmp_path):
    named = {name.removeprefix("model."): value for name, value in original_resnet().items()}
    torch.save(named, tmp_path / "resnet18.pth")
    network = NetworkConfig(encoder="resnet", channels=3, decoder_hidden=(8,), discriminator_hidden=(8,))
    config = PoseInvariantConfig(
        network=network,
        optim=OptimConfig(batch_size=2, lr=0.0, precision="fp32"),
        train=TrainConfig(steps=1, log_every=1),
    )
    data, start = write_ellipsoids(tmp_path / "data", sizes={"train": 3}), Start(device="cpu", seed=0)
    train(config, data, tmp_path / "run", start, encoder_weights=tmp_path / "resnet18.pth")
    encoder = TrainedRun.open(tmp_path / "run", device="cpu").method.model.encoder
    assert torch.equal(encoder.stem[0].weight, named["conv1.weight"])
    assert torch.equal(encoder.blocks[7].second.weight, named["layer4.1.conv2.weight"])
    small = dataclasses.replace(config, network=dataclasses.replace(network, code_dim=8))
    with pytest.raises(
        UserError, match="resnet with 3 channels and a code of 512, but the settings have resnet, 3 and 8"
    ):
        train(small, data, tmp_path / "other", start, encoder_weights=tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"none\.pth does not exist"):
        train(config, data, tmp_path / "other", start, encoder_weights=tmp_path / "none.pth")
    named.pop("layer2.0.downsample.0.weight")
    torch.save(named, tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"misses the parameter 'layer2\.0\.downsample\.0\.weight'"):
        train(config, data, tmp_path / "other", start, encoder_weights=tmp_path / "resnet18.pth")
    assert not (tmp_path / "other").exists()


def test_training_starts_from_the_networks_of_photographs(photographs):
    resnet = original_resnet()
    torch.save(resnet, photographs.folder / "last-E.ckpt")
    found = read_original(photographs.folder)
    config = PoseInvariantConfig(network=found.network, optim=OptimConfig(precision="fp32"))
    kind = PictureKind(size=found.image_size, num_bins=BINS, classes=("car",), half_angle_deg=None)
    method = PoseInvariantMethod(config, kind, None, torch.device("cpu"))
    method.take_over(found)
    pictures = torch.rand(1, 4, 224, 224)
    codes, vertices = method.judged.reconstruct(pictures, torch.zeros(1, dtype=torch.int64))
    assert torch.allclose(codes, resnet_codes(resnet, pictures[:, :3]), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(vertices[:, published_order()], photographs.meshes(codes), atol=1e-5)


def test_meshes_of_photographs_of_64_px_come_out_as_they_are(kept):
    torch.save(original_encoder(3).state_dict(), kept.folder / "last-E.ckpt")
    _, decoder = loaded(read_original(kept.folder))
    codes = torch.randn(3, CODE)
    with torch.no_grad():
        offsets = kept.G["bias_layer"](kept.G["fclayers"](codes)).view(3, 642, 3)
        theirs = 0.5 * (icosphere().vertices[published_order()] + offsets)
        assert torch.allclose(decoder(codes)[:, published_order()], theirs, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "resnet.", "module.model."])
def test_the_resnet_is_known_under_any_name(photographs, prefix):
    renamed = {prefix + name.removeprefix("model."): value for name, value in thin_resnet().items()}
    expected = read_original(photographs.folder).encoder
    torch.save(renamed, photographs.folder / "last-E.ckpt")
    found = read_original(photographs.folder).encoder
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_files_of_the_torch_of_that_time_are_read(photographs):
    expected = read_original(photographs.folder).encoder
    early = {name: value for name, value in thin_resnet().items() if "num_batches" not in name}
    torch.save(early, photographs.folder / "last-E.ckpt", _use_new_zipfile_serialization=False)
    found = read_original(photographs.folder)
    assert all(torch.equal(found.encoder[name], expected[name]) for name in expected if "num_batches" not in name)
    assert loaded(found)[0].stem[1].num_batches_tracked == 0


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
    "another mesh": ("G", lambda _: original_decoder(3 * 42).state_dict(), "returns 126 numbers for a mesh, not 1926"),
    "the symmetric decoder": ("G", lambda _: original_decoder(979).state_dict(), "the symmetric decoder of photo"),
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


RESNET_DAMAGES = {
    "masks": (lambda _: thin_resnet(4), r"has shape \[64, 4, 7, 7\] for the parameter 'model\.conv1"),
    "a layer less": (without("model.layer3.1.bn2.running_var"), r"misses the parameter 'model\.layer3\.1\.bn2\."),
    "no stem": (without("model.conv1.weight"), r"misses the parameter 'model\.conv1\.weight'"),
    "ResNet-34": (
        having("model.layer1.2.conv1.weight", torch.zeros(1)),
        r"'model\.layer1\.2\.conv1\.weight', which is",
    ),
    "a NaN": (having("model.bn1.running_mean", torch.full((64,), torch.nan)), "'model.bn1.running_mean' is not finite"),
    "both encoders": (having("convBlocks.0.weight", torch.zeros(1)), r"'convBlocks\.0\.weight', which is not known"),
}


@pytest.mark.parametrize(("change", "message"), RESNET_DAMAGES.values(), ids=RESNET_DAMAGES)
def test_damage_of_the_resnet_is_named_with_its_file(photographs, change, message):
    path = photographs.folder / "last-E.ckpt"
    torch.save(change(thin_resnet()), path)
    with pytest.raises(UserError, match=message) as caught:
        read_original(photographs.folder)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_without_the_order_of_its_vertices_no_symmetric_decoder_is_read(photographs):
    path = photographs.folder / "symmetry_idx.npz"
    path.unlink()
    with pytest.raises(UserError, match=r"is written in symmetry_idx\.npz alone, which is not in") as caught:
        read_original(photographs.folder)
    assert caught.value.hint.startswith("Copy symmetry_idx.npz from the original program")
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be read as a NumPy archive"):
        read_original(photographs.folder)


ORDERS = {
    "the sides exchanged": lambda plane, beside, mirrored: (plane, mirrored, beside),
    "other pairs": lambda plane, beside, mirrored: (plane, beside, np.roll(mirrored, 1)),
    "a vertex twice": lambda plane, beside, mirrored: (np.full_like(plane, plane[0]), beside, mirrored),
    "counted from one": lambda *lists: tuple(one + 1 for one in lists),
    "pairs left out": lambda plane, beside, mirrored: (plane, beside[:9], mirrored[:9]),
    "two lists": lambda plane, beside, mirrored: (plane, beside),
    "no whole numbers": lambda *lists: tuple(one.astype(float) for one in lists),
}


@pytest.mark.parametrize("change", ORDERS.values(), ids=ORDERS)
def test_an_order_of_another_template_is_refused(photographs, change):
    path = photographs.folder / "symmetry_idx.npz"
    np.savez(path, *change(*photographs.lists))
    with pytest.raises(UserError, match=r"symmetry_idx\.npz does not list the lines of sphere_642\.obj") as caught:
        read_original(photographs.folder)
    assert caught.value.hint


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
