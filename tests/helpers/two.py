"""One of two processes that learn together: `torchrun --nproc_per_node 2 two.py OUT`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import tiny
import torch

import polypath as pp
from polypath.core.files import write_atomically
from polypath.train.config import RunConfig
from polypath.train.engine import Engine


def gradient(engine: Engine) -> torch.Tensor:
    """Gradient of one step of a network without BatchNorm, from this process's share of the first batch."""
    with engine.seeded("layer"):
        layer = torch.nn.Linear(64, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    data = tiny.data("grad", count=16)
    (batch,) = engine.batches(data, 16, "grad")
    loss = torch.nn.functional.cross_entropy(layer(batch.inputs.flatten(1)), batch.targets)
    engine.step(loss, optimizer)
    return torch.cat([p.grad.flatten() for p in layer.parameters() if p.grad is not None])


def seen(engine: Engine, count: int) -> list[int]:
    """Which examples this process gets in an epoch; the first pixel of an example is its number."""
    data = tiny.data("seen", count=count)
    data.train.source.values[:, 0, 0, 0] = torch.arange(count)  # type: ignore[attr-defined]
    found = []
    for batch in engine.batches(data, 8, "seen"):
        found += ((batch.inputs[:, 0, 0, 0] * 0.25 + 0.5) * 255).round().int().tolist()
    return found


def shares(devices: int) -> dict[str, Any]:
    """What this process computes and sees."""
    engine = Engine(config=RunConfig(device="cpu", devices=devices, threads=1, precision="32-true"), progress=False)
    return {"gradient": gradient(engine).tolist(), "seen": seen(engine, 20)}


def main(folder: Path, rank: int, devices: int) -> None:
    torch.set_num_threads(1)
    facts = shares(devices)
    out = folder / "run"
    system = tiny.learn(tiny.suite(2), devices=devices, mode="sequential", out=out)
    facts["digest"] = tiny.state_digest(system)
    facts["loaded"] = tiny.state_digest(whole(out / "system"))  # rank 1, too, finds it on disk
    facts["losses"] = [v for c in system.result.curves if c.metric == "loss" for v in c.values]
    again = tiny.learn(tiny.suite(2), devices=devices, mode="sequential", out=out, resume=True)
    again.load_all()
    facts["again"] = tiny.state_digest(again)
    try:  # one process alone is asked to stop
        tiny.learn(tiny.suite(2), devices=devices, epochs=50, on_progress=lambda p: rank == 1 and p.epoch == 1)
    except pp.errors.Cancelled as error:
        facts["cancelled"] = str(error)
    try:
        tiny.learn(tiny.suite(1), devices=1, out=folder / "alone")
    except pp.errors.InvalidInput as error:
        facts["refused"] = str(error)
    write_atomically(folder / f"rank-{rank}.json", lambda file: file.write(json.dumps(facts).encode()))


def whole(folder: Path) -> pp.System:
    system = pp.load(folder)
    system.load_all()
    return system


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
