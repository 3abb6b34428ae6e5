import math

import pytest
import torch

from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh, sample_surface
from shapewright.geometry.surface_queries import SurfaceIndex
from shapewright.metrics.shape_metrics import (
    PreparedShape,
    ShapeMetricOptions,
    compare_points,
    f_score,
    shape_metrics,
)

INNER, OUTER = 0.6, 0.615
GAP = OUTER - INNER


def ball(radius, center=(0.0, 0.0, 0.0)):
    middle = torch.tensor(center, dtype=torch.float64)
    lower, upper = torch.full((3,), -1.0, dtype=torch.float64), torch.full((3,), 1.0, dtype=torch.float64)
    return extract_isosurface(lambda x: (x - middle).norm(dim=-1) - radius, lower, upper, 96).mesh


@pytest.fixture(scope="module")
def balls():
    return ball(OUTER), ball(INNER)


def poisson_floor(area, count):
    """Mean squared distance to the nearest of ``count`` points spread at random over a surface, both ways."""
    return 2 * area / (math.pi * count)


def test_two_balls_have_the_closed_form_of_every_metric(balls):
    predicted, truth = balls
    metrics = shape_metrics(predicted, truth)
    for name in ("accuracy_mean", "completeness_mean", "accuracy_p90", "completeness_p90", "mesh_accuracy_p90"):
        assert metrics[name] == pytest.approx(GAP, rel=0.02), name
    for name in ("accuracy_mean_square", "completeness_mean_square"):
        assert metrics[name] == pytest.approx(GAP**2, rel=0.04), name
    floor = poisson_floor(4 * math.pi * INNER**2, 30_000)
    assert metrics["chamfer_floor_x1000"] == pytest.approx(1000 * floor, rel=0.03)
    # From the inner ball the nearest of N points at distance d along its surface is GAP^2 + d^2 OUTER / INNER away,
    # and d^2 has the mean area / (pi N): the same sum from the other side.
    area = 4 * math.pi
    there = GAP**2 + area * OUTER**2 / (math.pi * 30_000) * INNER / OUTER
    back = GAP**2 + area * INNER**2 / (math.pi * 30_000) * OUTER / INNER
    assert metrics["chamfer_x1000"] == pytest.approx(1000 * (there + back), rel=0.03)
    assert metrics["f_score_radius_1pct"] == 0.0
    assert metrics["f_score_radius_2pct"] == 1.0
    assert metrics["completion_share_01"] == 0.0
    assert metrics["normal_consistency"] == pytest.approx(1.0, abs=0.01)


def test_the_truth_scores_its_own_floor(balls):
    metrics = shape_metrics(balls[1], balls[1], ShapeMetricOptions(num_points=2000))
    assert metrics["chamfer_x1000"] == metrics["chamfer_floor_x1000"]
    assert metrics["accuracy_mean"] < 1e-12
    assert metrics["f_score_radius_1pct"] == metrics["completion_share_01"] == 1.0
    assert metrics["normal_consistency"] == pytest.approx(1.0)


def test_moving_both_shapes_changes_nothing_and_scaling_only_the_lengths(balls):
    options = ShapeMetricOptions(num_points=1000, emd_points=100)
    plain = shape_metrics(*balls, options)
    shift = torch.tensor([3.0, -2, 1])
    moved = shape_metrics(*(shape.transformed(1.0, shift) for shape in balls), options)
    assert moved == pytest.approx(plain, rel=1e-6, abs=1e-12)
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -1, 0.3], [1, 0, 0.2], [-0.3, -0.2, 0]]).double())
    turned = shape_metrics(*(Mesh(shape.vertices @ turn.T, shape.faces) for shape in balls), options)
    assert turned == pytest.approx(plain, rel=1e-6, abs=1e-12)


def test_original_units_undo_the_normalisation(balls):
    options = ShapeMetricOptions(num_points=1000, emd_points=100)
    scale = 0.25
    metrics = shape_metrics(*balls, options, scale=scale)
    large = shape_metrics(*(shape.transformed(1 / scale, torch.zeros(3)) for shape in balls), options)
    originals = {name: value for name, value in metrics.items() if name.endswith("_original")}
    assert len(originals) == 10
    for name, value in originals.items():
        assert value == pytest.approx(large[name.removesuffix("_original")], rel=1e-9), name


