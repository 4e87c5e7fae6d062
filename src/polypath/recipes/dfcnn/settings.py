"""What the experiments of the DF-CNN paper have in common: training, networks, compared methods."""

from __future__ import annotations

from typing import Any

from polypath.recipes.experiment import Variant

# Half widths of the 95 % confidence intervals of the paper come from five trials.
SEEDS = (0, 1, 2, 3, 4)

# The paper's settings of DEN; the distance for splitting is that of DEN's own code. The authors' convolutional DEN is
# not published: a group lasso of 0.8 leaves units only where it is scaled by the learning rate, and what that code does
# with its threshold of sparsity, 0.01, is read as what counts as zero. Their l2 of 0.01 (weight decay) is left out.
# Of a layer as many units are split as are added, as in DEN's own code: all filters move further than the distance, and
# a trunk that doubles with every task would hold billions of weights after ten.
DEN = {"l1": 1e-6, "group_lasso": 0.8, "pull": 0.5, "loss_above": 0.01, "units": 16}
DEN |= {"scaled_thresholds": True, "zero_below": 0.01, "split_most": 16}


def training(rate: float, time_decay: float, batch: int, epochs: int, evaluate_every: int) -> dict[str, Any]:
    """Settings that every compared method of an experiment shares: RMSProp as in the authors' code.

    Args:
        rate: learning rate of the first epoch.
        time_decay: rate of epoch e is divided by 1 + e * time_decay; not reset at a task's end.
        batch: examples a mini-batch.
        epochs: of a task (lifelong), or of all together (multitask).
        evaluate_every: epochs between two measurements of the task that is being learned.
    """
    return {
        "optimizer": "rmsprop_tf1",
        "over_batch": "sum",
        "drop_last": True,
        "learning_rate": rate,
        "time_decay": time_decay,
        "batch": batch,
        "epochs": epochs,
        "evaluate_every": evaluate_every,
        "peaks": "validation",
    }


def lifelong_variants(
    base: dict[str, Any], layout: str, large: dict[str, Any], reduced: dict[str, Any] | None
) -> dict[str, Variant]:
    """The paper's methods on one backbone, each task after the other.

    Args:
        base: of `training`.
        layout: of the backbone.
        large: widths of the large single-task network.
        reduced: settings of the reduced DF-CNN (its backbone's widths and base sizes); None leaves it out.
    """
    small = {"kind": "dfcnn", "layout": layout}
    variants = {
        "dfcnn": Variant(method="dfcnn", config={**base, "backbone": small}),
        "single": Variant(method="single", config={**base, "backbone": small}),
        "hard_sharing": Variant(method="hard_sharing", config={**base, "backbone": small, "mode": "sequential"}),
        "prognn": Variant(method="prognn", config={**base, "backbone": small}),
        "ewc": Variant(method="ewc", config={**base, "backbone": small, "penalty": "online"}),
        "den": Variant(method="den", config={**base, "backbone": small, **DEN}),
        "single_large": Variant(method="single", config={**base, "backbone": {**small, **large}}),
    }
    if reduced is not None:
        shape = {"backbone": {**small, **reduced["backbone"]}, "knowledge": reduced["knowledge"]}
        variants["dfcnn_reduced"] = Variant(method="dfcnn", config={**base, **shape, "basis": reduced["basis"]})
        variants["dfcnn_tc2"] = Variant(method="dfcnn", config={**base, "backbone": small, "variant": "tc2"})
    return variants


def tiny(variants: dict[str, Variant], layout: str, widths: dict[str, Any]) -> None:
    """Give every variant the same few channels: for runs that only show that everything runs."""
    for variant in variants.values():
        variant.config["backbone"] = {"kind": "dfcnn", "layout": layout, **widths}
