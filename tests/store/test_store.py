"""A system's folder: content addressing, durability when the disk fails, locks, files that are not what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from full_disk import Failing

import polypath as pp
import polypath.core.files as files
from polypath.core.component import digest
from polypath.core.errors import CorruptError, Locked, NewerFormat, StoreError
from polypath.store import Manifest, Store, writing
from polypath.store.seal import sealed
from polypath.system import System


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a saved system of two tasks whose paths share nothing but are in one pool."""
    folder = tmp_path_factory.mktemp("learned") / "system"
    rows = {"task1": [[0]] * 9, "task2": [[1]] * 9}
    tiny.learn(tiny.suite(2), selected=1, epochs=1, mode="sequential", paths=rows).save(folder)
    return folder


@pytest.fixture
def folder(learned: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    import shutil

    return Path(shutil.copytree(learned, tmp_path / "system"))


def blobs(folder: Path) -> list[Path]:
    return sorted((folder / "components").rglob("*.safetensors"))


def changed(system: System) -> System:
    """The system with another head of task1."""
    with torch.no_grad():
        system.load_all()
        system.network.state_dict()["heads.t0.bias"].add_(1)
    return system


def whole(folder: Path) -> bool:
    """Whether everything is as saved. (`verify().ok` also asks whether an exact method let task1 drift: it did.)"""
    found = pp.load(folder).verify()
    return not found.damaged and all(task.replay == "identical" for task in found.tasks.values())


# ---- content addressing ---------------------------------------------------------------------------------------


def test_a_file_is_named_by_the_digest_of_its_contents(learned: Path) -> None:
    store = Store(learned)
    found = blobs(learned)
    assert {path.stem for path in found} == store.manifest().blobs()
    for path in found:
        assert path.parent.name == path.stem[:2]
        assert digest(store.tensors(path.stem)) == path.stem


def test_equal_components_are_stored_once(tmp_path: Path) -> None:
    system = tiny.learn(tiny.suite(2), selected=1, modules=1, epochs=1, mode="single")
    state = system.network.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            if key.startswith("pool.") and "-t1." in key:
                value.copy_(state[key.replace("-t1.", "-t0.")])
    system.save(tmp_path / "s")
    entries = Store(tmp_path / "s").manifest().components
    for layer in range(1, 10):
        assert entries[f"layer{layer}.module00.t0"].sha256 == entries[f"layer{layer}.module00.t1"].sha256
    # nine modules, two heads, the answers of two tasks, and task2's before its modules were replaced
    assert len(blobs(tmp_path / "s")) == 9 + 2 + 2 + 1


def test_a_second_save_writes_only_what_changed_and_collects_what_is_left(folder: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in blobs(folder)}
    old = Store(folder).manifest()
    stray = folder / "components" / "ab" / ("ab" + "0" * 62 + ".safetensors")
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"from a save that was killed")
    part = folder / "components" / "ab" / ".x.safetensors.abc.part"
    part.write_bytes(b"half")
    (folder / ".manifest.json.abc.part").write_bytes(b"half")
    changed(pp.load(folder)).save(folder)
    new = Store(folder).manifest()
    moved = [name for name in old.components if old.components[name].sha256 != new.components[name].sha256]
    assert moved == ["head.t0"]
    kept = {path: at for path, at in times.items() if path.exists()}
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    assert len(blobs(folder)) - len(kept) == 2  # the head and task1's answers
    assert not stray.exists() and not part.exists() and not list(folder.glob("*.part"))
    assert {path.stem for path in blobs(folder)} == new.blobs()


def test_saving_again_writes_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in blobs(folder)}
    store = Store(folder)
    assert store.write(store.manifest(), {}) == 0
    pp.load(folder).save(folder)
    assert {path: path.stat().st_mtime_ns for path in blobs(folder)} == before


def test_a_loaded_system_saves_whole_to_another_folder(folder: Path, tmp_path: Path) -> None:
    system = pp.load(folder)
    system.predict("task1", tiny.pixels(1, 0))  # some components are in memory, some are not
    system.save(tmp_path / "copy")
    assert {p.name for p in blobs(tmp_path / "copy")} == {p.name for p in blobs(folder)}
    assert pp.load(tmp_path / "copy").verify().ok


# ---- durability -----------------------------------------------------------------------------------------------


# two component files are written (head, answers), then two folders flushed, then the manifest and its folder
@pytest.mark.parametrize(
    ("name", "count"), [("fdopen", 1), ("fsync", 1), ("fsync", 2), ("fsync", 3), ("fsync", 5), ("fsync", 7),
                        ("replace", 1), ("replace", 2), ("replace", 3), ("chmod", 1), ("chmod", 3)]
)  # fmt: skip
def test_a_full_disk_leaves_the_old_system(
    folder: Path, name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, old = changed(pp.load(folder)), (folder / "manifest.json").read_bytes()
    expected = pp.load(folder).predict("task1", tiny.pixels(3, 0)).probabilities
    monkeypatch.setattr(files, "os", Failing(name, count))
    with pytest.raises(StoreError, match="No space left"):
        system.save(folder)
    monkeypatch.undo()
    assert (folder / "manifest.json").read_bytes() == old
    again = pp.load(folder)
    assert again.verify().ok
    assert torch.equal(again.predict("task1", tiny.pixels(3, 0)).probabilities, expected)
    system.save(folder)  # and once there is room again, it works
    assert whole(folder)
    assert not list(folder.rglob("*.part"))


def test_an_error_after_the_rename_leaves_the_new_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = changed(pp.load(folder))
    monkeypatch.setattr(files, "os", Failing("fsync", 8))  # the last: the folder that holds the new manifest
    with pytest.raises(StoreError, match="flushed"):
        system.save(folder)
    monkeypatch.undo()
    assert whole(folder)


def test_a_folder_that_cannot_be_made(tmp_path: Path, learned: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="file"):
            pp.load(learned).save(bad)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, learned: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="thesis.tex"):
        pp.load(learned).save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_process_s_save_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    first, second = pp.load(folder), pp.load(folder)
    second.load_all()
    changed(first).save(folder)
    kept = tiny.contents(folder)
    with pytest.raises(StoreError, match="saved by another process"):
        second.save(folder)
    assert tiny.contents(folder) == kept
    second.save(tmp_path / "elsewhere")
    assert pp.load(tmp_path / "elsewhere").verify().ok


