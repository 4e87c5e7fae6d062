"""The table of recipes: a paper's experiment, ready to run, in three sizes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Literal

from polypath.core.errors import UnknownName

Size = Literal["full", "quick", "smoke"]

RECIPES: dict[str, str] = {
    "dfcnn/cifar10_mtl": "polypath.recipes.dfcnn.cifar10_mtl:experiment",
    "dfcnn/mnist_mtl": "polypath.recipes.dfcnn.mnist_mtl:experiment",
    "dfcnn/officehome_lifelong": "polypath.recipes.dfcnn.officehome_lifelong:experiment",
    "dfcnn/cifar100_lifelong": "polypath.recipes.dfcnn.cifar100_lifelong:experiment",
    "mu2net/characters": "polypath.recipes.mu2net.characters:experiment",
    "mu2net/cifar": "polypath.recipes.mu2net.cifar:experiment",
    "mu2net/decathlon": "polypath.recipes.mu2net.vtab:decathlon",
    "mu2net/large": "polypath.recipes.mu2net.large:experiment",
    "mu2net/numerals": "polypath.recipes.mu2net.numerals:experiment",
    "mu2net/vtab": "polypath.recipes.mu2net.vtab:experiment",
    "multipath/budget": "polypath.recipes.multipath.hierarchy:budget",
    "multipath/celeba": "polypath.recipes.multipath.celeba:experiment",
    "multipath/comparison": "polypath.recipes.multipath.hierarchy:comparison",
    "multipath/hierarchy": "polypath.recipes.multipath.hierarchy:experiment",
    "multipath/orders": "polypath.recipes.multipath.split:orders",
    "multipath/split_cifar10": "polypath.recipes.multipath.split:split_cifar10",
    "multipath/split_cifar100": "polypath.recipes.multipath.split:split_cifar100",
    "part/digits": "polypath.recipes.part.digits:experiment",
    "part/cifar100": "polypath.recipes.part.cifar100:experiment",
    "part/cifar10_100": "polypath.recipes.part.cifar10_100:experiment",
    "part/five_tasks": "polypath.recipes.part.five_tasks:experiment",
    "part/representations": "polypath.recipes.part.representations:experiment",
    "part/representations_b": "polypath.recipes.part.representations:experiment_b",
    "rsn2/capacity": "polypath.recipes.rsn2.capacity:experiment",
    "rsn2/digits_fashion_fc": "polypath.recipes.rsn2.digits_fashion_fc:experiment",
    "rsn2/easy_hard": "polypath.recipes.rsn2.easy_hard:experiment",
    "rsn2/faces_cifar": "polypath.recipes.rsn2.faces_cifar:experiment",
    "rsn2/fashion_ensemble": "polypath.recipes.rsn2.fashion_ensemble:experiment",
    "rsn2/four_domains": "polypath.recipes.rsn2.four_domains:experiment",
    "rsn2/owners": "polypath.recipes.rsn2.owners:experiment",
    "rsn2/reuters": "polypath.recipes.rsn2.reuters:experiment",
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
