"""`polypath recipes`: the experiments that can be run."""

from __future__ import annotations

from typing import Any, get_args

from polypath.cli.show import AsJson, listing, print_json, print_tables


def recipes(as_json: AsJson = False) -> None:
    """List the recipes: what each reproduces, where that is in the paper, its sizes and variants."""
    from polypath.recipes import RECIPES

    found = [_about(name) for name in RECIPES]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            about["name"],
            about["title"],
            about["paper"],
            ", ".join(
                [*(f"{s} ({n})" for s, n in about["sizes"].items()), *(f"{s} (needs data)" for s in about["needs"])]
            ),
            ", ".join(f"{name} (main)" if name == about["main"] else name for name in about["variants"]),
        )
        for about in found
    ]
    header = ("recipe", "what", "paper", "sizes (seeds)", "variants")
    notes = ["polypath run RECIPE [--quick | --smoke]; full is the default."]
    if any(about["needs"] for about in found):
        notes.append("Needs data: that its user supplies; polypath run RECIPE --dry-run says which and where.")
    print_tables(listing("Recipes", header, rows, notes))


def _about(name: str) -> dict[str, Any]:
    from polypath.core.errors import PolypathError
    from polypath.recipes import Size, recipe

    sizes: dict[str, Any] = {}
    needs: dict[str, str] = {}
    for size in get_args(Size):
        try:
            sizes[size] = recipe(name)(size)
        except PolypathError as error:  # data that its user supplies is not there
            needs[size] = str(error)
    known = next(iter(sizes.values()), None)
    return {
        "name": name,
        "title": getattr(known, "title", ""),
        "paper": getattr(known, "paper", ""),
        "sizes": {size: len(experiment.seeds) for size, experiment in sizes.items()},
        "needs": needs,
        "main": getattr(known, "main", None),
        "variants": list(getattr(known, "variants", ())),
    }
