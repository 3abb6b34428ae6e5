"""Pictures of meshes: barycentric coordinates, attributes and textures, with their derivatives."""

import math

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.orbit import cameras_around, kato_ring
from shapewright.rendering.projections import ParallelViews, project_clipped, project_perspective
from shapewright.rendering.rasterizer import draw, interpolate, rasterize, to_pixels
from shapewright.rendering.textures import interpolate_corners, sample_texture

DOUBLE = torch.float64
TWO_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def tilted_square(size):
    """Return a square that a pinhole sees from the side: vertices in its frame, and its screen."""
    vertices = torch.tensor([[-1.0, -1, 1.5], [1, -1, 2.5], [1, 1, 2.5], [-1, 1, 1.5]], dtype=DOUBLE)
    pixels = size / 2 * (vertices[:, :2] / vertices[:, 2:] + 1)
    return vertices, torch.cat([pixels, vertices[:, 2:]], dim=1)[None]


@pytest.mark.parametrize("supersample", [1, 2])
def test_attributes_are_right_in_perspective(supersample):
    vertices, screen = tilted_square(16)
    fragments = rasterize(screen, TWO_FACES, 16, supersample)
    places = interpolate(fragments, screen, vertices)
    # Each sample's ray meets the square where the interpolated place is.
    centers = (torch.arange(16 * supersample, dtype=DOUBLE) + 0.5) / supersample / 8 - 1
    seen = fragments.is_covered[0]
    v, u = torch.meshgrid(centers, centers, indexing="ij")
    torch.testing.assert_close((places[0, ..., 0] / places[0, ..., 2])[seen], u[seen])
    torch.testing.assert_close((places[0, ..., 1] / places[0, ..., 2])[seen], v[seen])
    torch.testing.assert_close(places[0, ..., 2][seen].float(), fragments.depth[0][seen])
    assert not bool(places[0][~seen].any())
    weights = fragments.barycentrics(screen)[0]
    torch.testing.assert_close(weights.sum(-1), seen.double())
    assert float(weights.min()) >= 0


def test_attributes_are_linear_in_parallel_projections():
    screen = torch.tensor([[[0.0, 0, -3], [8, 0, 5], [8, 8, 5], [0, 8, -3]]], dtype=DOUBLE)
    fragments = rasterize(screen, TWO_FACES, 8, near=None)
    found = interpolate(fragments, screen, screen)
    torch.testing.assert_close(found[0, 3, :, 0], torch.arange(8, dtype=DOUBLE) + 0.5)
    torch.testing.assert_close(found[0, 3, :, 2], torch.arange(8, dtype=DOUBLE) - 2.5)
    torch.testing.assert_close(found[..., 2].float(), fragments.depth)


def test_slivers_that_vanish_in_rounding_are_drawn_with_finite_values():
    # Long triangles far beyond the picture, whose corners are nearly on a line.
    generator = torch.Generator().manual_seed(0)
    start = 64 * torch.rand(400, 1, 2, generator=generator)
    along = 4e4 * torch.randn(400, 1, 2, generator=generator)
    corners = start + (torch.rand(400, 3, 1, generator=generator) - 0.5) * along
    screen = torch.cat([corners, torch.ones(400, 3, 1)], dim=2).reshape(1, -1, 3).requires_grad_()
    fragments = rasterize(screen, torch.arange(1200).view(-1, 3), 64, 3)
    found = interpolate(fragments, screen, torch.ones(1200, 1))
    assert bool(fragments.is_covered.any())
    torch.testing.assert_close(found[..., 0], fragments.is_covered.float())
    found.sum().backward()
    assert bool(screen.grad.isfinite().all())


def test_attributes_of_other_shapes_are_refused():
    _, screen = tilted_square(8)
    fragments = rasterize(screen, TWO_FACES, 8)
    with pytest.raises(ValueError, match="attributes must have shape"):
        interpolate(fragments, screen, torch.ones(2, 4, 3))
    with pytest.raises(ValueError, match="screen must have shape"):
        interpolate(fragments, screen.expand(2, -1, -1), torch.ones(4, 3))


