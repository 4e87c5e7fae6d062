"""A removal that breaks off: not begun, or finished by whoever changes the folder next, report included."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
import tiny

import polypath as pp
from polypath import deletion, lifecycle
from polypath.core.errors import StoreError
from polypath.deletion import Deletion
from polypath.removal import pending_file
from polypath.store import Store


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small.learn().save(tmp_path_factory.mktemp("learned") / "system")
    for number in (2, 3):
        lifecycle.add(folder, small.suite(small.task(number)), **small.QUIET)
    return folder


@pytest.fixture
def folder(learned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned, tmp_path / "system"))


def reports(folder: Path) -> list[Deletion]:
    found = [json.loads(path.read_text()) for path in sorted((folder / "certificates").glob("*-removed.json"))]
    assert len(found) == len(list((folder / "certificates").glob("*-removed.md")))
    return [Deletion.model_validate(one) for one in found]


def finished(folder: Path, mine: list[bytes]) -> Deletion:
    (report,) = reports(folder)
    assert not pending_file(folder).exists() and not list(folder.rglob("*.part"))
    assert mine and not [data for data in mine if small.files_with(folder, data)]
    papers = [json.loads(path.read_text()) for path in (folder / "certificates").glob("*.json")]
    assert not any("task2" in one.get("others", {}) for one in papers)
    assert "task2" not in pp.load(folder).tasks and pp.load(folder).verify().ok
    return report


def bytes_of_task2(folder: Path) -> list[bytes]:
    system = pp.load(folder)
    return small.bytes_of(system, list(system.network.path("task2").components))


def same(one: Deletion, other: Deletion) -> bool:
    return one.changed(proof=other.proof) == other


@pytest.mark.parametrize("after", [
    "polypath.store.store.Store._collect", "polypath.deletion.redact", "polypath.deletion.leftovers",
    "polypath.deletion.write_atomically", "polypath.deletion.write_json", "pathlib.Path.unlink",
    "polypath.removal.write_json",
])  # fmt: skip
@pytest.mark.parametrize("next_change", ["prune", "save", "another system"])
def test_a_killed_removal_is_finished_by_the_next_change(
    folder: Path, tmp_path: Path, after: str, next_change: str
) -> None:
    mine, whole = bytes_of_task2(folder), Path(shutil.copytree(folder, tmp_path / "whole"))
    expected, _ = lifecycle.remove(whole, "task2")
    died(after, lambda: lifecycle.remove(folder, "task2"))
    assert "task2" not in pp.load(folder).tasks and pending_file(folder).exists()
    if next_change == "prune":
        lifecycle.prune(folder)
    elif next_change == "save":
        pp.load(folder).rename("task0", "a").save(folder)
    else:
        small.learn(data=small.suite(small.task(4))).save(folder)
    found = finished(folder, mine)
    assert expected.certificates and same(found, expected)


def died(after: str, change: Callable[[], Any]) -> None:
    """Change a folder in a process that dies when it first calls something once the manifest was replaced."""
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                write = Store.write

                def armed(*args: Any, **values: Any) -> int:
                    count = write(*args, **values)
                    if not after.endswith("_collect"):
                        patch.setattr(after, lambda *_, **__: os._exit(0))
                    return count

                if after.endswith("_collect"):
                    patch.setattr(Store, "collect", lambda _: None)
                    patch.setattr(after, lambda *_, **__: os._exit(0))
                patch.setattr(Store, "write", armed)
                change()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("broken", ["redact", "write_json", "write_atomically"])
def test_what_fails_after_the_removal_says_that_the_task_is_gone(
    folder: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = bytes_of_task2(folder)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(deletion, broken, full)
    with pytest.raises(StoreError, match="'task2': removed from .*No space left.*finished by the next") as caught:
        lifecycle.remove(folder, "task2")
    assert "unchanged" not in str(caught.value) and f"polypath prune {folder}" in str(caught.value)
    lifecycle.rename(folder, "task0", "a")  # nobody is blocked by it
    with pytest.raises(StoreError, match="earlier removal is not finished.*nothing more was removed"):
        lifecycle.remove(folder, "task3")
    monkeypatch.undo()
    lifecycle.prune(folder)
    assert finished(folder, mine).proof.identical
    assert list(pp.load(folder).tasks) == ["a", "task1", "task3"]


def test_a_removal_that_fails_before_the_manifest_leaves_no_trace(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tiny.contents(folder)
    shutil.rmtree(folder / "certificates")
    (folder / "certificates").write_text("in the way")
    with pytest.raises(StoreError, match="nothing was removed"):
        lifecycle.remove(folder, "task2")
    assert "task2" in pp.load(folder).tasks and len(pp.load(folder).snapshots()) == 2
    (folder / "certificates").unlink()
    assert kept["manifest.json"] == (folder / "manifest.json").read_bytes()
    died_before(folder, monkeypatch)
    assert pending_file(folder).exists() and "task2" in pp.load(folder).tasks
    lifecycle.rename(folder, "task0", "a")
    assert not pending_file(folder).exists() and not reports(folder) and "task2" in pp.load(folder).tasks


def died_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lifecycle.remove(folder, "task2")
    monkeypatch.undo()


def test_a_damaged_note_about_a_removal_blocks_nobody(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    pending_file(folder).write_text("{")
    lifecycle.remove(folder, "task2")
    assert not pending_file(folder).exists() and "a report on it is lost" in caplog.text


def test_a_save_whose_old_snapshots_cannot_be_deleted_says_that_it_is_saved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = pp.load(folder)
    system.keep_snapshots = 1
    system.rename("task0", "a")

    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(system.store.snapshots, "prune", refused)  # type: ignore[union-attr]
    with pytest.raises(StoreError, match="is saved, but.*Permission denied"):
        system.save(folder)
    monkeypatch.undo()
    assert "a" in pp.load(folder).tasks
    system.save(folder)
    assert Store(folder).manifest().history == system.history
