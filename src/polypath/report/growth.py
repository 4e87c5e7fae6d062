"""Figures of an evolved system: how it grew, and which hyper-parameters its models ended with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from polypath.report.drawing import MUTED, SERIES, canvas, drawing, inline


def growth_figure(growth: Sequence[Mapping[str, Any]], name: str = "growth") -> str | None:
    """Activated and added parameters per task in per cent of the system's, over active iterations (figure 2).

    "Added" are the parameters of components that only the task's own model uses. Both are those of the task that was
    active; a vertical line marks where a task comes for the first time.

    Returns:
        An inline SVG, or None where nothing is recorded.
    """
    if not growth:
        return None
    x = list(range(1, len(growth) + 1))
    series = {key: [100 * row[key] / row["total"] for row in growth] for key in ("activated", "added")}
    with drawing():
        from matplotlib.ticker import MaxNLocator

        figure = canvas(6, 2.6)
        axes = figure.add_subplot()
        seen: set[str] = set()
        for place, row in zip(x, growth, strict=True):
            if row["retained"] not in seen:
                axes.axvline(place, color=MUTED, lw=0.6, ls=(0, (2, 2)))
            seen.add(row["retained"])
        for place, (label, values) in enumerate(series.items()):
            axes.plot(x, values, color=SERIES[place], marker="os"[place], ms=4, label=f"{label} by the active task")
        axes.set_ylim(0, 105)
        axes.set_xlabel("active task iteration")
        axes.set_ylabel("% of all parameters")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper left", ncols=2)
        return inline(figure, name, f"Activated and added parameters over {len(growth)} active task iterations.")


def values_of(models: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """Hyper-parameter -> (value, number of models that have it), values in ascending order; constant ones left out."""
    names = dict.fromkeys(key for model in models for key in model["hyperparameters"])
    found = {}
    for name in names:
        counts = Counter(m["hyperparameters"][name] for m in models if name in m["hyperparameters"])
        if len(counts) > 1:
            found[name] = [(_plain(value), counts[value]) for value in sorted(counts)]
    return found


def _plain(value: bool | int | float) -> str:
    return str(value) if isinstance(value, bool) else f"{value:g}"


def hyperparameter_figure(models: Sequence[Mapping[str, Any]], name: str = "hyperparameters") -> str | None:
    """How many models ended with which value of every hyper-parameter that differs between them (figure 5).

    Returns:
        An inline SVG, or None where all models have equal settings.
    """
    found = values_of(models)
    if not found:
        return None
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    with drawing():
        from matplotlib.ticker import MaxNLocator

        figure = canvas(6.4, 1.5 * rows + 0.2)
        for place, (label, counts) in enumerate(found.items()):
            axes = figure.add_subplot(rows, columns, place + 1)
            axes.bar(range(len(counts)), [count for _, count in counts], color=SERIES[0], width=0.7)
            axes.set_xticks(range(len(counts)), [value for value, _ in counts])
            axes.set_title(label.replace("_", " "))
            axes.grid(axis="x", visible=False)
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        return inline(figure, name, f"Values of {len(found)} hyper-parameters over the models of {len(models)} tasks.")
