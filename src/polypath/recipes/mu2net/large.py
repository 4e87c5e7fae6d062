"""mu2Net on a pretrained ViT-L/16 at 384 pixels: the paper's large experiment, its first three tasks (section 5.1).

Full: ViT-L/16 from ImageNet-21k weights (by timm's name), ImageNet, CIFAR-100 and CIFAR-10, 5 iterations x 4
generations x 8 children x 4 cycles of at most 128,116 images, batch 64, at most 10,000 validation images. The paper's
test accuracies after five iterations: 86.38, 94.75 and 99.35 %. Its ten iterations took 4,949 core-hours of TPUv3:
`--set executor=ray --set cluster=HOST:PORT` trains the children of a generation on as many GPUs as the cluster has.
What the paper's system learned next are `mu2net/vtab`, `mu2net/decathlon` and the eight sets of `mu2net/characters`.
Controls: `mu1` trains every layer of every child, `mu0` only heads, `frozen` keeps the lower half.
Quick: four small sets on three blocks of ViT-Ti; minutes on two cores.
Run: polypath run mu2net/large --out runs/large
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.mu2net import benchmarks, searched, substitutes

PIXELS = 384
SETTINGS: dict[str, Any] = {
    "root": {"kind": "vit", "name": "L/16", "pretrained": True},
    "generations": 4,
    "children": 8,
    "cycles": 4,
    "samples": 128_116,
    "batch": 64,
    "validation": 10_000,
}


def settings(size: Size) -> dict[str, Any]:
    """The method's settings for a benchmark in a size, two iterations long in full."""
    if size == "full":
        return {**SETTINGS, "iterations": 2}
    return {"root": substitutes.network(size), **substitutes.search(size)}


def controls(config: dict[str, Any], frozen: int) -> dict[str, Variant]:
    """The search and what it is compared with; `frozen` lowest layers are never trained in the last."""
    return {
        "mu2net": searched(config),
        "mu1": searched(config, clone=1.0),
        "mu0": searched(config, clone=0.0),
        "frozen": searched(config, clone=1.0, freeze=frozen),
    }


def experiment(size: Size = "full") -> Experiment:
    """The three tasks of the ViT paper."""
    config = settings(size) | ({"iterations": 5} if size == "full" else {})
    # Embedding, class token, positions, and half of the blocks.
    variants = controls(config, frozen=3 + 12 if size == "full" else 4)
    if size == "smoke":
        variants = {"mu2net": variants["mu2net"]}
    return Experiment(
        recipe="mu2net/large",
        size=size,
        title="mu2Net on ViT-L/16 at 384 pixels",
        paper="mu2Net, section 5.1, table 2",
        suite=benchmarks.suite("mu2net/large", benchmarks.VIT, PIXELS) if size == "full" else substitutes.suite(size),
        variants=variants,
        main="mu2net",
        by_default=("mu2net",),
    )
