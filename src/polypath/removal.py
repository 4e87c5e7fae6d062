"""Forgetting tasks: who else must go, what is freed, what stays behind, and which snapshots cannot live on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from polypath.core import accounting
from polypath.core.accounting import Removal
from polypath.core.config import Config
from polypath.core.errors import CorruptError, StoreError, Unreadable
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


class Pending(Config):
    """A removal that is being saved: what is still to be done once the manifest without the tasks is there.

    It lies in the folder from just before that moment until all is done, so that whoever changes the folder next can
    finish what a killed process, or one whose disk was full, could not.

    Args:
        before: sha256 of the manifest that still has the tasks; as long as that is there, nothing was removed.
        names: every name that the tasks ever had.
        files: address of what goes -> bytes of its component file, 0 where it has none.
        snapshots: those that go with them, for the report.
        report: what the deletion report says that was known before; None where nobody asked for one.
        file: name of the report.
        certificates: those that hold values of the tasks; None: nobody has looked yet, and nothing in them is changed.
        damaged: those that cannot be read, and may.
    """

    before: str
    names: tuple[str, ...]
    files: dict[str, int]
    snapshots: tuple[dict[str, Any], ...]
    report: dict[str, Any] | None
    file: str
    certificates: tuple[str, ...] | None = None
    damaged: tuple[str, ...] = ()


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
        except StoreError:
            found.append(Snapshot.read(path))  # what it holds cannot be told, so it cannot be shown to hold nothing
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


def pending_file(folder: Path) -> Path:
    """Where a removal that is not finished is written down."""
    return folder / "certificates" / "removal.pending"


def pending(folder: Path) -> Pending | None:
    """The removal of a folder that is not finished; None where there is none.

    Raises:
        CorruptError: it cannot be read.
    """
    path = pending_file(folder)
    if not path.exists():
        return None
    try:
        return Pending.model_validate(read_json(path))
    except ValidationError as error:
        raise CorruptError(f"{path} is damaged: {error.errors()[0]['msg']}") from error


def begin(
    store: Store,
    manifest: Manifest,
    forgotten: Sequence[Forgotten],
    going: Sequence[Snapshot],
    report: Mapping[str, Any] | None,
) -> Pending:
    """Write down what is to be done when a manifest has been saved.

    Args:
        store: of the system.
        manifest: without the tasks.
        forgotten: the tasks.
        going: snapshots that go with it.
        report: see `Pending`.

    Raises:
        StoreError: that cannot be done, so that nothing may be removed.
    """
    left = manifest.blobs() | store.snapshots.blobs([one.path for one in going])
    held = (store.manifest().blobs() | store.snapshots.blobs()) - left
    paths = {sha: store.blob_path(sha) for sha in held}
    made = Pending(
        before=store.stamp() or "",
        names=tuple(sorted({name for one in forgotten for name in one.names})),
        files={sha: path.stat().st_size if path.exists() else 0 for sha, path in sorted(paths.items())},
        snapshots=tuple(_said(one) for one in going),
        report=None if report is None else dict(report),
        file=next_file(store.folder, "removed").name,
    )
    try:
        pending_file(store.folder).parent.mkdir(exist_ok=True)
        write_json(pending_file(store.folder), made.model_dump(mode="json"))
    except (OSError, StoreError) as error:
        with suppress(OSError):
            pending_file(store.folder).unlink()
        raise StoreError(f"nothing was removed: {error}") from error
    return made


def _said(one: Snapshot) -> dict[str, Any]:
    found = {"id": one.id, "what": one.event.what if one.event else "", "tasks": list(one.tasks)}
    return {**found, "damaged": one.damaged} if one.damaged else found


def next_file(folder: Path, what: str) -> Path:
    """The file of `certificates/` with the next free number; `what` is the second half of its name."""
    where = folder / "certificates"
    names = [path.name for path in where.iterdir()] if where.is_dir() else []
    taken = [int(name[:6]) for name in names if re.match(r"\d{6}-", name)]
    return where / f"{max(taken, default=0) + 1:06d}-{what}.json"


def certificate_files(folder: Path) -> list[Path]:
    """Certificates of a system's folder and reports on what was removed, in the order of their names."""
    return sorted(path for path in (folder / "certificates").glob("*.json") if path.is_file())


def read_certificate(path: Path) -> dict[str, Any]:
    """What a file of `certificates/` says.

    Raises:
        CorruptError: it is not what was written.
    """
    values: dict[str, Any] = read_json(path)
    try:
        for document in _documents(values):
            for proof in document.get("others", {}).values():
                proof["was"], proof["components"]
            for proof in document.get("components", {}).values():
                proof["before"], proof["after"]
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptError(f"{path} is damaged: it is no certificate ({error!r})") from error
    return values


def damaged_certificates(folder: Path) -> dict[Path, str]:
    """Files of `certificates/` that are not what was written -> why; not what cannot be read now. Reads all."""
    found = {}
    for path in certificate_files(folder):
        try:
            read_certificate(path)
        except Unreadable:
            continue
        except CorruptError as error:
            found[path] = str(error)
    return found


def _documents(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in (values, values.get("proof")) if part is not None]


def looked_through(folder: Path, left: Pending) -> Pending:
    """A removal with the certificates that it is about: written down before one is changed, for the report."""
    if left.certificates is not None:
        return left
    holding, damaged = [], []
    for path in certificate_files(folder):
        try:
            values = read_certificate(path)
        except CorruptError:
            damaged.append(path.name)
            continue
        if _taken_out(values, left):
            holding.append(path.name)
    made = left.changed(certificates=tuple(holding), damaged=tuple(damaged))
    write_json(pending_file(folder), made.model_dump(mode="json"))
    return made


def redact(folder: Path, left: Pending) -> None:
    """Take the values of removed tasks out of the certificates that hold them; their names stay.

    Those that cannot be read are deleted, for nobody can tell what is in them.
    """
    for path in certificate_files(folder):
        if path.name in left.damaged:
            path.unlink(missing_ok=True)
        elif path.name in (left.certificates or ()):
            try:
                values = read_certificate(path)
            except CorruptError:  # since then; it must not stand in the way for ever
                path.unlink(missing_ok=True)
                continue
            if _taken_out(values, left):
                write_json(path, values)


def _taken_out(values: dict[str, Any], left: Pending) -> bool:
    """Whether something was taken out of a document, in place."""
    return any([_redact(document, set(left.names), set(left.files)) for document in _documents(values)])


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
