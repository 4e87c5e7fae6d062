"""Requests that ask the same are computed together: a queue a question, batches of what waits when a worker is free.

All book-keeping happens on the event loop, so that it needs no lock; only forwards run in worker threads. While all
workers are busy, requests gather by themselves. Beside a free worker a request waits for others only where the batch
before was shared: until as many are there again, and never longer than that batch took to compute (or `max_wait_ms`).
Where a forward of one costs nearly as much as one of many, a small batch beside a large one only takes its processor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch

from polypath.core.errors import PolypathError
from polypath.prediction import Budget, Prediction
from polypath.serve.live import Generation
from polypath.serve.settings import Limits

log = logging.getLogger(__name__)

QUEUES = 512  # remembered at most; idle ones go first
Rows = dict[str, list[dict[str, Any]]]  # of one request: task -> one dictionary an input
TICK = 5e-4  # seconds that a request may wait less than it should: uvloop's timers count in whole milliseconds


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

    rows: Rows
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
    took: float = 0.0  # seconds its forward took

    def due(self, limits: Limits) -> float:
        """When its first request stops waiting for others."""
        since = self.waiting[0].since
        if self.rows >= limits.max_batch or len(self.waiting) >= self.shared:
            return since
        return since + min(self.took, limits.max_wait_ms / 1000)


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
        self._asked: dict[_Queue, None] = {}  # those in which requests wait
        self._timer: tuple[float, asyncio.TimerHandle] | None = None

    @property
    def waiting(self) -> int:
        """Requests in queues."""
        return sum(len(queue.waiting) for queue in self._asked)

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
        # Not the loop's clock: uvloop's stands still while callbacks run.
        one = _Waiting(stored, budget, time.perf_counter(), loop.create_future())
        queue.waiting.append(one)
        queue.rows += len(stored)
        self._asked[queue] = None
        self._pump(loop)
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
        """Give free workers the queues whose first request has waited longest; look again when the next is due."""
        while self._free and self._asked:
            now = time.perf_counter()
            due = {queue: queue.due(self._limits) for queue in self._asked}
            ready = [queue for queue, at in due.items() if at <= now + TICK]
            if not ready:
                self._look_again(loop, min(due.values()), now)
                return
            queue = min(ready, key=lambda held: held.waiting[0].since)
            batch = self._taken(queue)
            if not batch:
                continue
            self._free -= 1
            future = loop.run_in_executor(self._pool, _computed, queue.generation, queue.question, batch)
            future.add_done_callback(partial(self._deliver, loop, queue, batch, now))

    def _look_again(self, loop: asyncio.AbstractEventLoop, at: float, now: float) -> None:
        """Pump at that time, or earlier where that was planned already."""

        def look() -> None:
            self._timer = None
            self._pump(loop)

        if self._timer is not None:
            if self._timer[0] <= at:
                return
            self._timer[1].cancel()
        self._timer = at, loop.call_later(at - now, look)

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
        if not queue.waiting:
            del self._asked[queue]
        return batch

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: _Queue,
        batch: list[_Waiting],
        began: float,
        done: asyncio.Future[list[Rows | Exception]],
    ) -> None:
        self._free += 1
        now = time.perf_counter()
        queue.took = now - began
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
