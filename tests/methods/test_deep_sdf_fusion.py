import pytest
import torch

from shapewright.data.partial_views import ScanView, front_view_scan
from shapewright.errors import UserError
from shapewright.geometry.free_space import PartialScan, smooth_freeness
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import sample_surface
from shapewright.geometry.point_set_surface import PointSetSurface
from shapewright.geometry.signed_distance import unsigned_distance
from shapewright.geometry.topology import count_components, is_watertight
from shapewright.methods.deep_sdf.fusion import FusionConfig, fuse
from shapewright.methods.deep_sdf.guess_warp import fit_trust, fit_warp
from shapewright.methods.deep_sdf.mirror import find_mirror_plane, mirror_axes_of

RADIUS = 0.6
QUICK = FusionConfig(resolution=96)
PLAIN = FusionConfig(resolution=96, mirror=False)
CORNER = torch.ones(3)


def ball(center=(0.0, 0.0, 0.0), radius=RADIUS):
    return lambda points: (points - torch.tensor(center)).norm(dim=-1) - radius


def box(half, center=(0.0, 0.0, 0.0)):
    def sdf(points):
        outside = (points - torch.tensor(center)).abs() - torch.tensor(half)
        return outside.clamp(min=0).norm(dim=-1) + outside.amax(-1).clamp(max=0)

    return sdf


def union(*fields):
    return lambda points: torch.stack([field(points) for field in fields]).amin(0)


def mesh_of(field, resolution=128):
    return extract_isosurface(field, -CORNER, CORNER, resolution).mesh


def scan_of(field, azimuth_deg=0.0, elevation_deg=0.0, num_points=3000):
    view = ScanView(azimuth_deg=azimuth_deg, elevation_deg=elevation_deg, size_px=128)
    return front_view_scan(mesh_of(field), view, num_points)


@pytest.mark.parametrize("with_view", [True, False])
def test_half_a_sphere_and_a_sphere_give_a_watertight_sphere(with_view):
    scan = scan_of(ball())
    if not with_view:
        scan = PartialScan(scan.points, scan.normals)
    mesh = fuse(scan, ball(), QUICK)
    assert is_watertight(mesh)
    assert count_components(mesh) == 1
    assert ball()(mesh.vertices).abs().max() < 0.01


def test_a_smaller_guess_off_the_middle_does_not_move_the_seen_side():
    scan = scan_of(ball())
    mesh = fuse(scan, ball(center=(0.08, -0.05, -0.1), radius=0.5), PLAIN)
    distance = unsigned_distance(scan.points, mesh)
    assert is_watertight(mesh)
    assert distance.mean() < 0.002
    assert distance.quantile(0.9) < 0.005


def test_the_guess_is_bent_to_the_seen_side_before_it_fills_the_rest():
    scan = scan_of(ball())
    guess = ball(center=(0.0, 0.0, -0.08))
    back = torch.tensor([[0.0, 0.0, -RADIUS]])
    bent, stiff = (
        unsigned_distance(back, fuse(scan, guess, FusionConfig(resolution=96, bend=b))) for b in (True, False)
    )
    assert stiff.item() > 0.06
    assert bent.item() < 0.7 * stiff.item()


def test_seen_free_space_stays_empty():
    scan = scan_of(ball(radius=0.4))
    guess = union(ball(radius=0.4), box((0.08, 0.5, 0.08), (0.7, 0.0, 0.0)), ball((0.0, 0.0, 0.5), 0.2))
    mesh = fuse(scan, guess, QUICK)
    samples = sample_surface(mesh, 5000, torch.Generator().manual_seed(0))
    assert (smooth_freeness(scan.view, samples) > 0.03).float().mean() < 0.01
    assert (
        smooth_freeness(scan.view, sample_surface(mesh_of(guess), 5000, torch.Generator())) > 0.03
    ).float().mean() > 0.2
    assert mesh.vertices[:, 0].max() < 0.5


def test_a_seen_plate_without_any_guess_gets_a_thin_back():
    scan = scan_of(box((0.4, 0.5, 0.01)))
    config = FusionConfig(resolution=96, mirror=False, thickness=0.04)
    mesh = fuse(scan, ball(center=(0.0, 0.0, -0.9), radius=0.05), config)
    assert is_watertight(mesh)
    assert count_components(mesh) == 1
    assert float(mesh.vertices[:, 2].max() - mesh.vertices[:, 2].min()) == pytest.approx(0.04, abs=0.01)
    assert mesh.volume == pytest.approx(0.8 * 1.0 * 0.04, rel=0.15)


def test_the_layer_is_never_thinner_than_the_lattice_resolves():
    assert FusionConfig(resolution=192).layer == pytest.approx(0.02)
    assert FusionConfig(resolution=64).layer > 1.5 * 2 / 63


