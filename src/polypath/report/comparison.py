"""Methods compared on the same tasks: one table, and a recommendation that follows from it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from polypath.core.result import Result
from polypath.metrics.trials import Trials, over_trials
from polypath.report.headline import not_learned
from polypath.report.summary import lower_is_better, main_metric, spread
from polypath.report.tables import NOTHING, Grid, count, measured, number, scaled

RANK = "rank"
CHEAPER = 0.8  # of the best's operations: less is worth a difference within the noise
KEPT = {"exact": "bit-identical", "joint": "trained again", "drifts": "may change"}


def comparison_grid(results: Sequence[Result], summary: Mapping[str, Any]) -> Grid:
    """One row a method: quality, size, computation, time, forgetting, and what a new task does to the old ones.

    Args:
        results: of all methods and seeds.
        summary: as `polypath.report.summary.summarise` returns it.
    """
    metrics = summary["metrics"]
    header = ("method", *(f"mean {metric}" for metric in metrics), "parameters", "FLOPs, mean of tasks", "size")
    header += ("training", "left of peaks", "old tasks when one is added", "on the front")
    best = {name for name, _, _ in front(results, summary)}
    rows = []
    for name, variant in summary["variants"].items():
        mine = [result for result in results if result.variant == name]
        left = [statistics.fmean(r.lifelong.forgetting_ratio.values()) for r in mine if r.lifelong.forgetting_ratio]
        rows.append(
            (
                name,
                *(measured(variant["overall"].get(metric)) for metric in metrics),
                count(variant["totals"]["parameters"]),
                scaled(spread([_flops(result) for result in mine])),
                scaled(variant["totals"]["size_bytes"], "B"),
                f"{variant['timing']['train_s']['mean']:,.0f} s",
                measured(spread(left)),
                KEPT[variant["isolation"]],
                "yes" if name in best else NOTHING,
            )
        )
    notes = (
        "FLOPs: 2 x multiply-accumulates, one example. Left of peaks: last score / best score while others were "
        "learned. Front: nothing else is both better and cheaper to answer with.",
    )
    return Grid("Methods compared", header, tuple(rows), notes)


def quality(results: Sequence[Result], summary: Mapping[str, Any]) -> tuple[str, dict[str, dict[int, float]]]:
    """(what it is, method -> seed -> quality, higher is better).

    Tasks of one metric: its mean over tasks. Of several, which cannot be averaged: minus the method's mean rank over
    tasks among the methods that ran with the seed.
    """
    found: dict[str, dict[int, float]] = {name: {} for name in summary["variants"]}
    if len(summary["metrics"]) == 1:
        metric = summary["metrics"][0]
        sign = -1.0 if lower_is_better(metric) else 1.0
        for result in results:
            values = [task.test[metric] for task in result.tasks if metric in task.test]
            if values:
                found[result.variant][result.seed] = sign * statistics.fmean(values)
        return metric, found
    for seed in dict.fromkeys(result.seed for result in results):
        ranks = _ranks([result for result in results if result.seed == seed])
        for name, values in ranks.items():
            found[name][seed] = -statistics.fmean(values)
    return RANK, found


def _ranks(results: Sequence[Result]) -> dict[str, list[float]]:
    """Method -> its rank in every task, 1 the best; equal values share the mean of their ranks."""
    ranks: dict[str, list[float]] = {result.variant: [] for result in results}
    for task in dict.fromkeys(task.name for result in results for task in result.tasks):
        values = {}
        for result in results:
            item = next((one for one in result.tasks if one.name == task), None)
            metric = main_metric(item) if item is not None else None
            if item is not None and metric is not None:
                values[result.variant] = item.test[metric] * (1.0 if lower_is_better(metric) else -1.0)
        for name, value in values.items():
            below = sum(other < value for other in values.values())
            equal = sum(other == value for other in values.values())
            ranks[name].append(below + (equal + 1) / 2)
    return {name: found for name, found in ranks.items() if found}


def front(results: Sequence[Result], summary: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """(method, mean quality, mean FLOPs of an answer) of those that no other one beats in both; cheapest first."""
    _, found = quality(results, summary)
    points = []
    for name, by_seed in found.items():
        if by_seed:
            flops = statistics.fmean(_flops(result) for result in results if result.variant == name)
            points.append((name, statistics.fmean(by_seed.values()), flops))
    kept: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda p: (p[2], -p[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def _flops(result: Result) -> float:
    return statistics.fmean(task.flops for task in result.tasks)


def recommendation(results: Sequence[Result], summary: Mapping[str, Any]) -> list[str]:
    """What to take, as sentences that follow from the table, and how sure that is.

    A method counts as behind the best where the 95 % confidence interval of the paired difference over seeds (Student's
    t) leaves zero out. Another one is taken only where its answers cost a fifth less or better, and it is no further
    behind than the best differs from seed to seed.
    """
    what, found = quality(results, summary)
    means = {name: statistics.fmean(by_seed.values()) for name, by_seed in found.items() if by_seed}
    if len(means) < 2:
        return ["Fewer than two methods were tested, so nothing is recommended."]
    best = max(means, key=lambda name: means[name])
    gaps = {name: _gap(found[best], found[name]) for name in means if name != best}
    level = [name for name, gap in gaps.items() if not _behind(gap)]
    said = [f"{best} has the best {_named(what, means[best])}."]
    if level:
        said.append(f"Not told apart from it by these runs: {', '.join(_with(name, gaps[name]) for name in level)}.")
    behind = [name for name in gaps if name not in level]
    if behind:
        said.append(f"Behind it: {', '.join(_with(name, gaps[name]) for name in behind)}.")
    chosen, why = _chosen(best, found, gaps, results)
    said.append(f"Take {chosen}: {why}.")
    said += _to_grow(chosen, means, summary, what)
    said += not_learned(summary)
    said.append(_how_sure(found, gaps))
    return said


def _chosen(
    best: str,
    found: Mapping[str, Mapping[int, float]],
    gaps: Mapping[str, Trials | None],
    results: Sequence[Result],
) -> tuple[str, str]:
    """(which method to take, why)."""
    cost = {name: statistics.fmean(_flops(r) for r in results if r.variant == name) for name in (best, *gaps)}
    noise = over_trials(list(found[best].values())).std
    close = [
        name
        for name, gap in gaps.items()
        if noise is not None and gap is not None and gap.mean <= noise and cost[name] <= CHEAPER * cost[best]
    ]
    if not close:
        return best, f"the best in the mean, at {scaled({'mean': cost[best]}, 'FLOPs')} an answer"
    chosen = min(close, key=lambda name: cost[name])
    gap = gaps[chosen]
    assert gap is not None and noise is not None
    answer = scaled({"mean": cost[chosen]}, "FLOPs")
    return chosen, (
        f"its answers cost {cost[chosen] / cost[best]:.0%} of {best}'s ({answer}), and it "
        f"is {number(gap.mean)} behind, where {best} itself differs by {number(noise)} from seed to seed"
    )


def _gap(best: Mapping[int, float], other: Mapping[int, float]) -> Trials | None:
    shared = [best[seed] - other[seed] for seed in best if seed in other]
    return over_trials(shared) if shared else None


def _behind(gap: Trials | None) -> bool:
    return gap is not None and gap.confidence is not None and gap.mean > gap.confidence


def _with(name: str, gap: Trials | None) -> str:
    if gap is None:
        return f"{name} (no seed in common)"
    spread_ = f" ± {number(gap.confidence)}" if gap.confidence is not None else ""
    return f"{name} ({number(gap.mean)}{spread_} less)"


def _named(what: str, mean: float) -> str:
    if what == RANK:
        return f"mean rank over tasks, {number(-mean)} (1: best in every task; the tasks' metrics differ)"
    return f"mean test {what}, {number(abs(mean))}"


def _to_grow(chosen: str, means: Mapping[str, float], summary: Mapping[str, Any], what: str) -> list[str]:
    """Which method to take where tasks will be added and the old ones must not change."""
    exact = {name: mean for name, mean in means.items() if summary["variants"][name]["isolation"] == "exact"}
    if summary["variants"][chosen]["isolation"] == "exact":
        return [f"{chosen} also keeps old tasks bit-identical when tasks are added."]
    if not exact:
        return ["None of these methods keeps old tasks bit-identical when tasks are added."]
    safe = max(exact, key=lambda name: exact[name])
    gap, unit = abs(means[chosen] - exact[safe]), "ranks" if what == RANK else what
    order = "worse" if exact[safe] < means[chosen] else "better"
    how = f"{number(gap)} {unit} {order} in the mean" if number(gap) != number(0) else "as good in the mean"
    otherwise = "are trained again" if summary["variants"][chosen]["isolation"] == "joint" else "drift"
    return [
        f"If tasks will be added and old ones must not change by a bit, take {safe}, {how}: with {chosen} old tasks "
        f"{otherwise}."
    ]


def _how_sure(found: Mapping[str, Mapping[int, float]], gaps: Mapping[str, Trials | None]) -> str:
    seeds = max(len(by_seed) for by_seed in found.values())
    if seeds == 1:
        return "How sure: not at all about differences. One seed has no spread; run --seeds 3 or more."
    widest = max(
        (gap.confidence for gap in gaps.values() if gap is not None and gap.confidence is not None), default=None
    )
    resolved = f"; differences below {number(widest)} are within the noise of these runs" if widest is not None else ""
    few = "few, so read this as an indication" if seeds < 5 else "enough for a first judgement"
    return f"How sure: {seeds} seeds are {few}{resolved}. All methods saw the same data and the same sealed test split."
