"""The parts of the report page, each made from records; a part that has nothing to show is None."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from polypath.core.result import Result
from polypath.report import evolved, figures, growth, heatmaps, lifelong
from polypath.report.paths import path_picture_svg, task_colour
from polypath.report.records import Records
from polypath.report.summary import COSTS, LOSSES, by_seed, spread
from polypath.report.tables import NOTHING, Grid, measured, number

Summary = Mapping[str, Any]


def cards(records: Records, summary: Summary) -> list[dict[str, Any]]:
    """One card a variant and main metric: mean, spread, and every seed as a dot on a common scale."""
    found = []
    for metric in summary["metrics"]:
        values = {v: list(by_seed(records.results, v, None, metric).values()) for v in records.variants}
        numbers = [value for seeds in values.values() for value in seeds]
        low, high = (0.0, 1.0) if figures.bounded(metric) else (min(0.0, *numbers), max(numbers) * 1.05 or 1.0)
        for place, variant in enumerate(records.variants):
            figure = summary["variants"][variant]["overall"].get(metric)
            if figure is None:
                continue
            dots = [round(100 * (value - low) / ((high - low) or 1.0), 2) for value in values[variant]]
            around = f"± {number(figure['sd'])}" if figure["sd"] is not None else "one seed, no spread"
            seeds = "1 seed" if figure["n"] == 1 else f"{figure['n']} seeds"
            found.append(
                {
                    "variant": variant,
                    "metric": metric,
                    "mean": number(figure["mean"]),
                    "spread": around,
                    "seeds": seeds,
                    "dots": [min(100.0, max(0.0, dot)) for dot in dots],
                    "place": place % 8,
                    "main": variant == summary["main"] and summary["recipe"] != "compare",
                    "low": _end(low),
                    "high": _end(high),
                }
            )
    return found


def _end(value: float) -> str:
    """An end of a card's scale: "0" and "1", and other numbers as values are written."""
    return str(round(value)) if value in (0, 1) else number(value)


def accuracy(records: Records, summary: Summary) -> list[Markup]:
    """Accuracy per task, one figure a main metric."""
    drawn = [
        figures.accuracy_figure(records.results, metric, f"accuracy-{place}")
        for place, metric in enumerate(summary["metrics"])
    ]
    return [Markup(svg) for svg in drawn if svg]


def curves(records: Records, summary: Summary) -> list[dict[str, Any]]:
    """Learning curves of the main metrics, then of the losses; other metrics stay in the records."""
    known = dict.fromkeys(curve.metric for result in records.results for curve in result.curves)
    order = [m for m in summary["metrics"] if m in known] + [
        m for m in known if m in LOSSES and m not in summary["metrics"]
    ]
    found = []
    for place, metric in enumerate(order):
        drawn = figures.curve_figures(records.results, metric, f"curves-{place}")
        splits = dict.fromkeys(c.split for r in records.results for c in r.curves if c.metric == metric)
        found.append({"metric": metric, "figures": [Markup(svg) for svg in drawn.values()], "splits": list(splits)})
    return found


def over_time(records: Records, summary: Summary) -> dict[str, Any] | None:
    """Lifelong learning over time: a table, every task's timeline, what is kept, how fast tasks are learned."""
    found = lifelong.section(records.results, summary["metrics"])
    if found is None:
        return None
    drawn = {key: Markup(found[key]) if found[key] else None for key in ("kept", "convergence")}
    return {**found, **drawn, "timelines": {key: Markup(svg) for key, svg in found["timelines"].items()}}


def matrices(summary: Summary) -> list[dict[str, Any]]:
    """Accuracy after every stage (where there are several), and what every network says of other tasks' data."""
    tasks, found = summary["tasks"], []
    for place, (variant, figures_) in enumerate(summary["variants"].items()):
        order = list(figures_["tasks"])
        for kind in ("matrix", "unlearned"):
            cells = figures_["lifelong"][kind]
            if not cells or (kind == "matrix" and len(cells) < 2):
                continue
            columns = order if len(cells[0]) == len(order) else [f"column {j + 1}" for j in range(len(cells[0]))]
            rows = columns if len(cells) == len(columns) else [f"stage {i + 1}" for i in range(len(cells))]
            down = "after learning" if kind == "matrix" else "network of"
            what = "test {} of every task after every stage"
            if kind == "unlearned":
                what = "{} of every network on every task's data"
            for metric, chosen in _by_metric(columns, figures_["tasks"]).items():
                title = f"{variant}: {what.format(metric or 'value')}"
                part, names = [[row[at] for at in chosen] for row in cells], [columns[at] for at in chosen]
                means = [[cell["mean"] if cell else None for cell in row] for row in part]
                prefix = f"{kind}-{place}" + (f"-{metric}" if len(chosen) < len(columns) else "")
                limits = _limits(means)
                svg = heatmaps.matrix_figure(means, rows, names, prefix, title, "task", down, limits)
                body = tuple((row, *(measured(cell) for cell in line)) for row, line in zip(rows, part, strict=True))
                grid = Grid(title, (down, *names), body)
                found.append({"kind": kind, "title": title, "svg": Markup(svg), "grid": grid, "tasks": len(tasks)})
    return found


