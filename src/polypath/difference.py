"""What differs between two states of a system: tasks, components, bytes, metrics; from manifests alone."""

from __future__ import annotations

import logging
from pathlib import Path

from polypath.core.config import Config
from polypath.core.errors import CorruptError, InvalidInput
from polypath.nn import network_class
from polypath.store import Manifest, Store
from polypath.store.manifest import read_manifest

log = logging.getLogger(__name__)
CURRENT = "current"


class MetricChange(Config):
    """A test metric of one task, None where it was not measured."""

    task: str
    metric: str
    before: float | None
    after: float | None


class Difference(Config):
    """From one state to another.

    Args:
        before, after: which states, ids of snapshots or `current`.
        added, removed: tasks.
        renamed: old name -> new name, for tasks whose components and recorded answers are the same.
        altered: tasks that are in both and whose definition, path or components differ.
        components_added, components_removed, components_changed: names.
        new_bytes: of the component files that only the later state needs.
        freed_bytes: of those that only the earlier one needs.
        metrics: those that differ, of tasks in both.
    """

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: dict[str, str]
    altered: tuple[str, ...]
    components_added: tuple[str, ...]
    components_removed: tuple[str, ...]
    components_changed: tuple[str, ...]
    new_bytes: int
    freed_bytes: int
    metrics: tuple[MetricChange, ...]

    @property
    def empty(self) -> bool:
        """Whether the two are the same."""
        return not (
            self.added
            or self.removed
            or self.renamed
            or self.altered
            or self.components_added
            or self.components_removed
            or self.components_changed
            or self.metrics
        )


def difference(folder: str | Path, before: str | None = None, after: str | None = None) -> Difference:
    """Compare two states of the system in a folder.

    Args:
        folder: the system's.
        before: id of a snapshot, or `current`; None: the newest snapshot that can be read, and a warning names what is
            passed by.
        after: id of a snapshot; None or `current`: the system as it is.

    Raises:
        StoreError: the folder holds no system.
        UnknownName: no such snapshot.
        InvalidInput: no snapshot is there.
        CorruptError: a snapshot that was asked for is damaged, or all of them are.
    """
    store = Store.existing(folder)
    first, old = _newest(store) if before is None else _state(store, before)
    last, new = _state(store, after or CURRENT)
    return compared(old, new, store, first, last)


def _newest(store: Store) -> tuple[str, Manifest]:
    """The newest snapshot that can be read; after a rollback over a damaged manifest the newest of all cannot."""
    files = store.snapshots.files()
    if not files:
        raise InvalidInput(
            f"{store.folder}: no snapshot to compare with; adding, updating or renaming a task keeps one"
        )
    damaged: list[str] = []
    for path in reversed(files):
        name = path.stem.partition("-")[2]
        try:
            manifest = read_manifest(path)
        except CorruptError:
            damaged.append(name)
            continue
        if damaged:
            log.warning("snapshot %s cannot be read and is passed by; `polypath prune` deletes it", ", ".join(damaged))
        return name, manifest
    raise CorruptError(
        f"{store.folder}: none of its {len(files)} snapshot(s) can be read; `polypath prune` deletes them"
    )


def _state(store: Store, wanted: str) -> tuple[str, Manifest]:
    if wanted == CURRENT:
        return CURRENT, store.manifest()
    path = store.snapshots.file(wanted)
    return path.stem.partition("-")[2], read_manifest(path)


def compared(old: Manifest, new: Manifest, store: Store, first: str, last: str) -> Difference:
    """The difference of two manifests of one store.

    Args:
        old: the earlier.
        new: the later.
        store: holds what they name.
        first: what the earlier is called.
        last: what the later is called.
    """
    renamed = _renamed(old, new)
    parts, now = old.components, new.components
    moved = [name for name in parts if name in now and parts[name].sha256 != now[name].sha256]
    before, after = old.blobs(), new.blobs()
    return Difference(
        before=first,
        after=last,
        added=tuple(name for name in new.tasks if name not in old.tasks and name not in renamed.values()),
        removed=tuple(name for name in old.tasks if name not in new.tasks and name not in renamed),
        renamed=renamed,
        altered=tuple(_altered(old, new, renamed, set(moved))),
        components_added=tuple(name for name in now if name not in parts),
        components_removed=tuple(name for name in parts if name not in now),
        components_changed=tuple(moved),
        new_bytes=_bytes(store, after - before),
        freed_bytes=_bytes(store, before - after),
        metrics=tuple(_metrics(old, new, renamed)),
    )


def _renamed(old: Manifest, new: Manifest) -> dict[str, str]:
    """Tasks that went and tasks that came with the very same recorded answers, paired."""
    came = [name for name in new.tasks if name not in old.tasks]
    found: dict[str, str] = {}
    for name, entry in old.tasks.items():
        if name in new.tasks or entry.probe is None:
            continue
        same = [other for other in came if other not in found.values() and new.tasks[other].probe == entry.probe]
        if same:
            found[name] = same[0]
    return found


def _altered(old: Manifest, new: Manifest, renamed: dict[str, str], moved: set[str]) -> list[str]:
    was = network_class(old.network).described(old.plan)
    now = network_class(new.network).described(new.plan)
    found = []
    for name in old.tasks:
        other = renamed.get(name, name)
        if other in now.tasks and name in was.tasks:
            path = was.reach(name)
            same = was.tasks[name].renamed(other) == now.tasks[other] and path.steps == now.reach(other).steps
            if not same or not moved.isdisjoint(path.components):
                found.append(other)
    return found


def _metrics(old: Manifest, new: Manifest, renamed: dict[str, str]) -> list[MetricChange]:
    found = []
    for name, entry in old.tasks.items():
        other = renamed.get(name, name)
        if other not in new.tasks:
            continue
        then, now = entry.metrics, new.tasks[other].metrics
        for metric in dict.fromkeys((*then, *now)):
            if then.get(metric) != now.get(metric):
                found.append(MetricChange(task=other, metric=metric, before=then.get(metric), after=now.get(metric)))
    return found


def _bytes(store: Store, addresses: set[str]) -> int:
    paths = (store.blob_path(address) for address in addresses)
    return sum(path.stat().st_size for path in paths if path.exists())
