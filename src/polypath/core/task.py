"""What a task is: its inputs, its target and everything between a raw input and the network and back."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator, model_validator

from polypath.core.config import Config
from polypath.core.preprocess import AnyPreprocess
from polypath.ops import losses


class Image(Config):
    """Images of `channels` x `height` x `width` pixels."""

    kind: Literal["image"] = "image"
    channels: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return (self.channels, self.height, self.width)


class Features(Config):
    """Rows of `size` numbers."""

    kind: Literal["features"] = "features"
    size: int = Field(gt=0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return (self.size,)


class Tokens(Config):
    """Sequences of `length` token ids below `vocabulary`."""

    kind: Literal["tokens"] = "tokens"
    vocabulary: int = Field(gt=0)
    length: int = Field(gt=0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return (self.length,)


class Classification(Config):
    """One of several labels; targets are class indices in the order of `labels`.

    Args:
        labels: one a output neuron.
        unused: labels that are known to have no example, so that their output is never right.
    """

    kind: Literal["classification"] = "classification"
    labels: tuple[str, ...]
    unused: tuple[str, ...] = ()

    @field_validator("labels")
    @classmethod
    def _at_least_two(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(labels) < 2:
            raise ValueError(f"a classification needs at least two labels, got {len(labels)}: {list(labels)}")
        if len(set(labels)) != len(labels):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            raise ValueError(f"labels must differ, these occur twice: {twice}")
        return labels

    @model_validator(mode="after")
    def _two_are_used(self) -> Classification:
        strange = [label for label in self.unused if label not in self.labels]
        if strange or len(set(self.labels) - set(self.unused)) < 2:
            raise ValueError(
                f"unused must leave at least two of the labels {list(self.labels)}, received {list(self.unused)}"
            )
        return self

    @property
    def outputs(self) -> int:
        """Number of output neurons."""
        return len(self.labels)


class Regression(Config):
    """`size` real numbers; `mean` and `std` scale targets for training and predictions back to units."""

    kind: Literal["regression"] = "regression"
    size: int = Field(1, gt=0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of output neurons."""
        return self.size


class MultiLabel(Config):
    """Any subset of several labels; targets are 0/1 rows in the order of `labels`."""

    kind: Literal["multilabel"] = "multilabel"
    labels: tuple[str, ...] = Field(min_length=1)

    @property
    def outputs(self) -> int:
        """Number of output neurons."""
        return len(self.labels)


# Kind of target -> metrics that fit it (`polypath.metrics` computes them); the first one is the default.
METRICS_OF: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "f1_macro", "auc"),
    "regression": ("mse", "mae", "r2", "mse_scaled"),
    "multilabel": ("f1_macro", "accuracy", "exact_match", "auc"),
}

InputSpec = Annotated[Image | Features | Tokens, Field(discriminator="kind")]
Target = Annotated[Classification | Regression | MultiLabel, Field(discriminator="kind")]


def composed(name: str) -> str:
    """The name of a task with accents composed (Unicode NFC): names that look the same are the same.

    Done where names enter, not in `Task`: a system that was saved with another form keeps it.
    """
    return unicodedata.normalize("NFC", name)


class Task(Config):
    """One task: frozen data, no examples. JSON round trip: `Task.model_validate_json(task.model_dump_json())`.

    Args:
        name: how the task is asked for; unique in a system.
        inputs: what the network sees.
        target: what it answers.
        preprocess: raw inputs to network inputs; travels with the task into every saved system.
        private_to: access group that alone may use the task, or None for everybody.
        class_weights: weight of each label in the loss (classification only).
        loss: a name in `polypath.ops.losses.LOSSES`; None follows from the target.
        metric: a name in `polypath.metrics.METRICS`; None follows from the target.
        loss_weight: factor of the task's loss; matters where tasks are trained together.
    """

    name: str
    inputs: InputSpec
    target: Target
    preprocess: AnyPreprocess
    private_to: str | None = None
    class_weights: tuple[float, ...] | None = None
    loss: str | None = None
    metric: str | None = None
    loss_weight: float = Field(1.0, gt=0)

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        bad = [c for c in name if c in "/\\" or unicodedata.category(c).startswith("C")]
        # HTTP clients take the dots for folders of the address, and never ask for the task.
        if not name.strip() or name != name.strip() or bad or len(name) > 100 or name in (".", ".."):
            raise ValueError(
                "a task name has 1 to 100 characters, no slash or control character, no space at either end, and is "
                f"neither . nor ..; received {name[:120]!r}"
            )
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        weights = self.class_weights
        if weights is not None:
            if not isinstance(self.target, Classification) or len(weights) != self.target.outputs:
                raise ValueError(f"class_weights needs one weight a label ({self.target.outputs}), got {len(weights)}")
            if min(weights) < 0:
                raise ValueError("class_weights must not be negative")
        losses.named(self.loss or self.default_loss)
        suitable = losses.SUITABLE[self.target.kind]
        if self.loss is not None and self.loss not in suitable:
            raise ValueError(
                f"loss {self.loss!r} does not suit a {self.target.kind} target; choose one of {', '.join(suitable)}"
            )
        return self

    @property
    def default_loss(self) -> str:
        """The loss that follows from the target."""
        return losses.SUITABLE[self.target.kind][0]

    @property
    def default_metric(self) -> str:
        """The metric that follows from the target."""
        return METRICS_OF[self.target.kind][0]

    def loss_of(self, outputs: torch.Tensor, targets: torch.Tensor, weighted: bool = True) -> torch.Tensor:
        """Mean loss of a batch times `loss_weight`, a scalar in float32.

        Args:
            outputs: (n, target.outputs) raw network outputs.
            targets: (n,) int64 class indices, or (n, size) floats (regression targets already scaled).
            weighted: whether `loss_weight` counts; not where tasks are compared with each other.
        """
        function = losses.named(self.loss or self.default_loss)
        weights = None
        if self.class_weights is not None:
            weights = torch.tensor(self.class_weights, device=outputs.device)
        found = function(outputs.float(), targets, weights)
        return found if self.loss_weight == 1 or not weighted else self.loss_weight * found

    def renamed(self, name: str) -> Task:
        """The same task under another name."""
        return self.changed(name=name)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return self.model_dump(mode="json")
