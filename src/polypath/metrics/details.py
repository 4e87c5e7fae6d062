"""What stands behind a task's figures: answers by class, F1 by class, several networks asked at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polypath.core.errors import InvalidInput
from polypath.core.task import Classification, MultiLabel, Task
from polypath.metrics.scores import confusion_matrix, f1_per_class


def f1_by_label(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Label -> F1; labels that are neither true nor answered anywhere are left out, their F1 is undefined.

    A task of one label (one output with a sigmoid) has an F1 for `not <label>` too. Empty for a regression.

    Args:
        task: what is measured.
        outputs: (n, target.outputs) as the network gives them.
        targets: as `Examples` keeps them.
    """
    target = task.target
    if not isinstance(target, (Classification, MultiLabel)):
        return {}
    labels, scores = target.labels, f1_per_class(outputs, targets)
    if isinstance(target, MultiLabel) and target.outputs == 1:
        # An output of exactly 0 answers "no", so the mirrored question must not turn it into a "yes".
        no = torch.where(outputs == 0, torch.full_like(outputs, torch.finfo(outputs.dtype).tiny), -outputs)
        labels = (f"not {labels[0]}", labels[0])
        scores = torch.cat([f1_per_class(no, 1 - targets), scores])
    return {label: float(f1) for label, f1 in zip(labels, scores, strict=True) if not f1.isnan()}


def details(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
    """What is recorded beside the figures: `f1` by label, and for a classification the `confusion` matrix.

    Args:
        task: what is measured.
        outputs: (n, target.outputs).
        targets: as `Examples` keeps them.
    """
    found: dict[str, Any] = {}
    if task.target.kind == "classification":
        found["confusion"] = confusion_matrix(outputs.argmax(1), targets, task.target.outputs).tolist()
    by_label = f1_by_label(task, outputs, targets)
    return {**found, "f1": by_label} if by_label else found


def ensemble(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits of several networks' common answer, (n, c) float64: the log of the mean of their softmax outputs.

    The largest one is the class with the largest sum of probabilities (RSN2, experiment 1).

    Args:
        outputs: logits (n, c) of each network on the same n examples.

    Raises:
        InvalidInput: no networks, or outputs of different shapes.
    """
    shapes = sorted({tuple(one.shape) for one in outputs})
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise InvalidInput(f"ensemble: outputs of one shape (n, classes) are required, received {shapes}")
    mean = torch.stack([one.double().softmax(1) for one in outputs]).mean(0)
    return mean.clamp_min(torch.finfo(torch.float64).tiny).log()
