"""What an exported file computes: the preprocessing of a task, its path, and its outputs as people read them."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from polypath.core.errors import InvalidInput
from polypath.core.preprocess import ImagePreprocess, TablePreprocess
from polypath.core.seeds import generator
from polypath.core.task import Regression, Task

Pixels = Literal["uint8", "float"]
NAMES = {"image": "images", "features": "rows", "tokens": "tokens"}


class TaskGraph(nn.Module):
    """Raw inputs (n, ...) in, (logits, probabilities) or values in the target's units out.

    Args:
        task: whose preprocessing and target it is.
        path: encoded inputs in, outputs out, in eval mode.
        pixels: how images come: `uint8` 0..255, or `float` 0..1 (rounded to 255 levels, as the system does).
        resize: images of any height and width, stretched to the task's size inside the graph.

    Raises:
        InvalidInput: pixels or resize for a task that takes no images, or that fits them in another way.
    """

    target_mean: torch.Tensor
    target_std: torch.Tensor

    def __init__(self, task: Task, path: nn.Module, *, pixels: Pixels = "uint8", resize: bool = False) -> None:
        super().__init__()
        preprocess = task.preprocess
        if not isinstance(preprocess, ImagePreprocess) and (resize or pixels != "uint8"):
            raise InvalidInput(f"pixels and resize are for images; task {task.name!r} takes {task.inputs.kind}")
        if isinstance(preprocess, ImagePreprocess) and resize and preprocess.fit != "stretch":
            raise InvalidInput(
                f"resize: task {task.name!r} fits images by {preprocess.fit!r}, only 'stretch' can be part of the "
                "graph; leave resize out and give images of the size that the file's description names"
            )
        self.path, self.kind, self.target = path, task.inputs.kind, task.target.kind
        self.pixels, self.resize, self.shape = pixels, resize, task.inputs.shape
        self.scaled = isinstance(task.target, Regression) and bool(task.target.mean)
        self.preprocess = preprocess
        if isinstance(task.target, Regression) and self.scaled:
            self.register_buffer("target_mean", torch.tensor(task.target.mean))
            self.register_buffer("target_std", torch.tensor(task.target.std))

    def forward(self, raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The task's answers; see the class."""
        outputs = self.path(self._encoded(raw)).float()
        if self.target == "regression":
            return (outputs * self.target_std + self.target_mean if self.scaled else outputs,)
        return outputs, outputs.softmax(1) if self.target == "classification" else outputs.sigmoid()

    def _encoded(self, raw: torch.Tensor) -> torch.Tensor:
        if self.kind == "tokens":
            return raw
        if self.kind == "features":
            return self.preprocess.encode(raw)
        levels = raw.float() if self.pixels == "uint8" else (raw * 255).round()
        if self.resize:
            size = self.shape[1:]
            levels = F.interpolate(levels, size, mode="bilinear", antialias=True).round().clamp(0, 255)
        return self.preprocess.encode(levels / 255)

    @property
    def input_name(self) -> str:
        """`images`, `rows` or `tokens`."""
        return NAMES[self.kind]

    @property
    def output_names(self) -> tuple[str, ...]:
        """`values`, or `logits` and `probabilities`."""
        return ("values",) if self.target == "regression" else ("logits", "probabilities")

    def dynamic_shapes(self) -> dict[int, Any]:
        """Which dimensions of the input may differ: the batch, and the sides of images that are resized."""
        free: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=2**20)}
        if self.resize:
            free |= {2: torch.export.Dim("height", min=1, max=2**15), 3: torch.export.Dim("width", min=1, max=2**15)}
        return free


def traced(graph: TaskGraph, example: torch.Tensor) -> torch.export.ExportedProgram:
    """The operations of a graph, for any number of examples.

    Traced by running it first, then by reading its code, which also takes `len(tensor)` for a number that may differ.

    Args:
        graph: in eval mode.
        example: raw inputs, at least two.
    """
    shapes = (graph.dynamic_shapes(),)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside torch, which nobody here can act on
        try:
            return torch.export.export(graph, (example,), dynamic_shapes=shapes, strict=False)
        except Exception as first:  # tracing runs the network's own code and may fail in any way
            try:
                return torch.export.export(graph, (example,), dynamic_shapes=shapes, strict=True)
            except Exception:
                raise first from None  # its message names the line


def probe_raw(task: Task, seed: int, count: int, pixels: Pixels = "uint8") -> torch.Tensor:
    """Seeded raw inputs (count, ...) as an exported file takes them.

    Args:
        task: which task.
        seed: which inputs.
        count: how many.
        pixels: how images come.
    """
    stream = generator(seed, "probe")
    if task.inputs.kind == "image":
        drawn = torch.randint(0, 256, (count, *task.inputs.shape), generator=stream)
        return drawn.to(torch.uint8) if pixels == "uint8" else drawn.float() / 255
    if task.inputs.kind == "tokens":
        return torch.randint(0, task.inputs.vocabulary, (count, task.inputs.length), generator=stream)
    table = task.preprocess
    assert isinstance(table, TablePreprocess)
    rows = torch.randn(count, len(table.columns), generator=stream) * torch.tensor(table.std) + torch.tensor(table.mean)
    for name, values in table.categories.items():
        rows[:, table.columns.index(name)] = torch.randint(-1, len(values), (count,), generator=stream).float()
    if table.missing == "mean":  # every column of numbers with gaps, each in other rows
        for place in [place for place, name in enumerate(table.columns) if name not in table.categories]:
            rows[place % 3 :: 3, place] = torch.nan
    return rows
