import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mesh_repair import repair_mesh
from shapewright.geometry.topology import is_watertight
from tests.geometry.messy import box, doubled, grid, joined, ring, soup, thinned, turned


def test_a_clean_mesh_stays_as_it_is():
    mesh = ring()
    repaired = repair_mesh(mesh)
    corners = repaired.mesh.vertices[repaired.mesh.faces]
    assert torch.equal(corners, mesh.vertices[mesh.faces])
    report = repaired.report
    assert (report.faces_in, report.faces_out, report.patches) == (mesh.num_faces, mesh.num_faces, 1)
    assert (report.welded, report.degenerate, report.border_edges, report.sheets) == (0, 0, 0, 0)
    assert report.turned_area_pct == report.duplicate_pct == report.doubled_pct == 0
    assert bool(repaired.visible.all())


@pytest.mark.parametrize("share", [0.3, 0.7, 1.1])
def test_turned_triangles_are_turned_back(share):
    mesh = ring()
    spoilt = turned(mesh, share)
    repaired = repair_mesh(spoilt)
    assert torch.equal(repaired.mesh.vertices[repaired.mesh.faces], _as_repaired(mesh))
    assert repaired.report.turned_area_pct == pytest.approx(100 * min(share, 1), abs=3)
    assert repaired.mesh.volume == pytest.approx(mesh.volume)


def _as_repaired(mesh):
    """Return the corners that the repair gives the mesh before it was spoilt, in its own order of corners."""
    reference = repair_mesh(mesh).mesh
    return reference.vertices[reference.faces]


def test_a_soup_is_welded_and_closed_again():
    mesh = ring()
    repaired = repair_mesh(turned(soup(mesh), 0.5))
    assert is_watertight(repaired.mesh)
    assert repaired.report.welded == 3 * mesh.num_faces - mesh.num_vertices
    assert repaired.mesh.volume == pytest.approx(mesh.volume)


def test_copies_of_triangles_are_dropped_and_counted():
    mesh = ring()
    repaired = repair_mesh(Mesh(mesh.vertices, torch.cat([mesh.faces, mesh.faces.roll(1, 1), mesh.faces.flip(1)])))
    assert repaired.mesh.num_faces == mesh.num_faces
    assert repaired.report.duplicate_pct == pytest.approx(100 * 2 / 3)
    assert repaired.report.doubled_pct == 100
    rolled = repair_mesh(Mesh(mesh.vertices, torch.cat([mesh.faces, mesh.faces.roll(1, 1)])))
    assert (rolled.report.duplicate_pct, rolled.report.doubled_pct) == (50, 0)


def test_triangles_with_a_corner_twice_are_dropped():
    mesh = ring()
    close = mesh.vertices[mesh.faces[0, 0]] + 2e-7
    vertices = torch.cat([mesh.vertices, close[None]])
    flat = torch.tensor([[int(mesh.faces[0, 0]), int(mesh.faces[0, 1]), mesh.num_vertices], [3, 3, 4]])
    report = repair_mesh(Mesh(vertices, torch.cat([mesh.faces, flat]))).report
    assert report.degenerate == 2
    assert report.faces_out == mesh.num_faces


def test_an_open_sheet_that_is_doubled_has_no_inside_but_counts_for_the_distance():
    repaired = repair_mesh(doubled(grid()))
    assert repaired.report.sheets == 1
    assert len(repaired.winding_faces) == 0
    assert repaired.mesh.num_faces == grid().num_faces


def test_a_closed_box_that_is_doubled_has_an_inside():
    repaired = repair_mesh(doubled(box()))
    assert repaired.report.sheets == 0
    assert len(repaired.winding_faces) == 12
    assert repaired.mesh.volume == pytest.approx(1.0)


def test_a_plain_sheet_is_no_zero_thickness_sheet():
    report = repair_mesh(grid()).report
    assert report.sheets == 0
    assert report.border_edges == 4 * 8


def test_a_sealed_part_is_turned_by_its_volume():
    inner = turned(box(-0.2, 0.2), 1.1)
    repaired = repair_mesh(joined(box(), inner))
    assert repaired.report.undecided == 1
    assert repaired.mesh.volume == pytest.approx(1.0 + 0.4**3)
    assert int(repaired.visible.sum()) == 12


def test_hidden_triangles_are_dropped_on_request_only():
    mesh = joined(box(), box(-0.2, 0.2))
    assert repair_mesh(mesh).mesh.num_faces == 24
    assert repair_mesh(mesh, drop_hidden_faces=True).mesh.num_faces == 12


def test_a_moebius_strip_is_counted_and_not_lost():
    count = 24
    angles = torch.arange(count, dtype=torch.float64) * 2 * torch.pi / count
    side = torch.stack(((angles / 2).cos() * angles.cos(), (angles / 2).cos() * angles.sin(), (angles / 2).sin()), 1)
    middle = torch.stack((angles.cos(), angles.sin(), 0 * angles), 1)
    vertices = torch.cat([0.6 * middle + 0.2 * side, 0.6 * middle - 0.2 * side])
    faces = []
    for i in range(count):
        j = (i + 1) % count
        a, b, c, d = (i, i + count, j, j + count) if j else (i, i + count, j + count, j)
        faces += [[a, b, c], [c, b, d]]
    report = repair_mesh(Mesh(vertices, torch.tensor(faces))).report
    assert (report.non_orientable, report.patches, report.faces_out) == (1, 1, 2 * count)


def test_the_repair_is_the_same_on_every_call():
    mesh = thinned(doubled(ring()))
    first, second = repair_mesh(mesh), repair_mesh(mesh)
    assert torch.equal(first.mesh.faces, second.mesh.faces)
    assert torch.equal(first.visible, second.visible)
    assert first.report == second.report


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_neither_the_order_nor_the_direction_of_triangles_matters(seed, share):
    mesh = box()
    random = np.random.default_rng(seed)
    order = torch.from_numpy(random.permutation(mesh.num_faces))
    shuffled = turned(Mesh(mesh.vertices, mesh.faces[order]), share, seed)
    repaired = repair_mesh(shuffled)
    assert is_watertight(repaired.mesh)
    assert repaired.mesh.volume == pytest.approx(1.0)


def test_what_cannot_be_repaired_is_refused():
    empty = Mesh(torch.zeros(3, 3), torch.empty(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="no triangle"):
        repair_mesh(empty)
    with pytest.raises(ValueError, match="no triangle"):
        repair_mesh(Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])))
    with pytest.raises(ValueError, match="rays"):
        repair_mesh(box(), rays=0)
