"""The record of a finished run, made from its journal and its system."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from polypath.core import accounting
from polypath.core.examples import Suite, TaskData
from polypath.core.network import Network
from polypath.core.result import Curve, ExitResult, Lifelong, PathPicture, Result, TaskResult, Timing, Totals
from polypath.metrics import LOWER_IS_BETTER, backward_transfer, convergence_epoch, lifelong_record
from polypath.metrics.course import By, Point, completed, own_phase, reverse_transfer, suite_figures
from polypath.system import System
from polypath.train.engine import Engine

PEAKS: tuple[By, ...] = ("validation", "test")


def record(
    system: System,
    suite: Suite,
    engine: Engine,
    rows: Sequence[Sequence[str]],
    *,
    isolation: str,
    identity: Mapping[str, Any],
    wall_s: float,
) -> Result:
    """The `Result` of a run.

    Args:
        system: as learned.
        suite: what it learned from.
        engine: holds the journal.
        rows: tasks known after each stage.
        isolation: what the method promised.
        identity: method, config, suite, seed, run settings, labels.
        wall_s: duration of the whole run.
    """
    lines = engine.journal.lines
    plan = plan_of(system.network, suite)
    matrix = _matrix(lines, suite.names, rows)
    config = {key: value for key, value in identity.items() if key not in ("recipe", "variant", "size")}
    return Result(
        recipe=identity.get("recipe", "own"),
        variant=identity.get("variant", identity["method"]),
        method=system.method,
        isolation=isolation,
        suite=suite.name,
        seed=system.seed,
        size=identity.get("size", "full"),
        tasks=[_task_result(system, item, plan[item.name], lines) for item in suite],
        totals=Totals(
            parameters=accounting.total_parameters(system.network),
            size_bytes=sum(accounting.byte_counts(system.network).values()),
        ),
        lifelong=_lifelong(matrix, suite, curves_of(lines)),
        curves=curves_of(lines),
        sharing=_sharing(system.network),
        paths=picture(system.network),
        analysis=_evolved(system.network, lines),
        timing=Timing(
            wall_s=wall_s,
            train_s=engine.train_s,
            evaluate_s=engine.evaluate_s,
            samples=engine.samples,
            samples_per_second=engine.samples / engine.train_s if engine.train_s else 0.0,
            peak_memory_bytes=engine.peak_memory_bytes(),
        ),
        config=json.loads(json.dumps(config)),
        environment=engine.environment(),
    )


def plan_of(network: Network, suite: Suite) -> dict[str, accounting.Cost]:
    """Cost of every task, counted on a copy without values."""
    empty = type(network).restore(network.plan())
    return {name: accounting.cost(empty, name) for name in suite.names}


def _task_result(
    system: System, data: TaskData, cost: accounting.Cost, lines: Sequence[Mapping[str, Any]]
) -> TaskResult:
    scores = [line for line in _tests(lines) if line["task"] == data.name]
    counts = {"train": len(data.train)}
    counts |= {"val": len(data.val)} if data.val is not None else {}
    counts |= {"test": len(data.test)} if data.test is not None else {}
    return TaskResult(
        name=data.name,
        test=scores[-1]["values"] if scores else {},
        parameters=cost.parameters,
        added_parameters=cost.added_parameters,
        activated=cost.activated,
        flops=cost.flops,
        examples=counts,
        facts=system.entries[data.name].facts,
        confusion=scores[-1].get("confusion") if scores else None,
        f1=scores[-1].get("f1", {}) if scores else {},
        labels=list(data.task.target.labels) if data.task.target.kind != "regression" else None,
        exits=_exits(system, data.name, lines),
    )


def _exits(system: System, task: str, lines: Sequence[Mapping[str, Any]]) -> list[ExitResult]:
    """Costs and last test metrics at every exit of a task that has several."""
    if len(system.network.exits(task)) < 2:
        return []
    tests = [line for line in lines if line["kind"] == "score" and line["split"] == "test" and line["task"] == task]
    found = {line["exit"]: line["values"] for line in tests if "exit" in line}
    return [
        ExitResult(name=cost.exit, test=found.get(cost.exit, {}), parameters=cost.parameters, flops=cost.flops)
        for cost in system.exit_costs(task)
    ]


def curves_of(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Learning curves: training loss and every test or validation metric, one point a (stage, epoch)."""
    points: dict[tuple[str, str, str], dict[tuple[int, int], float]] = {}
    for line in lines:
        at = (line["stage"], line["epoch"])
        if line["kind"] == "train":
            for task, value in line.get("loss", {}).items():
                points.setdefault((task, "train", "loss"), {})[at] = value
        elif "exit" not in line:
            for metric, value in line["values"].items():
                points.setdefault((line["task"], line["split"], metric), {})[at] = value
    return [
        Curve(
            task=task,
            split=split,
            metric=metric,
            stages=[stage for stage, _ in sorted(values)],
            epochs=[epoch for _, epoch in sorted(values)],
            values=[values[at] for at in sorted(values)],
        )
        for (task, split, metric), values in points.items()
    ]


