"""A PaRT training step with precision="auto" against a straightforward float32 NCHW module-by-module network.

Width 64, M = 12, N = 4, batch 16 and 64. Target on a CPU with AMX: at least 3x and 4x. Without bf16 matrix units
"auto" is float32 in channels-last layout. Run: python benchmarks/bench_precision.py
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from side_by_side import interleaved, ratio, write_record
from torch import nn

from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.methods.part import PaRT
from polypath.train.config import RunConfig
from polypath.train.engine import Engine


class Plain(nn.Module):
    """The nine-layer grid's path written straightforwardly: N modules a layer, one after the other."""

    def __init__(self, width: int, selected: int) -> None:
        super().__init__()
        sizes = [3, *(width * grow for grow in (1, 1, 1, 2, 2, 4, 4, 8, 8))]
        self.layers = nn.ModuleList(
            nn.ModuleList(self._module(a, b, layer == 0) for _ in range(selected))
            for layer, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))
        )
        self.head = nn.Linear(8 * width, 10)

    @staticmethod
    def _module(a: int, b: int, single: bool) -> nn.Module:
        parts: list[nn.Module] = [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
        return (
            nn.Sequential(*parts) if single else nn.Sequential(*parts, nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, 10)."""
        for number, modules in enumerate(self.layers):
            total = sum(module(x) for module in modules)
            x = F.relu(total + x if number in (1, 2, 4, 6, 8) else total)
            if number in (4, 6):
                x = F.max_pool2d(x, 2)
        return self.head(x.mean((2, 3)))


def main() -> None:
    """Time single steps of both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out")
    args = parser.parse_args()
    engine = Engine(config=RunConfig(checkpoint_every=0), progress=False)
    torch.set_num_threads(engine.threads)
    task = Task(
        name="task",
        inputs=Image(channels=3, height=32, width=32),
        target=Classification(labels=tuple("abcdefghij")),
        preprocess=ImagePreprocess(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    network = PaRT(modules=12, selected=4, width=args.width).build([task], engine)
    network.add_task(task)
    engine.place(network)
    ours = torch.optim.Adam(network.trainable(network.path("task").components), fused=True)
    plain = Plain(args.width, 4)
    theirs = torch.optim.Adam(plain.parameters())
    figures: dict[str, object] = {
        "precision": engine.precision,
        "width": args.width,
        "targets_on_amx": {"16": 3, "64": 4},
    }
    for size in args.batches:
        x, y = torch.randn(size, 3, 32, 32), torch.arange(size) % 10
        fast = x.contiguous(memory_format=torch.channels_last)

        def auto_step(fast: torch.Tensor = fast, y: torch.Tensor = y) -> None:
            with engine.autocast():
                out = network(fast, "task")
            engine.step(task.loss_of(out, y), ours)

        def plain_step(x: torch.Tensor = x, y: torch.Tensor = y) -> None:
            theirs.zero_grad()
            F.cross_entropy(plain(x), y).backward()
            theirs.step()

        seconds = interleaved({"plain": plain_step, "auto": auto_step}, args.rounds)
        figures[f"batch_{size}"] = {"speedup": ratio(seconds, "plain", "auto"), "seconds": seconds}
    write_record("precision", figures, "python benchmarks/bench_precision.py", args.out)


if __name__ == "__main__":
    main()
