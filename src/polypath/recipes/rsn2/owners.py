"""Owners of one network side by side: RSN2, PackNet, CPG, NestedNet, and networks of their own, on the same tasks.

Not from the papers. CIFAR-100 as five tasks of twenty classes in the order of their numbers (the Multi-Path paper's
first scenario), the convolutional network of RSN2's recipes with poolings of stride 2, Adam 1e-3, batches of 128. What
differs is who owns which weights and who reads them: RSN2 20 % each, disjoint; PackNet and NestedNet 40, 60, 70, 80 and
100 % of the weights after each task, as that paper gives them, with biases a task; CPG as few as keep the validation
accuracy of a network trained alone. PackNet retrains 10 epochs at 1e-4. NestedNet trains all tasks together; the
others leave earlier tasks bit-identical.
Full: 20 epochs, all images of which the last fifth validates; CPG prunes in ten steps of 4 epochs.
Quick: half as many units, 6,000 images, 5 epochs, CPG in four steps of one epoch; minutes on two cores.
Run: polypath run rsn2/owners --out runs/owners
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.rsn2 import CONVOLUTIONAL_STRIDE_2, LAST_FIFTH, first_rows


def experiment(size: Size = "full") -> Experiment:
    """Five methods on five tasks of one backbone."""
    rows, network, tasks = dict(LAST_FIFTH), dict(CONVOLUTIONAL_STRIDE_2), 5
    training: dict[str, Any] = {"optimizer": "adam", "learning_rate": 1e-3, "batch": 128, "epochs": 20, "patience": 0}
    ratios: tuple[float, ...] = (0.4, 0.6, 0.7, 0.8, 1.0)
    retrain, samples = {"retrain_epochs": 10, "retrain_rate": 1e-4}, 1000
    prune: dict[str, Any] = {"prune_epochs": 4, "prune_rate": 1e-3}
    if size == "quick":
        rows = first_rows(6_000, 3_000)
        network |= {"blocks": [[16, 16], [32, 32]], "dense": [128, 128]}
        training |= {"batch": 32, "epochs": 5}
        retrain |= {"retrain_epochs": 2}
        prune |= {"prune_epochs": 1, "sparsities": (0.3, 0.5, 0.7, 0.8)}
    if size == "smoke":
        rows, tasks, ratios, samples = first_rows(900, 300), 2, (0.5, 1.0), 50
        network |= {"blocks": [[4], [4]], "dense": [16]}
        training |= {"epochs": 1}
        retrain |= {"retrain_epochs": 1}
        prune |= {"prune_epochs": 1, "sparsities": (0.5,)}
    base: dict[str, Any] = {"backbone": network, **training}
    packnet = {**base, **retrain, "ratios": ratios, "dense": "task", "decay_at": ()}
    share = 1 / tasks
    return Experiment(
        recipe="rsn2/owners",
        size=size,
        title="Who owns which weights: RSN2, PackNet, CPG and NestedNet on one network",
        paper="none (Multi-Path's tasks and ratios, RSN2's network)",
        suite={"kind": "split", "dataset": "cifar100", "tasks": tasks, "classes_per_task": 20, **rows},
        variants={
            "rsn2": Variant(method="rsn2", config={**base, "share": share, "init": "backbone", "samples": samples}),
            "packnet": Variant(method="packnet", config=packnet),
            "cpg": Variant(method="cpg", config={**base, **prune, "weight_decay": 0.0, "max_width": 1.0}),
            "nestednet": Variant(method="nestednet", config={**base, "ratios": ratios, "ratio_of": "weights"}),
            "single": Variant(method="single", config=base),
        },
        main="rsn2",
    )