def test_a_reader_whose_component_was_collected_is_told_to_load_again(folder: Path) -> None:
    reader = pp.load(folder)
    changed(pp.load(folder)).save(folder)
    with pytest.raises(CorruptError, match="saved again since it was loaded"):
        reader.predict("task1", tiny.pixels(1, 0))
    assert reader.predict("task2", tiny.pixels(1, 0)).labels


# ---- lock -----------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
sys.path.insert(0, {src!r})
from pathlib import Path
from polypath.store.lock import writing
with writing(Path({folder!r})):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_writes_and_the_lock_dies_with_its_process(folder: Path) -> None:
    src = str(Path(pp.__file__).parents[1])
    code = HOLDER.format(src=src, folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=f"process {holder.pid} on "):
            pp.load(folder).save(folder)
        assert pp.load(folder).verify().ok  # readers need no lock
        holder.kill()
        holder.wait()
    pp.load(folder).save(folder)


def test_two_writers_in_one_process(folder: Path) -> None:
    with writing(folder), pytest.raises(Locked, match=str(os.getpid())):
        pp.load(folder).save(folder)


# ---- files that are not what they say -------------------------------------------------------------------------


def test_a_folder_that_is_no_system(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        pp.load(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        pp.load(tmp_path)


def edited(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    del values["sha256"]
    edit(values)
    path.write_bytes(sealed(json.dumps(values).encode()))


def first(values: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = next(iter(values["components"].values()))
    return entry


@pytest.mark.parametrize(
    ("edit", "error", "says"),
    [
        (lambda v: v.update(format_version=99), NewerFormat, "format version 99.*Upgrade"),
        (lambda v: v.update(format_version="x"), CorruptError, "no format_version"),
        (lambda v: v.pop("components"), CorruptError, "components: required"),
        (lambda v: v.update(tasks=3), CorruptError, "tasks"),
        (lambda v: first(v).update(sha256="../../../etc/passwd"), CorruptError, "sha256"),
        (lambda v: v["components"].pop("head.t0"), CorruptError, "head.t0"),
        (lambda v: v["plan"].pop("tasks"), CorruptError, "plan"),
        (lambda v: v["plan"]["config"].update(width="wide"), CorruptError, "width"),
        (lambda v: v.update(network="os:system"), CorruptError, "unknown network"),
    ],
)
def test_a_damaged_manifest_says_where(folder: Path, edit: Any, error: type[Exception], says: str) -> None:
    edited(folder, edit)
    with pytest.raises(error, match=says) as caught:
        pp.load(folder)
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": true}'])
def test_a_manifest_that_is_no_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CorruptError, match=r"manifest\.json"):
        pp.load(folder)


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[-2] ^= 16
    path.write_bytes(held)


def foreign(path: Path) -> None:
    other = next(p for p in blobs(path.parents[2]) if p.stat().st_size != path.stat().st_size)
    path.write_bytes(other.read_bytes())


def text(path: Path) -> None:
    path.write_text("not tensors at all, but long enough to look like some")


@pytest.mark.parametrize("damage", [missing, truncated, emptied, flipped, foreign, text], ids=lambda f: f.__name__)
def test_damage_is_named_by_component_and_task_and_others_still_answer(folder: Path, damage: Any) -> None:
    name = "layer3.module00"  # on task1's path, not on task2's
    path = Store(folder).blob_path(Store(folder).manifest().components[name].sha256)
    expected = pp.load(folder).predict("task2", tiny.pixels(3, 0)).probabilities
    damage(path)
    system = pp.load(folder)
    with pytest.raises(CorruptError, match=rf"{name}.*task1(?!.*task2).*{path.name}"):
        system.predict("task1", tiny.pixels(1, 0))
    assert torch.equal(system.predict("task2", tiny.pixels(3, 0)).probabilities, expected)
    found = pp.load(folder).verify()
    assert list(found.damaged) == [name] and path.name in found.damaged[name]
    assert found.failing == ["task1"] and found.tasks["task1"].damaged == (name,)
    assert not found.ok and found.tasks["task2"].replay == "identical"
    assert name in found.summary() and "task1" in found.summary()


def test_damaged_answers_are_noticed(folder: Path) -> None:
    probe = Store(folder).manifest().tasks["task2"].probe
    assert probe is not None
    flipped(Store(folder).blob_path(probe.saved))
    found = pp.load(folder).verify()
    assert found.failing == ["task2"] and found.tasks["task2"].replay == "unreadable"


def test_nothing_on_the_load_path_unpickles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refused)
    system = pp.load(folder)
    assert system.predict("task1", tiny.pixels(2, 0)).labels and system.verify().ok


def test_manifest_round_trip(learned: Path) -> None:
    found = Store(learned).manifest()
    assert Manifest.model_validate_json(found.model_dump_json()) == found
