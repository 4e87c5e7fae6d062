"""The multi-task experiments of the DF-CNN paper: two ways of making tasks, five data fractions, all methods."""

from __future__ import annotations

from typing import Any

from polypath.nn.small_cnn import LAYOUTS
from polypath.recipes import Size
from polypath.recipes.dfcnn.settings import SEEDS, tiny, training
from polypath.recipes.experiment import Experiment, Variant

KINDS = {"homogeneous": "one_vs_rest", "heterogeneous": "pairs"}


def tasks_of(kind: str, dataset: str, percent: int, size: Size) -> dict[str, Any]:
    """A share of the training images as tasks.

    `homogeneous`: one class against the rest (as many of the rest as of the class); `heterogeneous`: pairs of classes
    that share no image. Validation is a sixth of the share (5 : 1).
    """
    suite: dict[str, Any] = {
        "kind": KINDS[kind],
        "dataset": dataset,
        "train": f"train[:{percent}%]",
        "validation": 1 / 6,
        "normalise": "task",
    }
    if size == "quick":
        suite |= {"classes": [0, 1, 2, 3]} if kind == "homogeneous" else {"pairs": [[0, 1], [2, 3]]}
        suite |= {"per_class": 60, "test_per_class": 250}
    if size == "smoke":
        suite |= {"classes": [0, 1]} if kind == "homogeneous" else {"pairs": [[0, 1], [2, 3]]}
        suite |= {"per_class": 12, "test_per_class": 4}
    return suite


def methods_of(layout: str, tasks: int, shape: dict[str, Any], base: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """Method name in the tables -> (method, configuration).

    Args:
        layout: of the backbone.
        tasks: how many: single-task networks get their share of the epochs.
        shape: sizes of DF-CNN's bases where they are not those of the layout.
        base: of `training`; its epochs count all tasks together.
    """
    backbone = {"kind": "dfcnn", "layout": layout}
    alone = {**base, "epochs": max(1, base["epochs"] // tasks)}
    every = {"evaluate_every": max(1, base["evaluate_every"] // tasks) if base["evaluate_every"] else 0}
    common = {**base, "backbone": backbone}
    return {
        "dfcnn": ("dfcnn", {**common, "mode": "multitask", **shape}),
        "single": ("single", {**alone, **every, "backbone": backbone}),
        "hard_sharing": ("hard_sharing", {**common, "mode": "drawn"}),
        "tensor_factorisation": ("tensor_factorisation", common),
        "tensor_distilled": ("tensor_factorisation", {**common, "start": "single", "start_epochs": alone["epochs"]}),
        "dfcnn_direct": ("dfcnn", {**common, "mode": "multitask", "variant": "direct", **_only(shape, "knowledge")}),
        "dfcnn_tc2": ("dfcnn", {**common, "mode": "multitask", "variant": "tc2"}),
    }


def _only(shape: dict[str, Any], key: str) -> dict[str, Any]:
    return {key: shape[key]} if key in shape else {}


def multitask(
    name: str,
    dataset: str,
    layout: str,
    fractions: tuple[int, ...],
    by_default: int,
    rate: tuple[float, float, int, int],
    shapes: dict[str, dict[str, Any]],
    title: str,
    paper: str,
    size: Size,
) -> Experiment:
    """An experiment over both kinds of tasks and all fractions; variants are called `heterogeneous_3_dfcnn`.

    Args:
        name: of the recipe.
        dataset: in the catalogue.
        layout: of the backbone.
        fractions: per cent of the training images.
        by_default: the one whose variants run when none is named.
        rate: learning rate, time decay, mini-batch, epochs of all tasks together.
        shapes: kind -> sizes of DF-CNN's bases.
        title: of the experiment.
        paper: where it is described.
        size: full, quick or smoke.
    """
    first, decay, batch, epochs = rate
    epochs = {"full": epochs, "quick": 40, "smoke": 2}[size]
    base = training(first, decay, batch, epochs, 50 if size == "full" else 0)
    variants = {}
    shown = fractions if size == "full" else (by_default,)
    for kind in KINDS:
        tasks = (10 if kind == "homogeneous" else 5) if size == "full" else (4 if kind == "homogeneous" else 2)
        for percent in shown:
            suite = tasks_of(kind, dataset, percent, size)
            for label, (method, config) in methods_of(layout, tasks, shapes.get(kind, {}), base).items():
                variants[f"{kind}_{percent}_{label}"] = Variant(method=method, config=config, suite=suite)
    if size == "smoke":
        widths = [4] * len(LAYOUTS[layout][0])
        tiny(variants, layout, {"channels": widths, "hidden": [8]})
    chosen = [key for key in variants if f"_{by_default}_" in key]
    return Experiment(
        recipe=name,
        size=size,
        title=title,
        paper=paper,
        suite=tasks_of("heterogeneous", dataset, by_default, size),
        variants=variants,
        main=f"heterogeneous_{by_default}_dfcnn",
        by_default=tuple(chosen),
        seeds=SEEDS if size == "full" else SEEDS[:1],
        checkpoint_every=50 if size == "full" else 1,
        threads=1,
    )
