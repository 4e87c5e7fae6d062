"""A .pt2 archive of `torch.export`: the graph and its weights, none of our classes."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from typing import Any

import torch

from polypath.export.graph import TaskGraph, traced
from polypath.export.zeros import deflated

FILE = "polypath.json"  # the description, among the archive's extra files


def require() -> None:
    """Nothing: torch is there."""


def built(graph: TaskGraph, example: torch.Tensor, about: dict[str, Any]) -> bytes:
    """The bytes of a .pt2 file.

    Args:
        graph: what it computes.
        example: raw inputs it is traced with.
        about: the description, kept as an extra file of the archive.
    """
    program = traced(graph, example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for node in program.graph.nodes:  # paths of this machine, and names of our classes
            for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
                node.meta.pop(key, None)
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={FILE: json.dumps(about, ensure_ascii=False)})
    return deflated(file.getvalue())


def opened(content: bytes) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """What answers raw inputs: the reloaded program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(io.BytesIO(content)).module()

    def answers(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return tuple(module(raw))

    return answers
