"""The networks have the published sizes, take pictures of any number, and do what their decoders promise."""

import pytest
import torch

from shapewright.geometry.cube_sphere import cube_sphere
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mirror_pairs import mirror_partners
from shapewright.networks.bounded_decoder import BoundedMeshDecoder
from shapewright.networks.discriminators import PictureDiscriminator, PoseDiscriminator
from shapewright.networks.image_encoders import ConvEncoder
from shapewright.networks.mesh_decoders import MeshDecoder, SymmetricMeshDecoder
from shapewright.networks.patch_decoders import PatchDecoder, PatchTextureDecoder
from shapewright.networks.residual_encoders import PreactivationEncoder, ResidualEncoder
from shapewright.networks.view_discriminators import EyeDiscriminator, RotationDiscriminator

WIDE = (64, 128, 256, 512)
SMALL = icosphere(1)
# On no device where nothing but the count is asked for; decoders build their template on the CPU.
COUNTS = {
    "64 px, mask": (lambda: ConvEncoder(), 19_383_488),
    "64 px": (lambda: ConvEncoder(3), 19_381_888),
    "64 px, rectified": (lambda: ConvEncoder(is_rectified=True), 19_383_488),
    "128 px": (lambda: ConvEncoder(3, 128, WIDE), 39_436_416),
    "128 px, mask": (lambda: ConvEncoder(4, 128, WIDE), 39_438_016),
    "ResNet": (lambda: ResidualEncoder(), 11_176_512),
    "pre-activation ResNet": (lambda: PreactivationEncoder(3), 24_020_288),
    "pre-activation ResNet, mask": (lambda: PreactivationEncoder(4), 24_023_424),
    "poses of kato": (lambda: PoseDiscriminator(512, 24), 167_320),
    "poses of lsm": (lambda: PoseDiscriminator(512, 72), 173_512),
    "poses, finer": (lambda: PoseDiscriminator(512, 144), 182_800),
    "pictures": (lambda: PictureDiscriminator(), 11_083_137),
    "eye": (lambda: EyeDiscriminator(1), 2_772_865),
    "eye, classes": (lambda: EyeDiscriminator(1, 13), 2_776_193),
    "eye, colours": (lambda: EyeDiscriminator(4), 2_775_265),
    "eye, colours, classes": (lambda: EyeDiscriminator(4, 13), 2_778_593),
    "rotation": (lambda: RotationDiscriminator(1), 2_894_401),
    "rotation, colours": (lambda: RotationDiscriminator(4), 2_897_473),
    "rotation, classes": (lambda: RotationDiscriminator(1, 3), 2_894_401 + 1_536),
}
DECODERS = {
    "mesh": (lambda: MeshDecoder(), 6_570_886),
    "symmetric": (lambda: SymmetricMeshDecoder(), 4_630_483),
    "bounded": (lambda: BoundedMeshDecoder(), 6_577_033),
    "patches": (lambda: PatchDecoder(), 15_607_146),
    "patches, dense": (lambda: PatchDecoder(is_convolutional=False), 35_504_048),
    "texture": (lambda: PatchTextureDecoder(), 51_084_690),
}


