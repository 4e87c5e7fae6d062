"""Multi-Path on the three levels of CIFAR-100: 3 groups, 20 superclasses, 100 classes (paper section IV-D, table 3).

Full: ResNet-18 in the paper's layout with branches at 36, 58 and 100 % of the parameters, and MobileNetV2 x0.5; SGD
with Nesterov momentum 0.9, learning rate 0.1, batch 128, T = 2, alpha = 1 (additive: equation 5 with alpha = 1 has no
distillation in it). 200 epochs, weight decay 5e-4, crop and flip are our assumptions. The paper's accuracies: ResNet-18
92.44 / 77.72 / 66.82 % with and 92.31 / 75.62 / 63.85 % without distillation, hard sharing 93.45 / 76.49 / 64.27 %.
Quick: width 0.5, 100 images a class, three epochs for teachers and student, one seed, no augmentation; at most eight
minutes on two cores. Three epochs show nothing but that the code works.
Run: polypath run multipath/hierarchy --out runs/hierarchy

`multipath/comparison` is the same on a named budget that one processor core affords: ResNet-18 at width 0.5, 12
training and 3 validation images a class, 20 epochs, batch 64, three seeds; about 16 minutes of one undisturbed core.
Run: polypath run multipath/comparison --set threads=1 --out runs/comparison

`multipath/budget` trains every exit on that budget, for inference within one (benchmarks/bench_multipath.py).
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.multipath import (
    AUGMENT,
    HIERARCHY_CUTS,
    MOBILENET,
    MOBILENET_CUTS,
    RESNET,
    SEEDS,
    THREE,
    others,
    plan,
    thinner,
)

LEVELS = ["group", "coarse_label", "fine_label"]


def experiment(size: Size = "full") -> Experiment:
    """Both backbones with and without distillation, beside the methods compared; quick: ResNet-18 and hard sharing."""
    suite: dict[str, Any] = {"kind": "hierarchy", "dataset": "cifar100", "levels": LEVELS, "augment": AUGMENT}
    resnet, mobilenet, seeds = dict(RESNET), dict(MOBILENET), SEEDS
    schedule = plan(200)
    if size == "quick":
        suite |= {"train": "train[:10000]", "augment": "none"}  # a slice: per_class counts by each level
        resnet, schedule, seeds = thinner(resnet, 0.5), plan(3), SEEDS[:1]
    if size == "smoke":
        suite |= {"train": "train[:200]", "test": "test[:100]", "augment": "none"}
        schedule, seeds = {**plan(1), "batch": 100}, SEEDS[:1]
        resnet, mobilenet = thinner(resnet, 1 / 8), thinner(mobilenet, 0.5)
    resnet |= {**schedule, "cuts": HIERARCHY_CUTS}
    mobilenet |= {**schedule, "cuts": MOBILENET_CUTS}
    variants = compared(resnet)
    second = {f"mobilenet_{name}": variant for name, variant in compared(mobilenet).items()}
    if size == "full":
        variants |= {**others(resnet, size, THREE), **second}
    if size == "smoke":
        variants = {"distilled": variants["distilled"], "mobilenet_plain": second["mobilenet_plain"]}
    return Experiment(
        recipe="multipath/hierarchy",
        size=size,
        title="Multi-Path on the three levels of CIFAR-100",
        paper="Multi-Path, section IV-D, table 3",
        suite=suite,
        variants=variants,
        main="distilled",
        seeds=seeds,
    )


def compared(config: dict[str, Any]) -> dict[str, Variant]:
    """With and without distillation, and all heads at the end: the same loop, optimizer, batches and initial values."""
    return {
        "distilled": Variant(method="multipath", config=config),
        "plain": Variant(method="multipath", config={**config, "distill": False}),
        "hard_sharing": Variant(method="multipath", config={**config, "distill": False, "assign": "last"}),
    }


def on_a_budget(size: Size) -> tuple[dict[str, Any], dict[str, Any], tuple[int, ...]]:
    """(suite, method settings, seeds) of the small comparison."""
    suite: dict[str, Any] = {"kind": "hierarchy", "dataset": "cifar100", "levels": LEVELS, "augment": AUGMENT}
    suite |= {"train": "train[:1200]", "validation": "train[1200:1500]"}
    config = {**thinner(RESNET, 0.5), "cuts": HIERARCHY_CUTS, "batch": 64, **plan(20)}
    seeds = SEEDS
    if size == "quick":
        config, seeds = {**config, **plan(2)}, SEEDS[:1]
    if size == "smoke":
        suite |= {"train": "train[:200]", "test": "test[:100]", "validation": "train[200:300]", "augment": "none"}
        config, seeds = {**thinner(config, 1 / 8), **plan(1), "batch": 100}, SEEDS[:1]
    return suite, config, seeds


def comparison(size: Size = "full") -> Experiment:
    """The same three variants on a budget of one core."""
    suite, config, seeds = on_a_budget(size)
    return Experiment(
        recipe="multipath/comparison",
        size=size,
        title="Multi-Path on the three levels of CIFAR-100, on a budget of one core",
        paper="Multi-Path, section IV-D, table 3, on 12 images a class",
        suite=suite,
        variants=compared(config),
        main="distilled",
        seeds=seeds,
    )


def budget(size: Size = "full") -> Experiment:
    """A head at every branch up to the task's own: one system for any budget."""
    suite, config, seeds = on_a_budget(size)
    return Experiment(
        recipe="multipath/budget",
        size=size,
        title="Multi-Path with every exit trained, on the three levels of CIFAR-100",
        paper="none (the paper has one exit a task)",
        suite=suite,
        variants={"all_exits": Variant(method="multipath", config={**config, "distill": False, "exits": "all"})},
        main="all_exits",
        seeds=seeds[:1],
    )
