"""Losses as pure functions of (outputs, targets, class weights)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean softmax cross entropy. outputs (n, c), targets (n,) int64, weights (c,) or None."""
    return F.cross_entropy(outputs, targets, weight=weights)


def mse(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean squared error over all entries. outputs and targets (n, size)."""
    return F.mse_loss(outputs, targets.to(outputs.dtype).reshape(outputs.shape))


def l1(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean absolute error over all entries. outputs and targets (n, size)."""
    return F.l1_loss(outputs, targets.to(outputs.dtype).reshape(outputs.shape))


def bce(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean sigmoid cross entropy over all entries. outputs and targets (n, labels)."""
    return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype).reshape(outputs.shape))


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "l1": l1, "bce": bce}


def named(name: str) -> Loss:
    """The loss called `name`; ValueError lists the known ones."""
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")
    return LOSSES[name]
