"""Whole changes of a system's folder: locked from the first moment, proved at the end, undone if anything fails."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polypath.certificate import Certificate, Measured, certify, drop_before, measured, write
from polypath.core.errors import CorruptError, InvalidInput, IsolationError, StoreError
from polypath.deletion import Deletion, report
from polypath.learning import as_suite
from polypath.nn.own import Source, offer
from polypath.snapshot import finish_earlier, restored, save, take
from polypath.store import Snapshot, Store
from polypath.store.manifest import read_manifest
from polypath.system import System, load


@dataclass(frozen=True)
class Change:
    """What was done to a folder.

    Args:
        system: as it is now.
        certificate: what that did to the other tasks; None where none was asked for.
        path: where the certificate is.
        snapshot: what it was before, to roll back to; None where no snapshots are kept.
    """

    system: System
    certificate: Certificate | None
    path: Path | None
    snapshot: Snapshot | None


def add(
    folder: str | Path, data: Any, *, proof: bool = True, modules: Mapping[str, Source] | None = None, **settings: Any
) -> Change:
    """Learn new tasks in the system of a folder; needs no data of tasks it knows, unless the method is joint.

    Args:
        folder: the system's.
        data: a TaskData, several, or a Suite.
        proof: hash and replay every other task before and after, and write a certificate.
        modules: as in `polypath.load`.
        settings: as in `System.learn`.

    Raises:
        Locked: another process changes the system; says which, where, and since when.
        InvalidInput: the data of known tasks is needed and not there (named), or nothing is new.
        IsolationError: an exact method changed another task; nothing was saved.
    """
    with changing(folder, modules) as system:
        suite = as_suite(data)
        new = [name for name in suite.names if name not in system.tasks]
        before = measured(system) if proof else None
        system.learn(suite, **settings)
        return _commit(system, before, "added", new)


def update(
    folder: str | Path,
    data: Any,
    tasks: Sequence[str] | None = None,
    *,
    proof: bool = True,
    modules: Mapping[str, Source] | None = None,
    **settings: Any,
) -> Change:
    """Learn known tasks of a folder's system again from other data; see `System.update`, and `add` for the rest."""
    with changing(folder, modules) as system:
        suite = as_suite(data)
        before = measured(system) if proof else None
        system.update(suite, tasks=tasks, **settings)
        return _commit(system, before, "updated", list(suite.names if tasks is None else tasks))


def rename(folder: str | Path, old: str, new: str, *, modules: Mapping[str, Source] | None = None) -> Change:
    """Call a task of a folder's system otherwise; see `System.rename`."""
    with changing(folder, modules) as system:
        before = measured(system)
        system.rename(old, new)
        return _commit(system, before, "renamed", [], {new: old})


def rollback(folder: str | Path, snapshot: str, *, modules: Mapping[str, Source] | None = None) -> System:
    """Make a folder's system what a snapshot holds; what it was becomes a snapshot. See `System.rollback`.

    That works also where the manifest is damaged; then the damaged file is kept, and `prune` deletes it.
    """
    try:
        Store.existing(folder).manifest()
    except CorruptError:
        return _revived(folder, snapshot, modules)
    with changing(folder, modules) as system:
        system.rollback(snapshot)
        with uninterrupted():
            system.save(folder)
        return system


def _revived(folder: str | Path, snapshot: str, modules: Mapping[str, Source] | None) -> System:
    """The system of a snapshot, for a folder whose manifest cannot be read."""
    for name, module in (modules or {}).items():
        offer(name, module)
    store = Store.existing(folder)
    with store.hold(), uninterrupted():
        file = store.snapshots.file(snapshot)
        manifest = read_manifest(file)
        network = restored(store, manifest, lazily=True)
        system = System(network, method=manifest.method, config=manifest.config, seed=manifest.seed)
        system.store = store
        take(system, manifest, network)
        system.note("rolled back", list(system.tasks), config={"snapshot": file.stem.partition("-")[2]})
        store.replace_unread()
        save(system, store.folder, keep=True)
    return system


