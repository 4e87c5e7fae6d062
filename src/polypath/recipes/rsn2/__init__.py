"""The experiments of the RSN2 paper (The multiple subnetwork hypothesis), with their networks and training in common.

Where the paper and its authors' scripts disagree the paper counts; what the scripts do is a variant or named in the
recipe. The paper reports one run; more seeds come with `--seeds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Variant

# Six layers of 1,000 (5,800,010 parameters with ten outputs); tokens are embedded in two dimensions first.
FULLY_CONNECTED: dict[str, Any] = {"kind": "mlp", "hidden": [1000] * 6, "embedding": 2}
# 11,209,194 parameters with ten outputs: the scripts' poolings have stride 1. The paper's words fit stride 2 as well,
# which has 936,426 and takes a third of the time.
CONVOLUTIONAL: dict[str, Any] = {
    "kind": "conv",
    "blocks": [[32, 32], [64, 64]],
    "pool": 2,
    "pool_stride": 1,
    "dense": [256, 256],
}
CONVOLUTIONAL_STRIDE_2: dict[str, Any] = {**CONVOLUTIONAL, "pool_stride": 2}
# Adam 1e-3; stops after three epochs without 0.01 less validation loss and goes back to the best one.
TRAINING: dict[str, Any] = {"epochs": 100, "batch": 512, "learning_rate": 1e-3, "patience": 3, "min_delta": 0.01}
# One shot, before training: the weights with the largest |gradient| of the loss summed over 1,000 examples.
SELECTION: dict[str, Any] = {"select": "gradient", "samples": 1000}
# Pixels are divided by 255 and nothing else; the last fifth of the (shuffled) training images stops the training.
PIXELS: dict[str, Any] = {"normalise": "none"}
LAST_FIFTH: dict[str, Any] = {"train": "train[:80%]", "validation": "train[80%:]"}


def convolutional(size: Size) -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Both convolutional networks (by the end of a variant's name), which rows, training and selection, for a size.

    The quick size leaves the stride-1 network out, which takes three times as long.
    """
    rows, training, selection = dict(LAST_FIFTH), dict(TRAINING), dict(SELECTION)
    networks = {"": dict(CONVOLUTIONAL), "_stride2": dict(CONVOLUTIONAL_STRIDE_2)}
    if size == "quick":
        rows = first_rows(5_000, 2_000)
        training |= {"epochs": 6, "batch": 128}
        del networks[""]
    if size == "smoke":
        rows = first_rows(150, 60)
        training |= {"epochs": 1, "batch": 60}
        selection |= {"samples": 50}
        networks = {key: {**network, "blocks": [[4], [4]], "dense": [16]} for key, network in networks.items()}
    return networks, rows, training, selection


def fashion_for(nets: Sequence[str], rows: Mapping[str, Any]) -> dict[str, Any]:
    """Suite of tasks that are all Fashion-MNIST and differ in name only; they share its images.

    Args:
        nets: names of the tasks.
        rows: which examples.
    """
    named = [{"name": name, "column": "label"} for name in nets]
    return {"kind": "attributes", "dataset": "fashion_mnist", "attributes": named, **PIXELS, **rows}


def first_rows(count: int, test: int) -> dict[str, Any]:
    """Suite options of a small size: `count` training examples, of which a fifth validates, and `test` test examples.

    Args:
        count: rows of the stored training split, after the shuffle.
        test: rows of the stored test split.
    """
    learned = round(count * 0.8)
    return {"train": f"train[:{learned}]", "validation": f"train[{learned}:{count}]", "test": f"test[:{test}]"}


def subnetworks(backbone: Mapping[str, Any], training: Mapping[str, Any], **rsn2: Any) -> Variant:
    """RSN2 on a backbone; settings of its own in `rsn2`."""
    analysis = rsn2.pop("analysis", ())
    return Variant(method="rsn2", config={"backbone": dict(backbone), **training, **rsn2}, analysis=analysis)


def rescaled(variant: Variant) -> Variant:
    """The same with initial weights scaled for the inputs that are left to a unit, which is not in the paper."""
    return variant.changed(config={**variant.config, "rescale": True})


def dense(backbone: Mapping[str, Any], training: Mapping[str, Any], tasks: tuple[str, ...] = ()) -> Variant:
    """The control: a dense network of the same backbone for every task, trained in the same way."""
    return Variant(method="single", config={"backbone": dict(backbone), **training}, tasks=tasks)
