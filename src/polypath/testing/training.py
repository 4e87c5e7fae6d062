"""Laws of learning: what a stage may touch, what a run leaves behind, what an interrupted one loses."""

from __future__ import annotations

import copy
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polypath.core.errors import Cancelled, InvalidInput, IsolationError
from polypath.core.probe import probe_outputs
from polypath.system import System
from polypath.testing.exam import (
    Candidate,
    Factory,
    LawBroken,
    Scratch,
    history_of,
    require,
    require_equal_digests,
)
from polypath.train.engine import Progress


def law_isolation_as_declared(candidate: Candidate) -> None:
    """Adding a task does to the known ones what the method's isolation says.

    exact: under weight decay every component on a known task's path keeps its digest (BatchNorm statistics included)
    and the task its answers, bit for bit. joint: without the known tasks' data learning is refused, the message names
    them, and nothing changes. drifts: the measured drift is the change of the recorded answers.
    """
    law = f"isolation as declared ({candidate.method.isolation})"
    if candidate.method.isolation == "joint":
        _refused_without_data(law, candidate)
        return
    try:
        grown = candidate.grown
    except IsolationError as error:
        raise LawBroken(f"{law}: {error}") from error
    before = candidate.network
    for task in before.tasks:
        probe = grown.entries[task].probe
        if candidate.method.isolation == "drifts" and probe is not None:  # from when the task was learned, stages ago
            old = grown.probe_answer(probe.learned)
        else:
            old = probe_outputs(before, task, candidate.seed)
        gap = float((probe_outputs(grown.network, task, candidate.seed) - old).abs().max())
        if candidate.method.isolation == "drifts":
            with Scratch() as folder:
                copy.deepcopy(grown).save(folder)
                drift = grown.verify().tasks[task].drift
            require(drift is None or abs(drift - gap) <= 1e-6, law, f"{task!r} drifted by {gap}, {drift} was measured")
            continue
        names = before.reach(task).components
        require(grown.network.path(task) == before.path(task), law, f"the path of {task!r} changed")
        require_equal_digests(law, before.digests(names), grown.network.digests(names), f"path of {task!r}")
        require(gap == 0, law, f"answers of {task!r} changed by {gap:.2g}")


def _refused_without_data(law: str, candidate: Candidate) -> None:
    system = candidate.twin()
    known, digests = list(system.tasks), system.network.digests()
    try:
        system.learn(candidate.added, method=type(candidate.method), progress=False, **candidate.settings)
    except InvalidInput as error:
        missing = [name for name in known if name not in str(error)]
        require(not missing, law, f"the refusal does not name {missing}: {error}")
    else:
        require(False, law, f"a task was learned without the data of {known}; that was not refused")
    require(list(system.tasks) == known, law, f"after the refusal the system knows {list(system.tasks)}")
    require_equal_digests(law, digests, system.network.digests(), "after the refusal")


def law_same_seed_same_system(candidate: Candidate) -> None:
    """Learning twice with one seed gives equal plans and digests; another seed gives another system."""
    law = "same seed, same system"
    again = candidate.learn()
    require(again.network.plan() == candidate.network.plan(), law, "plans differ")
    require_equal_digests(law, candidate.network.digests(), again.network.digests(), "learned twice")
    other = candidate.elsewhere
    task = other.network.path(candidate.suite.names[0])
    known = set(candidate.network.digests().values())
    equal = [name for name, sha in other.network.digests(task.components).items() if sha in known]
    require(not equal, law, f"with another seed {equal[:5]} came out the same")


def law_no_global_state_is_changed(candidate: Candidate) -> None:
    """Learning, finished or cancelled in the middle of an epoch, leaves generators, threads, dtype and modes alone."""
    law = "no global state is changed"
    suite = candidate.suite.only(candidate.suite.names[:1])
    threads = torch.get_num_threads()
    # Another number than the runs use, so that putting it back is seen.
    torch.set_num_threads(1 + int(candidate.settings["threads"]))
    try:
        vars(candidate).pop("elsewhere", None)  # learned here, where it is watched, and kept for other laws
        before = _global_state()
        assert candidate.elsewhere.tasks
        _compare_global_state(law, before, "after learning")
        try:
            candidate.learn(suite, on_progress=lambda now: True)
        except Cancelled:
            # While the exception is held: its frames keep the run's generators alive.
            _compare_global_state(law, before, "after a cancelled run")
        else:
            require(False, law, "a run whose on_progress asked to stop went on; call run.step(loss, optimizer)")
    finally:
        torch.set_num_threads(threads)


def _global_state() -> dict[str, Any]:
    return {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's generator": str(np.random.get_state()),
        "random's generator": random.getstate(),
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "working directory": os.getcwd(),
        "environment variables": dict(os.environ),
        "handler of Ctrl-C": signal.getsignal(signal.SIGINT),
    }


def _compare_global_state(law: str, before: dict[str, Any], when: str) -> None:
    now = _global_state()
    changed = [name for name, value in before.items() if now[name] != value]
    require(not changed, law, f"{when}: changed {', '.join(changed)}")


class _Killed(BaseException):
    """The process is gone: nothing that catches errors sees it."""


def law_killed_runs_resume(candidate: Candidate) -> None:
    """A run killed after every single epoch of every loop and resumed each time ends as the unbroken one.

    Digests, plan, history, test metrics and learning curves are equal.
    """
    law = "killed runs resume"
    with Scratch() as folder:
        system, kills = _killed_after_every_epoch(candidate, folder / "run")
        require(kills > 0, law, "no epoch was seen; loop over run.epochs(...)")
        whole = candidate.learned
        require(system.network.plan() == whole.network.plan(), law, "plans differ")
        require_equal_digests(law, whole.network.digests(), system.network.digests(), f"after {kills} kills")
        require(history_of(system) == history_of(whole), law, f"histories differ: {history_of(system)}")
        for part in ("tasks", "totals", "lifelong", "curves", "sharing", "paths"):
            require(getattr(system.result, part) == getattr(whole.result, part), law, f"results differ in {part!r}")


def _killed_after_every_epoch(candidate: Candidate, out: Path) -> tuple[System, int]:
    seen: set[tuple[int, int, int]] = set()

    def kill(now: Progress) -> None:
        # An epoch that ends is told with the number of the next one, at step 0.
        here = (now.stage, now.loop, now.epoch)
        if now.step == 0 and now.epoch > 0 and here not in seen:
            seen.add(here)
            raise _Killed

    while True:
        try:
            return candidate.learn(out=out, resume=True, on_progress=kill), len(seen)
        except _Killed:
            continue


def law_one_task_agrees(factories: Sequence[Factory], candidate: Candidate) -> None:
    """On a suite of one task several methods (or modes of one) end with equal components along its path.

    For methods that differ only in how they treat other tasks: on one task all of them are plain training.

    Args:
        factories: make the methods.
        candidate: whose first task, seed and settings are used.
    """
    law = "one task agrees"
    suite = candidate.suite.only(candidate.suite.names[:1])
    task = suite.names[0]
    reference: list[str] = []
    for factory in factories:
        system = Candidate(factory, candidate.suite, seed=candidate.seed, settings=candidate.settings).learn(suite)
        found = list(system.network.digests(system.network.path(task).components).values())
        reference = reference or found
        require(found == reference, law, f"{factory().config!r} ends elsewhere than {factories[0]().config!r}")
