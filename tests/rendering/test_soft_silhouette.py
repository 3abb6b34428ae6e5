"""Silhouettes: coverage of pixels, and gradients of four kinds, each against its definition."""

import math

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.orbit import kato_ring
from shapewright.kernels import backend
from shapewright.rendering.projections import project_perspective
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette

KINDS = ("nmr", "reach", "contour", "soft")
ONE_FACE = torch.tensor([[0, 1, 2]])
# Three vertices, a pixel (row, column), what it is to be, and the gradient of |S - wanted| (Kato et al., unit tests).
PUBLISHED = [
    (
        [[0.8, 0.8], [0, -0.5], [0.2, -0.4]], (25, 35), 1.0, 100,
        [[1.6725862, -0.26021874], [1.41986704, -1.64284933], [0, 0]],
    ),
    (
        [[0.8, 0.8], [-0.5, -0.8], [0.8, -0.8]], (40, 50), 0.0, 1101,
        [[0.98646867, 1.04628897], [-1.03415668, -0.10403691], [3.00094461, -1.55173182]],
    ),
]  # fmt: skip


def bumpy(seed, size=64, views=2, subdivisions=3):
    """Return a sphere with random waves from several sides: vertices, screen and faces."""
    generator = torch.Generator().manual_seed(seed)
    mesh = icosphere(subdivisions, torch.float64)
    waves = 4 * torch.randn(3, 4, generator=generator, dtype=torch.float64)
    bumps = torch.sin(mesh.vertices @ waves + torch.arange(4)).mean(1, keepdim=True)
    vertices = 0.5 * mesh.vertices * (1 + 0.4 * bumps)
    return vertices, kato_ring(size)[range(seed, 24, 24 // views)], mesh.faces


def random_pixels(images, size, seed=0):
    return torch.randn(images, size, size, generator=torch.Generator().manual_seed(seed))


def gradient_of(screen, faces, by_pixels, style):
    leaf = screen.clone().requires_grad_()
    return torch.autograd.grad(silhouette(leaf, faces, by_pixels.shape[-1], style), leaf, by_pixels)[0]


@pytest.mark.parametrize(("corners", "pixel", "wanted", "covered", "expected"), PUBLISHED, ids=["pull", "push"])
def test_nmr_gives_the_published_gradients(kernels, corners, pixel, wanted, covered, expected):
    corners = torch.tensor(corners, requires_grad=True)
    screen = torch.stack([32 * (corners[:, 0] + 1), 32 * (1 - corners[:, 1]), torch.ones(3)], dim=1)[None]
    picture = silhouette(screen, ONE_FACE, 64, SilhouetteStyle("nmr", supersample=1))
    assert int(picture.sum()) == covered
    (picture[0][pixel] - wanted).abs().backward()
    torch.testing.assert_close(corners.grad, torch.tensor(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("supersample", [2, 4])
def test_contour_is_the_derivative_of_coverage(kernels, supersample):
    if kernels == "reference" and supersample == 4:
        pytest.skip("the same formula, on more samples")
    slopes, correlations = [], []
    for seed in range(3):
        vertices, cameras, faces = bumpy(seed)
        generator = torch.Generator().manual_seed(seed)
        row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        by_pixels = torch.stack([torch.sin(row / 9 + column / 7), torch.cos(column / 8 - row / 11)]).double()
        leaf = vertices.clone().requires_grad_()
        picture = silhouette(project_perspective(leaf, cameras), faces, 64, SilhouetteStyle("contour", supersample))
        gradient = torch.autograd.grad(picture, leaf, by_pixels)[0]

        def loss(moved, cameras=cameras, faces=faces, by_pixels=by_pixels):
            with backend("cpu"):
                fine = silhouette(project_perspective(moved, cameras), faces, 64, SilhouetteStyle("contour", 16))
            return float((fine * by_pixels).sum())

        ours, exact = [], []
        for _ in range(12):
            waves = 2 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
            field = torch.sin(vertices @ waves + torch.randn(3, generator=generator, dtype=torch.float64))
            ours.append(float((gradient * field).sum()))
            exact.append((loss(vertices + 4e-3 * field) - loss(vertices - 4e-3 * field)) / 8e-3)
        ours, exact = torch.tensor(ours), torch.tensor(exact)
        correlations.append(float(torch.corrcoef(torch.stack([ours, exact]))[0, 1]))
        slopes.append(float((ours * exact).sum() / (exact * exact).sum()))
    assert sum(correlations) / 3 >= 0.99
    assert 0.9 <= sum(slopes) / 3 <= 1.15


def dense_soft(screen, faces, size, sigma):
    """Return the soft silhouette of all pairs of faces and pixels."""
    scale = 2.0 / size
    centers = torch.arange(size, dtype=torch.float64) + 0.5
    p = torch.stack(torch.meshgrid(centers, centers, indexing="xy"), dim=-1)[:, :, None]
    corners = screen[faces][:, :, :2]
    squares, turns = [], []
    for k in range(3):
        u, v = corners[:, k], corners[:, (k + 1) % 3]
        t = (((p - u) * (v - u)).sum(-1) / ((v - u) ** 2).sum(-1)).clamp(0, 1)
        squares.append((((p - u - t[..., None] * (v - u)) * scale) ** 2).sum(-1))
        turns.append((v - u)[:, 0] * (p - u)[..., 1] - (v - u)[:, 1] * (p - u)[..., 0])
    square, turn = torch.stack(squares).amin(0), torch.stack(turns)
    inside = (turn >= 0).all(0) | (turn <= 0).all(0)
    share = torch.sigmoid(torch.where(inside, square, -square) / sigma)
    share = torch.where(inside | (square <= sigma * math.log(1e10)), share, 0.0)
    return 1 - (1 - share).prod(-1)


def test_soft_is_the_dense_formula_with_its_derivative(kernels):
    vertices, cameras, faces = bumpy(0, size=24, views=1, subdivisions=1)
    screen = project_perspective(vertices, cameras).requires_grad_()
    by_pixels = random_pixels(1, 24).double()
    expected = dense_soft(screen[0], faces, 24, 3e-3)[None]
    picture = silhouette(screen, faces, 24, SilhouetteStyle("soft", 1, sigma=3e-3))
    torch.testing.assert_close(picture, expected, rtol=0, atol=1e-12)
    found, right = (torch.autograd.grad(part, screen, by_pixels)[0] for part in (picture, expected))
    torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-10)
    assert float(right.abs().max()) > 1


def test_soft_passes_the_check_of_finite_differences(kernels):
    screen = torch.tensor([[[1.3, 1.2, 1], [6.4, 2.1, 1], [2.6, 6.7, 1], [7.1, 6.3, 1]]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [2, 1, 3]])
    for supersample in (1, 2):
        style = SilhouetteStyle("soft", supersample, sigma=0.02)
        assert torch.autograd.gradcheck(lambda s, style=style: silhouette(s, faces, 8, style), screen.requires_grad_())


def naive_nmr(points, faces, ids, grad):
    """Transcribe the published loops for one image without super-sampling."""
    n, p, out = len(ids), (points[:, :2] - 0.5).tolist(), torch.zeros(len(points), 2, dtype=torch.float64)
    eps = 1e-4 * n / 2
    for f, corners in enumerate(faces.tolist()):
        for k in range(3):
            a, b, c = (corners[(k + i) % 3] for i in range(3))
            for axis in range(2):
                at = (lambda d0, d1: (d1, d0)) if axis == 0 else (lambda d0, d1: (d0, d1))
                (a0, a1), (b0, b1), (c0, c1) = ((p[v][axis], p[v][1 - axis]) for v in (a, b, c))
                if a0 == b0:
                    continue
                slope = (b1 - a1) / (b0 - a0)
                o = 1 if a1 + slope * (c0 - a0) > c1 else -1
                for d0 in range(max(0, math.ceil(min(a0, b0))), min(n - 1, math.floor(max(a0, b0))) + 1):
                    crossing = a1 + slope * (d0 - a0)
                    i = math.floor(crossing) if o > 0 else math.ceil(crossing)
                    q = i + o
                    if not (0 <= i < n and 0 <= q < n):
                        continue
                    pushes = []
                    if ids[at(d0, i)] == f:
                        walk = range(q, n) if o > 0 else range(q, -1, -1)
                        pushes += [(d, -grad[at(d0, d)]) for d in walk if ids[at(d0, d)] < 0 and grad[at(d0, d)] < 0]
                    if ids[at(d0, q)] < 0:
                        u0, u1 = (a0, a1) if (d0 - a0) * (d0 - c0) < 0 else (b0, b1)
                        far = u1 + (c1 - u1) * (d0 - u0) / (c0 - u0)
                        far = min(max(math.ceil(far) if o > 0 else math.floor(far), 0), n - 1)
                        walk = range(min(i, far), max(i, far) + 1)
                        pushes += [(d, grad[at(d0, d)]) for d in walk if ids[at(d0, d)] == f and grad[at(d0, d)] > 0]
                    for d1, push in pushes:
                        for vertex, lever in ((a, b0 - d0), (b, d0 - a0)):
                            if lever != 0:
                                w = (b0 - a0) / lever * (d1 - crossing)
                                out[vertex, 1 - axis] -= push / (w + eps if w > 0 else w - eps)
    return out


def test_nmr_is_the_published_loop(kernels):
    vertices, cameras, faces = bumpy(1, size=32, views=1, subdivisions=1)
    screen = project_perspective(vertices, cameras)
    by_pixels = random_pixels(1, 32).double()
    from shapewright.kernels import raster_ops

    ids, _ = raster_ops.rasterize(screen, faces, raster_ops.RasterRule(32))
    expected = naive_nmr(screen[0], faces, ids[0], by_pixels[0])
    found = gradient_of(screen, faces, by_pixels, SilhouetteStyle("nmr", 1))
    torch.testing.assert_close(found[0, :, :2], expected, rtol=1e-9, atol=1e-9)
    assert bool((found[..., 2] == 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_back_ends_agree(kernels, kind, dtype):
    vertices, cameras, faces = bumpy(2, views=3, subdivisions=2)
    screen = project_perspective(vertices, cameras).to(dtype)
    by_pixels, style = random_pixels(3, 64).to(dtype), SilhouetteStyle(kind)
    with backend("reference"):
        expected, right = silhouette(screen, faces, 64, style), gradient_of(screen, faces, by_pixels, style)
    picture, gradient = silhouette(screen, faces, 64, style), gradient_of(screen, faces, by_pixels, style)
    assert picture.dtype == dtype
    torch.testing.assert_close(picture, expected, rtol=0, atol=0 if kind != "soft" else 1e-6)
    scale = float(right.abs().max())
    assert scale > 0.1
    torch.testing.assert_close(gradient / scale, right / scale, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_do_not_depend_on_the_number_of_threads(kind, threads):
    vertices, cameras, faces = bumpy(0, size=32, views=6, subdivisions=2)
    screen, by_pixels = project_perspective(vertices, cameras).float(), random_pixels(6, 32)
    torch.set_num_threads(1)
    expected = gradient_of(screen, faces, by_pixels, SilhouetteStyle(kind))
    torch.set_num_threads(threads)
    assert torch.equal(gradient_of(screen, faces, by_pixels, SilhouetteStyle(kind)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_descends_towards_a_shifted_disc(kernels, kind):
    # Wanted: the same ball, half a unit to the right. All kinds must push it there.
    vertices, cameras, faces = bumpy(0, size=32, views=1, subdivisions=2)
    screen = project_perspective(vertices, cameras).float()
    style = SilhouetteStyle(kind)
    wanted = silhouette(screen + torch.tensor([3.0, 0, 0]), faces, 32, style)
    leaf = screen.clone().requires_grad_()
    ((silhouette(leaf, faces, 32, style) - wanted) ** 2).sum().backward()
    push = -leaf.grad.sum((0, 1))
    assert float(push[0]) > 4 * abs(float(push[1]))


def test_coverage_of_a_rectangle_is_exact(kernels):
    screen = torch.tensor([[[2.5, 1.0, 1], [6.25, 1, 1], [6.25, 5.5, 1], [2.5, 5.5, 1]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    picture = silhouette(screen, faces, 8, SilhouetteStyle("contour", 4))
    x = torch.tensor([0, 0, 0.5, 1, 1, 1, 0.25, 0])
    y = torch.tensor([0, 1, 1, 1, 1, 0.5, 0, 0])
    torch.testing.assert_close(picture[0], y[:, None] * x)
    gradient = gradient_of(screen, faces, torch.ones(1, 8, 8), SilhouetteStyle("contour", 4))
    # The area is 3.75 x 4.5: its derivative by each side's place is the length of the side.
    torch.testing.assert_close(gradient[0, [1, 2], 0].sum(), torch.tensor(4.5), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient[0, [0, 1], 1].sum(), torch.tensor(-3.75), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_vertices_and_empty_pictures_give_finite_gradients(kernels, kind):
    vertices, cameras, faces = bumpy(0, size=32, views=2, subdivisions=1)
    screen, by_pixels = project_perspective(vertices, cameras).float(), random_pixels(2, 32)
    style = SilhouetteStyle(kind)
    broken = screen.clone()
    broken[0, 3] = torch.nan
    broken[0, 7, 2] = -1.0
    broken[0, 9] = broken[0, 10]
    leaf = broken.clone().requires_grad_()
    picture = silhouette(leaf, faces, 32, style)
    gradient = torch.autograd.grad(picture, leaf, by_pixels)[0]
    assert bool(picture.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert bool((gradient[0, [3, 7]] == 0).all())
    for away in (screen + torch.tensor([500.0, 0, 0]), screen * torch.tensor([1.0, 1, -1])):
        assert not bool(gradient_of(away, faces, by_pixels, style).any())
        assert not bool(silhouette(away, faces, 32, style).any())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_draw_is_no_error(kernels, kind):
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    assert not bool(gradient_of(torch.rand(2, 4, 3), nothing, torch.ones(2, 8, 8), SilhouetteStyle(kind)).any())
    no_images = torch.zeros(0, 4, 3)
    assert gradient_of(no_images, ONE_FACE, torch.ones(0, 8, 8), SilhouetteStyle(kind)).shape == (0, 4, 3)


def test_views_in_a_batch_do_not_mix():
    vertices, cameras, faces = bumpy(0, size=32, views=3, subdivisions=2)
    screen, by_pixels = project_perspective(vertices, cameras).float(), random_pixels(3, 32)
    for kind in KINDS:
        together = gradient_of(screen, faces, by_pixels, SilhouetteStyle(kind))
        for view in range(3):
            one = slice(view, view + 1)
            alone = gradient_of(screen[one], faces, by_pixels[one], SilhouetteStyle(kind))
            assert torch.equal(together[one], alone)


def test_faces_written_to_between_calls_are_noticed():
    screen = torch.tensor([[[1.0, 1, 1], [7, 1, 1], [1, 7, 1], [7, 7, 1]]])
    faces, style = torch.tensor([[0, 1, 2]]), SilhouetteStyle("contour")
    before = gradient_of(screen, faces, torch.ones(1, 8, 8), style)
    faces[0, 0] = 3
    after = gradient_of(screen, faces, torch.ones(1, 8, 8), style)
    assert bool(before[0, 0].any())
    assert not bool(after[0, 0].any())
    assert bool(after[0, 3].any())


def test_styles_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="gradient must be one of nmr, reach"):
        SilhouetteStyle("hard")
    with pytest.raises(ValueError, match="supersample"):
        SilhouetteStyle(supersample=0)
