from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.nn.subnet import Subnetworks
from polypath.system import System
from polypath.testing import tiny_features, tiny_images

TINY: dict[str, Any] = {
    "backbone": {"kind": "mlp", "hidden": [4, 4]},
    "ratios": (0.5, 0.75, 1.0),
    "epochs": 1,
    "batch": 100,
    "threads": 1,
    "precision": "32-true",
    "progress": False,
}
STILL = {"optimizer": "sgd", "learning_rate": 1e-30}


def learn(suite: Suite | None = None, **settings: Any) -> System:
    return pp.learn("nestednet", suite or tiny_features(3), **{**TINY, **settings})


def network_of(system: System) -> Subnetworks:
    assert isinstance(system.network, Subnetworks)
    return system.network


def test_a_level_holds_its_groups_and_those_inside_it() -> None:
    system = learn()
    # fc1: 2, 3, 4 rows of 8 inputs. fc2: 2 x 2; and 1 x 3; and 1 x 4. Heads read 2, 3, 4 units. 8 biases and 2 a level.
    own = [16 + 4 + 2 * 2 + 8 + 2, 8 + 3 + 2 * 3 + 8 + 2, 8 + 4 + 2 * 4 + 8 + 2]
    assert [system.cost(name).added_parameters for name in system.tasks] == own
    read = [16 + 4, 16 + 4 + 8 + 3]  # weights of the levels inside; their biases are on the path, though not read
    assert system.cost("task2").parameters == own[2] + read[1] + 2 * 8
    assert system.isolation == "joint"


def test_levels_of_channels_have_no_free_weights_to_count() -> None:
    with pytest.raises(InvalidInput, match=r"levels of channels were set when it was built \(3, of which 2"):
        learn(tiny_features(2)).capacity()


def test_a_level_is_extracted_as_a_narrow_network() -> None:
    widths = [
        [layer.out_features for layer in learn().extract(name) if isinstance(layer, torch.nn.Linear)]
        for name in ("task0", "task1", "task2")
    ]
    assert widths == [[2, 2, 2], [3, 3, 2], [4, 4, 2]]


def test_lower_levels_do_not_depend_on_higher_groups() -> None:
    suite = tiny_images(3)
    backbone = {"kind": "conv", "blocks": [[4, 4]], "dense": [4], "norm": "batch"}
    network = network_of(learn(suite, backbone=backbone))
    inputs = suite["task0"].task.preprocess.encode(suite["task0"].train.inputs())
    with torch.no_grad():
        before = [network(inputs, f"task{i}") for i in range(3)]
        for name, parameter in network.named_parameters():
            if ".t1.value" in name:
                parameter.add_(1.0)
        after = [network(inputs, f"task{i}") for i in range(3)]
    assert [torch.equal(old, new) for old, new in zip(before, after, strict=True)] == [True, False, False]


def test_a_step_follows_the_sum_of_all_levels_losses() -> None:
    base = tiny_features(1).tasks[0]
    other = replace(base, task=base.task.changed(name="task1"), train=base.train)
    suite = Suite("twice", (base, other))
    settings = {"optimizer": "sgd", "momentum": 0.0, "seed": 2}
    start = network_of(learn(suite, **settings, learning_rate=1e-30))
    moved = network_of(learn(suite, **settings, learning_rate=0.1))
    inputs = base.task.preprocess.encode(base.train.inputs())
    start.zero_grad()
    for name in suite.names:
        base.task.loss_of(start(inputs, name), base.train.targets).backward()
    inner = start.part("fc1.t0").values("0.weight")
    assert inner.grad is not None and inner.grad.abs().max() > 0
    torch.testing.assert_close(moved.part("fc1.t0").values("0.weight"), (inner - 0.1 * inner.grad).detach())
    alone = start.part("fc1.t1").values("0.weight")
    torch.testing.assert_close(moved.part("fc1.t1").values("0.weight"), (alone - 0.1 * alone.grad).detach())


def test_levels_can_be_parts_of_the_weights() -> None:
    system = learn(
        tiny_features(2), backbone={"kind": "mlp", "hidden": [100, 100]}, ratios=(0.5, 1.0), ratio_of="weights"
    )
    counts = [network_of(system).part(f"fc2.t{i}").counts()["0.weight"] for i in range(2)]
    # The golden section of 100 units is 61: 61 x 61, and 39 x 100.
    assert counts == [61 * 61, 39 * 100]
    assert counts[0] / sum(counts) == pytest.approx(0.5, abs=0.02)  # whole units


