"""Five tasks added in five processes, for every exact method: old tasks must stay bit-identical after each.

Every add runs in a process of its own that opens the folder without any earlier task's data. After each, a further
process opens it again and compares the answers of all tasks, bit by bit, with those of when each was learned.
Run: python benchmarks/bench_add.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from side_by_side import write_record

import polypath as pp
from polypath.core.examples import Suite
from polypath.methods import METHODS, method_class
from polypath.testing import tiny_features, tiny_images

RUN: dict[str, Any] = {"threads": 1, "device": "cpu", "precision": "32-true", "progress": False}
MLP = {"kind": "mlp", "hidden": [12]}
EXACT: dict[str, dict[str, Any]] = {
    "single": {"backbone": MLP, "epochs": 2, "batch": 8},
    "packnet": {"backbone": MLP, "epochs": 1, "retrain_epochs": 1, "batch": 8},
    "cpg": {"backbone": MLP, "goal": 0.0, "epochs": 1, "prune_epochs": 1, "sparsities": (0.5, 0.8), "batch": 8},
    "rsn2": {"backbone": MLP, "share": 0.15, "order": "sequential", "epochs": 1, "batch": 8, "samples": 8},
    "prognn": {"backbone": {"kind": "dfcnn", "channels": [2, 2, 2, 2], "hidden": [3]}, "epochs": 1, "batch": 8},
    "mu2net": {
        "root": {"kind": "mlp", "hidden": [8, 8]},
        "iterations": 1,
        "generations": 1,
        "children": 2,
        "cycles": 1,
        "batch": 8,
    },
    "part": {"mode": "sequential", "modules": 6, "selected": 1, "width": 2, "epochs": 1, "batch": 8, "batch_set": 2},
}
"""Exact methods, and the settings with which those are exact that can be otherwise."""

IMAGES = frozenset({"prognn", "part"})


def exact_by_default() -> list[str]:
    """Methods that promise exactness as they come; all must be in `EXACT`."""
    return [name for name in METHODS if method_class(name)().isolation == "exact"]


def suite_for(method: str, tasks: int) -> Suite:
    """Tiny tasks that the method takes."""
    return tiny_images(tasks, size=8) if method in IMAGES else tiny_features(tasks)


def in_process(action: Callable[[], Any]) -> Any:
    """What an action returns, as JSON, from a process of its own.

    Raises:
        RuntimeError: the process failed; what it wrote is on the standard error.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reads)
            with os.fdopen(writes, "w") as file:
                file.write(json.dumps(action()))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as file:
        text = file.read()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RuntimeError("a process that adds or answers failed")
    return json.loads(text)


def added(method: str, folder: Path, suite: Suite, number: int) -> dict[str, float]:
    """Teach the saved system task `number` (the first makes it); knows that task's data alone."""
    data, began = suite.tasks[number], time.perf_counter()
    if number == 0:
        system = pp.learn(method, data, **EXACT[method], **RUN)
    else:
        system = pp.load(folder)
        assert system.data is None
        system.learn(data, **RUN)
    system.save(folder)
    return {"seconds": time.perf_counter() - began}


def answers(folder: Path, suite: Suite) -> dict[str, str]:
    """Task -> digest of its raw outputs on its own test inputs and of the components on its path."""
    system = pp.load(folder)
    found = {}
    for name, task in system.tasks.items():
        module = system.extract(name, fused=False)
        data = suite[name]
        assert data.test is not None
        with torch.inference_mode():
            outputs = module(task.preprocess.encode(data.test.inputs())).float().contiguous()
        parts = system.network.digests(system.network.reach(name).components)
        text = outputs.numpy().tobytes() + json.dumps(parts, sort_keys=True).encode()
        found[name] = hashlib.sha256(text).hexdigest()
    return found


def five(method: str, folder: Path, tasks: int = 6) -> dict[str, Any]:
    """One task learned, the others added one by one; how many comparisons were made and which tasks changed."""
    suite = suite_for(method, tasks)
    known: dict[str, str] = {}
    changed: list[str] = []
    compared, seconds = 0, []
    for number in range(tasks):
        seconds.append(in_process(lambda number=number: added(method, folder, suite, number))["seconds"])  # type: ignore[misc]
        found = in_process(lambda: answers(folder, suite))
        assert list(found) == list(suite.names[: number + 1])
        changed += [f"{name} after {suite.names[number]}" for name, digest in known.items() if found[name] != digest]
        compared += len(known)
        known = found
    proof = in_process(lambda: pp.load(folder).verify().summary())
    return {"compared": compared, "changed": changed, "verify": proof, "seconds": seconds}


def measured(methods: Iterable[str]) -> dict[str, Any]:
    """`five` of every method."""
    found = {}
    for method in methods:
        with tempfile.TemporaryDirectory() as folder:
            found[method] = five(method, Path(folder) / "system")
    return found


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(EXACT), choices=list(EXACT))
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = measured(args.methods)
    write_record("add", figures, "python benchmarks/bench_add.py", args.out)


if __name__ == "__main__":
    main()
