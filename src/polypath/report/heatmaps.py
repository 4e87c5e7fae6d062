"""Heat maps of a run: accuracy matrices, confusion matrices, CKA between the paths of two tasks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polypath.core.result import Result
from polypath.report.drawing import GREEN, MARKERS, SERIES, canvas, drawing, inline, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = Sequence[Sequence[float | None]]
WRITTEN = 16  # up to this many columns the value is written into each cell
NEARLY_BLACK = "#1a1a1a"


def matrix_figure(
    values: Values, rows: Sequence[str], columns: Sequence[str], name: str, title: str, across: str, down: str,
    limits: tuple[float, float] = (0.0, 1.0),
) -> str:  # fmt: skip
    """One heat map with the value written in each cell; an unknown cell stays empty.

    Args:
        values: rows x columns, None where nothing is known.
        rows: a name for every row.
        columns: a name for every column.
        name: prefix of the ids inside the picture.
        title: text alternative.
        across: what the columns are.
        down: what the rows are.
        limits: values drawn darkest and brightest.
    """
    with drawing():
        figure = canvas(max(4.0, 2.2 + 0.56 * len(columns)), max(2.2, 1.5 + 0.36 * len(rows)))
        axes = figure.add_subplot()
        _heat(axes, values, limits, written=len(columns) <= WRITTEN, size=8)
        axes.set_xticks(
            range(len(columns)), [short(c, 18) for c in columns], rotation=45, ha="left", rotation_mode="anchor"
        )
        axes.set_yticks(range(len(rows)), [short(row, 22) for row in rows])
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        return inline(figure, name, title)


def confusion_figures(results: Sequence[Result], name: str = "confusion") -> dict[str, str]:
    """Task -> confusion matrix in shares of the true label, summed over seeds.

    Args:
        results: finished results of one variant. Where a task's labels differ from seed to seed (class sets are drawn
            anew), only the first seed's matrix is meaningful, and it alone is drawn.
        name: prefix of the ids inside the pictures.
    """
    found = {}
    with drawing():
        for place, task in enumerate(dict.fromkeys(t.name for result in results for t in result.tasks)):
            counts, labels = confusion(results, task)
            if not counts:
                continue
            figure = canvas(3.4, 3.5)
            axes = figure.add_subplot()
            shares = [[cell / sum(row) if sum(row) else None for cell in row] for row in counts]
            _heat(axes, shares, (0.0, 1.0), written=len(labels) <= 5, size=8)
            shown = range(len(labels)) if len(labels) <= 24 else ()
            axes.set_xticks(shown, [short(labels[i], 12) for i in shown], rotation=90, fontsize=7)
            axes.set_yticks(shown, [short(labels[i], 12) for i in shown], fontsize=7)
            axes.set_xlabel("answered")
            axes.set_ylabel("true")
            axes.set_title(short(task, 30))
            right = sum(counts[i][i] for i in range(len(counts))) / max(1, sum(map(sum, counts)))
            said = f"Confusion matrix of {task}: {right:.1%} answered rightly{_worst(counts, labels)}."
            found[task] = inline(figure, f"{name}-{place}", said)
    return found


def confusion(results: Sequence[Result], task: str) -> tuple[list[list[int]], list[str]]:
    """Counts (rows true, columns answered) of a task, summed over seeds with the first seed's labels, and those."""
    records = [t for result in results for t in result.tasks if t.name == task and t.confusion]
    if not records or not records[0].confusion:
        return [], []
    labels = records[0].labels or [str(i) for i in range(len(records[0].confusion))]
    same = [t.confusion for t in records if t.confusion and (t.labels or labels) == labels]
    size = len(labels)
    same = [c for c in same if len(c) == size and all(len(row) == size for row in c)]
    return [[sum(c[i][j] for c in same) for j in range(size)] for i in range(size)] if same else [], labels


