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
PLAIN = {"backbone": {"kind": "mlp", "hidden": [8]}, "epochs": 2, "batch": 8}
CONV = {"kind": "conv", "blocks": [[4, 4], [4]], "dense": [6], "norm": "batch"}
SUBNET = {"share": 0.3, "batch": 8, "epochs": 2, "patience": 1, "min_delta": 0.0, "samples": 8}
NARROW = {**SUBNET, "backbone": {"kind": "mlp", "hidden": [12, 8]}}
CHANNELS = {**SUBNET, "backbone": {**CONV, "blocks": [[4, 6]]}}
GENERATED = {"kind": "dfcnn", "channels": [2, 2, 3, 3], "hidden": [4]}
DFCNN = {"backbone": GENERATED, "knowledge": [2] * 4, "basis": [3] * 4, "epochs": 2, "batch": 8, "drop_last": False}
THIN = {"kind": "resnet18", "stem": "paper", "width": 1 / 8}
JOINT = {"epochs": 2, "batch": 8, "learning_rate": 0.05, "decay_at": []}
MULTI = {**JOINT, "distill": False}
PACKED = {"backbone": {"kind": "mlp", "hidden": [8, 6]}, "batch": 8, "epochs": 2, "retrain_epochs": 1, "decay_at": ()}
NESTED = {"backbone": {"kind": "mlp", "hidden": [8, 5]}, "ratios": (0.4, 0.6, 1.0), "batch": 8, "epochs": 2}
PICKED = {**PACKED, "goal": 0.0, "sparsities": (0.5, 0.8), "prune_epochs": 1, "prune_every": 2, "mask_rate": 2e-3}
del PICKED["retrain_epochs"]
SMALL, LARGE = {"size": 8}, {"size": 32}  # a ResNet-50 divides the sides by 32

# These learn several times each. Pairs are enough for them: every one meets every mode, norm and layout in a
# configuration of FULL; the rest of the laws look at one learned system and are applied to all configurations.
SEVERAL_RUNS = {
    "no_global_state_is_changed",
    "same_seed_same_system",
    "killed_runs_resume",
    "loaded_continues_identically",
    "store_never_overwrites",
    "removed_can_return",
}
FULL = {
    "part parallel",
    "part sequential, norm a task",
    "part single",
    "part parallel, ResNet-50, norm a task",
    "single, stopped early",
    "rsn2",
    "rsn2, one after the other, BatchNorm",
    "rsn2, magnitude after a dense epoch",
    "hard sharing",
    "hard sharing, sequential, BatchNorm",
    "dfcnn",
    "dfcnn multitask, tc2",
    "ewc, classic",
    "ewc, RWalk, BatchNorm",
    "prognn",
    "tensor train, from single",
    "den, convolutions",
    "multipath, cuts inside blocks",
    "multipath, every exit, teachers",
    "adashare",
    "packnet",
    "cpg",
    "cpg, single goal, BatchNorm",
    "nestednet, BatchNorm",
    "nestednet, magnitude",
}

