"""mu2Net on CIFAR-10 and CIFAR-100 from a pretrained vision transformer that you name.

Full: timm's ViT-Ti/16 with ImageNet-21k weights unless another is named, at 224 pixels, 98 % of the training images,
2 % for validation; 2 iterations x 4 generations x 8 children x 4 cycles of at most 51,200 images, batch 64. Weights are
downloaded by timm when first used. Hours on a GPU.
Name yours: --set method.root.name=vit_small_patch16_224.augreg_in21k (any vision transformer of timm), or a preset
(`Ti/16`, `S/16`, `B/16`, `L/16`); --set method.root.pretrained=false starts from random values.
Controls: `mu1` trains every layer of every child, `mu0` only heads, `frozen` keeps the lower half.
Quick: three random blocks of ViT-Ti at 32 pixels, 800 training images a task; minutes on two cores.
Run: polypath run mu2net/cifar --out runs/cifar
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.mu2net import benchmarks, image_task, substitutes
from polypath.recipes.mu2net.large import controls

PIXELS = 224
NAMES = ("cifar100", "cifar10")


def experiment(size: Size = "full") -> Experiment:
    """Two tasks and the controls."""
    suite: dict[str, Any]
    if size == "full":
        config: dict[str, Any] = {"root": {"kind": "vit", "name": "Ti/16", "pretrained": True}, "batch": 64}
        splits = tuple(split for split in benchmarks.VIT if split.name in NAMES)
        suite = benchmarks.suite("mu2net/cifar", splits, PIXELS)
    else:
        config = {"root": substitutes.network(size), **substitutes.search(size)}
        rows: dict[str, Any] = {"train": "train[:800]", "validation": "train[800:1000]", "test_per_class": 50}
        if size == "smoke":
            rows = {"train": "train[:200]", "validation": "train[200:300]", "test_per_class": 1}
        suite = {
            "kind": "mix",
            "suites": [image_task(name, name, 32, **rows) for name in NAMES],
        }
    variants = controls(config, frozen=3 + 6 if size == "full" else 4)
    return Experiment(
        recipe="mu2net/cifar",
        size=size,
        title="mu2Net on CIFAR from a pretrained vision transformer",
        paper="mu2Net, section 5.1 (two of its three tasks, on a root of your choice)",
        suite=suite,
        variants=variants if size != "smoke" else {"mu2net": variants["mu2net"]},
        main="mu2net",
        by_default=("mu2net",),
    )
