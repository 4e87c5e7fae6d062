"""What accuracy costs: every variant and exit of a task as a point, and the front of those that nothing beats."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from polypath.core.result import Result
from polypath.report.drawing import INK, canvas, drawing, inline, short
from polypath.report.figures import bounded, look
from polypath.report.summary import lower_is_better, spread
from polypath.report.tables import NOTHING, Grid, measured, scaled


@dataclass(frozen=True)
class Point:
    """One way of answering a task.

    Args:
        variant, exit: which; the exit is None for tasks with one.
        flops, parameters: of one example.
        values: test metric of every seed.
    """

    variant: str
    exit: str | None
    flops: int
    parameters: int
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values)


def front(points: Sequence[Point], lower: bool = False) -> list[Point]:
    """Points that no other one beats: as cheap and better, or as good and cheaper. Cheapest first.

    Args:
        points: of one task.
        lower: whether a lower metric is better.
    """
    sign = 1 if lower else -1
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.flops, sign * p.mean)):
        if not kept or sign * point.mean < sign * kept[-1].mean:
            kept.append(point)
    return kept


def points_of(results: Sequence[Result], task: str) -> tuple[str, list[Point]]:
    """(metric, points) of a task over all variants, exits and seeds."""
    metric = ""
    gathered: dict[tuple[str, str | None, int, int], list[float]] = {}
    for result in results:
        for item in result.tasks:
            if item.name != task or not item.test:
                continue
            metric = next(iter(item.test))
            rows: list[tuple[str | None, Any]] = [(exit.name, exit) for exit in item.exits] or [(None, item)]
            for exit, row in rows:
                if metric in row.test:
                    key = (result.variant, exit, row.flops, row.parameters)
                    gathered.setdefault(key, []).append(row.test[metric])
    return metric, [Point(*key, values=tuple(values)) for key, values in gathered.items()]


def pareto(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Figure and table of every task that can be answered at more than one cost."""
    found = []
    for place, task in enumerate(dict.fromkeys(item.name for result in results for item in result.tasks)):
        metric, points = points_of(results, task)
        if len({point.flops for point in points}) < 2:
            continue
        best = front(points, lower_is_better(metric))
        rows = tuple(
            (
                point.variant + (f", {point.exit}" if point.exit else ""),
                scaled({"mean": point.flops}),
                f"{point.parameters:,}",
                measured(spread(point.values)),
                "yes" if point in best else NOTHING,
            )
            for point in sorted(points, key=lambda p: p.flops)
        )
        grid = Grid(f"{task}: {metric} and cost", ("variant", "FLOPs", "parameters", metric, "on the front"), rows)
        svg = _figure(results, task, metric, points, best, f"pareto-{place}")
        found.append({"task": task, "svg": Markup(svg), "grid": grid})
    return found


def _figure(
    results: Sequence[Result], task: str, metric: str, points: Sequence[Point], best: Sequence[Point], name: str
) -> str:
    variants = list(dict.fromkeys(result.variant for result in results))
    with drawing():
        figure = canvas(6, 2.8)
        axes = figure.add_subplot()
        xs, ys = [point.flops / 1e6 for point in best], [point.mean for point in best]
        axes.step(xs, ys, where="post", color=INK, lw=1, ls=(0, (3, 2)), label="front")
        for place, variant in enumerate(variants):
            own = sorted((p for p in points if p.variant == variant), key=lambda p: p.flops)
            if own:
                axes.plot(
                    [p.flops / 1e6 for p in own],
                    [p.mean for p in own],
                    ls="",
                    ms=6,
                    mew=0,
                    label=variant,
                    **look(place),
                )
        axes.set_title(short(task, 60))
        axes.set_xlabel("FLOPs of one example, millions")
        axes.set_ylabel(f"test {metric}")
        if bounded(metric):
            axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", ncols=4)
        said = "; ".join(f"{p.variant} {p.exit or ''} {p.mean:.3f} at {p.flops / 1e6:.1f} MFLOPs" for p in best)
        return inline(figure, name, f"Cost and {metric} of {task}; the front: {said}.")
