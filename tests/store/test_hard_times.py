"""Full disks, killed writers and unreadable places: what is said, what is left, and what must work all the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import small

import polypath as pp
from polypath import lifecycle
from polypath.core.errors import CorruptError
from polypath.store import Store
from polypath.store.seal import sealed


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


@pytest.mark.parametrize(("place", "says"), [("loop", "symbolic links"), ("file", "Not a directory")])
def test_components_that_cannot_be_read_are_not_called_missing(folder: Path, place: str, says: str) -> None:
    shutil.rmtree(folder / "components")
    if place == "loop":
        (folder / "components").symlink_to("components")
    else:
        (folder / "components").write_text("in the way")
    with pytest.raises(CorruptError, match=f"cannot be read .*{says}") as caught:
        pp.load(folder).predict("task0", small.task(0).test.inputs())
    assert "missing" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format_version": 4, "plan": ' + '{"a":' * 100_000])
def test_a_manifest_nested_without_end_is_damaged(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CorruptError, match=r"manifest\.json cannot be read as JSON"):
        pp.load(folder)
    assert Store(folder).pages.named(folder / "manifest.json") == []


@pytest.mark.parametrize("method", ["rsn2", "hard_sharing"])
def test_a_plan_whose_sizes_are_not_those_of_its_components_is_damaged(tmp_path: Path, method: str) -> None:
    folder = small.learn(method).save(tmp_path / "system")
    values = json.loads((folder / "manifest.json").read_text())
    del values["sha256"]
    text = json.dumps(values).replace('"hidden": [12, 8]', '"hidden": [12, 9]')
    assert text != json.dumps(values)
    (folder / "manifest.json").write_bytes(sealed(text.encode()))
    with pytest.raises(CorruptError, match=r"manifest\.json is damaged"):
        pp.load(folder).predict("task0", small.task(0).test.inputs())
