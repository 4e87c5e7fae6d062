"""Inference on one subnetwork of a fully connected network: dense, dead units left out, and CSR.

Six layers of 1,000, positions chosen at random (nothing dies) and concentrated (gradients of images whose border is
black leave border pixels and dead units out, as chosen positions do), densities 20, 10, 5 and 2 %, batch 1, 32 and 512.
Processor time of one thread, in turns. Run: python benchmarks/bench_sparse.py
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import interleaved, ratio, write_record
from torch import nn

from polypath.nn.compact import compacted
from polypath.nn.sparse import SparseLinear, density
from polypath.ops.ownership import choose, share_count

WIDTHS = [784, 1000, 1000, 1000, 1000, 1000, 1000]


def network(share: float, concentrated: bool) -> nn.Sequential:
    """Layers with `share` of their weights, scaled so that activations neither vanish nor grow."""
    stream = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    alive = [torch.rand(width, generator=stream) < 0.5 for width in WIDTHS]
    for number, (size, width) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        scores = torch.rand(width, size, generator=stream)
        if concentrated:  # half of the units have (nearly) all of the gradient
            scores = scores + 2.0 * (alive[number + 1][:, None] & alive[number][None, :])
        kept = choose(scores.view(-1), torch.arange(width * size), share_count(share, width * size))
        weight = torch.zeros(width * size)
        weight[kept] = torch.randn(len(kept), generator=stream) * (2 / (share * size)) ** 0.5
        layer = nn.Linear(size, width, device="meta")
        layer.weight, layer.bias = nn.Parameter(weight.view(width, size)), nn.Parameter(torch.zeros(width))
        layers += [layer, nn.ReLU()]
    head = nn.Linear(WIDTHS[-1], 10, device="meta")
    head.weight = nn.Parameter(torch.randn(10, WIDTHS[-1], generator=stream) * 0.03)
    head.bias = nn.Parameter(torch.zeros(10))
    return nn.Sequential(*layers, head).eval()


def in_csr(module: nn.Sequential) -> nn.Sequential:
    """Every hidden layer in CSR, whether that wins or not."""
    made = copy.deepcopy(module)
    for number, layer in enumerate(made[:-1]):
        if isinstance(layer, nn.Linear):
            made[number] = SparseLinear(layer)
    return made


def timed(module: nn.Module, inputs: torch.Tensor, calls: int, seconds: list[float]) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            began = time.process_time()
            for _ in range(calls):
                module(inputs)
            seconds.append((time.process_time() - began) / calls)

    return run


def main() -> None:
    """Time all forms in turns and say where CSR wins."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"widths": WIDTHS, "tolerance": 1e-5}
    wins: list[str] = []
    for concentrated in (False, True):
        for share in (0.2, 0.1, 0.05, 0.02):
            whole = network(share, concentrated)
            small = compacted(copy.deepcopy(whole))
            assert isinstance(small, nn.Sequential)
            forms = {"dense": whole, "compacted": small, "csr": in_csr(small)}
            units = [layer.out_features for layer in small if isinstance(layer, nn.Linear)]
            kept = density(torch.cat([layer.weight.reshape(-1) for layer in small if isinstance(layer, nn.Linear)]))
            key = f"{'concentrated' if concentrated else 'random'} positions, {share:.0%}"
            figures[key] = {"units left": str(units), "density left": kept}
            for batch in (1, 32, 512):
                x = torch.randn(batch, WIDTHS[0], generator=torch.Generator().manual_seed(1))
                with torch.inference_mode():
                    expected = whole(x)
                    gaps = [float((form(x) - expected).abs().max() / expected.abs().max()) for form in forms.values()]
                assert max(gaps) <= 1e-5, gaps
                seconds: dict[str, list[float]] = {name: [] for name in forms}
                calls = {1: 50, 32: 10, 512: 1}[batch]
                interleaved({n: timed(f, x, calls, seconds[n]) for n, f in forms.items()}, args.rounds, warmup=1)
                over = {
                    f"{a} over {b}": ratio(seconds, a, b) for a, b in (("dense", "compacted"), ("compacted", "csr"))
                }
                figures[key][f"batch {batch}"] = {**over, "largest difference": max(gaps), "seconds": seconds}
                if over["compacted over csr"]["median"] > 1.1:
                    wins.append(f"{key}, batch {batch}")
    figures["csr at least 1.1x faster"] = "; ".join(wins)
    write_record("sparse", figures, "python benchmarks/bench_sparse.py", args.out)


if __name__ == "__main__":
    main()
