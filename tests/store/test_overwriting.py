"""No system is lost by saving another one where it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small
import tiny

import polypath as pp
from polypath import lifecycle
from polypath.core.errors import StoreError


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.learn().save(tmp_path_factory.mktemp("learned") / "system")


@pytest.fixture
def folder(learned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned, tmp_path / "system"))


@pytest.mark.parametrize("how", ["save", "without snapshot", "save_pretrained", "none kept"])
def test_another_system_in_the_folder_becomes_a_snapshot(
    folder: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = small.answers(pp.load(folder), "task1")
    other = small.learn(data=small.suite(small.task(3)))
    if how == "none kept":
        other.keep_snapshots = 0
    if how == "save_pretrained":
        other.save_pretrained(folder)
    else:
        other.save(folder, snapshot=how != "without snapshot")
    (kept,) = pp.load(folder).snapshots()
    assert kept.tasks == ("task0", "task1") and list(pp.load(folder).tasks) == ["task3"]
    assert f"polypath rollback {folder} {kept.id}" in caplog.text
    lifecycle.rollback(folder, kept.id)
    assert small.answers(pp.load(folder), "task1").equal(expected) and pp.load(folder).verify().ok


def test_a_script_can_run_again_and_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(3):
        system = small.learn(tasks=1, seed=seed)  # else the same bytes within a second
        system.keep_snapshots = 2
        assert system.save(tmp_path / "clinic") and system.save(tmp_path / "clinic")
    assert len(pp.load(tmp_path / "clinic").snapshots()) == len(caplog.records) == 2


def test_the_same_system_again_keeps_nothing_and_says_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    system = pp.load(folder)
    copy = system.save(folder.with_name("copy"))
    before = tiny.contents(copy)
    pp.load(folder).save(copy)
    assert tiny.contents(copy) == before and not caplog.records


def test_a_save_elsewhere_in_between_hides_no_lost_update(folder: Path, tmp_path: Path) -> None:
    one, other = pp.load(folder), pp.load(folder)
    other.rename("task1", "b")
    other.save(tmp_path / "elsewhere")
    one.rename("task0", "a")
    one.save(folder)
    kept = tiny.contents(folder)
    (tmp_path / "link").symlink_to(folder)
    for place in (folder, tmp_path / "link"):
        with pytest.raises(StoreError, match="saved by another process since"):
            other.save(place)
    assert tiny.contents(folder) == kept
    other.save(tmp_path / "elsewhere")  # which is still its own
    assert list(pp.load(tmp_path / "elsewhere").tasks) == ["task0", "b"]


def test_a_save_elsewhere_and_back_is_a_save(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    system = pp.load(folder)
    system.rename("task1", "b")
    system.save(tmp_path / "elsewhere")
    system.save(folder)
    assert list(pp.load(folder).tasks) == ["task0", "b"] and pp.load(folder).verify().ok
    assert [one.tasks for one in system.snapshots()] == [("task0", "task1")] and not caplog.records


def test_what_was_removed_before_a_save_elsewhere_goes_from_both_folders(folder: Path, tmp_path: Path) -> None:
    system = pp.load(folder)
    mine = small.bytes_of(system, list(system.network.path("task1").components))
    system.rename("task1", "b")
    system.save(folder)
    system.remove("b")
    system.save(tmp_path / "elsewhere")
    system.save(folder)
    assert mine and not [data for data in mine if small.files_with(folder, data)]
    assert not system.snapshots() and pp.load(folder).verify().ok


def test_a_folder_that_went_in_between_is_saved_whole_or_not_at_all(folder: Path) -> None:
    system = small.learn(tasks=1)
    system.save(folder.with_name("mine"))
    shutil.rmtree(folder.with_name("mine"))
    with pytest.raises(StoreError, match="missing"):  # its recorded answers were there
        system.save(folder.with_name("mine"))
    assert not (folder.with_name("mine") / "manifest.json").exists()


def test_a_rollback_saved_to_a_second_folder_loses_nothing_there(folder: Path, tmp_path: Path) -> None:
    system, second = pp.load(folder), tmp_path / "second"
    system.rename("task1", "b")
    for place in (folder, second, folder):
        system.save(place)
    system.rollback(system.snapshots()[0].id)  # a history as long as that of the renamed system
    for place in (folder, second):
        system.save(place)
        found = pp.load(place)
        assert list(found.tasks) == ["task0", "task1"] and found.snapshots()[-1].tasks == ("task0", "b")
