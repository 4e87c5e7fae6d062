"""PaRT on ten tasks of ten CIFAR-100 classes (paper section 4.1, table 1, figure 3).

Full: the nine-layer grid at width 64, M = 12, N = 4, Adam 1e-3 halved at epochs 20, 30, 40, batch 16, batch-set 10,
60 epochs, five seeds, three modes. The paper's means: single 86.03, parallel 79.64, sequential 70.95 %.
Quick: width 8, 100 images a class, batch 32, two epochs without augmentation (so short a training underfits as it is);
minutes on two cores; parallel reaches at least 0.30. `--set suite.augment=part` brings the paper's augmentation back.
Run: polypath run part/cifar100 --out runs/cifar100
"""

from __future__ import annotations

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.part import SEEDS


def experiment(size: Size = "full") -> Experiment:
    """Ten tasks of ten random classes; parallel, sequential and single-task learning of the same paths."""
    suite: dict[str, object] = {
        "kind": "split",
        "dataset": "cifar100",
        "tasks": 10,
        "order": "random",
        "augment": "part",
    }
    base: dict[str, object] = {"modules": 12, "selected": 4}
    seeds = SEEDS
    if size == "quick":
        suite |= {"per_class": 100, "augment": "none"}
        base |= {"width": 8, "batch": 32, "epochs": 2, "evaluate_every": 0}
        seeds = SEEDS[:1]
    if size == "smoke":
        suite |= {"tasks": 3, "classes_per_task": 2, "per_class": 16, "test_per_class": 8}
        base |= {"width": 2, "modules": 3, "selected": 2, "epochs": 1, "evaluate_every": 0}
        seeds = SEEDS[:1]
    return Experiment(
        recipe="part/cifar100",
        size=size,
        title="PaRT on CIFAR-100: ten tasks of ten classes",
        paper="PaRT, section 4.1, table 1 and figure 3",
        suite=suite,
        variants={
            "parallel": Variant(method="part", config={**base, "mode": "parallel"}),
            "sequential": Variant(method="part", config={**base, "mode": "sequential"}),
            "single": Variant(
                method="part", config={**base, "mode": "single"}, analysis=("unlearned",) if size != "quick" else ()
            ),
        },
        main="parallel",
        seeds=seeds,
    )
