"""mu2Net on handwritten numerals of three scripts, one of them private (paper section 4, figure 1).

Full: ViT Ti/16 without blocks, random, 32 pixels; Bangla, Devanagari and Telugu (private: nobody else may build on
it), 2 iterations x 4 generations x 8 children x 4 cycles of one pass, batch 512; up to three blocks are inserted; mu,
learning rate, schedule and image settings evolve. 80 % of the stored training images train, 20 % validate. The paper
shows a figure and no accuracies.
Controls: `mu1` trains every layer of every child, `mu0` only heads, `frozen` all but embedding, class token and
position; `alone_winner` and `alone_all` train each task by itself from the same root with three blocks, all of it, for
as many passes as the winner of the same seed and its ancestors had (read from the finished run of `mu2net` in the same
folder), and for as many as all children of the task had together.
Three seeds. Quick: one seed, one iteration x 3 x 4 x 4, batch 128, 200 images a class; the search and `mu1`.
Run: polypath run mu2net/numerals --out runs/numerals
"""

from __future__ import annotations

from typing import Any

from polypath.methods.mu2net import Mu2NetConfig
from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.mu2net import alone, image_task, searched

SCRIPTS = ("bangla", "devanagari", "telugu")
PRIVATE = "telugu"
BLOCKS = 3


def settings(size: Size) -> dict[str, Any]:
    """The method's settings in a size."""
    config: dict[str, Any] = {
        "root": {"kind": "vit", "name": "Ti/16", "depth": 0},
        "hyperparameters": {"num_layers": list(range(BLOCKS + 1)), "warmup": {"default": 0.1}},
    }
    if size == "quick":
        config |= {"iterations": 1, "generations": 3, "children": 4, "cycles": 4, "batch": 128}
    if size == "smoke":
        config |= {"iterations": 1, "generations": 1, "children": 2, "cycles": 1, "batch": 16}
    return config


def rows(size: Size) -> dict[str, Any]:
    """Which images."""
    if size == "full":
        return {"train": "train[20%:]", "validation": "train[:20%]", "test": "test"}
    each = {"per_class": 200, "test_per_class": 50} if size == "quick" else {"per_class": 8, "test_per_class": 2}
    return {"train": "train", "validation": 0.25, **each}


def experiment(size: Size = "full") -> Experiment:
    """Three scripts and the controls."""
    config = settings(size)
    resolved = Mu2NetConfig.of(config)
    every = resolved.iterations * resolved.generations * resolved.children * resolved.cycles
    suites = [
        image_task(f"cmaterdb_{name}", name, 32, private_to=name if name == PRIVATE else None, **rows(size))
        for name in SCRIPTS
    ]
    variants = {
        "mu2net": searched(config),
        "alone_winner": alone(config, cycles=resolved.cycles, blocks=BLOCKS, winners_of="mu2net"),
        "mu1": searched(config, clone=1.0),
        "alone_all": alone(config, cycles=every, blocks=BLOCKS),
        "mu0": searched(config, clone=0.0),
        "frozen": searched(config, clone=1.0, freeze=3),
    }
    if size == "smoke":
        variants = {name: variants[name] for name in ("mu2net", "alone_winner")}
    default = {"full": tuple(variants)[:4], "quick": ("mu2net", "mu1"), "smoke": ()}
    return Experiment(
        recipe="mu2net/numerals",
        size=size,
        title="mu2Net on numerals of three scripts, one private",
        paper="mu2Net, section 4, figure 1",
        suite={"kind": "mix", "suites": suites},
        variants=variants,
        main="mu2net",
        by_default=default[size],
        seeds=(0, 1, 2) if size == "full" else (0,),
    )
