"""PaRT on five tasks of two CIFAR-10 classes and five of twenty CIFAR-100 classes (section 4.2.1, table 2, figure 5).

Full: as part/cifar100 with M = 15. The paper's means: single 90.48, parallel 86.58, sequential 83.17 %.
Normalisation constants are each data set's own.
Run: polypath run part/cifar10_100 --out runs/cifar10_100
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.part import SEEDS


def experiment(size: Size = "full") -> Experiment:
    """Ten heterogeneous tasks; parallel, sequential and single-task learning of the same paths."""
    ten: dict[str, Any] = {"kind": "split", "dataset": "cifar10", "tasks": 5, "classes_per_task": 2, "prefix": "ten"}
    hundred: dict[str, Any] = {
        "kind": "split",
        "dataset": "cifar100",
        "tasks": 5,
        "classes_per_task": 20,
        "prefix": "hundred",
    }
    base: dict[str, Any] = {"modules": 15, "selected": 4}
    seeds = SEEDS
    if size == "quick":
        ten |= {"per_class": 200}
        hundred |= {"per_class": 20}
        base |= {"width": 8, "batch": 32, "epochs": 2, "evaluate_every": 0}
        seeds = SEEDS[:1]
    if size == "smoke":
        ten |= {"tasks": 2, "per_class": 16, "test_per_class": 8}
        hundred |= {"tasks": 1, "classes_per_task": 4, "per_class": 8, "test_per_class": 4}
        base |= {"width": 2, "modules": 3, "selected": 2, "epochs": 1, "evaluate_every": 0}
        seeds = SEEDS[:1]
    parts = [{**part, "order": "random", "augment": "part"} for part in (ten, hundred)]
    return Experiment(
        recipe="part/cifar10_100",
        size=size,
        title="PaRT on CIFAR-10 and CIFAR-100: five tasks of two classes, five of twenty",
        paper="PaRT, section 4.2.1, table 2 and figure 5",
        suite={"kind": "mix", "suites": parts},
        variants={
            "parallel": Variant(method="part", config={**base, "mode": "parallel"}),
            "sequential": Variant(method="part", config={**base, "mode": "sequential", "order": "random"}),
            "single": Variant(
                method="part", config={**base, "mode": "single"}, analysis=("unlearned",) if size != "quick" else ()
            ),
        },
        main="parallel",
        seeds=seeds,
    )
