"""mu2Net on the Visual Task Adaptation Benchmark and on the Visual Domain Decathlon (paper sections 5.2, 5.3 and 5.5).

`mu2net/vtab` full: ViT-L/16 from ImageNet-21k weights at 384 pixels, 25 tasks of 800 training and 200 validation
images (VTAB-1k), 2 iterations x 4 generations x 32 children x 4 cycles; `--variant vtab_full` learns 23 tasks with all
their images. `mu2net/decathlon` full: the ten tasks. The paper's test accuracies are in its tables 3, 4 and 6; there
both benchmarks are learned by a system that knows other tasks already.
The splits are `polypath.recipes.mu2net.benchmarks`; who runs it supplies the images as folders.
Quick: four small sets on three blocks of ViT-Ti, for both; minutes on two cores.
Run: polypath run mu2net/vtab --out runs/vtab
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.mu2net import benchmarks, searched, substitutes
from polypath.recipes.mu2net.large import PIXELS, settings

CHILDREN = 32


def _config(size: Size) -> dict[str, Any]:
    return settings(size) | ({"children": CHILDREN} if size == "full" else {})


def experiment(size: Size = "full") -> Experiment:
    """VTAB-1k; VTAB-full as a variant."""
    config, name = _config(size), "mu2net/vtab"
    if size != "full":
        small, variants = substitutes.suite(size), {"vtab_1k": searched(config)}
    else:
        small = benchmarks.suite(name, benchmarks.VTAB_1K, PIXELS)
        whole = benchmarks.suite(name, benchmarks.VTAB_FULL, PIXELS)
        full = Variant(method="mu2net", config=config, suite=whole)
        variants = {"vtab_1k": searched(config), "vtab_full": full}
    return Experiment(
        recipe=name,
        size=size,
        title="mu2Net on the Visual Task Adaptation Benchmark",
        paper="mu2Net, sections 5.2 and 5.5, tables 3 and 6",
        suite=small,
        variants=variants,
        main="vtab_1k",
        by_default=("vtab_1k",),
    )


def decathlon(size: Size = "full") -> Experiment:
    """The ten tasks of the Visual Domain Decathlon, three seeds in full."""
    name = "mu2net/decathlon"
    tasks = benchmarks.suite(name, benchmarks.DECATHLON, PIXELS) if size == "full" else substitutes.suite(size)
    return Experiment(
        recipe=name,
        size=size,
        title="mu2Net on the Visual Domain Decathlon",
        paper="mu2Net, section 5.3, table 4",
        suite=tasks,
        variants={"mu2net": searched(_config(size))},
        main="mu2net",
        seeds=(0, 1, 2) if size == "full" else (0,),
    )
