import math

import numpy as np
import pytest
import torch

from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mesh_repair import repair_mesh
from shapewright.geometry.signed_distance import (
    SignedDistance,
    signed_distance,
    unsigned_distance,
    winding_number,
)
from shapewright.io.meshes import read_mesh
from tests.geometry.messy import (
    box,
    doubled,
    exact_winding,
    grid,
    joined,
    points_of,
    ring,
    ring_distance,
    soup,
    thinned,
    turned,
    unit,
    with_hole,
)

EXACT_MODES = ("auto", "winding", "parity", "pseudonormal")


def true_distance(points, mesh):
    """Return the distance by looking at every triangle: its corners, its edges, its plane (float64)."""
    best = np.full(len(points), np.inf)
    x = points.double().numpy()
    for a, b, c in mesh.vertices[mesh.faces].double().numpy():
        for start, end in ((a, b), (b, c), (c, a)):
            along = np.clip((x - start) @ (end - start) / max((end - start) @ (end - start), 1e-300), 0, 1)
            best = np.minimum(best, np.linalg.norm(x - start - along[:, None] * (end - start), axis=1))
        normal = np.cross(b - a, c - a)
        height = (x - a) @ normal / np.linalg.norm(normal)
        foot = x - height[:, None] * normal / np.linalg.norm(normal)
        inside = np.ones(len(x), dtype=bool)
        for start, end in ((a, b), (b, c), (c, a)):
            inside &= np.cross(end - start, foot - start) @ normal >= 0
        best = np.where(inside, np.minimum(best, np.abs(height)), best)
    return best


def right_share(inside, truth):
    return float((inside == truth).double().mean())


def test_the_distance_to_a_box_is_known():
    points = torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0.7, 0, 0], [0.9, 0.8, 0]], dtype=torch.float64)
    expected = [-0.5, -0.1, 0.2, 0.5]
    assert signed_distance(points, box()).tolist() == pytest.approx(expected)
    for mode in EXACT_MODES:
        assert signed_distance(points, box(), mode).tolist() == pytest.approx(expected)
    assert signed_distance(points, box(), "unsigned").tolist() == pytest.approx([0.5, 0.1, 0.2, 0.5])


def test_distances_equal_those_of_brute_force():
    mesh = unit(ring(14))
    points = points_of(mesh, 2000).double()
    assert np.abs(unsigned_distance(points, mesh).numpy() - true_distance(points, mesh)).max() < 1e-12


def test_winding_numbers_equal_the_sum_of_all_solid_angles():
    mesh = thinned(ring(20), 0.2)
    points = points_of(mesh, 1000).double()
    assert (winding_number(points, mesh) - exact_winding(points, mesh)).abs().max() < 0.02
    assert winding_number(points, Mesh(mesh.vertices, mesh.faces[:0])).abs().max() == 0


def test_signs_do_not_suffer_from_the_coarse_winding_numbers():
    mesh = repair_mesh(with_hole(unit(ring()), 0.5))
    points = points_of(mesh.mesh, 20_000)
    values = SignedDistance(mesh)(points)
    exact = winding_number(points, mesh.mesh)
    assert torch.equal(values.sdf < 0, exact > 0.5)
    assert float((values.contested == ((exact - 0.5).abs() < 0.3)).double().mean()) > 0.999


@pytest.mark.parametrize("mode", [*EXACT_MODES, "escape"])
def test_every_mode_is_right_on_a_closed_mesh(mode):
    mesh = unit(ring())
    points = points_of(mesh, 400)
    truth = exact_winding(points, mesh) > 0.5
    least = 0.99 if mode == "escape" else 0.9995
    assert right_share(signed_distance(points, mesh, mode) < 0, truth) >= least


DAMAGES = {
    "30 % turned": (lambda mesh, seed: turned(mesh, 0.3, seed), 0.999),
    "all turned": (lambda mesh, seed: turned(mesh, 1.1, seed), 0.999),
    "doubled": (lambda mesh, seed: doubled(mesh), 0.999),
    "5 % missing": (lambda mesh, seed: thinned(mesh, 0.05, seed), 0.999),
    "doubled, 5 % missing": (lambda mesh, seed: doubled(thinned(mesh, 0.05, seed)), 0.999),
    "one hole": (lambda mesh, seed: with_hole(mesh, 0.12, seed), 0.99),
    "soup, half turned": (lambda mesh, seed: turned(soup(mesh), 0.5, seed), 1.0),
}


