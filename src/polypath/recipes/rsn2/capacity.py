"""RSN2: how many subnetworks fit into one network? The paper's open question (section 4.1, future work).

Not from the paper. One fully connected network is filled with 20 subnetworks of 5 % each, one after another, until no
weight is free. All learn the same task, Fashion-MNIST, so that what changes from net1 to net20 is the network alone:
the weights with the largest gradients go first, and the last task takes what all others left.
Full: six layers of 1,000, batch 512. `dense` is one network with all its weights, `rsn2_half` the same with 20
subnetworks of 2.5 %: half of the weights stay free.
Quick: three layers of 300, 5,000 images, at most five epochs; minutes on two cores.
Run: polypath run rsn2/capacity --out runs/capacity
"""

from __future__ import annotations

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.rsn2 import (
    FULLY_CONNECTED,
    LAST_FIFTH,
    SELECTION,
    TRAINING,
    dense,
    fashion_for,
    first_rows,
    subnetworks,
)

NETS: tuple[str, ...] = tuple(f"net{number}" for number in range(1, 21))


def experiment(size: Size = "full") -> Experiment:
    """Twenty subnetworks of 5 % on one task, one after another, beside one dense network."""
    rows, network, training, selection = dict(LAST_FIFTH), dict(FULLY_CONNECTED), dict(TRAINING), dict(SELECTION)
    nets = NETS
    if size == "quick":
        rows = first_rows(5_000, 2_000)
        network |= {"hidden": [300, 300, 300]}
        training |= {"epochs": 5, "batch": 64}
    if size == "smoke":
        rows, nets = first_rows(150, 60), NETS[:4]
        network |= {"hidden": [40, 40]}
        training |= {"epochs": 1, "batch": 60}
        selection |= {"samples": 50}
    share = 1 / len(nets)
    return Experiment(
        recipe="rsn2/capacity",
        size=size,
        title="RSN2 until nothing is free: twenty subnetworks of 5 % in one network",
        paper="none (the open question of RSN2, section 4.1)",
        suite=fashion_for(nets, rows),
        variants={
            "rsn2": subnetworks(
                network, training, share=share, order="sequential", analysis=("ensemble",), **selection
            ),
            "rsn2_half": subnetworks(network, training, share=share / 2, order="sequential", **selection),
            "dense": dense(network, training, tasks=nets[:1]),
        },
        main="rsn2",
        by_default=("rsn2", "dense") if size == "full" else (),
    )
