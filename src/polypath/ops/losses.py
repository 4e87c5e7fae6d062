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


def focal(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Cross entropy times (1 - p)^2, p the probability of the true class: easy examples count less.

    Lin et al. 2017 (arXiv 1708.02002), gamma = 2. outputs (n, c), targets (n,) int64; class weights (c,) average the
    examples as `cross_entropy` does, sum(w * loss) / sum(w).
    """
    entropy = F.cross_entropy(outputs, targets, reduction="none")
    losses = (1 - (-entropy).exp()).square() * entropy
    if weights is None:
        return losses.mean()
    mine = weights.to(outputs.dtype)[targets]
    return (mine * losses).sum() / mine.sum()


def smooth_cross_entropy(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Cross entropy against 0.9 of the true class and 0.1 of the mean of all (label smoothing, arXiv 1512.00567)."""
    return F.cross_entropy(outputs, targets, weight=weights, label_smoothing=0.1)


def huber(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Squared error / 2 up to one (scaled) unit, linear beyond, so that outliers count less; mean over all entries."""
    return F.huber_loss(outputs, targets.to(outputs.dtype).reshape(outputs.shape))


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "smooth_cross_entropy": smooth_cross_entropy,
    "focal": focal,
    "mse": mse,
    "l1": l1,
    "huber": huber,
    "bce": bce,
}

# Kind of target -> losses that its outputs and targets fit; the first one is the default.
SUITABLE: dict[str, tuple[str, ...]] = {
    "classification": ("cross_entropy", "smooth_cross_entropy", "focal"),
    "regression": ("mse", "l1", "huber"),
    "multilabel": ("bce", "mse", "l1"),
}


def named(name: str) -> Loss:
    """The loss called `name`; ValueError lists the known ones."""
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")
    return LOSSES[name]
