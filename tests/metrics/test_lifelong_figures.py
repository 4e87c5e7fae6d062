"""Figures of lifelong learning on a matrix small enough to do by hand."""

import pytest

from polypath.core.errors import InvalidInput
from polypath.metrics import (
    backward_transfer,
    convergence_epoch,
    forgetting_ratios,
    forward_transfer,
    lifelong_record,
    peaks,
)

MATRIX = [
    [0.80, None, None, None],
    [0.90, 0.60, None, None],
    [0.45, 0.75, 0.50, None],
]


def test_peaks_and_forgetting():
    assert peaks(MATRIX) == [0.9, 0.75, 0.5, None]
    assert forgetting_ratios(MATRIX) == [pytest.approx(0.5), 1.0, 1.0, None]


def test_errors_peak_at_their_lowest():
    errors = [[2.0, None], [4.0, 1.0]]
    assert peaks(errors, lower_is_better=True) == [2.0, 1.0]
    assert forgetting_ratios(errors, lower_is_better=True) == [2.0, 1.0]


def test_a_peak_of_zero_has_no_ratio():
    assert forgetting_ratios([[0.0]]) == [None]


def test_backward_transfer_compares_last_with_when_learned():
    # task 0: .45 - .80, task 1: .75 - .60; task 2 was learned last
    assert backward_transfer(MATRIX) == pytest.approx((-0.35 + 0.15) / 2)
    assert backward_transfer(MATRIX[:1]) is None


def test_forward_transfer_compares_with_learning_alone():
    # tasks 1 and 2 were learned after something else: .60 - .50 and .50 - .60
    assert forward_transfer(MATRIX, [0.8, 0.5, 0.6, 0.9]) == pytest.approx(0.0)
    assert forward_transfer(MATRIX[:2], [0.8, 0.5, 0.6, 0.9]) == pytest.approx(0.1)
    assert forward_transfer([[0.5, 0.5]], [0.4, 0.4]) is None  # joint: nothing came before


def test_convergence_is_the_first_epoch_at_98_percent_of_the_peak():
    curve = [0.10, 0.50, 0.979, 0.98, 0.90, 1.0]
    assert convergence_epoch(curve) == 3
    assert convergence_epoch(curve, epochs=[0, 5, 10, 15, 20, 25]) == 15
    assert convergence_epoch(curve, 0.5) == 1
    assert convergence_epoch([]) is None
    assert convergence_epoch([10.0, 1.03, 1.02, 1.0], lower_is_better=True) == 2  # 1 / 0.98 is 1.0204
    assert convergence_epoch([-3.0, -1.0, -2.0]) == 1


def test_the_record_holds_what_each_task_has():
    record = lifelong_record(["a", "b", "c", "d"], MATRIX, {"a": [0.2, 0.8], "d": []})
    assert record.matrix == MATRIX
    assert record.peak_accuracy == {"a": 0.9, "b": 0.75, "c": 0.5}
    assert record.forgetting_ratio == {"a": pytest.approx(0.5), "b": 1.0, "c": 1.0}
    assert record.convergence_epochs == {"a": 1}
    assert record.unlearned is None


def test_the_record_takes_errors_and_an_empty_matrix():
    record = lifelong_record(["a", "b"], [[3.0, 0.5], [6.0, 0.4]], lower_is_better={"a": True})
    assert record.peak_accuracy == {"a": 3.0, "b": 0.5}
    assert record.forgetting_ratio == {"a": 2.0, "b": pytest.approx(0.8)}
    assert lifelong_record(["a"], []).peak_accuracy == {}


@pytest.mark.parametrize(
    "call",
    [
        lambda: peaks([[1.0], [1.0, 2.0]]),
        lambda: forward_transfer(MATRIX, [0.5]),
        lambda: convergence_epoch([1.0], 0.0),
        lambda: convergence_epoch([1.0], epochs=[1, 2]),
        lambda: lifelong_record(["a"], MATRIX),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(InvalidInput, match="received"):
        call()
