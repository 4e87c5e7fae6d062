"""No change of a manifest goes unnoticed, and a folder with a damaged one is not lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import polypath as pp
from polypath import lifecycle
from polypath.cli import app
from polypath.core.errors import CorruptError
from polypath.difference import difference
from polypath.store import Store
from polypath.store.seal import intact, sealed


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.learn().save(tmp_path_factory.mktemp("learned") / "system")


@pytest.fixture
def folder(learned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned, tmp_path / "system"))


def test_the_seal_is_the_sha256_of_what_follows_it(learned: Path) -> None:
    text = (learned / "manifest.json").read_bytes()
    first, _, rest = text.partition(b",")  # `{ "sha256": "...",`
    assert json.loads(first + b"}") == {"sha256": hashlib.sha256(rest).hexdigest()}


@given(st.dictionaries(st.text(), st.integers(), min_size=1).map(lambda held: {**held, "sha": 1}), st.data())
def test_any_other_byte_breaks_the_seal(held: dict[str, Any], data: st.DataObject) -> None:
    text = sealed(json.dumps(held).encode())
    assert intact(text) and json.loads(text).keys() == held.keys() | {"sha256"}
    at = data.draw(st.integers(text.index(b",") - 2, len(text) - 1))
    assert not intact(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]) and not intact(text[:-1])


CHANGES: dict[str, Callable[[str], str]] = {
    "a digit of a mean": lambda text: text.replace('"mean": [', '"mean": [1', 1),
    "labels": lambda text: text.replace('"class0", "class1"', '"class1", "class0"', 1),
    "private": lambda text: text.replace('"private_to": null', '"private_to": "x"', 1),
    "no answers": lambda text: text.replace('"probe": {', '"probe": null, "facts": {', 1),
    "an earlier format": lambda text: text.replace('"format_version": 4', '"format_version": 3', 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_manifest_is_noticed(folder: Path, change: str) -> None:
    file = folder / "manifest.json"
    text = file.read_text()
    file.write_text(CHANGES[change](text))
    assert file.read_text() != text
    with pytest.raises(CorruptError, match="manifest.json.*(restore it from a copy|sha256)"):
        pp.load(folder)


@pytest.mark.parametrize("cut", [False, True])
def test_a_folder_with_a_damaged_manifest_goes_back_to_a_snapshot(folder: Path, cut: bool) -> None:
    expected = small.answers(pp.load(folder), "task1")
    lifecycle.add(folder, small.suite(small.task(2)), **small.QUIET)
    (kept,) = pp.load(folder).snapshots()
    file = folder / "manifest.json"
    damaged = file.read_bytes()[:-9] if cut else file.read_bytes().replace(b"class0", b"class9", 1)
    file.write_bytes(damaged)
    with pytest.raises(CorruptError, match=f"polypath rollback {folder} {kept.id}"):
        pp.load(folder)
    done = CliRunner().invoke(app, ["rollback", str(folder), kept.id])
    assert done.exit_code == 0, done.output
    system = pp.load(folder)
    assert list(system.tasks) == ["task0", "task1"] and system.verify().ok
    assert small.answers(system, "task1").equal(expected)
    last = system.snapshots()[-1]
    assert last.damaged and last.path.read_bytes() == damaged
    assert [one.id for one in lifecycle.prune(folder)[0]] == [last.id]


def test_a_damaged_newest_snapshot_is_passed_by(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (2, 3):
        lifecycle.add(folder, small.suite(small.task(number)), **small.QUIET)
    first, last = pp.load(folder).snapshots()
    last.path.write_bytes(last.path.read_bytes()[:100])
    found = difference(folder)
    assert (found.before, found.added) == (first.id, ("task2", "task3")) and last.id in caplog.text
    with pytest.raises(CorruptError, match=last.path.name):  # where it is asked for
        difference(folder, last.id)
    file = folder / "manifest.json"
    text = file.read_bytes()
    file.write_bytes(text[:200])
    with pytest.raises(CorruptError, match=f"polypath rollback {folder} {first.id}"):
        pp.load(folder)
    first.path.write_bytes(b"{")
    with pytest.raises(CorruptError, match="restore it from a copy of the system$"):
        pp.load(folder)
    file.write_bytes(text)
    with pytest.raises(CorruptError, match="none of its 2 snapshot"):
        difference(folder)


def test_a_task_without_recorded_answers_is_not_called_fine(folder: Path) -> None:
    store, system = Store(folder), pp.load(folder)
    system.entries["task1"] = system.entries["task1"].changed(probe=None)
    system.save(folder)
    assert store.manifest().tasks["task1"].probe is None
    found = pp.load(folder).verify()
    assert found.failing == found.unrecorded == ["task1"] and not found.ok
    assert "without a recorded answer, which others have: task1" in found.summary()
    system.entries["task0"] = system.entries["task0"].changed(probe=None)
    assert system.verify().ok  # nobody recorded any
