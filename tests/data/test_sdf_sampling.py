import json
import os
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from shapewright.data import sdf_sampling
from shapewright.data.sdf_samples import SdfFolder, ShapeKey, read_manifest, write_samples, write_split
from shapewright.data.sdf_sampling import SamplingJob, sample_folder
from shapewright.data.sdf_shape import SamplingOptions, ShapeTask, sample_shape, shape_generator
from shapewright.errors import UserError
from shapewright.geometry.signed_distance import signed_distance
from shapewright.io.images import read_image
from shapewright.io.meshes import read_mesh
from tests.data.meshes import bad_files, category, write
from tests.geometry.messy import box, doubled, grid, joined, ring, thinned

FAST = SamplingOptions(num_samples=2000)


def job(meshes, out, **options):
    return SamplingJob(meshes=meshes, out=out, **{"options": FAST, **options})


class EagerExecutor(Executor):
    """Finish every task before the next is handed over, so that several are found finished at once."""

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future


def run(meshes, out, **options):
    with ThreadPoolExecutor(1) as executor:
        return sample_folder(job(meshes, out, **options), executor)


def task(path, out, **options):
    return ShapeTask(ShapeKey("d", "c", path.stem), path, out, SamplingOptions(**{"num_samples": 2000, **options}))


def npz_bytes(out):
    return {path.name: path.read_bytes() for path in sorted(out.rglob("SdfSamples/**/*.npz"))}


def test_a_mesh_becomes_samples_surface_points_and_a_normalisation(tmp_path):
    source = write(tmp_path / "m" / "ring.ply", ring().transformed(3, torch.tensor([5.0, 0, 0])))
    entry = sample_shape(task(source, tmp_path, surface=300))
    assert (entry["state"], entry["reasons"]) == ("ok", [])
    folder, key = SdfFolder(tmp_path), ShapeKey("d", "c", "ring")
    samples, to_unit, mesh = folder.samples(key), folder.normalisation(key), read_mesh(source)
    assert (len(samples.positive), len(samples.negative)) == (entry["positive"], entry["negative"])
    assert samples.count == 2000
    rows = torch.from_numpy(samples.rows())
    exact = signed_distance(rows[:, :3], to_unit.apply_to(mesh), "winding")
    assert torch.allclose(rows[:, 3], exact, atol=1e-6)
    surface = torch.from_numpy(folder.surface(key)).double()
    assert surface.shape == (300, 3)
    assert float(signed_distance(surface, mesh.to(torch.float64), "unsigned").max()) < 1e-5
    report = entry["mesh"]
    assert (report["patches"], report["border_edges"], report["contested_share"]) == (1, 0, 0)
    assert report["inside_share"] == pytest.approx(len(samples.negative) / 2000, abs=1e-6)
    assert entry["cpu_seconds"] > 0


def test_bad_meshes_are_recorded_and_stop_nothing(tmp_path):
    bad = bad_files(category(tmp_path / "m"))
    result = run(tmp_path / "m", tmp_path / "out")
    assert sorted(name.split("/")[-1] for name in result.in_state("failed")) == sorted(bad)
    assert result.in_state("ok") == ["m/all/big_ring", "m/all/box"]
    assert result.in_state("flagged") == ["m/all/sheet"]
    reasons = {name.split("/")[-1]: " ".join(entry["reasons"]) for name, entry in result.entries.items()}
    assert "vertex 0" in reasons["nan"]
    assert "no triangle" in reasons["no_faces"]
    assert "no sample is inside" in reasons["sheet"]
    assert "one point" in reasons["point"]
    assert read_manifest(tmp_path / "out") == result.entries
    assert not (tmp_path / "out" / ".manifest.jsonl").exists()


def test_a_shape_a_million_times_as_large_is_sampled_as_the_small_one(tmp_path):
    write(tmp_path / "m" / "s.ply", ring(20))
    write(tmp_path / "n" / "s.ply", ring(20).transformed(1e6, torch.zeros(3)))
    small = sample_shape(task(tmp_path / "m" / "s.ply", tmp_path / "small"))
    large = sample_shape(task(tmp_path / "n" / "s.ply", tmp_path / "large"))
    assert large["negative"] == pytest.approx(small["negative"], abs=2)
    one, two = (SdfFolder(tmp_path / name).samples(ShapeKey("d", "c", "s")) for name in ("small", "large"))
    assert np.abs(one.rows()[:500] - two.rows()[:500]).max() < 1e-4


def test_neither_workers_nor_order_change_a_byte(tmp_path):
    category(tmp_path / "m")
    run(tmp_path / "m", tmp_path / "a")
    with ThreadPoolExecutor(2) as executor:
        sample_folder(job(tmp_path / "m", tmp_path / "b", workers=2), executor)
    for source in sorted((tmp_path / "m").iterdir(), reverse=True):
        run(source, tmp_path / "c", name="m")
    assert npz_bytes(tmp_path / "a") == npz_bytes(tmp_path / "b")
    assert len(npz_bytes(tmp_path / "a")) == 3
    seeded = run(tmp_path / "m", tmp_path / "d", options=SamplingOptions(num_samples=2000, seed=1))
    assert seeded.sampled == 3
    assert npz_bytes(tmp_path / "a") != npz_bytes(tmp_path / "d")
    assert shape_generator(0, "a").initial_seed() != shape_generator(0, "b").initial_seed()


