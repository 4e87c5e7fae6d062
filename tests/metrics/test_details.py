"""F1 by label and answers of several networks, against sums by hand."""

from __future__ import annotations

import pytest
import torch

from polypath.core.errors import InvalidInput
from polypath.core.preprocess import TablePreprocess
from polypath.core.task import Classification, Features, MultiLabel, Regression, Task
from polypath.metrics import accuracy, details, ensemble, f1_by_label


def task(target):
    pre = TablePreprocess(columns=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0))
    return Task(name="t", inputs=Features(size=2), target=target, preprocess=pre)


def test_every_label_has_its_f1_and_a_label_that_never_occurs_has_none():
    # answers a a b b, truth a b b b: a 2*1/(2+1), b 2*2/(2+3), c nowhere
    outputs = torch.tensor([[2.0, 1, 0], [2, 1, 0], [0, 1, 0], [0, 1, 0]])
    targets = torch.tensor([0, 1, 1, 1])
    three = task(Classification(labels=("a", "b", "c")))
    assert f1_by_label(three, outputs, targets) == {"a": pytest.approx(2 / 3), "b": pytest.approx(4 / 5)}
    found = details(three, outputs, targets)
    assert found["confusion"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]] and found["f1"]["b"] == pytest.approx(4 / 5)


def test_one_output_has_an_f1_for_both_answers():
    # answers yes yes no no (a logit of 0 is a no), truth yes no no no
    outputs, targets = torch.tensor([[3.0], [1.0], [-1.0], [0.0]]), torch.tensor([[1.0], [0], [0], [0]])
    found = f1_by_label(task(MultiLabel(labels=("yes",))), outputs, targets)
    assert found == {"not yes": pytest.approx(2 * 2 / (2 + 3)), "yes": pytest.approx(2 * 1 / (2 + 1))}
    assert "confusion" not in details(task(MultiLabel(labels=("yes",))), outputs, targets)


def test_several_labels_have_one_f1_each_and_numbers_have_none():
    outputs, targets = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    found = f1_by_label(task(MultiLabel(labels=("x", "y"))), outputs, targets)
    assert found == {"x": pytest.approx(2 / 3), "y": pytest.approx(2 / 3)}
    assert details(task(Regression(size=1)), torch.zeros(2, 1), torch.zeros(2, 1)) == {}


def test_an_ensemble_answers_the_class_with_the_largest_sum_of_probabilities():
    # two networks lean to class 1 (0.6), one is sure of class 0 (0.99): sums 0.4 + 0.4 + 0.99 > 0.6 + 0.6 + 0.01
    weak, sure = torch.tensor([[0.4, 0.6]]).log(), torch.tensor([[0.99, 0.01]]).log()
    together = ensemble([weak, weak, sure])
    assert together.exp()[0].tolist() == pytest.approx([1.79 / 3, 1.21 / 3])
    assert accuracy(together, torch.tensor([0])) == 1.0
    # adding a constant to a network's logits changes none of its probabilities
    assert torch.allclose(ensemble([weak + 7, weak, sure]), together)


def test_an_impossible_class_stays_a_finite_logit():
    assert torch.isfinite(ensemble([torch.tensor([[2000.0, -2000.0]])])).all()


def test_ensembles_need_outputs_of_one_shape():
    with pytest.raises(InvalidInput, match="one shape"):
        ensemble([torch.zeros(2, 3), torch.zeros(2, 4)])
    with pytest.raises(InvalidInput, match="one shape"):
        ensemble([])
