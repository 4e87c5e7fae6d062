"""One writer a system: a lock that dies with its process, and says who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from polypath.core.errors import Locked, StoreError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the folder's writer lock inside the block; readers need none.

    Raises:
        Locked: another process holds it; the message names host, process and since when.
    """
    import fcntl

    path = folder / ".lock"
    with path.open("ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            text = file.read().decode(errors="replace")
            raise Locked(f"{folder} is being written by {_holder(text)}; try again when it is done") from None
        except OSError as error:  # a file system without locks
            raise StoreError(f"{folder} cannot be locked for writing ({error}); nothing was saved") from error
        facts = {"host": socket.gethostname(), "process": os.getpid(), "since": datetime.now(UTC).isoformat()}
        with suppress(OSError):  # on a full disk too it must be possible to delete
            file.truncate(0)
            file.write(json.dumps(facts).encode())
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"process {facts['process']} on {facts['host']} since {facts['since']}"
    except (ValueError, KeyError):
        return "another process"
