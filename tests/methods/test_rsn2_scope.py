"""RSN2 choosing over all layers (`scope="global"`): what a layer lends, and what is kept for tasks that come later."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import polypath as pp
from polypath.methods.rsn2 import chosen_positions, reserved
from polypath.nn.subnet import Subnetworks
from polypath.nn.subnet_config import SubnetConfig
from polypath.testing import tiny_features, tiny_images

TINY: dict[str, Any] = {"epochs": 1, "batch": 8, "patience": 0, "samples": 8, "threads": 1, "progress": False}
LAYERS, SIZES = [("fc1", "1.weight"), ("fc2", "0.weight"), ("head2", "weight")], [11520, 2400, 80]
CONFIG: dict[str, Any] = {"backbone": {"kind": "mlp", "hidden": [10]}, "inputs": {"kind": "features", "size": 8}}


@pytest.mark.parametrize("order", ["joint", "sequential"])
def test_over_all_layers_later_tasks_still_find_their_share_of_each(order: str) -> None:
    """Three tasks of 0.3: a tenth of a layer is nobody's share, and no more than that may a first task take on top."""
    suite = tiny_images(3)
    settings = {**TINY, "backbone": {"kind": "mlp", "hidden": [60, 40]}, "init": "backbone"}
    system = pp.learn("rsn2", list(suite)[:2], **settings, share=0.3, scope="global", order=order)
    assert system.capacity().fits == 1
    if order == "sequential":
        weights = [system.network.part(f"{piece}.t0").counts()[entry] for piece, entry in LAYERS]
        assert all(n <= 0.4 * size for n, size in zip(weights, SIZES, strict=True))
    system.learn(list(suite)[2], threads=1, progress=False)
    for name in system.tasks:
        held = [sum(system.network.part(p).counts().values()) for p in system.network.own(name)]
        assert sum(held) == sum(size * 3 // 10 for size in SIZES)


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (0.3, 48),  # 24 of 80 are the task's, of the other 56 two more tasks can have 24 each
        ({"task0": 0.3}, 0),  # nobody else is to come
        ({"task0": 0.3, "later": 0.25}, 20),
        ({"task0": 0.3, "later": 0.25, "default": 0.1}, 56),  # any of them may come
        ({"task0": 0.3, "later": 0.9}, 56),
    ],
)
def test_over_all_layers_a_layer_lends_no_more_than_nobodys_share(share: Any, kept: int) -> None:
    network = Subnetworks(SubnetConfig.of({**CONFIG, "share": share}))
    network.add_task(tiny_features(1).tasks[0].task)
    counts = {part: network.part(part).counts() for part in network.own("task0")}
    assert reserved(network, counts, share)["fc1", "0.weight"] == kept


def test_over_all_layers_a_task_takes_fewer_where_others_left_it_fewer() -> None:
    """The first trades its head for the layer that both have; the second's small head cannot make up for that."""
    network = Subnetworks(SubnetConfig.of({**CONFIG, "share": 0.5}))
    for data in (*tiny_features(1, classes=8), *tiny_features(1, classes=2)):
        network.add_task(data.task.renamed(f"of{data.task.target.outputs}"))
    mine = {name: network.own(name) for name in network.tasks}
    parts = [part for own in mine.values() for part in own]
    counts = {part: network.part(part).counts() for part in parts}
    for part in parts:
        network.widen(part, network.tasks["of8"], besides=parts)
    scores = {
        part: {e: torch.full((n,), 1.0 + part.startswith("fc1")) for e, n in network.part(part).counts().items()}
        for part in parts
    }
    found = chosen_positions(network, mine, counts, scores, "global")
    taken = {part: sum(map(len, chosen.values())) for part, chosen in found.items()}
    # Of 80 the first takes 60, all but half the other's share, and 20 in its head for 40. The second finds 20, and its
    # whole head is 20: 40 for the 50 of its share.
    assert taken == {"fc1.t0": 60, "head8.t0": 20, "fc1.t1": 20, "head2.t1": 20}
