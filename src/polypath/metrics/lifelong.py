"""How tasks fared while others were learned, from a matrix of scores.

A matrix has one row for each finished stage and one column for each task; None stands where a task was not learned
yet. Sources: forgetting ratio and convergence, Lee et al. 2019 (DF-CNN), section 4.2; backward transfer,
Lopez-Paz and Ranzato 2017 (GEM), equation 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polypath.core.errors import InvalidInput
from polypath.core.result import Lifelong

Matrix = Sequence[Sequence[float | None]]


def peaks(matrix: Matrix, *, lower_is_better: bool = False) -> list[float | None]:
    """Best entry of every column; None for a task that was never learned.

    Args:
        matrix: rows = stages, columns = tasks.
        lower_is_better: for errors.
    """
    return [_best(column, lower_is_better) if column else None for column in _columns(matrix)]


def forgetting_ratios(matrix: Matrix, *, lower_is_better: bool = False) -> list[float | None]:
    """Last entry / peak of every column: 1 = nothing forgotten; with errors above 1 = forgotten.

    None for a task that was never learned and where the peak is 0.
    """
    return [_kept(column, lower_is_better) for column in _columns(matrix)]


def backward_transfer(matrix: Matrix) -> float | None:
    """Mean over tasks of (last entry - entry when learned); below 0 = forgetting (of an accuracy).

    Counts the tasks that were scored again after the stage that learned them; None where there is none.
    """
    changes = [column[-1] - column[0] for column in _columns(matrix) if len(column) > 1]
    return sum(changes) / len(changes) if changes else None


def forward_transfer(matrix: Matrix, alone: Sequence[float]) -> float | None:
    """Mean over tasks after the first stage of (entry when learned - score of the same task learned alone).

    Above 0 = what came before helped. This is the learning-accuracy form: a matrix without entries for tasks not
    learned yet cannot give GEM's zero-shot form.

    Args:
        matrix: rows = stages, columns = tasks.
        alone: one score a task, of a network trained on that task only.

    Returns:
        None where no task was learned after the first stage.
    """
    columns = _columns(matrix)
    if len(alone) != len(columns):
        raise InvalidInput(f"alone: one score for each of {len(columns)} tasks is required, received {len(alone)}")
    later = [task for task, column in enumerate(columns) if column and matrix[0][task] is None]
    gains = [columns[task][0] - alone[task] for task in later]
    return sum(gains) / len(gains) if gains else None


def convergence_epoch(
    curve: Sequence[float],
    fraction: float = 0.98,
    *,
    epochs: Sequence[int] | None = None,
    lower_is_better: bool = False,
) -> int | None:
    """First epoch of a learning curve whose score is at least `fraction` of the curve's peak.

    Args:
        curve: one score an epoch, of the stage that learned the task.
        fraction: of the peak; an error counts as there at peak / fraction or below.
        epochs: number of each entry; positions from 0 unless given.
        lower_is_better: for errors.

    Returns:
        None for an empty curve.
    """
    if not 0 < fraction <= 1:
        raise InvalidInput(f"fraction must be above 0 and at most 1, received {fraction}")
    if epochs is not None and len(epochs) != len(curve):
        raise InvalidInput(f"epochs: one number for each of {len(curve)} scores is required, received {len(epochs)}")
    if not curve:
        return None
    peak = _best(curve, lower_is_better)
    # a negative peak (R2) is approached from below: 98 % of it would lie above it and never be reached
    near = peak if peak < 0 else peak / fraction if lower_is_better else peak * fraction
    there = [value <= near if lower_is_better else value >= near for value in curve].index(True)
    return there if epochs is None else epochs[there]


def lifelong_record(
    names: Sequence[str],
    matrix: Matrix,
    curves: Mapping[str, Sequence[float]] | None = None,
    *,
    lower_is_better: Mapping[str, bool] | None = None,
    unlearned: Matrix | None = None,
) -> Lifelong:
    """The record of a run: matrix, and peak, forgetting ratio and convergence epoch of every task that has one.

    Args:
        names: tasks in column order.
        matrix: rows = stages, columns = tasks.
        curves: task -> score after every epoch of the stage that learned it.
        lower_is_better: tasks whose score is an error.
        unlearned: single-task mode: row = network of a task, column = data of a task.
    """
    columns = _columns(matrix)
    if matrix and len(columns) != len(names):
        raise InvalidInput(f"matrix: one column for each of {len(names)} tasks is required, received {len(columns)}")
    error = {name: (lower_is_better or {}).get(name, False) for name in names}
    learned = {name: column for name, column in zip(names, columns, strict=False) if column}
    kept = {name: _kept(column, error[name]) for name, column in learned.items()}
    converged = {
        name: convergence_epoch(curve, lower_is_better=error.get(name, False)) for name, curve in (curves or {}).items()
    }
    return Lifelong(
        matrix=[list(row) for row in matrix],
        unlearned=None if unlearned is None else [list(row) for row in unlearned],
        peak_accuracy={name: _best(column, error[name]) for name, column in learned.items()},
        forgetting_ratio={name: ratio for name, ratio in kept.items() if ratio is not None},
        convergence_epochs={name: epoch for name, epoch in converged.items() if epoch is not None},
    )


def _best(column: Sequence[float], lower_is_better: bool) -> float:
    return min(column) if lower_is_better else max(column)


def _kept(column: Sequence[float], lower_is_better: bool) -> float | None:
    """Last entry / peak; None where there is no entry or nothing to divide by."""
    peak = _best(column, lower_is_better) if column else 0.0
    return column[-1] / peak if peak else None


def _columns(matrix: Matrix) -> list[list[float]]:
    """Entries of every column in the order of the stages, without the None."""
    widths = {len(row) for row in matrix}
    if len(widths) > 1:
        raise InvalidInput(f"matrix: every row needs one entry a task, received rows of {sorted(widths)} entries")
    width = widths.pop() if widths else 0
    return [[value for row in matrix if (value := row[task]) is not None] for task in range(width)]
