"""mu2Net on handwritten characters of many scripts, one set after the other (paper section 5.4, table 5).

Full: the paper's eight sets, as far as they are at hand: MNIST and the three numerals of CMATERdb always, EMNIST
digits and letters, KMNIST and Omniglot where their images lie in the folders that
`polypath.recipes.mu2net.benchmarks` names. Ti/16 without blocks, random, 32 pixels, as in the preliminary experiment;
2 iterations x 4 generations x 8 children x 4 cycles of at most 51,200 images, batch 512, up to three blocks are
inserted. In the first iteration the system grows set by set, in the second every set may build on all. The paper's own
figures (93.6 to 99.8 %, table 5) are a ViT-L/16's that had learned 36 tasks before: they are not to be expected here.
Controls: `mu1` trains every layer of every child, `mu0` only heads, `alone` nothing but the task's own models and the
root (`parents: root`).
Quick: four sets, one iteration x 2 x 4 x 2, 100 images a class.
Run: polypath run mu2net/characters --out runs/characters
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.mu2net import benchmarks, image_task, numerals, searched


def experiment(size: Size = "full") -> Experiment:
    """All sets at hand, in the paper's order: from the largest to the smallest."""
    config = numerals.settings(size)
    splits = [split for split in benchmarks.CHARACTERS if benchmarks.at_hand(split)]
    if size == "full":
        tasks = [benchmarks.task_of(split, 32) for split in splits]
    else:
        each: dict[str, Any] = {"per_class": 100, "test_per_class": 50} if size == "quick" else {"per_class": 8}
        each |= {"test_per_class": 2} if size == "smoke" else {}
        bundled = [split for split in splits if split.name == "mnist" or split.name.startswith("cmaterdb_")]
        tasks = [
            image_task(split.name, split.name.removeprefix("cmaterdb_"), 32, train="train", validation=0.25, **each)
            for split in (bundled if size == "quick" else bundled[1:3])
        ]
    variants = {
        "mu2net": searched(config),
        "mu1": searched(config, clone=1.0),
        "mu0": searched(config, clone=0.0),
        "alone": searched(config, parents="root"),
    }
    return Experiment(
        recipe="mu2net/characters",
        size=size,
        title="mu2Net on characters of many scripts, set after set",
        paper="mu2Net, section 5.4, table 5",
        suite={"kind": "mix", "suites": tasks},
        variants=variants if size != "smoke" else {"mu2net": variants["mu2net"]},
        main="mu2net",
        by_default=("mu2net", "alone") if size != "smoke" else (),
    )