def test_a_missing_half_harms_completeness_alone(balls):
    whole = balls[1]
    half = Mesh(whole.vertices, whole.faces[whole.vertices[whole.faces].mean(1)[:, 0] > 0])
    metrics = shape_metrics(half, whole, ShapeMetricOptions(num_points=5000))
    assert metrics["accuracy_mean"] < 1e-12
    assert metrics["completion_share_01"] == pytest.approx(0.5, abs=0.03)
    assert metrics["completeness_p90"] > 0.3
    assert metrics["f_score_radius_1pct"] == pytest.approx(2 / 3, abs=0.03)


def test_turned_faces_do_not_harm_normal_consistency_but_a_turned_surface_does(balls):
    options = ShapeMetricOptions(num_points=1000)
    truth = balls[1]
    inside_out = Mesh(truth.vertices, truth.faces.flip(1))
    assert shape_metrics(inside_out, truth, options)["normal_consistency"] == pytest.approx(1.0)
    square = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    turn = torch.tensor([[1.0, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    tilted = Mesh(square.vertices @ turn.T, square.faces)
    assert shape_metrics(tilted, square, options)["normal_consistency"] == pytest.approx(0.6, abs=1e-6)


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(balls):
    first, again, other = (shape_metrics(*balls, ShapeMetricOptions(num_points=500, seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first["chamfer_x1000"] != other["chamfer_x1000"]


def test_prepared_shapes_give_the_same_figures_as_meshes(balls):
    options = ShapeMetricOptions(num_points=500, emd_points=50)
    prepared = [PreparedShape(shape, options) for shape in balls]
    assert shape_metrics(*prepared) == shape_metrics(*balls, options)
    with pytest.raises(ValueError, match="options of the comparison"):
        shape_metrics(*prepared, ShapeMetricOptions.quick())


def test_points_as_the_truth_tell_one_direction(balls):
    predicted, truth = balls
    points = sample_surface(truth, 30_000, torch.Generator().manual_seed(5))
    metrics = shape_metrics(predicted, points, ShapeMetricOptions(emd_points=200), scale=2.0)
    against_mesh = shape_metrics(predicted, truth)
    assert metrics["chamfer_x1000"] == pytest.approx(against_mesh["chamfer_x1000"], rel=0.02)
    assert metrics["completeness_mean"] == pytest.approx(against_mesh["completeness_mean"], rel=0.02)
    assert not [name for name in metrics if "accuracy" in name or "f_score" in name or "floor" in name]
    assert metrics["chamfer_x1000_original"] == metrics["chamfer_x1000"] / 4
    assert metrics["emd_x1000"] > 1000 * GAP


def test_the_spread_of_the_points_does_not_touch_exact_distances(balls):
    few = shape_metrics(*balls, ShapeMetricOptions(num_points=300))
    many = shape_metrics(*balls, ShapeMetricOptions(num_points=30_000))
    assert few["accuracy_mean"] == pytest.approx(many["accuracy_mean"], rel=0.02)
    assert few["chamfer_x1000"] > 5 * many["chamfer_x1000"]


def test_compared_points_lie_on_their_sphere(balls):
    index = SurfaceIndex(balls[1])
    points = sample_surface(balls[0], 8000, torch.Generator().manual_seed(0)).float()
    for surface in (balls[1], index):
        distances = compare_points(points, surface)
        assert distances.mean == pytest.approx(GAP, rel=0.02)
        assert distances.mean_square == pytest.approx(GAP**2, rel=0.04)
        assert (distances.share_within(0.014), distances.share_within(0.016)) == (0.0, 1.0)
    assert f_score(distances, distances, 0.001) == 0.0
    assert ShapeMetricOptions.quick().num_points == 8000


def test_what_cannot_be_compared_is_refused(balls):
    empty = Mesh(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int64))
    point = Mesh(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.int64))
    for nothing in (empty, point):
        with pytest.raises(ValueError, match="without area"):
            shape_metrics(nothing, balls[1])
        with pytest.raises(ValueError, match="without area"):
            shape_metrics(balls[0], nothing)
    with pytest.raises(ValueError, match="without triangles"):
        compare_points(torch.zeros(1, 3), empty)
    with pytest.raises(ValueError, match="scale must be positive"):
        shape_metrics(*balls, scale=0.0)
    with pytest.raises(ValueError, match="must be finite"):
        shape_metrics(balls[0], torch.full((4, 3), math.nan))
    with pytest.raises(ValueError, match="no point to compare"):
        compare_points(torch.empty(0, 3), balls[0])
    with pytest.raises(ValueError, match="emd_points"):
        ShapeMetricOptions(num_points=100, emd_points=200)
    with pytest.raises(ValueError, match="num_points"):
        ShapeMetricOptions(num_points=0)