def test_processes_of_their_own_give_the_same_bytes(tmp_path):
    write(tmp_path / "m" / "box.ply", box())
    run(tmp_path / "m", tmp_path / "a")
    sample_folder(job(tmp_path / "m", tmp_path / "b"))
    assert npz_bytes(tmp_path / "a") == npz_bytes(tmp_path / "b")


def test_what_is_there_is_not_sampled_again(tmp_path):
    category(tmp_path / "m")
    assert run(tmp_path / "m", tmp_path / "out").sampled == 3
    again = run(tmp_path / "m", tmp_path / "out")
    assert (again.sampled, again.kept, len(again.entries)) == (0, 3, 3)
    write(tmp_path / "m" / "box.ply", ring(20))
    assert run(tmp_path / "m", tmp_path / "out").sampled == 1
    ShapeKey("m", "all", "box").file(tmp_path / "out", "SdfSamples", ".npz").unlink()
    assert run(tmp_path / "m", tmp_path / "out").sampled == 1
    assert run(tmp_path / "m", tmp_path / "out", overwrite=True).sampled == 3


def test_an_interrupted_job_goes_on_where_it_stopped(tmp_path, monkeypatch):
    category(tmp_path / "m")
    calls = []

    def stop_at_the_second(shape):
        calls.append(shape.key.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample_shape(shape)

    monkeypatch.setattr(sdf_sampling, "sample_shape", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        sample_folder(job(tmp_path / "m", tmp_path / "out"), EagerExecutor())
    assert len(read_manifest(tmp_path / "out")) == 1
    monkeypatch.undo()
    assert run(tmp_path / "m", tmp_path / "out").sampled == 2


def test_a_journal_that_a_crash_left_counts(tmp_path):
    category(tmp_path / "m")
    out = tmp_path / "out"
    entries = run(tmp_path / "m", out).entries
    lines = [json.dumps({name: entry}) for name, entry in entries.items()]
    (out / "manifest.json").unlink()
    (out / ".manifest.jsonl").write_text("\n".join(lines)[:-20])
    assert len(read_manifest(out)) == 2
    assert run(tmp_path / "m", out).sampled == 1


def dies_on_the_box(shape):
    if shape.key.name == "box":
        os._exit(9)
    return sample_shape(shape)


def test_a_process_that_dies_takes_only_its_own_shape_along(tmp_path, monkeypatch):
    category(tmp_path / "m")
    monkeypatch.setattr(sdf_sampling, "sample_shape", dies_on_the_box)
    result = sample_folder(job(tmp_path / "m", tmp_path / "out"))
    assert result.in_state("failed") == ["m/all/box"]
    assert "died" in result.entries["m/all/box"]["reasons"][0]
    assert result.in_state("ok") == ["m/all/big_ring"]


def test_other_options_are_refused_until_told_to_overwrite(tmp_path):
    write(tmp_path / "m" / "box.ply", box())
    run(tmp_path / "m", tmp_path / "out")
    other = SamplingOptions(num_samples=3000)
    with pytest.raises(UserError, match="num-samples 2000, not 3000"):
        run(tmp_path / "m", tmp_path / "out", options=other)
    assert run(tmp_path / "m", tmp_path / "out", options=other, overwrite=True).sampled == 1


def test_samples_of_another_program_are_kept(tmp_path):
    write(tmp_path / "m" / "box.ply", box())
    foreign = ShapeKey("m", "all", "box").file(tmp_path / "out", "SdfSamples", ".npz")
    run(tmp_path / "m", tmp_path / "other")
    write_samples(foreign, SdfFolder(tmp_path / "other").samples(ShapeKey("m", "all", "box")))
    result = run(tmp_path / "m", tmp_path / "out")
    assert (result.sampled, result.kept) == (0, 1)


def test_one_name_for_two_places_is_refused(tmp_path):
    for folder in ("m", "n"):
        write(tmp_path / folder / "box.ply", box())
    run(tmp_path / "m", tmp_path / "out", name="set")
    sources = json.loads((tmp_path / "out" / ".datasources.json").read_text())
    assert sources == {"set": str((tmp_path / "m").resolve())}
    with pytest.raises(UserError, match="already has a data set 'set'"):
        run(tmp_path / "n", tmp_path / "out", name="set")


def test_a_split_chooses_the_shapes_and_names_the_missing(tmp_path):
    category(tmp_path / "m")
    write_split(tmp_path / "s.json", [ShapeKey("Set", "all", "box")])
    result = run(tmp_path / "m", tmp_path / "out", split=tmp_path / "s.json")
    assert list(result.entries) == ["Set/all/box"]
    write_split(tmp_path / "s.json", [ShapeKey("Set", "all", "box"), ShapeKey("Set", "all", "gone")])
    with pytest.raises(UserError, match=r"1 meshes that .* does not have: Set/all/gone"):
        run(tmp_path / "m", tmp_path / "out", split=tmp_path / "s.json")
    with pytest.raises(UserError, match="names no shape of the data set 'x'"):
        run(tmp_path / "m", tmp_path / "out", split=tmp_path / "s.json", name="x")


def test_variants_are_new_shapes_and_always_the_same(tmp_path):
    write(tmp_path / "m" / "ring.ply", ring(20))
    first = run(tmp_path / "m", tmp_path / "a", variants=2)
    assert list(first.entries) == ["m/all/ring", "m/all/ring~1", "m/all/ring~2"]
    assert first.in_state("ok") == list(first.entries)
    run(tmp_path / "m", tmp_path / "b", variants=2)
    assert npz_bytes(tmp_path / "a") == npz_bytes(tmp_path / "b")
    assert len(set(npz_bytes(tmp_path / "a").values())) == 3
    kept = read_mesh(tmp_path / "a" / "Meshes" / "m" / "all" / "ring~1.ply")
    key = ShapeKey("m", "all", "ring~1")
    rows = torch.from_numpy(SdfFolder(tmp_path / "a").samples(key).rows())
    unit = SdfFolder(tmp_path / "a").normalisation(key).apply_to(kept)
    assert torch.allclose(rows[:, 3], signed_distance(rows[:, :3], unit), atol=1e-5)


def test_flags_follow_the_health_of_the_mesh(tmp_path):
    open_box = joined(box())
    flagged = sample_shape(
        task(write(tmp_path / "open.ply", type(open_box)(open_box.vertices, open_box.faces[4:])), tmp_path)
    )
    assert flagged["state"] == "flagged"
    assert flagged["mesh"]["contested_share"] > 0.1
    dropped = sample_shape(task(tmp_path / "open.ply", tmp_path, drop_contested=True))
    assert dropped["dropped"] == pytest.approx(2000 * dropped["mesh"]["contested_share"], abs=1)
    torn = sample_shape(task(write(tmp_path / "torn.ply", thinned(ring(), 0.05)), tmp_path))
    assert torn["state"] == "ok"
    twice = sample_shape(task(write(tmp_path / "twice.ply", doubled(ring())), tmp_path))
    assert (twice["state"], twice["mesh"]["doubled_pct"], twice["mesh"]["duplicate_pct"]) == ("ok", 100, 50)


def test_flagged_shapes_are_skipped_on_request(tmp_path):
    write(tmp_path / "m" / "sheet.ply", grid())
    path = ShapeKey("m", "all", "sheet").file(tmp_path / "out", "SdfSamples", ".npz")
    run(tmp_path / "m", tmp_path / "out")
    assert path.exists()
    skipping = SamplingOptions(num_samples=2000, skip_flagged=True)
    run(tmp_path / "m", tmp_path / "out", options=skipping, overwrite=True)
    assert not path.exists()
    assert run(tmp_path / "m", tmp_path / "out", options=skipping).sampled == 0


@pytest.mark.parametrize("sign", ["winding", "parity", "pseudonormal", "escape", "unsigned"])
def test_every_sign_can_be_asked_for(tmp_path, sign):
    entry = sample_shape(task(write(tmp_path / "box.ply", box()), tmp_path, sign=sign))
    assert entry["state"] == "ok"
    assert (entry["negative"] == 0) == (sign == "unsigned")


def test_the_scan_of_the_original_drops_what_it_does_not_know(tmp_path):
    entry = sample_shape(task(write(tmp_path / "torn.ply", thinned(box(), 0.1)), tmp_path, sign="scan"))
    assert entry["dropped"] > 0
    assert entry["positive"] + entry["negative"] + entry["dropped"] == 2000
    assert "rejected" in entry["warnings"][0]


def test_previews_show_the_signs(tmp_path):
    sample_shape(task(write(tmp_path / "box.ply", box()), tmp_path, preview=True))
    picture = read_image(tmp_path / "Previews" / "d" / "c" / "box.png").astype(int)
    height = picture.shape[0]
    middle, corner = picture[height // 2, height // 2], picture[2, 2]
    assert middle[0] > middle[2]
    assert corner[2] > corner[0]
    assert (tmp_path / "Previews" / "d" / "c" / "box.ply").exists()


def test_wrong_options_are_explained():
    with pytest.raises(UserError, match="num-samples is 0"):
        SamplingOptions(num_samples=0)
    with pytest.raises(UserError, match="uniform-share is 2"):
        SamplingOptions(uniform_share=2.0)


def test_a_cluster_needs_dask(tmp_path, monkeypatch):
    write(tmp_path / "m" / "box.ply", box())
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(UserError, match="--cluster needs Dask") as problem:
        sample_folder(job(tmp_path / "m", tmp_path / "out", cluster="tcp://127.0.0.1:1"))
    assert "shapewright[cluster]" in problem.value.hint
