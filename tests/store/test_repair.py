"""What lies damaged on disk and whole in memory is written again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import small
from full_disk import Failing

import polypath as pp
import polypath.core.files as files
from polypath.core.errors import StoreError
from polypath.store import Store


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.learn().save(tmp_path_factory.mktemp("learned") / "system")


@pytest.fixture
def folder(learned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned, tmp_path / "system"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flipped(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[-2] ^= 16
    path.unlink()  # what is mapped into memory stays as it is
    path.write_bytes(held)


def missing(path: Path) -> None:
    path.unlink()


def component(folder: Path) -> Path:
    store = Store(folder)
    return store.blob_path(next(iter(store.manifest().components.values())).sha256)


@pytest.mark.parametrize("damage", [cut, flipped, missing])
def test_what_is_damaged_where_it_is_saved_for_the_first_time_is_written(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    other = pp.load(folder).save(tmp_path / "other")
    damage(component(other))
    pp.load(folder).save(other)  # a store that knows nothing about what lies there
    assert pp.load(other).verify().ok


@pytest.mark.parametrize("damage", [flipped, missing])
def test_what_verify_found_damaged_is_written_by_the_next_save(folder: Path, damage: Callable[[Path], None]) -> None:
    system = pp.load(folder)
    system.load_all()
    path = component(folder)
    good = path.read_bytes()
    damage(path)
    assert len(system.verify().damaged) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", Failing("replace", 1))
        with pytest.raises(StoreError, match="No space left"):
            system.save(folder)
    assert path.exists() == (damage is flipped)  # a save that fails takes nothing away
    system.save(folder)
    assert path.read_bytes() == good and system.verify().ok and pp.load(folder).verify().ok


def test_what_is_in_memory_nowhere_is_not_invented(folder: Path) -> None:
    system = pp.load(folder)
    flipped(component(folder))
    assert not system.verify().ok
    system.save(folder)
    assert not system.verify().ok and not pp.load(folder).verify().ok


def test_a_damaged_page_that_is_to_be_written_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polypath.store.pages.PAGE", 2)
    manifest = Store(folder).manifest()
    Store(folder).write(manifest, {})
    pages = {path: path.read_bytes() for path in (folder / "pages").rglob("*.json")}
    for path in pages:
        cut(path)
    Store(folder).write(manifest, {})  # which knows none of them
    assert pages and {path: path.read_bytes() for path in pages} == pages
