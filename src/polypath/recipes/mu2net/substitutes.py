"""Small sets that the large recipes run on in their small sizes: the same code, minutes or seconds instead of weeks."""

from __future__ import annotations

from typing import Any, Literal

from polypath.recipes.mu2net import PIXELS, image_task

SMALL = ("cifar10", "fashion_mnist", "mnist", "cmaterdb_bangla")


def suite(size: Literal["quick", "smoke"]) -> dict[str, Any]:
    """Quick: four sets of 32-pixel images, 800 for training and 200 for validation each. Smoke: the bundled digits."""
    if size == "smoke":
        rows: dict[str, Any] = {"per_class": 8, "test_per_class": 2, "validation": 0.25}
        return {"kind": "split", "dataset": "digits", "tasks": 2, "classes_per_task": 2, "size": 16, **PIXELS, **rows}
    rows = {"train": "train[:800]", "validation": "train[800:1000]", "test_per_class": 50}
    tasks = [image_task(name, name.removeprefix("cmaterdb_"), 32, fit="stretch", **rows) for name in SMALL]
    return {"kind": "mix", "suites": tasks}


def network(size: Literal["quick", "smoke"]) -> dict[str, Any]:
    """A transformer with random values: three blocks of ViT-Ti, or one tiny block."""
    if size == "quick":
        return {"kind": "vit", "name": "Ti/16", "depth": 3, "options": {"patch_size": 8}}
    return {"kind": "vit", "name": "Ti/16", "depth": 1, "options": {"patch_size": 8, "embed_dim": 16, "num_heads": 2}}


def search(size: Literal["quick", "smoke"]) -> dict[str, int]:
    """Lengths of the search."""
    if size == "quick":
        return {"iterations": 1, "generations": 2, "children": 4, "cycles": 2, "batch": 64}
    return {"iterations": 1, "generations": 1, "children": 2, "cycles": 1, "batch": 8}
