"""CKA between two tasks of a suite: draws the probe from their data and compares their paths on it."""

from __future__ import annotations

from typing import Any, Literal

import torch

from polypath.analysis.probes import equal_per_class
from polypath.analysis.representations import CKAConfig, compare_paths
from polypath.core.errors import InvalidInput
from polypath.core.examples import TaskData
from polypath.core.network import Network
from polypath.core.seeds import generator
from polypath.core.task import Classification


def compare_representations(
    network: Network,
    first: TaskData,
    second: TaskData,
    *,
    samples: int = 1000,
    inputs: Literal["common", "own"] = "common",
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """CKA between the paths of two tasks on samples of their own data; the record of `compare_paths`.

    Samples are drawn from validation examples with equally many of every class; without validation examples from the
    test inputs, whose labels stay sealed, uniformly; without either from the training examples like validation ones.

    Args:
        network: holds both tasks.
        first: task and data; its modules are the rows of the maps.
        second: task and data; its modules are the columns.
        samples: at most this many inputs through each path. common: half of them from either task, and both paths
            see all of them. own: each path sees as many of its own task.
        inputs: see `compare_paths`.
        seed: of the draw.
        options: fields of `CKAConfig`.

    Raises:
        UnknownName, InvalidInput: see `compare_paths` and `CKAConfig`.
    """
    config = CKAConfig.of(options, "cka")
    if samples < 4:
        raise InvalidInput(f"samples: at least 4 are required, received {samples}")
    each = samples if inputs == "own" else samples // 2
    drawn = [_draw(data, each, seed) for data in (first, second)]
    least = min(len(held) for held, _ in drawn)
    parts = [held[:least] for held, _ in drawn]
    names = (first.name, second.name)
    probe: Any = dict(zip(names, parts, strict=True)) if inputs == "own" else parts
    record = compare_paths(network, names, probe, config, inputs=inputs)
    return {**record, "splits": [split for _, split in drawn], "seed": seed}


def _draw(data: TaskData, count: int, seed: int) -> tuple[torch.Tensor, str]:
    """Decoded inputs in an order of which any beginning is fair, and the split they are from."""
    stream = generator(seed, "cka", data.name)
    if data.val is None and data.test is not None:
        rows = torch.randperm(len(data.test), generator=stream)[:count]
        return data.test.inputs(rows), "test"
    split = "train" if data.val is None else "val"
    examples = data.train if data.val is None else data.val
    if isinstance(data.task.target, Classification):
        return equal_per_class(examples, count, stream).inputs(), split
    return examples.inputs(torch.randperm(len(examples), generator=stream)[:count]), split
