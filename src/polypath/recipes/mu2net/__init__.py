"""The experiments of the mu2Net paper, and the controls that its search is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polypath.recipes.experiment import Variant
from polypath.recipes.following import Follows

# Values in [-1, 1], as the authors' pipeline makes them; grey images in three channels.
PIXELS: dict[str, Any] = {"normalise": {"mean": [0.5] * 3, "std": [0.5] * 3}, "channels": 3}


def image_task(dataset: str, task: str, size: int, **rows: Any) -> dict[str, Any]:
    """Suite of one data set as one task."""
    return {"kind": "whole", "dataset": dataset, "task": task, "size": size, **PIXELS, **rows}


def searched(config: Mapping[str, Any], **changes: Any) -> Variant:
    """mu2Net with some settings changed."""
    return Variant(method="mu2net", config={**config, **changes})


def alone(config: Mapping[str, Any], cycles: int, blocks: int | None = None, winners_of: str | None = None) -> Variant:
    """Every task by itself: one child of the root, all of it trained, with the default settings and no search.

    Args:
        config: of the search that it is compared with.
        cycles: of training, one pass each; the learning rate falls to 0 over all of them.
        blocks: that are put into the root.
        winners_of: a variant; as many cycles as its winner of the same task and seed and that model's ancestors had
            replace `cycles`, which then serves plans only.
    """
    settings: dict[str, Any] = {**config.get("hyperparameters", {}), "mu": [0.0]}
    if blocks is not None:
        settings["num_layers"] = [blocks]
    one = {"iterations": 1, "generations": 1, "children": 1, "parents": "root", "clone": 1.0}
    made = searched(config, **one, cycles=cycles, hyperparameters=settings)
    return made if winners_of is None else made.changed(follows=Follows(variant=winners_of, rule="winner_passes"))
