"""Multi-Path: latency of every branch against its multiply-accumulates, and one forward for all tasks against five.

ResNet-18, five branches of twenty classes, extracted (BatchNorm folded) paths, batch 1 and 32, in float32 (and bf16
where the CPU multiplies bf16 matrices or --bf16 asks for it). Targets: latency over that of the full network follows
the ratio of multiply-accumulates; one forward for all five tasks takes at most 1 / 2.5 of five forwards. With --system:
what early stopping saves on the test images of a system learned with exits="all", calibrated on validation images.
Run: python benchmarks/bench_multipath.py [--system runs/budget/all_exits/seed-0/system]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import interleaved, ratio, write_record

import polypath as pp
from polypath.core import accounting
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.nn.multipath import MultiPathNet, MultiPathNetConfig
from polypath.nn.resnet import ResNet18
from polypath.train.environment import cpu_facts


def main() -> None:
    """Time single forwards in turns; evaluate early stopping where a system is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", nargs="+", default=["paper:1", "paper:32", "cifar:1", "cifar:32"], help="STEM:BATCH")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--system", help="folder of a system learned with exits='all'")
    parser.add_argument("--drop", type=float, default=0.01)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures: dict[str, Any] = {"targets": {"one forward for five tasks": 2.5}, "rounds": args.rounds}
    types = [torch.float32] + ([torch.bfloat16] if args.bf16 or cpu_facts()["bf16"] else [])
    for case in args.cases:
        stem, size = case.split(":")
        for dtype in types:
            key = f"{stem}_stem_batch_{size}_{str(dtype).removeprefix('torch.')}"
            figures[key] = branches(stem, int(size), dtype, args.rounds)
    if args.system:
        figures["early_stopping"] = stopping_early(args.system, args.drop)
    command = f"python benchmarks/bench_multipath.py --cases {' '.join(args.cases)}"
    command += " --system SYSTEM" if args.system else ""
    write_record("multipath", figures, command, args.out)


def network(stem: str) -> MultiPathNet:
    """Five tasks of twenty classes on the paper's five branches."""
    inputs = Image(channels=3, height=32, width=32)
    preprocess = ImagePreprocess(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    config = MultiPathNetConfig(backbone={"kind": "resnet18", "stem": stem}, inputs=inputs, cuts=ResNet18.cuts)
    made = MultiPathNet(config)
    for number in range(1, 6):
        target = Classification(labels=tuple(f"c{i}" for i in range(20)))
        made.add_task(Task(name=f"task{number}", inputs=inputs, target=target, preprocess=preprocess), number)
    return made.eval()


def branches(stem: str, size: int, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Latency and multiply-accumulates of every branch over the full network's, and all tasks at once against five."""
    made = network(stem)
    layout = torch.channels_last
    paths = {name: made.extract(name).to(memory_format=layout) for name in made.tasks}  # type: ignore[call-overload]
    with torch.no_grad():
        merged = made.fuse_many(list(made.paths().values())).eval().to(memory_format=layout)  # type: ignore[call-overload]
    x = torch.randn(size, 3, 32, 32).contiguous(memory_format=layout)
    actions = {name: timed(lambda module=module: module(x), dtype) for name, module in paths.items()}
    actions["all at once"] = timed(lambda: merged(x), dtype)
    actions["one after the other"] = timed(lambda: [module(x) for module in paths.values()], dtype)
    seconds = interleaved(actions, rounds, warmup=2)
    macs = {name: accounting.cost(made, name).flops // 2 for name in made.tasks}
    last = list(made.tasks)[-1]
    return {
        "macs_over_full": {name: round(count / macs[last], 4) for name, count in macs.items()},
        "latency_over_full": {name: ratio(seconds, name, last) for name in macs},
        "five_forwards_over_one": ratio(seconds, "one after the other", "all at once"),
        "seconds": seconds,
    }


def timed(call: Callable[[], Any], dtype: torch.dtype) -> Callable[[], Any]:
    """The call in inference mode, under autocast for bf16."""

    def run() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return call()

    return run


def stopping_early(folder: str, drop: float) -> dict[str, Any]:
    """Mean FLOPs an image and test accuracy, without and with early stopping calibrated on validation images."""
    from polypath.data import build

    system = pp.load(folder)
    suite = build(system.suite_config)
    thresholds = system.calibrate_confidence(suite, drop=drop)
    found: dict[str, Any] = {"allowed_drop": drop}
    spent, whole = 0.0, 0
    for name, confidence in thresholds.items():
        costs = {cost.exit: cost.flops for cost in system.exit_costs(name)}
        test = suite[name].test.unseal()  # type: ignore[union-attr]
        full, early = (system.predict(name, test.inputs(), early=stop) for stop in (False, True))
        labels = suite[name].task.target.labels  # type: ignore[union-attr]
        truth = [labels[number] for number in test.targets.tolist()]
        right = {
            kind: sum(a == b for a, b in zip(said.labels or [], truth, strict=True)) / len(truth)
            for kind, said in (("full", full), ("early", early))
        }
        taken = Counter(early.exits or [])
        mean = sum(costs[exit] * count for exit, count in taken.items()) / len(truth)
        spent, whole = spent + mean, whole + max(costs.values())
        found[name] = {
            "threshold": confidence.threshold,
            "validation_examples": confidence.examples,
            "validation_accuracy": {"full": confidence.full, "early": confidence.kept},
            "test_accuracy": right,
            "share_of_exits": {exit: taken[exit] / len(truth) for exit in costs},
            "flops": {"full": max(costs.values()), "mean_early": mean, "saved": 1 - mean / max(costs.values())},
        }
    found["saved_over_tasks_with_several_exits"] = 1 - spent / whole
    return found


if __name__ == "__main__":
    main()
