"""Losses, with values by hand."""

from __future__ import annotations

import math

import pytest
import torch

from polypath.ops.losses import LOSSES, SUITABLE, named


def test_cross_entropy_by_hand() -> None:
    # softmax of (0, ln 3) is (1/4, 3/4); of (0, 0) is (1/2, 1/2).
    outputs = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    targets = torch.tensor([1, 0])
    one, two = -math.log(3 / 4), math.log(2)
    assert named("cross_entropy")(outputs, targets, None).item() == pytest.approx((one + two) / 2, rel=1e-6)
    # Weights 3 for class 0 and 1 for class 1: a weighted mean.
    weighted = named("cross_entropy")(outputs, targets, torch.tensor([3.0, 1.0]))
    assert weighted.item() == pytest.approx((1 * one + 3 * two) / 4, rel=1e-6)


def test_mse_and_l1_by_hand_for_every_shape_of_targets() -> None:
    outputs = torch.tensor([[1.0], [4.0]])
    for targets in (torch.tensor([[3.0], [3.0]]), torch.tensor([3.0, 3.0]), torch.tensor([3, 3])):
        assert named("mse")(outputs, targets, None).item() == 2.5  # (4 + 1) / 2
        assert named("l1")(outputs, targets, None).item() == 1.5  # (2 + 1) / 2


def test_bce_by_hand() -> None:
    # sigmoid(ln 3) = 3/4.
    outputs = torch.tensor([[math.log(3.0), 0.0]])
    found = named("bce")(outputs, torch.tensor([[1, 0]]), None).item()
    assert found == pytest.approx((-math.log(3 / 4) + math.log(2)) / 2, rel=1e-6)


def test_losses_stay_finite_for_extreme_outputs() -> None:
    outputs = torch.tensor([[1e4, -1e4]])
    assert named("cross_entropy")(outputs, torch.tensor([1]), None).item() == 2e4
    assert named("bce")(outputs, torch.tensor([[0.0, 1.0]]), None).item() == 1e4


def test_an_unknown_loss_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="unknown loss 'hinge'; known: cross_entropy, smooth_cross_entropy, focal, mse, l1, huber, bce"
    ):
        named("hinge")
    assert {loss for losses in SUITABLE.values() for loss in losses} == set(LOSSES)


def test_focal_loss_by_hand() -> None:
    # true classes have probability 3/4 and 1/2, as above: -(1/4)^2 ln(3/4) and -(1/2)^2 ln(1/2)
    outputs = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    targets = torch.tensor([1, 0])
    one, two = -math.log(3 / 4) / 16, math.log(2) / 4
    assert named("focal")(outputs, targets, None).item() == pytest.approx((one + two) / 2, rel=1e-5)
    weighted = named("focal")(outputs, targets, torch.tensor([3.0, 1.0]))
    assert weighted.item() == pytest.approx((1 * one + 3 * two) / 4, rel=1e-5)


def test_label_smoothing_by_hand() -> None:
    # 0.9 of the true class and 0.05 of each of two: -(0.95 ln(3/4) + 0.05 ln(1/4))
    found = named("smooth_cross_entropy")(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]), None).item()
    assert found == pytest.approx(-(0.95 * math.log(3 / 4) + 0.05 * math.log(1 / 4)), rel=1e-5)


def test_huber_by_hand() -> None:
    # errors 0.5 and 3: 0.5^2 / 2 and 3 - 1/2
    found = named("huber")(torch.tensor([[1.0], [4.0]]), torch.tensor([1.5, 1.0]), None).item()
    assert found == pytest.approx((0.125 + 2.5) / 2)