def test_pictures_pass_the_check_of_finite_differences():
    _, screen = tilted_square(6)
    attributes = torch.rand(1, 4, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    fragments = rasterize(screen, TWO_FACES, 6)
    arguments = (screen.clone().requires_grad_(), attributes)
    assert torch.autograd.gradcheck(lambda s, a: interpolate(fragments, s, a), arguments)
    assert torch.autograd.gradgradcheck(lambda s, a: interpolate(fragments, s, a), arguments, fast_mode=True)


def test_faces_before_the_near_plane_are_counted():
    _, screen = tilted_square(8)
    assert rasterize(screen, TWO_FACES, 8).num_dropped.tolist() == [0]
    assert rasterize(screen, TWO_FACES, 8, near=2.0).num_dropped.tolist() == [2]
    screen[0, 1, 0] = math.nan
    assert rasterize(screen, TWO_FACES, 8).num_dropped.tolist() == [1]
    with pytest.raises(ValueError, match="cull must be none or back"):
        rasterize(screen, TWO_FACES, 8, cull="front")


def test_nothing_to_draw_leaves_the_background():
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    screen = torch.zeros(2, 4, 3)
    fragments = rasterize(screen, nothing, 4, 2)
    picture, cover = draw(interpolate(fragments, screen, torch.ones(4, 3)), fragments, 0.25)
    assert picture.shape == (2, 4, 4, 3)
    assert bool((picture == 0.25).all())
    assert not bool(cover.any())


def test_a_drawn_square_is_blended_with_the_background_at_its_border():
    screen = torch.tensor([[[2.5, 2, 1], [6, 2, 1], [6, 6, 1], [2.5, 6, 1]]])
    fragments = rasterize(screen, TWO_FACES, 8, 2)
    picture, cover = draw(interpolate(fragments, screen, torch.ones(4, 1)), fragments, torch.tensor([0.5]))
    assert cover[0, 3].tolist() == [0, 0, 0.5, 1, 1, 1, 0, 0]
    assert picture[0, 3, :, 0].tolist() == [0.5, 0.5, 0.75, 1, 1, 1, 0.5, 0.5]
    assert float(to_pixels(torch.ones(1, 4, 4, 1), 2).sum()) == 4


def test_textures_are_read_at_texel_centres():
    texture = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(8), indexing="ij")
    u, v = (columns + 0.5) / 8, 1 - (rows + 0.5) / 4
    found = sample_texture(texture, torch.stack([u, v], -1)[None].double())
    torch.testing.assert_close(found[0], texture[0].movedim(0, -1))
    v = 1 - rows.double() / 3
    for turns in (0, 1, -2):
        found = sample_texture(texture, torch.stack([u + turns, v], -1)[None].double(), "around")
        torch.testing.assert_close(found[0], texture[0].movedim(0, -1))
    seam = sample_texture(texture, torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]], dtype=DOUBLE), "around")
    torch.testing.assert_close(seam[0, 0, 0], (texture[0, :, 0, 0] + texture[0, :, 0, -1]) / 2)
    torch.testing.assert_close(seam[0, 0, 0], seam[0, 0, 1])


def test_a_textured_square_shows_its_texture():
    texture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    screen = torch.tensor([[[0.0, 0, 2], [8, 0, 2], [8, 8, 2], [0, 8, 2]]], dtype=DOUBLE)
    uv = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]], dtype=DOUBLE)
    fragments = rasterize(screen, TWO_FACES, 8)
    by_corner = interpolate_corners(fragments, screen, uv, TWO_FACES)
    torch.testing.assert_close(by_corner, interpolate(fragments, screen, uv))
    picture, _ = draw(sample_texture(texture, by_corner), fragments)
    torch.testing.assert_close(picture[0], texture[0].movedim(0, -1))


def test_projections_agree_where_they_must():
    cameras = kato_ring(64)[[0, 5]]
    vertices = icosphere(1, DOUBLE).vertices * 0.4
    screen = project_perspective(vertices, cameras)
    for view in range(2):
        pixels, depth = cameras.project(vertices, view)
        torch.testing.assert_close(screen[view], torch.cat([pixels, depth[:, None]], dim=1))
    quaternions = torch.tensor([[2.0, 0, 0, 2]], dtype=DOUBLE)
    views = ParallelViews.weak_perspective(
        quaternions, torch.tensor([0.5], dtype=DOUBLE), torch.tensor([[0.25, -0.5]], dtype=DOUBLE)
    )
    found = views.project(torch.tensor([[1.0, 2, 3]], dtype=DOUBLE), 8)
    # A quarter turn about z takes (1, 2, 3) to (-2, 1, 3).
    torch.testing.assert_close(found, torch.tensor([[[4 * (-1 + 0.25 + 1), 4 * (0.5 - 0.5 + 1), 1.5]]], dtype=DOUBLE))
    plain = ParallelViews.orthographic(torch.eye(3, dtype=DOUBLE)[None]).project(vertices, 2)
    torch.testing.assert_close(plain[0], torch.cat([vertices[:, :2] + 1, vertices[:, 2:]], dim=1))


def test_vertices_behind_the_camera_project_have_finite_pixels():
    cameras = kato_ring(8)[[0]]
    eye = cameras.centers[0]
    vertices = torch.stack([eye, eye * 2, eye * 0])
    screen = project_perspective(vertices, cameras)
    assert bool(screen.isfinite().all())
    assert (screen[0, :, 2] > 0.1).tolist() == [False, False, True]


def test_a_floor_under_the_camera_is_drawn_up_to_its_feet():
    # A large square one unit below a camera at the origin's side: most of its faces reach behind the camera.
    camera = cameras_around(torch.tensor([[2.0, 0.0, 0.0]], dtype=DOUBLE), 32, 45.0)
    floor = torch.tensor([[-50.0, -1, -50], [50, -1, -50], [50, -1, 50], [-50, -1, 50]], dtype=DOUBLE)
    whole = rasterize(project_perspective(floor, camera), TWO_FACES, 32)
    assert whole.num_dropped.tolist() == [2]
    assert not bool(whole.is_covered.any())
    screen, clipped = project_clipped(floor, TWO_FACES, floor, camera)
    fragments = rasterize(screen, clipped.faces, 32)
    assert fragments.num_dropped.tolist() == [0]
    places = interpolate(fragments, screen, clipped.attributes)[0]
    # Rows below the horizon show the floor where their rays meet it: at depth focal / (row - 16).
    rows = torch.arange(32, dtype=DOUBLE) + 0.5 - 16
    seen = (rows > 16 / 52)[:, None].expand(32, 32)
    assert torch.equal(fragments.is_covered[0], seen)
    expected = (2 - 16 / rows)[:, None].expand(32, 32)
    torch.testing.assert_close(places[..., 0][seen], expected[seen])
    with pytest.raises(ValueError, match="camera must be one view, got 24"):
        project_clipped(floor, TWO_FACES, floor, kato_ring(32))
