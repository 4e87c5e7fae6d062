"""Settings that every suite shares: which rows, how images are brought to one shape, what happens in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, TypeAdapter, field_validator, model_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import Augment, HorizontalFlip, PadCrop, Perspective
from polypath.data.columns import MissingInputs
from polypath.data.images import Fit, Shape

# PaRT's training pipeline (paper appendix B): perspective p .75 scale .2, flip, crop of the image padded by 4.
PART = (Perspective(p=0.75, scale=0.2), HorizontalFlip(p=0.5), PadCrop(padding=4))
Scale = Literal["standard", "minmax", "none"]
_OPS: TypeAdapter[tuple[Augment, ...]] = TypeAdapter(tuple[Augment, ...])


class Constants(Config):
    """Mean and standard deviation, one number a channel, in units of [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class DataOptions(Config):
    """How one data set becomes examples.

    Args:
        dataset: anything `open_source` takes as text.
        seed: of shuffles, partitions and carve-outs.
        inputs: input column(s), for csv and parquet.
        categorical: input columns whose numbers are categories; columns of texts always are.
        missing_inputs: what happens to numbers that are missing in input columns: `refuse`, or `mean`, which reads them
            as the mean of the training rows, in every prediction too (needs scale: standard).
        train, test: split expressions; where the set has no stored test split the defaults are train[:80%] and
            train[80%:]; test may be None only there, where train is given. A number in test is the share (0..1) of the
            stored training split that is taken for it.
        validation: share of the training examples (0..1) carved out with a seed, a split expression, or None where
            nothing is selected.
        per_class, test_per_class: at most so many examples a class (validation is carved out of them afterwards).
        augment: "none", "part" or a list of operations (`polypath.core.examples.Augment` as JSON).
        normalise: None: the catalogue's constants, else "train"; "train": from this set's training examples; "task":
            from each task's own; "none": pixels stay in [0, 1]; or the constants.
        scale, target_scale: of table columns and of regression targets, from the training rows: "standard" (mean 0,
            deviation 1), "minmax" (smallest 0, largest 1) or "none".
        size: pixels a side that images are brought to, or (height, width); None: they all have the first one's.
        fit: how: `stretch` resizes both sides, `crop` resizes the shorter side and cuts the centre, `exact` refuses
            images of another size.
        shorter_side: pixels, for `crop`.
        channels: 1 (grey) or 3 (colour); None: the first image's.
        on_error: an image that cannot be read stops everything (`stop`), or is left out, counted and named (`skip`;
            every image is decoded once beforehand).
        words, min_count, length: largest vocabulary, smallest number of occurrences in the training texts, words kept
            of a text.
        private_to: access group of all tasks, or task name -> group.
    """

    dataset: str
    seed: int = 0
    inputs: str | tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    missing_inputs: MissingInputs = "refuse"
    train: str | None = None
    test: float | str | None = None
    validation: float | str | None = None
    per_class: int | None = Field(None, gt=0)
    test_per_class: int | None = Field(None, gt=0)
    augment: Literal["none", "part"] | tuple[Augment, ...] = "none"
    normalise: Literal["train", "task", "none"] | Constants | None = None
    scale: Scale = "standard"
    target_scale: Scale = "standard"
    size: int | tuple[int, int] | None = None
    fit: Fit | None = None
    shorter_side: int | None = None
    channels: Literal[1, 3] | None = None
    on_error: Literal["stop", "skip"] = "stop"
    words: int = Field(10_000, gt=0)
    min_count: int = Field(1, gt=0)
    length: int = Field(128, gt=0)
    private_to: str | dict[str, str] | None = None

    @field_validator("categorical", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("validation", "test")
    @classmethod
    def _share(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError("a share between 0 and 1 (both excluded), a split expression or None is required")
        return value

    @model_validator(mode="after")
    def _shape_is_possible(self) -> DataOptions:
        if self.shorter_side is not None and self.fit != "crop":
            raise ValueError("shorter_side needs fit='crop'")
        if self.fit is not None and self.size is None and self.fit != "exact":
            raise ValueError(f"fit={self.fit!r} needs size=...")
        if self.missing_inputs == "mean" and self.scale != "standard":
            raise ValueError(
                f"missing_inputs='mean' needs scale='standard', whose zero is the mean; not {self.scale!r}"
            )
        return self

    @property
    def shape(self) -> Shape:
        """What images are brought to."""
        return Shape(
            size=self.size,
            fit=self.fit,
            shorter_side=self.shorter_side,
            channels=self.channels,
            on_error=self.on_error,
        )

    @property
    def operations(self) -> tuple[Augment, ...]:
        """Augmentation as operations."""
        return augmentation(self.augment)

    def group(self, task: str) -> str | None:
        """Access group of a task."""
        return self.private_to.get(task) if isinstance(self.private_to, dict) else self.private_to


def augmentation(given: str | Sequence[Any]) -> tuple[Augment, ...]:
    """Operations from "none", "part" or a list of them."""
    if isinstance(given, str):
        return PART if given == "part" else ()
    return _OPS.validate_python(tuple(given))


def expressions(options: DataOptions, stored: Mapping[str, range]) -> dict[str, str]:
    """Split expression of each purpose (train, and test and val where there are any)."""
    train, test = options.train, options.test
    if isinstance(test, float):
        if train is not None:
            raise InvalidInput(f"test={test} takes its share of all training rows; leave train out, or write a slice")
        kept = f"{100 * (1 - test):.10g}%"
        train, test = f"train[:{kept}]", f"train[{kept}:]"
    if test is None and "test" in stored:
        test = "test"
    elif test is None and train is None:
        train, test = "train[:80%]", "train[80%:]"
    found = {"train": train or "train"}
    if isinstance(options.validation, str):
        found["val"] = options.validation
    if test is not None:
        found["test"] = test
    return found
