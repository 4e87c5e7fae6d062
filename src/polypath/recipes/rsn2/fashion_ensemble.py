"""RSN2, experiment 1: Fashion-MNIST learned five times by one convolutional network (paper section 3.1, table 1).

Full: two blocks of two 3x3 convolutions (32, 64 filters) with 2x2 poolings, two layers of 256, 20 % of the weights a
subnetwork, batch 512. The paper: 90 % each (92 % the fifth, whose mask the scripts' tie rule probably leaves whole),
92 % together; dense control 92 %. The ensemble answers the class with the largest sum of softmax outputs; it is
recorded under `analysis.ensemble`.
The scripts pool with stride 1 (11,209,194 parameters); `rsn2_stride2` and `dense_stride2` pool with stride 2 (936,426),
at a third of the time: `--variant rsn2_stride2 --variant dense_stride2`. One dense network is trained, not five.
`rsn2_stride2_rescaled` scales the chosen weights to the variance that the inputs left to a unit ask for (not in the
paper): with four fifths of the weights away N(0, 0.05) lets the signal fade from layer to layer, and learning starts
late.
Quick: stride 2, 5,000 images, at most six epochs; minutes on two cores.
Run: polypath run rsn2/fashion_ensemble --out runs/fashion_ensemble
"""

from __future__ import annotations

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.rsn2 import convolutional, dense, fashion_for, rescaled, subnetworks

NETS: tuple[str, ...] = ("net1", "net2", "net3", "net4", "net5")


def experiment(size: Size = "full") -> Experiment:
    """Five tasks that are the same but for their names, 20 % of the weights each, beside one dense network."""
    networks, rows, training, selection = convolutional(size)
    variants = {}
    for key, network in networks.items():
        five = subnetworks(network, training, share=0.2, order="joint", analysis=("ensemble",), **selection)
        variants[f"rsn2{key}"] = five
        if key:
            variants[f"rsn2{key}_rescaled"] = rescaled(five)
        variants[f"dense{key}"] = dense(network, training, tasks=NETS[:1])
    return Experiment(
        recipe="rsn2/fashion_ensemble",
        size=size,
        title="RSN2 on Fashion-MNIST: an ensemble of five subnetworks of a convolutional network",
        paper="RSN2, section 3.1, table 1",
        suite=fashion_for(NETS, rows),
        variants=variants,
        main=next(iter(variants)),
        by_default=("rsn2", "dense") if size == "full" else (),
    )
