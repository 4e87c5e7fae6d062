"""The record every run writes: results.json. Reports and documentation tables are made from records alone."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from polypath.core.config import Config


class ExitResult(Config):
    """What a task reached at one of its exits, and what that costs; fields as in `TaskResult`."""

    name: str
    test: dict[str, float] = Field(default_factory=dict)
    parameters: int
    flops: int


class TaskResult(Config):
    """What one task reached and what it costs.

    Args:
        test: metric name -> value on the sealed test split, once the run was finished.
        parameters: trainable values on the task's path.
        added_parameters: those that no earlier task used.
        activated: share of all parameters of the network that the task uses, 0..1.
        flops: 2 x multiply-accumulates of one forward pass, batch 1, the task's own input.
        examples: {"train": n, "val": n, "test": n}.
        facts: what data preparation reported (class names, duplicates between train and test).
        confusion: test confusion matrix, rows true, columns answered, in label order; None for other targets.
        labels: label names, for the confusion matrix.
        exits: every exit, cheapest first, for tasks that have several; the last one's figures are the task's.
        f1: label -> F1 on the test split; a task of one label has one for `not <label>` too.
    """

    name: str
    test: dict[str, float] = Field(default_factory=dict)
    parameters: int
    added_parameters: int
    activated: float | None = None
    flops: int
    examples: dict[str, int] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    confusion: list[list[int]] | None = None
    labels: list[str] | None = None
    f1: dict[str, float] = Field(default_factory=dict)
    exits: list[ExitResult] = Field(default_factory=list)


class Curve(Config):
    """One measured value over time: metric of a task on a split (`train`, `val`, `test`) at (stage, epoch)."""

    task: str
    split: str
    metric: str
    stages: list[int]
    epochs: list[int]
    values: list[float]


class Lifelong(Config):
    """How tasks fared while others were learned.

    Args:
        matrix: row = after stage i, column = task j in suite order, test metric or None where not learned yet.
        unlearned: single-task mode only: row = network of task i, column = data of task j, same path and weights.
        peak_accuracy: task -> highest entry of its column.
        forgetting_ratio: task -> last entry / peak.
        convergence_epochs: task -> first epoch at 98 % of the task's peak on its learning curve.
        by_peak: how the peak was chosen (`validation`, `test`: see `polypath.metrics.course`) -> figure
            (`peak_accuracy` and `convergence_epochs` while the task was learned, `forgetting_ratio` at the end) ->
            task -> value; only where learning curves were measured. The fields above read the matrix alone.
        reverse_transfer: task -> last score minus score at the end of its own stage.
        backward_transfer: mean of that over tasks.
    """

    matrix: list[list[float | None]] = Field(default_factory=list)
    unlearned: list[list[float | None]] | None = None
    peak_accuracy: dict[str, float] = Field(default_factory=dict)
    forgetting_ratio: dict[str, float] = Field(default_factory=dict)
    convergence_epochs: dict[str, int] = Field(default_factory=dict)
    by_peak: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)
    reverse_transfer: dict[str, float] = Field(default_factory=dict)
    backward_transfer: float | None = None


class PathPicture(Config):
    """Which components each task uses, for the path picture.

    Args:
        steps: one list a step of the network, of component names in drawing order (all that exist there).
        tasks: task -> one list a step of the component names it uses.
        sizes: component -> trainable values in it.
    """

    steps: list[list[str]]
    tasks: dict[str, list[list[str]]]
    sizes: dict[str, int]


class Totals(Config):
    """Size of the whole system: trainable values, and bytes of all components on disk."""

    parameters: int
    size_bytes: int


class Timing(Config):
    """Where the time went. Absolute values mean little on shared machines."""

    wall_s: float
    train_s: float
    evaluate_s: float
    samples: int
    samples_per_second: float
    peak_memory_bytes: int


class Result(Config):
    """One finished run of one variant with one seed (`RUN/<variant>/seed-<n>/results.json`)."""

    recipe: str
    variant: str
    method: str
    isolation: str
    suite: str
    seed: int
    size: str = "full"
    tasks: list[TaskResult]
    totals: Totals
    lifelong: Lifelong = Lifelong()
    curves: list[Curve] = Field(default_factory=list)
    sharing: dict[str, list[float]] = Field(default_factory=dict)
    paths: PathPicture | None = None
    analysis: dict[str, Any] = Field(default_factory=dict)
    timing: Timing
    config: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
