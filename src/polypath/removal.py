"""Forgetting tasks: who else must go, what is freed, what stays behind, and which snapshots cannot live on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polypath.core import accounting
from polypath.core.accounting import Removal
from polypath.core.errors import CorruptError
from polypath.core.files import read_json, write_json
from polypath.store import Event, Manifest, Snapshot, Store
from polypath.store.events import logged
from polypath.store.manifest import read_manifest

if TYPE_CHECKING:
    from polypath.system import System


@dataclass(frozen=True)
class Forgotten:
    """A task that was removed since the system was last saved.

    Args:
        task: its name when it went.
        names: every name it ever had.
        parts: components that were freed or reset with it.
        wholly: whether nothing that its data trained may stay, in snapshots either.
    """

    task: str
    names: frozenset[str]
    parts: frozenset[str]
    wholly: bool


def remove(system: System, task: str, cascade: bool, keep_residue: bool | None) -> Removal:
    """See `System.remove`."""
    going = leaving(system, task, cascade, keep_residue)
    wholly = {name for name in going if _wholly(system, name, keep_residue)}
    freed, reset = release(system, going)
    gone = frozenset((*freed, *reset))
    system.forgotten = [
        *system.forgotten,
        *(Forgotten(name, _names(system.history, name), gone, name in wholly) for name in going),
    ]
    parts = system.network.components()
    traces = {trace for name in going for trace in _traces(system, name)}
    residue = tuple(n for n, held in system.sources.items() if n in parts and not traces.isdisjoint(held))
    system.suite_config = _without(system.suite_config, going)
    system.note("removed", going)
    return Removal(going, tuple(freed), tuple(reset), residue)


def release(system: System, going: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take tasks out of the network and of what is known about them; components freed, and reset."""
    system._load(system.network.components_of(going))
    freed: list[str] = []
    reset: list[str] = []
    for name in going:
        system.tombstones[name] = system.network.tasks[name].private_to
        freed_now, reset_now = system.network.release(name)
        freed += freed_now
        reset += reset_now
        system.entries.pop(name, None)
        system._probed.pop(name, None)
    gone = {*freed, *reset}
    system.sources = {name: held for name, held in system.sources.items() if name not in gone}
    system._absent_auxiliary = {name: sha for name, sha in system._absent_auxiliary.items() if name not in gone}
    system._fused.clear()
    return freed, reset


def leaving(system: System, task: str, cascade: bool, keep_residue: bool | None) -> tuple[str, ...]:
    """The task and, with `cascade`, every task that cannot stay without it, in the order they were added.

    Raises:
        InvalidInput: others build on the task, or on what its data trained where that must go, and `cascade` is
            False; names them.
    """

    def shaped(name: str) -> Sequence[str]:
        return _trained_by(system, name) if _wholly(system, name, keep_residue) else ()

    return accounting.tasks_to_remove(system.network, task, cascade, shaped)


def _wholly(system: System, task: str, keep_residue: bool | None) -> bool:
    """Whether everything that the task's data trained must go: a private task's, unless said otherwise."""
    return system.network.tasks[task].private_to is not None if keep_residue is None else not keep_residue


def _trained_by(system: System, task: str) -> list[str]:
    """Other tasks that use a component which the task's data helped to shape."""
    traces = _traces(system, task)
    held = {name for name, sources in system.sources.items() if not traces.isdisjoint(sources)}
    return [
        name for name in system.tasks if name != task and not held.isdisjoint(system.network.reach(name).components)
    ]


def _traces(system: System, task: str) -> set[str]:
    """What sources call the task's data: its name, and where it was updated, the marks of its earlier versions."""
    found = {task}
    for event, name in named_then(system.history, task):
        if event.what == "removed" and name in event.tasks:
            break
        if event.what == "updated" and name in event.tasks:
            found.add(event.config["traces"][name])
    return found


def named_then(history: Sequence[Event], task: str) -> Iterable[tuple[Event, str]]:
    """Every event, newest first, with what the task was called just after it."""
    name = task
    for event in reversed(history):
        yield event, name
        if event.what == "renamed" and event.tasks[1] == name:
            name = event.tasks[0]


