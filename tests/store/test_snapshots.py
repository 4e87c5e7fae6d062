"""Snapshots on disk: kept and forgotten with the manifest or not at all, whatever the disk does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small
import tiny
from full_disk import Failing

import polypath as pp
import polypath.core.files as files
from polypath.core.errors import InvalidInput, StoreError, UnknownName
from polypath.store import Store
from polypath.system import System


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks, the third added later: one snapshot holds two."""
    system = small.learn()
    folder = system.save(tmp_path_factory.mktemp("learned") / "system")
    system.learn(small.task(2), **small.QUIET)
    system.save(folder)
    return folder


def grown(folder: Path) -> System:
    return pp.load(folder).learn(small.task(3), **small.QUIET)


def shrunk(folder: Path) -> System:
    system = pp.load(folder)
    system.remove("task0")  # the one snapshot holds it, too
    return system


@pytest.mark.parametrize("change", [grown, shrunk])
@pytest.mark.parametrize("call", ["fdopen", "fsync", "chmod", "replace"])
def test_a_disk_that_fills_at_any_moment_leaves_the_old_system_and_its_snapshots(
    learned: Path, tmp_path: Path, change: Callable[[Path], System], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(learned, tmp_path / "system"))
    system, kept = change(folder), tiny.contents(folder)
    failed = 0
    for count in range(1, 40):
        monkeypatch.setattr(files, "os", Failing(call, count))
        try:
            system.save(folder)
        except StoreError as error:
            assert "No space left" in str(error)
            failed += 1
            monkeypatch.undo()
            if (folder / "manifest.json").read_bytes() != kept["manifest.json"]:
                break  # only the last flush: the new system is there, whole
            assert tiny.contents(folder) == kept
        else:
            break
    monkeypatch.undo()
    assert failed > (2 if change is grown else 0)
    assert list(pp.load(folder).tasks) == list(system.tasks) and pp.load(folder).verify().ok
    assert [len(one.tasks) for one in pp.load(folder).snapshots()] == ([2, 3] if change is grown else [])
    if change is shrunk:
        with pytest.raises(UnknownName):
            Store(folder).snapshots.file("0")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KB, where this process may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_is_full(learned: Path, disk: Path) -> None:
    folder = Path(shutil.copytree(learned, disk / "system"))
    system, kept = grown(folder), tiny.contents(folder)
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(b"x" * (free - 8192))  # two pages are left
    with pytest.raises(StoreError, match="No space left"):
        system.save(folder)
    assert tiny.contents(folder) == kept and pp.load(folder).verify().ok
    (disk / "filler").unlink()
    system.save(folder)
    assert list(pp.load(folder).tasks) == ["task0", "task1", "task2", "task3"] and pp.load(folder).verify().ok


def test_saving_without_a_change_keeps_no_snapshot(learned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(learned, tmp_path / "system"))
    before = [one.id for one in pp.load(folder).snapshots()]
    pp.load(folder).save(folder)
    assert [one.id for one in pp.load(folder).snapshots()] == before
    system = grown(folder)
    system.save(folder, snapshot=False)
    assert [one.id for one in pp.load(folder).snapshots()] == before
    assert not small.learn(tasks=1).snapshots()
    with pytest.raises(InvalidInput, match="save the system first"):
        small.learn(tasks=1).rollback("0")


def test_a_snapshot_is_found_by_the_beginning_of_its_id(learned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "system"
    for number in (1, 2):
        path = folder / "snapshots" / f"{number:06d}-abc{number:09d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    held = Store(folder).snapshots
    assert held.file("abc000000002").name.startswith("000002")
    with pytest.raises(InvalidInput, match="several begin so"):
        held.file("abc")
    for wanted in ("", "f"):
        with pytest.raises(UnknownName):
            held.file(wanted)


def test_a_damaged_snapshot_stops_no_save_and_does_not_outlive_a_removal(learned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(learned, tmp_path / "system"))
    (path,) = Store(folder).snapshots.files()
    path.write_bytes(path.read_bytes()[:-40])
    grown(folder).save(folder)
    assert path.exists()
    system: Any = pp.load(folder)
    system.remove("task3")
    system.save(folder)
    assert not path.exists() and system.verify().ok  # what it holds cannot be told
