"""How one task fared over time: its peak while it was learned, what was kept of it, how fast it got there.

A course is the scores of one task at (stage, epoch); its own phase is the stage that measured it first. Source: Lee et
al. 2019 (DF-CNN), section 4.2. The paper's peak is the best test value of the own phase, which selects on test data; by
validation, the peak is the test value at the epoch of the best validation value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from polypath.core.errors import InvalidInput
from polypath.metrics.lifelong import convergence_epoch

By = Literal["validation", "test"]


@dataclass(frozen=True)
class Point:
    """One score: the stage and the epoch (from 0) after which it was measured."""

    stage: int
    epoch: int
    value: float


Course = Sequence[Point]


def own_phase(course: Course) -> list[Point]:
    """The scores of the stage that measured the task first: while it was learned."""
    return [point for point in course if point.stage == course[0].stage] if course else []


def completed(course: Course, column: Sequence[float | None]) -> list[Point]:
    """The course with a point for every later stage in which the task was not measured because it did not change.

    Args:
        course: measured scores.
        column: the task's column of the accuracy matrix, one entry a stage.
    """
    seen = {point.stage for point in course}
    own = course[0].stage if course else len(column)
    later = [(stage, value) for stage, value in enumerate(column) if stage > own and stage not in seen]
    added = [Point(stage, 0, value) for stage, value in later if value is not None]
    return sorted([*course, *added], key=lambda point: (point.stage, point.epoch))


def peak(
    test: Course, validation: Course | None = None, *, by: By = "validation", lower_is_better: bool = False
) -> Point:
    """The task's peak while it was learned: a point of the test course.

    Args:
        test: test scores over time.
        validation: validation scores over time; required where `by` is validation.
        by: `validation`: the test score at the epoch (of those where both were measured) of the best validation
            score, the first of equals; `test`: the best test score, as the paper reports it.
        lower_is_better: for errors.

    Raises:
        InvalidInput: no scores, or none of validation to choose by.
    """
    phase = own_phase(test)
    if not phase:
        raise InvalidInput("peak: no test score of the task while it was learned")
    sign = -1 if lower_is_better else 1
    if by == "test":
        return max(phase, key=lambda point: (sign * point.value, -point.epoch))
    seen = {(point.stage, point.epoch): point.value for point in validation or ()}
    both = [point for point in phase if (point.stage, point.epoch) in seen]
    if not both:
        raise InvalidInput(
            "peak by validation: no validation score was measured where a test score was; learn with "
            "peaks='validation' and a suite with a validation split, or ask by='test'"
        )
    return max(both, key=lambda point: (sign * seen[point.stage, point.epoch], -point.epoch))


def kept_ratios(test: Course, at: Point) -> list[tuple[int, int, float]]:
    """(stage, epoch, score / peak) of every score after the task's own phase: the catastrophic forgetting ratio.

    1: nothing forgotten; above 1: better than while it was learned, of an error: forgotten. Empty where the peak is 0.
    """
    own = at.stage
    return [(p.stage, p.epoch, p.value / at.value) for p in test if p.stage > own and at.value]


def epochs_to_converge(test: Course, at: Point, fraction: float = 0.98, *, lower_is_better: bool = False) -> int:
    """Epochs of training until the test score first came to `fraction` of the peak."""
    phase = [point for point in own_phase(test) if point.epoch <= at.epoch]
    values = [point.value for point in phase]
    # up to the peak by validation later scores may be higher; convergence is towards the peak that is reported
    capped = [max(v, at.value) if lower_is_better else min(v, at.value) for v in values]
    found = convergence_epoch(capped, fraction, epochs=[p.epoch for p in phase], lower_is_better=lower_is_better)
    assert found is not None
    return found + 1


def reverse_transfer(test: Course) -> float | None:
    """Last score minus score at the end of the own phase: above 0, later tasks helped; None without later scores."""
    phase = own_phase(test)
    later = [point for point in test if phase and point.stage > phase[-1].stage]
    return later[-1].value - phase[-1].value if later else None


def task_figures(test: Course, validation: Course | None, *, by: By, lower_is_better: bool = False) -> dict[str, float]:
    """Peak, last kept ratio (where later stages measured the task) and epochs to converge of one task."""
    at = peak(test, validation, by=by, lower_is_better=lower_is_better)
    figures = {"peak_accuracy": at.value}
    ratios = kept_ratios(test, at)
    if ratios:
        figures["forgetting_ratio"] = ratios[-1][2]
    figures["convergence_epochs"] = epochs_to_converge(test, at, lower_is_better=lower_is_better)
    return figures


def suite_figures(
    test: Mapping[str, Course],
    validation: Mapping[str, Course],
    *,
    by: By,
    lower_is_better: Mapping[str, bool] | None = None,
) -> dict[str, dict[str, float]]:
    """Figure -> task -> value, of every task that was measured; empty where peaks cannot be chosen that way."""
    found: dict[str, dict[str, float]] = {}
    for task, course in test.items():
        error = (lower_is_better or {}).get(task, False)
        try:
            figures = task_figures(course, validation.get(task), by=by, lower_is_better=error)
        except InvalidInput:
            return {}
        for name, value in figures.items():
            found.setdefault(name, {})[task] = value
    return found
