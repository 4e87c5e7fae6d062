"""Measuring a task: which figures, in which order, in which units."""

import math

import pytest
import torch

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.preprocess import TablePreprocess
from polypath.core.task import Classification, Features, MultiLabel, Regression, Task
from polypath.metrics import METRICS, SUITABLE, main_metric, measure


def task(target, metric=None):
    pre = TablePreprocess(columns=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0))
    return Task(name="t", inputs=Features(size=2), target=target, preprocess=pre, metric=metric)


TWO, THREE = Classification(labels=("a", "b")), Classification(labels=("a", "b", "c"))


def test_every_suitable_metric_exists_and_every_metric_suits_something():
    assert {name for names in SUITABLE.values() for name in names} == set(METRICS)


def test_the_main_metric_comes_first_whether_default_or_named():
    outputs, targets = torch.eye(3), torch.tensor([0, 1, 1])
    assert list(measure(task(THREE), outputs, targets)) == ["accuracy", "f1_macro"]
    assert list(measure(task(THREE, "f1_macro"), outputs, targets)) == ["f1_macro", "accuracy"]
    assert list(measure(task(THREE, "auc"), outputs, targets)) == ["auc", "accuracy", "f1_macro"]
    assert measure(task(THREE), outputs, targets)["accuracy"] == pytest.approx(2 / 3)


def test_two_classes_are_given_an_auc():
    found = measure(task(TWO), torch.tensor([[1.0, 0], [0, 1.0]]), torch.tensor([0, 1]))
    assert found == {"accuracy": 1.0, "f1_macro": 1.0, "auc": 1.0}


def test_an_undefined_companion_is_left_out_and_an_undefined_main_metric_is_said():
    outputs, targets = torch.tensor([[1.0, 0], [2.0, 0]]), torch.tensor([0, 0])
    assert measure(task(TWO), outputs, targets) == {"accuracy": 1.0, "f1_macro": 1.0}
    with pytest.raises(InvalidInput, match="auc is undefined on these 2 examples"):
        measure(task(TWO, "auc"), outputs, targets)


def test_regression_is_measured_in_original_units():
    # outputs 0, 1, -1 with mean 10 and std 2 mean 10, 12, 8; raw targets 11, 12, 8: errors 1, 0, 0
    target = Regression(size=1, mean=(10.0,), std=(2.0,))
    found = measure(task(target), torch.tensor([[0.0], [1.0], [-1.0]]), torch.tensor([[11.0], [12.0], [8.0]]))
    assert list(found) == ["mse", "mae", "r2"]
    assert found["mse"] == pytest.approx(1 / 3)
    assert found["mae"] == pytest.approx(1 / 3)
    # total sum of squares around 31/3: 4/9 + 25/9 + 49/9 = 78/9
    assert found["r2"] == pytest.approx(1 - 9 / 78)


def test_several_regression_columns_have_their_own_scale():
    target = Regression(size=2, mean=(0.0, 100.0), std=(1.0, 10.0))
    found = measure(task(target, "mae"), torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 114.0]]))
    assert found == {"mae": pytest.approx(2.0), "mse": pytest.approx(8.0)}  # r2 needs two rows


def test_regression_without_scaling_and_with_flat_targets():
    assert measure(task(Regression(size=1)), torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 2.0]))["mse"] == 0.5


def test_label_rows():
    outputs, targets = torch.tensor([[1.0, -1], [1, 1]]), torch.tensor([[1, 0], [0, 1]])
    found = measure(task(MultiLabel(labels=("x", "y"))), outputs, targets)
    # x: answered twice, true once, right once: 2/3; y: 1; entries right: 3 of 4; rows right: 1 of 2
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)
    assert (found["accuracy"], found["exact_match"]) == (0.75, 0.5)
    assert next(iter(found)) == "f1_macro"


def test_diverged_outputs_are_wrong_answers_or_a_clear_error():
    nan = torch.full((2, 2), math.nan)
    assert measure(task(TWO), nan, torch.tensor([0, 1])) == {"accuracy": 0.0, "f1_macro": 0.0}
    with pytest.raises(InvalidInput, match="2 of 2 outputs are NaN or infinite"):
        measure(task(Regression(size=2)), nan, torch.zeros(2, 2))


def test_wrong_metric_names_are_refused():
    with pytest.raises(UnknownName, match="Did you mean 'accuracy'"):
        main_metric(task(TWO, "acuracy"))
    with pytest.raises(InvalidInput, match="'mse' does not suit a classification target"):
        measure(task(TWO, "mse"), torch.eye(2), torch.tensor([0, 1]))


def test_outputs_of_another_width_are_refused():
    with pytest.raises(InvalidInput, match=r"must have shape \(n, 2\), received \(2, 3\)"):
        measure(task(TWO), torch.zeros(2, 3), torch.tensor([0, 1]))


def test_the_error_on_scaled_targets_is_measured_when_asked_for():
    # targets 10..30 scaled to [0, 1]: mean 10, std 20; outputs 0.5 and 1 against 0.25 and 1
    target = Regression(size=1, mean=(10.0,), std=(20.0,))
    outputs, targets = torch.tensor([[0.5], [1.0]]), torch.tensor([[15.0], [30.0]])
    found = measure(task(target, "mse_scaled"), outputs, targets)
    assert list(found) == ["mse_scaled", "mse", "mae", "r2"]
    assert found["mse_scaled"] == pytest.approx(0.25**2 / 2)
    assert found["mse"] == pytest.approx(5.0**2 / 2)
    assert "mse_scaled" not in measure(task(target), outputs, targets)
