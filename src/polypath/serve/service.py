"""What the routes of one server share: the live system, the batcher, metrics, and how a request is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from polypath.core.errors import InvalidInput, StoreError
from polypath.core.task import Task
from polypath.prediction import Budget
from polypath.serve.access import Caller, Tokens
from polypath.serve.batching import Answered, Batcher, Question
from polypath.serve.errors import Refused
from polypath.serve.inputs import Raw, decoded, quick
from polypath.serve.live import Generation, Live
from polypath.serve.measures import Measures
from polypath.serve.settings import Limits


class Options(NamedTuple):
    """How a request is to be answered.

    Args:
        budget: what one input may cost.
        early: stop at the first exit that is confident enough.
        fit: convert and resize images that do not fit, instead of refusing them.
    """

    budget: Budget | None = None
    early: bool = False
    fit: bool = False


class Service:
    """The state of one application.

    Args:
        live: the system.
        tokens: who may ask what, or None.
        limits: of requests.
    """

    def __init__(self, live: Live, tokens: Tokens | None, limits: Limits) -> None:
        self.live, self.tokens, self.limits = live, tokens, limits
        self.measures = Measures()
        self.batcher = Batcher(limits, self.measures.batch.observe)
        self.measures.watch(self)
        self.draining = False
        self._decoders = ThreadPoolExecutor(2, "polypath-decode")

    async def watch(self) -> None:
        """Look for a changed system and changed tokens until cancelled."""
        while True:
            await asyncio.sleep(self.limits.reload_s)
            if self.tokens is not None:
                self.tokens.refresh()
            await self.live.refreshed()

    def close(self) -> None:
        """Finish what is being computed and let the threads go."""
        self.batcher.close()
        self._decoders.shutdown(wait=True)

    async def predict(self, caller: Caller, task: str, inputs: Sequence[Raw], options: Options) -> dict[str, Any]:
        """Answers of one task, as `TaskAnswers`.

        Raises:
            PolypathError: whatever is wrong with the request.
        """

        async def answer(generation: Generation) -> dict[str, Any]:
            found = generation.task(caller, task)
            self._check_rows(inputs)
            stored = await self._decoded(found, inputs, options)
            return (await self._asked(generation, [task], stored, options))[0]

        return await self._newest(answer)

    async def predict_many(
        self, caller: Caller, tasks: Sequence[str] | None, inputs: Sequence[Raw], options: Options
    ) -> dict[str, Any]:
        """Answers of several tasks to the same inputs, as `ManyAnswers`.

        Args:
            caller: who asks.
            tasks: names; None asks all permitted tasks and skips those that cannot take such inputs.
            inputs: of the request.
            options: for every task.

        Raises:
            PolypathError: whatever is wrong with the request.
        """

        async def answer(generation: Generation) -> dict[str, Any]:
            began = time.perf_counter()
            names = generation.permitted(caller) if tasks is None else list(dict.fromkeys(tasks))
            found = [generation.task(caller, name) for name in names]
            self._check_rows(inputs)
            groups: dict[str, list[Task]] = {}
            for task in found:
                groups.setdefault(generation.prepares[task.name], []).append(task)
            said = await asyncio.gather(
                *(self._group(generation, group, inputs, options, skip=tasks is None) for group in groups.values())
            )
            answers = {one["task"]: one for part, _ in said for one in part}
            skipped = {name: reason for _, part in said for name, reason in part}
            if not answers:
                reasons = "; ".join(dict.fromkeys(skipped.values())) or "no task is permitted"
                raise InvalidInput(f"no task can answer these inputs: {reasons}"[:600])
            return {
                "predictions": [answers[name] for name in names if name in answers],
                "skipped": [{"task": name, "reason": skipped[name]} for name in names if name in skipped],
                "ms": _ms(began),
            }

        return await self._newest(answer)

    async def _group(
        self,
        generation: Generation,
        group: Sequence[Task],
        inputs: Sequence[Raw],
        options: Options,
        skip: bool,
    ) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        """Answers of tasks that prepare their inputs alike, and (task, reason) of those skipped."""
        try:
            stored = await self._decoded(group[0], inputs, options)
        except (InvalidInput, Refused) as error:
            if not skip or isinstance(error, Refused):
                raise
            return [], [(task.name, str(error)) for task in group]
        names = [task.name for task in group]
        if options.budget is None and not options.early:
            return await self._asked(generation, names, stored, options), []
        # An exit is a task's own: with a budget every task answers by itself.
        asked = [self._asked(generation, [name], stored, options) for name in names]
        said = await asyncio.gather(*asked, return_exceptions=True)
        answers, skipped = [], []
        for name, one in zip(names, said, strict=True):
            if not isinstance(one, BaseException):
                answers += one
            elif skip and isinstance(one, InvalidInput):
                skipped.append((name, str(one)))
            else:
                raise one
        return answers, skipped

    async def _asked(
        self, generation: Generation, names: Sequence[str], stored: torch.Tensor, options: Options
    ) -> list[dict[str, Any]]:
        """Answers of tasks that prepare their inputs alike, computed at once."""
        exit, budget = None, options.budget
        if budget is not None:
            loop = asyncio.get_running_loop()
            exit = await loop.run_in_executor(self._decoders, generation.system.affordable_exit, names[0], budget)
        try:
            async with asyncio.timeout(self.limits.answer_s):
                question = Question(tuple(names), exit, options.early)
                found: Answered = await self.batcher.ask(generation, question, stored, budget)
        except TimeoutError:
            raise Refused(
                503, "busy", f"no answer within {self.limits.answer_s:g} s: the server is busy", {"Retry-After": "5"}
            ) from None
        for name in names:
            self.measures.predictions.labels(name).inc(len(stored))
        return [
            {
                "task": name,
                "answers": found.rows[name],
                "ms": round(found.ms, 3),
                "batch": found.batch,
                "together": len(names),
            }
            for name in names
        ]

    async def _newest(self, answer: Any) -> dict[str, Any]:
        """The answer of the newest generation; asked again where the system was replaced under a request."""
        generation = self.live.now
        try:
            found: dict[str, Any] = await answer(generation)
        except StoreError:
            # A component that only the old state had is gone: the new state answers, nothing is dropped.
            await self.live.refreshed()
            if self.live.now is generation:
                raise
            found = await answer(self.live.now)
        return found

    async def _decoded(self, task: Task, inputs: Sequence[Raw], options: Options) -> torch.Tensor:
        if quick(task, inputs):
            return decoded(task, inputs, self.limits, options.fit)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, decoded, task, inputs, self.limits, options.fit)

    def _check_rows(self, inputs: Sequence[Raw]) -> None:
        if len(inputs) > self.limits.max_rows:
            raise Refused(
                413, "too_many_inputs", f"inputs: at most {self.limits.max_rows} a request, received {len(inputs)}"
            )


def _ms(began: float) -> float:
    return round(1000 * (time.perf_counter() - began), 3)
