"""What a system answers: raw outputs as labels and probabilities or values, at which exit, for which budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.core.task import Classification, MultiLabel, Regression, Task
from polypath.metrics import measure
from polypath.metrics.evaluation import outputs_of
from polypath.store import Confidence


@dataclass(frozen=True)
class Prediction:
    """Answers for a batch of n inputs.

    Args:
        task: who answered.
        labels: n labels (classification), n lists of labels (multi-label), None for regression.
        probabilities: (n, labels), None for regression.
        values: (n, size) in the target's own units, None unless regression.
        exits: at which exit each input was answered; None where no budget or early stopping was asked for.
    """

    task: str
    labels: list[Any] | None
    probabilities: torch.Tensor | None
    values: torch.Tensor | None
    exits: list[str] | None = None

    def __len__(self) -> int:
        found = self.values if self.values is not None else self.probabilities
        return 0 if found is None else len(found)

    def rows(self, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        """One dictionary of plain values an input: what JSON can carry.

        Args:
            names: the task's labels in the order of its outputs, none for regression.

        Returns:
            `label`, `probability` and `probabilities` {label: p}; `labels` and `probabilities` for multi-label tasks;
            `values` for regression; and `exit` where one was chosen.
        """
        rows: list[dict[str, Any]]
        if self.values is not None:
            rows = [{"values": row} for row in self.values.tolist()]
        else:
            assert self.labels is not None and self.probabilities is not None
            rows = []
            for label, shares in zip(self.labels, self.probabilities.tolist(), strict=True):
                said = {"labels": label} if isinstance(label, list) else {"label": label, "probability": max(shares)}
                rows.append({**said, "probabilities": dict(zip(names, shares, strict=True))})
        if self.exits is not None:
            for row, exit in zip(rows, self.exits, strict=True):
                row["exit"] = exit
        return rows


def answer(task: Task, outputs: torch.Tensor) -> Prediction:
    """Raw outputs (n, target.outputs) as labels and probabilities, or values in the target's units.

    Raises:
        InvalidInput: NaN or infinity among them; names the rows.
    """
    target = task.target
    if isinstance(target, Regression) and target.mean:
        outputs = outputs * torch.tensor(target.std) + torch.tensor(target.mean)
    if not torch.isfinite(outputs).all():
        bad = (~torch.isfinite(outputs)).flatten(1).any(1).nonzero().flatten()[:5].tolist()
        raise InvalidInput(
            f"inputs: task {task.name!r} has no finite answer in row(s) {bad}: the values there are too large for its "
            "network (compare their units with the training data), or it was trained until it diverged"
        )
    if isinstance(target, Regression):
        return Prediction(task.name, None, None, outputs)
    if isinstance(target, MultiLabel):
        probabilities = outputs.sigmoid()
        rows = [[target.labels[i] for i in row.nonzero().flatten().tolist()] for row in probabilities > 0.5]
        return Prediction(task.name, rows, probabilities, None)
    assert isinstance(target, Classification)
    probabilities = outputs.softmax(1)
    return Prediction(task.name, [target.labels[i] for i in outputs.argmax(1).tolist()], probabilities, None)


class Budget(Config):
    """What one example may cost; where several are given all of them hold.

    Args:
        flops: 2 x multiply-accumulates.
        parameters: trainable values on the path.
        ms: milliseconds of one forward on this machine, as `System.calibrate_latency` measured it.
    """

    flops: float | None = Field(None, gt=0)
    parameters: float | None = Field(None, gt=0)
    ms: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.flops is None and self.parameters is None and self.ms is None:
            raise ValueError("at least one of flops, parameters and ms is required, received none")
        return self

    @classmethod
    def given(cls, value: Budget | Mapping[str, float]) -> Budget:
        """A budget from one, or from a mapping."""
        if isinstance(value, Budget):
            return value
        if not isinstance(value, Mapping):
            raise InvalidInput(f'budget: {{"flops": ...}}, {{"parameters": ...}} or {{"ms": ...}}, received {value!r}')
        return cls.of(value, "budget")


@dataclass(frozen=True)
class ExitCost:
    """What a task costs at one of its exits.

    Args:
        exit: its name.
        parameters: trainable values on the path to it.
        flops: 2 x multiply-accumulates of one example.
        ms: measured milliseconds, None where nobody measured on this machine.
    """

    exit: str
    parameters: int
    flops: int
    ms: float | None = None

    def within(self, budget: Budget) -> bool:
        """Whether every limit that is given holds."""
        pairs = ((self.flops, budget.flops), (self.parameters, budget.parameters), (self.ms, budget.ms))
        return all(limit is None or (cost is not None and cost <= limit) for cost, limit in pairs)


def affordable(task: str, costs: Sequence[ExitCost], budget: Budget) -> ExitCost:
    """The deepest exit within the budget; costs come cheapest first.

    Raises:
        InvalidInput: not even the cheapest is; says what it costs.
    """
    fitting = [cost for cost in costs if cost.within(budget)]
    if fitting:
        return fitting[-1]
    cheapest = costs[0]
    limits = ", ".join(f"{key}={value:g}" for key, value in budget.model_dump().items() if value is not None)
    time = f", {cheapest.ms:.3g} ms" if cheapest.ms is not None else ""
    raise InvalidInput(
        f"budget {limits}: task {task!r} cannot be answered for that; its cheapest exit is {cheapest.exit!r} with "
        f"{cheapest.flops:,} FLOPs, {cheapest.parameters:,} parameters{time}"
    )


def lowest_threshold(outputs: Sequence[torch.Tensor], targets: torch.Tensor, drop: float) -> Confidence:
    """The lowest threshold whose accuracy, and that of every higher one, is within `drop` of the last exit's.

    Args:
        outputs: (n, labels) of every exit, shallowest first, on validation examples.
        targets: (n,) classes.
        drop: accuracy that may be lost, 0..1.
    """
    sure = torch.stack([found.softmax(1).amax(1) for found in outputs])
    right = torch.stack([found.argmax(1) == targets for found in outputs])
    full = float(right[-1].double().mean())
    best, kept, share = 2.0, full, [0.0] * (len(outputs) - 1) + [1.0]  # 2: no probability is as large, nothing stops
    for threshold in sure[:-1].flatten().unique().flip(0).tolist():
        stops = sure >= threshold
        stops[-1] = True
        at = stops.int().argmax(0)  # the first exit that is confident enough
        accuracy = float(right.gather(0, at[None])[0].double().mean())
        if accuracy < full - drop - 1e-12:
            break
        best, kept = threshold, accuracy
        share = (torch.bincount(at, minlength=len(outputs)) / len(targets)).tolist()
    return Confidence(threshold=best, drop=drop, examples=len(targets), full=full, kept=kept, share=tuple(share))


def cascaded(module: nn.Module, inputs: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs (n, labels) and exits taken (n,): an input goes on only while no exit is confident enough.

    Args:
        module: `segments`, `heads` and `depths` of a network's `fuse_many` over the exits of one task.
        inputs: (n, ...) encoded.
        threshold: largest softmax probability that suffices.
    """
    parts: Any = module
    segments, heads, depths = list(parts.segments), list(parts.heads), parts.depths
    rows = torch.arange(len(inputs), device=inputs.device)
    taken = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    outputs: torch.Tensor | None = None
    value: Any = inputs
    done = 0
    for place, (head, depth) in enumerate(zip(heads, depths, strict=True)):
        for segment in segments[done:depth]:
            value = segment(value)
        done = depth
        found = head(value).float()
        outputs = found.new_empty(len(inputs), found.shape[1]) if outputs is None else outputs
        outputs[rows], taken[rows] = found, place
        unsure = found.softmax(1).amax(1) < threshold
        if not bool(unsure.any()):
            break
        rows = rows[unsure]
        value = tuple(one[unsure] for one in value) if isinstance(value, tuple) else value[unsure]
    assert outputs is not None
    return outputs, taken


