"""Files that are either the old one or the new one, whatever happens in between."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from polypath.core.errors import CorruptError, StoreError, Unreadable


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside `path`, flush it to disk and rename it over `path`.

    Args:
        path: final place; its folder must exist.
        write: receives the open file.

    Raises:
        StoreError: the disk is full or not writable; the old file is untouched and the new one gone.
    """
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        _remove(name)
        ours = str(error.filename or "").endswith(".part")  # a name that nobody has ever seen
        said = error.strerror if ours else error
        raise StoreError(f"{path} could not be written ({said}); what was there before is unchanged") from error
    except BaseException:
        _remove(name)
        raise
    sync_folder(path.parent)


def is_leftover(path: Path) -> bool:
    """Whether a file is what `write_atomically` leaves behind when its process is killed."""
    return path.name.startswith(".") and path.name.endswith(".part")


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers left in a folder; only for a folder that nobody else is writing to."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order; NaN and infinities are refused."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode() + b"\n"))


def read_json(path: Path) -> Any:
    """The JSON in a file.

    Raises:
        CorruptError: missing or not JSON; the message names the file.
        Unreadable: it is there and cannot be read.
    """
    return read_json_text(path)[0]


def read_json_text(path: Path) -> tuple[Any, bytes]:
    """The JSON in a file and its text; see `read_json`."""
    try:
        text = path.read_bytes()
        return json.loads(text), text
    except FileNotFoundError:
        raise CorruptError(f"{path} does not exist") from None
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
    except (RecursionError, ValueError) as error:
        raise CorruptError(f"{path} cannot be read as JSON: {error}") from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut (a no-op where folders cannot be flushed).

    Raises:
        StoreError: the disk reports that it could not.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # pragma: no cover - Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # network file systems
            raise StoreError(f"{folder} could not be flushed to disk ({error}); what was there is readable") from error
    finally:
        os.close(descriptor)


def _remove(name: str) -> None:
    if name:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
