"""One writer a system: a lock that dies with its process, and says who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
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
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Locked(f"{folder} is being written by {_holder(file.read())}; try again when it is done") from None
        except OSError as error:  # a file system without locks
            raise StoreError(f"{folder} cannot be locked for writing ({error}); nothing was saved") from error
        facts = {"host": socket.gethostname(), "process": os.getpid(), "since": datetime.now(UTC).isoformat()}
        file.truncate(0)
        file.write(json.dumps(facts))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"process {facts['process']} on {facts['host']} since {facts['since']}"
    except (ValueError, KeyError):
        return "another process"