def test_magnitude_gives_the_largest_weights_to_the_first_level() -> None:
    network = network_of(learn(select="magnitude", search_epochs=1, **STILL))
    # 16 weights, which a learning rate of 1e-30 leaves as they were ranked
    held = [network.part(f"fc2.t{i}").values("0.weight").detach().abs() for i in range(3)]
    assert [len(values) for values in held] == [8, 4, 4]
    assert held[0].min() >= held[1].max() >= held[1].min() >= held[2].max()
    assert len(network.free("fc2", "0.weight")) == 0


def test_the_search_prunes_gradually_and_straight_through() -> None:
    from polypath.methods.nestednet import NestedNet, NestedNetConfig, Search
    from polypath.train.config import RunConfig
    from polypath.train.engine import Engine

    suite, method = tiny_features(3), NestedNet(**{k: v for k, v in TINY.items() if k in NestedNetConfig.model_fields})
    method = NestedNet(method.config.changed(select="magnitude"))
    network = method.build([item.task for item in suite], Engine(config=RunConfig(threads=1), progress=False))
    for item in suite:
        method.admit(network, item.task)
    search = Search(network, list(suite), method.config)
    search._begin(torch.device("cpu"))
    seen = []
    for progress in (0.0, 0.5, 1.0):
        search.rank(progress)
        seen.append([int(search.masks[f"fc2.t{i}/0.weight"].sum()) for i in range(3)])
    # Of 16: 1 - 0.5 x 7/8 = 0.5625 and 1 - 0.25 x 7/8 = 0.78125 in the middle
    assert seen == [[16, 16, 16], [9, 12, 16], [8, 12, 16]]
    inputs = torch.ones(4, 8)
    network(inputs, "task0").sum().backward()
    gradient = network.part("fc2.t0").values("0.weight").grad
    assert gradient is not None and gradient.shape == (16,)  # also of the eight that level 0 does not see


def test_removing_takes_the_outermost_level_first() -> None:
    system = learn()
    with pytest.raises(InvalidInput, match=r"\['task1', 'task2'\] build on it"):
        system.remove("task0")
    removal = system.remove("task2")
    assert removal.removed == ("task2",)
    assert {"fc1.t0", "fc2.t0", "fc1.t1", "fc2.t1"} <= set(removal.residue)  # its data trained the levels inside


def test_a_new_level_needs_the_data_of_those_inside_it() -> None:
    suite = tiny_features(3)
    system = learn(suite.only(["task0", "task1"]))
    with pytest.raises(InvalidInput, match=r"needs the data of \['task0', 'task1'\]"):
        system.learn(suite["task2"], threads=1, progress=False)
    system.learn(suite, threads=1, progress=False)
    assert list(system.tasks) == ["task0", "task1", "task2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratios": ()}, "one number or more above 0"),
        ({"ratios": (0.8, 0.5, 1.0)}, "each larger than the one before"),
        ({"ratios": (0.5, 1.0)}, "task 'task2': ratios \\[0.5, 1.0\\] make 2 levels, and 2 are taken"),
        ({"backbone": {"kind": "mlp", "hidden": [4, 2]}}, "layer fc2.0 has 2 units, of which none is left for level 2"),
        ({"select": "magnitude", "backbone": {"kind": "mlp", "hidden": [1]}, "ratios": (0.1, 0.2, 1)}, "leaves none"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        learn(**settings)


def test_tasks_of_different_shapes_are_refused() -> None:
    mixed = Suite("mixed", (*tiny_features(1), tiny_features(2, columns=6).tasks[1]))
    with pytest.raises(InvalidInput, match="whose inputs have one shape: 'task0'"):
        learn(mixed)
    system = learn(tiny_features(1))
    with pytest.raises(InvalidInput, match="read inputs of one shape"):
        system.learn(mixed, threads=1, progress=False)


@pytest.mark.parametrize("flatten", [True, False])
def test_operations_of_a_level_are_those_of_its_narrow_network_also_where_it_is_only_planned(flatten: bool) -> None:
    backbone = {"kind": "conv", "blocks": [[4]], "dense": [8], "norm": "batch", "pool": 2, "flatten": flatten}
    suite = tiny_images(2)
    system = learn(suite, backbone=backbone, ratios=(0.5, 1.0))
    positions = 4 * 4 if flatten else 1  # of 8 x 8 pixels after pooling

    def by_hand(channels: int, units: int) -> int:
        return 2 * (8 * 8 * 9 * 3 * channels + channels * positions * units + units * 2)

    assert [system.cost(name).flops for name in suite.names] == [by_hand(2, 4), by_hand(4, 8)]
    narrow = system.extract("task0")
    assert [tuple(layer.weight.shape) for layer in narrow.modules() if hasattr(layer, "weight")] == [
        (2, 3, 3, 3),
        (4, 2 * positions),
        (2, 4),
    ]
    inputs = suite["task0"].task.preprocess.encode(suite["task0"].train.inputs())
    torch.testing.assert_close(narrow(inputs), system.extract("task0", fused=False)(inputs))
