"""Scores against scikit-learn, and on cases small enough to work out by hand."""

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from polypath.core.errors import InvalidInput
from polypath.metrics import (
    accuracy,
    answers,
    auc,
    confusion_matrix,
    exact_match,
    f1_macro,
    f1_per_class,
    mae,
    mse,
    r2,
)

SEEDS = range(5)


def classes(seed, n=60, count=5):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, count, generator=generator)
    targets = torch.randint(count, (n,), generator=generator)
    outputs[torch.arange(n), targets] += 0.8  # better than chance, far from perfect
    return outputs, targets


def label_rows(seed, n=50, labels=4):
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(n, labels, generator=generator) < 0.3).float()
    return torch.randn(n, labels, generator=generator) + targets - 0.5, targets


@pytest.mark.parametrize("seed", SEEDS)
def test_class_scores_are_scikit_learns(seed):
    outputs, targets = classes(seed)
    predicted = outputs.argmax(1).numpy()
    truth = targets.numpy()
    assert accuracy(outputs, targets) == pytest.approx(reference.accuracy_score(truth, predicted), abs=1e-12)
    assert f1_macro(outputs, targets) == pytest.approx(reference.f1_score(truth, predicted, average="macro"), abs=1e-12)
    np.testing.assert_allclose(f1_per_class(outputs, targets), reference.f1_score(truth, predicted, average=None))
    probabilities = outputs.double().softmax(1).numpy()
    assert auc(outputs, targets) == pytest.approx(
        reference.roc_auc_score(truth, probabilities, multi_class="ovr"), abs=1e-12
    )
    np.testing.assert_array_equal(
        confusion_matrix(outputs.argmax(1), targets, 5), reference.confusion_matrix(truth, predicted, labels=range(5))
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_two_class_auc_is_scikit_learns_with_ties(seed):
    outputs, targets = classes(seed, count=2)
    outputs = (outputs * 2).round()  # whole numbers tie often
    score = (outputs[:, 1] - outputs[:, 0]).numpy()
    assert len(np.unique(score)) < len(score) / 2
    assert auc(outputs, targets) == pytest.approx(reference.roc_auc_score(targets.numpy(), score), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_label_row_scores_are_scikit_learns(seed):
    outputs, targets = label_rows(seed)
    predicted, truth = (outputs > 0).int().numpy(), targets.int().numpy()
    assert accuracy(outputs, targets) == pytest.approx(1 - reference.hamming_loss(truth, predicted), abs=1e-12)
    assert exact_match(outputs, targets) == pytest.approx(reference.accuracy_score(truth, predicted), abs=1e-12)
    assert f1_macro(outputs, targets) == pytest.approx(reference.f1_score(truth, predicted, average="macro"), abs=1e-12)
    assert auc(outputs, targets) == pytest.approx(reference.roc_auc_score(truth, outputs.numpy()), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_errors_are_scikit_learns(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(40, 3, generator=generator)
    outputs = truth + 0.5 * torch.randn(40, 3, generator=generator)
    pair = truth.double().numpy(), outputs.double().numpy()
    assert mse(outputs, truth) == pytest.approx(reference.mean_squared_error(*pair), abs=1e-12)
    assert mae(outputs, truth) == pytest.approx(reference.mean_absolute_error(*pair), abs=1e-12)
    assert r2(outputs, truth) == pytest.approx(reference.r2_score(*pair), abs=1e-12)


@pytest.mark.parametrize(("answer", "expected"), [(3.0, 1.0), (4.0, 0.0)])
def test_r2_of_a_constant_target_is_one_if_met_and_else_zero(answer, expected):
    truth, outputs = torch.full((4, 1), 3.0), torch.full((4, 1), answer)
    assert r2(outputs, truth) == expected == reference.r2_score(truth.numpy(), outputs.numpy())


def test_f1_leaves_out_a_class_that_never_occurs():
    # answers 0, 0, 1; truth 0, 1, 1: F1 is 2/3 for both; class 2 occurs nowhere
    outputs = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [0, 9.0, 0]])
    targets = torch.tensor([0, 1, 1])
    found = f1_per_class(outputs, targets)
    assert found[:2].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert found[2].isnan()
    assert f1_macro(outputs, targets) == pytest.approx(2 / 3)


def test_auc_by_hand():
    # positives at 2 and 1, negatives at 1 and 0: pairs (2,1) (2,0) (1,0) right, (1,1) tied: 3.5 of 4
    outputs = torch.tensor([[2.0], [1.0], [1.0], [0.0]])
    assert auc(outputs, torch.tensor([[1.0], [1.0], [0.0], [0.0]])) == 0.875


def test_auc_of_one_class_is_nan():
    assert np.isnan(auc(torch.eye(3, 2), torch.zeros(3, dtype=torch.int64)))


def test_auc_averages_over_the_classes_that_occur():
    # class 2 never occurs; 0 and 1 are told apart perfectly
    outputs = torch.tensor([[9.0, 0, 0], [8.0, 0, 0], [0, 9.0, 0], [0, 8.0, 0]])
    assert auc(outputs, torch.tensor([0, 0, 1, 1])) == 1.0


def test_a_row_with_nan_is_wrong_whatever_the_target():
    outputs = torch.tensor([[float("nan"), 0.0], [0.0, float("nan")], [1.0, 0.0]])
    assert answers(outputs, torch.tensor([0, 1, 0])).tolist() == [-1, -1, 0]
    assert accuracy(outputs, torch.tensor([0, 1, 0])) == pytest.approx(1 / 3)
    # class 0: answered once, true twice, right once: 2/3; class 1: never answered, true once: 0
    assert f1_per_class(outputs, torch.tensor([0, 1, 0])).tolist() == pytest.approx([2 / 3, 0.0])
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert accuracy(outputs, rows) == pytest.approx(4 / 6)  # the two NaN are wrong, the rest is right


def test_confusion_rows_are_true_classes():
    found = confusion_matrix(torch.tensor([1, 1, 0, -1]), torch.tensor([0, 1, 0, 1]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_one_label_may_come_as_a_flat_row():
    outputs, targets = torch.tensor([[1.0], [-1.0], [1.0]]), torch.tensor([1, 0, 0])
    assert accuracy(outputs, targets) == pytest.approx(2 / 3)
    assert f1_macro(outputs, targets) == pytest.approx(2 / 3)


def test_low_precision_outputs_are_measured_in_float64():
    truth = torch.full((100_000, 1), 1.0)
    assert mse(torch.full((100_000, 1), 1.5, dtype=torch.bfloat16), truth) == 0.25


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64)),
        lambda: accuracy(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)),
        lambda: mse(torch.zeros(3, 2), torch.zeros(3)),
        lambda: f1_macro(torch.zeros(3, 2), torch.zeros(3, 4)),
        lambda: confusion_matrix(torch.tensor([0, 1]), torch.tensor([0, 3]), 3),
        lambda: confusion_matrix(torch.tensor([0, 1]), torch.tensor([0]), 3),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(InvalidInput, match="received"):
        call()
