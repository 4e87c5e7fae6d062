"""Requests that ask the same are computed together: a queue a question, batches of what waits when a worker is free.

All book-keeping happens on the event loop, so that it needs no lock; only forwards run in worker threads. A request
waits for others only where the batch before it was shared, and at most `max_wait_ms`; while all workers are busy,
requests gather by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from polypath.core.errors import PolypathError
from polypath.prediction import Budget, Prediction
from polypath.serve.live import Generation
from polypath.serve.settings import Limits

log = logging.getLogger(__name__)

QUEUES = 512  # remembered at most; idle ones go first


class Question(NamedTuple):
    """What requests have in common that can be computed at once.

    Args:
        tasks: one, or several that prepare their inputs alike.
        exit: the exit a budget affords, None for the last one.
        early: stop at the first exit that is confident enough.
    """

    tasks: tuple[str, ...]
    exit: str | None = None
    early: bool = False


class Answered(NamedTuple):
    """Plain answers of one request.

    Args:
        rows: task -> one dictionary an input.
        batch: inputs that were computed at once with this request's.
        ms: milliseconds from the queue to the answer.
    """

    rows: dict[str, list[dict[str, Any]]]
    batch: int
    ms: float


@dataclass(eq=False)
class _Waiting:
    stored: torch.Tensor
    budget: Budget | None
    since: float
    answer: asyncio.Future[Answered]


@dataclass(eq=False)
class _Queue:
    generation: Generation
    question: Question
    waiting: deque[_Waiting] = field(default_factory=deque)
    rows: int = 0
    shared: int = 1  # requests in the last batch


class Batcher:
    """Answers questions about decoded inputs, several requests at a time.

    Args:
        limits: batch size, waiting time, workers.
        observe: told the number of inputs of every batch.
    """

    def __init__(self, limits: Limits, observe: Callable[[int], None] = lambda rows: None) -> None:
        self.workers = limits.workers or max(1, (os.cpu_count() or 1) // torch.get_num_threads())
        self._limits, self._observe = limits, observe
        self._pool = ThreadPoolExecutor(self.workers, "polypath-answer")
        self._free = self.workers
        self._queues: dict[tuple[int, Question], _Queue] = {}

    @property
    def waiting(self) -> int:
        """Requests in queues."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    async def ask(
        self, generation: Generation, question: Question, stored: torch.Tensor, budget: Budget | None = None
    ) -> Answered:
        """The answers for decoded inputs (n, ...).

        Args:
            generation: whose tasks answer.
            question: which.
            stored: what the tasks' `preprocess.decode` made.
            budget: one that affords `question.exit`.

        Raises:
            PolypathError: whatever the system says; only the request that caused it sees it.
        """
        loop = asyncio.get_running_loop()
        queue = self._queue(generation, question)
        one = _Waiting(stored, budget, loop.time(), loop.create_future())
        queue.waiting.append(one)
        queue.rows += len(stored)
        self._pump(loop)
        if self._free and queue.waiting:
            loop.call_later(self._limits.max_wait_ms / 1000, self._pump, loop)
        return await one.answer

    def close(self) -> None:
        """Let the workers finish and go."""
        self._pool.shutdown(wait=True)

    def _queue(self, generation: Generation, question: Question) -> _Queue:
        key = (generation.number, question)
        queue = self._queues.get(key)
        if queue is None:
            full = len(self._queues) >= QUEUES
            for old, held in list(self._queues.items()):  # an idle queue of a replaced system would keep it in memory
                if not held.waiting and (full or held.generation.number < generation.number):
                    del self._queues[old]
            queue = self._queues[key] = _Queue(generation, question)
        return queue

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give free workers the queues whose first request has waited longest."""
        while self._free:
            now = loop.time()
            ready = [queue for queue in self._queues.values() if queue.waiting and self._due(queue, now)]
            if not ready:
                return
            queue = min(ready, key=lambda held: held.waiting[0].since)
            batch = self._taken(queue)
            if not batch:
                continue
            self._free -= 1
            future = loop.run_in_executor(self._pool, _computed, queue.generation, queue.question, batch)
            future.add_done_callback(lambda done, batch=batch: self._deliver(loop, batch, done))  # type: ignore[misc]

    def _due(self, queue: _Queue, now: float) -> bool:
        waited = now - queue.waiting[0].since
        # A tenth of a millisecond for the clock: a timer may fire that much early.
        full = queue.rows >= self._limits.max_batch or len(queue.waiting) >= queue.shared
        return full or waited >= self._limits.max_wait_ms / 1000 - 1e-4

    def _taken(self, queue: _Queue) -> list[_Waiting]:
        """The next batch: requests in order, as many as fit; those nobody waits for any more are dropped."""
        batch: list[_Waiting] = []
        rows = 0
        while queue.waiting:
            one = queue.waiting[0]
            if batch and rows + len(one.stored) > self._limits.max_batch:
                break
            queue.waiting.popleft()
            queue.rows -= len(one.stored)
            if not one.answer.done():
                batch.append(one)
                rows += len(one.stored)
        queue.shared = max(1, len(batch))
        return batch

    def _deliver(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], done: asyncio.Future[Any]) -> None:
        self._free += 1
        now = loop.time()
        failed = done.exception()
        rows = sum(len(one.stored) for one in batch)
        if failed is None:
            self._observe(rows)
        for place, one in enumerate(batch):
            if one.answer.done():
                continue
            found = failed if failed is not None else done.result()[place]
            if isinstance(found, BaseException):
                one.answer.set_exception(found)
            else:
                one.answer.set_result(Answered(found, rows, 1000 * (now - one.since)))
        self._pump(loop)


Rows = dict[str, list[dict[str, Any]]]


def _computed(generation: Generation, question: Question, batch: list[_Waiting]) -> list[Rows | Exception]:
    """Answers, or the error, of every request of a batch; where a shared batch fails each is computed alone."""
    try:
        said = _said(generation, question, torch.cat([one.stored for one in batch]), batch[0].budget)
    except Exception as error:
        if len(batch) == 1:
            return [error]
        if not isinstance(error, PolypathError):  # a request's own mistake is its own; this one would go unseen
            log.warning("a shared batch of %d requests failed; each is asked alone", len(batch), exc_info=error)
        return [_computed(generation, question, [one])[0] for one in batch]
    parts: list[Rows | Exception] = []
    start = 0
    for one in batch:
        parts.append({task: rows[start : start + len(one.stored)] for task, rows in said.items()})
        start += len(one.stored)
    return parts


def _said(generation: Generation, question: Question, stored: torch.Tensor, budget: Budget | None) -> Rows:
    system, names = generation.system, question.tasks
    found: dict[str, Prediction]
    if len(names) == 1:
        one = system.predict(names[0], stored, budget=budget, early=question.early, decoded=True)
        found = {names[0]: one}
    else:
        found = system.predict_many(names, stored, decoded=True)
    generation.used.update(names)
    return {name: said.rows(getattr(generation.tasks[name].target, "labels", ())) for name, said in found.items()}
