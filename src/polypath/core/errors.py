"""Everything a user can do wrong, as one family of exceptions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

MOST_SHOWN = 40  # names in a message: every method and every recipe, not every task of a large system


class PolypathError(Exception):
    """Base of every error polypath raises on purpose; the command line prints it and exits with 2."""


class InvalidInput(PolypathError, ValueError):
    """An argument, a file or a data set is not what is required; says which, what and what to do."""


class NeedsValidation(InvalidInput):
    """A task without validation examples, where something selects by them."""


class UnknownName(PolypathError, KeyError):
    """A name that no table holds; offers the nearest one that it does.

    Args:
        kind: what the name should denote ("task", "recipe", "key of method").
        received: the name as given.
        known: every valid name.
    """

    def __init__(self, kind: str, received: str, known: Iterable[str]) -> None:
        self.kind, self.received, self.known = kind, received, tuple(known)
        super().__init__(self._text())

    def _text(self) -> str:
        close = nearest(self.received, self.known)
        more = f" and {len(self.known) - MOST_SHOWN:,} more" if len(self.known) > MOST_SHOWN else ""
        shown = ", ".join(sorted(self.known, key=_in_order)[:MOST_SHOWN]) + more
        hint = f" Did you mean {close!r}?" if close else ""
        return f"unknown {self.kind} {self.received!r}.{hint} Known: {shown or '(none)'}."

    def __str__(self) -> str:  # KeyError would print the repr of its argument
        return self._text()


class SealedError(PolypathError):
    """Test labels were asked for outside `Run.record_test`."""


class IsolationError(PolypathError):
    """A task outside the running stage changed although the method promises that it cannot."""


class StoreError(PolypathError):
    """A system on disk cannot be read or written; the old system is still there."""


class CorruptError(StoreError, ValueError):
    """A file's contents are not what its name or the manifest says."""


class Unreadable(CorruptError):
    """A file is there, but the system does not let it be read; what it holds may be whole."""


class NewerFormat(StoreError):
    """The file was written by a newer polypath."""


class Locked(StoreError):
    """Another process is writing this system; the message says which."""


class WorkerLost(PolypathError):
    """The processes that did a job died under it again and again; the message says how and what helps."""


class Cancelled(PolypathError):
    """The run was stopped from outside (Ctrl-C or `Run.cancel`); what is finished is on disk."""


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts as people do: task2 before task10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def nearest(received: str, known: Iterable[str]) -> str | None:
    """The known name closest to `received`, or None where none is close (ratio under 0.6)."""
    found = difflib.get_close_matches(received, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def collect(problems: Sequence[str], subject: str) -> None:
    """Raise one `InvalidInput` that lists every problem; return quietly where there is none."""
    if not problems:
        return
    if len(problems) == 1:
        raise InvalidInput(f"{subject}: {problems[0]}")
    raise InvalidInput(f"{subject}: {len(problems)} problems:\n" + "\n".join(f"  - {p}" for p in problems))
