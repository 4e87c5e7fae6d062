"""Writes the tables of docs/results.md from the records beside it.

Run: python docs/make_tables.py

Between `<!-- table: NAME -->` and `<!-- end -->` everything is generated; a test holds page and records equal.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from polypath.report.answers import ensemble_grid, f1_grid
from polypath.report.lifelong import lifelong_grid
from polypath.report.records import read_results
from polypath.report.summary import summarise
from polypath.report.tables import NOTHING, Grid, accuracy_grid, paired_grid, reproduction_grid

HERE = Path(__file__).parent
RESULTS = HERE / "results"
NOT_RUN = "Not run yet."
_BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.S)


def table(name: str) -> str:
    """Markdown of one table: `reproduction/RECIPE`, `quick/RECIPE`, `full/RECIPE`, `f1/RECIPE` or `benchmarks/NAME`.

    `quick` and `full` show every task by variant, ensembles and paired differences; `f1` every label of a full run.
    """
    kind, _, rest = name.partition("/")
    if kind == "reproduction":
        return lettered(reproduction_grid(RESULTS / rest)).markdown()
    if kind == "lifelong":
        grid = lifelong_grid(read_results(RESULTS / rest))
        return grid.markdown() if grid is not None else "Not run."
    if kind == "f1":
        grid = f1_grid(summarise(read_results(RESULTS / rest)))
        return grid.markdown() if grid else NOT_RUN
    if kind in ("quick", "full"):
        results = read_results(RESULTS / "quick" / rest if kind == "quick" else RESULTS / rest)
        if not results:
            return NOT_RUN
        summary = summarise(results)
        together = ensemble_grid(summary)
        where = {
            f"{r.environment['cpu']}, {r.environment['threads']} thread(s), {r.environment['commit']}" for r in results
        }
        parts = [
            accuracy_grid(summary).markdown(),
            *([together.markdown()] if together else []),
            *([paired_grid(summary).markdown()] if len({r.variant for r in results}) > 1 else []),
            "Machine and commit: " + "; ".join(sorted(where)) + ".",
        ]
        return "\n\n".join(parts)
    record: dict[str, Any] = json.loads((RESULTS / "benchmarks" / f"{rest}.json").read_text())
    rows = "\n".join(f"| {key} | {value} |" for key, value in flat(record["figures"]))
    facts = record["environment"]
    return (
        f"| figure | value |\n|---|---|\n{rows}\n\n`{record['command']}` on {facts['cpu']}, "
        f"{facts['threads']} thread(s), "
        f"bf16 matrix units: {'yes' if facts['cpu_bf16'] else 'no'}, commit {facts['commit']}."
    )


def lettered(grid: Grid) -> Grid:
    """Machine and commit of a row as a letter that a note explains; as cells they make every row five lines high."""
    runs = list(dict.fromkeys(row[-2:] for row in grid.rows if row[-1] != NOTHING))
    letters = {run: chr(ord("a") + place) for place, run in enumerate(runs)}
    rows = tuple((*row[:-2], letters.get(row[-2:], NOTHING)) for row in grid.rows)
    notes = [f"{letter}: {machine}, {commit}." for (machine, commit), letter in letters.items()]
    return Grid(grid.title, (*grid.header[:-2], "run"), rows, (*grid.notes, *notes))


def flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Figures as (path, text); lists of raw seconds are left to the record."""
    rows: list[tuple[str, str]] = []
    for key, value in figures.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{key} · ")
        elif isinstance(value, bool) or not isinstance(value, (int, float, list)):
            rows.append((prefix + key, str(value)))
        elif isinstance(value, (int, float)):
            rows.append((prefix + key, f"{value:,}" if isinstance(value, int) else f"{value:.4g}"))
    return rows


def generated(text: str) -> str:
    """The page with every table made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}{table(found[2])}\n{found[3]}", text)


if __name__ == "__main__":
    page = HERE / "results.md"
    page.write_text(generated(page.read_text()))
