"""Proof that a system is what it was: contents against digests, answers against recorded answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import torch

from polypath.core.component import digest
from polypath.core.errors import CorruptError
from polypath.core.network import Network
from polypath.core.probe import machine, probe_outputs
from polypath.removal import named_then

if TYPE_CHECKING:
    from polypath.store import Event, Manifest, ProbeEntry, Store
    from polypath.system import System

Replay = Literal["identical", "close", "different", "unreadable", "not recorded"]
CLOSE = 1e-5  # relative; float32 convolutions of other processors and versions sum in another order


@dataclass(frozen=True)
class TaskVerification:
    """What was found about one task.

    Args:
        replay: its recorded answers, computed again from a reloaded copy.
        difference: largest absolute difference of that replay.
        drift: largest absolute difference between the answers recorded last and when the task was first learned.
        damaged: components on its path whose contents are not what the manifest names.
        exact: whether everything learned since promised to leave the task as it was: its drift must be 0.
    """

    replay: Replay
    difference: float | None = None
    drift: float | None = None
    damaged: tuple[str, ...] = ()
    exact: bool = False

    def holds(self, same_machine: bool) -> bool:
        """Whether the task is as recorded; `close` suffices on another machine."""
        good = ("identical", "not recorded") if same_machine else ("identical", "close", "not recorded")
        return self.replay in good and not self.damaged and not (self.exact and self.drift)


@dataclass(frozen=True)
class Verification:
    """The outcome of `System.verify`.

    Args:
        damaged: component -> what is wrong with it, on disk or in memory.
        tasks: task -> what was found.
        same_machine: whether bit-identity was the standard (same processor and torch as at saving), or closeness.
    """

    damaged: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, TaskVerification] = field(default_factory=dict)
    same_machine: bool = True

    @property
    def ok(self) -> bool:
        """Whether everything is as recorded."""
        return not self.damaged and not self.failing

    @property
    def failing(self) -> list[str]:
        """Tasks that no longer answer as recorded, or that drifted although nothing was allowed to touch them.

        A task without recorded answers is one of them where others have some: whoever learned it recorded its answers.
        """
        bare = self.unrecorded
        return [name for name, task in self.tasks.items() if not task.holds(self.same_machine) or name in bare]

    @property
    def unrecorded(self) -> list[str]:
        """Tasks without recorded answers, where others have some."""
        bare = [name for name, task in self.tasks.items() if task.replay == "not recorded"]
        return bare if len(bare) < len(self.tasks) else []

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """One sentence for people."""
        proof = "bit-identical" if self.same_machine else f"within {CLOSE:g} (other machine than at saving)"
        if self.ok:
            return f"all component hashes hold; recorded answers of {len(self.tasks)} task(s) replayed {proof}"
        wrong = "; ".join(f"{name}: {why}" for name, why in self.damaged.items())
        bare = self.unrecorded
        moved = [name for name in self.failing if name not in bare]
        tasks = f"; task(s) that no longer answer as recorded: {', '.join(moved)}" if moved else ""
        tasks += f"; task(s) without a recorded answer, which others have: {', '.join(bare)}" if bare else ""
        return (wrong or "component hashes hold") + tasks


def verify_system(system: System) -> Verification:
    """See `System.verify`. A saved system is checked on disk and in memory, an unsaved one in memory."""
    manifest = system.store.manifest() if system.store is not None else None
    damaged: dict[str, str] = {}
    # What was learned or removed since the last save is in memory only, and so is its proof.
    saved = manifest is not None and manifest.history == system.history
    if system.store is not None and manifest is not None:
        damaged = _damaged_on_disk(system.store, manifest)
        if saved:
            damaged |= _moved_in_memory(system, manifest)
        else:
            damaged = {name: why for name, why in damaged.items() if name in system._absent}
    copy = _reloaded(system.store, manifest) if saved and system.store and manifest else system.network
    same = True
    tasks = {}
    for name in system.tasks:
        entry = system.entries.get(name)
        held = tuple(part for part in system.network.path(name).components if part in damaged)
        if entry is None or entry.probe is None:
            tasks[name] = TaskVerification("not recorded", damaged=held)
            continue
        if copy is system.network and not held:
            system._load(system.network.path(name).components)
        same = same and entry.probe.machine == machine()
        found = _replayed(system, copy, name, entry.probe, held)
        tasks[name] = replace(found, exact=_promised(system, name))
    return Verification(damaged, tasks, same)


def _promised(system: System, task: str) -> bool:
    """Whether everything learned after the task promised to leave it bit-identical."""
    learned: list[tuple[Event, bool]] = []  # newest first, with whether the task was learned then
    for event, name in named_then(system.history, task):
        if event.what in ("removed", "updated") and name in event.tasks:
            break  # before that it was another task of this name, or an earlier version
        if event.what == "learned":
            learned.append((event, name in event.tasks))
    while learned and not learned[-1][1]:
        learned.pop()
    later = learned[:-1]
    return bool(learned) and all(event.isolation == "exact" and not mine for event, mine in later)


def _damaged_on_disk(store: Store, manifest: Manifest) -> dict[str, str]:
    wrong = store.damaged(manifest)
    held = {name: (entry.sha256, entry.auxiliary) for name, entry in manifest.components.items()}
    return {name: wrong[sha] for name, shas in held.items() for sha in shas if sha in wrong}


def _moved_in_memory(system: System, manifest: Manifest) -> dict[str, str]:
    """Components in memory that differ from the manifest without anything having been learned since the save."""
    here = [name for name in manifest.components if name not in system._absent and name in system.network.components()]
    return {
        name: "the copy in memory was changed after it was saved"
        for name, tensors in system.network.tensors(here).items()
        if digest(tensors) != manifest.components[name].sha256
    }


def _reloaded(store: Store, manifest: Manifest) -> Network:
    """The saved system in a network of its own."""
    from polypath.nn import network_class

    network = network_class(manifest.network).restore(manifest.plan)
    for name, entry in manifest.components.items():
        try:
            network.assign({name: store.tensors(entry.sha256)})
        except (CorruptError, KeyError, RuntimeError):
            continue  # stays on the meta device; tasks that use it are reported as unreadable
    return network.eval()


def _replayed(
    system: System, copy: Network, task: str, probe: ProbeEntry, damaged: tuple[str, ...]
) -> TaskVerification:
    if task not in copy.tasks:
        return TaskVerification("not recorded", damaged=damaged)
    if any(t.is_meta for held in copy.tensors(copy.path(task).components).values() for t in held.values()):
        return TaskVerification("unreadable", damaged=damaged)
    try:
        saved, learned = system.probe_answer(probe.saved), system.probe_answer(probe.learned)
    except CorruptError:
        return TaskVerification("unreadable", damaged=damaged)
    try:
        now = probe_outputs(copy, task, probe.seed, probe.count)
    except (IndexError, RuntimeError, ValueError):
        if not damaged:
            raise
        return TaskVerification("unreadable", damaged=damaged)  # positions of an owner, for example
    if now.shape != saved.shape or saved.shape != learned.shape:
        return TaskVerification("different", damaged=damaged)
    drift = float((saved - learned).abs().max())
    difference = float((now - saved).abs().max())
    replay: Replay = "different"
    if torch.equal(now, saved):
        replay = "identical"
    elif difference <= CLOSE * max(1.0, float(saved.abs().max())):
        replay = "close"
    return TaskVerification(replay, difference, drift, damaged)
