"""RSN2, experiment 5: age, gender and ethnicity from faces, and CIFAR-10 (paper section 3.5, table 5).

Full: images of 256 pixels (CIFAR-10 too), three blocks of two 3x3 convolutions (16, 32, 64 filters), three layers of
128, 25 % of the weights a task. The three tasks on faces share one convolutional subnetwork, so that half of the
convolutional weights are used; of the dense layers each has its own quarter. Training stops after five epochs without
less validation loss. The paper: 55, 89, 77 and 50 %; its dense controls answer one class whatever they see (32, 48, 14
and 10 %), so that its gain is not that of multitask learning.
`rsn2` selects by gradient before training, as the paper says; `rsn2_magnitude` by magnitude after one dense epoch, as
the authors' last script does.
Two cores: `rsn2_64`, `rsn2_magnitude_64` and `dense_64` take images of 64 pixels.
Age: how many of 10, 20, ..., 90 years are exceeded. Gender: one output with a sigmoid. Faces of people who were not
asked; labels are the annotators' judgements.
Not as the authors: the last fifth of the training images stops the training, theirs the test images; our local copies
are subsets (2,500 faces, 3,000 CIFAR-10 images to train on), so that figures do not compare one to one.
Quick: 64 pixels, 1,000 images of each set, at most six epochs; minutes on two cores.
Run: polypath run rsn2/faces_cifar --out runs/faces_cifar
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.rsn2 import LAST_FIFTH, PIXELS, SELECTION, TRAINING, dense, first_rows, subnetworks

NETWORK: dict[str, Any] = {"kind": "conv", "blocks": [[16, 16], [32, 32], [64, 64]], "dense": [128, 128, 128]}
FACES: tuple[str, ...] = ("age", "gender", "ethnicity")
DECADES: list[int] = list(range(10, 100, 10))


def suite_of(pixels: int, rows: dict[str, Any]) -> dict[str, Any]:
    """Three tasks on faces and CIFAR-10.

    Args:
        pixels: side of all images.
        rows: which examples.
    """
    shape: dict[str, Any] = {"size": pixels, "fit": "stretch", **PIXELS, **rows}
    attributes = [{"column": "age", "bins": DECADES}, {"column": "gender", "kind": "binary"}, "ethnicity"]
    faces = {"kind": "attributes", "dataset": "utkface", "attributes": attributes, **shape}
    return {"kind": "mix", "suites": [faces, {"kind": "whole", "dataset": "cifar10", "task": "cifar10", **shape}]}


def experiment(size: Size = "full") -> Experiment:
    """Four tasks, 25 % of the weights each, the faces' convolutions shared, beside four dense networks."""
    network = dict(NETWORK)
    training: dict[str, Any] = {**TRAINING, "batch": 256, "patience": 5}
    gradient, magnitude = dict(SELECTION), {"select": "magnitude", "dense_epochs": 1}
    suite = suite_of(256, LAST_FIFTH)
    if size == "quick":
        suite = suite_of(64, first_rows(1_000, 500))
        training |= {"epochs": 6, "batch": 64}
    if size == "smoke":
        suite = suite_of(16, first_rows(150, 60))
        network |= {"blocks": [[4], [4], [4]], "dense": [16]}
        training |= {"epochs": 1, "batch": 60}
        gradient |= {"samples": 50}
    shared = {"share": 0.25, "order": "joint", "heads": "masked", "slots": {"conv*": dict.fromkeys(FACES, "faces")}}
    variants = {
        "rsn2": subnetworks(network, training, **shared, **gradient),
        "rsn2_magnitude": subnetworks(network, training, **shared, **magnitude),
        "dense": dense(network, training),
    }
    usual = tuple(variants)
    if size == "full":
        small = suite_of(64, LAST_FIFTH)
        variants |= {f"{key}_64": variant.changed(suite=small) for key, variant in variants.items()}
    return Experiment(
        recipe="rsn2/faces_cifar",
        size=size,
        title="RSN2 on faces and CIFAR-10: three tasks share their convolutions, a fourth has its own",
        paper="RSN2, section 3.5, table 5",
        suite=suite,
        variants=variants,
        main="rsn2",
        by_default=usual if size == "full" else (),
    )
