"""Rendering in processes: the same bytes as in one, and a clear word when one dies."""

from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest

from shapewright.data import render_views as job_module
from shapewright.data.render_object import KATO
from shapewright.data.render_views import RenderJob, render_views
from shapewright.errors import UserError
from shapewright.io.meshes import write_mesh
from tests.data.meshes import bad_files
from tests.geometry.messy import box


def test_the_number_of_workers_changes_no_byte(tmp_path):
    shapes = tmp_path / "shapes"
    bad_files(shapes)
    write_mesh(shapes / "box.ply", box())
    write_mesh(shapes / "long.ply", replace(box(), vertices=box().vertices * box().vertices.new_tensor([3, 1, 2])))
    tiny, job = replace(KATO, views=3), RenderJob(meshes=[str(shapes)], out=tmp_path / "one", seed=3)
    results = [
        render_views(replace(job, out=tmp_path / name, protocol=tiny, shares=(0.5, 0.0, 0.5), workers=workers))
        for name, workers in (("one", 1), ("two", 2))
    ]
    assert results[0] == results[1]
    assert len(results[0].refused) == 5
    texts = [(tmp_path / name / "dataset.json").read_text() for name in ("one", "two")]
    assert texts[0] == texts[1]


def test_a_process_that_dies_is_told_of_and_leaves_nothing(tmp_path, monkeypatch):
    def die(*_):
        raise BrokenProcessPool("a child process terminated abruptly")

    monkeypatch.setattr(job_module, "_in_order", die)
    job = RenderJob(meshes=["procedural:3"], out=tmp_path / "data", workers=2)
    with pytest.raises(UserError, match="A process that renders died"):
        render_views(job)
    assert not list(tmp_path.iterdir())
