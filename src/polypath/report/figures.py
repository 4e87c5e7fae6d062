"""Line and bar figures of a run: accuracy per task, learning curves, cost per task, sharing profile."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polypath.core.result import Result
from polypath.report.drawing import INK, LINE, MARKERS, MUTED, SERIES, SHARE, canvas, drawing, inline, short
from polypath.report.summary import by_seed, lower_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNIT_METRICS = ("accuracy", "f1", "auc", "balanced", "precision", "recall")


def look(place: int) -> dict[str, Any]:
    """Colour and marker of the variant at this place: never told apart by colour alone."""
    return {"color": SERIES[place % len(SERIES)], "marker": MARKERS[place % len(MARKERS)]}


def bounded(metric: str) -> bool:
    """Whether a metric lies between 0 and 1, so that its axis begins at 0."""
    return any(part in metric for part in UNIT_METRICS)


def chance_levels(results: Sequence[Result], metric: str) -> dict[str, float]:
    """Task -> accuracy of guessing among its labels; only for accuracy and where one label is asked for."""
    if metric != "accuracy":
        return {}
    return {
        task.name: 1 / len(task.labels) for result in results for task in result.tasks if task.labels and task.confusion
    }


def accuracy_figure(results: Sequence[Result], metric: str, name: str = "accuracy") -> str | None:
    """Test metric per task with every seed, the mean and ± one sample standard deviation, grouped by variant.

    Args:
        results: finished results, ordered by variant.
        metric: the metric to draw; tasks that do not report it are left out.
        name: prefix of the ids inside the picture.

    Returns:
        An inline SVG, or None where no task reports the metric.
    """
    variants = list(dict.fromkeys(result.variant for result in results))
    tasks = list(dict.fromkeys(t.name for result in results for t in result.tasks if metric in t.test))
    if not tasks:
        return None
    chance = chance_levels(results, metric)
    step = 0.8 / len(variants)
    with drawing():
        figure = canvas(6, 0.9 + len(tasks) * max(0.34, 0.14 * len(variants)))
        axes = figure.add_subplot()
        for place, variant in enumerate(variants):
            for row, task in enumerate(tasks):
                values = list(by_seed(results, variant, task, metric).values())
                if values:
                    y = row - 0.4 + step * (place + 0.5)
                    _seeds(axes, y, values, variant if row == 0 else None, look(place))
        for row, task in enumerate(tasks):
            if task in chance:
                label = "chance" if row == 0 else None
                axes.plot(
                    [chance[task]] * 2, [row - 0.42, row + 0.42], color=MUTED, lw=1.2, ls=(0, (2, 1.5)), label=label
                )
        axes.set_yticks(range(len(tasks)), [short(task) for task in tasks])
        axes.set_ylim(len(tasks) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.hlines(
            [row + 0.5 for row in range(len(tasks) - 1)], 0, 1, transform=axes.get_yaxis_transform(), color=LINE, lw=0.5
        )
        axes.set_xlabel(f"test {metric}" + (" (lower is better)" if lower_is_better(metric) else ""))
        if bounded(metric):
            axes.set_xlim(SHARE)
        figure.legend(loc="outside upper left", ncols=min(len(variants) + 1, 4))
        return inline(
            figure, name, f"Test {metric} of {len(tasks)} tasks for {', '.join(variants)}; values in the table above."
        )


def _seeds(axes: Axes, y: float, values: Sequence[float], label: str | None, style: dict[str, Any]) -> None:
    mean = statistics.fmean(values)
    if len(values) > 1:
        sd = statistics.stdev(values)
        axes.plot([mean - sd, mean + sd], [y, y], color=style["color"], lw=2, solid_capstyle="round")
        axes.plot(values, [y] * len(values), ls="", ms=3, alpha=0.55, mew=0, **style)
    axes.plot([mean], [y], ls="", ms=6, mew=0, label=label, **style)


def curve_figures(results: Sequence[Result], metric: str, name: str = "curves") -> dict[str, str]:
    """Task -> learning curves of a metric: test solid, validation dotted, train dashed; band: ± SD over seeds.

    Drawn over the epochs of the stage that learned the task, so that joint and sequential variants compare; what later
    stages did to it stands in the accuracy matrix.

    Args:
        results: finished results, ordered by variant.
        metric: which of the recorded curves.
        name: prefix of the ids inside the pictures.
    """
    from matplotlib.ticker import MaxNLocator

    variants = list(dict.fromkeys(result.variant for result in results))
    tasks = list(dict.fromkeys(t.name for result in results for t in result.tasks))
    found = {}
    with drawing():
        for place, task in enumerate(tasks):
            series = _curves(results, task, metric)
            if not series:
                continue
            figure = canvas(3.4, 2.4, margins=(0.42, 0.12, 0.5, 0.3) if bounded(metric) else None)
            axes = figure.add_subplot()
            for (variant, split), points in series.items():
                _curve(axes, points, split, SERIES[variants.index(variant) % len(SERIES)])
            axes.set_title(short(task, 34))
            axes.set_xlabel("epochs")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
            if max(max(points) for points in series.values()) == 1:
                axes.set_xlim(0, 2)
            if bounded(metric):
                axes.set_ylim(SHARE)
            last = "; ".join(f"{v} {split} ends at {p[max(p)][0]:.3f}" for (v, split), p in series.items())
            found[task] = inline(figure, f"{name}-{place}", f"Learning curves of {task}, {metric}: {last}.")
    return found


def _curves(results: Sequence[Result], task: str, metric: str) -> dict[tuple[str, str], dict[int, tuple[float, float]]]:
    """(variant, split) -> finished epochs of the task's own stage -> (mean, SD or 0) over seeds."""
    values: dict[tuple[str, str], dict[int, list[float]]] = {}
    for result in results:
        for curve in result.curves:
            if (curve.task, curve.metric) != (task, metric) or not curve.stages:
                continue
            points = values.setdefault((result.variant, curve.split), {})
            for stage, epoch, value in zip(curve.stages, curve.epochs, curve.values, strict=False):
                if stage == min(curve.stages):
                    points.setdefault(epoch + 1, []).append(value)  # recorded epochs count from 0
    return {
        key: {
            x: (statistics.fmean(ys), statistics.stdev(ys) if len(ys) > 1 else 0.0) for x, ys in sorted(points.items())
        }
        for key, points in values.items()
    }