def _worst(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """The most frequent mistake, for those who do not see the picture."""
    wrong = [(n, -i, -j) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j and n]
    if not wrong:
        return ""
    n, i, j = max(wrong)
    return f"; most often mistaken: {labels[-i]} for {labels[-j]}, {n} times"


def cka_setups(results: Sequence[Result]) -> list[dict[str, Any]]:
    """CKA records averaged over seeds: one entry for every setup, kernel and pair of tasks.

    Each keeps the first record's keys, with `layers` {layer: [value of each seed]}, `modules` averaged cell by cell,
    and `n`. Paths may differ from seed to seed; module maps of other modules are not averaged but left out, and
    `modules_n` says how many seeds entered.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for result in results:
        for record in result.analysis.get("cka", ()):
            setup = str(record.get("setup") or result.variant)
            kind = (
                str(record.get(key))
                for key in ("kernel", "fraction", "debiased", "minibatch", "pool", "inputs", "tasks")
            )
            groups.setdefault((setup, *kind), []).append(record)
    return [_average(setup, records) for (setup, *_), records in groups.items()]


def _average(setup: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = records[0]
    layers: dict[int, list[float]] = {}
    for record in records:
        for entry in record.get("layers", ()):
            layers.setdefault(int(entry["layer"]), []).append(float(entry["cka"]))

    def names(record: Mapping[str, Any]) -> list[Any]:
        return [(m["layer"], m["rows"], m["columns"]) for m in record.get("modules", ())]

    same = [record for record in records if names(record) == names(first)]
    modules = []
    for place, module in enumerate(first.get("modules", ())):
        stacked = [record["modules"][place]["values"] for record in same]
        size = range(len(module["rows"])), range(len(module["columns"]))
        values = [[statistics.fmean(v[i][j] for v in stacked) for j in size[1]] for i in size[0]]
        modules.append({**module, "values": values})
    return {**first, "setup": setup, "layers": layers, "modules": modules, "n": len(records), "modules_n": len(same)}


def cka_line_figure(setups: Sequence[Mapping[str, Any]], name: str = "cka-lines") -> str | None:
    """CKA between two tasks' paths after every layer, one line a setup, bars ± SD over seeds: the paper's Fig 8.

    Args:
        setups: entries of `cka_setups` for one pair of tasks and one kernel.
        name: prefix of the ids inside the picture.
    """
    drawn = [setup for setup in setups if setup["layers"]]
    if not drawn:
        return None
    with drawing():
        figure = canvas(6, 3.2)
        axes = figure.add_subplot()
        for place, setup in enumerate(drawn):
            points = sorted(setup["layers"].items())
            means = [statistics.fmean(values) for _, values in points]
            spreads = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
            colour, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
            style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5, "lw": 1.6}
            bars = spreads if any(spreads) else None
            axes.errorbar([x for x, _ in points], means, bars, label=short(setup["setup"], 30), capsize=2.5, **style)
        axes.set_xticks(sorted({layer for setup in drawn for layer in setup["layers"]}))
        axes.set_xlabel("layer")
        axes.set_ylabel("CKA")
        axes.set_ylim(top=1.03)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        figure.legend(loc="outside right upper", title="setup")
        return inline(figure, name, f"CKA by layer for {len(drawn)} setups: {', '.join(s['setup'] for s in drawn)}.")


def cka_heat_figure(setup: Mapping[str, Any], name: str) -> str | None:
    """CKA between the modules of two tasks, a map a layer, shared modules outlined in green: the paper's Figs 9 to 12.

    Args:
        setup: an entry of `cka_setups`.
        name: prefix of the ids inside the picture.
    """
    modules = [module for module in setup["modules"] if module["rows"] and module["columns"]]
    if not modules:
        return None
    a, b = (str(task) for task in setup["tasks"])
    shared = set(setup.get("shared", ()))
    count = len(modules)
    columns = min(count, 5)
    down = -(-count // columns)
    with drawing():
        figure = canvas(0.7 + 1.75 * columns, 0.2 + 1.9 * down, margins=(0.55, 0.1, 0.5, 0.3))
        grid = figure.subplots(down, columns, squeeze=False, gridspec_kw={"hspace": 0.6, "wspace": 0.22})
        for place, axes in enumerate(grid.flat):
            if place >= count:
                axes.set_axis_off()
                continue
            module = modules[place]
            _heat(axes, module["values"], (0.0, 1.0), written=len(module["columns"]) <= 4, size=8)
            _outline(axes, module, shared)
            axes.set_title(f"layer {module['layer']}")
            axes.set_xticks(range(len(module["columns"])), [_tail(n) for n in module["columns"]], fontsize=7)
            axes.set_yticks(range(len(module["rows"])), [_tail(n) for n in module["rows"]], fontsize=7)
            axes.set_xlabel(short(b, 16), fontsize=8)
            if place % columns == 0:
                axes.set_ylabel(short(a, 16), fontsize=8)
        said = f"{len(shared)} shared modules outlined in green" if shared else "no shared modules"
        return inline(figure, name, f"CKA between the modules of {a} and {b}, {setup['setup']}: {said}.")


def _outline(axes: Axes, module: Mapping[str, Any], shared: set[str]) -> None:
    from matplotlib.patches import Rectangle

    for i, row in enumerate(module["rows"]):
        for j, column in enumerate(module["columns"]):
            if row == column and row in shared:
                for colour, width in (("white", 5.0), (GREEN, 2.8)):  # white below: viridis has greens of its own
                    box = Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, ec=colour, lw=width, zorder=5)
                    axes.add_patch(box)


def _tail(name: str) -> str:
    """The number a component's name ends in, else the end of the name: enough beside a small map."""
    digits = name[len(name.rstrip("0123456789")) :]
    return digits or name[-6:]


def _heat(axes: Axes, values: Values, limits: tuple[float, float], written: bool, size: float) -> None:
    """Colour every known cell in viridis (one is bright yellow), and write its value."""
    from matplotlib import colormaps

    known = [[float("nan") if cell is None else cell for cell in row] for row in values]
    colours = colormaps["viridis"]
    axes.imshow(known, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="none", aspect="auto")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    width = (limits[1] - limits[0]) or 1.0
    for i, row in enumerate(values) if written else ():
        for j, cell in enumerate(row):
            if cell is None:
                continue
            red, green, blue, _ = colours(min(1.0, max(0.0, (cell - limits[0]) / width)))
            light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.42
            text = f"{cell:.2f}" if limits[1] <= 1 else f"{cell:.3g}"
            text = text[1:] if text.startswith("0.") else text
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=NEARLY_BLACK if light else "white")
