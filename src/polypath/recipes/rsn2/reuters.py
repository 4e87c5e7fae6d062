"""RSN2, experiment 6: topics of Reuters news with a transformer, 90 % of its weights pruned (section 3.6, table 6).

Full: 30,000 token ids, 512 words, width 512, eight heads, feed-forward 1,028, dropout 10 %, batch 256. After two dense
epochs 10 % of the weights of attention, feed-forward and dense layers stay (embeddings and norms are dense); training
stops after three epochs without 0.004 less validation loss. The paper: 79 %, dense control (34,627,822 parameters with
its 46 topics) 75 %; its text says that 90 % "were active", its table that 90 % were pruned.
`rsn2` keeps the weights with the largest |gradient| over 1,000 examples, as the paper says; `rsn2_magnitude` those with
the largest |weight|, as the authors' last script does.
Two cores: `rsn2_128`, `rsn2_magnitude_128` and `dense_128` read the first 128 words.
Not as the authors: texts are cut and padded at their end, theirs at their beginning; our copy has 43 topics and another
split, so that figures do not compare one to one.
Quick: 64 words, width 128, 1,600 texts, at most six epochs; minutes on two cores.
Run: polypath run rsn2/reuters --out runs/reuters
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.rsn2 import LAST_FIFTH, TRAINING, dense, subnetworks

# Defaults are the paper's sizes; the products of queries and keys are not scaled, as in the authors' code.
TRANSFORMER: dict[str, Any] = {"kind": "transformer", "vocabulary": 30_000, "scaled": False}


def experiment(size: Size = "full") -> Experiment:
    """One task, 10 % of the weights, beside a dense network."""
    network = dict(TRANSFORMER)
    training: dict[str, Any] = {**TRAINING, "batch": 256, "min_delta": 0.004}
    gradient: dict[str, Any] = {"select": "gradient", "samples": 1000, "dense_epochs": 2}
    suite: dict[str, Any] = {
        "kind": "whole",
        "dataset": "reuters21578",
        "task": "reuters",
        "words": 29_998,
        "length": 512,
        **LAST_FIFTH,
    }
    if size == "quick":
        suite |= {"words": 4_998, "length": 64, "train": "train[:24%]", "validation": "train[24%:30%]"}
        network |= {"vocabulary": 5_000, "width": 128, "feed_forward": 256, "dense": [256]}
        training |= {"epochs": 6, "batch": 64}
    if size == "smoke":
        suite |= {"words": 98, "length": 12, "train": "train[:300]", "validation": "train[300:400]"}
        suite |= {"test": "test[:100]"}
        network |= {"vocabulary": 100, "width": 8, "heads": 2, "feed_forward": 10, "dense": [12]}
        training |= {"epochs": 1, "batch": 100}
        gradient |= {"samples": 50, "dense_epochs": 1}
    magnitude = {"select": "magnitude", "dense_epochs": gradient["dense_epochs"]}
    variants = {
        "rsn2": subnetworks(network, training, share=0.1, order="joint", **gradient),
        "rsn2_magnitude": subnetworks(network, training, share=0.1, order="joint", **magnitude),
        "dense": dense(network, training),
    }
    usual = tuple(variants)
    if size == "full":
        variants |= {f"{key}_128": shorter(variant, suite) for key, variant in variants.items()}
    return Experiment(
        recipe="rsn2/reuters",
        size=size,
        title="RSN2 on Reuters news: a transformer with a tenth of its weights",
        paper="RSN2, section 3.6, table 6",
        suite=suite,
        variants=variants,
        main="rsn2",
        by_default=usual if size == "full" else (),
    )


def shorter(variant: Variant, suite: dict[str, Any]) -> Variant:
    """The variant on the first 128 words of each text."""
    return variant.changed(suite={**suite, "length": 128})
