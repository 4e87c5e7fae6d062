"""Hyper-parameters that evolve: each a sorted list of values in which a mutation moves to a neighbour.

Source: mu2Net, section 3.2 and table 1; the bold defaults are lost in the published text and were read from the
authors' notebook.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from pydantic import model_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, UnknownName

Value = bool | int | float


class Choice(Config):
    """The values a hyper-parameter can have.

    Args:
        values: ascending, without repeats; one value alone never changes.
        default: where every root begins; None: the smallest.
    """

    values: tuple[Value, ...]
    default: Value | None = None

    @model_validator(mode="after")
    def _sorted(self) -> Choice:
        if not self.values:
            raise ValueError("values: at least one is required, received an empty list")
        if list(self.values) != sorted(set(self.values)):
            raise ValueError(f"values: ascending numbers without repeats are required, received {list(self.values)}")
        if self.default is not None and self.default not in self.values:
            raise ValueError(f"default: one of {list(self.values)} is required, received {self.default!r}")
        return self

    @property
    def start(self) -> Value:
        """The default, or the smallest value."""
        return self.values[0] if self.default is None else self.default

    def nearest(self, value: Value) -> Value:
        """The listed value closest to one that may come from another list; the smaller of two equally close."""
        return min(self.values, key=lambda listed: (abs(listed - value), listed))

    def step(self, value: Value, rng: Random) -> Value:
        """A neighbour of `value`, up or down with equal probability.

        Clamped: at an end of the list one of the two directions leads nowhere, so that the value stays with
        probability 1/2 (the authors' code; the paper says "one of the two neighbouring values").
        """
        position = self.values.index(self.nearest(value)) + (1 if rng.random() < 0.5 else -1)
        return self.values[min(max(position, 0), len(self.values) - 1)]


MU = "mu"
NUM_LAYERS = "num_layers"
# Which of them shape the training images: one input pipeline a generation is one set of these (the authors' code).
DATA = ("area_min", "aspect_min", "brightness", "contrast", "crop", "flip", "hue", "saturation")
_JITTER = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)

_DEFAULTS: dict[str, tuple[tuple[Value, ...], Value]] = {
    MU: ((0.10, 0.12, 0.14, 0.16, 0.18, 0.20, 0.22, 0.24, 0.26, 0.28, 0.30), 0.20),
    "learning_rate": ((1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5), 1e-2),
    "warmup": ((0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4), 0.05),
    "momentum": ((0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99), 0.9),
    "nesterov": ((False, True), False),
    "crop": ((False, True), True),
    "area_min": ((0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), 0.05),
    "aspect_min": ((0.25, 0.5, 0.75, 1.0), 0.75),
    "flip": ((False, True), True),
    "brightness": (_JITTER, 0.0),
    "contrast": (_JITTER, 0.0),
    "saturation": (_JITTER, 0.0),
    "hue": (_JITTER, 0.0),
}


def default_table() -> dict[str, Choice]:
    """Table 1 of the paper."""
    return {name: Choice(values=values, default=default) for name, (values, default) in _DEFAULTS.items()}


def merged(given: Mapping[str, Any]) -> dict[str, Choice]:
    """The whole table with some entries replaced: `{"mu": {"values": [0.1, 0.2]}, "flip": [False]}`.

    An entry that names values but no default begins at the paper's default, or at the listed value closest to it.

    Args:
        given: name -> Choice, its JSON (values or default may be left out), or the list of values alone. `num_layers`
            (number of blocks that children insert and remove) is off unless it is given.

    Raises:
        UnknownName: no hyper-parameter of that name.
        InvalidInput: empty or unsorted values, mu outside [0, 1], values that training cannot take.
    """
    table = default_table()
    for name, entry in given.items():
        if name not in table and name != NUM_LAYERS:
            raise UnknownName("hyper-parameter", name, [*table, NUM_LAYERS])
        plain = entry.model_dump() if isinstance(entry, Choice) else entry
        plain = dict(plain) if isinstance(plain, Mapping) else {"values": plain}
        plain = {**({"values": table[name].values} if name in table else {}), **plain}
        choice = Choice.of(plain, f"hyperparameters.{name}")
        if choice.default is None and name in _DEFAULTS:
            choice = choice.changed(default=choice.nearest(_DEFAULTS[name][1]))
        table[name] = _checked(name, choice)
    return table


# Name -> (lowest, highest, what they are); outside of it nothing can be trained.
_RANGES: dict[str, tuple[float, float, str]] = {
    MU: (0, 1, "probabilities in [0, 1]"),
    "learning_rate": (0, float("inf"), "numbers above 0"),
    "warmup": (0, 1, "shares of the steps in [0, 1]"),
    "momentum": (0, 1, "numbers in [0, 1)"),
    "area_min": (0, 1, "shares of the image in (0, 1]"),
    "aspect_min": (0, 1, "ratios in (0, 1]"),
    NUM_LAYERS: (0, float("inf"), "numbers of blocks"),
    **{name: (0, 1, "numbers in [0, 1]") for name in ("brightness", "contrast", "saturation")},
    "hue": (0, 0.5, "shares of the colour circle in [0, 0.5]"),
}
_ABOVE = ("learning_rate", "area_min", "aspect_min")


def _checked(name: str, choice: Choice) -> Choice:
    if name not in _RANGES:
        return choice
    low, high, meaning = _RANGES[name]
    wrong = [value for value in choice.values if not low <= value <= high or (name in _ABOVE and value == low)]
    wrong += [value for value in choice.values if name == "momentum" and value == 1]
    wrong += [value for value in choice.values if name == NUM_LAYERS and value != int(value)]
    if wrong:
        raise InvalidInput(f"hyperparameters.{name}: {meaning} are required, received {wrong}")
    return choice


def defaults(table: Mapping[str, Choice]) -> dict[str, Value]:
    """Where a root model begins."""
    return {name: choice.start for name, choice in table.items()}