def _names(history: Sequence[Event], task: str) -> frozenset[str]:
    """Every name that a task ever had, also one that a rollback took back: a snapshot may know it by that."""
    found = {task} | {name for _, name in named_then(history, task)}
    for event, undone in logged(history):
        if undone and event.what == "renamed" and event.tasks[0] in found:
            found.add(event.tasks[1])
    return frozenset(found)


def dying(store: Store, forgotten: Sequence[Forgotten], history: Sequence[Event]) -> list[Snapshot]:
    """The snapshots that hold something of the forgotten tasks.

    Args:
        store: of the system.
        forgotten: what was removed since the last save.
        history: of the system as it is about to be saved.
    """
    found = []
    for path in store.snapshots.files():
        try:
            manifest = read_manifest(path)
        except CorruptError:
            found.append(Snapshot.of(path))  # what it holds cannot be told, so it cannot be shown to hold nothing
            continue
        if any(_holds(manifest, one, history) for one in forgotten):
            found.append(Snapshot.of(path, manifest))
    return found


def _holds(manifest: Manifest, one: Forgotten, history: Sequence[Event]) -> bool:
    names = _called(manifest, one, history)
    if not names.isdisjoint(manifest.tasks):
        return True
    return any(
        not names.isdisjoint(entry.sources)
        for name, entry in manifest.components.items()
        if one.wholly or name in one.parts
    )


def _called(manifest: Manifest, one: Forgotten, history: Sequence[Event]) -> frozenset[str]:
    """What a task may be called in an earlier manifest. After a rollback times differ: then every name it ever had."""
    if list(history[: len(manifest.history)]) != manifest.history:
        return one.names
    then = one.task
    for event in reversed(history[len(manifest.history) :]):
        if event.what == "renamed" and event.tasks[1] == then:
            then = event.tasks[0]
    return frozenset({then})


def _without(config: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """The description of a user's own suite without some tasks; of a suite of another kind as it is."""
    if config.get("kind") != "own":
        return dict(config)
    left = [task for task in config.get("tasks", ()) if task.get("name") not in tasks]
    return {**config, "tasks": left} if left else {}


def stale(system: System) -> list[str]:
    """Tasks that certificates still show though neither the system nor a snapshot knows them any more.

    There are none but where a process was killed between saving a removal and redacting.
    """
    assert system.store is not None
    known: set[str] = set()
    for manifest in (system.store.manifest(), *map(read_manifest, system.store.snapshots.files())):
        known |= {name for task in manifest.tasks for _, name in named_then(manifest.history, task)} | {*manifest.tasks}
    shown: set[str] = set()
    for path in certificate_files(system.store.folder):
        values = read_json(path)
        for document in (values, values.get("proof")):
            if isinstance(document, dict):
                shown |= set(document.get("others", {}))
    return sorted(shown - known)


def certificate_files(folder: Path) -> list[Path]:
    """Certificates of a system's folder and reports on what was removed, in the order of their names."""
    return sorted((folder / "certificates").glob("*.json"))


def redact(folder: Path, tasks: Sequence[str], addresses: set[str]) -> list[Path]:
    """Take the values of removed tasks out of every certificate; their names stay. Returns the files changed.

    Args:
        folder: the system's.
        tasks: names of the removed tasks, now and earlier.
        addresses: digests of what is no longer in the system.
    """
    changed = []
    for path in certificate_files(folder):
        values = read_json(path)
        documents = [part for part in (values, values.get("proof")) if isinstance(part, dict)]
        if any([_redact(document, set(tasks), addresses) for document in documents]):
            write_json(path, values)
            changed.append(path)
    return changed


def _redact(values: dict[str, Any], tasks: set[str], addresses: set[str]) -> bool:
    """Whether something was taken out, in place."""
    others, parts = values.get("others", {}), values.get("components", {})
    gone = [name for name, proof in others.items() if name in tasks or proof["was"] in tasks]
    for name in gone:
        del others[name]
    used = {part for proof in others.values() for part in proof["components"]}
    stale = [part for part, proof in parts.items() if part not in used or {proof["before"], proof["after"]} & addresses]
    for part in stale:
        del parts[part]
    if gone:
        values["redacted"] = [*values.get("redacted", []), *gone]
    return bool(gone or stale)
