import numpy as np
import pytest

from shapewright.cli.main import main
from shapewright.data.sdf_check import check_sdf_folder, is_sdf_folder
from shapewright.data.sdf_samples import SdfSamples, ShapeKey, write_normalisation, write_samples, write_split
from shapewright.geometry.sampling import normalisation
from tests.geometry.messy import box


def ball(count=3000, radius=1 / 1.03, seed=0):
    random = np.random.default_rng(seed)
    points = random.normal(size=(count, 3))
    points *= random.uniform(0.6, 1.3, (count, 1)) / np.linalg.norm(points, axis=1, keepdims=True)
    sdf = np.linalg.norm(points, axis=1) - radius
    return SdfSamples.from_rows(np.concatenate([points, sdf[:, None]], axis=1).astype(np.float32))


def add(root, name, samples):
    key = ShapeKey("d", "c", name)
    write_samples(key.file(root, "SdfSamples", ".npz"), samples)
    write_normalisation(key.file(root, "NormalizationParameters", ".npz"), normalisation(box()))
    return key


def findings(root, **options):
    report = check_sdf_folder(root, **options)
    return report, "\n".join(report.lines())


def test_a_good_folder_passes(tmp_path):
    add(tmp_path, "a", ball(seed=1))
    add(tmp_path, "b", ball(seed=2))
    report, text = findings(tmp_path)
    assert report.passed
    assert not report.warnings
    assert "2 shapes" in text
    assert text.endswith("ready to train")
    assert is_sdf_folder(tmp_path)
    assert not is_sdf_folder(tmp_path / "NormalizationParameters")


def spoil_signs(samples):
    samples.positive[0, 3] *= -1
    return samples


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (SdfSamples(ball().positive, ball().negative[:0]), "have no sample inside: d/c/bad"),
        (SdfSamples(ball().positive[:0], ball().negative), "have no sample outside: d/c/bad"),
        (spoil_signs(ball()), "the sign of the other side: d/c/bad"),
        (SdfSamples(ball().positive * np.float32(3), ball().negative * np.float32(3)), "leave the unit sphere"),
    ],
)
def test_what_must_be_mended_is_an_error(tmp_path, samples, sentence):
    add(tmp_path, "a", ball())
    add(tmp_path, "bad", samples)
    report, text = findings(tmp_path)
    assert not report.passed
    assert sentence in text
    assert "mend the errors" in text


def test_distances_of_another_scale_are_an_error(tmp_path):
    samples = ball()
    samples.negative[:, 3] *= 10
    add(tmp_path, "bad", samples)
    assert "their scale is wrong: d/c/bad" in findings(tmp_path)[1]


def test_what_deserves_a_look_is_a_warning(tmp_path):
    samples = ball()
    samples.positive[:3, 0] = np.nan
    add(tmp_path, "nan", samples)
    add(tmp_path, "few", SdfSamples(ball().positive, ball().negative[:100]))
    add(tmp_path, "same", ball(seed=5))
    add(tmp_path, "same too", ball(seed=5))
    small = ball(seed=6)
    add(tmp_path, "small", SdfSamples(small.positive / np.float32(2), small.negative / np.float32(2)))
    ShapeKey("d", "c", "few").file(tmp_path, "NormalizationParameters", ".npz").unlink()
    report, text = findings(tmp_path)
    assert report.passed
    assert "d/c/nan (3 of 3000)" in text
    assert "fewer than 512 samples inside: d/c/few (100)" in text
    assert "same samples: d/c/same = d/c/same too" in text
    assert "do not fill the unit sphere: they are not normalised: d/c/small" in text
    assert "no normalisation: results stay in normalised units: d/c/few" in text
    assert "fewer than" not in findings(tmp_path, samples_per_shape=200)[1]


def test_splits_and_files_are_compared(tmp_path):
    key = add(tmp_path, "a", ball())
    write_split(tmp_path / "s.json", [key, ShapeKey("d", "c", "gone")])
    report, text = findings(tmp_path, split=tmp_path / "s.json")
    assert not report.passed
    assert "names shapes without samples: d/c/gone" in text


def test_damaged_files_are_listed(tmp_path):
    path = add(tmp_path, "a", ball()).file(tmp_path, "SdfSamples", ".npz")
    path.write_bytes(path.read_bytes()[:1000])
    assert "samples cannot be read: d/c/a" in findings(tmp_path)[1]


def test_the_command_exits_with_1_and_a_list(tmp_path, capsys):
    add(tmp_path, "bad", SdfSamples(ball().positive, ball().negative[:0]))
    with pytest.raises(SystemExit) as exit_:
        main(["data", "check", str(tmp_path)])
    assert exit_.value.code == 1
    assert "have no sample inside: d/c/bad" in capsys.readouterr().out
    add(tmp_path, "bad", ball())
    with pytest.raises(SystemExit) as exit_:
        main(["data", "check", str(tmp_path)])
    assert exit_.value.code == 0
