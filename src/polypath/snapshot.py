"""Between a system in memory and its manifest: what is written, what is read back, which answers are recorded."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, NamedTuple

import torch

from polypath.core.accounting import bytes_of
from polypath.core.changes import differing
from polypath.core.component import Component, digest
from polypath.core.errors import CorruptError, InvalidInput
from polypath.core.network import Network
from polypath.core.probe import PROBE_COUNT, machine, probe_outputs
from polypath.nn import network_class, network_name
from polypath.removal import dying, redact
from polypath.store import ComponentEntry, Manifest, ProbeEntry, Snapshot, Store, TaskEntry
from polypath.store.events import taken_back
from polypath.store.manifest import read_manifest

if TYPE_CHECKING:
    from polypath.system import System


class Described(NamedTuple):
    """What a save knew of every component, by its name.

    Args:
        parts: what the network said of it.
        sources: of the manifest's entry.
    """

    parts: Mapping[str, Component] = {}
    sources: dict[str, dict[str, str | None]] = {}


class Saved(NamedTuple):
    """What a save did.

    Args:
        folder: of the system.
        snapshots: that held something of removed tasks and are gone.
        certificates: files from which their values were taken out.
    """

    folder: FilePath
    snapshots: Sequence[Snapshot] = ()
    certificates: Sequence[FilePath] = ()


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


def save(system: System, folder: FilePath, keep: bool, prune: bool = True) -> Saved:
    """See `System.save`; `prune=False` leaves more snapshots than are to be kept, so that the save can be undone."""
    store = Store(folder)
    own = system.store is not None and system.store.folder.resolve() == store.folder.resolve()
    if own and system.store is not None:
        store = system.store  # knows which manifest it read
    else:
        system._bring_along()
    manifest, described, blobs = describe(system)
    keep = keep and own and not system.forgotten and len(system.history) != system._saved_events
    saved = Saved(store.folder)
    with store.hold() if own else nullcontext():
        if own and system.forgotten:
            saved = _save_without(system, store, manifest, blobs)
        else:
            store.write(manifest, blobs, keep=keep, retain=system.keep_snapshots if keep and prune else None)
    system.store, system.forgotten, system._saved_events = store, [], len(system.history)
    system.filed, system.described = manifest.components, described
    system.sources = described.sources
    system._probes.clear()  # they are on disk
    return saved


def _save_without(
    system: System, store: Store, manifest: Manifest, blobs: Mapping[str, Mapping[str, torch.Tensor]]
) -> Saved:
    """Save after a removal: what held something of the removed tasks goes, their values leave the certificates."""
    forget = dying(store, system.forgotten, system.history)
    held = store.manifest().blobs() | store.snapshots.blobs()
    store.write(manifest, blobs, forget=[one.path for one in forget])
    gone = held - manifest.blobs() - store.snapshots.blobs()
    names = sorted({name for one in system.forgotten for name in one.names})
    return Saved(store.folder, forget, redact(store.folder, names, gone))


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
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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
    system._saved_events = -1


def _version() -> str:
    from polypath import __version__

    return __version__
