"""What a network that learned one task makes of the others' data (PaRT's "all tasks but i" columns)."""

from __future__ import annotations

import torch

from polypath.core.examples import Examples, Suite, TaskData
from polypath.core.network import Network
from polypath.core.task import Task
from polypath.metrics import measure
from polypath.metrics.evaluation import outputs_of


def unlearned_matrix(
    network: Network, suite: Suite, *, samples: int | None = None, batch_size: int = 256
) -> list[list[float | None]]:
    """Score of every task's path and head on the test data of every task: row = path, column = data.

    Off the diagonal the path never saw the data, nor its labels: with c classes about 1 / c is what to expect. None
    where a score means nothing: no test data, inputs of another shape or another kind or number of outputs.

    Args:
        network: trained; one in which paths are private (single-task mode) compares separate networks.
        suite: tasks the network has, with test data.
        samples: of every test set the first so many only; None takes all.
        batch_size: examples walked at a time.
    """
    tests = {data.name: _test(data, samples) for data in suite}
    matrix: list[list[float | None]] = []
    for one in suite:
        task = network.task_named(one.name)
        module = network.extract(one.name)
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        row: list[float | None] = []
        for other in suite:
            examples = tests[other.name]
            if examples is None or not _comparable(task, other.task):
                row.append(None)
                continue
            outputs = outputs_of(module, task, examples, device, batch_size)
            row.append(next(iter(measure(task, outputs, examples.targets).values())))
        matrix.append(row)
    return matrix


def _test(data: TaskData, samples: int | None) -> Examples | None:
    """Test examples with their labels: this is an evaluation, nothing is selected by it."""
    if data.test is None:
        return None
    examples = data.test.unseal()
    return examples if samples is None else examples.select(torch.arange(min(samples, len(examples))))


def _comparable(task: Task, other: Task) -> bool:
    same_inputs = task.inputs.kind == other.inputs.kind and task.inputs.shape == other.inputs.shape
    return same_inputs and task.target.kind == other.target.kind and task.target.outputs == other.target.outputs
