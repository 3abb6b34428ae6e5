import errno
import os
import stat
from pathlib import Path

import pytest

from shapewright.errors import UserError
from shapewright.io.files import append_line, atomic_write, read_json, write_json


@pytest.fixture
def full_disk(monkeypatch):
    """Let every flush to the disk fail as it does when the disk is full."""

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)


def test_what_is_written_is_read_back(tmp_path):
    atomic_write(tmp_path / "a.bin", b"one")
    atomic_write(tmp_path / "a.bin", b"two")
    assert (tmp_path / "a.bin").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_else(tmp_path, full_disk):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(UserError, match=r"disk is full: .*a\.json .*MiB free"):
        write_json(path, {"new": 1})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(UserError, match=r"Cannot write .*nowhere"):
        atomic_write(tmp_path / "nowhere" / "a", b"")


def test_json_survives_a_round_trip(tmp_path):
    value = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_json_refuses_what_it_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{}"])
def test_damaged_json_is_said_with_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_a_missing_json_is_said_with_the_file(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read .*a\.json"):
        read_json(tmp_path / "a.json")


def test_lines_are_appended(tmp_path):
    append_line(tmp_path / "log", "one")
    append_line(tmp_path / "log", "two")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_line_to_a_full_device_is_refused():
    with pytest.raises(UserError, match="disk is full"):
        append_line(Path("/dev/full"), "x")