def prune(folder: str | Path, keep: int | None = None, *, remember: bool = False) -> tuple[list[Snapshot], list[Path]]:
    """Delete all but the newest snapshots of a folder's system, their certificates, and what a killed process left.

    Snapshots and certificates that are damaged go as well; those that cannot be read now, but may be whole, stay.

    A certificate goes when the states it compares are both gone: when it is older than the last change of the oldest
    state that is left. Reports on removed tasks stay, as proof that they were removed.

    Args:
        folder: the system's.
        keep: how many stay; None: as many as the system is set to keep.
        remember: keep so many from now on.

    Returns:
        The snapshots that went, and the files of the certificates that did.
    """
    if keep is not None and keep < 0:
        raise InvalidInput(f"keep: a number of snapshots from 0 is required, received {keep}")
    with changing(folder) as system:
        assert system.store is not None
        before = system.snapshots()
        system.store.prune(system.keep_snapshots if keep is None else keep, system.store.snapshots.damaged())
        left = {path.name for path in system.store.snapshots.files()}
        gone = [one for one in before if one.path.name not in left]
        stay = [one for one in before if one.path.name in left]
        events = [one.event for one in stay] + system.history[-1:]
        first = next((event.at for event in events if event is not None), "")
        unknown = bool(stay) and bool(stay[0].damaged)  # nobody can tell now from when on it needs certificates
        dropped = drop_before(system.store.folder, "" if unknown else first)
        if keep is not None and remember:  # last: there may be room for it only now
            system.keep_snapshots = keep
            system.save(folder)
        return gone, dropped


def remove(
    folder: str | Path,
    task: str,
    *,
    cascade: bool = False,
    keep_residue: bool | None = None,
    modules: Mapping[str, Source] | None = None,
) -> tuple[Deletion, Path]:
    """Forget a task of a folder's system in every file; the deletion report, and where it is.

    Args:
        folder: the system's.
        task: which.
        cascade: as in `System.remove`.
        keep_residue: as there.
        modules: as in `polypath.load`.

    Raises:
        Locked: another process changes the system.
        InvalidInput: others cannot stay without the task, and `cascade` is False; names them.
        StoreError: nothing was removed; or all was, but not all of what follows could be written, and the message says
            so: the next change of the folder finishes it, report included.
    """
    with changing(folder, modules) as system:
        store = system.store
        assert store is not None
        old, before = store.manifest(), measured(system)
        done = system.remove(task, cascade=cascade, keep_residue=keep_residue)
        stays = {name: state for name, state in before.tasks.items() if name not in done.removed}
        proof = certify(Measured(stays, before.components), measured(system), system, "removed", done.removed)
        if not proof.identical:
            raise IsolationError(f"removing {list(done.removed)} would change {proof.moved}; nothing was removed")
        known = report(system, old, done, proof, task=task, cascade=cascade)
        with uninterrupted():
            saved = save(system, store.folder, keep=False, report=known)
        assert saved.report is not None
        return saved.report


@contextmanager
def changing(folder: str | Path, modules: Mapping[str, Source] | None = None) -> Iterator[System]:
    """The system of a folder, which no other process can change inside the block.

    Raises:
        Locked: another process changes it.
    """
    system = load(folder, modules=modules)
    assert system.store is not None
    try:
        with system.store.hold():
            system.store.collect()  # what a killed process left
            finish_earlier(system.store)
            yield system
    except OSError as error:
        raise StoreError(f"{folder} could not be written ({error}); what was there before is unchanged") from error


def _commit(
    system: System, before: Measured | None, what: str, tasks: Sequence[str], names: Mapping[str, str] | None = None
) -> Change:
    """Save, prove on what was saved, and put the old manifest back if that fails."""
    store = system.store
    assert store is not None
    stamp = store.stamp()
    try:
        with uninterrupted():  # whose end is where Ctrl-C is heard, when all is saved
            save(system, store.folder, keep=True, prune=False)
        certificate, path = None, None
        if before is not None:
            after = measured(load(store.folder))
            stamps = (stamp, store.stamp())
            certificate = certify(before, after, system, what, tasks, names, stamps)
            if (system.isolation == "exact" or what == "renamed") and not certificate.identical:
                raise IsolationError(f"{certificate.moved[:5]} changed on disk; the previous system is kept")
            path = write(store.folder, what, certificate.model_dump(mode="json"))
    except BaseException:
        if store.stamp() != stamp:
            with uninterrupted():
                store.undo()
        raise
    store.prune(system.keep_snapshots)
    return Change(system, certificate, path, store.snapshots.last())


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            raise KeyboardInterrupt
