"""Multi-Path on eight attributes of Celeb-A in three groups of difficulty (paper section IV-E, figures 4 and 5).

The paper takes eight of the forty attributes, easy ones with many samples on the first branch, but names them in a
picture only. Ours: the forty ranked by the share of their rarer label in the training images, every 39/7-th rank from
the most to the least balanced; the first three are easy (rarer label about a quarter and more), the next three normal,
the last two hard (under 6 %). Several attributes share a branch. alpha = 0.9 in equation 5, T = 2 and batch 64 are the
paper's.
Full: celeba at 218x178 with the official validation images in the test split (162,770 and 39,829 images), branches at
30, 74 and 100 % of MobileNetV2 x0.5's parameters and 36, 58 and 100 % of ResNet-18's.
Quick: 2,500 images of 64 pixels (celeba_small), ResNet-18 at width 0.5, two epochs.
Run: polypath run multipath/celeba --out runs/celeba
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.multipath import AUGMENT, HIERARCHY_CUTS, RESNET, SEEDS, others, plan, thinner

EASY = ("Attractive", "Heavy_Makeup", "Black_Hair")
NORMAL = ("Bags_Under_Eyes", "Bangs", "Wearing_Necktie")
HARD = ("Rosy_Cheeks", "Bald")
BRANCHES = {name: branch for branch, group in enumerate((EASY, NORMAL, HARD), start=1) for name in group}


def experiment(size: Size = "full") -> Experiment:
    """Both backbones with and without distillation, hard sharing, MTAN and AdaShare."""
    suite: dict[str, Any] = {"kind": "attributes", "dataset": "celeba", "attributes": list(BRANCHES)}
    suite |= {"augment": [AUGMENT[1]]}
    paper: dict[str, Any] = {"batch": 64, "alpha": 0.9, "combination": "eq5", "branches": BRANCHES}
    resnet, seeds, schedule = dict(RESNET), SEEDS, plan(50)
    mobilenet: dict[str, Any] = {"backbone": {"kind": "mobilenetv2", "stem_stride": 2}}
    if size == "full":
        suite |= {"train": "train", "test": "valid+test"}
    else:
        suite |= {"dataset": "celeba_small"}
    if size == "quick":
        resnet, seeds, schedule = thinner(resnet, 0.5), SEEDS[:1], plan(2)
    if size == "smoke":
        suite |= {"train": "train[:100]", "test": "test[:40]", "size": 32, "fit": "stretch"}
        resnet, seeds, schedule = thinner(resnet, 1 / 8), SEEDS[:1], plan(1)
    resnet |= {**schedule, **paper, "cuts": HIERARCHY_CUTS}
    mobilenet |= {**schedule, **paper}
    variants = {
        "distilled": Variant(method="multipath", config=resnet),
        "plain": Variant(method="multipath", config={**resnet, "distill": False}),
        "hard_sharing": Variant(
            method="multipath", config={**resnet, "distill": False, "assign": "last", "branches": {}}
        ),
    }
    if size == "smoke":
        del variants["plain"]
    if size == "full":
        variants["mobilenet_distilled"] = Variant(method="multipath", config=mobilenet)
        variants["mobilenet_plain"] = Variant(method="multipath", config={**mobilenet, "distill": False})
        variants |= others(resnet, size)
    return Experiment(
        recipe="multipath/celeba",
        size=size,
        title="Multi-Path on eight attributes of Celeb-A in three groups of difficulty",
        paper="Multi-Path, section IV-E, figures 4 and 5",
        suite=suite,
        variants=variants,
        main="distilled",
        seeds=seeds,
    )
