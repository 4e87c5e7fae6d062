"""Ten tasks of ten CIFAR-100 classes with 4 % of the training images (DF-CNN, section 4, figures 3, 4 and 6).

Full: 170 training, 30 validation and 1,000 test images a task; four convolutions, RMSProp 1e-4 / (1 + e / 4000), batch
10, 2,000 epochs a task, five trials. The paper's peak accuracies: DF-CNN 37.2, single 31.2 (large 34.3), hard sharing
24.7, ProgNN 31.3, DEN 30.2, DF-CNN with 2.8 million parameters 36.2 %.
Quick: three tasks, 30 epochs each; minutes on two cores. What was measured: docs/methods/dfcnn.md.
Run: polypath run dfcnn/cifar100_lifelong --out runs/lifelong
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.dfcnn.settings import SEEDS, lifelong_variants, training
from polypath.recipes.experiment import Experiment

# Classes of every task as the authors dealt them out: each task takes one class of each of ten superclasses, tasks 1
# to 5 those of the first ten, tasks 6 to 10 those of the others (numbers in the alphabetical order of the data set).
TASKS = (
    (4, 1, 54, 9, 0, 5, 6, 3, 12, 8),
    (30, 32, 62, 10, 51, 20, 7, 42, 17, 13),
    (55, 67, 70, 16, 53, 25, 14, 43, 37, 48),
    (72, 73, 82, 28, 57, 84, 18, 88, 68, 58),
    (95, 91, 92, 61, 83, 94, 24, 97, 76, 90),
    (22, 23, 15, 34, 26, 2, 27, 36, 47, 41),
    (39, 33, 19, 63, 45, 11, 29, 50, 52, 69),
    (40, 49, 21, 64, 77, 35, 44, 65, 56, 81),
    (86, 60, 31, 66, 79, 46, 78, 74, 59, 85),
    (87, 71, 38, 75, 99, 98, 93, 80, 96, 89),
)
REDUCED: dict[str, Any] = {
    "backbone": {"channels": [24, 24, 48, 48], "hidden": [32]},
    "knowledge": [8, 12, 16, 18],
    "basis": [16, 28, 32, 48],
}


def experiment(size: Size = "full") -> Experiment:
    """Ten tasks one after the other: DF-CNN and what it is compared with, on the same backbone and data."""
    suite: dict[str, Any] = {
        "kind": "split",
        "dataset": "cifar100",
        "classes": [list(classes) for classes in TASKS],
        "per_class": 20,
        "validation": 0.15,
        "normalise": "task",
    }
    epochs, every, seeds = 2000, 10, SEEDS
    if size == "quick":
        suite |= {"classes": suite["classes"][:3]}
        epochs, every, seeds = 30, 10, SEEDS[:1]
    if size == "smoke":
        suite |= {"classes": [classes[:2] for classes in suite["classes"][:2]], "test_per_class": 8}
        suite |= {"per_class": 10, "validation": 0.2}
        epochs, every, seeds = 2, 1, SEEDS[:1]
    base = training(1e-4, 1 / 4000, 10, epochs, every)
    large = {"channels": [48, 48, 96, 96], "hidden": [128]}
    return Experiment(
        recipe="dfcnn/cifar100_lifelong",
        size=size,
        title="DF-CNN on CIFAR-100: ten tasks one after the other",
        paper="DF-CNN, section 4, figures 3, 4 and 6",
        suite=suite,
        variants=lifelong_variants(base, "cifar", large, REDUCED),
        main="dfcnn",
        seeds=seeds,
        checkpoint_every=50 if size == "full" else 1,
        threads=1,  # mini-batches of ten: more threads mostly wait for each other
    )