def _curve(axes: Axes, points: Mapping[int, tuple[float, float]], split: str, color: str) -> None:
    xs, means = list(points), [mean for mean, _ in points.values()]
    style = {"test": "-", "val": ":", "train": (0, (3, 2))}.get(split, "-.")
    marker = "o" if len(xs) == 1 else None
    axes.plot(xs, means, color=color, ls=style, lw=1.6 if split == "test" else 1.1, marker=marker, ms=4)
    if split == "test" and any(sd for _, sd in points.values()):
        low, high = ([mean + sign * sd for mean, sd in points.values()] for sign in (-1, 1))
        axes.fill_between(xs, low, high, color=color, alpha=0.18, lw=0)


def cost_figure(tasks: Mapping[str, Mapping[str, Any]], name: str = "costs") -> str | None:
    """Parameters of every task, split into those it added and those it shares with earlier tasks, and its FLOPs.

    Args:
        tasks: one variant's `tasks` of a summary.
        name: prefix of the ids inside the picture.
    """
    known = {task: f for task, f in tasks.items() if f.get("parameters")}
    if not known:
        return None
    added, total, flops = (
        [(figures[key] or {"mean": 0.0})["mean"] for figures in known.values()]
        for key in ("added_parameters", "parameters", "flops")
    )
    (size, weights), (speed, operations) = _unit(max(total)), _unit(max(flops))
    added, total, flops = [a / size for a in added], [t / size for t in total], [f / speed for f in flops]
    rows = range(len(known))
    with drawing():
        figure = canvas(6, 1.1 + 0.26 * len(known))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        left.barh(rows, added, height=0.62, color=SERIES[0], label="added by this task")
        reused = [max(0.0, whole - new) for whole, new in zip(total, added, strict=True)]
        left.barh(rows, reused, left=added, height=0.62, color=SERIES[0], alpha=0.3, label="already there")
        right.barh(rows, flops, height=0.62, color=SERIES[1], label="one example")
        left.set_yticks(rows, [short(task) for task in known])
        left.set_ylim(len(known) - 0.4, -0.6)
        left.set_xlabel(f"parameters{weights}")
        right.set_xlabel(f"FLOPs{operations}")
        for axes in (left, right):
            axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=3)
        return inline(figure, name, f"Parameters and FLOPs of {len(known)} tasks; values in the table.")


def _unit(largest: float) -> tuple[float, str]:
    """Divisor and words for an axis whose largest value this is."""
    for size, words in ((1e9, ", billions"), (1e6, ", millions"), (1e3, ", thousands")):
        if largest >= size:
            return size, words
    return 1.0, ""


def sharing_figure(results: Sequence[Result], name: str = "sharing") -> str | None:
    """How many components are used by k tasks, observed (mean over seeds) beside the expectation: the paper's Fig 4.

    Args:
        results: finished results of one variant.
        name: prefix of the ids inside the picture.
    """
    profiles = [result.sharing for result in results if result.sharing.get("observed")]
    if not profiles:
        return None
    observed = _columns([profile["observed"] for profile in profiles])
    expected = [statistics.fmean(column) for column in _columns([profile.get("expected", []) for profile in profiles])]
    spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in observed]
    means = [statistics.fmean(column) for column in observed]
    with drawing():
        figure = canvas(6, 2.8)
        axes = figure.add_subplot()
        axes.bar(range(len(means)), means, width=0.7, color=SERIES[0], alpha=0.75, label="observed")
        if any(spreads):
            axes.errorbar(range(len(means)), means, spreads, ls="", ecolor=INK, elinewidth=1.2, capsize=3)
        if expected:
            axes.plot(
                range(len(expected)),
                expected,
                color=SERIES[1],
                marker="o",
                ms=4.5,
                lw=1.6,
                label="expected for random paths",
            )
        axes.set_xticks(range(len(means)))
        axes.set_xlabel("number of tasks that use a component")
        axes.set_ylabel("components")
        axes.set_ylim(bottom=0)
        axes.grid(axis="x", visible=False)
        axes.legend()
        said = ", ".join(f"{k}: {mean:.1f}" for k, mean in enumerate(means))
        return inline(figure, name, f"Components used by k tasks, observed. {said}.")


def _columns(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Values of each place over the rows that reach it."""
    return [[row[k] for row in rows if k < len(row)] for k in range(max(map(len, rows), default=0))]
