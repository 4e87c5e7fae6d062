from __future__ import annotations

from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.nn.subnet import Subnetworks
from polypath.system import System
from polypath.testing import tiny_features, tiny_images

TINY: dict[str, Any] = {
    "backbone": {"kind": "mlp", "hidden": [8]},
    "epochs": 1,
    "retrain_epochs": 1,
    "batch": 100,
    "threads": 1,
    "precision": "32-true",
    "progress": False,
}
STILL = {"learning_rate": 1e-30, "retrain_rate": 1e-30}


def learn(tasks: int = 3, **settings: Any) -> System:
    return pp.learn("packnet", tiny_features(tasks), **{**TINY, **settings})


def network_of(system: System) -> Subnetworks:
    assert isinstance(system.network, Subnetworks)
    return system.network


def test_every_task_keeps_its_part_of_what_is_free() -> None:
    system = learn()
    network = network_of(system)
    # fc1 has 8 x 8 = 64 weights. 64 - round(0.5 x 64) = 32; 32 - round(0.75 x 32) = 8; 24 - round(0.75 x 24) = 6.
    assert [network.part(f"fc1.t{i}").counts()["0.weight"] for i in range(3)] == [32, 8, 6]
    # Weights of all tasks so far, the 8 biases of the first, a head of 8 x 2 + 2.
    assert [system.cost(name).parameters for name in system.tasks] == [58, 66, 72]
    assert [system.cost(name).added_parameters for name in system.tasks] == [58, 26, 24]


def test_cumulative_ratios_say_what_is_taken_after_each_task() -> None:
    system = learn(ratios=(0.4, 0.6, 1.0), dense="task")
    network = network_of(system)
    # floor(0.4 x 64) = 25, floor(0.6 x 64) = 38 together, then all 64
    assert [network.part(f"fc1.t{i}").counts()["0.weight"] for i in range(3)] == [25, 13, 26]
    assert [system.cost(name).added_parameters for name in system.tasks] == [25 + 8 + 18, 13 + 8 + 18, 26 + 8 + 18]
    assert len(network.free("fc1", "0.weight")) == 0


def test_the_largest_weights_are_kept() -> None:
    network = network_of(learn(1, **STILL))
    task = network.tasks["task0"]
    values = network.initial("fc1.t0", task)[0]["0.weight"].flatten()
    largest = sorted(values.abs().argsort(descending=True)[:32].tolist())
    assert network.part("fc1.t0").positions("0.weight").tolist() == largest
    assert torch.equal(network.part("fc1.t0").values("0.weight").detach(), values[largest])


def test_later_tasks_start_where_pruning_left_zeros() -> None:
    network = network_of(learn(2, **STILL))
    assert network.part("fc1.t1").values("0.weight").abs().max() < 1e-20
    changed = network_of(learn(2, restart="initial", **STILL))
    # The 8 largest of 32 numbers from U(-0.354, 0.354): that 25 of them lie below 0.1 happens once in 10^8 seeds.
    assert changed.part("fc1.t1").values("0.weight").abs().min() > 0.1


def test_training_pruning_and_retraining_by_hand() -> None:
    suite = tiny_features(1)
    rates = {"learning_rate": 0.5, "retrain_rate": 0.25}
    found = pp.learn("packnet", suite, seed=4, **TINY, **rates).extract("task0", fused=False)
    start = network_of(pp.learn("packnet", suite, seed=4, **TINY, **STILL))
    data, first = suite["task0"], start.initial("fc1.t0", start.tasks["task0"])
    head = start.initial("head@t0.t0", start.tasks["task0"])
    weights = [first[0]["0.weight"], first[1]["0.bias"], head[0]["weight"], head[1]["bias"]]
    inputs = data.task.preprocess.encode(data.train.inputs())
    mask = torch.ones(8, 8)
    for rate in (0.5, 0.25):  # one step over all examples each
        leaves = [weight.clone().requires_grad_() for weight in weights]
        hidden = torch.relu(inputs @ leaves[0].T + leaves[1])
        torch.nn.functional.cross_entropy(hidden @ leaves[2].T + leaves[3], data.train.targets).backward()
        weights = [leaf.detach() - rate * leaf.grad for leaf in leaves]  # type: ignore[operator]
        if rate == 0.5:
            mask = (weights[0].abs() > weights[0].abs().flatten().kthvalue(32).values).float()
        weights[0] = weights[0] * mask
    hidden = torch.relu(inputs @ weights[0].T + weights[1])
    torch.testing.assert_close(found(inputs), hidden @ weights[2].T + weights[3])