def _by_metric(columns: Sequence[str], tasks: Mapping[str, Any]) -> dict[str | None, list[int]]:
    """Main metric -> places of the columns that are measured by it: values of two metrics share no scale of colours."""
    found: dict[str | None, list[int]] = {}
    for place, name in enumerate(columns):
        found.setdefault(tasks[name]["metric"] if name in tasks else None, []).append(place)
    return found


def _limits(values: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    known = [cell for row in values for cell in row if cell is not None]
    if not known or (min(known) >= 0 and max(known) <= 1):
        return (0.0, 1.0)
    return (min(known), max(known))


def costs(summary: Summary) -> list[dict[str, Any]]:
    """Cost per task, once where all variants cost the same."""
    groups: dict[str, list[str]] = {}
    for variant, figures_ in summary["variants"].items():
        costs_ = {task: {key: values[key] for key in COSTS} for task, values in figures_["tasks"].items()}
        groups.setdefault(json.dumps(costs_), []).append(variant)
    found = []
    for place, (costs_json, variants) in enumerate(groups.items()):
        svg = figures.cost_figure(json.loads(costs_json), f"costs-{place}")
        if svg:
            found.append({"variants": variants, "svg": Markup(svg)})
    return found


def sharing(records: Records) -> list[dict[str, Any]]:
    """Sharing profile, once where all variants share alike (they use the same paths)."""
    groups: dict[str, list[str]] = {}
    for variant in records.variants:
        profiles = [result.sharing for result in records.of(variant) if result.sharing.get("observed")]
        if profiles:
            groups.setdefault(repr(profiles), []).append(variant)
    found = []
    for place, variants in enumerate(groups.values()):
        svg = figures.sharing_figure(records.of(variants[0]), f"sharing-{place}")
        if svg:
            found.append({"variants": variants, "svg": Markup(svg)})
    return found


def paths(records: Records) -> dict[str, Any] | None:
    """The path picture of the main variant's first seed, its buttons, and the same as a table."""
    result = next((r for r in records.results if r.paths is not None and r.paths.tasks and r.paths.steps), None)
    if result is None or result.paths is None:
        return None
    picture = result.paths
    rows = []
    for task, steps in picture.tasks.items():
        names = (", ".join(names) or NOTHING for names in steps)
        rows.append((task, *names, *(NOTHING for _ in range(len(picture.steps) - len(steps)))))
    header = ("task", *(f"step {s + 1}" for s in range(len(picture.steps))))
    tasks = [{"place": place, "name": task, "colour": task_colour(place)} for place, task in enumerate(picture.tasks)]
    return {
        "svg": Markup(path_picture_svg(picture)),
        "tasks": tasks,
        "variant": result.variant,
        "seed": result.seed,
        "grid": Grid("Components used by each task", header, tuple(rows)),
    }


def evolution(records: Records) -> dict[str, Any] | None:
    """The evolved system of the main variant's first seed that has one: graph, growth, settings, family trees."""
    found = ((result, result.analysis.get("evolution")) for result in records.results)
    result, record = next(((r, e) for r, e in found if e and e["models"]), (None, None))
    if result is None or record is None:
        return None
    tasks = [task.name for task in result.tasks]
    colours = evolved.colours_of([*tasks, *(m["task"] for m in record["models"] if m["task"] not in tasks)])
    shown = [model["task"] for model in record["models"]][: evolved.MOST_TASKS]
    trees = {
        task: evolved.tree_svg(record["generations"], task, colours[task], f"tree-{place}")
        for place, task in enumerate(shown)
    }
    header = ("task", "score", "made from", "layers", "parameters", "trained on")
    rows = []
    for model in record["models"]:
        names = model["components"]
        size = sum(record["components"][name]["parameters"] for name in names)
        shares = ", ".join(f"{task} {share:.0%}" for task, share in model["shares"].items())
        parent = model["parent"] or "the root"
        rows.append((model["task"], number(model["score"]), parent, str(len(names)), f"{size:,}", shares or NOTHING))
    return {
        "variant": result.variant,
        "seed": result.seed,
        "system": Markup(evolved.system_svg(record, colours) or ""),
        "growth": Markup(growth.growth_figure(record["growth"]) or ""),
        "settings": Markup(growth.hyperparameter_figure(record["models"]) or ""),
        "trees": [(task, Markup(svg)) for task, svg in trees.items() if svg],
        "grid": Grid("Models of every task", header, tuple(rows)),
        "checks": _checked(record.get("checks")),
    }


def _checked(checks: dict[str, Any] | None) -> str:
    """What the checks of an evolved system found, as sentences; nothing where a record has none."""
    if checks is None:
        return ""
    falls = ", ".join(f"{f['task']} {f['before']:.4f} to {f['after']:.4f}" for f in checks["score_falls"])
    leaks = ", ".join(f"{leak['data']} in {leak['task']}" for leak in checks["leaks"])
    first = (
        f"A task's best score fell from one active iteration to a later one: {falls}."
        if falls
        else ("No task's best score fell from one active iteration to a later one.")
    )
    second = (
        f"Private data reached other tasks' models: {leaks}."
        if leaks
        else ("No private task's data reached a model outside its group (steps of all layers and their ancestors).")
    )
    return f"{first} {second}"


def confusion(records: Records) -> list[Markup]:
    """Confusion matrices of the main variant."""
    if not records.variants:
        return []
    return [Markup(svg) for svg in heatmaps.confusion_figures(records.of(records.variants[0])).values()]


def cka(records: Records) -> list[dict[str, Any]]:
    """CKA by pair of tasks and kernel: the lines of every setup, then its maps."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for setup in heatmaps.cka_setups(records.results):
        key = tuple(
            str(setup.get(k)) for k in ("tasks", "kernel", "fraction", "debiased", "minibatch", "pool", "inputs")
        )
        groups.setdefault(key, []).append(setup)
    found = []
    for place, setups in enumerate(groups.values()):
        first = setups[0]
        line = heatmaps.cka_line_figure(setups, f"cka-{place}")
        maps = []
        for number_, setup in enumerate(setups):
            svg = heatmaps.cka_heat_figure(setup, f"cka-{place}-{number_}")
            if svg:
                maps.append({"setup": setup["setup"], "svg": Markup(svg), "n": setup["modules_n"], "of": setup["n"]})
        rows = tuple(
            (setup["setup"], *(measured(spread(setup["layers"].get(layer, ()))) for layer in sorted(first["layers"])))
            for setup in setups
        )
        grid = Grid("CKA by layer", ("setup", *(f"layer {layer}" for layer in sorted(first["layers"]))), rows)
        title = " and ".join(map(str, first["tasks"]))
        found.append({"title": title, "how": _how(first), "line": Markup(line or ""), "maps": maps, "grid": grid})
    return found


def _how(record: Mapping[str, Any]) -> str:
    parts = [
        f"{str(record.get('kernel', '')).upper() if record.get('kernel') == 'rbf' else record.get('kernel')} kernel"
    ]
    if record.get("kernel") == "rbf" and record.get("fraction") is not None:
        parts.append(f"bandwidth {record['fraction']} of the median distance")
    parts.append("debiased" if record.get("debiased") else "not debiased")
    parts += [f"{record['samples']} samples"] if record.get("samples") else []
    parts += [f"inputs: {record['inputs']}"] if record.get("inputs") else []
    parts.append(f"{record['n']} seed{'s' if record['n'] != 1 else ''}")
    return ", ".join(parts)


def facts(results: Sequence[Result]) -> Grid | None:
    """What data preparation reported about every task, from the first result of the main variant."""
    if not results:
        return None
    tasks = results[0].tasks
    splits = list(dict.fromkeys(split for task in tasks for split in task.examples))
    keys = [key for key in dict.fromkeys(k for task in tasks for k in task.facts) if key != "examples"]
    # What is the same words for all tasks (a licence, the data set) is said once, below the table.
    common = {k for k in keys if len(tasks) > 1 and isinstance(tasks[0].facts.get(k), str)}
    common = {k for k in common if all(task.facts.get(k) == tasks[0].facts[k] for task in tasks)}
    shown = [key for key in keys if key not in common]
    header = ("task", *(f"{split} examples" for split in splits), *(key.replace("_", " ") for key in shown))
    rows = [
        (
            task.name,
            *(f"{task.examples[split]:,}" if split in task.examples else NOTHING for split in splits),
            *(plain(task.facts[key]) if key in task.facts else NOTHING for key in shown),
        )
        for task in tasks
    ]
    if len(header) == 1 and not common:
        return None
    said = [f"All tasks: {key.replace('_', ' ')} {tasks[0].facts[key]}." for key in keys if key in common]
    note = f"As prepared for variant {results[0].variant}, seed {results[0].seed}; another seed may draw other classes."
    return Grid("Data of every task", header, tuple(rows), (*said, note))


def duplicates(results: Sequence[Result]) -> list[tuple[str, int]]:
    """Every counted kind of duplicate, summed over the tasks of the first result of the main variant."""
    facts_ = [task.facts for task in results[0].tasks] if results else []
    keys = dict.fromkeys(key for found in facts_ for key, value in found.items() if _counted(key, value))
    return [(key.replace("_", " "), sum(f[key] for f in facts_ if _counted(key, f.get(key)))) for key in keys]


def _counted(key: str, value: Any) -> bool:
    return "duplicate" in key and isinstance(value, int) and not isinstance(value, bool)


def plain(value: Any) -> str:
    """A recorded value as words."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NOTHING}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(inner)}" for key, inner in value.items()) or NOTHING
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(inner) for inner in value) or NOTHING
    return str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted path, value) rows, in their own order."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            rows += flat(value, path + ".")
        else:
            rows.append((path, plain(value)))
    return rows
