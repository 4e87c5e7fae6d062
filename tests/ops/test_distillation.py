"""Distillation losses against ten lines of NumPy, in both directions, and the two ways of combining."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polypath.ops.distillation import combined, sigmoid_divergence, softmax_divergence, value_distance

STUDENT = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
TEACHER = np.array([[0.5, 1.0, -1.5], [2.0, 2.0, 0.0]])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q), summed over labels, averaged over rows."""
    return float((p * np.log(p / q)).sum(1).mean())


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(STUDENT), torch.from_numpy(TEACHER)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_default_direction_is_teacher_against_student_without_a_factor(temperature: float) -> None:
    expected = divergence(softmax(TEACHER / temperature), softmax(STUDENT / temperature))
    assert float(softmax_divergence(*tensors(), temperature=temperature)) == pytest.approx(expected, rel=1e-6)


def test_equation_4_as_printed_puts_the_student_first() -> None:
    expected = divergence(softmax(STUDENT / 2), softmax(TEACHER / 2))
    assert float(softmax_divergence(*tensors(), direction="student_teacher")) == pytest.approx(expected, rel=1e-6)


def test_t2_scale_multiplies_by_the_temperature_squared() -> None:
    plain = float(softmax_divergence(*tensors(), temperature=3.0))
    assert float(softmax_divergence(*tensors(), temperature=3.0, t2_scale=True)) == pytest.approx(9 * plain, rel=1e-6)
    plain = float(sigmoid_divergence(*tensors(), temperature=3.0))
    assert float(sigmoid_divergence(*tensors(), temperature=3.0, t2_scale=True)) == pytest.approx(9 * plain, rel=1e-6)


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_independent_labels_are_bernoullis(direction: str) -> None:
    def both(logits: np.ndarray) -> np.ndarray:
        yes = 1 / (1 + np.exp(-logits.reshape(-1) / 2))
        return np.stack([yes, 1 - yes], 1)

    p, q = both(TEACHER), both(STUDENT)
    expected = divergence(p, q) if direction == "teacher_student" else divergence(q, p)
    found = sigmoid_divergence(*tensors(), direction=direction)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_equal_answers_cost_nothing_and_gradients_reach_the_student_alone() -> None:
    student = torch.tensor(STUDENT, requires_grad=True)
    assert float(softmax_divergence(student.detach(), student.detach())) == pytest.approx(0, abs=1e-7)
    softmax_divergence(student, torch.tensor(TEACHER)).backward()
    # d/ds of KL(p || softmax(s / T)) is (q - p) / T, averaged over rows.
    expected = (softmax(STUDENT / 2) - softmax(TEACHER / 2)) / 2 / len(STUDENT)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-5)


def test_regressions_are_compared_by_mean_squared_difference() -> None:
    assert float(value_distance(*tensors())) == pytest.approx(float(((STUDENT - TEACHER) ** 2).mean()), rel=1e-6)


def test_equation_5_and_the_additive_combination() -> None:
    main, far = torch.tensor(3.0), torch.tensor(5.0)
    assert float(combined(main, far, 1.0, "eq5")) == 3.0  # alpha = 1 switches distillation off
    assert float(combined(main, far, 0.75, "eq5")) == 0.75 * 3 + 0.25 * 5
    assert float(combined(main, far, 1.0, "additive")) == 8.0
