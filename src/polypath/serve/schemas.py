"""Bodies of requests and answers, as OpenAPI shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from polypath.prediction import Budget

LARGEST = 3.4e38  # within float32
LONGEST = 1000  # characters of a cell
MOST_KEYS = 20  # of a body and of a budget
MOST_NAMES = 10_000  # of tasks that are asked for


def _readable(inputs: Any) -> Any:
    """The inputs as they are, where every cell is one; else the first mistake alone.

    pydantic would collect every mistake of a body, five for each cell: of 16 MB of NaN many gigabytes, for minutes.
    """
    for place, one in enumerate(inputs if isinstance(inputs, list) else ()):
        if isinstance(one, dict) and not all(map(_is_text, one)):
            raise ValueError(f"{place}: names of columns must be texts that can be encoded")
        if isinstance(one, (list, dict)):
            cells = one.values() if isinstance(one, dict) else one
            if not _usable(cells):
                names: Iterable[Any] = one if isinstance(one, dict) else range(len(one))
                name, cell = next((n, c) for n, c in zip(names, cells, strict=True) if not _usable((c,)))
                where = f"column {name[:100]!r}" if isinstance(name, str) else f"place {name}"
                raise ValueError(
                    f"{place}: {where}: a finite number within float32, a text of at most {LONGEST:,} characters, "
                    f"true, false or null is required, received {_kind(cell)}"
                )
        elif not isinstance(one, str) or not _is_text(one):
            raise ValueError(
                f"{place}: an image as base64, a text, or a row as list or object is required, received {_kind(one)}"
            )
    return inputs


def _usable(cells: Iterable[Any]) -> bool:
    """Whether all are cells; asked of a whole row at once, which takes a tenth of the time of asking for each."""
    kinds = set(map(type, cells))
    if not kinds <= {float, int, str, bool, type(None)}:
        return False
    numbers = cells if kinds <= {float, int, bool} else [cell for cell in cells if isinstance(cell, (float, int))]
    if kinds & {float, int} and not (max(map(abs, numbers)) <= LARGEST and math.isfinite(sum(numbers))):
        return False
    texts = [cell for cell in cells if isinstance(cell, str)] if str in kinds else []
    return all(len(text) <= LONGEST and _is_text(text) for text in texts)


def _is_text(text: str) -> bool:
    """Whether it can be encoded: halves of surrogate pairs cannot."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _kind(value: Any) -> str:
    """What a JSON value is; not the value: it may be megabytes, or a secret."""
    if isinstance(value, str):
        return f"{len(value):,} characters" if _is_text(value) else "half a character (a lone surrogate)"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "NaN or infinity" if value != value or value in (math.inf, -math.inf) else "another number"
    return {list: "a list", dict: "an object", type(None): "null"}.get(type(value), "a truth value")


# Within float32, finite: what a network can be given.
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
# A category is given as it stands in a table, a truth value and an empty cell too.
Cell = bool | Number | Annotated[str, Field(max_length=LONGEST)] | None
Input = str | list[Cell] | dict[str, Cell]
Inputs = Annotated[
    list[Input],
    BeforeValidator(_readable),
    Field(
        min_length=1,
        description="Images as base64 of a PNG, JPEG, WebP, BMP, GIF, TIFF or PPM file (a data: URL will do); rows as "
        "lists in the order of the columns, or as objects {column: value}, categories as words; texts as they are.",
    ),
]


class PredictRequest(BaseModel):
    """What one task is asked."""

    model_config = ConfigDict(extra="forbid")

    inputs: Inputs
    budget: Budget | None = Field(None, description="What one input may cost; the deepest exit within it answers.")
    early: bool = Field(False, description="Stop at the first exit that is confident enough.")
    fit: bool = Field(False, description="Convert and stretch images that do not fit, instead of refusing them.")

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, body: Any) -> Any:
        held = {"body": body, "budget": body.get("budget") if isinstance(body, dict) else None}
        for name, keys in held.items():
            if isinstance(keys, dict) and len(keys) > MOST_KEYS:
                raise ValueError(f"at most {MOST_KEYS} keys are taken in the {name}, received {len(keys):,}")
        return body


class PredictManyRequest(PredictRequest):
    """What several tasks are asked about the same inputs."""

    tasks: list[str] | None = Field(
        None,
        min_length=1,
        max_length=MOST_NAMES,
        description="Names; without it all permitted tasks that can take such inputs.",
    )


class Answer(BaseModel):
    """The answer of one task for one input."""

    label: str | None = Field(None, description="Classification: the most probable label.")
    probability: float | None = Field(None, description="Classification: its probability.")
    labels: list[str] | None = Field(None, description="Multi-label: those with a probability above 0.5.")
    probabilities: dict[str, float] | None = Field(None, description="Label -> probability.")
    values: list[float] | None = Field(None, description="Regression: in the target's own units.")
    exit: str | None = Field(None, description="Which exit answered, where a budget or early was given.")


class TaskAnswers(BaseModel):
    """The answers of one task, one an input, in the order of the inputs."""

    task: str
    answers: list[Answer]
    ms: float = Field(description="Milliseconds from decoded inputs to the answer, waiting included.")
    batch: int = Field(description="Inputs computed at once, other requests' included.")
    together: int = Field(description="Tasks computed at once; what their paths share ran once.")


class Skipped(BaseModel):
    """A permitted task that cannot take these inputs."""

    task: str
    reason: str


class ManyAnswers(BaseModel):
    """The answers of several tasks to the same inputs."""

    predictions: list[TaskAnswers]
    skipped: list[Skipped]
    ms: float = Field(description="Milliseconds for all of them, decoding included.")


class ExitInfo(BaseModel):
    """An exit of a task: what it costs and how good it is."""

    name: str
    parameters: int
    flops: int
    ms: float | None = Field(description="Milliseconds, where they were measured on this machine.")
    metrics: dict[str, float]


class TaskInfo(BaseModel):
    """A task: what it takes, what it answers, how good it is and what it costs."""

    name: str
    inputs: dict[str, Any] = Field(description="kind (image, table, text) and sizes; columns of a table.")
    target: dict[str, Any] = Field(description="kind (classification, multilabel, regression) and labels or size.")
    metrics: dict[str, float] = Field(description="On its sealed test split, when it was last measured.")
    parameters: int
    added_parameters: int
    flops: int
    exits: list[ExitInfo] = Field(description="Cheapest first; empty for a task with one exit.")
    early: bool = Field(description="Whether `early` can be asked for.")


class SystemInfo(BaseModel):
    """The tasks the caller may use."""

    method: str
    isolation: str | None
    generation: int = Field(description="Grows by one whenever the system changed on disk.")
    polypath: str
    tasks: list[TaskInfo]
    limits: dict[str, int] = Field(description="max_rows, max_pixels, max_body_bytes.")


class Part(BaseModel):
    """A component, as far as the caller may know of it."""

    kind: str
    parameters: int
    tasks: list[str]


class Picture(BaseModel):
    """The picture of paths: an SVG, and what is in it."""

    svg: str
    tasks: list[str]
    colours: list[str]
    components: dict[str, Part]


class Health(BaseModel):
    """Whether the process lives."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether requests are answered."""

    status: Literal["ready", "stopping"]
    generation: int
