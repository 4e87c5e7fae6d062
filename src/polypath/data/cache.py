"""Arrays that are expensive to make, kept on disk as .npy and memory-mapped on later opens."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

FORMAT = 1
# Contents are checked byte by byte up to this size (about 0.2 s); larger files by their length only, so that opening
# a set of many gigabytes stays a memory map.
CHECKED_BYTES = 256 * 2**20


def folder() -> Path:
    """Where caches lie: $POLYPATH_CACHE, else ~/.cache/polypath."""
    given = os.environ.get("POLYPATH_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "polypath"


def stamp(files: Iterable[Path], absent: bool = False) -> list[tuple[str, int, int]]:
    """Path, size and modification time of every file: what a cache key depends on.

    Args:
        files: the files.
        absent: whether files may be missing, which is noted, or are an OSError.
    """
    out = []
    for file in files:
        if absent and not file.exists():
            out.append((str(file.absolute()), -1, 0))
            continue
        status = file.stat()
        out.append((str(file.resolve()), status.st_size, status.st_mtime_ns))
    return out


def cached(name: str, key: object, build: Callable[[], np.ndarray]) -> np.ndarray:
    """The array `build()` returns, from disk where an intact copy with the same key is there.

    Args:
        name: readable beginning of the file name.
        key: JSON values on which the content depends (`stamp` of the files, decoding parameters).
        build: makes the array.

    Returns:
        A memory-mapped array (copy-on-write: the file never changes through it), or the plain array where the cache
        cannot be written (read-only or full disk; logged as a warning).
    """
    digest = hashlib.sha256(json.dumps([FORMAT, key]).encode()).hexdigest()[:20]
    readable = re.sub(r"[^\w.-]+", "_", name)[-60:]
    path = folder() / f"{readable}-{digest}.npy"
    found = _read(path)
    if found is not None:
        return found
    values = np.ascontiguousarray(build())
    try:
        _write(path, values)
    except OSError as error:
        log.warning("cache %s cannot be written (%s); the data stays in memory", path, error)
        return values
    mapped = _read(path)
    return values if mapped is None else mapped


def _read(path: Path) -> np.ndarray | None:
    note = path.with_suffix(".json")
    if not path.exists() or not note.exists():
        return None
    try:
        written = json.loads(note.read_text())
        if path.stat().st_size != written["bytes"]:
            raise ValueError(f"{path.stat().st_size} bytes, {written['bytes']} were written")
        values: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
        if values.nbytes <= CHECKED_BYTES and _checksum(values) != written["crc32"]:
            raise ValueError("checksum differs")
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("cache %s is damaged (%s); it is built again", path, error)
        return None
    return values


def _write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, values, allow_pickle=False)
            size = file.tell()
        note = {"bytes": size, "crc32": _checksum(values) if values.nbytes <= CHECKED_BYTES else None}
        _replace(path, temporary, json.dumps(note))
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _replace(path: Path, temporary: str, note: str) -> None:
    # The note goes last: an array without its note, or with another writer's, is read as absent and built again.
    os.replace(temporary, path)
    handle, temporary_note = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "w") as file:
        file.write(note)
    os.replace(temporary_note, path.with_suffix(".json"))


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(values.reshape(-1).view(np.uint8).data) if values.size else 0
