"""Peaks, forgetting and convergence over time, by hand."""

from __future__ import annotations

import pytest

from polypath.core.errors import InvalidInput
from polypath.metrics.course import (
    Point,
    completed,
    epochs_to_converge,
    kept_ratios,
    own_phase,
    peak,
    reverse_transfer,
    suite_figures,
    task_figures,
)

# A task learned in stage 1, measured every ten epochs, then at the end of stages 2 and 3.
OWN = [Point(1, 9, 0.20), Point(1, 19, 0.39), Point(1, 29, 0.40), Point(1, 39, 0.36)]
TEST = [*OWN, Point(2, 39, 0.30), Point(3, 39, 0.38)]
VALIDATION = [Point(1, 9, 0.3), Point(1, 19, 0.5), Point(1, 29, 0.4), Point(1, 39, 0.5)]


def test_the_own_phase_is_the_stage_that_measured_first() -> None:
    assert own_phase(TEST) == TEST[:4]
    assert own_phase([]) == []


def test_a_task_that_did_not_change_keeps_its_score_in_later_stages() -> None:
    """An exact method measures a task in its own stage only; the matrix repeats the value."""
    found = completed(OWN, [None, 0.36, 0.36, 0.36])
    assert found == [*OWN, Point(2, 0, 0.36), Point(3, 0, 0.36)]
    assert completed(TEST, [None, 0.36, 0.30, 0.38]) == TEST
    assert completed([], [0.5]) == []


def test_by_test_the_peak_is_the_best_test_value_of_the_own_phase() -> None:
    assert peak(TEST, by="test") == Point(1, 29, 0.40)
    assert peak([*TEST, Point(4, 39, 0.9)], by="test").value == 0.40  # a later stage is no peak


def test_by_validation_the_peak_is_the_test_value_at_the_first_best_validation_value() -> None:
    assert peak(TEST, VALIDATION) == Point(1, 19, 0.39)
    assert peak(TEST, [Point(1, 9, 1.0), Point(1, 19, 2.0)], lower_is_better=True) == Point(1, 9, 0.20)


def test_peaks_by_validation_need_validation_scores() -> None:
    for given in (None, [], [Point(1, 5, 0.3)]):  # the last: never where the test split was measured
        with pytest.raises(InvalidInput, match="by validation.*validation split.*by='test'"):
            peak(TEST, given)
    with pytest.raises(InvalidInput, match="no test score"):
        peak([], by="test")


def test_the_forgetting_ratio_is_later_scores_over_the_peak() -> None:
    found = kept_ratios(TEST, Point(1, 29, 0.40))
    assert [(stage, epoch) for stage, epoch, _ in found] == [(2, 39), (3, 39)]
    assert [ratio for _, _, ratio in found] == pytest.approx([0.75, 0.95])
    assert kept_ratios(TEST, Point(1, 29, 0.0)) == []


def test_convergence_counts_epochs_to_98_percent_of_the_peak() -> None:
    """0.98 * 0.40 = 0.392 is reached at epoch index 29, the thirtieth; of the peak 0.39 at the twentieth."""
    assert epochs_to_converge(TEST, peak(TEST, by="test")) == 30
    assert epochs_to_converge(TEST, peak(TEST, VALIDATION)) == 20
    assert epochs_to_converge(TEST, peak(TEST, by="test"), 0.97) == 20  # 0.388
    # a score above the peak by validation, before it, counts as there and no more
    assert epochs_to_converge([Point(0, 0, 0.5), Point(0, 1, 0.4)], Point(0, 1, 0.4)) == 1


def test_reverse_transfer_is_the_change_since_the_own_phase() -> None:
    assert reverse_transfer(TEST) == pytest.approx(0.02)
    assert reverse_transfer(TEST[:4]) is None and reverse_transfer([]) is None


def test_figures_are_gathered_by_task() -> None:
    assert task_figures(TEST[:4], None, by="test") == {"peak_accuracy": 0.40, "convergence_epochs": 30}
    found = suite_figures({"a": TEST}, {"a": VALIDATION}, by="validation")
    assert found["forgetting_ratio"]["a"] == pytest.approx(0.38 / 0.39)
    assert found["convergence_epochs"] == {"a": 20}
    assert suite_figures({"a": TEST}, {}, by="validation") == {}
