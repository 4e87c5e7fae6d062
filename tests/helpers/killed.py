"""Runs that die at chosen moments: reads a job a line, forks a process for it, answers how it ended.

One import of torch, and one run to warm up, serve all jobs. A job: {"out", "mode", "kill": [where, count] or
{"after": seconds} or null}; the answer: [exit code or minus the signal, seconds].
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
import torch

import polypath.core.files as files
from polypath.methods.offspring import Offspring
from polypath.store import Store
from polypath.train.engine import Engine
from polypath.train.journal import Journal


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(where: str, count: int) -> None:
    """Die at the `count`-th time that this process comes to a place."""
    left = [count]

    def now() -> bool:
        left[0] -= 1
        return left[0] == 0

    def before(owner: Any, name: str, act: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **keywords: Any) -> Any:
            act(*args)
            return original(*args, **keywords)

        setattr(owner, name, wrapped)

    def half_a_line(journal: Journal, line: dict[str, Any]) -> None:
        if now():
            assert journal.path is not None
            with journal.path.open("a") as file:
                file.write(json.dumps(line)[:-7])
            die()

    def renaming(part: str, target: Path) -> None:
        kind = "manifest" if target.name == "manifest.json" else target.parent.name
        kind = "results" if target.name == "results.json" else kind
        if where == f"before renaming {kind}" and now():
            die()
        if where == f"half of {kind}" and now():
            os.truncate(part, os.path.getsize(part) // 2)
            die()
        if where == f"after renaming {kind}" and now():
            os.rename(part, target)
            die()

    class Os:
        """`os` with another `replace`, for core.files alone."""

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def replace(self, part: str, target: Path) -> None:
            renaming(part, Path(target))
            os.replace(part, target)

    files.os = Os()  # type: ignore[assignment]
    if where == "step":
        before(Engine, "step", lambda *_: die() if now() else None)
    if where == "cycle":
        before(Offspring, "train_cycle", lambda *_: die() if now() else None)
    if where == "blob":
        before(Store, "_write_blob", lambda *_: die() if now() else None)
    if where == "after the save":
        before(Engine, "end_stage", lambda *_: die() if now() else None)
    if where == "half a line":
        before(Journal, "write", half_a_line)


def learn(mode: str, **settings: Any) -> None:
    if mode == "evolution":
        tiny.evolve(tiny.suite(2, validation=True), **settings)
        return
    tiny.learn(tiny.suite(3), mode=mode, epochs=3, modules=2, selected=1, **settings)


def run(job: dict[str, Any]) -> int:
    """Wait status of a process that learns."""
    child = os.fork()
    if child == 0:
        try:
            if isinstance(job["kill"], list):
                arm(*job["kill"])
            learn(job["mode"], out=job["out"], resume=True)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if isinstance(job["kill"], dict):
        time.sleep(job["kill"]["after"])
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    learn("parallel")
    learn("evolution")
    for text in sys.stdin:
        began = time.monotonic()
        status = run(json.loads(text))
        print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - began]), flush=True)
