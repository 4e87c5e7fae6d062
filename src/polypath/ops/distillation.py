"""Distillation losses: how far a student's answers are from a teacher's, at a temperature."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

Direction = Literal["teacher_student", "student_teacher"]


def softmax_divergence(
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float = 2.0,
    direction: Direction = "teacher_student",
    t2_scale: bool = False,
) -> torch.Tensor:
    """Mean over the batch of the Kullback-Leibler divergence between two softmax answers.

    With p = softmax(teacher / T) and q = softmax(student / T): `teacher_student` is sum p log(p / q), the usual
    distillation (Hinton et al. 2015); `student_teacher` is sum q log(q / p), as in the Multi-Path paper, equation 4.

    Args:
        student: (n, labels) logits.
        teacher: (n, labels) logits, taken as constants by whoever calls.
        temperature: T, above 0.
        direction: see above.
        t2_scale: multiply by T squared, which keeps the size of gradients when T changes (the paper does not).
    """
    p, q = (F.log_softmax(logits.float() / temperature, dim=1) for logits in (teacher, student))
    wanted, given = (p, q) if direction == "teacher_student" else (q, p)
    loss = F.kl_div(given, wanted, reduction="batchmean", log_target=True)
    return loss * temperature**2 if t2_scale else loss


def sigmoid_divergence(
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float = 2.0,
    direction: Direction = "teacher_student",
    t2_scale: bool = False,
) -> torch.Tensor:
    """The same for independent yes-or-no labels: the mean over labels and batch of the divergence of two Bernoullis.

    Args:
        student: (n, labels) logits.
        teacher: (n, labels) logits.
        temperature: as in `softmax_divergence`, like the next two.
        direction: of the divergence.
        t2_scale: multiply by T squared.
    """
    pairs = [torch.stack([logits.float().reshape(-1) / temperature] * 2, 1) for logits in (student, teacher)]
    for pair in pairs:
        pair[:, 0] = 0.0  # a sigmoid is a softmax of (0, logit)
    return softmax_divergence(pairs[0], pairs[1], 1.0, direction) * (temperature**2 if t2_scale else 1.0)


def value_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two regressions, which have no temperature."""
    return F.mse_loss(student.float(), teacher.float())


def combined(
    main: torch.Tensor, auxiliary: torch.Tensor, alpha: float, combination: Literal["eq5", "additive"]
) -> torch.Tensor:
    """A task's loss and its distillation loss as one.

    `eq5`: alpha * main + (1 - alpha) * auxiliary (Multi-Path, equation 5; alpha = 1 switches distillation off);
    `additive`: main + alpha * auxiliary, which is what the paper's results with alpha = 1 must have used.
    """
    if combination == "eq5":
        return alpha * main + (1 - alpha) * auxiliary
    return main + alpha * auxiliary
