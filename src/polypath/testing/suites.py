"""Tiny seeded suites with known properties, so that the exam needs no data set."""

from __future__ import annotations

from collections.abc import Callable

import torch

from polypath.core.examples import Examples, Sealed, Suite, TaskData
from polypath.core.preprocess import ImagePreprocess, TablePreprocess
from polypath.core.seeds import generator
from polypath.core.task import Classification, Features, Image, Task

Draw = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def tiny_images(
    tasks: int = 3, *, classes: int = 2, per_class: int = 5, size: int = 8, channels: int = 3, seed: int = 0
) -> Suite:
    """A suite of small image tasks that are easy to learn: every class is a pattern of its own plus noise.

    Patterns are 2x2 blocks of grey levels 24 or 232 and noise is uniform in -24..24, so the classes of a task lie far
    apart wherever two patterns differ, and no two patterns of a task are equal. Task k has k more training examples
    of its class 0 than `per_class`, so that the tasks differ in size.

    Args:
        tasks: how many; called `task0`, `task1`, ...
        classes: labels a task, at most 2 to the power of 4 * channels.
        per_class: training examples, and as many test and validation examples, of a class.
        size: height and width in pixels, even.
        channels: of the images.
        seed: of patterns and noise.
    """

    def draw(codes: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        blocks = (codes[:, None] >> torch.arange(4 * channels)) & 1
        levels = (24 + 208 * blocks).reshape(-1, channels, 2, 2)
        pattern = levels.repeat_interleave(size // 2, 2).repeat_interleave(size // 2, 3)
        noise = torch.randint(-24, 25, pattern.shape, generator=stream)
        return (pattern + noise).to(torch.uint8)

    shape = {"channels": channels, "height": size, "width": size}
    preprocess = ImagePreprocess(**shape, mean=(0.5,) * channels, std=(0.25,) * channels)

    def task(name: str, labels: tuple[str, ...]) -> Task:
        return Task(name=name, inputs=Image(**shape), target=Classification(labels=labels), preprocess=preprocess)

    return _suite("tiny images", task, draw, 4 * channels, tasks, classes, per_class, seed)


def tiny_features(tasks: int = 3, *, classes: int = 2, per_class: int = 5, columns: int = 8, seed: int = 0) -> Suite:
    """A suite of small tables that are easy to learn: every class is a corner of a cube plus noise.

    Corners have coordinates -1 or 1 and noise is uniform in -0.2..0.2; sizes and names as in `tiny_images`.

    Args:
        tasks: how many.
        classes: labels a task, at most 2 to the power of `columns`.
        per_class: training examples, and as many test and validation examples, of a class.
        columns: numbers a row, at most 16.
        seed: of corners and noise.
    """

    def draw(codes: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        corner = 2.0 * ((codes[:, None] >> torch.arange(columns)) & 1) - 1
        return corner + 0.4 * torch.rand(corner.shape, generator=stream) - 0.2

    preprocess = TablePreprocess(
        columns=tuple(f"x{i}" for i in range(columns)), mean=(0.0,) * columns, std=(1.0,) * columns
    )

    def task(name: str, labels: tuple[str, ...]) -> Task:
        target = Classification(labels=labels)
        return Task(name=name, inputs=Features(size=columns), target=target, preprocess=preprocess)

    return _suite("tiny features", task, draw, columns, tasks, classes, per_class, seed)


def _suite(
    name: str,
    task: Callable[[str, tuple[str, ...]], Task],
    draw: Draw,
    bits: int,
    tasks: int,
    classes: int,
    per_class: int,
    seed: int,
) -> Suite:
    labels = tuple(f"class{i}" for i in range(classes))
    items = []
    for position in range(tasks):
        stream = generator(seed, name, position)
        codes = torch.randperm(2 ** min(bits, 16), generator=stream)[:classes]

        def examples(extra: int, codes: torch.Tensor = codes, stream: torch.Generator = stream) -> Examples:
            targets = torch.cat([torch.arange(classes).repeat(per_class), torch.zeros(extra, dtype=torch.int64)])
            return Examples.of(draw(codes[targets], stream), targets)

        items.append(
            TaskData(
                task(f"task{position}", labels),
                train=examples(position),
                val=examples(0),
                test=Sealed(examples(0)),
            )
        )
    return Suite(name, tuple(items), seed)
