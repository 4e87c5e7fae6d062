"""Tables of a summary, for the terminal, for documentation and for the page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polypath.core.errors import InvalidInput
from polypath.core.files import read_json
from polypath.core.result import Result
from polypath.report.records import read_results
from polypath.report.summary import by_seed, ensemble_by_seed, lifelong_by_seed, lower_is_better, spread

if TYPE_CHECKING:
    from rich.table import Table

NOTHING = "–"


@dataclass(frozen=True)
class Grid:
    """A table without a medium: a title, a header, rows of text whose first column names the row, and notes."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def rich(self) -> Table:
        """The table for a terminal; names are printed as they are, never read as markup."""
        from rich.table import Table
        from rich.text import Text

        caption = Text("\n".join(self.notes)) if self.notes else None
        # As wide as its title and notes (up to a narrow terminal), which rich would fold to the width of the columns.
        width = min(76, max(map(len, (self.title, *self.notes))))
        table = Table(
            title=Text(self.title), caption=caption, caption_justify="left", title_justify="left", min_width=width
        )
        for place, name in enumerate(self.header):
            table.add_column(Text(name), justify="right" if place else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        return table

    def markdown(self) -> str:
        """The table in GitHub's markdown, without the title, ending in a newline; notes follow as a paragraph."""
        lines = [self.header, ("---", *("---:" for _ in self.header[1:])), *self.rows]
        text = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"
        return text + ("\n" + " ".join(map(_cell, self.notes)) + "\n" if self.notes else "")


def _cell(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def number(value: float) -> str:
    """A measured value: three decimals below 10, else four significant digits ("0.791", "12.35", "1,235")."""
    if abs(value) < 10:
        return f"{value:z.3f}"  # z: a rounded -0.0001 is 0.000, not -0.000
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def measured(figure: Mapping[str, Any] | None) -> str:
    """A figure with its spread, "0.791 ± 0.012"; without one where a single seed ran; a dash for nothing."""
    if figure is None:
        return NOTHING
    return number(figure["mean"]) + (f" ± {number(figure['sd'])}" if figure["sd"] is not None else "")


def count(figure: Mapping[str, Any] | None) -> str:
    """A whole number, "1,234", with ± where seeds differ in it (random paths share differently)."""
    if figure is None:
        return NOTHING
    return f"{figure['mean']:,.0f}" + (f" ± {figure['sd']:,.0f}" if figure["sd"] else "")


def scaled(figure: Mapping[str, Any] | None, unit: str = "") -> str:
    """A large number with a decimal prefix and three digits, "1.23 G"; `unit` follows the prefix ("B" gives "MB")."""
    if figure is None:
        return NOTHING
    value = float(figure["mean"])
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:
            return (
                f"{value / size:.3g} {prefix}{unit}" if value < 999.5 * size else f"{value / size:,.0f} {prefix}{unit}"
            )
    return f"{value:.3g} {unit}".strip()


def accuracy_grid(summary: Mapping[str, Any]) -> Grid:
    """Main test metric of every task by variant, mean ± sample standard deviation over seeds, with the mean row."""
    variants, metrics = summary["variants"], summary["metrics"]
    mixed = len(metrics) > 1

    def named(task: str) -> str:
        metric = next((m for v in variants.values() if task in v["tasks"] and (m := v["tasks"][task]["metric"])), None)
        return f"{task} ({metric})" if mixed and metric else task

    rows = [
        (named(task), *(measured(_main(variant["tasks"].get(task))) for variant in variants.values()))
        for task in summary["tasks"]
    ]
    rows += [
        (f"mean ({metric})" if mixed else "mean", *(measured(v["overall"].get(metric)) for v in variants.values()))
        for metric in metrics
    ]
    what = metrics[0] if len(metrics) == 1 else "main metric"
    return Grid(f"Test {what} per task", ("task", *variants), tuple(rows), (_seeds(variants),) if variants else ())


def cost_grid(summary: Mapping[str, Any]) -> Grid:
    """Parameters, added parameters and FLOPs of every task; one block for all variants that cost the same."""
    blocks = {
        name: [_costs(variant["tasks"].get(task)) for task in summary["tasks"]]
        for name, variant in summary["variants"].items()
    }
    kinds = ("parameters", "added parameters", "FLOPs")
    alike: dict[str, list[str]] = {}
    for name, block in blocks.items():
        alike.setdefault(json.dumps(block), []).append(name)
    same = len(alike) == 1
    blocks = {", ".join(names): blocks[names[0]] for names in alike.values()}
    header = [f"{kind} ({name})" if len(blocks) > 1 else kind for name in blocks for kind in kinds]
    rows = [
        (task, *(cell for block in blocks.values() for cell in block[place]))
        for place, task in enumerate(summary["tasks"])
    ]
    notes = ["FLOPs: 2 x multiply-accumulates, one example. Added: parameters that no earlier task uses."]
    if same and len(summary["variants"]) > 1:
        notes.append("The same for every variant.")
    return Grid("Cost per task", ("task", *header), tuple(rows), tuple(notes))


def totals_grid(summary: Mapping[str, Any]) -> Grid:
    """One row a variant: mean test metric, parameters and size of the whole system, time."""
    metrics = summary["metrics"]
    header = ("variant", *(f"mean {metric}" for metric in metrics), "parameters", "size", "seeds", "training time")
    rows = []
    for name, variant in summary["variants"].items():
        means = (measured(variant["overall"].get(metric)) for metric in metrics)
        totals, wall = variant["totals"], variant["timing"]["train_s"]
        size = scaled(totals["size_bytes"], "B")
        rows.append(
            (name, *means, count(totals["parameters"]), size, str(len(variant["seeds"])), f"{wall['mean']:,.0f} s")
        )
    return Grid("Variants", header, tuple(rows))


def paired_grid(summary: Mapping[str, Any]) -> Grid:
    """Differences between variants on the same seed, mean ± sample standard deviation; how often the first leads."""
    rows = []
    for pair in summary["paired"]:
        for metric, figure in pair["overall"].items():
            if figure is None:
                continue
            better = [gap < 0 if lower_is_better(metric) else gap > 0 for gap in figure["by_seed"].values()]
            a, b = pair["variants"]
            rows.append((f"{a} minus {b}", metric, measured(figure), f"{sum(better)} of {len(better)}"))
    header = ("difference", "metric", "mean over tasks", "seeds where the first is better")
    return Grid("Paired differences", header, tuple(rows), ("Paired: both variants ran on the same seed.",))


def reproduction_grid(folder: str | Path) -> Grid:
    """The reproduction table of one recipe, from committed records alone.

    Args:
        folder: docs/results/<recipe>/, holding results.json files at any depth and paper.json:
            `{"source": "...", "figures": [{"label", "variant", "metric", "task" (absent: mean over tasks), "value",
            "sd" (optional)}]}`; `"ensemble": true` asks for the common answer of the variant's tasks, `"lifelong":
            "peak_accuracy", "by": "test"` for a figure of `Lifelong.by_peak`. A figure nobody
            ran shows "not run"; one worse than the paper's by more than both spreads together shows "not reached".

    Raises:
        InvalidInput: no paper.json there, or one that is not of this form.
        CorruptError: a results.json that is not a result record.
    """
    paper, results = _paper(Path(folder)), read_results(folder)
    rows = [_reproduced(figure, results) for figure in paper["figures"]]
    header = ("figure", "paper", "ours", "seeds", "spread", "machine", "commit")
    return Grid(f"Reproduction: {paper['source']}", header, tuple(rows), (f"Paper: {paper['source']}.",))


def _paper(folder: Path) -> dict[str, Any]:
    path = folder / "paper.json"
    if not path.exists():
        raise InvalidInput(
            f"{path}: required for a reproduction table (the paper's figures), but there is no such file"
        )
    paper = read_json(path)
    figures = paper.get("figures") if isinstance(paper, dict) else None
    keys = {"label", "variant", "metric", "value"}
    good = isinstance(figures, list) and all(isinstance(f, dict) and keys <= f.keys() for f in figures)
    if not good or not isinstance(paper.get("source"), str):
        raise InvalidInput(f'{path}: required is {{"source": text, "figures": [{{{", ".join(sorted(keys))}, ...}}]}}')
    return dict(paper)


def _reproduced(figure: Mapping[str, Any], results: Sequence[Result]) -> tuple[str, ...]:
    variant, metric, value = figure["variant"], figure["metric"], float(figure["value"])
    paper = measured({"mean": value, "sd": figure.get("sd")})
    if figure.get("ensemble"):
        found = ensemble_by_seed(results, variant, metric)
    elif figure.get("lifelong"):
        found = lifelong_by_seed(results, variant, figure["lifelong"], figure.get("by", "validation"))
    else:
        found = by_seed(results, variant, figure.get("task"), metric)
    ours = spread(found.values())
    if ours is None:
        return (figure["label"], paper, "not run", "0", NOTHING, NOTHING, NOTHING)
    worse = ours["mean"] - value if lower_is_better(metric) else value - ours["mean"]
    missed = worse > (ours["sd"] or 0.0) + float(figure.get("sd") or 0.0)
    used = [result for result in results if result.variant == variant]
    machines = dict.fromkeys(machine(r.environment) for r in used)
    commits = dict.fromkeys(str(r.environment.get("commit") or NOTHING) for r in used)
    return (
        figure["label"],
        paper,
        number(ours["mean"]) + (" (not reached)" if missed else ""),
        str(ours["n"]),
        number(ours["sd"]) if ours["sd"] is not None else NOTHING,
        ", ".join(machines),
        ", ".join(commits),
    )


def machine(environment: Mapping[str, Any]) -> str:
    """The machine of a recorded environment in a few words: its GPU, else its processor, and cores and threads."""
    name = environment.get("machine") or environment.get("gpu") or environment.get("cpu") or NOTHING
    counts = [f"{environment[key]} {key}" for key in ("cores", "threads") if environment.get(key) is not None]
    return ", ".join([str(name), *counts])


def _main(task: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return task["test"].get(task["metric"]) if task else None


def _costs(task: Mapping[str, Any] | None) -> tuple[str, ...]:
    if task is None:
        return (NOTHING,) * 3
    return (count(task["parameters"]), count(task["added_parameters"]), scaled(task["flops"]))


def _seeds(variants: Mapping[str, Any]) -> str:
    counts = {name: len(variant["seeds"]) for name, variant in variants.items()}
    if set(counts.values()) == {1}:
        return "One seed: no spread can be given."
    said = (
        str(next(iter(counts.values())))
        if len(set(counts.values())) == 1
        else ", ".join(f"{name} {n}" for name, n in counts.items())
    )
    return f"Mean ± sample standard deviation over seeds ({said})."
