"""What the tests of the server share: tasks on rows, image files, the settings of systems that grow."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from polypath.core.examples import Examples, Sealed, TaskData
from polypath.core.preprocess import TablePreprocess
from polypath.core.task import Classification, Features, Regression, Task

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
GROWING: dict[str, Any] = {
    "backbone": {"kind": "mlp", "hidden": [12]},
    "share": 0.2,
    "order": "sequential",
    "epochs": 1,
    "batch": 16,
    "patience": 0,
    **RUN,
}
HERE = "http://127.0.0.1"
Client = Callable[..., Any]


def table(name: str, *, regression: bool = False, private_to: str | None = None) -> TaskData:
    """A task on rows of `age` and `weight`: whether their sum is high, or ten times it, 0..2000."""
    stream = torch.Generator().manual_seed(len(name))
    rows = torch.rand(40, 2, generator=stream) * 100
    target: Any = Classification(labels=("low", "high"))
    values = (rows.sum(1) > 100).long()
    if regression:
        values = rows.sum(1, keepdim=True) * 10
        target = Regression(size=1, mean=(1000.0,), std=(400.0,))
    made = Task(
        name=name,
        inputs=Features(size=2),
        target=target,
        preprocess=TablePreprocess(columns=("age", "weight"), mean=(50.0, 50.0), std=(30.0, 30.0)),
        private_to=private_to,
    )
    held = Examples.of(rows, values)
    return TaskData(made, held, test=Sealed(held))


def png(pixels: torch.Tensor, mode: str | None = None, format: str = "PNG") -> bytes:
    """An image file of uint8 (channels, height, width) pixels."""
    from PIL import Image

    array = np.ascontiguousarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())
    image = Image.fromarray(array)
    out = io.BytesIO()
    (image.convert(mode) if mode else image).save(out, format)
    return out.getvalue()


def base64_png(pixels: torch.Tensor) -> str:
    """The same in base64."""
    return base64.b64encode(png(pixels)).decode()
