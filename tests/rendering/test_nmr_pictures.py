"""Gradients of coloured pictures by the outlines and inner edges of a mesh."""

import math

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.orbit import kato_ring
from shapewright.kernels import backend, raster_ops
from shapewright.rendering.nmr_pictures import draw_with_nmr_gradient
from shapewright.rendering.projections import project_perspective
from shapewright.rendering.rasterizer import draw, interpolate, rasterize
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette

DOUBLE = torch.float64
ONE_FACE = torch.tensor([[0, 1, 2]])
# Three vertices, a pixel (row, column), what it is to be, and the gradient of |I - wanted| (Kato et al., unit tests).
PUBLISHED = [
    (
        [[0.8, 0.8], [0, -0.5], [0.2, -0.4]], (25, 35), 1.0,
        [[1.6725862, -0.26021874], [1.41986704, -1.64284933], [0, 0]],
    ),
    (
        [[0.8, 0.8], [-0.5, -0.8], [0.8, -0.8]], (40, 50), 0.0,
        [[0.98646867, 1.04628897], [-1.03415668, -0.10403691], [3.00094461, -1.55173182]],
    ),
]  # fmt: skip


def bumpy(size, views=2, subdivisions=1):
    """Return the screens of a wavy sphere in double precision, its faces, and colours of its vertices."""
    mesh = icosphere(subdivisions, DOUBLE)
    vertices = 0.45 * mesh.vertices * (1 + 0.3 * torch.sin(7 * mesh.vertices[:, :1] + 5 * mesh.vertices[:, 1:2]))
    screen = project_perspective(vertices, kato_ring(size)[range(0, 24, 24 // views)])
    return screen, mesh.faces, 0.5 + 0.5 * mesh.vertices


def painted(screen, faces, colors, size, supersample=1, background=0.0):
    """Return a picture and its coverage with the published gradient: none by the place inside a face."""
    fragments = rasterize(screen, faces, size, supersample)
    inside = interpolate(fragments, screen.detach(), colors)
    return draw_with_nmr_gradient(inside, screen, fragments, background)


def naive_gradient(points, faces, ids, picture, grad):
    """Return the published loop over faces, edges, axes, lines and samples of one image."""
    n, points, ids = len(ids), (points[:, :2] - 0.5).tolist(), ids.tolist()
    out, eps = torch.zeros(len(points), 2, dtype=DOUBLE), 1e-4 * n / 2
    for f, corners in enumerate(faces.tolist()):
        if not any(f in row for row in ids):
            continue
        for k in range(6):
            axis, (a, b, c) = k % 2, [corners[(k // 2 + m) % 3] for m in range(3)]
            at = (lambda d0, d1: (d1, d0)) if axis == 0 else (lambda d0, d1: (d0, d1))
            (a0, a1), (b0, b1), (c0, c1) = ((points[v][axis], points[v][1 - axis]) for v in (a, b, c))
            if a0 == b0:
                continue
            slope = (b1 - a1) / (b0 - a0)
            o = 1 if a1 + slope * (c0 - a0) > c1 else -1
            for d0 in range(max(0, math.ceil(min(a0, b0))), min(n - 1, math.floor(max(a0, b0))) + 1):
                crossing = a1 + slope * (d0 - a0)
                i = math.floor(crossing) if o > 0 else math.ceil(crossing)
                if not (0 <= i < n and 0 <= i + o < n):
                    continue
                u0, u1 = (a0, a1) if (d0 - a0) * (d0 - c0) < 0 else (b0, b1)
                far = u1 + (c1 - u1) * (d0 - u0) / (c0 - u0)
                far = min(max(math.ceil(far) if o > 0 else math.floor(far), 0), n - 1)
                pairs = [(d1, i) for d1 in range(n) if (d1 - i) * o > 0 and ids[at(d0, i)[0]][at(d0, i)[1]] == f]
                within = range(min(i, far), max(i, far) + 1)
                pairs += [(d1, i + o) for d1 in within if ids[at(d0, d1)[0]][at(d0, d1)[1]] == f]
                for d1, other in pairs:
                    push = float(((picture[at(d0, d1)] - picture[at(d0, other)]) * grad[at(d0, d1)]).sum())
                    for vertex, lever in ((a, b0 - d0), (b, d0 - a0)):
                        if push > 0 and lever != 0:
                            w = (b0 - a0) / lever * (d1 - crossing)
                            out[vertex, 1 - axis] -= push / (w + eps if w > 0 else w - eps)
    return out


@pytest.mark.parametrize(("corners", "pixel", "wanted", "expected"), PUBLISHED, ids=["pull", "push"])
def test_a_white_face_gets_the_published_gradients(kernels, corners, pixel, wanted, expected):
    corners = torch.tensor(corners, requires_grad=True)
    screen = torch.stack([32 * (corners[:, 0] + 1), 32 * (1 - corners[:, 1]), torch.ones(3)], dim=1)[None]
    picture, _ = painted(screen, ONE_FACE, torch.ones(3, 3), 64)
    (picture[0][pixel][1] - wanted).abs().backward()
    torch.testing.assert_close(corners.grad, torch.tensor(expected), rtol=0, atol=1e-4)


def test_gradients_are_those_of_the_published_loop(kernels):
    screen, faces, colors = bumpy(20, views=1)
    by_pixels = torch.randn(1, 20, 20, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    leaf = screen.clone().requires_grad_()
    picture, _ = painted(leaf, faces, colors, 20, background=0.3)
    found = torch.autograd.grad(picture, leaf, by_pixels)[0]
    ids = rasterize(screen, faces, 20).face_id[0]
    expected = naive_gradient(screen[0], faces, ids, picture[0].detach(), by_pixels[0])
    assert float(expected.abs().max()) > 1
    torch.testing.assert_close(found[0, :, :2], expected, rtol=1e-9, atol=1e-9)
    assert not bool(found[..., 2].any())


@pytest.mark.parametrize("supersample", [1, 2])
def test_coverage_gets_the_gradient_of_silhouettes(kernels, supersample):
    screen, faces, colors = bumpy(24)
    by_pixels = torch.randn(2, 24, 24, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    leaf = screen.clone().requires_grad_()
    expected = torch.autograd.grad(silhouette(leaf, faces, 24, SilhouetteStyle("nmr", supersample)), leaf, by_pixels)[0]
    found = torch.autograd.grad(painted(leaf, faces, colors, 24, supersample)[1], leaf, by_pixels)[0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_back_ends_agree(kernels, dtype):
    screen, faces, colors = bumpy(32, subdivisions=2)
    leaf, colors = screen.to(dtype).requires_grad_(), colors.to(dtype)
    by_pixels = torch.randn(2, 32, 32, 3, generator=torch.Generator().manual_seed(2)).to(dtype)
    with backend("reference"):
        expected = torch.autograd.grad(painted(leaf, faces, colors, 32, 2)[0], leaf, by_pixels)[0]
    found = torch.autograd.grad(painted(leaf, faces, colors, 32, 2)[0], leaf, by_pixels)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_pictures_and_gradients_by_colours_are_those_of_plain_drawing():
    screen, faces, colors = bumpy(16)
    fragments = rasterize(screen, faces, 16, 2)
    results = []
    for plain in (True, False):
        leaf = colors.clone().requires_grad_()
        inside = interpolate(fragments, screen, leaf)
        picture, cover = (
            draw(inside, fragments, 0.2) if plain else draw_with_nmr_gradient(inside, screen, fragments, 0.2)
        )
        results.append((picture, cover, *torch.autograd.grad(picture.square().sum(), leaf)))
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("threads", [2, 5])
def test_gradients_do_not_depend_on_the_number_of_threads(threads):
    screen, faces, colors = bumpy(24, views=6)
    leaf = screen.requires_grad_()

    def gradient():
        return torch.autograd.grad(painted(leaf, faces, colors, 24)[0].square().sum(), leaf)[0]

    torch.set_num_threads(1)
    expected = gradient()
    torch.set_num_threads(threads)
    assert torch.equal(gradient(), expected)


def test_a_red_square_moves_to_where_red_is_wanted(kernels):
    # Behind it lies a large green one, so that coverage is the same wherever it goes.
    def screen_at(x):
        small = torch.tensor([[-4.0, -4, 1], [4, -4, 1], [4, 4, 1], [-4, 4, 1]]) + torch.stack(
            [x + 16, torch.tensor(16.0), torch.tensor(0.0)]
        )
        large = torch.tensor([[-9.0, -9, 2], [41, -9, 2], [41, 41, 2], [-9, 41, 2]])
        return torch.cat([small, large])[None]

    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    colors = torch.tensor([[1.0, 0, 0]] * 4 + [[0, 1.0, 0]] * 4)
    target = painted(screen_at(torch.tensor(3.0)), faces, colors, 32)[0]
    x = torch.tensor(0.2, requires_grad=True)
    picture, cover = painted(screen_at(x), faces, colors, 32)
    assert bool((cover == 1).all())
    (picture - target).square().sum().backward()
    assert float(x.grad) < -1


def test_empty_pictures_have_no_gradient_and_wrong_shapes_are_refused(kernels):
    screen = torch.full((2, 3, 3), 500.0, requires_grad=True)
    picture, _ = painted(screen, ONE_FACE, torch.ones(3, 3), 8)
    picture.sum().backward()
    assert not bool(screen.grad.any())
    fragments = rasterize(screen, ONE_FACE, 8)
    with pytest.raises(ValueError, match="colors must have shape"):
        draw_with_nmr_gradient(torch.zeros(2, 4, 4, 3), screen, fragments)
    with pytest.raises(ValueError, match="picture must have shape"):
        raster_ops.nmr_pictures_backward(
            screen, ONE_FACE, fragments.face_id, torch.zeros(2, 4, 4, 1), torch.zeros(2, 8, 8, 1)
        )