# Name of a configuration -> (method, settings, suite). A method of the table without one fails a test below.
TINY: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "part parallel": ("part", {**CIFAR, "mode": "parallel"}, SMALL),
    "part parallel, norm a task": ("part", {**CIFAR, "mode": "parallel", "norm": "task"}, SMALL),
    "part sequential": ("part", {**CIFAR, "mode": "sequential"}, SMALL),
    "part sequential, norm a task": ("part", {**CIFAR, "mode": "sequential", "norm": "task"}, SMALL),
    "part single": ("part", {**CIFAR, "mode": "single"}, SMALL),
    "part parallel, ResNet-50, norm a task": ("part", {**RESNET, "mode": "parallel", "norm": "task"}, LARGE),
    "part sequential, ResNet-50": ("part", {**RESNET, "mode": "sequential"}, LARGE),
    "single, stopped early": ("single", {**PLAIN, "epochs": 3, "patience": 1, "min_delta": 0.5}, SMALL),
    "single, BatchNorm": ("single", {**PLAIN, "backbone": CONV}, SMALL),
    "hard sharing": ("hard_sharing", PLAIN, SMALL),
    "hard sharing, sequential, BatchNorm": ("hard_sharing", {**PLAIN, "backbone": CONV, "mode": "sequential"}, SMALL),
    "rsn2": ("rsn2", NARROW, SMALL),
    "rsn2, one after the other, BatchNorm": ("rsn2", {**CHANNELS, "order": "sequential", "patience": 0}, SMALL),
    "rsn2, magnitude after a dense epoch": (
        "rsn2",
        {**NARROW, "select": "magnitude", "dense_epochs": 1, "heads": "dense", "mask_bias": True, "scope": "global"},
        SMALL,
    ),
    "cpg": ("cpg", {**PICKED, "goal": 1.1}, SMALL),  # which nobody reaches: the network grows
    "cpg, single goal, BatchNorm": (
        "cpg",
        {**PICKED, "backbone": {**CONV, "blocks": [[4, 6]]}, "goal": "single", "epochs": 1, "sparsities": (0.5,)},
        SMALL,
    ),
    "dfcnn": ("dfcnn", DFCNN, SMALL),
    "dfcnn multitask, tc2": ("dfcnn", {**DFCNN, "mode": "multitask", "variant": "tc2", "maps": [2] * 4}, SMALL),
    "dfcnn direct, BatchNorm": (
        "dfcnn",
        {"backbone": CONV, "epochs": 2, "batch": 8, "variant": "direct", "optimizer": "adam"},
        SMALL,
    ),
    "hard sharing, own dense layers, RMSProp": (
        "hard_sharing",
        {**PLAIN, "backbone": GENERATED, "mode": "sequential", "optimizer": "rmsprop_tf1"},
        SMALL,
    ),
    "hard sharing, drawn": ("hard_sharing", {**PLAIN, "backbone": GENERATED, "mode": "drawn"}, SMALL),
    "ewc, classic": ("ewc", PLAIN, SMALL),
    "ewc, RWalk, BatchNorm": (
        "ewc",
        {**PLAIN, "backbone": CONV, "penalty": "rwalk", "every": 1, "optimizer": "rmsprop_tf1"},
        SMALL,
    ),
    "tensor, Tucker": ("tensor_factorisation", {**PLAIN, "backbone": GENERATED}, SMALL),
    "tensor train, from single": (
        "tensor_factorisation",
        {**PLAIN, "backbone": GENERATED, "form": "tt", "rank": 0.5, "start": "single", "start_epochs": 1},
        SMALL,
    ),
    "den": ("den", {**PLAIN, "units": 2, "learning_rate": 0.05}, SMALL),
    "den, convolutions": (
        "den",
        {**PLAIN, "backbone": GENERATED, "units": 2, "learning_rate": 0.05, "optimizer": "rmsprop_tf1"},
        SMALL,
    ),
    "prognn": ("prognn", {**PLAIN, "backbone": CONV}, SMALL),
    "nestednet": ("nestednet", NESTED, SMALL),
    "nestednet, BatchNorm": (
        "nestednet",
        {**NESTED, "backbone": {**CONV, "dense": [5]}, "ratios": (0.5, 0.75, 1)},
        SMALL,
    ),
    "nestednet, magnitude": (
        "nestednet",
        {**NESTED, "select": "magnitude", "search_epochs": 2, "update_every": 2, "epochs": 1},
        SMALL,
    ),
    "packnet": ("packnet", PACKED, SMALL),
    "packnet, ratios, BatchNorm a task": (
        "packnet",
        {**PACKED, "backbone": {**CONV, "blocks": [[4, 6]]}, "ratios": (0.4, 0.8, 1.0), "dense": "task"},
        SMALL,
    ),
    "part single, ResNet-50, norm a task": ("part", {**RESNET, "mode": "single", "norm": "task"}, LARGE),
    "multipath, cuts inside blocks": (
        "multipath",
        {**MULTI, "backbone": THIN, "cuts": ["layer1_0_conv1", "layer1_1"]},
        SMALL,
    ),
    "multipath, every exit, teachers": (
        "multipath",
        {**MULTI, "backbone": CONV, "exits": "all", "distill": True, "cuts": ["conv1", "conv3", "fc1"]},
        SMALL,
    ),
    "mtan": ("mtan", {**JOINT, "backbone": THIN}, SMALL),
    "adashare": ("adashare", {**JOINT, "backbone": THIN, "search_epochs": 2, "warmup_epochs": 1, "draws": 2}, SMALL),
    "multipath, by difficulty": (
        "multipath",
        {**MULTI, "backbone": CONV, "assign": "difficulty", "probe_epochs": 1},
        SMALL,
    ),
}


def factory(method: str, settings: dict[str, Any]) -> Callable[[], Any]:
    return lambda: method_class(method)(**settings)


@cache  # one candidate a configuration: what it learned serves all laws
def candidate(name: str) -> Candidate:
    method, settings, suite = TINY[name]
    return Candidate(factory(method, settings), tiny_images(**suite))


def test_every_method_sits_the_exam() -> None:
    assert {method for method, _, _ in TINY.values()} == set(METHODS)


def test_every_law_meets_every_mode_norm_and_layout_of_part() -> None:
    assert LAWS.keys() > SEVERAL_RUNS and TINY.keys() > FULL
    chosen = [TINY[name][1] for name in FULL if TINY[name][0] == "part"]
    assert {settings["mode"] for settings in chosen} == {"parallel", "sequential", "single"}
    assert {settings.get("norm") for settings in chosen} == {None, "task"}
    assert {settings.get("layout") for settings in chosen} == {None, "resnet50"}


@pytest.mark.parametrize(
    ("law", "name"), [(law, name) for law in LAWS for name in TINY if name in FULL or law not in SEVERAL_RUNS]
)
def test_law(law: str, name: str) -> None:
    LAWS[law](candidate(name))


@pytest.mark.parametrize("norm", ["shared", "task"])
def test_on_one_task_all_modes_of_part_are_plain_training(norm: str) -> None:
    modes = ["parallel", "sequential", "single"]
    law_one_task_agrees(
        [factory("part", {**CIFAR, "mode": mode, "norm": norm, "epochs": 1}) for mode in modes],
        candidate("part single"),
    )
