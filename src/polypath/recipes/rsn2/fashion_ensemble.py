"""RSN2, experiment 1: Fashion-MNIST learned five times by one convolutional network (paper section 3.1, table 1).

Full: two blocks of two 3x3 convolutions (32, 64 filters) with 2x2 poolings, two layers of 256, 20 % of the weights a
subnetwork, batch 512. The paper: 90 % each (92 % the fifth, whose mask the scripts' tie rule probably leaves whole),
92 % together; dense control 92 %. The ensemble answers the class with the largest sum of softmax outputs; it is
recorded under `analysis.ensemble`.
The scripts pool with stride 1 (11,209,194 parameters); `rsn2_stride2` and `dense_stride2` pool with stride 2 (936,426),
at a third of the time: `--variant rsn2_stride2 --variant dense_stride2`. One dense network is trained, not five.
Quick: stride 2, 5,000 images, at most six epochs; minutes on two cores.
Run: polypath run rsn2/fashion_ensemble --out runs/fashion_ensemble
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.rsn2 import (
    CONVOLUTIONAL,
    CONVOLUTIONAL_STRIDE_2,
    LAST_FIFTH,
    PIXELS,
    SELECTION,
    TRAINING,
    dense,
    first_rows,
    subnetworks,
)

NETS: tuple[str, ...] = ("net1", "net2", "net3", "net4", "net5")


def experiment(size: Size = "full") -> Experiment:
    """Five tasks that are the same but for their names, 20 % of the weights each, beside one dense network."""
    rows, training, selection = dict(LAST_FIFTH), dict(TRAINING), dict(SELECTION)
    networks = {"": dict(CONVOLUTIONAL), "_stride2": dict(CONVOLUTIONAL_STRIDE_2)}
    if size == "quick":
        rows = first_rows(5_000, 2_000)
        training |= {"epochs": 6, "batch": 128}
        del networks[""]
    if size == "smoke":
        rows = first_rows(150, 60)
        training |= {"epochs": 1, "batch": 60}
        selection |= {"samples": 50}
        networks = {key: {**network, "blocks": [[4], [4]], "dense": [16]} for key, network in networks.items()}
    variants = {}
    for key, network in networks.items():
        variants[f"rsn2{key}"] = subnetworks(
            network, training, share=0.2, order="joint", analysis=("ensemble",), **selection
        )
        variants[f"dense{key}"] = dense(network, training, tasks=NETS[:1])
    suite: dict[str, Any] = {
        "kind": "attributes",
        "dataset": "fashion_mnist",
        "attributes": [{"name": name, "column": "label"} for name in NETS],
        **PIXELS,
        **rows,
    }
    return Experiment(
        recipe="rsn2/fashion_ensemble",
        size=size,
        title="RSN2 on Fashion-MNIST: an ensemble of five subnetworks of a convolutional network",
        paper="RSN2, section 3.1, table 1",
        suite=suite,
        variants=variants,
        main=next(iter(variants)),
        by_default=("rsn2", "dense") if size == "full" else (),
    )
