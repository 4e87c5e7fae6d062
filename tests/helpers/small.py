"""Systems on small tables, learned in a fraction of a second, and ways to look into every file of their folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import polypath as pp
from polypath.core.examples import Suite, TaskData
from polypath.system import System
from polypath.testing import tiny_features

QUIET: dict[str, Any] = {"progress": False, "threads": 1, "device": "cpu", "precision": "32-true"}
MLP = {"kind": "mlp", "hidden": [12, 8]}
PLAIN: dict[str, Any] = {"backbone": MLP, "epochs": 1, "batch": 8}
METHODS: dict[str, dict[str, Any]] = {
    "rsn2": {"backbone": MLP, "share": 0.2, "batch": 8, "epochs": 1, "patience": 0, "samples": 8},  # exact
    "packnet": {"backbone": MLP, "batch": 8, "epochs": 1, "retrain_epochs": 1, "decay_at": ()},  # builds on others
    "hard_sharing": PLAIN,  # joint
    "ewc": PLAIN,  # drifts
    "prognn": PLAIN,
}
TASKS = tiny_features(tasks=5)


def task(number: int, name: str | None = None, private_to: str | None = None, seed: int | None = None) -> TaskData:
    """Task `number` of five, perhaps under another name, private, or with other data."""
    data = TASKS[f"task{number}"] if seed is None else tiny_features(tasks=5, seed=seed)[f"task{number}"]
    return replace(data, task=data.task.changed(name=name or data.name, private_to=private_to))


def suite(*data: TaskData) -> Suite:
    return Suite("small", data)


def learn(method: str = "rsn2", tasks: int = 2, data: Suite | None = None, **settings: Any) -> System:
    chosen = data or suite(*(task(number) for number in range(tasks)))
    return pp.learn(method, chosen, **{**METHODS[method], **settings}, **QUIET)


def answers(system: System, name: str) -> torch.Tensor:
    """Outputs bit for bit, before any fusing."""
    task = system.tasks[name]
    inputs = task.preprocess.encode(torch.linspace(-1, 1, 24).reshape(3, 8))
    with torch.no_grad():
        found: torch.Tensor = system.extract(name, fused=False)(inputs)
    return found


def bytes_of(system: System, names: list[str]) -> list[bytes]:
    """The raw bytes of every tensor of components, where there are enough of them to be telling."""
    system.load_all()
    held = [tensor for values in system.network.tensors(names).values() for tensor in values.values()]
    raw = [tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() for tensor in held]
    return [data for data in raw if len(data) >= 8 and len(set(data)) > 4]


def files_with(folder: Path, wanted: bytes) -> list[str]:
    """Every file below a folder that holds these bytes."""
    return [
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and wanted in path.read_bytes()
    ]
