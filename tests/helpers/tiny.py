"""Tasks small enough to learn in a second, made by hand, and what two runs have in common."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

import polypath as pp
from polypath.core.component import digest
from polypath.core.examples import Examples, Sealed, Suite, TaskData
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, MultiLabel, Regression, Task
from polypath.system import System

SIZE = 8
SETTINGS: dict[str, Any] = {
    "modules": 3,
    "selected": 2,
    "width": 2,
    "epochs": 2,
    "batch": 8,
    "batch_set": 2,
    "threads": 1,
    "precision": "32-true",
    "device": "cpu",
    "progress": False,
}


def pixels(count: int, seed: int, channels: int = 1) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, SIZE, SIZE), generator=stream).to(torch.uint8)


def preprocess(channels: int = 1, **values: Any) -> ImagePreprocess:
    fixed = {"channels": channels, "height": SIZE, "width": SIZE}
    return ImagePreprocess(**fixed, mean=(0.5,) * channels, std=(0.25,) * channels, **values)


def task(name: str, target: Any = None, channels: int = 1, private_to: str | None = None, **values: Any) -> Task:
    return Task(
        name=name,
        inputs=Image(channels=channels, height=SIZE, width=SIZE),
        target=target or Classification(labels=("dark", "bright")),
        preprocess=preprocess(channels, **values),
        private_to=private_to,
    )


def targets(kind: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Dark or bright, the mean grey value, or whether each half is bright: all can be read off the pixels."""
    bright = inputs.float().mean((1, 2, 3))
    if isinstance(kind, Regression):
        return bright[:, None]
    if isinstance(kind, MultiLabel):
        halves = inputs.float().unflatten(3, (2, -1)).mean((1, 2, 4))
        return (halves > halves.median()).float()
    return (bright > bright.median()).long()


def data(
    name: str,
    count: int = 16,
    seed: int = 0,
    target: Any = None,
    channels: int = 1,
    private_to: str | None = None,
    validation: bool = False,
) -> TaskData:
    inputs = [pixels(n, seed * 10 + i, channels) for i, n in enumerate((count, 10, 6))]
    made = task(name, target, channels, private_to)
    train, test, val = (Examples.of(x, targets(made.target, x)) for x in inputs)
    return TaskData(made, train, val=val if validation else None, test=Sealed(test))


def suite(tasks: int = 3, **values: Any) -> Suite:
    return Suite("tiny", tuple(data(f"task{i}", seed=i, **values) for i in range(1, tasks + 1)))


def learn(data: Any, **settings: Any) -> System:
    return pp.learn("part", data, **{**SETTINGS, **settings})


def evolve(data: Any, **settings: Any) -> System:
    """mu2Net on a small MLP: two generations of two children in each of two iterations a task."""
    fixed: dict[str, Any] = {"root": {"kind": "mlp", "hidden": [6, 6, 6]}, "iterations": 2, "generations": 2}
    rates = {"mu": [0.5], "learning_rate": [0.2, 0.5], "crop": [False]}
    fixed |= {"children": 2, "cycles": 2, "batch": 8, "hyperparameters": rates}
    fixed |= {key: SETTINGS[key] for key in ("threads", "precision", "device", "progress")}
    return pp.learn("mu2net", data, **{**fixed, **settings})


def fill(system: System, seed: int = 0) -> System:
    """The system with BatchNorm statistics, gains and offsets that no fresh network has."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in system.network.state_dict().items():
            if value.is_floating_point():
                value += torch.rand(value.shape, generator=stream) * (0.5 if "norm" in key else 0.1)
    return system


def outcome(folder: Path) -> dict[str, Any]:
    """What a resumed run must have in common with the unbroken one: all but times, machine and memory."""
    manifest = json.loads((folder / "system" / "manifest.json").read_text())
    del manifest["sha256"]  # of what is left, with its times
    for event in manifest["history"]:
        del event["at"]
    result = json.loads((folder / "results.json").read_text())
    del result["timing"], result["environment"]
    files = sorted(p.name for p in (folder / "system" / "components").rglob("*") if p.is_file())
    left = sorted(p.name for p in folder.rglob("*") if p.name.endswith(".part"))
    return {
        "manifest": manifest,
        "result": result,
        "components": files,
        "metrics": re.sub(r'"seconds": [0-9.e-]+', '"seconds": 0', (folder / "metrics.jsonl").read_text()),
        "checkpoints": sorted(p.name for p in folder.glob("checkpoint/*")),
        "left over": left,
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the writer's lock."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def state_digest(system: System) -> str:
    return digest(system.network.state_dict())
