"""Metrics: pure functions of outputs and targets, one table of names, figures of lifelong learning and of trials."""

from polypath.metrics.details import details, ensemble, f1_by_label
from polypath.metrics.lifelong import (
    backward_transfer,
    convergence_epoch,
    forgetting_ratios,
    forward_transfer,
    lifelong_record,
    peaks,
)
from polypath.metrics.scores import (
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
from polypath.metrics.table import LOWER_IS_BETTER, METRICS, SUITABLE, in_scale, in_units, main_metric, measure, named
from polypath.metrics.trials import Trials, over_trials

__all__ = [
    "LOWER_IS_BETTER",
    "METRICS",
    "SUITABLE",
    "Trials",
    "accuracy",
    "answers",
    "auc",
    "backward_transfer",
    "confusion_matrix",
    "convergence_epoch",
    "details",
    "ensemble",
    "exact_match",
    "f1_by_label",
    "f1_macro",
    "f1_per_class",
    "forgetting_ratios",
    "forward_transfer",
    "in_scale",
    "in_units",
    "lifelong_record",
    "mae",
    "main_metric",
    "measure",
    "mse",
    "named",
    "over_trials",
    "peaks",
    "r2",
]
