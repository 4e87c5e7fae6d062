"""Which addresses a manifest names, kept up from one save to the next by what differs between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from polypath.core.changes import differing

if TYPE_CHECKING:
    from polypath.store.manifest import ComponentEntry, Manifest, TaskEntry

E = TypeVar("E")


class Turn(NamedTuple):
    """From one manifest to the next.

    Args:
        manifest: the next.
        counts: address -> by how much more often it is named.
        new: addresses that the one before does not name.
        loose: addresses that the next does not name any more.
    """

    manifest: Manifest
    counts: Mapping[str, int]
    new: list[str]
    loose: set[str]


class References:
    """How often every address is named by the manifest that was read or written last; nothing before that."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know nothing: whatever is named next is new."""
        self._components: Mapping[str, ComponentEntry] = {}
        self._tasks: Mapping[str, TaskEntry] = {}
        self._counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    @property
    def addresses(self) -> Collection[str]:
        """All of them."""
        return self._counts.keys()

    def turned(self, manifest: Manifest) -> Turn:
        """What another manifest names beside what is known; `take` makes it so."""
        counts: Counter[str] = Counter()
        _count(counts, manifest.components, self._components, addresses_of_components)
        _count(counts, manifest.tasks, self._tasks, addresses_of_tasks)
        was = {sha: self._counts.get(sha, 0) for sha, more in counts.items() if more}
        fresh = [sha for sha, before in was.items() if not before]
        loose = {sha for sha, before in was.items() if before and before + counts[sha] == 0}
        return Turn(manifest, counts, fresh, loose)

    def take(self, turn: Turn) -> None:
        """The manifest of a turn is the one on disk now."""
        for sha in turn.loose:
            del self._counts[sha]
        for sha, more in turn.counts.items():
            if more and sha not in turn.loose:
                self._counts[sha] = self._counts.get(sha, 0) + more
        self._components, self._tasks = turn.manifest.components, turn.manifest.tasks


def _count(
    counts: Counter[str], new: Mapping[str, E], old: Mapping[str, E], named: Callable[[Iterable[E]], list[str]]
) -> None:
    """Count what the new entries name and the old do not; what only the old name, downwards."""
    changed = differing(new, old=old)
    replaced = [key for key in changed if key in old]
    gone = old.keys() - new.keys() if len(old) + len(changed) - len(replaced) != len(new) else ()
    counts.update(named(new[key] for key in changed))
    counts.subtract(named(old[key] for key in (*replaced, *gone)))


def addresses_of_components(entries: Iterable[ComponentEntry]) -> list[str]:
    """Every address that they name, each as often as it is named."""
    return _each(entries, "sha256", "auxiliary")


def addresses_of_tasks(entries: Iterable[TaskEntry]) -> list[str]:
    """Every address that they name, each as often as it is named."""
    probes = [probe for probe in map(attrgetter("probe"), entries) if probe is not None]
    return _each(probes, "learned", "saved")


def _each(held: Iterable[Any], *fields: str) -> list[str]:
    known = list(held)
    return [sha for field in fields for sha in map(attrgetter(field), known) if sha is not None]
