"""Metrics as pure functions of (outputs, targets), computed in float64 on the CPU.

Classes and label rows are told apart by their shapes: one index a row against at least two output columns is a
classification, anything else a table of independent 0/1 labels. Outputs are logits, as the network gives them.
"""

from __future__ import annotations

import torch

from polypath.core.errors import InvalidInput


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Share of right answers: of rows for classes, of all single entries for label rows.

    Args:
        outputs: (n, c) logits; rows with a NaN count as wrong.
        targets: (n,) class indices, or (n, c) 0/1 rows.
    """
    return float((answers(outputs, targets) == _truth(outputs, targets)).double().mean())


def exact_match(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Share of rows of which every label is right (subset accuracy); for classes the same as `accuracy`."""
    right = answers(outputs, targets) == _truth(outputs, targets)
    return float(right.reshape(len(right), -1).all(1).double().mean())


def f1_macro(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean of `f1_per_class` over the classes that occur in targets or answers; NaN where none does."""
    return float(f1_per_class(outputs, targets).nanmean())


def f1_per_class(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """F1 of every class, (c,) float64: 2 true positives / (times answered + times true).

    NaN marks a class that is neither true nor answered anywhere: its F1 is undefined, not bad.

    Args:
        outputs: (n, c) logits.
        targets: (n,) class indices, or (n, c) 0/1 rows.
    """
    answered, truth = answers(outputs, targets), _truth(outputs, targets)
    if truth.ndim == 1:
        count = outputs.shape[1]
        hits = torch.bincount(truth[answered == truth], minlength=count)
        total = torch.bincount(answered[answered >= 0], minlength=count) + torch.bincount(truth, minlength=count)
    else:
        hits = ((answered == 1) & (truth == 1)).sum(0)
        total = (answered == 1).sum(0) + (truth == 1).sum(0)
    return 2 * hits.double() / total.double()


def auc(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Area under the ROC curve; ties count half. NaN where no class has both positive and negative rows.

    Two classes: of their difference of logits. More: every class against the rest by its softmax probability, plain
    mean over the classes that have both kinds of rows. Label rows: mean over the labels in the same sense.
    Cost: one sort of n values a class.

    Args:
        outputs: (n, c) logits, finite.
        targets: (n,) class indices, or (n, c) 0/1 rows.
    """
    truth = _truth(outputs, targets)
    scores = outputs.detach().cpu().double()
    if truth.ndim == 1 and outputs.shape[1] == 2:
        scores, positive = scores[:, 1:] - scores[:, :1], (truth == 1)[:, None]
    elif truth.ndim == 1:
        scores, positive = scores.softmax(1), torch.nn.functional.one_hot(truth, outputs.shape[1]) == 1
    else:
        positive = truth == 1
    areas = torch.stack([_area(scores[:, i].contiguous(), positive[:, i]) for i in range(scores.shape[1])])
    return float(areas.nanmean())


def mse(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean squared error over all entries of (n, size); in squared units of the targets."""
    values, truth = _columns(outputs, targets)
    return float((values - truth).square().mean())


def mae(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean absolute error over all entries of (n, size); in units of the targets."""
    values, truth = _columns(outputs, targets)
    return float((values - truth).abs().mean())


def r2(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Coefficient of determination, plain mean over the columns of (n, size); NaN with fewer than two rows.

    A column whose targets are constant scores 1 where it is met exactly, else 0 (its ratio would be infinite).
    """
    values, truth = _columns(outputs, targets)
    if len(truth) < 2:
        return float("nan")
    residual = (values - truth).square().sum(0)
    total = (truth - truth.mean(0)).square().sum(0)
    constant = (truth == truth[:1]).all(0)
    flat = torch.where(residual == 0, 1.0, 0.0).double()
    return float(torch.where(constant, flat, 1 - residual / total.clamp_min(torch.finfo(total.dtype).tiny)).mean())


def answers(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The network's answers in the shape of the targets, int64 on the CPU.

    Args:
        outputs: (n, c) logits.
        targets: (n,) class indices: answers are the index of the largest logit; or (n, c) 0/1 rows: answers are 1
            where the logit is above 0, which is a probability above one half.

    Returns:
        -1 marks entries that a NaN left without an answer, so that they can never be right.
    """
    _check(outputs, targets)
    logits = outputs.detach().cpu()
    if is_classes(outputs, targets):
        return torch.where(logits.isnan().any(1), -1, logits.argmax(1))
    return torch.where(logits.isnan(), -1, (logits > 0).long())


def is_classes(outputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether the targets are class indices and not 0/1 rows (a classification has at least two outputs)."""
    return targets.ndim == 1 and outputs.ndim == 2 and outputs.shape[1] > 1


def confusion_matrix(predicted: torch.Tensor, targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Counts, (classes, classes) int64: row = true class, column = answered class.

    Args:
        predicted: (n,) answered class indices; -1 (no answer) is left out.
        targets: (n,) true class indices.
        classes: how many there are.

    Raises:
        InvalidInput: different lengths, or an index outside 0..classes-1.
    """
    predicted, targets = predicted.detach().cpu().long(), targets.detach().cpu().long()
    if predicted.shape != targets.shape or predicted.ndim != 1:
        raise InvalidInput(
            f"confusion matrix: predicted and targets must both have shape (n,), received {tuple(predicted.shape)} "
            f"and {tuple(targets.shape)}"
        )
    outside = (targets < 0) | (targets >= classes) | (predicted < -1) | (predicted >= classes)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise InvalidInput(
            f"confusion matrix: indices must be in 0..{classes - 1}, received target {int(targets[row])} and answer "
            f"{int(predicted[row])} at row {row}"
        )
    given = predicted >= 0
    cells = targets[given] * classes + predicted[given]
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def _area(scores: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Mann-Whitney form of the area: share of (positive, negative) pairs in the right order, ties half."""
    above = int(positive.sum())
    below = len(positive) - above
    if above == 0 or below == 0:
        return scores.new_tensor(float("nan"))
    ordered = scores.sort().values
    ranks = torch.searchsorted(ordered, scores) + torch.searchsorted(ordered, scores, right=True)
    pairs = (ranks.double() + 1).div(2)[positive].sum() - above * (above + 1) / 2  # ties share the mean of their ranks
    return pairs / (above * below)


def _truth(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    truth = targets.detach().cpu().long()
    return truth if is_classes(outputs, targets) else truth.reshape(outputs.shape)


def _columns(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    _check(outputs, targets)
    if outputs.numel() != targets.numel():
        raise InvalidInput(
            f"metric: outputs and targets must hold as many values, received {tuple(outputs.shape)} and "
            f"{tuple(targets.shape)}"
        )
    values = outputs.detach().cpu().double().reshape(len(outputs), -1)
    return values, targets.detach().cpu().double().reshape(values.shape)


def _check(outputs: torch.Tensor, targets: torch.Tensor) -> None:
    received = f"received {tuple(outputs.shape)} and {tuple(targets.shape)}"
    if len(outputs) != len(targets) or len(outputs) == 0:
        raise InvalidInput(f"metric: outputs and targets need the same number of rows, at least one; {received}")
    if not is_classes(outputs, targets) and outputs.numel() != targets.numel():
        raise InvalidInput(
            f"metric: targets must be (n,) class indices or as many values as outputs (n, c); {received}"
        )
