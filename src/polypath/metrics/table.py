"""Which metrics there are, which suit which target, and the measurement of a task."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.task import METRICS_OF, Regression, Task
from polypath.metrics import scores

Metric = Callable[[torch.Tensor, torch.Tensor], float]

METRICS: dict[str, Metric] = {
    "accuracy": scores.accuracy,
    "exact_match": scores.exact_match,
    "f1_macro": scores.f1_macro,
    "auc": scores.auc,
    "mse": scores.mse,
    "mse_scaled": scores.mse,
    "mae": scores.mae,
    "r2": scores.r2,
}

LOWER_IS_BETTER = frozenset({"mse", "mse_scaled", "mae"})

SUITABLE = METRICS_OF


def named(name: str) -> Metric:
    """The metric called `name`; UnknownName offers the nearest."""
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    return METRICS[name]


def main_metric(task: Task) -> str:
    """Name of the metric the task is judged by.

    Raises:
        UnknownName: the task names a metric that does not exist.
        InvalidInput: it names one that does not suit its target.
    """
    name = task.metric or task.default_metric
    named(name)
    suitable = SUITABLE[task.target.kind]
    if name not in suitable:
        raise InvalidInput(
            f"task {task.name!r}: metric {name!r} does not suit a {task.target.kind} target; "
            f"choose one of {', '.join(suitable)}"
        )
    return name


def in_units(task: Task, outputs: torch.Tensor) -> torch.Tensor:
    """Regression outputs in the units of the raw targets, float64: outputs * std + mean; others unchanged."""
    target = task.target
    if not isinstance(target, Regression) or not (target.mean or target.std):
        return outputs
    values = outputs.detach().cpu().double().reshape(len(outputs), -1)
    std = torch.tensor(target.std or (1.0,), dtype=torch.float64)
    mean = torch.tensor(target.mean or (0.0,), dtype=torch.float64)
    return values * std + mean


def in_scale(task: Task, targets: torch.Tensor) -> torch.Tensor:
    """Regression targets as the network is trained on them, float64 (n, size): (t - mean) / std; others unchanged."""
    target = task.target
    if not isinstance(target, Regression):
        return targets
    mean = torch.tensor(target.mean or (0.0,), dtype=torch.float64)
    std = torch.tensor(target.std or (1.0,), dtype=torch.float64)
    return (targets.detach().cpu().double().reshape(len(targets), -1) - mean) / std


def measure(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Metric name -> finite value; the first entry is the task's main metric, the others are its companions.

    A companion that these targets leave undefined (AUC where only one class occurs, R2 of one row) is left out.
    AUC is a companion for two classes and for label rows; with more classes it is measured only when asked for,
    because it sorts n values a class. `mse_scaled` is the error on the scaled targets the network is trained on, while
    `mse` is in the targets' own squared units; it too is measured only when asked for.

    Args:
        task: what is measured.
        outputs: (n, target.outputs) as the network gives them; regression outputs are taken as scaled.
        targets: (n,) class indices, (n, labels) 0/1 rows or (n, size) numbers in their original units, as `Examples`
            keeps them (and not as a `Batch` holds them).

    Raises:
        UnknownName, InvalidInput: see `main_metric`; also shapes that do not fit, a main metric that these
            targets leave undefined, and a regression with NaN or infinite outputs.
    """
    main = main_metric(task)
    kind = task.target.kind
    if outputs.ndim != 2 or outputs.shape[1] != task.target.outputs:
        raise InvalidInput(
            f"task {task.name!r}: outputs must have shape (n, {task.target.outputs}), received {tuple(outputs.shape)}"
        )
    finite = bool(torch.isfinite(outputs).all())
    if kind == "regression" and not finite:
        bad = int((~torch.isfinite(outputs)).any(1).sum())
        raise InvalidInput(
            f"task {task.name!r}: {bad} of {len(outputs)} outputs are NaN or infinite, so no error can be measured; "
            "training has diverged: lower the learning rate or check the targets' scale"
        )
    values = in_units(task, outputs)
    measured: dict[str, float] = {}
    for name in (main, *(n for n in SUITABLE[kind] if n != main)):
        costly = name == "auc" and kind == "classification" and task.target.outputs > 2
        if name != main and (costly or name == "mse_scaled" or (name == "auc" and not finite)):
            continue
        pair = (outputs, in_scale(task, targets)) if name == "mse_scaled" else (values, targets)
        value = METRICS[name](*pair)
        if math.isfinite(value):
            measured[name] = value
        elif name == main:
            raise InvalidInput(
                f"task {task.name!r}: {name} is undefined on these {len(targets)} examples "
                "(too few classes or rows, or outputs that are not finite); measure on more, or choose another metric"
            )
    return measured
