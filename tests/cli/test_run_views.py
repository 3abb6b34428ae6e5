"""``info`` and ``plot`` show what is in run folders."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
import torch

from shapewright.cli.main import main
from shapewright.cli.plot import running_means, svg_of_runs
from shapewright.engine.checkpoint import save_checkpoint
from shapewright.engine.run_dir import RunDir
from shapewright.errors import UserError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(tmp_path):
    run = RunDir.create(tmp_path / "run", {}, ["shapewright", "train"], {"seed": 7})
    for step in range(1, 6):
        run.append_metrics({"step": step, "seconds": 0.5 * step, "loss": 10.0**-step, "flat": 1.0})
    return run


def test_info_shows_origin_progress_and_results(run, capsys):
    save_checkpoint(run, 5, {"w": torch.zeros(1)}, {})
    run.write_metrics({"metrics": {"psnr": 26.5}})
    assert main(["info", str(run.path)]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[:4] != "vers")
    assert (rows["command"], rows["seed"], rows["checkpoints"], rows["psnr"]) == ("shapewright train", "7", "5", "26.5")
    assert rows["last"].split() == ["flat", "1"]


def test_plot_draws_one_panel_a_quantity_and_one_line_a_run(run, tmp_path, capsys):
    out = tmp_path / "curves.svg"
    assert main(["plot", str(run.path), str(run.path), "--out", str(out)]) == 0
    root = ElementTree.parse(out).getroot()
    assert len(root.findall(f"{SVG}g")) == 2
    assert [len(group.findall(f"{SVG}polyline")) for group in root.findall(f"{SVG}g")] == [1, 1]
    assert capsys.readouterr().out == f"{out}\n"


def test_plot_takes_the_quantities_named(run, tmp_path):
    out = tmp_path / "curves.svg"
    assert main(["plot", str(run.path), "--metrics", "loss", "--x", "seconds", "--out", str(out)]) == 0
    text = out.read_text()
    assert "loss (logarithmic)" in text
    assert "2.5 seconds" in text
    assert "flat" not in text


def test_powers_of_ten_lie_on_a_straight_line_of_a_logarithmic_axis():
    rows = [{"step": step, "loss": 10.0**-step} for step in range(5)]
    root = ElementTree.fromstring(svg_of_runs({"a": rows}, ["loss"], "step"))
    line = root.find(f".//{SVG}polyline")
    assert line is not None
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    steps = [b - a for a, b in pairwise(heights)]
    assert steps == pytest.approx([37.0] * 4, abs=0.11)


def test_names_of_runs_and_gaps_do_no_harm():
    runs = {"<a&b>": [{"step": 1, "loss": None}, {"step": 2, "loss": 1.0}], "empty": [{"step": 1}]}
    root = ElementTree.fromstring(svg_of_runs(runs, ["loss", "other"], "step"))
    assert [text.text for text in root.findall(f"{SVG}text")] == ["<a&b>", "empty"]
    assert len(root.findall(f".//{SVG}polyline")) == 1


def test_plot_refuses_a_run_without_metrics_and_unknown_quantities(run, tmp_path, capsys):
    empty = RunDir.create(tmp_path / "empty", {}, [])
    assert main(["plot", str(empty.path)]) == 2
    assert "has no metrics yet" in capsys.readouterr().err
    assert main(["plot", str(run.path), "--metrics", "los"]) == 2
    assert "Did you mean 'loss'?" in capsys.readouterr().err


def test_running_means_smooth_quantities_and_leave_steps():
    rows = [{"step": step, "seconds": step / 2, "loss": float(step % 2)} for step in range(10)]
    smooth = running_means(rows, 2)
    assert [row["step"] for row in smooth] == list(range(10))
    assert [row["loss"] for row in smooth[:-1]] == [0.5] * 9
    assert running_means(rows, 1) == rows
    with pytest.raises(UserError, match="mean-over"):
        running_means(rows, 0)
