"""Jobs that a method hands out: done in this process, one after the other, or by the workers of a Ray cluster.

A job is a pure function of what it is given, so its answer is the same wherever and in whatever order it is done; every
executor gives it the same number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

import torch

from polypath.core.errors import InvalidInput
from polypath.train.config import RunConfig
from polypath.train.display import Display

Function = Callable[[Any, Any], Any]


class Executor(Protocol):
    """Does jobs."""

    def answers(
        self, function: Function, jobs: Sequence[Any], shared: Any, began: Callable[[int], Any]
    ) -> Iterator[tuple[int, Any]]:
        """(position, answer) of every job as it is done; `began(position)` is called when one is started."""
        ...

    def close(self) -> None:
        """Give back what the executor holds; nothing of it is used afterwards."""
        ...


class Jobs:
    """What `Run.map` does, with the executor that the configuration names.

    Args:
        config: of the run: `executor`, `parallel`, `cluster`, `job_threads`, `devices`.
        device: of the run; with Ray, a job on a GPU takes a whole one.
        threads: CPU threads of a job where the configuration does not say.
        display: shows the jobs.
        check: called while answers are awaited; raises where the run is to stop.
    """

    def __init__(
        self, config: RunConfig, device: torch.device, threads: int, display: Display, check: Callable[[], Any]
    ) -> None:
        self._config, self._device, self._display, self._check = config, device, display, check
        self._threads = config.job_threads or threads
        self._executor: Executor | None = None  # Ray is imported, and started, when the first job is there
        self.in_one = False
        """Whether a job is being done in this process: interrupting it leaves nothing half done behind."""

    def answers(
        self,
        function: Function,
        jobs: Sequence[Any],
        shared: Any,
        on_answer: Callable[[int, Any], str | None] | None,
    ) -> list[Any]:
        """See `polypath.core.run.Run.map`.

        Raises:
            InvalidInput: the settings do not go together, Ray is not installed or its cluster not reached.
            WorkerLost: workers kept dying under a job.
            Cancelled: the run was stopped.
        """
        if self._executor is None:
            self._executor = self._chosen()
        found: dict[int, Any] = {}
        with closing(self._executor.answers(function, jobs, shared, self._display.job_begins)) as arriving:  # type: ignore[type-var]
            for position, answer in arriving:
                found[position] = answer
                note = None if on_answer is None else on_answer(position, answer)
                self._display.job_done(position, len(jobs), note)
                self._check()
        return [found[position] for position in range(len(jobs))]

    def close(self) -> None:
        """Leave the executor."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    def _chosen(self) -> Executor:
        config = self._config
        if config.executor == "local":
            for name in ("parallel", "cluster"):
                if getattr(config, name) is not None:
                    raise InvalidInput(
                        f"run.{name}={getattr(config, name)!r} belongs to executor='ray', but executor is 'local'; "
                        f"set executor='ray' or leave {name} out"
                    )
            return InProcess(self._threads, self._one)
        if config.devices > 1:
            raise InvalidInput(
                f"run.devices={config.devices} shares every batch between processes, and executor='ray' gives every "
                "job to one worker; use one of the two"
            )
        try:
            from polypath.train.on_ray import OnRay
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise InvalidInput(
                "executor='ray' needs Ray, which is not installed: pip install 'polypath[ray]'"
            ) from error
        return OnRay(config, self._threads, 1 if self._device.type == "cuda" else 0, self._check)

    @contextmanager
    def _one(self) -> Iterator[None]:
        self.in_one = True
        try:
            yield
        finally:
            self.in_one = False


class InProcess:
    """One job after the other, in this process.

    Args:
        threads: CPU threads inside operations while a job is done.
        around: a context that is entered for every job.
    """

    def __init__(self, threads: int, around: Callable[[], Any]) -> None:
        self._threads, self._around = threads, around

    def answers(
        self, function: Function, jobs: Sequence[Any], shared: Any, began: Callable[[int], Any]
    ) -> Iterator[tuple[int, Any]]:
        """See `Executor`; in the order of the jobs."""
        for position, job in enumerate(jobs):
            began(position)
            with _threads(self._threads), self._around():
                answer = function(shared, job)
            yield position, answer

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
