"""Full disks, killed writers and unreadable places: what is said, what is left, and what must work all the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small

import polypath as pp
from polypath import lifecycle


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