def size_of(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def quick_start(monkeypatch):
    """Leave the parameters of large decoders as they lie: drawing them takes seconds."""
    for name in ("kaiming_uniform_", "kaiming_normal_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *rest, **more: tensor)


@pytest.mark.parametrize(("make", "expected"), COUNTS.values(), ids=COUNTS)
def test_networks_have_the_published_number_of_parameters(make, expected):
    with torch.device("meta"):
        assert size_of(make()) == expected


@pytest.mark.parametrize(("make", "expected"), DECODERS.values(), ids=DECODERS)
def test_decoders_have_the_published_number_of_parameters(make, expected, quick_start):
    assert size_of(make()) == expected


@pytest.mark.parametrize(
    "encoder",
    [
        ConvEncoder(4, 32, (8, 8), 16, 5),
        ConvEncoder(3, 16, (4,), 16, 5, is_rectified=True),
        ResidualEncoder(3, 8, (4, 4, 8, 8)),
        ResidualEncoder(4, 5, (4, 4, 8, 8)),
        PreactivationEncoder(3, 50, 5, (4, 4, 8, 8)),
        PreactivationEncoder(4, 32, 5, (4, 4, 8, 8)),
    ],
    ids=lambda encoder: f"{type(encoder).__name__}-{encoder.channels}",
)
def test_encoders_turn_pictures_into_codes_that_can_be_learned(encoder):
    pictures = torch.rand(3, encoder.channels, getattr(encoder, "size", 40), getattr(encoder, "size", 40))
    codes = encoder(pictures)
    assert codes.shape == (3, 8 if encoder.channels == 3 and isinstance(encoder, ResidualEncoder) else 5)
    codes.square().sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in encoder.parameters())
    with pytest.raises(ValueError, match="pictures must have shape"):
        encoder(pictures[:, :2])


def test_the_published_residual_encoders_end_at_seven_by_seven():
    with torch.device("meta"):
        pictures = torch.zeros(1, 3, 224, 224)
        for encoder in (ResidualEncoder(), PreactivationEncoder(3)):
            encoder.eval()
            inside = encoder.blocks(encoder.stem(pictures))
            assert inside.shape == (1, 512, 7, 7)
            assert encoder(pictures).shape == (1, 512)


def test_the_residual_encoder_normalises_colours_but_not_the_mask():
    encoder = ResidualEncoder(4, 8, (4, 4, 8, 8))
    seen = []
    encoder.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    picture = torch.tensor([0.485, 0.456, 0.406, 0.7])[None, :, None, None].expand(2, 4, 32, 32)
    encoder(picture)
    assert seen[0][:, :3].abs().max() < 1e-6
    assert torch.equal(seen[0][:, 3], picture[:, 3])


@pytest.mark.parametrize("channels", [3, 4])
def test_the_preactivation_encoder_sees_nothing_outside_the_mask(channels):
    encoder = PreactivationEncoder(channels, 32, 5, (4, 4, 8, 8))
    seen = []
    encoder.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(torch.cat([torch.full((2, 3, 32, 32), 0.25), torch.ones(2, 1, 32, 32)], dim=1))
    encoder(torch.zeros(2, 4, 32, 32))
    assert seen[0].shape[1] == channels
    assert torch.equal(seen[0][:, :3], torch.full((2, 3, 32, 32), -0.5))
    assert not bool(seen[1].any())


def test_a_size_that_cannot_be_halved_is_refused():
    for network in (lambda: ConvEncoder(4, 36), lambda: PictureDiscriminator(3, 40)):
        with pytest.raises(ValueError, match="size must be divisible by"):
            network()


@pytest.mark.parametrize("kind", [MeshDecoder, SymmetricMeshDecoder, BoundedMeshDecoder])
def test_without_offsets_decoders_return_half_the_template(kind):
    decoder = kind(4, (8, 8), SMALL)
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(decoder.faces, SMALL.faces)
    scale = 0.5 if kind is BoundedMeshDecoder else 1.0
    found = decoder(torch.randn(3, 4))
    assert torch.allclose(found, (scale * SMALL.vertices / 2).expand(3, -1, -1), atol=1e-6)


def test_the_symmetric_decoder_mirrors_every_mesh_exactly():
    decoder = SymmetricMeshDecoder(4, (8,))
    with torch.no_grad():
        decoder.layers[-1].weight.normal_()
    vertices = decoder(torch.randn(3, 4))
    assert (len(decoder.on_plane), len(decoder.positive), len(decoder.mirrored)) == (32, 305, 305)
    assert decoder.layers[-1].out_features == 979
    assert not bool(vertices[:, decoder.on_plane, 2].any())
    assert torch.equal(vertices[:, decoder.positive] * torch.tensor([1.0, 1, -1]), vertices[:, decoder.mirrored])
    assert vertices.std(0).min(0).values[0] > 0
    twice = decoder(torch.zeros(1, 4)), decoder(torch.zeros(1, 4))
    assert torch.equal(*twice)


def test_a_template_without_a_mirror_is_refused():
    turned = Mesh(SMALL.vertices + torch.tensor([0.0, 0.0, 0.3]), SMALL.faces)
    with pytest.raises(ValueError, match="symmetric at the plane where coordinate 2 is 0"):
        SymmetricMeshDecoder(4, (8,), turned)


def test_bounded_vertices_stay_in_their_octants_around_the_centroid():
    decoder = BoundedMeshDecoder(4, (8,))
    with torch.no_grad():
        decoder.bias.weight.normal_(0, 3)
        decoder.centroid.weight.normal_(0, 3)
    codes = torch.randn(20, 4)
    vertices = decoder(codes)
    centroid = torch.tanh(0.1 * decoder.centroid(decoder.trunk(codes)))[:, None] / 2
    assert vertices.abs().max() <= 0.5
    offset, side = vertices - centroid, decoder.template.sign()
    assert bool((offset * side >= -1e-6).all())
    # Coordinates that are 0 in the template are the centroid's.
    assert (offset * (side == 0)).abs().max() < 1e-7
    assert (centroid.abs() > 0.02).any()
    assert sum(p.numel() for p in decoder.centroid_parameters()) == 8 * 3 + 3
    vertices.sum().backward()
    assert bool(decoder.bias.weight.grad.isfinite().all())


@pytest.mark.parametrize("is_convolutional", [True, False])
def test_patch_decoders_start_as_a_sphere_and_stay_bounded(is_convolutional):
    decoder = PatchDecoder(6, is_convolutional, (8, 4, 4), 8)
    sphere = cube_sphere(8)
    radius = 0.25 if is_convolutional else 0.5
    assert torch.equal(decoder.faces, sphere.faces)
    scaling, decoder.scaling = decoder.scaling, 0.0
    assert torch.allclose(decoder(torch.randn(2, 6))[0], radius * sphere.vertices, atol=1e-6)
    decoder.scaling = 1e3 * scaling
    far = decoder(torch.randn(2, 6))
    assert radius * 1.2 < far.abs().max() <= 2 * radius * 1.2
    far.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in decoder.parameters())