def test_a_guess_that_the_scan_refutes_is_dropped_also_where_nobody_looked():
    plate = box((0.5, 0.5, 0.01), (0.0, 0.0, 0.3))
    scan = scan_of(plate)
    refuted = union(box((0.55, 0.55, 0.02), (0.0, 0.0, 0.5)), box((0.3, 0.3, 0.02), (0.0, 0.0, 0.2)))
    trusting = fuse(scan, refuted, FusionConfig(resolution=64, mirror=False, bend=False, least_trust=0.0))
    doubting = fuse(scan, refuted, FusionConfig(resolution=64, mirror=False, bend=False, least_trust=0.9))
    hidden = torch.tensor([[0.0, 0.0, 0.2]])
    assert unsigned_distance(hidden, trusting).item() < 0.03
    assert unsigned_distance(hidden, doubting).item() > 0.06


def test_the_mirror_image_fills_the_other_side_better_than_a_wrong_guess():
    car = union(
        box((0.3, 0.15, 0.6)),
        box((0.2, 0.1, 0.3), (0.0, 0.2, -0.1)),
        box((0.05, 0.1, 0.1), (0.32, -0.1, 0.3)),
        box((0.05, 0.1, 0.1), (-0.32, -0.1, 0.3)),
    )
    scan = scan_of(car, azimuth_deg=35.0, elevation_deg=30.0)
    guess = box((0.24, 0.2, 0.5))
    unseen = sample_surface(mesh_of(car), 4000, torch.Generator().manual_seed(0))
    unseen = unseen[unseen[:, 0] < -0.28]
    with_image, without = (unsigned_distance(unseen, fuse(scan, guess, config)).mean() for config in (QUICK, PLAIN))
    assert with_image < 0.025
    assert with_image < 0.6 * without


def test_the_mirror_plane_is_found_with_its_offset_and_refused_where_there_is_none():
    shape = union(box((0.3, 0.15, 0.6), (0.04, 0.0, 0.0)), box((0.2, 0.3, 0.2), (0.04, 0.2, -0.1)))
    scan = scan_of(shape, azimuth_deg=30.0, elevation_deg=30.0)
    surface = PointSetSurface(scan.points, scan.normals)
    plane = find_mirror_plane(surface, scan.view, axes=(0,))
    assert plane is not None
    assert plane.offset == pytest.approx(0.04, abs=0.011)
    lopsided = union(box((0.6, 0.1, 0.6)), box((0.1, 0.4, 0.5), (0.4, 0.3, 0.0)))
    scan = scan_of(lopsided, azimuth_deg=20.0, elevation_deg=40.0)
    assert find_mirror_plane(PointSetSurface(scan.points, scan.normals), scan.view, axes=(0,)) is None


def test_the_guess_names_its_mirror_axes():
    assert mirror_axes_of(ball()) == (0, 2)
    assert mirror_axes_of(union(box((0.3, 0.2, 0.6)), box((0.2, 0.3, 0.1), (0.0, 0.3, 0.4)))) == (0,)


def test_the_warp_brings_the_surface_to_the_points():
    scan = scan_of(ball(radius=0.55))
    guess = ball(center=(0.05, 0.04, 0.0), radius=0.5)
    warp = fit_warp(guess, scan.points, scan.normals)
    before, after = guess(scan.points).abs().mean(), guess(scan.points - warp(scan.points)).abs().mean()
    assert after < 0.15 * before
    assert warp(torch.tensor([[0.0, 0.0, 1e3]])).isfinite().all()


def test_trust_is_high_where_confirmed_and_low_where_refuted():
    scan = scan_of(ball(radius=0.4))
    guess = union(ball(radius=0.4), box((0.05, 0.5, 0.05), (0.8, 0.0, 0.0)))
    trust = fit_trust(guess, PointSetSurface(scan.points, scan.normals), scan.view)
    values = trust(torch.tensor([[0.0, 0.0, 0.4], [0.8, 0.0, 0.0], [-0.9, -0.9, -0.9]]))[:, 0]
    assert values[0] > 0.9
    assert values[1] < 0.1
    assert values[2] == pytest.approx(1.0, abs=0.01)


def test_freeness_changes_its_sign_at_the_surface_and_at_the_silhouette():
    scan = scan_of(box((0.4, 0.5, 0.01)))
    asked = torch.tensor([[0.0, 0.0, 0.02], [0.0, 0.0, 0.0], [0.43, 0.0, 0.0], [0.37, 0.0, -0.2], [0.0, 0.0, 5.0]])
    freeness = smooth_freeness(scan.view, asked)
    assert (freeness > 0).tolist() == [True, False, True, False, False]


def test_too_few_points_and_a_scan_in_other_units_are_named():
    few = PartialScan(torch.rand(5, 3), torch.ones(5, 3))
    with pytest.raises(UserError, match="has 5 points"):
        fuse(few, ball())
    far = PartialScan(50 * torch.rand(100, 3), torch.ones(100, 3))
    with pytest.raises(UserError, match="out of the unit sphere"):
        fuse(far, ball())
