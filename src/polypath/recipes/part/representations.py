"""What sharing modules does to representations: CKA between two tasks (paper section 5.1, figures 8 to 12).

Full: the ResNet-50 grid from ImageNet weights, M = 4, N = 2, two tasks with hand-set paths: both modules of the named
layers are shared, those of the others are not. Three seeds, 1,000 samples, RBF kernel with a bandwidth of half the
median distance. Experiment A (part/representations) is Stanford Cars and CUBs, B (part/representations_b) Flowers and
Sketches; the folders are those of part/five_tasks. The paper shows ten setups and names six of them (none, 1, 3, 123,
5, 12345); the other four here are ours.
Quick: the same code on CIFAR-10 and Fashion-MNIST, width 8, no ImageNet, five setups.
Run: polypath run part/representations --out runs/representations
"""

from __future__ import annotations

from typing import Any

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant
from polypath.recipes.part import SEEDS
from polypath.recipes.part.folders import folder_task

_SETUPS: tuple[str, ...] = ("", "1", "2", "3", "4", "5", "12", "123", "1234", "12345")
_QUICK = ("", "1", "3", "123", "12345")
_DEPTH = 5


def shared_paths(first: str, second: str, shared: str) -> dict[str, list[list[int]]]:
    """Rows of two tasks with M = 4, N = 2 that share both modules of the layers named by digits, and no others."""
    rows: dict[str, list[list[int]]] = {first: [], second: []}
    for layer in range(1, _DEPTH + 1):
        rows[first].append([0, 1])
        rows[second].append([0, 1] if str(layer) in shared else [2, 3])
    return rows


def experiment(size: Size = "full") -> Experiment:
    """Experiment A: Stanford Cars and CUBs."""
    return _study("part/representations", "cars", "cubs", size)


def experiment_b(size: Size = "full") -> Experiment:
    """Experiment B: Flowers and Sketches."""
    return _study("part/representations_b", "flowers", "sketches", size)


def _study(recipe: str, first: str, second: str, size: Size) -> Experiment:
    base: dict[str, Any] = {
        "layout": "resnet50",
        "norm": "task",
        "modules": 4,
        "selected": 2,
        "learning_rate": 1e-4,
        "batch": 32,
        "batch_set": 50,
        "epochs": 80,
    }
    cka: dict[str, Any] = {"samples": 1000, "kernel": "rbf", "fraction": 0.5, "layers": list(range(1, _DEPTH + 1))}
    small: dict[str, Any] = {"size": 32, "fit": "stretch", "channels": 3}
    setups: tuple[str, ...] = _SETUPS
    seeds = SEEDS[:3]
    if size == "full":
        suites = [folder_task(first), folder_task(second)]
        base |= {"pretrained": "resnet50.tv_in1k"}
        cka |= {"pool": 14}
    else:
        first, second = ("cifar10", "fashion_mnist") if size == "quick" else ("low", "high")
        base |= {"width": 8 if size == "quick" else 2, "epochs": 3 if size == "quick" else 1, "batch_set": 5}
        base |= {"learning_rate": 1e-3, "evaluate_every": 0}
        cka["samples"] = 400 if size == "quick" else 16
        seeds = SEEDS[:1]
        if size == "quick":
            each = {"kind": "whole", "per_class": 50, "test_per_class": 50, **small}
            suites = [{**each, "dataset": name, "task": name} for name in (first, second)]
            setups = _QUICK
        else:
            each = {"kind": "split", "dataset": "digits", "per_class": 8, "test_per_class": 4, **small}
            suites = [{**each, "classes": [[0, 1]], "prefix": "low"}, {**each, "classes": [[8, 9]], "prefix": "high"}]
            setups, first, second = ("", "1"), "low1", "high1"
    variants = {
        f"layer-{setup}" if setup else "no-layer": Variant(
            method="part", config={**base, "paths": shared_paths(first, second, setup)}, analysis=("cka",)
        )
        for setup in setups
    }
    return Experiment(
        recipe=recipe,
        size=size,
        title="What sharing modules does to two tasks' representations",
        paper="PaRT, section 5.1, figures 8 to 12",
        suite={"kind": "mix", "suites": suites},
        variants=variants,
        main="no-layer",
        seeds=seeds,
        analysis_options={"cka": cka},
    )
