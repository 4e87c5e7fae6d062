"""What the engine's loop costs over a bare hand-written PyTorch loop: same network, data and batches, in float32.

Target: at most 5 %. Run: python benchmarks/bench_loop.py
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from side_by_side import interleaved, ratio, write_record

from polypath.core.examples import Suite
from polypath.data import arrays
from polypath.methods.part import PaRT
from polypath.train.config import RunConfig
from polypath.train.engine import Engine


def suite(tasks: int, images: int) -> Suite:
    """Seeded random images: the loop does not care what is on them."""
    stream = torch.Generator().manual_seed(0)
    items = []
    for number in range(tasks):
        x = torch.randint(0, 256, (images, 3, 32, 32), generator=stream).to(torch.uint8)
        y = torch.arange(images) % 10
        items.append(arrays(f"task{number}", train=(x, y), labels=[str(i) for i in range(10)]))
    return Suite("random", tuple(items))


def main() -> None:
    """Time epochs of both loops in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out")
    args = parser.parse_args()
    data = suite(2, args.images)
    engine = Engine(config=RunConfig(checkpoint_every=0, threads=args.threads, precision="32-true"), progress=False)
    torch.set_num_threads(engine.threads)
    method = PaRT(modules=6, selected=4, width=args.width, batch=args.batch, epochs=1, evaluate_every=0)
    network = method.build([item.task for item in data], engine)
    for item in data:
        network.add_task(item.task)
    engine.place(network)
    bare = bare_loop(network, data, args.batch)
    seconds = interleaved({"bare": bare, "engine": lambda: method.learn(network, list(data), engine)}, args.rounds)
    over = ratio(seconds, "engine", "bare")
    figures: dict[str, Any] = {"engine_over_bare": over, "width": args.width, "batch": args.batch, "target": 1.05}
    write_record(
        "loop", {**figures, "rounds": args.rounds, "seconds": seconds}, "python benchmarks/bench_loop.py", args.out
    )


def bare_loop(network: torch.nn.Module, data: Suite, batch: int) -> Any:
    """One epoch as anybody would write it by hand."""
    mean = torch.tensor(data.tasks[0].task.preprocess.mean).view(-1, 1, 1)
    std = torch.tensor(data.tasks[0].task.preprocess.std).view(-1, 1, 1)

    def epoch() -> None:
        optimizers = {
            item.name: torch.optim.Adam(network.trainable(network.path(item.name).components), fused=True)
            for item in data
        }
        network.train()
        for item in data:
            optimizer = optimizers[item.name]
            order = torch.randperm(len(item.train))
            for rows in order.split(batch):
                x = ((item.train.inputs(rows).float() / 255) - mean) / std
                x = x.contiguous(memory_format=torch.channels_last)
                loss = F.cross_entropy(network(x, item.name), item.train.targets[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()

    return epoch


if __name__ == "__main__":
    main()
