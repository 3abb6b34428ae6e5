import csv
import math

import numpy as np
import pytest

from shapewright.errors import UserError
from shapewright.export.metric_tables import (
    metrics_by_shape,
    summarize_metrics,
    write_chamfer_csv,
    write_metrics_csv,
)
from shapewright.export.report import MEANINGS, metric_label, metrics_table
from shapewright.geometry.mesh import Mesh
from shapewright.metrics.shape_metrics import ShapeMetricOptions, shape_metrics

ROWS = {
    "chairs/all/oak": {"chamfer_x1000": 0.1 + 0.2, "f_score_radius_1pct": 0.9},
    'chairs/all/with, comma "x"': {"chamfer_x1000": 1e-17, "volume_iou": 0.5},
}


def test_every_digit_comes_back(tmp_path):
    write_metrics_csv(tmp_path / "metrics.csv", ROWS)
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["shape", "chamfer_x1000", "f_score_radius_1pct", "volume_iou"]
    again = {row["shape"]: {k: float(v) for k, v in row.items() if k != "shape" and v} for row in table}
    assert again == ROWS


def test_chamfer_table_is_that_of_deep_sdf(tmp_path):
    path = tmp_path / "chamfer.csv"
    write_chamfer_csv(path, {"ShapeNetV2/03001627/abc": 0.000204, "ShapeNetV2/03001627/def": np.float32(0.5)})
    assert path.read_text() == (
        "shape, chamfer_dist\nShapeNetV2/03001627/abc, 0.000204\nShapeNetV2/03001627/def, 0.5\n"
    )


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"missing/metrics\.csv"):
        write_metrics_csv(tmp_path / "missing" / "metrics.csv", ROWS)
    with pytest.raises(UserError, match=r"missing/chamfer\.csv"):
        write_chamfer_csv(tmp_path / "missing" / "chamfer.csv", {})


def test_nine_of_ten_reach_the_p90_in_the_direction_that_is_better():
    rows = {str(i): {"chamfer_x1000": float(i), "f_score_radius_2pct": i / 10, "unknown": 1.0} for i in range(11)}
    summary = summarize_metrics(rows)
    assert (summary["chamfer_x1000_mean"], summary["chamfer_x1000_median"]) == (5.0, 5.0)
    assert summary["chamfer_x1000_p90"] == pytest.approx(9.0)
    assert summary["f_score_radius_2pct_p90"] == pytest.approx(0.1)
    assert summary["unknown_p90"] == 1.0


def test_shapes_without_a_metric_do_not_count():
    rows = {"a": {"x": 1.0, "y": math.nan}, "b": {"x": math.inf}, "c": {"x": 3.0}}
    assert summarize_metrics(rows) == pytest.approx({"x_mean": 2.0, "x_median": 2.0, "x_p90": 2.8})
    assert summarize_metrics({}) == {}


def test_the_report_shows_shapes_and_then_their_summary():
    table = metrics_by_shape("Unseen shapes", ROWS, names=("chamfer_x1000", "volume_iou"))
    assert table.columns == ("shape", "Chamfer x 1000", "Volume overlap")
    assert [row[0] for row in table.rows] == [*ROWS, "mean", "median", "nine of ten reach"]
    assert table.rows[0][2] is None
    assert table.rows[-2][1] == pytest.approx(0.15)


def test_every_shape_metric_is_explained():
    import torch

    square = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    metrics = shape_metrics(square, square, ShapeMetricOptions(num_points=20, emd_points=20), scale=2.0)
    assert {name.removesuffix("_original") for name in metrics} <= set(MEANINGS)
    assert metric_label("accuracy_mean_original") == "Accuracy, original units"
    labels = [row[0] for row in metrics_table("Metrics", metrics).rows]
    assert len(set(labels)) == len(metrics)
    assert metric_label("nothing_original") == "nothing_original"
