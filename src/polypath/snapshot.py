"""Between a system in memory and its manifest: what is written, what is read back, which answers are recorded."""

from __future__ import annotations

import importlib
import logging
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from polypath.core.accounting import bytes_of
from polypath.core.changes import differing
from polypath.core.component import Component, digest
from polypath.core.errors import CorruptError, InvalidInput, StoreError
from polypath.core.network import Network
from polypath.core.probe import PROBE_COUNT, machine, probe_outputs
from polypath.nn import network_class, network_name
from polypath.removal import Forgotten, begin, dying, pending_file
from polypath.store import ComponentEntry, Manifest, ProbeEntry, Store, TaskEntry
from polypath.store.events import taken_back
from polypath.store.manifest import read_manifest

if TYPE_CHECKING:
    from polypath.system import System


log = logging.getLogger(__name__)


class Described(NamedTuple):
    """What a save knew of every component, by its name.

    Args:
        parts: what the network said of it.
        sources: of the manifest's entry.
    """

    parts: Mapping[str, Component] = {}
    sources: dict[str, dict[str, str | None]] = {}


class Place(NamedTuple):
    """A folder that a system was read from or saved to.

    Args:
        store: knows which manifest was read or written there.
        events: of the history, then.
        forgotten: what was removed since.
    """

    store: Store
    events: int
    forgotten: Sequence[Forgotten]


class Saved(NamedTuple):
    """What a save did.

    Args:
        folder: of the system.
        report: on the removal that was saved and its file, where one was asked for.
    """

    folder: FilePath
    report: tuple[Any, FilePath] | None = None


def describe(system: System) -> tuple[Manifest, Described, dict[str, Mapping[str, torch.Tensor]]]:
    """The manifest of a system as it is now, what it was made from, and the tensors in memory, by address."""
    parts = dict(system.network.components())
    here = sorted(name for name in system.network.built() if name not in system._absent)
    tensors = system.network.tensors(here)
    shas = ChainMap({name: digest(tensors[name]) for name in here}, system._absent)
    blobs: dict[str, Mapping[str, torch.Tensor]] = {shas[name]: tensors[name] for name in here}
    extra = {
        name: {local: system.network.entry(key) for local, key in parts[name].auxiliary.items()}
        for name in here
        if parts[name].auxiliary and name not in system._absent_auxiliary
    }
    auxiliary = ChainMap({name: digest(held) for name, held in extra.items()}, system._absent_auxiliary)
    blobs |= {auxiliary[name]: held for name, held in extra.items()}
    _refresh(system, here, shas)
    blobs |= system._probes
    fresh = {
        name: _entry(system, parts[name], shas[name], auxiliary.get(name), tensors.get(name))
        for name in _said_anew(system, parts, here)
    }
    entries = {**system.filed, **fresh}
    if list(entries) != list(parts):  # something went, or came in between
        entries = dict(zip(parts, map(entries.__getitem__, parts), strict=True))
    sources = {**system.sources, **{name: entry.sources for name, entry in fresh.items()}}
    manifest = Manifest(
        polypath=_version(),
        network=network_name(type(system.network)),
        plan=system.network.plan(),
        method=system.method,
        config=system.config,
        seed=system.seed,
        suite=system.suite_config,
        components=entries,
        tasks={name: system.entries.get(name) or TaskEntry() for name in system.tasks},
        tombstones=system.tombstones,
        history=system.history,
        keep_snapshots=system.keep_snapshots,
    )
    return manifest, Described(parts, sources), blobs


def _said_anew(system: System, parts: Mapping[str, Component], here: Iterable[str]) -> list[str]:
    """Components in memory, and those about which something was said since the last save, as `parts` has them.

    Those on disk are what they were when they were filed. A large system has few others: what is known of the many
    must not cost a line of Python each.
    """
    was = system.described
    told = {*here, *differing(system.sources, old=was.sources), *differing(parts, old=was.parts)}
    told |= was.sources.keys() - system.sources.keys()
    return list(filter(told.__contains__, parts))


def _entry(
    system: System, part: Component, sha: str, auxiliary: str | None, tensors: Mapping[str, torch.Tensor] | None
) -> ComponentEntry:
    """The entry of a component: the very one that was filed last where nothing about it is new."""
    sources = system.sources.get(part.name, {})
    old = system.filed.get(part.name)
    if (
        old is not None
        and old.sha256 == sha
        and old.auxiliary == auxiliary
        and (old.sources is sources or old.sources == sources)
        and old.parent == part.parent
        and old.kind == part.kind
        and old.capacity == part.capacity
    ):
        return old
    if tensors is None:  # on disk only
        size = old.size_bytes if old is not None else bytes_of(system.network.tensors([part.name])[part.name])
    else:
        size = bytes_of(tensors)
    return ComponentEntry(
        sha256=sha,
        kind=part.kind,
        capacity=part.capacity,
        parent=part.parent,
        size_bytes=size,
        auxiliary=auxiliary,
        sources=sources,
    )


