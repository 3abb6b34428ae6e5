import re
from xml.etree import ElementTree

import numpy as np
import pytest

from shapewright.export.charts import MAX_POINTS, line_chart
from shapewright.export.report import Curve


def polyline(chart, name):
    points = re.search(rf'class="{name}" points="([^"]*)"', chart).group(1)
    return np.array([[float(v) for v in pair.split(",")] for pair in points.split()])


def test_a_straight_line_is_straight_and_inside_the_frame():
    points = polyline(line_chart(Curve("loss", range(11), [2.0 * i for i in range(11)])), "raw")
    assert np.allclose(np.diff(points, axis=0), np.diff(points, axis=0)[0], atol=0.11)
    assert points[:, 0].min() >= 54
    assert points[:, 1].min() >= 0
    assert points[0, 1] > points[-1, 1]


def test_an_exponential_is_straight_on_its_logarithmic_axis():
    points = polyline(line_chart(Curve("loss", range(50), [10.0 ** (-i / 10) for i in range(50)])), "raw")
    assert np.allclose(np.diff(points[:, 1]), np.diff(points[:, 1]).mean(), atol=0.11)


def test_the_chart_is_well_formed_and_says_name_unit_and_last_value():
    chart = line_chart(Curve("PSNR <train>", range(5), [1.0, 2, 3, 4, 25.5], "dB"))
    root = ElementTree.fromstring(chart)
    caption = "".join(root.find("figcaption").itertext())
    assert "PSNR <train>" in caption
    assert "25.5 dB" in caption
    assert len(root.findall("svg/text")) > 5


def test_long_curves_are_thinned_but_keep_both_ends():
    points = polyline(line_chart(Curve("loss", range(10_000), np.linspace(0, 1, 10_000))), "mean")
    assert len(points) == MAX_POINTS
    assert points[0, 0] == pytest.approx(54)
    assert points[-1, 0] == pytest.approx(426)


def test_the_mean_is_calmer_than_the_values():
    noise = np.random.default_rng(0).normal(size=600)
    chart = line_chart(Curve("noise", range(600), noise))
    assert polyline(chart, "mean")[:, 1].std() < 0.5 * polyline(chart, "raw")[:, 1].std()


@pytest.mark.parametrize(("x", "y"), [([3], [0.5]), ([0, 1], [2.0, 2.0]), ([0, 1, 2], [0.0, float("nan"), 1.0])])
def test_short_flat_and_broken_curves_are_drawn(x, y):
    assert "nan" not in line_chart(Curve("loss", x, y))


def test_a_curve_without_a_finite_value_is_left_out():
    assert line_chart(Curve("loss", [], [])) == ""
    assert line_chart(Curve("loss", [1], [float("inf")])) == ""
