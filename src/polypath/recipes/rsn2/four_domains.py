"""RSN2, experiment 4: digits and clothes, then house prices, then film reviews (paper section 3.4, table 4).

Full: six layers of 1,000, 10 % of the weights a task. MNIST and Fashion-MNIST are learned together, then Boston
housing, then IMDB; what was learned stays bit-identical. Boston and IMDB have first layers of their own, for their
inputs have other sizes. Batch 512, Boston 32. The paper: 97 and 87 %, mean squared error 0.011 on targets scaled to
[0, 1], 82 %; dense controls 97, 88 %, 0.017, 80 %.
Boston: columns and prices are brought to [0, 1]; `mse_scaled` is the paper's figure, `mse` is in (1,000 dollars)
squared. One of its columns is ethically contested; the remark is shown with every result.
IMDB: 10,000 token ids (padding, unknown and 9,998 words), the first 128 words, one output with a sigmoid.
The paper's early stopping (0.01 less validation loss) is as coarse as Boston's whole loss, about 0.02; `rsn2_fine` and
`dense_fine` ask 0.001 of Boston alone: `--variant rsn2_fine --variant dense_fine`.
`rsn2_dense_heads` and `dense_small_batches` also train IMDB in batches of 32, as the authors' script does (the paper
says 512), and leave heads whole: the gradient of the summed loss can leave an output of a pruned head without a single
weight (docs/log.md).
Not as the authors: Boston's output is linear, theirs a ReLU.
The dense controls of digits and fashion are those of `rsn2/digits_fashion_fc`, the same networks on the same data.
Quick: the same network, 6,000 images and 6,000 reviews in batches of 128, at most eight epochs; minutes on two cores.
Run: polypath run rsn2/four_domains --out runs/four_domains
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment
from polypath.recipes.rsn2 import (
    FULLY_CONNECTED,
    LAST_FIFTH,
    PIXELS,
    SELECTION,
    TRAINING,
    dense,
    first_rows,
    subnetworks,
)

STAGES: list[list[str]] = [["digits", "fashion"], ["boston"], ["imdb"]]


def experiment(size: Size = "full") -> Experiment:
    """Four tasks of three kinds in three stages, 10 % of the weights each, beside dense networks for the last two."""
    rows = texts = houses = dict(LAST_FIFTH)
    network, selection = dict(FULLY_CONNECTED), dict(SELECTION)
    training: dict[str, Any] = {**TRAINING, "batch": {"default": 512, "boston": 32}}
    words, length = 9_998, 128
    if size == "quick":
        rows, texts = first_rows(6_000, 2_000), first_rows(6_000, 2_000)
        training |= {"epochs": 8, "batch": {"default": 128, "boston": 32}}
    if size == "smoke":
        rows, texts, houses = first_rows(150, 60), first_rows(150, 60), first_rows(100, 50)
        network |= {"hidden": [40, 40]}
        training |= {"epochs": 1, "batch": 50}
        selection |= {"samples": 50}
        words, length = 200, 16
    fine = {**training, "min_delta": {"default": training["min_delta"], "boston": 0.001}}
    small = {**fine, "batch": {**training["batch"], "imdb": 32}} if size != "smoke" else fine
    parts: dict[str, Any] = {"share": 0.1, "order": "sequential", "groups": STAGES, "heads": "masked", **selection}
    controls = ("boston", "imdb")
    images: dict[str, Any] = {"kind": "whole", **PIXELS, **rows}
    boston: dict[str, Any] = {
        "kind": "attributes",
        "dataset": "boston_housing",
        "attributes": [{"name": "boston", "column": "medv", "metric": "mse_scaled"}],
        "scale": "minmax",
        "target_scale": "minmax",
        **houses,
    }
    imdb: dict[str, Any] = {
        "kind": "attributes",
        "dataset": "imdb",
        "attributes": [{"name": "imdb", "column": "label", "kind": "binary"}],
        "words": words,
        "length": length,
        **texts,
    }
    suites = [
        {**images, "dataset": "mnist", "task": "digits"},
        {**images, "dataset": "fashion_mnist", "task": "fashion"},
        boston,
        imdb,
    ]
    return Experiment(
        recipe="rsn2/four_domains",
        size=size,
        title="RSN2 on images, house prices and reviews: four tasks in three stages",
        paper="RSN2, section 3.4, table 4",
        suite={"kind": "mix", "suites": suites},
        variants={
            "rsn2": subnetworks(network, training, **parts),
            "dense": dense(network, training, tasks=controls),
            "rsn2_fine": subnetworks(network, fine, **parts),
            "dense_fine": dense(network, fine, tasks=controls),
            "rsn2_dense_heads": subnetworks(network, small, **{**parts, "heads": "dense"}),
            "dense_small_batches": dense(network, small, tasks=controls),
        },
        main="rsn2",
        by_default=("rsn2", "dense") if size == "full" else (),
    )
