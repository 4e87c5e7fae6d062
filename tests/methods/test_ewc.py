"""EWC's penalty, its importances and RWalk's path score, by hand on a trunk of one weight each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.accounting import total_parameters
from polypath.methods.ewc import EWC, Guard, normalised
from polypath.methods.training import TrainingConfig
from polypath.nn.columns import Columns
from polypath.system import System
from polypath.testing import Candidate, law_one_task_agrees, tiny_features, tiny_images
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
TINY: dict[str, Any] = {"backbone": {"kind": "mlp", "hidden": [4]}, "epochs": 2, "batch": 4, "optimizer": "sgd"}


def engine() -> Engine:
    return Engine(seed=0, config=RunConfig(device="cpu", precision="32-true", threads=1), progress=False)


def learned(penalty: str, strength: float, **settings: Any) -> System:
    values = {**TINY, "penalty": penalty, "strength": strength, "epochs": 4, "learning_rate": 0.05, **settings}
    return pp.learn("ewc", tiny_features(2), **RUN, **values)


def shared(system: System) -> torch.Tensor:
    return torch.cat([v.detach().flatten() for v in system.network.tensors(["trunk.fc1"])["trunk.fc1"].values()])


def test_classic_importance_is_the_mean_squared_gradient_of_single_examples() -> None:
    suite, run = tiny_features(1), engine()
    method = EWC(**TINY)
    network = method.build([suite.tasks[0].task], run)
    method.admit(network, suite.tasks[0].task)
    method.learn(network, suite.tasks, run)
    data = suite.tasks[0]
    expected = torch.zeros_like(network.tensors(["trunk.fc1"])["trunk.fc1"]["0.weight"])
    for row in range(len(data.train)):
        inputs = data.task.preprocess.encode(data.train.inputs(slice(row, row + 1)))
        loss = data.task.loss_of(network(inputs, data.name), data.train.targets[row : row + 1])
        weight = network.tensors(["trunk.fc1"])["trunk.fc1"]["0.weight"]
        (gradient,) = torch.autograd.grad(loss, [weight])
        expected += gradient**2 / len(data.train)
    found = network.memory.keep("trunk.fc1", "importance.0.weight", lambda: torch.zeros(()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_quadratics_of_several_tasks_add_up_to_one() -> None:
    """F1 (w - w1)^2 + F2 (w - w2)^2 has the slope 2 (F1 + F2) (w - m), m = (F1 w1 + F2 w2) / (F1 + F2)."""
    first, second = learned("classic", 1.0), None
    network = first.network
    assert isinstance(network, Columns)
    one = {k: v.clone() for k, v in network.memory.named_buffers()}
    weights_one = shared(first).clone()
    second = first.learn(tiny_features(3).tasks[2], **RUN)
    network = second.network
    assert isinstance(network, Columns)
    key = "trunk-fc1--importance-0-weight"
    assert (network.memory.get_buffer(key) >= one[key]).all()
    anchor, weight = network.memory.get_buffer("trunk-fc1--anchor-0-weight"), shared(second)[: one[key].numel()]
    low = torch.minimum(one["trunk-fc1--anchor-0-weight"].flatten(), weight) - 1e-6
    high = torch.maximum(one["trunk-fc1--anchor-0-weight"].flatten(), weight) + 1e-6
    assert ((anchor.flatten() >= low) & (anchor.flatten() <= high)).all()
    assert not torch.equal(weights_one, shared(second))


@pytest.mark.parametrize("penalty", ["classic", "online", "rwalk"])
def test_a_strong_penalty_holds_the_trunk(penalty: str) -> None:
    """The second task moves the trunk less the stronger the penalty; without one it is hard sharing in sequence."""
    moved = {}
    strong = 200.0 if penalty == "classic" else 5.0  # classic F is not normalised: gradients squared, far below 1
    for strength in (0.0, strong):
        system = learned(penalty, strength, every=1, momentum=0.0)
        before = shared(system).clone()
        system.learn(tiny_features(3).tasks[2], **RUN)
        moved[strength] = float((shared(system) - before).norm())
    assert moved[strong] < 0.9 * moved[0.0]


def test_without_strength_it_is_hard_sharing_in_sequence() -> None:
    system = learned("classic", 0.0)
    other = pp.learn(
        "hard_sharing", tiny_features(2), **RUN, **{**TINY, "epochs": 4, "learning_rate": 0.05}, mode="sequential"
    )
    assert system.network.digests() == other.network.digests()


def test_on_one_task_it_is_plain_training() -> None:
    from polypath.methods.hard_sharing import HardSharing

    law_one_task_agrees(
        [lambda: EWC(**TINY, penalty="rwalk"), lambda: HardSharing(**TINY, mode="sequential")],
        Candidate(lambda: EWC(**TINY), tiny_images(3, size=8)),
    )


def test_the_penaltys_gradient_scales_with_a_summed_loss() -> None:
    """Weight 3, anchor 1, importance 0.5: classic slope strength * 0.5 * 2, online twice that, both times the scale."""
    suite, run = tiny_features(1), engine()
    for penalty, factor in (("classic", 1.0), ("online", 2.0)):
        method = EWC(**TINY, penalty=penalty, strength=7.0)
        network = method.build([suite.tasks[0].task], run)
        method.admit(network, suite.tasks[0].task)
        guard = Guard(network, ["trunk.fc1"], method.config, scale=4.0)
        guard.first = False
        with torch.no_grad():
            for key, weight in guard.weights.items():
                weight.fill_(3.0)
                guard.anchor[key].fill_(1.0)
                guard.importance[key].fill_(0.5)
        with guard:
            sum((weight * 0).sum() for weight in guard.weights.values()).backward()  # type: ignore[union-attr]
        for weight in guard.weights.values():
            assert weight.grad is not None
            torch.testing.assert_close(weight.grad, torch.full_like(weight, factor * 7.0 * 0.5 * 2.0 * 4.0))


def test_the_path_score_is_the_loss_saved_over_the_distance() -> None:
    """One step by -0.1 under a gradient of 2: gain 0.2, squared distance 0.01, running F 4: 0.2 / (0.001 + 0.04)."""
    suite, run = tiny_features(1), engine()
    method = EWC(**TINY, penalty="rwalk", every=1)
    network = method.build([suite.tasks[0].task], run)
    method.admit(network, suite.tasks[0].task)
    guard = Guard(network, ["trunk.fc1"], method.config, scale=1.0)
    with guard:
        sum((2 * weight).sum() for weight in guard.weights.values()).backward()  # type: ignore[union-attr]
    with torch.no_grad():
        for weight in guard.weights.values():
            weight.sub_(0.1)
    guard.stepped()
    # the very first running F is the first squared gradient, 4; then 0.1 * 4 + 0.9 * 4 = 4
    expected = 0.2 / (1e-3 + 4.0 * 0.1**2)
    for key in guard.weights:
        torch.testing.assert_close(guard.path[key], torch.full_like(guard.path[key], expected), rtol=1e-4, atol=0)


def test_importances_are_brought_to_zero_and_one_together() -> None:
    found = normalised({("a", "w"): torch.tensor([1.0, 3.0]), ("b", "w"): torch.tensor([5.0])})
    assert found["a", "w"].tolist() == [0.0, 0.5] and found["b", "w"].tolist() == [1.0]


def test_importances_are_not_counted() -> None:
    system = learned("online", 1.0)
    assert total_parameters(system.network) == sum(p.numel() for p in system.network.parameters())
    assert system.isolation == "drifts"
    assert issubclass(type(EWC(**TINY).config), TrainingConfig)