def evaluated(
    suite: Suite, tasks: Mapping[str, Task], module_of: Callable[[str], nn.Module]
) -> dict[str, dict[str, float]]:
    """Metrics of every task on its sealed test split, {task: {metric: value}}.

    Raises:
        InvalidInput: the suite has a test split of none of the tasks.
    """
    scores = {}
    for name in tasks:
        if name in suite.names and suite[name].test is not None:
            item = suite[name]
            opened = item.test.unseal()  # type: ignore[union-attr]
            scores[name] = measure(item.task, outputs_of(module_of(name), item.task, opened), opened.targets)
    if tasks and not scores:
        raise InvalidInput(
            f"evaluate: the suite {suite.name!r} has a test split of none of the tasks {list(tasks)}; "
            f"it holds {list(suite.names)}"
        )
    return scores


def suite_again(config: Mapping[str, Any], asked: str = "evaluate") -> Suite:
    """The suite a system learned from, built again from its description.

    Args:
        config: the description.
        asked: which method of the system wants it, for the message.

    Raises:
        InvalidInput: there is none, for data made by hand.
    """
    if not config:
        raise InvalidInput(
            f"{asked}: this system was learned from data made by hand, so its splits are not known here; "
            f"pass the suite: system.{asked}(suite)"
        )
    from polypath.data import build

    renamed = config.get("renamed", {})
    suite = build({key: value for key, value in config.items() if key != "renamed"})
    named = [replace(data, task=data.task.renamed(renamed.get(data.name, data.name))) for data in suite]
    return replace(suite, tasks=tuple(named), config=dict(config)) if renamed else suite
