"""Bodies of requests and answers, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from polypath.prediction import Budget

# Within float32, finite: what a network can be given.
Number = Annotated[float, Field(ge=-3.4e38, le=3.4e38, allow_inf_nan=False)]
# A category is given as it stands in a table, a truth value and an empty cell too.
Cell = bool | Number | Annotated[str, Field(max_length=1000)] | None
Input = str | list[Cell] | dict[str, Cell]
Inputs = Annotated[
    list[Input],
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


class PredictManyRequest(PredictRequest):
    """What several tasks are asked about the same inputs."""

    tasks: list[str] | None = Field(
        None, min_length=1, description="Names; without it all permitted tasks that can take such inputs."
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
