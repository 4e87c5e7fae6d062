"""Full disks, killed writers and unreadable places: what is said, what is left, and what must work all the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small

import polypath as pp
from polypath import lifecycle
from polypath.store import Store


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small.learn().save(tmp_path_factory.mktemp("learned") / "system")
    lifecycle.add(folder, small.suite(small.task(2)), **small.QUIET)
    return folder


@pytest.fixture
def folder(learned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned, tmp_path / "system"))


@pytest.mark.parametrize("change", ["rename", "remove", "prune", "save"])
def test_half_a_certificate_of_a_killed_writer_goes_with_the_next_change(folder: Path, change: str) -> None:
    (whole,) = (folder / "certificates").glob("*.json")
    half = whole.with_name(f".{whole.name}.x1.part")
    half.write_bytes(whole.read_bytes())
    if change == "rename":
        lifecycle.rename(folder, "task0", "a")
    elif change == "remove":
        lifecycle.remove(folder, "task2")
    elif change == "prune":
        lifecycle.prune(folder)
    else:
        pp.load(folder).rename("task0", "a").save(folder)
    assert not half.exists()


@pytest.mark.parametrize("remember", [False, True])
def test_pruning_works_on_a_full_disk_whose_lock_takes_no_word(folder: Path, remember: bool) -> None:
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").symlink_to("/dev/full")
    assert len(lifecycle.prune(folder, 0, remember=remember)[0]) == 1
    assert not Store(folder).snapshots.files() and pp.load(folder).verify().ok


def test_pruning_makes_room_before_it_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    save = pp.System.save
    monkeypatch.setattr(
        pp.System, "save", lambda *a, **k: (seen.append(Store(folder).snapshots.files()), save(*a, **k))
    )
    lifecycle.prune(folder, 0, remember=True)
    assert seen == [[]] and pp.load(folder).keep_snapshots == 0
