"""Mean, standard deviation and n of every figure of a run, and paired differences between variants."""

from __future__ import annotations

import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from polypath.core.files import write_json
from polypath.core.result import Result, TaskResult
from polypath.metrics import LOWER_IS_BETTER
from polypath.report.records import read_run

LOSSES = frozenset({"loss", "error", "rmse", "cross_entropy"})  # recorded besides the metrics
COSTS = ("parameters", "added_parameters", "activated", "flops")
LIFELONG = ("peak_accuracy", "forgetting_ratio", "convergence_epochs")
ENOUGH = 20  # test examples that tell whether anything was learned
TIMING = ("wall_s", "train_s", "evaluate_s", "samples", "samples_per_second", "peak_memory_bytes")

Figure = dict[str, Any]


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of this metric is the better one (errors and losses; `test_mse` counts as mse)."""
    return any(metric == name or metric.endswith("_" + name) for name in LOWER_IS_BETTER | LOSSES)


def spread(values: Iterable[float]) -> Figure | None:
    """`{"mean", "sd", "n"}` of some values, or None of none.

    Args:
        values: one figure a seed. `sd` is the sample standard deviation (divisor n - 1), None for a single value.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        return None
    sd = statistics.stdev(numbers) if len(numbers) > 1 else None
    return {"mean": statistics.fmean(numbers), "sd": sd, "n": len(numbers)}


def main_metric(task: TaskResult) -> str | None:
    """Name of a task's main metric, which is its first; None where nothing was tested."""
    return next(iter(task.test), None)


def overall(result: Result, among: Container[str] | None = None) -> dict[str, float]:
    """Metric -> mean over the tasks of one result that report it. Metrics are never mixed into one mean.

    Args:
        result: one finished run.
        among: only tasks of these names; None takes all.
    """
    values: dict[str, list[float]] = {}
    for task in result.tasks:
        if among is None or task.name in among:
            for metric, value in task.test.items():
                values.setdefault(metric, []).append(value)
    return {metric: statistics.fmean(found) for metric, found in values.items()}


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Mean, sample standard deviation and n of every figure, as plain JSON values.

    Args:
        results: finished results of one run; the first variant met is taken as the main one.

    Returns:
        `recipe, suite, size`, `main` variant, `metrics` (main metrics of the tasks, in order), `tasks` (names),
        `variants` {variant: figures overall and per task} and `paired` (differences between two variants on the same
        seed). Every figure is `{"mean", "sd", "n"}` over seeds; `sd` is None where n is 1.
    """
    variants = list(dict.fromkeys(result.variant for result in results))
    tasks = [task for result in results for task in result.tasks]
    first = results[0] if results else None
    return {
        "recipe": first.recipe if first else None,
        "suite": first.suite if first else None,
        "size": first.size if first else None,
        "main": variants[0] if variants else None,
        "metrics": list(dict.fromkeys(m for task in tasks if (m := main_metric(task)))),
        "tasks": list(dict.fromkeys(task.name for task in tasks)),
        "variants": {v: _variant([r for r in results if r.variant == v]) for v in variants},
        "paired": [_paired(results, a, b) for a, b in combinations(variants, 2)],
    }


def write_summary(run_dir: str | Path) -> Path:
    """Write RUN/summary.json atomically from the results found there; returns its path.

    Raises:
        InvalidInput, CorruptError: as `read_run`.
    """
    records = read_run(run_dir)
    summary = {**summarise(records.results), "missing": list(records.missing)}
    path = records.folder / "summary.json"
    write_json(path, summary)
    return path


def by_seed(results: Iterable[Result], variant: str, task: str | None, metric: str) -> dict[int, float]:
    """Seed -> test value of one task, or (task None) the mean over the tasks that report the metric."""
    found: dict[int, float] = {}
    for result in results:
        if result.variant != variant:
            continue
        if task is None:
            values = overall(result)
        else:
            values = next((t.test for t in result.tasks if t.name == task), {})
        if metric in values:
            found[result.seed] = values[metric]
    return found


def lifelong_by_seed(results: Iterable[Result], variant: str, figure: str, by: str) -> dict[int, float]:
    """Seed -> mean over tasks of a figure of lifelong learning, peaks chosen by validation or by test."""
    rows = {r.seed: r.lifelong.by_peak.get(by, {}).get(figure, {}) for r in results if r.variant == variant}
    return {seed: statistics.fmean(row.values()) for seed, row in rows.items() if row}


def _variant(results: Sequence[Result]) -> dict[str, Any]:
    names = list(dict.fromkeys(task.name for result in results for task in result.tasks))
    return {
        "method": results[0].method,
        "isolation": results[0].isolation,
        "seeds": [result.seed for result in results],
        "overall": _spreads([overall(result) for result in results]),
        "totals": _spreads([r.totals.model_dump() for r in results]),
        "timing": _spreads([{key: getattr(r.timing, key) for key in TIMING} for r in results]),
        "lifelong": {
            "matrix": _matrix([r.lifelong.matrix for r in results]),
            "unlearned": _matrix([r.lifelong.unlearned for r in results if r.lifelong.unlearned is not None]),
        },
        "tasks": {name: _task(results, name) for name in names},
        "not_learned": [
            name for name in names if not any(_learned(task) for r in results for task in r.tasks if task.name == name)
        ],
        "ensembles": _ensembles(results),
    }


def _learned(task: TaskResult) -> bool:
    """Whether the test examples are answered better than by the most frequent label, or by the mean of the targets.

    Few examples cannot tell; nothing is better than to answer all rightly, where they have one label only.
    """
    if "r2" in task.test:
        return task.examples.get("test", 0) < ENOUGH or task.test["r2"] > 0
    rows = task.confusion or []
    total, right = sum(map(sum, rows)), sum(row[place] for place, row in enumerate(rows))
    return total < ENOUGH or right == total or right > max(map(sum, rows))


def ensemble_by_seed(results: Iterable[Result], variant: str, metric: str) -> dict[int, float]:
    """Seed -> test value of the common answer of a variant's first ensemble."""
    found = {}
    for result in results:
        records = result.analysis.get("ensemble") or ()
        if result.variant == variant and records and metric in records[0]["test"]:
            found[result.seed] = float(records[0]["test"][metric])
    return found


