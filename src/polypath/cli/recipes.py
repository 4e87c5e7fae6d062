"""`polypath recipes`: the experiments that can be run."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer

from polypath.cli.show import AsJson, listing, print_json, print_tables


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Show all about this recipe.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes, or what one reproduces, where that is in the paper, its sizes and its variants.

    JSON has all about every recipe.
    """
    from polypath.recipes import RECIPES

    if as_json:
        print_json([_about(each) for each in RECIPES] if name is None else _about(name))
    elif name is None:
        notes = ("polypath recipes RECIPE shows its sizes and variants; polypath run RECIPE runs it.",)
        print_tables(listing("Recipes", ("recipe", "what"), [(each, _title(each)) for each in RECIPES], notes))
    else:
        _show(_about(name))


def _show(about: dict[str, Any]) -> None:
    """One recipe: its sizes, and a line for each variant, so that a name is never broken."""
    sizes = [(size, _seeds(about["sizes"].get(size)), about["needs"].get(size, "–")) for size in _sizes()]
    notes = [f"Paper: {about['paper']}.", f"polypath run {about['name']} [--quick | --smoke]; full is the default."]
    tables = [listing(f"{about['name']}: {about['title']}", ("size", "seeds", "what is missing"), sizes, notes)]
    if about["variants"]:
        asked = {variant: "only if named" for variant in set(about["variants"]) - set(about["by_default"])}
        said = {**dict.fromkeys(about["by_default"], "yes"), **asked, about["main"]: "yes, main"}
        rows = [(variant, about["methods"][variant], said[variant]) for variant in about["variants"]]
        more = (f"polypath run {about['name']} --variant NAME runs one.",)
        tables.append(listing("Variants", ("variant", "method", "runs"), rows, more))
    print_tables(*tables)


def _seeds(count: int | None) -> str:
    return "–" if count is None else str(count)


def _sizes() -> tuple[Any, ...]:
    from polypath.recipes import Size

    return get_args(Size)


def _title(name: str) -> str:
    """What a recipe reproduces, from the first of its sizes whose data is there."""
    from polypath.core.errors import PolypathError
    from polypath.recipes import recipe

    for size in _sizes():
        try:
            return str(getattr(recipe(name)(size), "title", ""))
        except PolypathError:  # data that its user supplies is not there
            continue
    return "needs data that is not here"


def _about(name: str) -> dict[str, Any]:
    from polypath.core.errors import PolypathError
    from polypath.recipes import recipe

    sizes: dict[str, Any] = {}
    needs: dict[str, str] = {}
    make = recipe(name)
    for size in _sizes():
        try:
            sizes[size] = make(size)
        except PolypathError as error:  # data that its user supplies is not there
            needs[size] = str(error)
    known = next(iter(sizes.values()), None)
    variants = getattr(known, "variants", {})
    return {
        "name": name,
        "title": getattr(known, "title", ""),
        "paper": getattr(known, "paper", ""),
        "sizes": {size: len(experiment.seeds) for size, experiment in sizes.items()},
        "needs": needs,
        "main": getattr(known, "main", None),
        "by_default": list(getattr(known, "by_default", ()) or variants),
        "variants": list(variants),
        "methods": {variant: settings.method for variant, settings in variants.items()},
    }
