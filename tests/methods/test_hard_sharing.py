from __future__ import annotations

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.testing import tiny_features, tiny_images

TINY = {"backbone": {"kind": "mlp", "hidden": [8]}, "epochs": 2, "batch": 8, "threads": 1, "progress": False}


def test_the_trunk_is_stored_once() -> None:
    system = pp.learn("hard_sharing", tiny_features(3), **TINY)
    assert [system.cost(name).added_parameters for name in system.tasks] == [90, 18, 18]
    assert system.sharing().users["trunk.fc1"] == ("task0", "task1", "task2")
    assert system.isolation == "joint"


def test_a_step_follows_the_sum_of_the_tasks_losses() -> None:
    suite = tiny_features(2, per_class=4)
    settings = {**TINY, "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1, "epochs": 1, "batch": 100}
    start = pp.learn("hard_sharing", suite, **{**settings, "learning_rate": 1e-30}).network
    moved = pp.learn("hard_sharing", suite, **settings).network
    key = "columns.shared.fc1.0.weight"
    change = (moved.state_dict()[key] - start.state_dict()[key]) / -0.1
    # Task 1 is larger by one example, so one example of task 0 is drawn twice: its gradient lies between two means.
    start.train()
    gradients = []
    for name in suite.names:
        data = suite[name]
        start.zero_grad()
        outputs = start(data.task.preprocess.encode(data.train.inputs()), name)
        data.task.loss_of(outputs, data.train.targets).backward()
        gradients.append(start.get_parameter(key).grad.clone())
    assert torch.nn.functional.cosine_similarity(change.flatten(), sum(gradients).flatten(), dim=0) > 0.99


def test_sequential_mode_lets_known_tasks_drift() -> None:
    system = pp.learn("hard_sharing", tiny_features(2), mode="sequential", **TINY)
    assert system.isolation == "drifts"
    assert system.verify().tasks["task0"].drift > 0


def test_tasks_of_different_shapes_are_refused() -> None:
    from polypath.core.examples import Suite

    mixed = Suite("mixed", (*tiny_features(1), tiny_images(2).tasks[1]))
    with pytest.raises(InvalidInput, match="whose inputs have one shape: 'task0'"):
        pp.learn("hard_sharing", mixed, **TINY)