def save(
    system: System, folder: FilePath, keep: bool, prune: bool = True, report: Mapping[str, Any] | None = None
) -> Saved:
    """See `System.save`.

    Args:
        system: what is saved.
        folder: where.
        keep: make a snapshot.
        prune: False leaves more snapshots than are to be kept, so that the save can be undone.
        report: on what was removed, as far as it is known; None: no deletion report is written.
    """
    places = _places(system)
    place = places.pop(folder.resolve(), None)
    store = place.store if place is not None else Store(folder)  # the one of before knows which manifest it read
    if store is not system.store:
        system._bring_along()
    manifest, described, blobs = describe(system)
    forgotten = place.forgotten if place is not None else ()
    keep = keep and place is not None and not forgotten and len(system.history) != place.events
    retain = system.keep_snapshots if place is not None else max(system.keep_snapshots, 1)  # of another system
    made = None
    with store.hold() if place is not None or pending_file(store.folder).exists() else nullcontext():
        finish_earlier(store, must=bool(forgotten))
        if forgotten:
            going = dying(store, forgotten, system.history)
            before = begin(store, manifest, forgotten, going, report).before
            with _removing(store, forgotten, before):
                store.write(manifest, blobs, forget=[one.path for one in going])
        else:
            store.write(manifest, blobs, keep=keep, retain=retain if (keep or place is None) and prune else None)
        system.store, system.places = store, places
        system.forgotten, system._saved_events = [], len(system.history)
        system.filed, system.described = manifest.components, described
        system.sources = described.sources
        system._probes.clear()  # they are on disk
        if forgotten:
            with _removing(store, forgotten, before):
                made = _deletion().finish(store)
    return Saved(store.folder, made)


def _places(system: System) -> dict[FilePath, Place]:
    """Every folder that this system was read from or saved to and that still holds one."""
    forgotten = tuple(system.forgotten)
    places = {path: one._replace(forgotten=(*one.forgotten, *forgotten)) for path, one in system.places.items()}
    if system.store is not None:
        places[system.store.folder.resolve()] = Place(system.store, system._saved_events, forgotten)
    return {path: one for path, one in places.items() if one.store.manifest_path.exists()}


@contextmanager
def _removing(store: Store, forgotten: Sequence[Forgotten], before: str) -> Iterator[None]:
    """Around the save of a removal and what follows: what fails after the manifest was replaced says so."""
    try:
        yield
    except (OSError, StoreError) as error:
        if store.stamp() == before:
            pending_file(store.folder).unlink(missing_ok=True)
            raise
        names = ", ".join(repr(one.task) for one in forgotten)
        raise StoreError(
            f"{names}: removed from {store.folder}, but not everything that follows is done ({error}). What is left "
            "(values in certificates, the deletion report) is finished by the next change of the folder, for example "
            f"`polypath prune {store.folder}`"
        ) from error


def finish_earlier(store: Store, *, must: bool = False) -> None:
    """Finish a removal that an earlier process could not; its lock is held.

    Args:
        store: of the folder.
        must: whether it stands in the way; else a warning is enough.

    Raises:
        StoreError: it cannot be finished now, and it must.
    """
    if not pending_file(store.folder).exists():
        return
    try:
        store.collect()
        _deletion().finish(store)
    except (OSError, StoreError) as error:
        text = f"{store.folder}: an earlier removal is not finished and cannot be now ({error})"
        if must:
            raise StoreError(f"{text}; nothing more was removed") from error
        log.warning("%s", text)


def _deletion() -> Any:
    return importlib.import_module("polypath.deletion")  # by name: it stands above, and knows systems


def _refresh(system: System, here: Sequence[str], shas: Mapping[str, str]) -> None:
    """Record today's answers of every task whose components are not those they were last recorded from.

    Args:
        system: whose answers.
        here: components in memory; no other can have moved.
        shas: addresses of all.
    """
    absent = system._absent.keys()
    for task in system.network.affected_by(here):
        names = system.network.path(task).components
        if not absent.isdisjoint(names):
            continue
        entry = system.entries.get(task)
        if entry is None or entry.probe is None:
            continue
        now = tuple(shas[name] for name in names)
        if system._probed.get(task) != now:
            system.entries[task] = recorded(system, task)
        system._probed[task] = now


