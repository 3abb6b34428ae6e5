"""Light on meshes, by closed forms."""

import math

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.orbit import kato_ring
from shapewright.rendering.projections import ParallelViews, project_perspective
from shapewright.rendering.rasterizer import draw, interpolate, rasterize
from shapewright.rendering.shading import BACK_LIGHT, harmonic_light, lambert_light, shade, vertex_normals_of

DOUBLE = torch.float64
ONE_FACE = torch.tensor([[0, 1, 2]])
TO_CAMERA = torch.tensor([0.0, 0.0, -1.0], dtype=DOUBLE)


def turned_triangle(degrees):
    """Return the corners of a triangle turned about y; at 0 it faces a camera that looks along +z, x right, y down."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    flat = torch.tensor([[-0.9, -0.9, 0.0], [-0.9, 0.9, 0.0], [0.9, 0.0, 0.0]], dtype=DOUBLE)
    return flat @ torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]], dtype=DOUBLE)


def lit(vertices, direction=TO_CAMERA, **options):
    """Return the fragments of triangles in a parallel projection, and the light on them."""
    screen = ParallelViews.orthographic(torch.eye(3, dtype=DOUBLE).expand(len(vertices), 3, 3)).project(vertices, 16)
    fragments = rasterize(screen, ONE_FACE, 16, near=None)
    normals = vertex_normals_of(vertices, ONE_FACE)
    return fragments, shade(fragments, screen, normals, direction, **options)[..., 0]


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (0, 1.0),
        (60, 0.75),
        (-60, 0.75),
        (180, BACK_LIGHT),
        (120, 0.75 * BACK_LIGHT),
    ],
)
def test_light_is_half_and_half_the_cosine_and_backs_are_dark(degrees, expected):
    fragments, light = lit(turned_triangle(degrees)[None])
    assert int(fragments.is_covered.sum()) > 20
    assert bool((fragments.depth.isfinite() == fragments.is_covered).all())
    torch.testing.assert_close(light, expected * fragments.is_covered.double())


def test_a_light_from_the_side_leaves_the_half_and_one_from_behind_counts_as_one_from_ahead():
    triangle = turned_triangle(0)[None]
    for direction, expected in (((3.0, 0, 0), 0.5), ((0.0, 0, 2), 1.0), ((0.0, math.sqrt(3), -1), 0.75)):
        fragments, light = lit(triangle, torch.tensor(direction, dtype=DOUBLE))
        torch.testing.assert_close(light, expected * fragments.is_covered.double())


def test_both_sides_are_alike_where_that_is_wanted_and_nonsense_is_refused():
    fragments, light = lit(turned_triangle(180)[None], back_light=1.0)
    torch.testing.assert_close(light, fragments.is_covered.double())
    with pytest.raises(ValueError, match="back_light"):
        lit(turned_triangle(0)[None], back_light=1.5)


def test_each_image_has_its_own_light_and_samples_without_a_face_have_none():
    pair = turned_triangle(0).expand(2, 3, 3)
    fragments, light = lit(pair, torch.tensor([[0.0, 0, -1], [1.0, 0, 0]], dtype=DOUBLE))
    expected = torch.tensor([1.0, 0.5], dtype=DOUBLE)[:, None, None] * fragments.is_covered
    torch.testing.assert_close(light, expected)
    screen = torch.zeros(2, 4, 3)
    nothing = rasterize(screen, torch.zeros(0, 3, dtype=torch.int64), 4)
    assert not bool(shade(nothing, screen, torch.ones(4, 3), torch.ones(3)).any())


def test_backs_are_those_whose_faces_turn_away_on_the_screen():
    mesh = icosphere(2)
    screen = project_perspective(0.5 * mesh.vertices, kato_ring(32)[[0, 7]])
    outside = rasterize(screen, mesh.faces, 32)
    assert not bool(outside.is_back(screen).any())
    inside = rasterize(screen, mesh.faces.flip(1), 32)
    assert torch.equal(inside.is_back(screen), inside.is_covered)
    kept = rasterize(screen, mesh.faces.flip(1), 32, cull="back")
    assert not bool(kept.is_back(screen).any())


def test_light_passes_the_check_of_finite_differences():
    triangle = turned_triangle(20)[None]
    screen = torch.tensor([[[1.0, 1, 2], [1, 5, 2], [5, 3, 3]]], dtype=DOUBLE)
    fragments = rasterize(screen, ONE_FACE, 6)
    normals = (triangle + torch.tensor([0.1, 0.2, -1.0], dtype=DOUBLE)).requires_grad_()
    arguments = (screen.clone().requires_grad_(), normals)
    assert torch.autograd.gradcheck(lambda s, n: shade(fragments, s, n, TO_CAMERA), arguments)


def test_a_shaded_picture_is_colour_times_light():
    vertices = turned_triangle(60)[None]
    fragments, light = lit(vertices)
    picture, _ = draw(light[..., None] * torch.tensor([0.8, 0.4, 0.0], dtype=DOUBLE), fragments, background=1.0)
    seen = fragments.is_covered[0]
    torch.testing.assert_close(picture[0][seen].unique(dim=0), torch.tensor([[0.6, 0.3, 0.0]], dtype=DOUBLE))
    assert bool((picture[0][~seen] == 1).all())


def test_a_lit_sphere_is_brightest_towards_the_light():
    mesh = icosphere(3)
    camera = kato_ring(32)[0]
    screen = project_perspective(0.5 * mesh.vertices, camera)
    fragments = rasterize(screen, mesh.faces, 32)
    normals = interpolate(fragments, screen, vertex_normals_of(mesh.vertices[None], mesh.faces))
    seen = fragments.is_covered[0]
    light = lambert_light(normals, -camera.forward[0].float(), ambient=0.5, diffuse=0.5)[0, ..., 0]
    middle = light[15:17, 15:17].mean()
    assert float(middle) == pytest.approx(1.0, abs=0.01)
    assert 0.5 <= float(light[seen].min()) < 0.75
    # Of the sphere's front, the vertex normals are the places on it.
    places = interpolate(fragments, screen, mesh.vertices)
    found = torch.nn.functional.normalize(normals[0][seen], dim=-1)
    torch.testing.assert_close(found, torch.nn.functional.normalize(places[0][seen], dim=-1), rtol=0, atol=0.02)


def test_harmonic_light_is_the_irradiance_of_its_radiance():
    # Monte Carlo over the half sphere of each normal, of a radiance made of all nine harmonics.
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(9, 1, generator=generator, dtype=DOUBLE)
    normals = torch.nn.functional.normalize(torch.randn(5, 3, generator=generator, dtype=DOUBLE), dim=1)
    directions = torch.nn.functional.normalize(torch.randn(200_000, 3, generator=generator, dtype=DOUBLE), dim=1)
    x, y, z = directions.unbind(1)
    basis = torch.stack(
        [
            torch.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y,
            1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
        ], dim=1,
    )  # fmt: skip
    radiance = basis @ coefficients
    expected = 4 * ((normals @ directions.T).clamp(min=0) @ radiance) / len(directions)
    torch.testing.assert_close(harmonic_light(3 * normals, coefficients), expected, rtol=0, atol=0.02)
