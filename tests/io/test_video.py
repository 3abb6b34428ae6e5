import io
import sys

import numpy as np
import pytest
from PIL import Image

from shapewright.errors import UserError
from shapewright.io.video import write_video


def moving_square(count=6, height=32, width=49):
    frames = np.full((count, height, width, 3), 255, dtype=np.uint8)
    for index in range(count):
        frames[index, 8:24, 4 + 4 * index : 20 + 4 * index] = (200, 30, 40)
    return list(frames)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_all_frames_come_back_in_order(tmp_path, suffix):
    path = tmp_path / f"orbit{suffix}"
    write_video(path, moving_square(), frames_per_second=10)
    with Image.open(path) as video:
        assert video.n_frames == 6
        assert video.info["loop"] == 0
        for index, frame in enumerate(moving_square()):
            video.seek(index)
            assert np.abs(np.asarray(video.convert("RGB"), float) - frame).mean() < 6
            assert video.info["duration"] == 100


def test_mp4_holds_all_frames_even_of_an_odd_size(tmp_path):
    av = pytest.importorskip("av")
    write_video(tmp_path / "orbit.mp4", moving_square(), frames_per_second=10)
    with av.open(io.BytesIO((tmp_path / "orbit.mp4").read_bytes())) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 6
    assert np.abs(frames[5].astype(float) - moving_square()[5][:, :48]).mean() < 12


def test_one_frame_is_enough(tmp_path):
    write_video(tmp_path / "still.gif", moving_square(count=1))
    with Image.open(tmp_path / "still.gif") as video:
        assert video.n_frames == 1


def test_without_pyav_the_next_step_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install shapewright\[video\]"):
        write_video(tmp_path / "orbit.mp4", moving_square())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'\.avi'.*\n.*\.gif, \.webp, \.mp4"):
        write_video(tmp_path / "orbit.avi", moving_square())


@pytest.mark.parametrize(
    ("frames", "speed", "message"),
    [
        ([], 25, "at least one frame"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], 25, "one size"),
        ([np.zeros((4, 4, 3), np.uint8)], 0, "must be positive"),
    ],
)
def test_impossible_videos_are_refused(tmp_path, frames, speed, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "orbit.gif", frames, speed)
