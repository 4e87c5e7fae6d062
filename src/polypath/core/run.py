"""What a method receives from the engine: devices, random streams, batches, epochs, scores, records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import torch

from polypath.core.examples import Batch, TaskData
from polypath.core.network import Network

Job = TypeVar("Job")
Answer = TypeVar("Answer")
Until = Callable[[], bool] | None

PULSE: ContextVar[Callable[[], None] | None] = ContextVar("polypath pulse", default=None)
"""What `beat` calls: set by a run around jobs that it does in its own process."""


def beat() -> None:
    """Say from inside a job of `Run.map` that it goes on; raises Cancelled where the run was told to stop.

    Does nothing in another process, whose jobs are stopped by whoever started it.
    """
    pulse = PULSE.get()
    if pulse is not None:
        pulse()


class Run(Protocol):
    """The engine as a method sees it. The method keeps its loop; the run keeps everything around it."""

    seed: int
    device: torch.device
    precision: str
    threads: int
    job_threads: int
    """CPU threads of a job of `map`, the same whoever does it."""

    def rng(self, *key: object) -> torch.Generator:
        """A fresh CPU generator for the stream `key`; the same key gives the same numbers, in any order of asking."""
        ...

    def seeded(self, *key: object) -> AbstractContextManager[None]:
        """Seed the global generator inside the block, for code that can only draw from it."""
        ...

    def place(self, network: Network) -> None:
        """Move the network to the device and into the memory layout that is fastest there."""
        ...

    def batches(
        self, data: TaskData, size: int, *key: object, equal_to: int | None = None, augment: bool = True
    ) -> Iterator[Batch]:
        """Training batches of one epoch: every example once in an order drawn from the stream `key`.

        Args:
            data: the task and its examples; augmented as `data.augment` says, encoded, on the device.
            size: examples a batch; the last one may be shorter.
            key: names the random stream; include the epoch.
            equal_to: oversample to this many examples (full passes and a random remainder).
            augment: False leaves the augmentation out.
        """
        ...

    def epochs(self, count: int, *, steps: int, until: Until = None, **state: Any) -> Iterator[int]:
        """Epoch numbers 0..count-1; restores `state` on entry and checkpoints it after every epoch.

        Args:
            count: epochs of this stage in all.
            steps: optimizer steps an epoch, for the progress display.
            until: asked before every epoch whether to stop early.
            state: everything the loop changes: networks, optimizers, dicts of them.
        """
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision where the run uses it."""
        ...

    def step(self, loss: torch.Tensor, *optimizers: torch.optim.Optimizer) -> None:
        """Zero the optimizers' gradients, backpropagate, average over processes, let each step."""
        ...

    def score(self, network: Network, data: TaskData, exit: str | None = None) -> dict[str, float]:
        """Metrics and `loss` (the mean of the task's loss) on validation examples: all that may select anything."""
        ...

    def record_test(self, network: Network, data: Sequence[TaskData]) -> None:
        """Measure on the sealed test split and write the values down; they never come back to the method."""
        ...

    def map(
        self,
        function: Callable[[Any, Job], Answer],
        jobs: Iterable[Job],
        shared: Any = None,
        *,
        name: str | None = None,
        note: Callable[[Answer], str] | None = None,
    ) -> list[Answer]:
        """`function(shared, job)` for every job, answers in the order of the jobs.

        Jobs may be done in other processes and in any order, and again where a process died, so `function` must be a
        pure module-level function of picklable values. `shared` is shipped once to every machine for all jobs of the
        call; its tensors may lie in read-only memory, and are on the CPU where another process does the job.

        Args:
            function: see above; it calls `beat()` now and then so that it can be stopped.
            jobs: what differs from call to call.
            shared: what does not.
            name: unique within the stage. With it every answer is written to disk as soon as it is there, and a run
                that is resumed reads it back and does not ask again. Answers must then be nested dicts of tensors and
                JSON values.
            note: what the display shows beside a job that is done: a score.
        """
        ...

    def count(self, samples: int) -> None:
        """Training examples that did not come from `batches`, for the record's samples a second."""
        ...

    def log(self, **values: Any) -> None:
        """Append a line to metrics.jsonl and show it in the progress display."""
        ...
