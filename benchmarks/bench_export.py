"""An exported task against the whole system it comes from, and against one dense network of the same shape.

Ten tasks on random images a method: subnetworks that own a tenth of every layer (rsn2), prefixes of one backbone
(multipath), four of twelve modules a layer (part). Beside each a dense network of its own, as a system of one task: the
same backbone with method single, for part the same grid with mode single. Bytes of the ONNX and the .pt2 file, of all
components of the system, and of the dense network's files; seconds of one prediction by the system (Python, its fused
path, decoding and labels), by ONNX Runtime and by the reloaded .pt2, in turns, at batch 1 and 32, on one thread.

Neither bytes nor time depend on what was learned, so nothing is trained beyond one pass over a few images.

Run: python benchmarks/bench_export.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from side_by_side import interleaved, ratio, write_record

import polypath as pp
from polypath.core.examples import Suite
from polypath.data import arrays

TASKS, IMAGES, OUTPUTS = 10, 20, 10
MLP = {"kind": "mlp", "hidden": [1000, 1000]}
RESNET = {"kind": "resnet18", "stem": "paper", "width": 1 / 2}
ONCE: dict[str, Any] = {"epochs": 1, "batch": 20, "threads": 1, "precision": "32-true", "progress": False}
PART = {"modules": 12, "selected": 4, "width": 8, "batch_set": 1}

# Name -> (method and settings of the system, method and settings of the dense network).
PAIRS: dict[str, tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]] = {
    "rsn2": (
        ("rsn2", {"backbone": MLP, "share": 0.1, "samples": 8, "patience": 0}),
        ("single", {"backbone": MLP}),
    ),
    "multipath": (
        ("multipath", {"backbone": RESNET, "distill": False, "decay_at": []}),
        ("single", {"backbone": RESNET}),
    ),
    "part": (("part", {**PART, "mode": "sequential"}), ("part", {**PART, "mode": "single"})),
}


def suite(tasks: int) -> Suite:
    """Seeded random images."""
    stream = torch.Generator().manual_seed(0)
    items = []
    for number in range(tasks):
        x = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=stream).to(torch.uint8)
        labels = [str(i) for i in range(OUTPUTS)]
        items.append(arrays(f"task{number}", train=(x, torch.arange(IMAGES) % OUTPUTS), labels=labels))
    return Suite("random", tuple(items))


def exported(
    system: pp.System, task: str, folder: Path, name: str
) -> tuple[dict[str, Any], dict[str, Callable[..., Any]]]:
    """Sizes of a task's files, and how they are asked."""
    made = {ending: system.export(task, folder / f"{name}.{ending}") for ending in ("onnx", "pt2")}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(made["onnx"].path, options, providers=["CPUExecutionProvider"])
    module = torch.export.load(made["pt2"].path).module()

    def by_torch(images: torch.Tensor) -> Any:
        with torch.inference_mode():
            return module(images)

    sizes = {f"{ending}_bytes": file.size_bytes for ending, file in made.items()}
    differences = {f"{ending}_relative_difference": file.difference for ending, file in made.items()}
    return {**sizes, **differences}, {"onnx": lambda x: session.run(None, {"images": x.numpy()}), "pt2": by_torch}


def compared(name: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Bytes and seconds of one pair."""
    (method, settings), (plain, plain_settings) = PAIRS[name]
    system = pp.learn(method, suite(TASKS), **{**settings, **ONCE})
    dense = pp.learn(plain, suite(1), **{**plain_settings, **ONCE})
    task = f"task{TASKS - 1}"
    files, ask = exported(system, task, folder, name)
    alone, ask_alone = exported(dense, "task0", folder, f"{name}-dense")
    system_bytes = Path(system.save(folder / f"{name}-system"))
    on_disk = sum(file.stat().st_size for file in system_bytes.rglob("*") if file.is_file())
    found: dict[str, Any] = {
        "task": files,
        "dense": alone,
        "system_bytes_on_disk": on_disk,
        "onnx_share_of_system": files["onnx_bytes"] / on_disk,
        "onnx_share_of_dense": files["onnx_bytes"] / alone["onnx_bytes"],
        "parameters": {"task": system.cost(task).parameters, "dense": dense.cost("task0").parameters},
        "flops": {"task": system.cost(task).flops, "dense": dense.cost("task0").flops},
    }
    for size in (1, 32):
        images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (size, 3, 32, 32), dtype=np.uint8))
        actions: dict[str, Callable[[], Any]] = {
            "system": lambda images=images: system.predict(task, images),
            "onnx": lambda images=images: ask["onnx"](images),
            "pt2": lambda images=images: ask["pt2"](images),
            "dense_onnx": lambda images=images: ask_alone["onnx"](images),
        }
        seconds = interleaved(actions, rounds, warmup=3)
        found[f"batch_{size}"] = {
            "median_ms": {key: 1000 * statistics.median(values) for key, values in seconds.items()},
            "onnx_times_faster_than_system": ratio(seconds, "system", "onnx"),
            "pt2_times_faster_than_system": ratio(seconds, "system", "pt2"),
            "onnx_times_faster_than_dense_onnx": ratio(seconds, "dense_onnx", "onnx"),
        }
    return found


def main() -> None:
    """Measure every pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", choices=PAIRS)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = {name: compared(name, args.rounds, Path(folder)) for name in PAIRS if args.only in (None, name)}
    write_record("export", {"tasks": TASKS, "threads": 1, **figures}, "python benchmarks/bench_export.py", args.out)


if __name__ == "__main__":
    main()