def picture(network: Network) -> PathPicture | None:
    """Which components every task uses, step by step; None where paths have different lengths."""
    paths = network.paths()
    lengths = {len(path.steps) for path in paths.values()}
    if len(lengths) != 1:
        return None
    parts = network.components()
    own = {name for name, part in parts.items() if part.kind == "own"}
    where: dict[str, int] = {}
    for path in paths.values():
        for depth, step in enumerate(path.steps):
            where |= dict.fromkeys(step, depth)
    # A free module stands where its neighbours of the same layer do.
    layers = {name.split(".")[0]: depth for name, depth in where.items()}
    for name in parts:
        if name not in where and name.split(".")[0] in layers:
            where[name] = layers[name.split(".")[0]]
    steps: list[list[str]] = [[] for _ in range(lengths.pop())]
    for name in parts:
        if name in where and not (name in own and ".norm." in name):
            steps[where[name]].append(name)
    shown = {name for step in steps for name in step}
    tasks = {task: [[n for n in step if n in shown] for step in path.steps] for task, path in paths.items()}
    return PathPicture(steps=[sorted(step) for step in steps], tasks=tasks, sizes=network.parameter_counts())


def _evolved(network: Network, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from polypath.analysis.evolution import evolution_record

    found = evolution_record(network, lines)
    return {"evolution": found} if found else {}


def _sharing(network: Network) -> dict[str, list[float]]:
    from polypath.analysis import sharing_profile

    profile = sharing_profile(network)
    return {key: [float(v) for v in values] for key, values in profile.items()}


def _tests(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["kind"] == "score" and line["split"] == "test" and "exit" not in line]


def _matrix(
    lines: Sequence[Mapping[str, Any]], names: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[list[float | None]]:
    """Row = after a stage; a known task that was not measured again did not change, and keeps its score."""
    matrix: list[list[float | None]] = []
    for stage, known in enumerate(rows):
        row = [_last(lines, stage, name) if name in known else None for name in names]
        if matrix:
            row = [new if new is not None else old for new, old in zip(row, matrix[-1], strict=True)]
        matrix.append(row)
    return matrix


def _last(lines: Sequence[Mapping[str, Any]], stage: int, task: str) -> float | None:
    found = [line for line in _tests(lines) if line["stage"] == stage and line["task"] == task]
    return next(iter(found[-1]["values"].values())) if found else None


def _lifelong(matrix: list[list[float | None]], suite: Suite, curves: Sequence[Curve]) -> Lifelong:
    """Figures over time; a task's convergence is read from the stage that learned it first."""
    errors = {data.name: (data.task.metric or data.task.default_metric) in LOWER_IS_BETTER for data in suite}
    found = lifelong_record(suite.names, matrix, lower_is_better=errors)
    converged = {}
    for data in suite:
        metric = data.task.metric or data.task.default_metric
        for curve in curves:
            if (curve.task, curve.split, curve.metric) == (data.name, "test", metric):
                first = [i for i, stage in enumerate(curve.stages) if stage == curve.stages[0]]
                epoch = convergence_epoch(
                    [curve.values[i] for i in first],
                    epochs=[curve.epochs[i] for i in first],
                    lower_is_better=errors[data.name],
                )
                if epoch is not None and len(first) > 1:
                    converged[data.name] = epoch
    back = backward_transfer(matrix) if matrix else None
    return found.changed(
        convergence_epochs=converged, backward_transfer=back, **over_time(suite, curves, errors, matrix)
    )


def over_time(
    suite: Suite, curves: Sequence[Curve], errors: Mapping[str, bool], matrix: Sequence[Sequence[float | None]]
) -> dict[str, Any]:
    """What learning curves say of peaks, forgetting and convergence, and what later stages did to each task.

    Curves of one stage of one point each are no curves: the figures of the matrix say all there is.
    """
    main = {data.name: data.task.metric or data.task.default_metric for data in suite}
    courses: dict[str, dict[str, list[Point]]] = {"test": {}, "val": {}}
    for curve in curves:
        if curve.split in courses and curve.metric == main.get(curve.task):
            points = [Point(*at) for at in zip(curve.stages, curve.epochs, curve.values, strict=True)]
            courses[curve.split][curve.task] = points
    columns = {name: [row[place] for row in matrix] for place, name in enumerate(suite.names)}
    tests = {task: completed(course, columns[task]) for task, course in courses["test"].items()}
    measured = any(len(own_phase(course)) > 1 for course in tests.values())
    figures = {by: suite_figures(tests, courses["val"], by=by, lower_is_better=errors) for by in PEAKS if measured}
    reverse = {task: change for task, course in tests.items() if (change := reverse_transfer(course)) is not None}
    return {"by_peak": {by: found for by, found in figures.items() if found}, "reverse_transfer": reverse}
