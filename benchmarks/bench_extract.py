"""An extracted path (BatchNorm folded, modules merged) against the module-by-module forward.

Width 32, N = 4, batch 1 and 32, float32 and bf16: the modules in mixed precision, the extracted path likewise, and with
its weights turned into bfloat16 once (`extract(task).to(torch.bfloat16)`), which mixed precision does at every forward.
Targets: at least 1.2x at batch 1 in float32; 2.5x in bf16 on a CPU with bf16 matrix units.
Run: python benchmarks/bench_extract.py
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import torch
from side_by_side import interleaved, ratio, write_record

from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.nn.grid import Grid, GridConfig
from polypath.train.environment import usable_cores


def main() -> None:
    """Time single forwards of both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(usable_cores())
    task = Task(
        name="task",
        inputs=Image(channels=3, height=32, width=32),
        target=Classification(labels=tuple("abcdefghij")),
        preprocess=ImagePreprocess(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    network = Grid(GridConfig(modules=12, selected=4, width=args.width))
    network.add_task(task)
    layout = torch.channels_last
    network.eval().to(memory_format=layout)  # type: ignore[call-overload]
    fused = network.extract("task").to(memory_format=layout)  # type: ignore[call-overload]
    half = copy.deepcopy(fused).to(torch.bfloat16)
    figures: dict[str, object] = {"width": args.width, "targets": {"float32 batch 1": 1.2, "bf16 (AMX)": 2.5}}
    for size in (1, 32):
        x = torch.randn(size, 3, 32, 32).contiguous(memory_format=layout)
        with torch.inference_mode():
            gap = (network(x, "task") - fused(x)).abs().max() / network(x, "task").abs().max()
        figures[f"relative_difference_batch_{size}"] = float(gap)
        for dtype in (torch.float32, torch.bfloat16):
            actions = {
                "modules": timed(lambda x=x: network(x, "task"), dtype),
                "extracted": timed(lambda x=x: fused(x), dtype),
            }
            if dtype == torch.bfloat16:
                actions["turned"] = timed(lambda x=x: half(x.to(torch.bfloat16)), torch.float32)
            seconds = interleaved(actions, args.rounds, warmup=2)
            key = f"batch_{size}_{str(dtype).removeprefix('torch.')}"
            speedups = {f"speedup, {name}": ratio(seconds, "modules", name) for name in list(actions)[1:]}
            figures[key] = {**speedups, "seconds": seconds}
    write_record("extract", figures, "python benchmarks/bench_extract.py", args.out)


def timed(call: Callable[[], torch.Tensor], dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    """The call in inference mode, under autocast for bf16."""

    def run() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return call()

    return run


if __name__ == "__main__":
    main()
