"""DF-CNN against the plain network of the same shape: training step, extracted inference, memory of an added task.

The paper's CIFAR network, ten classes. Targets: a training step at most 1.15x at batch 64 and 1.6x at batch 10;
inference of the extracted path at most 1.02x; the memory of an added task is what its parameters (and, once it learns,
its accumulators) are counted to be. Run: python benchmarks/bench_dfcnn.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import interleaved, ratio, write_record
from torch import nn

from polypath.core import accounting
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.methods.dfcnn import DFCNN
from polypath.nn.columns import Columns, ColumnsConfig
from polypath.nn.factorized import Factorized
from polypath.ops.rmsprop import RMSProp
from polypath.train.config import RunConfig
from polypath.train.engine import Engine


def main() -> None:
    """Time steps and forwards of both in turns; count bytes before and after a task is added."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    method = DFCNN()
    factorized = method.build([task("first")], engine())
    plain = Columns(ColumnsConfig(backbone={"kind": "dfcnn"}, seed=0))
    for network in (factorized, plain):
        network.add_task(task("first"))
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    figures: dict[str, Any] = {
        "targets": {"step batch 64": 1.15, "step batch 10": 1.6, "extracted": 1.02},
        "parameters of a task": {
            "plain": accounting.total_parameters(plain),
            "dfcnn": accounting.cost(factorized, "first").parameters,
        },
    }
    for batch in (10, 64):
        x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        y = torch.randint(0, 10, (batch,))
        actions = {"dfcnn": stepping(factorized, x, y), "plain": stepping(plain, x, y)}
        seconds = interleaved(actions, args.rounds, warmup=3)
        figures[f"training step, batch {batch}"] = {**ratio(seconds, "dfcnn", "plain"), "seconds": seconds}
    modules = {
        name: network.eval().extract("first").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, network in (("dfcnn", factorized), ("plain", plain))
    }
    for batch in (1, 64):
        x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        actions = {name: inferring(module, x) for name, module in modules.items()}
        seconds = interleaved(actions, args.rounds * 2, warmup=5)
        figures[f"extracted inference, batch {batch}"] = {**ratio(seconds, "dfcnn", "plain"), "seconds": seconds}
    figures["memory of an added task"] = memory(factorized, method)
    write_record("dfcnn", figures, "python benchmarks/bench_dfcnn.py", args.out)


def memory(network: Factorized, method: DFCNN) -> dict[str, Any]:
    """Bytes that adding a task takes, against four bytes a counted parameter; then those of its accumulators."""
    before = held(network)
    network.add_task(task("second"))
    added = held(network) - before
    counted = 4 * accounting.cost(network, "second").added_parameters
    method._optimizer(network, "second")
    squares = held(network) - before - added
    bases = sum(base.values.numel() for base in network.bases.values())  # type: ignore[union-attr]
    return {
        "bytes added": added,
        "bytes counted": counted,
        "added / counted": added / counted,
        "accumulators, bytes": squares,
        "accumulators / (counted + bases)": squares / (counted + 4 * bases),
    }


def held(network: nn.Module) -> int:
    """Bytes of all tensors of a network."""
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def stepping(network: Columns, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    """One training step: forward, backward, RMSProp."""
    parameters = network.trainable(network.path("first").components)
    optimizer = RMSProp(parameters, lr=1e-6)
    loss_of = network.tasks["first"].loss_of

    def step() -> None:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        loss_of(network(x, "first"), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def inferring(module: nn.Module, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """One forward in inference mode."""

    def run() -> torch.Tensor:
        with torch.inference_mode():
            out: torch.Tensor = module(x)
            return out

    return run


def engine() -> Engine:
    """A run on the CPU, for building."""
    return Engine(seed=0, config=RunConfig(device="cpu", checkpoint_every=0), progress=False)


def task(name: str) -> Task:
    """A ten-class task on 32-pixel images."""
    return Task(
        name=name,
        inputs=Image(channels=3, height=32, width=32),
        target=Classification(labels=tuple("abcdefghij")),
        preprocess=ImagePreprocess(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3),
    )


if __name__ == "__main__":
    main()