def test_a_later_task_reads_the_weights_of_all_before_it() -> None:
    system = learn(learning_rate=0.3)
    network = network_of(system)
    weight = sum(
        torch.zeros(64).scatter(0, part.positions("0.weight"), part.values("0.weight").detach())
        for part in (network.part(f"fc1.t{i}") for i in range(3))
    )
    layer = system.extract("task2", fused=True)[0]  # the hidden layer of a plain network
    dense = torch.as_tensor(weight).view(8, 8)
    assert int(dense.ne(0).sum()) == 46
    assert all(any(torch.equal(row, other) for other in dense) for row in layer.weight.detach())  # dead units are gone
    assert network.path("task2").steps[0] == ("fc1.t0", "fc1.t1", "fc1.t2")
    assert network.path("task0").steps[0] == ("fc1.t0",)


def test_biases_and_norms_are_the_first_tasks_or_each_tasks_own() -> None:
    conv = {"kind": "conv", "blocks": [[4]], "dense": [], "norm": "batch"}
    suite = tiny_images(2)
    settings = {**TINY, "backbone": conv, "learning_rate": 0.1}
    first = pp.learn("packnet", suite, **settings).network
    own = pp.learn("packnet", suite, dense="task", **settings).network
    local = {name: set(part.tensors) for name, part in first.components().items()}
    assert not {name for name in local["conv1.t1"] if name.startswith(("own.", "stats."))}
    assert {name for name in own.components()["conv1.t1"].tensors if name.startswith("stats.")}
    with torch.no_grad():
        inputs = suite["task1"].task.preprocess.encode(suite["task1"].train.inputs())
        before = first(inputs, "task1")
        for name, value in first.named_buffers():
            if "t0.stats" in name and value.is_floating_point():
                value.add_(1.0)
        assert not torch.equal(first(inputs, "task1"), before)  # it is normalised by the first task's statistics


def test_a_task_that_others_read_cannot_be_removed_alone() -> None:
    system = learn()
    with pytest.raises(InvalidInput, match=r"'task0' cannot be removed: \['task1', 'task2'\] build on it"):
        system.remove("task0")
    assert system.remove("task2").removed == ("task2",)
    assert len(network_of(system).free("fc1", "0.weight")) == 64 - 32 - 8
    assert system.remove("task0", cascade=True).removed == ("task0", "task1")
    assert not system.network.components()


def test_tasks_with_other_inputs_get_first_layers_of_their_own_and_read_the_rest() -> None:
    from polypath.core.examples import Suite

    wide, narrow = tiny_features(1, columns=8), tiny_features(2, columns=6)
    suite = Suite("mixed", (wide.tasks[0], narrow.tasks[1]))
    network = network_of(pp.learn("packnet", suite, **{**TINY, "backbone": {"kind": "mlp", "hidden": [8, 8]}}))
    assert network.path("task1").steps == (("fc1@t1.t1",), ("fc2.t0", "fc2.t1"), ("head@t1.t1",))
    assert network.part("fc1@t1.t1").values("0.weight").abs().max() > 0.1  # nobody before it: not from zero


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prune": (1.0,)}, "each from 0 up to but not including 1; received \\[1.0\\]"),
        ({"prune": ()}, "at least one number"),
        ({"ratios": (0.6, 0.4)}, "each larger than the one before; received \\[0.6, 0.4\\]"),
        ({"ratios": (0.5, 1.5)}, "at most 1"),
        ({"ratios": (0.0, 0.5)}, "above 0"),
        ({"ratios": (0.5, 1.0), "prune": (0.3,)}, "prune and ratios say the same thing twice"),
        ({"ratios": (0.5, 1.0)}, "task 'task2': ratios \\[0.5, 1.0\\] say what 2 tasks take, and 2 are there"),
        (
            {"prune": (0.0,)},
            "layer fc1.0.weight: of its 64 weights 0 are free, which leaves none for the task; held: 64",
        ),
        ({"layers": ("conv*",)}, "match\\(es\\) no layer"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        learn(3, **settings)


def test_weights_that_are_not_finite_cannot_be_ranked() -> None:
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        learn(1, learning_rate=1e30, epochs=2)
