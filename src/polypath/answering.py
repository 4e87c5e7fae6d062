"""How a system answers: one task, several at once, within a budget, or stopping early where it is confident."""

from __future__ import annotations

import statistics
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from polypath.core import accounting
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.core.network import Network
from polypath.core.probe import machine
from polypath.core.task import Task
from polypath.metrics.evaluation import outputs_of
from polypath.prediction import (
    Budget,
    ExitCost,
    Prediction,
    affordable,
    answer,
    cascaded,
    evaluated,
    lowest_threshold,
    suite_again,
)
from polypath.store import Confidence, Latency, TaskEntry

ONLY = "only"  # what the exit of a task without named exits is called in tables
MERGED = 32  # modules for several tasks at once that are kept ready


class Answers(ABC):
    """The answering half of a `System`."""

    network: Network
    method: str
    entries: dict[str, TaskEntry]
    data: Suite | None
    suite_config: dict[str, Any]
    _fused: dict[Any, Any]
    _lock: threading.RLock

    @abstractmethod
    def _load(self, names: Iterable[str], *, auxiliary: bool = False) -> None:
        """Bring components into memory."""

    def __repr__(self) -> str:
        tasks = list(self.network.tasks)
        named = ", ".join(tasks[:8]) + (", ..." if len(tasks) > 8 else "")
        return f"<{type(self).__name__} of {len(tasks)} task(s), {self.method}: {named}>"

    def predict(
        self,
        task: str,
        inputs: Any,
        *,
        batch: int = 256,
        budget: Budget | Mapping[str, float] | None = None,
        early: bool = False,
        decoded: bool = False,
    ) -> Prediction:
        """Labels and probabilities (or values) for raw inputs.

        Args:
            task: name of the task; always an argument, never a state of the system.
            inputs: what the task's preprocessing takes: image files, PIL images, arrays, rows, texts; one or many.
            batch: examples computed at once.
            budget: what one example may cost, `{"flops": 6e7}`, `{"parameters": 1e6}`, `{"ms": 2.5}` or several of
                them; the deepest exit within it answers. Milliseconds need `calibrate_latency()` on this machine.
            early: stop at the first exit that is confident enough; needs `calibrate_confidence(...)`.
            decoded: `inputs` is already what the task's `preprocess.decode` made of the raw inputs: whoever collects
                a batch from many callers decodes (and refuses) every caller's inputs apart.

        Raises:
            UnknownName: no such task; offers the nearest.
            InvalidInput: inputs of another kind, size, dtype, or not finite; a budget below the cheapest exit; a
                calibration that is missing or from another machine.
        """
        found = self.network.task_named(task)
        stored = inputs if decoded else found.preprocess.decode(inputs)
        _at_least_one("batch", batch)
        exit = None if budget is None else self.affordable_exit(task, budget)
        if early:
            return self._stopping_early(found, stored, batch, exit)
        module = self._module(task, exit)
        with torch.inference_mode():
            outputs = torch.cat([module(found.preprocess.encode(part)).float() for part in stored.split(batch)])
        said = answer(found, outputs)
        return said if exit is None else replace(said, exits=[exit] * len(outputs))

    def predict_many(
        self, tasks: Sequence[str], inputs: Any, *, batch: int = 256, decoded: bool = False
    ) -> dict[str, Prediction]:
        """Answers of several tasks for the same raw inputs; what their paths share is computed once.

        Args:
            tasks: names.
            inputs: as in `predict`; decoded and encoded as the first task says.
            batch: examples computed at once.
            decoded: as in `predict`.

        Raises:
            UnknownName: no such task.
            InvalidInput: tasks that see the inputs in different ways.
        """
        _at_least_one("batch", batch)
        _at_least_one("number of tasks", len(tasks))
        named = {name: self.network.task_named(name) for name in tasks}
        first = next(iter(named.values()))
        other = [name for name, task in named.items() if task.preprocess != first.preprocess]
        if other:
            raise InvalidInput(
                f"predict_many: {first.name!r} and {other} prepare their inputs differently; ask each with predict"
            )
        stored = inputs if decoded else first.preprocess.decode(inputs)
        module = self._together(tuple(named))
        with torch.inference_mode():
            parts = [module(first.preprocess.encode(part)) for part in stored.split(batch)]
        columns = zip(*parts, strict=True)
        return {
            name: answer(task, torch.cat(list(outputs)).float())
            for (name, task), outputs in zip(named.items(), columns, strict=True)
        }

    def evaluate(self, data: Suite | None = None) -> dict[str, dict[str, float]]:
        """Metrics of every task on its sealed test split, {task: {metric: value}}.

        Args:
            data: the suite; None uses the one this system learned from, built again from its description if needed.

        Raises:
            InvalidInput: no data given, and the system was learned from tensors made by hand; or the data has a test
                split of none of its tasks.
        """
        suite = data or self.data or suite_again(self.suite_config)
        return evaluated(suite, self.network.tasks, self._module)

    # ---- budgets ----------------------------------------------------------------------------------------------

    def exit_costs(self, task: str) -> tuple[ExitCost, ...]:
        """What the task costs at each of its exits, cheapest first; milliseconds where they were measured here."""
        self.network.task_named(task)
        with self._lock:
            key = ("costs", ((task, None),))
            if key not in self._fused:
                plan = plan_only(self.network, task)
                found = []
                for name in self.network.exits(task) or (None,):
                    cost = accounting.cost(plan, task, name)
                    found.append(ExitCost(name or ONLY, cost.parameters, cost.flops))
                self._fused[key] = tuple(found)
            costs: tuple[ExitCost, ...] = self._fused[key]
        latency = self.entries[task].latency if task in self.entries else None
        here = latency is not None and (latency.machine, latency.threads) == (machine(), torch.get_num_threads())
        times = latency.ms if latency is not None and here else {}
        return tuple(replace(cost, ms=times.get(cost.exit)) for cost in costs)

    def calibrate_latency(self, *, batch: int = 1, repeats: int = 30) -> dict[str, dict[str, float]]:
        """Measure every exit of every task on this machine: {task: {exit: median milliseconds of one forward}}.

        The table is kept with the system (save it afterwards) and holds for this kind of processor and this many
        threads alone. Exits take turns, so that a busy machine hits all alike.

        Args:
            batch: examples of one forward; a budget in milliseconds means one such forward.
            repeats: forwards timed of every exit.

        Raises:
            InvalidInput: a batch or repeats below 1.
        """
        for name, value in (("batch", batch), ("repeats", repeats)):
            _at_least_one(name, value)
        found: dict[str, dict[str, float]] = {}
        for name, task in self.network.tasks.items():
            exits = self.network.exits(name)
            modules = {exit: self._module(name, exit) for exit in exits} or {ONLY: self._module(name)}
            seconds = _timed(modules, task, batch, repeats)
            found[name] = {exit: 1000 * statistics.median(values) for exit, values in seconds.items()}
            latency = Latency(machine=machine(), threads=torch.get_num_threads(), batch=batch, ms=found[name])
            self.entries[name] = self.entries.get(name, TaskEntry()).changed(latency=latency)
        return found

    def calibrate_confidence(self, data: Suite | None = None, *, drop: float = 0.01) -> dict[str, Confidence]:
        """Find, on validation examples, how confident an early exit must be to answer for the last one.

        The threshold is the lowest whose accuracy, and that of every higher one, stays within `drop` of the last
        exit's. It is kept with the system; what `predict(..., early=True)` saves on other images is theirs to show.

        Args:
            data: the suite; None uses the one this system learned from.
            drop: how much validation accuracy may be lost, 0..1.

        Raises:
            InvalidInput: no task has several exits and validation examples; a drop outside 0..1.
        """
        if not 0 <= drop <= 1:
            raise InvalidInput(f"drop: a share of accuracy from 0 to 1 is required, received {drop}")
        suite = data or self.data or suite_again(self.suite_config, "calibrate_confidence")
        found = {}
        for name, task in self.network.tasks.items():
            exits = self.network.exits(name)
            val = suite[name].val if name in suite.names else None
            if len(exits) < 2 or val is None or task.target.kind != "classification":
                continue
            outputs = [outputs_of(self._module(name, exit), task, val) for exit in exits]
            found[name] = lowest_threshold(outputs, val.targets, drop)
            self.entries[name] = self.entries.get(name, TaskEntry()).changed(confidence=found[name])
        if not found:
            raise InvalidInput(
                "calibrate_confidence: no classification task here has several exits and validation examples; learn "
                'with exits="all" and build the suite with validation=0.1 or so'
            )
        return found

    def affordable_exit(self, task: str, budget: Budget | Mapping[str, float]) -> str | None:
        """The deepest exit of the task within a budget, None for a task that has but one and meets it.

        Raises:
            UnknownName: no such task, or no such limit.
            InvalidInput: a budget below the cheapest exit, or in milliseconds without a calibration on this machine.
        """
        costs, budget = self.exit_costs(task), Budget.given(budget)
        if budget.ms is not None and any(cost.ms is None for cost in costs):
            raise InvalidInput(
                f"budget ms={budget.ms:g}: the exits of {task!r} were not timed on this machine with "
                f"{torch.get_num_threads()} thread(s); call "
                "system.calibrate_latency() here first, or give a budget in flops or parameters"
            )
        exit = affordable(task, costs, budget).exit
        return None if exit == ONLY else exit

    def _stopping_early(self, task: Task, stored: torch.Tensor, batch: int, last: str | None) -> Prediction:
        entry = self.entries.get(task.name)
        if entry is None or entry.confidence is None:
            raise InvalidInput(
                f"early=True: task {task.name!r} has no confidence threshold; call system.calibrate_confidence(...) "
                'first (needs exits="all" and validation examples)'
            )
        exits = self.network.exits(task.name)
        exits = exits[: exits.index(last or exits[-1]) + 1]
        module = self._cascade(task.name, exits)
        with torch.inference_mode():
            parts = [
                cascaded(module, task.preprocess.encode(part), entry.confidence.threshold)
                for part in stored.split(batch)
            ]
        outputs, taken = torch.cat([out for out, _ in parts]), torch.cat([at for _, at in parts])
        return replace(answer(task, outputs), exits=[exits[place] for place in taken.tolist()])

    # ---- modules ----------------------------------------------------------------------------------------------

    def _module(self, task: str, exit: str | None = None) -> nn.Module:
        exits = self.network.exits(task)
        if exits and exit == exits[-1]:
            exit = None
        with self._lock:  # of several threads that ask first, one loads
            key = ("module", ((task, exit),))
            if key not in self._fused:
                self._load(self.network.path(task, exit).components)
                self._fused[key] = self.network.extract(task, fused=True, exit=exit)
            module: nn.Module = self._fused[key]
            return module

    def _forget_answers(self, task: str) -> None:
        """Of the modules that answer, drop those that hold copies of the task's components."""
        for key in [key for key in self._fused if task in asked(key)]:
            del self._fused[key]

    def _together(self, tasks: tuple[str, ...]) -> nn.Module:
        return self._merged(tuple((task, None) for task in tasks))

    def _cascade(self, task: str, exits: Sequence[str]) -> nn.Module:
        return self._merged(tuple((task, exit) for exit in exits))

    def _merged(self, wanted: tuple[tuple[str, str | None], ...]) -> nn.Module:
        """One module for several paths, in eval mode."""
        with self._lock:
            if ("merged", wanted) not in self._fused:
                paths = [self.network.path(task, exit) for task, exit in wanted]
                self._load({name for path in paths for name in path.components})
                with torch.no_grad():
                    made = self.network.fuse_many(paths).eval()
                # n tasks can be asked in 2^n combinations: the ones asked least recently go.
                merged = [key for key in self._fused if key[0] == "merged"]
                for key in merged[: len(merged) + 1 - MERGED]:
                    del self._fused[key]
                self._fused["merged", wanted] = made
            module: nn.Module = self._fused.pop(("merged", wanted))
            self._fused["merged", wanted] = module  # now the one asked last
            return module


def plan_only(network: Network, task: str) -> Network:
    """The network without values, with at least the task's modules: what is needed to count."""
    if not network.lazy:
        return type(network).restore(network.plan())
    made = network.fork(())
    made.build(network.components_of([task]))
    return made


def asked(key: tuple[Any, ...]) -> tuple[str, ...]:
    """Tasks whose components are in a module that answers, by the key it is kept under: (kind, ((task, exit), ...))."""
    return tuple(task for task, _ in key[1])


def _at_least_one(what: str, value: int) -> None:
    if value < 1:
        raise InvalidInput(f"{what}: at least 1 is required, received {value}")


def _timed(modules: Mapping[str, nn.Module], task: Task, batch: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of single forwards on zeros, the modules taking turns."""
    kind = torch.int64 if task.inputs.kind == "tokens" else torch.float32
    inputs = torch.zeros(batch, *task.inputs.shape, dtype=kind)
    seconds: dict[str, list[float]] = {name: [] for name in modules}
    with torch.inference_mode():
        for number in range(repeats + 2):
            for name, module in modules.items():
                began = time.perf_counter()
                module(inputs)
                if number >= 2:  # the first ones warm up
                    seconds[name].append(time.perf_counter() - began)
    return seconds
