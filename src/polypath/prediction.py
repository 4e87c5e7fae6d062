"""What a system answers: raw outputs as labels and probabilities, or values in the target's units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.core.task import Classification, MultiLabel, Regression, Task
from polypath.metrics import measure
from polypath.metrics.evaluation import outputs_of


@dataclass(frozen=True)
class Prediction:
    """Answers for a batch of n inputs.

    Args:
        task: who answered.
        labels: n labels (classification), n lists of labels (multi-label), None for regression.
        probabilities: (n, labels), None for regression.
        values: (n, size) in the target's own units, None unless regression.
    """

    task: str
    labels: list[Any] | None
    probabilities: torch.Tensor | None
    values: torch.Tensor | None

    def __len__(self) -> int:
        found = self.values if self.values is not None else self.probabilities
        return 0 if found is None else len(found)


def answer(task: Task, outputs: torch.Tensor) -> Prediction:
    """Raw outputs (n, target.outputs) as labels and probabilities, or values in the target's units."""
    target = task.target
    if isinstance(target, Regression):
        if target.mean:
            outputs = outputs * torch.tensor(target.std) + torch.tensor(target.mean)
        return Prediction(task.name, None, None, outputs)
    if isinstance(target, MultiLabel):
        probabilities = outputs.sigmoid()
        rows = [[target.labels[i] for i in row.nonzero().flatten().tolist()] for row in probabilities > 0.5]
        return Prediction(task.name, rows, probabilities, None)
    assert isinstance(target, Classification)
    probabilities = outputs.softmax(1)
    return Prediction(task.name, [target.labels[i] for i in outputs.argmax(1).tolist()], probabilities, None)


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


def suite_again(config: Mapping[str, Any]) -> Suite:
    """The suite a system learned from, built again from its description.

    Raises:
        InvalidInput: there is none, for data made by hand.
    """
    if not config:
        raise InvalidInput(
            "evaluate: this system was learned from data made by hand, so its test split is not known here; "
            "pass the suite: system.evaluate(suite)"
        )
    from polypath.data import build

    return build(config)
