"""Hard rasterisation: on every back end the nearest face of each sample, and each sample once."""

import math

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh_edges import edge_table
from shapewright.geometry.orbit import kato_ring
from shapewright.kernels import backend, raster_ops
from shapewright.kernels.raster_ops import RasterRule
from shapewright.rendering.projections import project_perspective

TWO_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def bumpy_views(size=48, views=4, dtype=torch.float32):
    """Return a sphere with waves from several sides: its screens, in samples, and its faces."""
    mesh = icosphere(2)
    vertices = 0.5 * mesh.vertices * (1 + 0.3 * torch.sin(7 * mesh.vertices[:, :1] + 5 * mesh.vertices[:, 1:2]))
    return project_perspective(vertices.to(dtype), kato_ring(size)[range(0, 24, 24 // views)]), mesh.faces


def naive_ids(screen, faces, rule):
    """Rasterise one image in a loop over samples and faces."""
    ids = torch.full((rule.size, rule.size), -1)
    points = screen.double().tolist()
    for i in range(rule.size):
        for j in range(rule.size):
            x, y, best = j + 0.5, i + 0.5, math.inf
            for f, (a, b, c) in enumerate(faces.tolist()):
                a, b, c = points[a], points[b], points[c]
                area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
                if area < 0:
                    b, c, area = c, b, -area
                sides = [(b, c, a), (c, a, b), (a, b, c)]
                edges = [(v[0] - u[0]) * (y - u[1]) - (v[1] - u[1]) * (x - u[0]) for u, v, _ in sides]
                if min(edges) > 0:
                    z = 1 / sum(e / area / w[2] for e, (_, _, w) in zip(edges, sides, strict=True))
                    if z < best - 1e-9:
                        best, ids[i, j] = z, f
    return ids


def test_a_sample_on_a_common_side_belongs_to_one_face(kernels):
    square = torch.tensor([[[2.5, 2.5, 1], [10.5, 2.5, 1], [10.5, 10.5, 1], [2.5, 10.5, 1]]])
    for screen in (square, square.flip(1)):
        ids, _ = raster_ops.rasterize(screen, TWO_FACES, RasterRule(16))
        assert sorted(int((ids == f).sum()) for f in (0, 1)) == [28, 36]
        assert torch.equal(raster_ops.cover(screen, TWO_FACES, RasterRule(16)), ids >= 0)
        assert bool((ids[0, 2:10, 2:10] >= 0).all())


def test_faces_are_those_of_a_loop_over_samples(kernels):
    screen, faces = bumpy_views(size=24, views=2)
    rule = RasterRule(24)
    ids, depth = raster_ops.rasterize(screen, faces, rule)
    assert ids.dtype == torch.int32
    for image in range(2):
        assert torch.equal(ids[image].long(), naive_ids(screen[image], faces, rule))
    assert torch.equal(depth.isfinite(), ids >= 0)


@pytest.mark.parametrize("rule", [RasterRule(96), RasterRule(96, near=None), RasterRule(96, culls_back=True)], ids=str)
def test_back_ends_agree_on_every_sample(device, rule):
    screen, faces = bumpy_views(size=96)
    if rule.is_parallel:
        screen[..., 2] -= screen[..., 2].mean()
    with backend("reference"):
        expected = raster_ops.rasterize(screen, faces, rule)
        mask = raster_ops.cover(screen, faces, rule)
    screen, faces = screen.to(device), faces.to(device)
    ids, depth = raster_ops.rasterize(screen, faces, rule)
    assert torch.equal(raster_ops.cover(screen, faces, rule).cpu(), mask)
    assert torch.equal(ids.cpu(), expected[0])
    torch.testing.assert_close(depth.cpu(), expected[1], rtol=2e-7, atol=0)
    assert 0.1 < float((ids >= 0).float().mean()) < 0.9


def test_back_ends_agree_on_gradients(device):
    screen, faces = bumpy_views(size=48, dtype=torch.float64)
    rule, edges = RasterRule(48), edge_table(faces)
    generator = torch.Generator().manual_seed(0)
    wishes = torch.randn(len(screen), 24, 24, generator=generator)
    colors, slopes = torch.randn(2, len(screen), 48, 48, 3, generator=generator)

    def gradients(device):
        drawn = [part.to(device) for part in (screen, faces, edges, wishes, colors, slopes)]
        ids, mask = raster_ops.rasterize(*drawn[:2], rule)[0], raster_ops.cover(*drawn[:2], rule)
        empty = raster_ops.soft_cover(*drawn[:2], rule, 1e-4)
        return [
            raster_ops.outline_backward(drawn[0], drawn[2], rule, mask, drawn[3], 0),
            raster_ops.outline_backward(drawn[0], drawn[2], rule, mask, drawn[3], 8),
            raster_ops.nmr_backward(*drawn[:2], rule, ids, drawn[3]),
            raster_ops.nmr_pictures_backward(*drawn[:2], ids, *drawn[4:]),
            raster_ops.soft_backward(*drawn[:2], rule, 1e-4, empty, drawn[5][..., 0].to(empty)),
        ]

    with backend("reference"):
        expected = gradients("cpu")
    for ours, right in zip(gradients(device), expected, strict=True):
        torch.testing.assert_close(ours.cpu(), right, rtol=0, atol=1e-6 * float(right.abs().max()))


def test_depth_is_that_of_the_plane(kernels):
    # The plane z = 2 + x / 2 through a pinhole: pixel u = 8 x / z + 8.
    x = torch.tensor([-1.0, 1.0, 1.0, -1.0])
    y = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    z = 2 + x / 2
    screen = torch.stack([8 * x / z + 8, 8 * y / z + 8, z], dim=1)[None]
    ids, depth = raster_ops.rasterize(screen, TWO_FACES, RasterRule(16))
    u = ((torch.arange(16) + 0.5 - 8) / 8).expand(1, 16, 16)
    torch.testing.assert_close(depth[ids >= 0], (2 / (1 - u / 2))[ids >= 0], rtol=1e-6, atol=0)
    screen = torch.stack([8 * x + 8, 8 * y + 8, x - 5], dim=1)[None]
    ids, depth = raster_ops.rasterize(screen, TWO_FACES, RasterRule(16, near=None))
    assert bool((ids >= 0).all())
    torch.testing.assert_close(depth, u - 5)


def test_the_nearest_face_wins_and_of_equals_the_first(kernels):
    low = torch.tensor([[0.0, 0], [9, 0], [0, 9]])
    layers = [torch.cat([low, torch.full((3, 1), z)], dim=1) for z in (3.0, 2.0, 2.0, 4.0)]
    screen, faces = torch.cat(layers)[None], torch.arange(12).view(4, 3)
    ids, depth = raster_ops.rasterize(screen, faces, RasterRule(8))
    assert set(ids.unique().tolist()) == {-1, 1}
    assert float(depth.min()) == 2.0


def test_what_cannot_be_drawn_is_left_out(kernels):
    good = [[1.0, 1, 1], [7, 1, 1], [1, 7, 1]]
    for bad in (
        [[1.0, 1, 1], [7, 1, 0.05], [7, 7, 1]],  # before the near plane
        [[1.0, 1, 1], [7, 1, -3], [7, 7, 1]],  # behind the camera
        [[1.0, 1, 1], [math.nan, 1, 1], [7, 7, 1]],
        [[1.0, 1, 1], [7, math.inf, 1], [7, 7, 1]],
        [[1.0, 1, 1], [7, 7, math.nan], [7, 1, 1]],
        [[1.0, 1, 1], [4, 4, 1], [7, 7, 1]],  # a line
        [[1.0, 1, 1], [1, 1, 1], [1, 1, 1]],  # a point
        [[100.0, 1, 1], [107, 1, 1], [100, 7, 1]],  # off the screen
        [[1e200, 1, 1], [-1e200, 1, 1], [1, 1e200, 1]],
    ):
        screen = torch.tensor([good + bad], dtype=torch.float64)
        both = raster_ops.rasterize(screen, torch.arange(6).view(2, 3), RasterRule(8))
        alone = raster_ops.rasterize(screen, torch.arange(3).view(1, 3), RasterRule(8))
        assert torch.equal(both[0], alone[0]), bad
        assert torch.equal(raster_ops.cover(screen, torch.arange(6).view(2, 3), RasterRule(8)), alone[0] >= 0), bad


def test_nothing_to_draw_gives_empty_pictures(kernels):
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    ids, depth = raster_ops.rasterize(torch.zeros(2, 5, 3), nothing, RasterRule(4))
    assert ids.shape == depth.shape == (2, 4, 4)
    assert bool((ids == -1).all())
    assert raster_ops.rasterize(torch.zeros(0, 5, 3), TWO_FACES, RasterRule(4))[0].shape == (0, 4, 4)
    assert not bool(raster_ops.cover(torch.zeros(2, 5, 3), nothing, RasterRule(4)).any())


def test_faces_that_look_away_can_be_left_out(kernels):
    screen, faces = bumpy_views()
    front, _ = raster_ops.rasterize(screen, faces, RasterRule(48, culls_back=True))
    both, _ = raster_ops.rasterize(screen, faces, RasterRule(48))
    # Of a closed surface only its front is seen; turned inside out, only its back is left.
    assert torch.equal(front, both)
    inside, depth = raster_ops.rasterize(screen, faces.flip(1), RasterRule(48, culls_back=True))
    assert torch.equal(inside >= 0, both >= 0)
    assert bool((depth > raster_ops.rasterize(screen, faces, RasterRule(48))[1])[both >= 0].all())
    # One face alone, seen from behind, is left out where there are faces to tell, and covers all the same.
    away = faces[front[0].max()][None].flip(1)
    assert not bool((raster_ops.rasterize(screen[:1], away, RasterRule(48, culls_back=True))[0] >= 0).any())
    assert bool(raster_ops.cover(screen[:1], away, RasterRule(48, culls_back=True)).any())


def test_images_do_not_depend_on_their_batch(kernels):
    screen, faces = bumpy_views()
    together = raster_ops.rasterize(screen, faces, RasterRule(48))
    for image in range(len(screen)):
        alone = raster_ops.rasterize(screen[image : image + 1], faces, RasterRule(48))
        assert all(torch.equal(part[image], one[0]) for part, one in zip(together, alone, strict=True))


@pytest.mark.parametrize("threads", [2, 5])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    screen, faces = bumpy_views(views=6)
    rule = RasterRule(48)
    torch.set_num_threads(1)
    expected = raster_ops.rasterize(screen, faces, rule)
    torch.set_num_threads(threads)
    found = raster_ops.rasterize(screen, faces, rule)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_wrong_shapes_and_missing_vertices_are_refused():
    screen = torch.zeros(1, 4, 3)
    with pytest.raises(ValueError, match="screen must have shape"):
        raster_ops.rasterize(screen[0], TWO_FACES, RasterRule(8))
    with pytest.raises(ValueError, match="faces must name vertices 0 to 2"):
        raster_ops.rasterize(screen[:, :3], TWO_FACES, RasterRule(8))
    with pytest.raises(ValueError, match="a side that divides 8"):
        raster_ops.nmr_backward(screen, TWO_FACES, RasterRule(8), torch.zeros(1, 8, 8), torch.zeros(1, 3, 3))
