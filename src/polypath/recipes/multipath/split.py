"""Multi-Path on five tasks of consecutive classes of CIFAR-10 and CIFAR-100 (paper section IV-C, table 2, figure 3).

Full: ResNet-18 in the paper's layout, five branches at 24.9, 35.5, 57.8, 78.9 and 100 % of the parameters, tasks on
branches in the order of their classes; SGD with Nesterov momentum 0.9, learning rate 0.1, batch 128, T = 2, alpha = 1
(additive). 200 epochs, weight decay 5e-4, crop and flip are our assumptions. Beside it: every task alone, hard sharing,
MTAN, AdaShare (one drawn policy: no images are kept back to choose among several), PackNet and NestedNet. The paper's
accuracies are multiples of 1/384, that is of three batches of 128, and differ by less than that noise: no target.
Orders: the same with tasks on branches in three random orders (branch k gets the k-th task of the order).
Quick: width 0.5, 40 images a class, three epochs, one seed.
Run: polypath run multipath/split_cifar100 --out runs/split_cifar100
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.multipath import AUGMENT, FIVE, RESNET, SEEDS, THREE, others, plan, thinner


def settings(dataset: str, size: Size) -> tuple[dict[str, Any], dict[str, Any], tuple[int, ...]]:
    """(suite, method settings, seeds) of one size."""
    suite: dict[str, Any] = {"kind": "split", "dataset": dataset, "tasks": 5, "augment": AUGMENT}
    config, seeds = {**RESNET, **plan(200)}, SEEDS
    if size == "quick":
        suite |= {"per_class": 40 if dataset == "cifar100" else 200, "augment": "none"}
        config, seeds = {**thinner(RESNET, 0.5), **plan(3), "batch": 64}, SEEDS[:1]
    if size == "smoke":
        suite |= {"per_class": 4, "test_per_class": 1, "augment": "none"}
        suite |= {"tasks": 3, "classes_per_task": 3}
        config, seeds = {**thinner(RESNET, 1 / 8), **plan(1), "batch": 40}, SEEDS[:1]
    return suite, config, seeds


def compared(config: dict[str, Any], size: Size, dataset: str) -> dict[str, Variant]:
    """Multi-Path with and without distillation, and the methods it is compared with (once in smoke size)."""
    more = others(config, size, THREE if size == "smoke" else FIVE)
    found = {
        "distilled": Variant(method="multipath", config=config),
        "plain": Variant(method="multipath", config={**config, "distill": False}),
        "hard_sharing": Variant(method="multipath", config={**config, "distill": False, "assign": "last"}),
    }
    if size == "smoke":  # the other methods once
        return {"distilled": found["distilled"], **(more if dataset == "cifar10" else {})}
    return {**found, **more}


def split(dataset: str, title: str, size: Size) -> Experiment:
    """One of the two sets."""
    suite, config, seeds = settings(dataset, size)
    return Experiment(
        recipe=f"multipath/split_{dataset}",
        size=size,
        title=f"Multi-Path on split {title}: five tasks of consecutive classes",
        paper="Multi-Path, section IV-C, table 2",
        suite=suite,
        variants=compared(config, size, dataset),
        main="distilled",
        seeds=seeds,
    )


def split_cifar10(size: Size = "full") -> Experiment:
    """Five tasks of two classes."""
    return split("cifar10", "CIFAR-10", size)


def split_cifar100(size: Size = "full") -> Experiment:
    """Five tasks of twenty classes."""
    return split("cifar100", "CIFAR-100", size)


def orders(size: Size = "full") -> Experiment:
    """Split CIFAR-100 with tasks on branches in the order of their classes and in three random orders."""
    suite, config, seeds = settings("cifar100", size)
    variants = {"in_order": Variant(method="multipath", config=config)}
    for number in (1, 2, 3) if size != "smoke" else (1,):
        shuffled = {**config, "assign": "random", "order_seed": number}
        variants[f"order{number}"] = Variant(method="multipath", config=shuffled)
    return Experiment(
        recipe="multipath/orders",
        size=size,
        title="Multi-Path on split CIFAR-100: random task orders",
        paper="Multi-Path, section IV-C, figure 3",
        suite=suite,
        variants=variants,
        main="in_order",
        seeds=seeds,
    )