def _ensembles(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Groups of tasks that answer together: their common answer, and each alone (mean and best), by their metric."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for result in results:
        for record in result.analysis.get("ensemble") or ():
            groups.setdefault(tuple(record["tasks"]), []).append(record)
    found = []
    for tasks, records in groups.items():
        metric = next(iter(records[0]["test"]))
        best = min if lower_is_better(metric) else max
        alone = [[member[metric] for member in record["members"].values()] for record in records]
        figures = {
            "together": spread(record["test"][metric] for record in records),
            "mean": spread(statistics.fmean(values) for values in alone),
            "best": spread(best(values) for values in alone),
        }
        found.append({"tasks": list(tasks), "metric": metric, **figures})
    return found


def _task(results: Sequence[Result], name: str) -> dict[str, Any]:
    records = [task for result in results for task in result.tasks if task.name == name]
    figures: dict[str, Any] = {
        "metric": next((m for task in records if (m := main_metric(task))), None),
        "test": _spreads([task.test for task in records]),
        "f1": _spreads([task.f1 for task in records]),
    }
    for key in COSTS:
        figures[key] = spread(v for task in records if (v := getattr(task, key)) is not None)
    for key in LIFELONG:
        figures[key] = spread(table[name] for r in results if name in (table := getattr(r.lifelong, key)))
    return figures


def _spreads(rows: Sequence[Mapping[str, float]]) -> dict[str, Figure | None]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: spread(row[key] for row in rows if key in row) for key in keys}


def _matrix(matrices: Sequence[Sequence[Sequence[float | None]] | None]) -> list[list[Figure | None]] | None:
    """Cell by cell over seeds; a shape is the largest found, since an unfinished seed has fewer rows."""
    full = [matrix for matrix in matrices if matrix]
    if not full:
        return None
    rows = max(len(matrix) for matrix in full)
    columns = max(len(row) for matrix in full for row in matrix)

    def cell(i: int, j: int) -> Figure | None:
        values = (m[i][j] for m in full if i < len(m) and j < len(m[i]))
        return spread(value for value in values if value is not None)

    return [[cell(i, j) for j in range(columns)] for i in range(rows)]


def _paired(results: Sequence[Result], a: str, b: str) -> dict[str, Any]:
    """Differences a - b over the seeds both have: the seeds share data, paths and initial weights."""
    tasks = [task for result in results for task in result.tasks]
    names = {task.name: metric for task in reversed(tasks) if (metric := main_metric(task))}
    left, right = ({r.seed: r for r in results if r.variant == variant} for variant in (a, b))
    pairs = {seed: (left[seed], right[seed]) for seed in sorted(left.keys() & right.keys())}

    def difference(metric: str, task: str | None = None) -> Figure | None:
        gaps = {}
        for seed, (one, two) in pairs.items():
            tested = [{t.name for t in r.tasks if metric in t.test} for r in (one, two)]
            among = tested[0] & tested[1]  # an unfinished run must not win by its missing tasks
            among = among if task is None else among & {task}
            if among:
                gaps[str(seed)] = overall(one, among)[metric] - overall(two, among)[metric]
        figure = spread(gaps.values())
        return {**figure, "by_seed": gaps} if figure else None

    order = dict.fromkeys(task.name for task in tasks)
    metrics = dict.fromkeys(m for task in tasks if (m := main_metric(task)))
    return {
        "variants": [a, b],
        "overall": {metric: difference(metric) for metric in metrics},
        "tasks": {name: difference(names[name], name) for name in order if name in names},
    }
