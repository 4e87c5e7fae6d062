"""`inspect` of a network of subnetworks says what is free and how many more tasks fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polypath as pp
from polypath.testing import tiny_features

Invoke = Callable[..., Any]


def test_inspect_says_how_full_every_layer_is(tmp_path: Path, invoke: Invoke) -> None:
    settings: dict[str, Any] = {"epochs": 1, "batch": 8, "patience": 0, "threads": 1, "progress": False}
    backbone = {"kind": "mlp", "hidden": [10]}
    pp.learn("rsn2", tiny_features(2), backbone=backbone, share=0.3, **settings).save(tmp_path / "s")
    found = json.loads(invoke("inspect", tmp_path / "s", "--json").stdout)["capacity"]
    # 8 x 10 weights, floor(0.3 x 80) = 24 a task; 10 x 2, 6 a task
    assert found == {
        "share": 0.3,
        "fits": 1,
        "layers": {
            "fc1.0.weight": {"size": 80, "free": 32, "fits": 1},
            "head2.weight": {"size": 20, "free": 8, "fits": 1},
        },
    }
    shown = invoke("inspect", tmp_path / "s").stdout
    assert "1 more task(s) that own 30% of every layer fit." in shown and "40.0%" in shown
