"""Learning is tried on a network beside the system's own, which is taken only if the method kept its promise.

Where an exact method grows a lazy network, that network holds the components of the stage's tasks and those that the
method needs, and nothing else: time and memory of adding a task do not depend on the tasks that are there already.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polypath.answering import asked
from polypath.core.changes import differing
from polypath.core.component import digest
from polypath.core.network import Network
from polypath.snapshot import recorded

if TYPE_CHECKING:
    from polypath.core.method import Method
    from polypath.core.task import Task
    from polypath.system import System


class Trial:
    """A network to learn in, and what must be known to judge and to take it.

    Args:
        system: which learns; it is not changed.
        method: which teaches it.
        tasks: of the stage; new ones are added to the network.
        coming: names of all tasks of the suite, those of later stages too.
    """

    def __init__(
        self, system: System, method: Method[Any], tasks: Mapping[str, Task], coming: Sequence[str] = ()
    ) -> None:
        self._system, self._exact = system, method.isolation == "exact"
        self._absent, self._auxiliary = dict(system._absent), dict(system._absent_auxiliary)
        self.before: dict[str, str] = {}
        self.partial = self._exact and system.network.lazy and bool(system.history)
        self.network = self._copied()
        method.expect(self.network, [name for name in coming if name not in self.network.tasks])
        for name, task in tasks.items():
            if name not in self.network.tasks:
                method.admit(self.network, task)
        if self.partial:
            self.network.fetch = self._fetch
            self.network.require(method.needs(self.network, list(tasks)))

    def _copied(self) -> Network:
        system = self._system
        if self.partial:
            return system.network.fork(())
        system.load_all()
        self._absent, self._auxiliary = {}, {}
        self.before = system.network.digests()
        if not system.history:
            return system.network
        return copy.deepcopy(system.network)

    def _fetch(self, names: Iterable[str]) -> None:
        """Copies of components that the system has in memory; from disk what it has there alone."""
        old = self._system.network
        known, there = old.components(), set(self.network.built())
        missing = [name for name in dict.fromkeys(names) if name in known and name not in there]
        here = [name for name in missing if name not in self._absent]
        self.before |= {name: digest(held) for name, held in old.tensors(here).items()}
        self.network.take(old.fork(here), here)
        on_disk = {name: self._absent[name] for name in missing if name in self._absent}
        self.before |= on_disk
        self._system.bring(self.network, missing, self._absent, self._auxiliary)

    def changed(self) -> list[str]:
        """Components that are not what they were, new ones included; call it after learning."""
        self.network.fetch = None
        self.after = self.network.digests(list(self.network.built()))
        return [name for name, sha in self.after.items() if self.before.get(name) != sha]

    def moved(self, tasks: Sequence[str]) -> list[str]:
        """Components on the paths of `tasks` that are no longer what they were, and tasks whose path is another."""
        old, new = self._system.network, self.network
        gone = old.components().keys() - new.components().keys()
        suspects = gone | {name for name, sha in self.before.items() if self.after.get(name) != sha}
        moved = sorted(suspects.intersection(old.components_of(tasks))) if suspects else []
        other = _others(old.tasks, new.tasks) | _others(old.paths(), new.paths())
        return moved + [f"path of {task}" for task in tasks if task in other]

    def adopt(self, learned: Sequence[str], changed: Iterable[str]) -> None:
        """Make the network the system's.

        Args:
            learned: tasks that were trained.
            changed: components that moved, new ones that these tasks do not use left out.
        """
        system, before, network = self._system, self._system.network, self.network
        self._settle()
        system.network, system._absent, system._absent_auxiliary = network, self._absent, self._auxiliary
        system._bury(learned)
        changed, parts = set(changed), network.components()
        sources = dict(system.sources)
        paths = {task: network.reach(task) for task in learned}
        around = {task: _private(system, path.components) for task, path in paths.items()}
        for name in changed:
            users = {t: network.tasks[t].private_to for t in learned if name in paths[t].components}
            if not users:  # moved without being used: whichever task it was, its data did it
                users = {t: network.tasks[t].private_to for t in learned}
            parent = parts[name].parent
            inherited = sources.get(parent, {}) if parent is not None else {}
            inherited = {**inherited, **{task: system._group_of(task) for task in parts[name].builds_on}}
            # What is trained on top of what a private task's data shaped is shaped by it, too.
            below = {source: group for user in users for source, group in around[user].items()}
            sources[name] = {**inherited, **below, **sources.get(name, {}), **users}
        system.sources = sources
        for task in dict.fromkeys((*network.affected_by(changed), *learned)):
            system.entries[task] = recorded(system, task, forget=task in learned)
            system._probed.pop(task, None)
            system._forget_answers(task)
        if before is not network:
            known = network.tasks
            for task in {task for key in system._fused for task in asked(key)}:
                if task not in known or network.reach(task) != before.reach(task):
                    system._forget_answers(task)

    def _settle(self) -> None:
        """What the new network lacks of the components that the system had in memory and this stage did not touch.

        It gets those that are not on disk; the others stay there until they are asked for again.
        """
        if self.partial:
            old, there = self._system.network, set(self.network.built())
            parts = self.network.components()
            idle = [name for name in old.built() if name not in there and name in parts and name not in self._absent]
            filed = self._system.filed if self._system.store is not None else {}
            known = old.components()
            for name, held in old.tensors(idle).items():
                entry = filed.get(name)
                traces = self._auxiliary.get(name)
                if traces is None and known[name].auxiliary:
                    traces = digest({local: old.entry(key) for local, key in known[name].auxiliary.items()})
                if entry is None or (digest(held), traces) != (entry.sha256, entry.auxiliary):
                    self.network.take(old, [name])
                    continue
                self._absent[name] = entry.sha256
                if entry.auxiliary is not None:
                    self._auxiliary[name] = entry.auxiliary


def _private(system: System, names: Iterable[str]) -> dict[str, str | None]:
    """Private tasks (and their groups) whose data shaped one of the components."""
    found = (item for name in names for item in system.sources.get(name, {}).items())
    return {task: group for task, group in found if group is not None}


def _others(old: Mapping[str, object], new: Mapping[str, object]) -> set[str]:
    """Names of what was there before under which another thing is found now, or none."""
    other = {name for name in differing(new, old=old) if name in old and old[name] != new[name]}
    return other | (old.keys() - new.keys())
