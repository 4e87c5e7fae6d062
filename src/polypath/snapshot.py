"""Between a system in memory and its manifest: what is written, what is read back, which answers are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from polypath.core import accounting
from polypath.core.component import digest
from polypath.core.errors import CorruptError
from polypath.core.network import Network
from polypath.core.probe import PROBE_COUNT, machine, probe_outputs
from polypath.nn import network_class, network_name
from polypath.store import ComponentEntry, Manifest, ProbeEntry, Store, TaskEntry

if TYPE_CHECKING:
    from polypath.system import System


def snapshot(system: System) -> tuple[Manifest, dict[str, Mapping[str, torch.Tensor]]]:
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
    )
    return manifest, blobs


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


def _version() -> str:
    from polypath import __version__

    return __version__
