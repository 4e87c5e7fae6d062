"""A damaged certificate or snapshot stops nothing, outlives no removal, and is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import small
import tiny
from typer.testing import CliRunner

import polypath as pp
from polypath import lifecycle
from polypath.cli import app
from polypath.core.errors import StoreError
from polypath.removal import pending_file
from polypath.store import Store


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks; the snapshot of two, and the certificate about them."""
    folder = small.learn().save(tmp_path_factory.mktemp("learned") / "system")
    lifecycle.add(folder, small.suite(small.task(2)), **small.QUIET)
    return folder


@pytest.fixture
def folder(learned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned, tmp_path / "system"))


def paper(folder: Path, room: str) -> Path:
    (found,) = sorted((folder / room).glob("*.json"))
    return found


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "list": lambda text: b"[]",
    "other": lambda text: b'{"others": {"task0": 3}}',
    "binary": lambda text: b"\xff" * 8,
}


@pytest.mark.parametrize("room", ["certificates", "snapshots"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_paper_goes_with_the_next_removal(folder: Path, room: str, damage: str) -> None:
    path = paper(folder, room)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    lifecycle.rename(folder, "task0", "a")
    assert path.exists() and pp.load(folder).verify().ok
    report, _ = lifecycle.remove(folder, "task2")
    assert report.complete and not path.exists() and pp.load(folder).verify().ok
    assert any("could not be read" in line.lower() for line in report.lines())
    lifecycle.rename(folder, "a", "b")
    assert list(pp.load(folder).tasks) == ["b", "task1"]


@pytest.mark.parametrize("room", ["certificates", "snapshots"])
def test_history_names_a_damaged_paper_and_prune_deletes_it(folder: Path, room: str) -> None:
    path = paper(folder, room)
    path.write_bytes(path.read_bytes()[:-20])
    said = CliRunner().invoke(app, ["history", str(folder)], env={"COLUMNS": "500"})
    assert said.exit_code == 0 and f"Damaged: {path} cannot be read" in said.output
    snapshots, certificates = lifecycle.prune(folder)
    assert not path.exists() and pp.load(folder).verify().ok
    assert [one.path for one in snapshots] + certificates == [path]


def test_a_snapshot_of_a_newer_polypath_is_shown_and_kept_by_prune(folder: Path) -> None:
    path = paper(folder, "snapshots")
    path.write_bytes(path.read_bytes().replace(b'"format_version": ', b'"format_version": 9', 1))
    (shown,) = pp.load(folder).snapshots()
    assert "Upgrade polypath" in shown.damaged and lifecycle.prune(folder)[0] == [] and path.exists()
    lifecycle.remove(folder, "task2")
    assert not path.exists()


def test_a_file_that_cannot_be_opened_as_a_snapshot_blocks_no_pruning(folder: Path) -> None:
    (folder / "snapshots" / "000009-0123456789ab.json").mkdir()
    lifecycle.prune(folder, 0)
    assert not Store(folder).snapshots.files() and pp.load(folder).verify().ok


@contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """Files that the system does not let anybody read for a while; those who run the tests may read everything."""
    read = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self in paths:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        yield


@pytest.mark.parametrize("room", ["snapshots", "certificates", "pages"])
def test_what_cannot_be_read_now_is_not_deleted(folder: Path, room: str) -> None:
    for number in range(80):  # two pages of history
        system = pp.load(folder)
        for name in (f"a{number}", "task0"):
            system.rename(next(iter(system.tasks)), name)
        system.save(folder, snapshot=number == 40)
    lifecycle.rollback(folder, pp.load(folder).snapshots()[0].id)
    kept = sorted(folder.rglob(f"{room}/**/*.json"))
    before = tiny.contents(folder)
    mine = Store(folder).pages.named(folder / "manifest.json")
    with locked(*(path for path in kept if path.stem not in mine)):
        lifecycle.prune(folder)
        said = CliRunner().invoke(app, ["history", str(folder)], env={"COLUMNS": "500"})
        assert said.exit_code == 0 and "`polypath prune` deletes it" not in said.output
        assert room == "certificates" or "Kept: " in said.output
    assert kept and tiny.contents(folder) == before
    assert not [one for one in pp.load(folder).snapshots() if one.damaged]


def test_an_unfinished_removal_whose_note_cannot_be_read_now_waits(folder: Path) -> None:
    pending_file(folder).write_text("{}")
    with locked(pending_file(folder)), pytest.raises(StoreError, match="earlier removal is not finished"):
        lifecycle.remove(folder, "task2")
    assert pending_file(folder).exists() and "task2" in pp.load(folder).tasks
