"""RMSProp against the update rules written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polypath.ops.rmsprop import RMSProp, decayed


def stepped(gradients: list[np.ndarray], **settings: object) -> np.ndarray:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = RMSProp([weight], **settings)  # type: ignore[arg-type]
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
    return weight.detach().numpy()


GRADIENTS = [np.array([0.5, -0.25]), np.array([0.1, 3.0])]


def test_tensorflows_form_starts_at_one_with_the_small_number_inside_the_root() -> None:
    weight, square = np.array([1.0, -2.0]), np.ones(2)
    for gradient in GRADIENTS:
        square = 0.9 * square + 0.1 * gradient**2
        weight = weight - 0.01 * gradient / np.sqrt(square + 1e-10)
    np.testing.assert_allclose(stepped(GRADIENTS, lr=0.01), weight, rtol=1e-12)


def test_the_other_form_is_torchs() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    theirs = torch.optim.RMSprop([weight], lr=0.01, alpha=0.9)
    for gradient in GRADIENTS:
        weight.grad = torch.from_numpy(gradient)
        theirs.step()
    np.testing.assert_allclose(stepped(GRADIENTS, lr=0.01, tf1=False), weight.detach().numpy(), rtol=1e-12)


def test_squares_of_the_caller_are_used_and_are_not_state() -> None:
    weight, square = torch.nn.Parameter(torch.ones(1)), torch.full((1,), 4.0)
    optimizer = RMSProp([weight], [square], lr=1.0)
    weight.grad = torch.full((1,), 2.0)
    optimizer.step()
    assert float(square) == pytest.approx(0.9 * 4 + 0.1 * 4)
    assert optimizer.state_dict()["state"] == {}
    with pytest.raises(ValueError, match="one accumulator a parameter"):
        RMSProp([weight], [square, square])


def test_weight_decay_is_decoupled() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = RMSProp([weight], lr=0.5, weight_decay=0.1)
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(1 - 0.5 * 0.1)


def test_the_learning_rate_falls_as_one_over_time() -> None:
    """1e-4 / (1 + 4000 / 4000): halved after two of the paper's tasks, not exponential."""
    assert decayed(1e-4, 1 / 4000, 4000) == pytest.approx(5e-5)
