"""A learned system: answers for every task, proves that it is what it was, grows and shrinks."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import nn

from polypath import naming, removal
from polypath.answering import plan_only
from polypath.core import accounting
from polypath.core.accounting import Cost, Removal, Sharing
from polypath.core.examples import Suite
from polypath.core.network import Network
from polypath.core.task import Task
from polypath.nn.capacity import Capacity, capacity_of
from polypath.nn.own import Source, offer
from polypath.nn.sparse import sparsified
from polypath.portable import Portable
from polypath.snapshot import Described, Place, bring, go_back, restored, save, take
from polypath.store import ComponentEntry, Event, Snapshot, Store, TaskEntry
from polypath.store.manifest import KEEP_SNAPSHOTS
from polypath.verification import Verification, verify_system


class System(Portable):
    """One network, many tasks. Made by `polypath.learn`, read by `polypath.load`.

    Components load when a task is first asked for, so the memory and the time for one task do not grow with the
    number of tasks. Not safe for concurrent changes; predictions from several threads are.
    """

    def __init__(
        self,
        network: Network,
        *,
        method: str,
        config: Mapping[str, Any],
        seed: int,
        suite: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network
        self.method, self.config, self.seed = method, dict(config), seed
        self.suite_config = dict(suite or {})
        self.entries: dict[str, TaskEntry] = {}
        self.sources: dict[str, dict[str, str | None]] = {}  # replaced, never changed, like those of one component
        self.tombstones: dict[str, str | None] = {}
        self.history: list[Event] = []
        self.data: Suite | None = None
        self.result: Any = None
        self.method_type: Any = None  # the class, where it was learned in this process
        self.store: Store | None = None
        self.places: dict[FilePath, Place] = {}  # other folders that it was read from or saved to
        self.filed: dict[str, ComponentEntry] = {}  # components as last read or saved
        self.described = Described()  # what was known of them then
        self.keep_snapshots = KEEP_SNAPSHOTS
        self.forgotten: list[removal.Forgotten] = []  # removed since the last save
        self._saved_events = 0
        self._absent: dict[str, str] = {}
        self._absent_auxiliary: dict[str, str] = {}
        self._probes: dict[str, dict[str, torch.Tensor]] = {}
        self._probed: dict[str, tuple[str, ...]] = {}
        self._fused: dict[Any, Any] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock, so that a system can be copied."""
        return {key: value for key, value in vars(self).items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    # ---- reading ----------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> dict[str, Task]:
        """Task name -> task, in the order they were added."""
        return self.network.tasks

    @property
    def isolation(self) -> str | None:
        """What the last learning promised about other tasks: `exact`, `joint` or `drifts`."""
        return next((event.isolation for event in reversed(self.history) if event.isolation), None)

    def extract(self, task: str, *, fused: bool = True, exit: str | None = None, sparse: bool = False) -> nn.Module:
        """The task's path as an ordinary module: encoded inputs (n, ...) in, outputs (n, outputs) out.

        Args:
            task: which task.
            fused: BatchNorm folded, wide layers merged, within 1e-5 relative in float32; False is bit-identical.
            exit: which exit, for tasks that have several.
            sparse: linear layers as CSR matrices where that is faster (`polypath.nn.sparse`); needs `fused`.
        """
        self.network.task_named(task)
        with self._lock:
            self._load(self.network.path(task, exit).components)
            made = self.network.extract(task, fused=fused, exit=exit)
        return sparsified(made, fused=fused) if sparse else made

    def cost(self, task: str) -> Cost:
        """What one task costs: parameters, added parameters, share activated, FLOPs, bytes."""
        self.network.task_named(task)
        return accounting.cost(plan_only(self.network, task), task)

    def capacity(self, share: float | None = None) -> Capacity:
        """How full every shared layer is, and how many more tasks that own `share` of each layer fit.

        Raises:
            InvalidInput: the tasks of this system do not own parts of layers; a share out of range.
        """
        return capacity_of(self.network, share)

    def sharing(self) -> Sharing:
        """Who uses which component, and how many components are used by k tasks."""
        return accounting.sharing(self.network.components(), self.network.reaches())

    def affected_by(self, components: Iterable[str]) -> tuple[str, ...]:
        """Tasks whose outputs a change of the named components can touch."""
        return self.network.affected_by(components)

    def access(self, task: str) -> frozenset[str]:
        """Groups a user needs to be in: the task's own, and those of private tasks whose data shaped its path."""
        own = self.network.task_named(task).private_to
        names = self.network.reach(task).components
        shaped = {group for name in names for group in self.sources.get(name, {}).values()}
        return frozenset(group for group in shaped | {own} if group is not None)

    def verify(self) -> Verification:
        """Proof of contents, replay of recorded answers, and drift since each task was learned."""
        return verify_system(self)

    # ---- growing and shrinking --------------------------------------------------------------------------------

    def learn(self, data: Any, *, groups: Iterable[str] | None = None, **settings: Any) -> System:
        """Learn new tasks; returns this system.

        What that does to the old ones is the method's isolation: `exact` leaves them bit-identical, `joint` trains
        them again and needs their data, `drifts` may change them. If anything fails, the system is what it was.

        Args:
            data: a TaskData, several, or a Suite; for joint methods known tasks may be among them.
            groups: access groups of whoever adds them: a task that is private to another group is refused. None: the
                owner of the files, who may do all.
            settings: changes to the method's configuration for this time (`mode="sequential"`, `epochs=20`), and
                run settings (`device`, `precision`, `threads`, `progress`, `on_progress`); `method` names the class
                again where a loaded system was learned with one of your own.
        """
        # By name, so that answering (and serving) does not import training.
        importlib.import_module("polypath.learning").grow(self, data, groups=groups, **settings)
        return self

    def remove(self, task: str, *, cascade: bool = False, keep_residue: bool | None = None) -> Removal:
        """Forget a task; says what was freed, what was reset and what its data left behind.

        Saving to the system's own folder then deletes every snapshot that holds anything of it.

        Args:
            task: which task.
            cascade: also remove tasks that cannot stay without it; without it that is refused.
            keep_residue: whether components that other tasks use may stay although its data helped to shape them;
                False makes those tasks ones that cannot stay. None: True, but False for a private task.

        Raises:
            UnknownName: no such task; offers the nearest.
            InvalidInput: other tasks cannot stay without it (named), and `cascade` is False.
        """
        return removal.remove(self, task, cascade, keep_residue)

    def update(
        self, data: Any, *, tasks: Sequence[str] | None = None, further: bool = False, **settings: Any
    ) -> System:
        """Learn known tasks again from other data: more of it, a new class, corrected labels; returns this system.

        A task's components are freed and it is learned as if it were new, so nothing of the old version is in it. What
        that does to other tasks is the method's isolation, as in `learn`. All or nothing.

        Args:
            data: a TaskData, several, or a Suite; for joint methods other known tasks may be among them.
            tasks: which of them are learned again; None: all.
            further: go on from what the tasks have learned instead, with the data they were learned from (mu2net: more
                generations, from all models there are now; a task's score never falls, others stay bit-identical).
            settings: as in `learn`, `groups` too: a task that needs another group is refused.

        Raises:
            InvalidInput: a task that is not known, or one that others build on; `further` with a method that cannot.
        """
        importlib.import_module("polypath.updating").update(self, data, tasks, further=further, **settings)
        return self

    def rename(self, old: str, new: str) -> System:
        """Call a task otherwise; components stay as they are, byte for byte. Returns this system.

        Raises:
            UnknownName: no task of the old name.
            InvalidInput: the new name is taken, or no task can be called so.
        """
        naming.rename(self, old, new)
        return self

    def note(
        self,
        what: str,
        tasks: Sequence[str],
        *,
        isolation: str | None = None,
        config: Mapping[str, Any] | None = None,
        run: str | None = None,
        stage: int | None = None,
    ) -> None:
        """Add a line to the history."""
        self.history.append(
            Event(
                what=what,
                tasks=tuple(tasks),
                isolation=isolation,
                method=self.method,
                config=dict(config or {}),
                run=run,
                stage=stage,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )

    def _group_of(self, task: str) -> str | None:
        known = self.network.tasks
        return known[task].private_to if task in known else self.tombstones.get(task)

    def _bury(self, learned: Sequence[str]) -> dict[str, str]:
        """Keep the access groups of removed tasks whose names are taken again: their traces get a name of their own."""
        marks = {}
        for task in learned:
            if task in self.tombstones:
                number = 1 + sum(name.startswith(f"{task}/") for name in self.tombstones)
                old = marks[task] = f"{task}/{number}"  # no task name holds a slash
                self.tombstones[old] = self.tombstones.pop(task)
                self.sources = {
                    name: {old if key == task else key: group for key, group in held.items()} if task in held else held
                    for name, held in self.sources.items()
                }
        return marks

    @contextmanager
    def kept_on_error(self) -> Iterator[None]:
        """Put the system back as it was if the block raises."""
        before = {  # `filed` and `sources` are replaced, never changed
            key: value.copy() if isinstance(value, (dict, list)) and key not in ("filed", "sources") else value
            for key, value in vars(self).items()
            if key != "_lock"
        }
        try:
            yield
        except BaseException:
            vars(self).update(before)
            raise

    # ---- on disk ----------------------------------------------------------------------------------------------

    def save(self, folder: str | FilePath, *, snapshot: bool = True) -> FilePath:
        """Write the system to a folder; only what changed is written. Returns the folder.

        Another system that the folder holds becomes a snapshot, which `rollback` brings back; a warning names it.

        Args:
            folder: where.
            snapshot: keep what the folder held, if something was learned, renamed or rolled back since (`rollback`).
                Never after a removal: what was removed is gone from the folder.

        Raises:
            StoreError: the folder holds something else, another process writes it or saved it since this system read or
                saved it, or the disk is full; whatever system was there is unchanged.
        """
        return save(self, FilePath(folder), snapshot).folder

    def snapshots(self) -> list[Snapshot]:
        """Earlier states that the system's folder holds, oldest first; none for a system that was never saved."""
        return [] if self.store is None else self.store.snapshots.listed()

    def rollback(self, snapshot: str) -> System:
        """Be what a snapshot holds; saving makes it so on disk, where what was left becomes a snapshot.

        Args:
            snapshot: its id (`snapshots()` lists them), or the beginning of it.

        Raises:
            InvalidInput: the system was never saved, or something was removed since it was.
            UnknownName: no such snapshot.
        """
        go_back(self, snapshot)
        return self

    def _bring_along(self) -> None:
        """Everything into memory that another folder needs and only the old one has."""
        self.load_all()
        for entry in self.entries.values():
            for sha in (entry.probe.learned, entry.probe.saved) if entry.probe else ():
                self.probe_answer(sha)

    def probe_answer(self, sha256: str) -> torch.Tensor:
        """Recorded outputs by their digest, from memory or from disk.

        Raises:
            CorruptError: the file is missing or not what it was.
        """
        if sha256 not in self._probes:
            assert self.store is not None
            self._probes[sha256] = self.store.proven(sha256)
        return self._probes[sha256]["outputs"]

    # ---- inside -----------------------------------------------------------------------------------------------

    def load_all(self) -> None:
        """Bring every component into memory, with what only learning needs."""
        self._load(self.network.components(), auxiliary=True)

    def _load(self, names: Iterable[str], *, auxiliary: bool = False) -> None:
        """Read components that are not in memory yet, and prove their contents.

        Raises:
            CorruptError: a file is damaged or missing; says which component, and which tasks cannot answer.
        """
        with self._lock:
            self.bring(self.network, names, self._absent, self._absent_auxiliary if auxiliary else {})

    def bring(self, network: Network, names: Iterable[str], absent: dict[str, str], auxiliary: dict[str, str]) -> None:
        """Read those of the named components that a network lacks, and prove their contents.

        Args:
            network: the system's, or one that is tried.
            names: components.
            absent: component -> address, of those that are on disk only; what is read is taken out.
            auxiliary: the same of what only learning needs.

        Raises:
            CorruptError: as `_load`.
        """
        bring(self, network, names, absent, auxiliary)


def load(folder: str | FilePath, *, modules: Mapping[str, Source] | None = None) -> System:
    """The system saved in a folder; needs neither data nor the code that learned it.

    Reads the manifest only; a task's components are memory-mapped when it is first asked for.

    Args:
        folder: where it was saved.
        modules: name -> module (or a function that makes one), for a system made with `subnetworks` from a module of
            your own. Only the module's structure is taken from it; code that a file names is never run.

    Raises:
        StoreError: the folder holds no system, or needs a module of your own that was not given (named).
        CorruptError: the manifest is damaged; says where.
        NewerFormat: it was written by a newer polypath.
    """
    for name, module in (modules or {}).items():
        offer(name, module)
    store = Store.existing(folder)
    manifest = store.open()
    network = restored(store, manifest, lazily=True)
    system = System(network, method=manifest.method, config=manifest.config, seed=manifest.seed)
    system.store = store
    take(system, manifest, network)
    system._saved_events = len(system.history)
    return system
