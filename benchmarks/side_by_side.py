"""Interleaved timing of alternatives in one process: A, B, A, B, ... so that a busy machine hits all alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from polypath.train.environment import cpu_facts, environment


def interleaved(actions: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of every action in every round; actions take turns within a round, first places rotate."""
    for _ in range(warmup):
        for action in actions.values():
            action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    names = list(actions)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            actions[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def counted(action: Callable[[], Any], seconds: list[float]) -> Callable[[], None]:
    """The action; its processor seconds are appended."""

    def run() -> None:
        began = time.process_time()
        action()
        seconds.append(time.process_time() - began)

    return run


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    """Median over rounds of slow / fast within a round, and the smallest and largest of them."""
    ratios = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def write_record(name: str, figures: Mapping[str, Any], command: str, out: str | None = None) -> Path:
    """Write docs/results/benchmarks/<name>.json and print it; the tables of docs/results.md follow.

    With `out`, the record goes to that folder instead and no page changes.
    """
    facts = environment(torch.device("cpu"), "see figures", torch.get_num_threads())
    record = {"name": name, "command": command, "figures": figures, "cpu": cpu_facts(), "environment": facts}
    docs = Path(__file__).parents[1] / "docs"
    folder = Path(out) if out else docs / "results" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    if not out:
        subprocess.run([sys.executable, docs / "make_tables.py"], check=True)
    print(json.dumps(figures, indent=1))
    return path


def in_memory(what: str) -> int:
    """Bytes of this process now (VmRSS) or at most so far (VmHWM; `ru_maxrss` would start from the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(what)))
