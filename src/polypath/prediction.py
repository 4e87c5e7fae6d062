"""What a system answers: raw outputs as labels and probabilities, or values in the target's units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from polypath.core.task import Classification, MultiLabel, Regression, Task


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
