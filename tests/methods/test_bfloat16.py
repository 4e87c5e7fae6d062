"""Every method learns in bfloat16, which `precision="auto"` chooses on processors that have matrix units for it."""

from __future__ import annotations

from typing import Any

import pytest

import polypath as pp
from polypath.methods import METHODS
from polypath.testing import tiny_images

RUN: dict[str, Any] = {"precision": "bf16-mixed", "device": "cpu", "threads": 1, "progress": False}
CONV = {"kind": "conv", "blocks": [[8], [8]], "dense": [8], "norm": "none"}
THIN = {"kind": "resnet18", "stem": "paper", "width": 1 / 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "part": {"modules": 3, "selected": 2, "width": 2, "batch_set": 1},
    "multipath": {"backbone": CONV, "cuts": ["conv1", "conv2"]},
    "mu2net": {"root": CONV, "iterations": 1, "generations": 1, "children": 2, "cycles": 1},
    "adashare": {"backbone": THIN, "search_epochs": 2, "warmup_epochs": 1, "draws": 1},
    "mtan": {"backbone": THIN},
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_it_learns_in_bfloat16(name: str) -> None:
    suite = tiny_images(2, per_class=8, size=32)
    settings = SETTINGS.get(name, {"backbone": CONV})
    if name != "mu2net":
        settings = {"epochs": 1, **settings}
    system = pp.learn(name, suite, batch=8, **settings, **RUN)
    for task in system.tasks:
        assert 0 <= system.entries[task].metrics["accuracy"] <= 1
        assert system.predict(task, suite[task].val.inputs()).probabilities.isfinite().all()
