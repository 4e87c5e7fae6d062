"""PaRT on five heterogeneous image sets with BatchNorm of their own (paper section 4.2.2, table 4, figure 7).

Full: the ResNet-50 grid from ImageNet weights, M = 8, N = 2, one BatchNorm a task, Adam 1e-4 halved at 20, 30, 40,
batch 32, batch-set 50, 80 epochs, five seeds. The paper's means: single 84.70, parallel 83.97 %.
Needs the five folders named in `polypath.recipes.part.folders` under $POLYPATH_DATA/five_tasks.
Quick: the same code, 32-pixel sets that differ as much (photographs, clothes, three scripts), width 8, no ImageNet.
Run: polypath run part/five_tasks --out runs/five_tasks
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.part import SEEDS
from polypath.recipes.part.folders import FOLDERS, folder_task

_SUBSTITUTES = ("cifar10", "fashion_mnist", "cmaterdb_bangla", "cmaterdb_devanagari", "cmaterdb_telugu")


def experiment(size: Size = "full") -> Experiment:
    """Five tasks on the ResNet-50 grid; parallel and single-task learning of the same paths."""
    base: dict[str, Any] = {
        "layout": "resnet50",
        "norm": "task",
        "modules": 8,
        "selected": 2,
        "learning_rate": 1e-4,
        "batch": 32,
        "batch_set": 50,
        "epochs": 80,
    }
    small: dict[str, Any] = {"size": 32, "fit": "stretch", "channels": 3}
    seeds = SEEDS
    if size == "full":
        suite: dict[str, Any] = {"kind": "mix", "suites": [folder_task(name) for name in FOLDERS]}
        base |= {"pretrained": "resnet50.tv_in1k"}
    elif size == "quick":
        each = {"kind": "whole", "per_class": 40, "augment": [{"kind": "pad_crop"}], **small}
        suite = {"kind": "mix", "suites": [{**each, "dataset": name, "task": name} for name in _SUBSTITUTES]}
        base |= {"width": 8, "learning_rate": 1e-3, "batch_set": 5, "epochs": 4, "evaluate_every": 0}
        seeds = SEEDS[:1]
    else:
        suite = {"kind": "split", "dataset": "digits", "tasks": 3, "classes_per_task": 2, **small}
        suite |= {"per_class": 8, "test_per_class": 4}
        base |= {"width": 2, "modules": 3, "epochs": 1, "batch": 16, "evaluate_every": 0}
        seeds = SEEDS[:1]
    return Experiment(
        recipe="part/five_tasks",
        size=size,
        title="PaRT on five heterogeneous image sets",
        paper="PaRT, section 4.2.2, table 4 and figure 7",
        suite=suite,
        variants={
            "parallel": Variant(method="part", config={**base, "mode": "parallel"}),
            # The authors' single-task runs use batches of 8.
            "single": Variant(
                method="part", config={**base, "mode": "single", **({"batch": 8} if size == "full" else {})}
            ),
        },
        main="parallel",
        seeds=seeds,
    )
