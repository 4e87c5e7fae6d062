"""What nobody names is deleted in the end, also where deleting was interrupted, and what somebody names never is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import small
import torch

import polypath as pp
from polypath.core.component import digest
from polypath.store import ComponentEntry, Manifest, Store

TENSORS = {name: {"w": torch.full((3,), float(number))} for number, name in enumerate("abcd")}
SHAS = {name: digest(held) for name, held in TENSORS.items()}
BLOBS = {SHAS[name]: held for name, held in TENSORS.items()}


def naming(names: str) -> Manifest:
    components = {name: ComponentEntry(sha256=SHAS[name], kind="own", size_bytes=12) for name in names}
    return Manifest(polypath="0", network="n", plan={}, method="m", config={}, seed=0, components=components, tasks={})


def left(folder: Path) -> str:
    return "".join(name for name, sha in SHAS.items() if Store(folder).blob_path(sha).exists())


@contextmanager
def failing(room: str, error: type[BaseException]) -> Iterator[None]:
    """Nothing can be deleted from a folder of the system or from those in it."""
    unlink = Path.unlink

    def refused(self: Path, *args: Any, **values: Any) -> None:
        if room in self.parts:
            raise error("not now")
        unlink(self, *args, **values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        yield


def test_what_an_interrupted_save_did_not_delete_the_next_one_does(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(naming("ab"), BLOBS)
    with failing("components", KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        store.write(naming("a"), BLOBS)
    assert left(tmp_path) == "ab"
    store.write(naming("a"), BLOBS)
    assert left(tmp_path) == "a"


def test_what_could_not_be_deleted_goes_with_the_next_save(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(naming("ab"), BLOBS)
    with failing("components", PermissionError):
        store.write(naming("a"), BLOBS)  # saved; what is left is litter
    store.write(naming("ac"), BLOBS)
    assert left(tmp_path) == "ac"


def test_a_snapshot_that_could_not_be_deleted_goes_with_the_next_save(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(naming("ab"), BLOBS)
    store.write(naming("abc"), BLOBS, keep=True)
    with failing("snapshots", PermissionError), pytest.raises(Exception, match="not now"):
        store.write(naming("ac"), BLOBS, retain=0)
    store.write(naming("ac"), BLOBS, retain=0)
    assert left(tmp_path) == "ac" and not store.snapshots.files()


def test_a_write_after_undoing_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(naming("ab"), BLOBS)
    store.write(naming("abc"), BLOBS, keep=True)
    store.undo()
    assert left(tmp_path) == "ab"
    store.write(naming("a"), BLOBS)
    assert left(tmp_path) == "a"


def test_a_write_after_collecting_unread_leaves_nothing_behind(tmp_path: Path) -> None:
    Store(tmp_path).write(naming("ab"), BLOBS)
    store = Store.existing(tmp_path)
    store.collect()
    store.write(naming("a"), BLOBS)
    assert left(tmp_path) == "ab"  # what was not read here is kept
    store.write(naming("a"), BLOBS, retain=0)
    assert left(tmp_path) == "a"


def test_what_a_snapshot_names_stays_until_it_is_pruned(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(naming("ab"), BLOBS)
    for names in ("ac", "ad"):
        store.write(naming(names), BLOBS, keep=True)
    assert left(tmp_path) == "abcd"
    store.prune(1)
    assert left(tmp_path) == "acd"
    store.write(naming("a"), BLOBS, retain=0)
    assert left(tmp_path) == "a"


def test_what_an_interrupted_pruning_left_goes_with_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(naming("ab"), BLOBS)
    store.write(naming("ac"), BLOBS, keep=True)
    for room in ("snapshots", "components"):
        with failing(room, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            store.prune(0)
        assert left(tmp_path) == "abc"
    store.write(naming("ac"), BLOBS, retain=0)
    assert left(tmp_path) == "ac" and not store.snapshots.files()


def test_a_removal_whose_save_was_interrupted_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    system = pp.learn("single", small.suite(small.task(0), small.task(1)), **small.PLAIN, **small.QUIET)
    system.save(tmp_path)
    gone = {system.filed[name].sha256 for name in system.network.path("task1").components}
    system.remove("task1")
    with failing("components", KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        system.save(tmp_path)
    system.save(tmp_path)
    held = {path.stem for path in (tmp_path / "components").rglob("*.safetensors")}
    assert held and not held & gone