def recorded(system: System, task: str, *, forget: bool = False) -> TaskEntry:
    """A task's entry with its answers of today; those of when it was first learned stay.

    Args:
        system: whose answers are recorded.
        task: which task.
        forget: leave out test metrics and facts, which no longer hold.
    """
    entry = system.entries.get(task, TaskEntry())
    seed = entry.probe.seed if entry.probe else system.seed
    count = entry.probe.count if entry.probe else PROBE_COUNT
    outputs = {"outputs": probe_outputs(system.network, task, seed, count)}
    sha = digest(outputs)
    system._probes[sha] = outputs
    learned = entry.probe.learned if entry.probe else sha
    probe = ProbeEntry(seed=seed, count=count, learned=learned, saved=sha, machine=machine())
    return TaskEntry(probe=probe) if forget else entry.changed(probe=probe)


def restored(store: Store, manifest: Manifest, *, lazily: bool = False) -> Network:
    """The network of a manifest, on the meta device.

    Args:
        store: names the file in messages.
        manifest: which network.
        lazily: build as little as the network can do with.

    Raises:
        CorruptError: its plan cannot be read, or the components listed are not those of the plan.
    """
    try:
        kind = network_class(manifest.network)
        network = kind.described(manifest.plan) if lazily else kind.restore(manifest.plan)
    except (AttributeError, IndexError, KeyError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptError(f"{store.manifest_path} is damaged: its plan does not make a network ({error})") from error
    parts, listed = set(network.components()), set(manifest.components)
    if parts != listed:
        wrong = sorted(parts ^ listed)
        raise CorruptError(
            f"{store.manifest_path} is damaged: components listed and components of its plan differ in {wrong[:5]}"
        )
    return network


def take(system: System, manifest: Manifest, network: Network) -> None:
    """Make a system what a manifest of its store says; no component is read before it is asked for."""
    system.network = network.eval()
    system.method, system.config, system.seed = manifest.method, dict(manifest.config), manifest.seed
    system.suite_config = dict(manifest.suite)
    system.entries = dict(manifest.tasks)
    system.sources = {name: entry.sources for name, entry in manifest.components.items()}
    system.tombstones = dict(manifest.tombstones)
    system.history = list(manifest.history)
    system.keep_snapshots = manifest.keep_snapshots
    system._absent = {name: entry.sha256 for name, entry in manifest.components.items()}
    system._absent_auxiliary = {name: e.auxiliary for name, e in manifest.components.items() if e.auxiliary}
    system.filed, system.described = manifest.components, Described()
    system._probed = {
        task: tuple(manifest.components[name].sha256 for name in network.path(task).components)
        for task in network.tasks
    }
    system._fused.clear()


def go_back(system: System, snapshot: str) -> None:
    """See `System.rollback`."""
    if system.store is None or system.forgotten:
        raise InvalidInput("rollback: save the system first")
    file = system.store.snapshots.file(snapshot)
    manifest = read_manifest(file)
    undone = taken_back(system.history, manifest.history)
    take(system, manifest, restored(system.store, manifest, lazily=True))
    system.note("rolled back", list(system.tasks), config={"snapshot": file.stem.partition("-")[2], "undone": undone})
    system._saved_events = -1  # the history may be as long as that of a state that is not to be lost, elsewhere too
    system.places = {path: one._replace(events=-1) for path, one in system.places.items()}


def bring(
    system: System, network: Network, names: Iterable[str], absent: dict[str, str], auxiliary: dict[str, str]
) -> None:
    """See `System.bring`."""
    names = list(names)
    parts = network.components()
    state: dict[str, torch.Tensor] = {}
    for name in names:
        if name in absent:
            held = _proven(system, name, absent[name])
            state |= {parts[name].tensors[local]: tensor for local, tensor in held.items()}
        if name in auxiliary:
            held = _proven(system, name, auxiliary[name])
            state |= {parts[name].auxiliary[local]: tensor for local, tensor in held.items()}
    if not state:
        return
    try:
        network.build(name for name in names if name in absent)
        network.receive(state)  # the memory-mapped tensors themselves become the state
    except (KeyError, RuntimeError) as error:
        where = system.store.manifest_path if system.store is not None else "the system"
        raise CorruptError(
            f"{where} is damaged: a component is not what its plan says ({error}); restore it from a copy"
        ) from error
    for name in names:
        absent.pop(name, None)
        auxiliary.pop(name, None)
    if not network.lazy:
        network.eval()


def _proven(system: System, name: str, sha256: str) -> dict[str, torch.Tensor]:
    assert system.store is not None
    try:
        return system.store.proven(sha256)
    except CorruptError as error:
        tasks = ", ".join(system.affected_by([name])) or "none"
        raise CorruptError(f"component {name!r} (task(s) that need it: {tasks}): {error}") from error


def _version() -> str:
    from polypath import __version__

    return __version__
