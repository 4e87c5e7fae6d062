"""Every law, applied to every method of the table in tiny configurations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from polypath.methods import METHODS, method_class
from polypath.testing import LAWS, Candidate, law_one_task_agrees, tiny_images

CIFAR = {"modules": 3, "selected": 2, "width": 2, "epochs": 2, "batch": 8, "batch_set": 1}
RESNET = {**CIFAR, "layout": "resnet50", "modules": 2, "selected": 1}
SMALL, LARGE = {"size": 8}, {"size": 32}  # a ResNet-50 divides the sides by 32

# Name of a configuration -> (method, settings, suite). A method of the table without one fails a test below.
TINY: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "part parallel": ("part", {**CIFAR, "mode": "parallel"}, SMALL),
    "part parallel, norm a task": ("part", {**CIFAR, "mode": "parallel", "norm": "task"}, SMALL),
    "part sequential": ("part", {**CIFAR, "mode": "sequential"}, SMALL),
    "part sequential, norm a task": ("part", {**CIFAR, "mode": "sequential", "norm": "task"}, SMALL),
    "part single": ("part", {**CIFAR, "mode": "single"}, SMALL),
    "part parallel, ResNet-50, norm a task": ("part", {**RESNET, "mode": "parallel", "norm": "task"}, LARGE),
    "part sequential, ResNet-50": ("part", {**RESNET, "mode": "sequential"}, LARGE),
    "part single, ResNet-50, norm a task": ("part", {**RESNET, "mode": "single", "norm": "task"}, LARGE),
}


def factory(method: str, settings: dict[str, Any]) -> Callable[[], Any]:
    return lambda: method_class(method)(**settings)


@cache  # one candidate a configuration: what it learned serves all laws
def candidate(name: str) -> Candidate:
    method, settings, suite = TINY[name]
    return Candidate(factory(method, settings), tiny_images(**suite))


def test_every_method_sits_the_exam() -> None:
    assert {method for method, _, _ in TINY.values()} == set(METHODS)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("law", LAWS)
def test_law(law: str, name: str) -> None:
    LAWS[law](candidate(name))


@pytest.mark.parametrize("norm", ["shared", "task"])
def test_on_one_task_all_modes_of_part_are_plain_training(norm: str) -> None:
    modes = ["parallel", "sequential", "single"]
    law_one_task_agrees(
        [factory("part", {**CIFAR, "mode": mode, "norm": norm, "epochs": 1}) for mode in modes],
        candidate("part single"),
    )
