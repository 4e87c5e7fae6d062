"""report.html: one self-contained page about a run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from polypath.core.files import write_atomically
from polypath.report import answers, headline, sections, tables
from polypath.report.comparison import comparison_grid, recommendation
from polypath.report.pareto import pareto
from polypath.report.records import Records, read_run
from polypath.report.summary import summarise, write_summary

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent / "templates"


def write_report(run_dir: str | Path) -> Path:
    """Write RUN/report.html, and RUN/summary.json beside it, atomically; returns the page's path.

    The page needs nothing outside itself: styles, pictures and the small script are in it. It depends on the records
    alone, so the same records give the same bytes. A run that is not complete gives a page that says what is missing.

    Args:
        run_dir: a RUN folder.

    Raises:
        InvalidInput, CorruptError: as `polypath.report.records.read_run`.
    """
    records = read_run(run_dir)
    write_summary(run_dir)
    page, path = render(records).encode(), records.folder / "report.html"
    write_atomically(path, lambda file: _all(file, page))
    return path


def _all(file: BinaryIO, page: bytes) -> None:
    file.write(page)


def render(records: Records) -> str:
    """The page's HTML."""
    return _template().render(_context(records)) + "\n"


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")


def _context(records: Records) -> dict[str, Any]:
    summary = summarise(records.results)
    recipe = summary["recipe"] or records.config.get("recipe") or records.folder.name
    seeds = sorted({result.seed for result in records.results})
    first = records.results[0] if records.results else None
    environment = records.environment or (first.environment if first else {})
    config = records.config or (first.config if first else {})
    compared = recipe == "compare" and bool(records.results)
    return {
        "recipe": recipe,
        "title": str(records.config.get("title") or ""),
        "paper": str(records.config.get("paper") or ""),
        "about": _about(records, summary, seeds),
        "missing": records.missing,
        "cards": sections.cards(records, summary),
        "verdict": recommendation(records.results, summary) if compared else headline.verdict(summary),
        "variants": [{"name": v, "place": i % 8} for i, v in enumerate(records.variants)],
        "accuracy": sections.accuracy(records, summary),
        "accuracy_grid": tables.accuracy_grid(summary),
        "paired": tables.paired_grid(summary) if summary["paired"] else None,
        "totals": comparison_grid(records.results, summary) if compared else tables.totals_grid(summary),
        "curves": sections.curves(records, summary),
        "over_time": sections.over_time(records, summary),
        "matrices": sections.matrices(summary),
        "confusion": sections.confusion(records),
        "ensembles": answers.ensemble_grid(summary),
        "others": answers.other_grid(summary),
        "f1": answers.f1_grid(summary),
        "costs": sections.costs(summary),
        "cost_grid": tables.cost_grid(summary),
        "pareto": pareto(records.results),
        "sharing": sections.sharing(records),
        "paths": sections.paths(records),
        "evolution": sections.evolution(records),
        "cka": sections.cka(records),
        "facts": sections.facts(records.results),
        "duplicates": sections.duplicates(records.results),
        "config": sections.flat({key: value for key, value in config.items() if key != "command"}),
        "environment": sections.flat(environment),
        "command": headline.command(summary, {**environment, **records.config}),
        "has_results": bool(records.results),
    }


def _about(records: Records, summary: dict[str, Any], seeds: list[int]) -> list[str]:
    if not records.results:
        return ["no finished result"]
    methods = dict.fromkeys(variant["method"] for variant in summary["variants"].values())
    tasks, variants = len(summary["tasks"]), len(summary["variants"])
    return [
        summary["suite"],
        f"{tasks} task{'s' if tasks != 1 else ''}",
        f"{variants} variant{'s' if variants != 1 else ''}",
        f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds ({', '.join(map(str, seeds))})",
        f"method: {', '.join(methods)}",
        f"size: {summary['size']}",
    ]
