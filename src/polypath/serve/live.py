"""The system as it is on disk now: read again when it changed, while requests go on with the state they began with."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from polypath.core.errors import PolypathError, UnknownName
from polypath.core.network import Network
from polypath.core.task import Task
from polypath.serve.access import Caller, stamp
from polypath.serve.errors import Refused
from polypath.system import System, load

log = logging.getLogger(__name__)


class Generation:
    """One state of the system on disk, and who may ask which of its tasks.

    Args:
        system: as loaded.
        number: counts from 1.
        guarded: whether callers carry tokens; without, private tasks are not served at all.
    """

    def __init__(self, system: System, number: int, guarded: bool) -> None:
        self.system, self.number = system, number
        self.tasks: dict[str, Task] = dict(system.tasks)
        self.prepares = {name: task.preprocess.model_dump_json() for name, task in self.tasks.items()}
        self.access = {name: system.access(name) for name in self.tasks}
        self.used: set[str] = set()  # tasks whose modules are in memory
        self.lock = threading.Lock()  # over what is described once a generation:
        self.plan: Network | None = None
        self.infos: dict[str, dict[str, Any]] = {}
        self.pictures: dict[tuple[str, ...], dict[str, Any]] = {}
        self._guarded = guarded

    def permits(self, caller: Caller, task: str) -> bool:
        """Whether the caller may know of a task."""
        needed = self.access[task]
        return needed <= caller.groups if self._guarded else not needed

    def permitted(self, caller: Caller) -> list[str]:
        """Names of the tasks the caller may use, in the system's order."""
        return [name for name in self.tasks if self.permits(caller, name)]

    def task(self, caller: Caller, name: str) -> Task:
        """The task, if the caller may use it.

        Raises:
            UnknownName: no such task; offers the nearest that the caller may use.
            Refused: 403, the same for every task.
        """
        if name not in self.tasks:
            raise UnknownName("task", name, self.permitted(caller))
        if not self.permits(caller, name):
            raise Refused(403, "forbidden", "this task is not for this token's groups")
        return self.tasks[name]

    def warm(self, names: Iterable[str]) -> None:
        """Bring the modules of tasks into memory and run each once.

        Raises:
            StoreError: a component is missing or damaged.
        """
        for name in names:
            if name in self.tasks:
                self.system.predict(name, empty(self.tasks[name]), decoded=True)
                self.used.add(name)


def empty(task: Task) -> torch.Tensor:
    """One decoded input of zeros."""
    kind = {"image": torch.uint8, "features": torch.float32, "tokens": torch.int64}[task.inputs.kind]
    return torch.zeros(1, *task.inputs.shape, dtype=kind)


class Live:
    """The newest readable generation of a system's folder.

    Args:
        folder: the system's folder.
        guarded: as in `Generation`.

    Raises:
        StoreError: no system there, or it cannot be read.
    """

    def __init__(self, folder: str | Path, guarded: bool) -> None:
        self.folder, self._guarded = Path(folder), guarded
        self._manifest = self.folder / "manifest.json"
        self._stamp = stamp(self._manifest)
        self._lock = threading.Lock()
        self.now = Generation(load(self.folder), 1, guarded)
        self.failures = 0
        self._failed: tuple[int, int, int] | None = None

    def refresh(self) -> bool:
        """Read the system again where its manifest changed; says whether there is a new generation. Takes its time.

        The tasks that were being asked are warm in the new generation before it takes over. A state that cannot be
        read is logged and counted, and the old one goes on answering.
        """
        with self._lock:
            seen = stamp(self._manifest)
            if seen == self._stamp:
                return False
            try:
                fresh = Generation(load(self.folder), self.now.number + 1, self._guarded)
                fresh.warm(self.now.used)
            except (PolypathError, OSError) as error:
                if seen != self._failed:  # tried again at every look, said once
                    self.failures += 1
                    log.error("the changed system cannot be read, the one before goes on answering: %s", error)
                self._failed = seen
                return False
            self._stamp, self.now = seen, fresh
            log.info("generation %d: %d tasks", fresh.number, len(fresh.tasks))
            return True

    async def refreshed(self) -> bool:
        """`refresh` in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(None, self.refresh)
