"""Jobs on a Ray cluster of two nodes on this machine; prints what was found as JSON.

`python cluster.py FOLDER`: in a process of its own, because the tests' own process may not open the sockets that Ray
asks the network's address with.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import tiny
import torch
from ray.cluster_utils import Cluster

from polypath.core.errors import Cancelled, InvalidInput, PolypathError
from polypath.core.seeds import generator
from polypath.train import on_ray
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

STORE = 80 * 1024**2  # bytes, about the least that Ray accepts
SIZE = {"num_cpus": 1, "object_store_memory": STORE, "memory": 200 * 1024**2}


def trained(shared: dict[str, Any], job: int) -> dict[str, Any]:
    """Twenty steps of a small network from what is shared and a seed; also where that was done."""
    stream = generator(job, "job")
    weights = shared["weights"].clone().requires_grad_(True)
    for _ in range(20):
        x = torch.randn(32, 64, generator=stream)
        (gradient,) = torch.autograd.grad((x @ weights).tanh().square().mean(), weights)
        weights = (weights - 0.5 * gradient).detach().requires_grad_(True)
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    kept = [shared["picture"].stride(), shared["count"].item(), shared["weights"].data_ptr() % 64]
    facts = {"threads": torch.get_num_threads(), "node": node, "process": os.getpid(), "kept": kept}
    return {"weights": weights.detach(), "facts": facts}


def dies_once(shared: str, job: int) -> int:
    """Kills its own process the first time that it is job 1."""
    mark = Path(shared) / "died"
    if job == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return job * 10


def always_dies(shared: None, job: int) -> None:
    """Kills its own process."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(shared: None, job: int) -> None:
    """Raises an error of the user's."""
    raise InvalidInput(f"job {job} does not like this")


def long(shared: str, job: int) -> None:
    """Longer than any test waits."""
    (Path(shared) / f"began-{job}").write_text(str(os.getpid()))
    time.sleep(600)


def meet(shared: str, job: int) -> str:
    """Waits until job 0 and job 1 are being done at the same time; on which node this one is."""
    folder = Path(shared)
    (folder / f"met-{job}").touch()
    until = time.monotonic() + 100
    while not (folder / f"met-{1 - job}").exists():
        if time.monotonic() > until:
            return "alone"
        time.sleep(0.02)
    return str(ray.get_runtime_context().get_node_id())


def engine(**settings: Any) -> Engine:
    """An engine on the CPU."""
    out = settings.pop("out", None)
    return Engine(config=RunConfig(device="cpu", **{"threads": 1, **settings}), out=out, progress=False)


def error_of(act: Callable[[], Any]) -> str:
    """Kind and text of the error an action ends in."""
    try:
        act()
    except PolypathError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def alive(process: int) -> bool:
    """Whether a process still runs."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def interrupted(folder: Path, address: str) -> dict[str, Any]:
    """Ctrl-C while jobs are done: how long until the run stops, and whether a worker goes on."""
    run = engine(executor="ray", cluster=address)
    begun: list[float] = []

    def press() -> None:
        while not (folder / "began-0").exists():
            time.sleep(0.05)
        begun.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        with run.interruptible():
            run.map(long, [0], str(folder))
        stopped = "not"
    except Cancelled as error:
        stopped = str(error)
    seconds = time.monotonic() - begun[0]
    presser.join()
    worker = int((folder / "began-0").read_text())
    until = time.monotonic() + 20
    while alive(worker) and time.monotonic() < until:
        time.sleep(0.1)
    return {"stopped": stopped, "seconds": seconds, "worker_alive": alive(worker)}


def started() -> Cluster:
    """The cluster; on a busy machine a node may take longer to start than the half minute that Ray waits."""
    for attempt in range(6):
        cluster = Cluster()
        try:
            for _ in range(2):
                cluster.add_node(**SIZE)
            cluster.wait_for_nodes(timeout=120)
            return cluster
        except Exception as error:  # Ray raises nothing more special
            print(f"attempt {attempt + 1}: {error}", file=sys.stderr)
            cluster.shutdown()
    raise SystemExit("Ray's nodes did not start")


def evolved(folder: Path) -> list[str]:
    """Digests of what mu2Net learns here, with two workers, and half here and half there."""
    suite = tiny.suite(2, validation=True)
    here, there = tiny.evolve(suite, executor="local"), tiny.evolve(suite, executor="ray", parallel=2)
    begun = {"out": folder / "evolved", "resume": True}

    def stops(now: Any) -> bool:
        return bool(now.stage == 1)  # in the middle of it: progress is told at the end of every generation

    try:
        tiny.evolve(suite, on_progress=stops, **begun)
        return ["was not stopped"]
    except Cancelled:
        both = tiny.evolve(suite, executor="ray", parallel=1, **begun)
    return [tiny.state_digest(system) for system in (here, there, both)]


def main(folder: Path) -> dict[str, Any]:
    """Everything, in one cluster."""
    facts: dict[str, Any] = {}
    cluster = started()
    facts["unreachable"] = error_of(lambda: engine(executor="ray", cluster="127.0.0.1:1").map(long, [0]))
    ray.init(address=cluster.address, log_to_driver=False)
    shared = {"weights": torch.randn(64, 64, generator=generator(0, "w")), "count": torch.tensor(3)}
    shared["picture"] = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    answers = {
        "here": engine().map(trained, range(6), shared),
        "one": engine(executor="ray", parallel=1).map(trained, range(6), shared),
        "two": engine(executor="ray", parallel=2, out=folder / "run").map(trained, range(6), shared, name="six"),
    }
    facts["equal"] = {
        name: [torch.equal(a["weights"], b["weights"]) for a, b in zip(answers["here"], answers[name], strict=True)]
        for name in ("one", "two")
    }
    facts["kept"] = sorted(file.name for file in (folder / "run" / "checkpoint").iterdir())
    facts["here"] = answers["here"][0]["facts"]
    facts["where"] = [answer["facts"] for answer in answers["two"]]
    answers["two"][0]["weights"].add_(1)  # an answer is the caller's own
    facts["evolved"] = evolved(folder)
    run = engine(executor="ray")
    facts["met"] = run.map(meet, range(2), str(folder))
    facts["again"] = run.map(dies_once, range(4), str(folder))
    on_ray.RETRIES = 1  # every death costs an import of torch
    facts["always"] = error_of(lambda: run.map(always_dies, [0]))
    facts["refused"] = error_of(lambda: run.map(refuses, [7]))
    facts["too_large"] = error_of(lambda: engine(executor="ray", job_threads=64).map(trained, [0], shared))
    facts["interrupted"] = interrupted(folder, cluster.address)
    ray.shutdown()
    cluster.shutdown()
    return facts


if __name__ == "__main__":
    out = Path(sys.argv[1])
    (out / "facts.json").write_text(json.dumps(main(out)))
