"""The cache on disk: used when intact, rebuilt when not, done without when it cannot be written."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from polypath.data import cache


class Builds:
    """Counts how often the array was built."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.count = values, 0

    def __call__(self) -> np.ndarray:
        self.count += 1
        return self.values


@pytest.fixture
def builds(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / "cache"))
    return Builds(np.arange(4000, dtype=np.uint8).reshape(100, 40))


def stored(tmp_path):
    (file,) = (tmp_path / "cache").glob("*.npy")
    return file


def test_the_second_time_the_file_is_mapped(builds, tmp_path):
    first, second = cache.cached("a:/b", ["k"], builds), cache.cached("a:/b", ["k"], builds)
    assert builds.count == 1
    assert isinstance(second, np.memmap) and (first == builds.values).all() and (second == builds.values).all()


def test_another_key_is_another_array(builds):
    cache.cached("a", ["k", 1], builds)
    cache.cached("a", ["k", 2], builds)
    assert builds.count == 2


def test_writing_into_the_array_does_not_reach_the_file(builds):
    cache.cached("a", ["k"], builds)[0] = 255
    assert (cache.cached("a", ["k"], builds) == builds.values).all()


@pytest.mark.parametrize("damage", ["truncate", "edit", "empty", "note"])
def test_a_damaged_file_is_built_again(builds, tmp_path, damage, caplog):
    cache.cached("a", ["k"], builds)
    file = stored(tmp_path)
    content = file.read_bytes()
    if damage == "note":
        file.with_suffix(".json").write_text("{")
    else:
        edited = content[:-1] + bytes([content[-1] ^ 1])
        file.write_bytes({"truncate": content[:-500], "edit": edited, "empty": b""}[damage])
    again = cache.cached("a", ["k"], builds)
    assert builds.count == 2 and (again == builds.values).all()
    assert "built again" in caplog.text
    cache.cached("a", ["k"], builds)
    assert builds.count == 2


def test_a_file_without_its_note_is_built_again(builds, tmp_path):
    cache.cached("a", ["k"], builds)
    stored(tmp_path).with_suffix(".json").unlink()
    assert (cache.cached("a", ["k"], builds) == builds.values).all()
    assert builds.count == 2


def test_without_a_place_to_write_the_data_stays_in_memory(builds, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / "file" / "cache"))
    assert (cache.cached("a", ["k"], builds) == builds.values).all()
    assert "cannot be written" in caplog.text and "stays in memory" in caplog.text


def test_a_full_disk_leaves_nothing_behind(builds, tmp_path, monkeypatch, caplog):
    def full(file, values, allow_pickle):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert (cache.cached("a", ["k"], builds) == builds.values).all()
    assert "No space left" in caplog.text and not list((tmp_path / "cache").iterdir())


def test_the_stamp_changes_with_the_file(tmp_path):
    file = tmp_path / "f"
    file.write_text("one")
    before = cache.stamp([file])
    file.write_text("three")
    os.utime(file, ns=(1, 1))
    assert cache.stamp([file]) != before
    assert json.loads(json.dumps(before)) == [list(entry) for entry in before]
