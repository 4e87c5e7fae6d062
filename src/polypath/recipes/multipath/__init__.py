"""Experiments of the Multi-Path paper (Park, Lee, Kim: Resource-efficient multi-task deep learning, section IV)."""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Variant

SEEDS: tuple[int, ...] = (0, 1, 2)  # the paper names none

# Unstated in the paper; the usual augmentation of CIFAR.
AUGMENT: list[dict[str, Any]] = [{"kind": "pad_crop", "padding": 4}, {"kind": "flip"}]

# SGD with Nesterov momentum 0.9, learning rate 0.1 are the paper's and the method's defaults; so are, by our
# assumption, 200 epochs, weight decay 5e-4 and a tenth of the rate after half and three quarters of the epochs.
RESNET: dict[str, Any] = {"backbone": {"kind": "resnet18", "stem": "paper"}}
MOBILENET: dict[str, Any] = {"backbone": {"kind": "mobilenetv2", "width": 0.5, "last": "fixed"}}
HIERARCHY_CUTS = ["layer4_0_conv1", "layer4_0", "layer4_1"]  # 36, 58 and 100 % of the parameters: table 3's 0.4/0.6/1
MOBILENET_CUTS = ["block15", "block17", "last"]  # table 3's 0.3/0.6/1


def thinner(config: dict[str, Any], width: float) -> dict[str, Any]:
    """The same settings with a narrower backbone."""
    return {**config, "backbone": {**config["backbone"], "width": width}}


def plan(epochs: int) -> dict[str, Any]:
    """Epochs and the paper's decay by ten, twice."""
    return {"epochs": epochs, "decay_at": [epochs // 2, epochs * 3 // 4] if epochs >= 4 else []}


FIVE, THREE = (0.4, 0.6, 0.7, 0.8, 1.0), (0.5, 0.8, 1.0)  # of the network after each task, in PackNet and NestedNet


def others(config: dict[str, Any], size: Size, ratios: tuple[float, ...] = ()) -> dict[str, Variant]:
    """What the paper compares with, as far as it is here, on the same backbone, optimizer and batches."""
    shared: dict[str, Any] = {key: config[key] for key in ("backbone", "epochs", "decay_at", "batch") if key in config}
    alone: dict[str, Any] = {**shared, "optimizer": "sgd", "learning_rate": 0.1, "nesterov": True, "weight_decay": 5e-4}
    searches: dict[str, tuple[int, int]] = {"full": (50, 10), "quick": (3, 1), "smoke": (1, 0)}
    search = searches[size]
    found = {
        "single": Variant(method="single", config=alone),
        "mtan": Variant(method="mtan", config=shared),
        "adashare": Variant(
            method="adashare",
            config={**shared, "search_epochs": search[0], "warmup_epochs": search[1], "draws": 1},
        ),
    }
    if ratios:
        # "PackNet with batch normalisation": every task has its own. It trains again with what pruning left.
        again = {"retrain_epochs": max(1, config["epochs"] // 2), "retrain_rate": 0.01, "dense": "task"}
        found["packnet"] = Variant(method="packnet", config={**alone, **again, "ratios": ratios})
        found["nestednet"] = Variant(method="nestednet", config={**alone, "ratios": ratios, "ratio_of": "weights"})
    return found
