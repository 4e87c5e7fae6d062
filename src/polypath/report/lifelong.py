"""Pictures of lifelong learning, as in the DF-CNN paper's figures 3 to 7: every task over time, what is kept, how fast.

Peaks are chosen by validation where a run measured it, else by test; every picture and table says which.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polypath.core.result import Curve, Result
from polypath.metrics import LOWER_IS_BETTER
from polypath.metrics.course import By, Point, completed, kept_ratios, own_phase, peak
from polypath.metrics.trials import over_trials
from polypath.report.drawing import INK, MUTED, SERIES, SHARE, canvas, drawing, inline, short
from polypath.report.figures import bounded
from polypath.report.tables import NOTHING, Grid, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = {
    "peak_accuracy": "peak",
    "forgetting_ratio": "kept at the end / peak",
    "convergence_epochs": "epochs to 98 %",
}


def measured(results: Sequence[Result]) -> list[Result]:
    """Those that learned several stages and measured their tasks while learning them."""
    return [result for result in results if result.lifelong.by_peak and len(result.lifelong.matrix) > 1]


def chosen_by(results: Sequence[Result]) -> By:
    """Validation where every run has peaks by it."""
    return "validation" if all("validation" in result.lifelong.by_peak for result in results) else "test"


def peaks_of(results: Sequence[Result], variant: str, by: By) -> dict[str, float]:
    """Task -> mean over seeds of its peak in a variant."""
    rows = [r.lifelong.by_peak.get(by, {}).get("peak_accuracy", {}) for r in results if r.variant == variant]
    tasks = dict.fromkeys(task for row in rows for task in row)
    return {task: statistics.fmean(row[task] for row in rows if task in row) for task in tasks}


def timeline_figure(
    results: Sequence[Result], metric: str, alone: Mapping[str, Mapping[str, float]], name: str = "timeline"
) -> str | None:
    """Test scores of every task over all epochs, means over seeds: its own stage thick, later ones thin.

    Args:
        results: finished results of one variant.
        metric: which curves.
        alone: variant -> task -> peak of a network that learned the task alone: dotted over the task's own stage.
        name: prefix of the ids inside the picture.
    """
    lengths = stage_lengths(results)
    series = {
        task: mean_course(results, task, metric) for task in dict.fromkeys(c.task for r in results for c in r.curves)
    }
    series = {task: course for task, course in series.items() if course}
    if not series or len(lengths) < 2:
        return None
    starts = [sum(lengths[:stage]) for stage in range(len(lengths) + 1)]
    with drawing():
        figure = canvas(7.2, 3.4)
        axes = figure.add_subplot()
        for place, (task, course) in enumerate(series.items()):
            own, colour = course[0].stage, SERIES[place % len(SERIES)]
            at = [(starts[p.stage] + p.epoch + 1, p.value) for p in course]
            count = len(own_phase(course))
            axes.plot(
                *zip(*at[:count], strict=True), color=colour, lw=2.4, solid_capstyle="round", label=short(task, 14)
            )
            axes.plot(*zip(*at[count - 1 :], strict=True), color=colour, lw=0.9)
            for shade, peaks in zip((INK, MUTED), alone.values(), strict=False):
                if task in peaks:
                    axes.hlines(peaks[task], starts[own], starts[own + 1], color=shade, ls=(0, (1, 1.5)), lw=1.2)
        axes.set_xlabel("epochs, all tasks")
        axes.set_ylabel(f"test {metric}")
        axes.set_xlim(0, starts[-1])
        if bounded(metric):
            axes.set_ylim(SHARE)
        figure.legend(loc="outside right upper", ncols=1)
        ends = "; ".join(f"{task} {course[-1].value:.3f}" for task, course in series.items())
        return inline(figure, name, f"Test {metric} of every task over time, {results[0].variant}. At the end: {ends}.")


def _line(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    axes.plot([x for x, _ in points], [y for _, y in points], **style)


def kept_figure(results: Sequence[Result], metric: str, by: By, name: str = "kept") -> str | None:
    """Score / peak of earlier tasks against how many tasks were learned since, means over tasks and seeds."""
    lines: dict[str, dict[int, list[float]]] = {}
    for result in measured(results):
        for task in result.tasks:
            course, chosen = course_of(result, task.name, metric, "test"), course_of(result, task.name, metric, "val")
            if not course:
                continue
            at = peak(course, chosen, by=by, lower_is_better=metric in LOWER_IS_BETTER)
            last: dict[int, float] = {stage: ratio for stage, _, ratio in kept_ratios(course, at)}
            for stage, ratio in last.items():
                lines.setdefault(result.variant, {}).setdefault(stage - at.stage, []).append(ratio)
    if not lines:
        return None
    with drawing():
        figure = canvas(4.6, 2.8)
        axes = figure.add_subplot()
        for place, (variant, points) in enumerate(lines.items()):
            means = {0: 1.0, **{since: statistics.fmean(values) for since, values in sorted(points.items())}}
            axes.plot(
                list(means), list(means.values()), color=SERIES[place % len(SERIES)], marker="o", ms=3.5, label=variant
            )
        axes.axhline(1, color=MUTED, lw=0.8, ls=(0, (3, 2)))
        axes.set_xlabel("tasks learned since")
        axes.set_ylabel(f"test {metric} / peak")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", ncols=3)
        said = "; ".join(f"{v}: {statistics.fmean(p[max(p)]):.3f} after {max(p)}" for v, p in lines.items())
        return inline(figure, name, f"Catastrophic forgetting ratio, peaks by {by}. {said}.")


def convergence_figure(results: Sequence[Result], by: By, name: str = "convergence") -> str | None:
    """Epochs until 98 % of the peak, mean over tasks; bars: 95 % confidence over seeds."""
    rows = {}
    for variant in dict.fromkeys(result.variant for result in measured(results)):
        values = figure_values(results, variant, "convergence_epochs", by)
        if values:
            rows[variant] = over_trials(values)
    if not rows:
        return None
    with drawing():
        figure = canvas(4.6, 0.7 + 0.34 * len(rows))
        axes = figure.add_subplot()
        for place, trials in enumerate(rows.values()):
            colour = SERIES[place % len(SERIES)]
            axes.barh(place, trials.mean, height=0.62, color=colour, xerr=trials.confidence, ecolor=INK)
        axes.set_yticks(range(len(rows)), [short(variant) for variant in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("epochs to 98 % of the peak, mean of tasks")
        said = "; ".join(f"{variant} {trials.mean:.1f}" for variant, trials in rows.items())
        return inline(figure, name, f"Epochs to converge, peaks by {by}. {said}.")


def figure_values(results: Sequence[Result], variant: str, figure: str, by: By) -> list[float]:
    """One value a seed: the mean over tasks of a figure."""
    rows = [r.lifelong.by_peak.get(by, {}).get(figure, {}) for r in results if r.variant == variant]
    return [statistics.fmean(row.values()) for row in rows if row]


def lifelong_grid(results: Sequence[Result]) -> Grid | None:
    """Peak, forgetting ratio, convergence of every variant, peaks by validation and by test: the paper's figure 3."""
    found = measured(results)
    if not found:
        return None
    kinds: list[By] = ["validation", "test"]
    columns = [f"{label} (peak by {by})" for by in kinds for label in FIGURES.values()]
    body = []
    for variant in dict.fromkeys(result.variant for result in found):
        cells = [_said(figure_values(found, variant, key, by)) for by in kinds for key in FIGURES]
        back = [r.lifelong.backward_transfer for r in found if r.variant == variant]
        known = [value for value in back if value is not None]
        seeds = str(sum(result.variant == variant for result in found))
        body.append((variant, *cells, _said(known), seeds))
    return Grid("Lifelong figures, means over tasks", ("variant", *columns, "backward transfer", "seeds"), tuple(body))