@pytest.mark.parametrize("is_convolutional", [True, False])
def test_symmetric_patches_are_mirror_images(is_convolutional):
    decoder = PatchDecoder(6, is_convolutional, (8, 4, 4), 8, is_symmetric=True)
    decoder.scaling = 1.0
    vertices = decoder(torch.randn(2, 6))
    mirrored = vertices[:, decoder.partners] * torch.tensor([1.0, 1, -1])
    assert torch.allclose(vertices, mirrored, atol=1e-7)
    assert bool((vertices[..., 2] * decoder.sides >= 0).all())


def test_a_symmetric_bounded_decoder_mirrors_every_mesh():
    decoder = BoundedMeshDecoder(6, (8,), is_symmetric=True)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(20)
    vertices = decoder(torch.randn(3, 6)).detach()
    mirrored = vertices[:, mirror_partners(decoder.template)] * torch.tensor([1.0, 1, -1])
    assert torch.allclose(vertices, mirrored, atol=1e-6)
    assert bool((vertices[..., 2] * decoder.template[:, 2] >= -1e-6).all())
    assert float((vertices[0] - vertices[1]).abs().max()) > 0.01


def test_shared_vertices_are_the_mean_of_the_sides():
    decoder = PatchDecoder(6, True, (4, 4, 4), 8)
    pictures = torch.arange(6.0).repeat_interleave(3)[None, :, None, None].expand(1, 18, 8, 8)
    joined = decoder._join(pictures)[0, :, 0]
    # The first corner belongs to the sides 0, 2 and 4, the next vertex along x to 0 and 2.
    assert joined[0] == pytest.approx(2)
    assert joined[1] == pytest.approx(1)
    with pytest.raises(ValueError, match="grid_size must be 8 with 3 widths, got 16"):
        PatchDecoder(6, True, (4, 4, 4))


def test_textures_are_colours_and_symmetric_where_asked():
    plain = PatchTextureDecoder(6, (8, 4), False)
    assert plain(torch.randn(2, 6)).shape == (2, 3, 16, 96)
    decoder = PatchTextureDecoder(6, (8, 4), True)
    with torch.no_grad():
        decoder.base.normal_()
    texture = decoder(torch.randn(2, 6))
    assert 0 <= texture.min() < texture.max() <= 1
    sides = texture.view(2, 3, 16, 6, 16)
    assert torch.equal(sides[:, :, :, 0], sides[:, :, :, 1])
    # z runs along columns of the sides 2 and 3 (downwards in the picture) and along rows of 4 and 5.
    assert torch.allclose(sides[:, :, :, 2], sides[:, :, :, 2].flip(2))
    assert torch.allclose(sides[:, :, :, 5], sides[:, :, :, 5].flip(3))


def test_discriminators_return_a_logit_for_each_picture_or_part():
    pose = PoseDiscriminator(5, 4, (8,))(torch.randn(3, 5))
    assert torch.allclose(pose.exp().sum(1), torch.ones(3), atol=1e-6)
    views = torch.tensor([0, 2, 1])
    network = PictureDiscriminator(3, 16, (4, 8))
    assert network(torch.rand(3, 16, 16), views).shape == (3,)
    told = network.eval()(torch.zeros(3, 16, 16), views)
    assert len(told.unique()) == 3
    with torch.device("meta"):
        wide = torch.zeros(2, 1, 224, 224)
        assert EyeDiscriminator()(wide, torch.zeros(2, 3)).shape == (2, 1, 4, 4)
        assert RotationDiscriminator()(wide, torch.zeros(2, 9)).shape == (2, 1, 31, 31)


@pytest.mark.parametrize("kind", [EyeDiscriminator, RotationDiscriminator])
def test_view_discriminators_depend_on_picture_view_and_class(kind):
    length = 3 if kind is EyeDiscriminator else 9
    widths = (4, 4, 8, 8, 8) if kind is EyeDiscriminator else (4, 4, 8, 8)
    network = kind(1, 3, widths).eval()
    pictures, told = torch.rand(2, 1, 64, 64, requires_grad=True), torch.randn(2, length)
    first = network(pictures, told, torch.tensor([0, 1]))
    first.sum().backward()
    assert bool(first.isfinite().all())
    assert bool(pictures.grad.any())
    assert not torch.allclose(first, network(pictures, -told, torch.tensor([0, 1])))
    assert not torch.allclose(first, network(pictures, told, torch.tensor([1, 1])))
    for wrong in (lambda: network(pictures, told), lambda: kind(1, 0, widths)(pictures, told, torch.tensor([0, 1]))):
        with pytest.raises(ValueError, match="classes must be told"):
            wrong()


def test_spectral_normalisation_bounds_every_layer_of_the_eye_discriminator():
    network = EyeDiscriminator(1, 2, (4, 4, 8, 8, 8))
    for _ in range(60):
        network(torch.rand(2, 1, 32, 32), torch.randn(2, 3), torch.tensor([0, 1]))
    for layer in (*network.convolutions, network.head, network.eye, network.classes):
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)
