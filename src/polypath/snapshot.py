"""Between a system in memory and its manifest: what is written, what is read back, which answers are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import torch

from polypath.core import accounting
from polypath.core.component import digest
from polypath.core.errors import CorruptError
from polypath.core.network import Network
from polypath.core.probe import PROBE_COUNT, machine, probe_outputs
from polypath.nn import network_class, network_name
from polypath.removal import dying, redact
from polypath.store import ComponentEntry, Manifest, ProbeEntry, Store, TaskEntry

if TYPE_CHECKING:
    from polypath.system import System


def describe(system: System) -> tuple[Manifest, dict[str, Mapping[str, torch.Tensor]]]:
    """The manifest of a system as it is now, and the tensors it names that are in memory, by address."""
    parts = system.network.components()
    sizes = accounting.byte_counts(system.network)
    here = [name for name in parts if name not in system._absent]
    tensors = system.network.tensors(here)
    shas = {**system._absent, **{name: digest(tensors[name]) for name in here}}
    blobs: dict[str, Mapping[str, torch.Tensor]] = {shas[name]: tensors[name] for name in here}
    state = system.network.state_dict(keep_vars=True)
    extra = {
        name: {local: state[key] for local, key in part.auxiliary.items()}
        for name, part in parts.items()
        if part.auxiliary and name not in system._absent_auxiliary
    }
    auxiliary = {**system._absent_auxiliary, **{name: digest(held) for name, held in extra.items()}}
    blobs |= {auxiliary[name]: held for name, held in extra.items()}
    _refresh(system, shas)
    blobs |= system._probes
    entries = {
        name: ComponentEntry(
            sha256=shas[name],
            kind=part.kind,
            capacity=part.capacity,
            parent=part.parent,
            size_bytes=sizes[name],
            auxiliary=auxiliary.get(name),
            sources=system.sources.get(name, {}),
        )
        for name, part in parts.items()
    }
    manifest = Manifest(
        polypath=_version(),
        network=network_name(type(system.network)),
        plan=system.network.plan(),
        method=system.method,
        config=system.config,
        seed=system.seed,
        suite=system.suite_config,
        components=entries,
        tasks={name: system.entries.get(name, TaskEntry()) for name in system.tasks},
        tombstones=system.tombstones,
        history=system.history,
        keep_snapshots=system.keep_snapshots,
    )
    return manifest, blobs


def save(system: System, folder: FilePath, keep: bool, prune: bool = True) -> FilePath:
    """See `System.save`; `prune=False` leaves more snapshots than are to be kept, so that the save can be undone."""
    store = Store(folder)
    own = system.store is not None and system.store.folder.resolve() == store.folder.resolve()
    if own and system.store is not None:
        store = system.store  # knows which manifest it read
    else:
        system._bring_along()
    manifest, blobs = describe(system)
    keep = keep and own and not system.forgotten and len(system.history) != system._saved_events
    with store.hold() if own else nullcontext():
        if own and system.forgotten:
            _save_without(system, store, manifest, blobs)
        else:
            store.write(manifest, blobs, keep=keep)
        if keep and prune:
            store.prune(system.keep_snapshots)
    system.store, system.forgotten, system._saved_events = store, [], len(system.history)
    return store.folder


def _save_without(
    system: System, store: Store, manifest: Manifest, blobs: Mapping[str, Mapping[str, torch.Tensor]]
) -> None:
    """Save after a removal: what held something of the removed tasks goes, their values leave the certificates."""
    forget = dying(store, system.forgotten, system.history)
    held = store.manifest().blobs() | store.snapshots.blobs()
    store.write(manifest, blobs, forget=forget)
    gone = held - manifest.blobs() - store.snapshots.blobs()
    redact(store.folder, sorted({name for one in system.forgotten for name in one.names}), gone)


def _refresh(system: System, shas: Mapping[str, str]) -> None:
    """Record today's answers of every task whose components are not those they were last recorded from."""
    for task in system.tasks:
        names = system.network.path(task).components
        now = tuple(shas[name] for name in names)
        entry = system.entries.get(task)
        if entry is None or entry.probe is None or any(name in system._absent for name in names):
            continue
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


def restored(store: Store, manifest: Manifest) -> Network:
    """The network of a manifest, on the meta device.

    Raises:
        CorruptError: its plan cannot be read, or the components listed are not those of the plan.
    """
    try:
        network = network_class(manifest.network).restore(manifest.plan)
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
    system.sources = {name: dict(entry.sources) for name, entry in manifest.components.items()}
    system.tombstones = dict(manifest.tombstones)
    system.history = list(manifest.history)
    system.keep_snapshots = manifest.keep_snapshots
    system._absent = {name: entry.sha256 for name, entry in manifest.components.items()}
    system._absent_auxiliary = {name: e.auxiliary for name, e in manifest.components.items() if e.auxiliary}
    system._probed = {
        task: tuple(manifest.components[name].sha256 for name in network.path(task).components)
        for task in network.tasks
    }
    system._fused.clear()


def _version() -> str:
    from polypath import __version__

    return __version__