def _said(values: Sequence[float]) -> str:
    if not values:
        return NOTHING
    trials = over_trials(values)
    around = f" ± {number(trials.confidence)}" if trials.confidence is not None else ""
    return f"{number(trials.mean)}{around}"


def stage_lengths(results: Sequence[Result]) -> list[int]:
    """Epochs of every stage."""
    longest: dict[int, int] = {}
    for curve in (curve for result in results for curve in result.curves):
        for stage, epoch in zip(curve.stages, curve.epochs, strict=True):
            longest[stage] = max(longest.get(stage, 0), epoch + 1)
    return [longest.get(stage, 0) for stage in range(max(longest, default=-1) + 1)]


def course_of(result: Result, task: str, metric: str, split: str) -> list[Point]:
    """Scores of one task over time."""
    curve: Curve | None = next((c for c in result.curves if (c.task, c.metric, c.split) == (task, metric, split)), None)
    if curve is None:
        return []
    points = [Point(*p) for p in zip(curve.stages, curve.epochs, curve.values, strict=True)]
    place = [item.name for item in result.tasks].index(task)
    column = [row[place] for row in result.lifelong.matrix if place < len(row)]
    return completed(points, column) if split == "test" else points


def mean_course(results: Sequence[Result], task: str, metric: str) -> list[Point]:
    """Test scores of one task over time, means over the seeds that have the point."""
    values: dict[tuple[int, int], list[float]] = {}
    for result in results:
        for point in course_of(result, task, metric, "test"):
            values.setdefault((point.stage, point.epoch), []).append(point.value)
    return [Point(stage, epoch, statistics.fmean(at)) for (stage, epoch), at in sorted(values.items())]


def section(results: Sequence[Result], metrics: Sequence[str]) -> dict[str, Any] | None:
    """Everything that the report shows of lifelong learning; None where nothing was measured over time."""
    found = measured(results)
    if not found:
        return None
    by, metric = chosen_by(found), next(iter(metrics), "accuracy")
    singles = [v for v in dict.fromkeys(r.variant for r in found) if v.startswith("single")]
    alone = {variant: peaks_of(found, variant, by) for variant in singles}
    timelines = {}
    for place, variant in enumerate(dict.fromkeys(result.variant for result in found)):
        svg = timeline_figure([r for r in found if r.variant == variant], metric, alone, f"timeline-{place}")
        if svg:
            timelines[variant] = svg
    return {
        "by": by,
        "alone": singles,
        "grid": lifelong_grid(found),
        "timelines": timelines,
        "kept": kept_figure(found, metric, by),
        "convergence": convergence_figure(found, by),
    }