@pytest.mark.parametrize("name", ["homer", "spot"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_signs_survive_damage(shared_data, name, damage):
    mesh = unit(read_mesh(shared_data / "models" / "classic" / f"{name}.ply"))
    points = points_of(mesh, 4000)
    truth = signed_distance(points, mesh, "winding") < 0
    apply, least = DAMAGES[damage]
    for seed in range(3):
        assert right_share(signed_distance(points, apply(mesh, seed)) < 0, truth) >= least


@pytest.mark.parametrize("name", ["spot", "homer", "cow", "fandisk", "rocker-arm", "cheburashka"])
def test_signs_of_watertight_meshes_are_all_right(shared_data, name):
    import igl

    mesh = unit(read_mesh(shared_data / "models" / "classic" / f"{name}.ply"))
    points = points_of(mesh, 4000)
    truth = igl.winding_number(mesh.vertices.numpy(), mesh.faces.numpy(), points.double().numpy()) > 0.5
    assert right_share(signed_distance(points, mesh) < 0, torch.from_numpy(truth)) == 1.0


def test_without_repair_a_doubled_mesh_has_no_inside():
    mesh = unit(ring())
    points = points_of(mesh, 400)
    truth = exact_winding(points, mesh) > 0.5
    assert right_share(signed_distance(points, doubled(mesh), "winding") < 0, truth) < 0.7
    assert right_share(signed_distance(points, doubled(mesh), "auto") < 0, truth) == 1.0


def test_a_doubled_sheet_has_no_inside_and_a_doubled_box_has():
    points = points_of(grid())
    assert bool((signed_distance(points, doubled(grid())) > 0).all())
    assert bool((signed_distance(torch.zeros(1, 3), doubled(box())) < 0).all())


def test_a_hole_makes_signs_contested():
    closed, points = ring(), points_of(unit(ring()))
    assert not SignedDistance(repair_mesh(unit(closed)))(points).contested.any()
    open_mesh = repair_mesh(with_hole(unit(closed), 0.6))
    share = float(SignedDistance(open_mesh)(points).contested.double().mean())
    assert 0.01 < share < 0.5
    assert not SignedDistance(unit(closed), "parity")(points).contested.any()


def test_scaled_distances_of_the_library_are_not_taken():
    # libigl's signed distance with a winding number's sign is d (1 - 2 |w|), which is far off above an open box.
    open_box = Mesh(box().vertices, box().faces[2:])
    points = points_of(unit(open_box), 2000)
    distance = signed_distance(points, unit(open_box))
    assert torch.allclose(distance.abs(), unsigned_distance(points, unit(open_box)))


def test_the_distance_to_a_ring_is_that_of_the_formula():
    mesh = ring(96)
    points = 2 * torch.rand(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    assert (signed_distance(points, mesh) - ring_distance(points)).abs().max() < 2e-3


def test_values_have_the_type_of_the_points_and_none_for_none():
    mesh = box()
    for dtype in (torch.float32, torch.float64):
        assert signed_distance(torch.zeros(4, 3, dtype=dtype), mesh).dtype == dtype
    assert signed_distance(torch.zeros(0, 3), mesh).shape == (0,)
    assert signed_distance(torch.zeros(3, 3), mesh, "parity").shape == (3,)


def test_what_has_no_signed_distance_is_refused():
    empty = Mesh(torch.zeros(3, 3), torch.empty(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="without triangles"):
        SignedDistance(empty, "unsigned")
    with pytest.raises(ValueError, match="'scan'"):
        SignedDistance(box(), "scan")
    with pytest.raises(ValueError, match="'auto'"):
        SignedDistance(box())
    with pytest.raises(ValueError, match="must be finite"):
        signed_distance(torch.full((1, 3), math.nan), box())


def test_parts_that_run_through_each_other_are_one_inside():
    shifted = Mesh(box().vertices + 0.3, box().faces)
    points = torch.tensor([[0.15, 0.15, 0.15], [-0.4, -0.4, -0.4], [0.7, 0.7, 0.7], [0.9, 0.9, 0.9]])
    assert (signed_distance(points, joined(box(), shifted)) < 0).tolist() == [True, True, True, False]
