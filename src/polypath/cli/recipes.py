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
            ", ".join(f"{size} ({count})" for size, count in about["sizes"].items()),
            ", ".join(f"{name} (main)" if name == about["main"] else name for name in about["variants"]),
        )
        for about in found
    ]
    header = ("recipe", "what", "paper", "sizes (seeds)", "variants")
    print_tables(listing("Recipes", header, rows, ("polypath run RECIPE [--quick | --smoke]; full is the default.",)))


def _about(name: str) -> dict[str, Any]:
    from polypath.recipes import Size, recipe

    full: Any = recipe(name)("full")
    sizes = {size: len(getattr(recipe(name)(size), "seeds", ())) for size in get_args(Size)}
    return {
        "name": name,
        "title": full.title,
        "paper": full.paper,
        "sizes": sizes,
        "main": full.main,
        "variants": list(full.variants),
    }
