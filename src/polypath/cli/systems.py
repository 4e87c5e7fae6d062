"""Opening a system that was named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polypath.system import System


def folder_of(folder: str) -> Path:
    """The folder of the system that is meant: itself, or the system/ of a run's folder.

    It may be damaged: `rollback` takes it as well.

    Raises:
        StoreError: neither holds one; as `opened`.
    """
    for path in (Path(folder), Path(folder) / "system"):
        if (path / "manifest.json").exists():
            return path
    store = opened(folder).store
    assert store is not None
    return store.folder


def opened(folder: str) -> System:
    """The system in a folder, or in the system/ of a run's folder.

    Raises:
        StoreError: neither holds one; names the systems found further below.
    """
    from polypath.core.errors import StoreError
    from polypath.system import load

    path = Path(folder)
    if not (path / "manifest.json").exists() and (path / "system" / "manifest.json").exists():
        return load(path / "system")
    try:
        return load(path)
    except StoreError as error:
        below = sorted(path.glob("*/seed-*/system/manifest.json")) if path.is_dir() else []
        if not below:
            raise
        found = ", ".join(str(manifest.parent) for manifest in below[:5]) + (", ..." if len(below) > 5 else "")
        raise StoreError(f"{error}; this folder is a run of several systems, name one of them: {found}") from None
