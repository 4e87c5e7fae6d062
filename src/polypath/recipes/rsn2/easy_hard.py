"""RSN2, experiment 3: the easy and the hard half of Fashion-MNIST in one network (paper section 3.3, table 3).

Full: the convolutional network of experiment 1, 20 % of the weights a task, both tasks together. The paper: 98 % on the
five classes that the dense control tells best, 84 % on the other five; the control 92 % on all ten.
Which classes are easy follows from the F1 by class of our own dense control on all ten,
`polypath run rsn2/easy_hard --quick --variant ten_stride2` (docs/results.md): 0.91 to 0.97 for trouser, sandal,
sneaker, bag and boot, at most 0.83 for the others. They are the five of the paper's table 11.
`dense` trains a network for each half, `ten` the paper's one control on all classes. The authors' networks have ten
outputs for five classes: `--set suite.head=all` builds them so; here every task has outputs for its own classes.
`_stride2`: poolings of stride 2, 936,426 parameters instead of 11,209,194 with ten outputs. `_rescaled`: initial
weights scaled for the inputs that are left, which is not in the paper.
Quick: stride 2, 5,000 images, at most six epochs; minutes on two cores.
Run: polypath run rsn2/easy_hard --out runs/easy_hard
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.rsn2 import PIXELS, convolutional, dense, rescaled, subnetworks

EASY: list[str] = ["Trouser", "Sandal", "Sneaker", "Bag", "Boot"]
HARD: list[str] = ["T-shirt", "Pullover", "Dress", "Coat", "Shirt"]


def experiment(size: Size = "full") -> Experiment:
    """Two tasks of five classes, 20 % of the weights each, beside dense networks."""
    networks, rows, training, selection = convolutional(size)
    each: dict[str, Any] = {"dataset": "fashion_mnist", **PIXELS, **rows}
    halves = {"kind": "split", "classes": [EASY, HARD], "names": ["easy", "hard"], **each}
    everything = {"kind": "whole", "task": "fashion", **each}
    variants = {}
    for key, network in networks.items():
        both = subnetworks(network, training, share=0.2, order="joint", **selection)
        variants[f"rsn2{key}"] = both
        if key:
            variants[f"rsn2{key}_rescaled"] = rescaled(both)
        variants[f"dense{key}"] = dense(network, training)
        variants[f"ten{key}"] = dense(network, training).changed(suite=everything)
    return Experiment(
        recipe="rsn2/easy_hard",
        size=size,
        title="RSN2 on Fashion-MNIST: the easy and the hard classes as two subnetworks",
        paper="RSN2, section 3.3, table 3",
        suite=halves,
        variants=variants,
        main=next(iter(variants)),
        by_default=("rsn2", "dense", "ten") if size == "full" else (),
    )
