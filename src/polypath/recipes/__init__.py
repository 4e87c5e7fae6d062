"""The table of recipes: a paper's experiment, ready to run, in three sizes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Literal

from polypath.core.errors import UnknownName

Size = Literal["full", "quick", "smoke"]

RECIPES: dict[str, str] = {
    "dfcnn/cifar100_lifelong": "polypath.recipes.dfcnn.cifar100_lifelong:experiment",
    "part/digits": "polypath.recipes.part.digits:experiment",
    "part/cifar100": "polypath.recipes.part.cifar100:experiment",
    "part/cifar10_100": "polypath.recipes.part.cifar10_100:experiment",
    "part/five_tasks": "polypath.recipes.part.five_tasks:experiment",
    "part/representations": "polypath.recipes.part.representations:experiment",
    "part/representations_b": "polypath.recipes.part.representations:experiment_b",
}


def recipe(name: str) -> Callable[..., object]:
    """The function `experiment(size)` of a recipe.

    Raises:
        UnknownName: no such recipe; offers the nearest.
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    module, _, attribute = RECIPES[name].partition(":")
    found: Callable[..., object] = getattr(importlib.import_module(module), attribute)
    return found
