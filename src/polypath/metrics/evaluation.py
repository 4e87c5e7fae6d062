"""Answers of one task's module on a set of examples, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from polypath.core.examples import Examples, Sealed
from polypath.core.task import Task


@torch.no_grad()
def outputs_of(
    module: nn.Module, task: Task, examples: Examples | Sealed, device: torch.device | str = "cpu", size: int = 256
) -> torch.Tensor:
    """Raw outputs (n, target.outputs) in float32 on the CPU, for every example in order.

    Args:
        module: takes encoded inputs (an extracted path).
        task: whose preprocessing encodes.
        examples: what to answer.
        device: where the module is.
        size: examples a batch.
    """
    was_training = module.training
    module.eval()
    parts = [module(task.preprocess.encode(inputs.to(device))).float().cpu() for inputs in _batches(examples, size)]
    module.train(was_training)
    return torch.cat(parts)


def _batches(examples: Examples | Sealed, size: int) -> Iterator[torch.Tensor]:
    for start in range(0, len(examples), size):
        yield examples.inputs(slice(start, min(start + size, len(examples))))
