"""mu2Net's children: what training one costs over a bare loop, what the prefix store saves, what workers gain.

child: `train_child` against a hand-written loop over the same trainable layers (same frozen layers below them, batches,
schedule, clipping, momentum kept in bfloat16, validation). Target: at most 5 % more processor time.
cache: a generation of eight children, lower half frozen, images as they are, with the prefix store and without; their
answers are compared bit for bit. Target: at least 1.5x for the convolutional network. A forward pass through the frozen
half is all that the store can save: where it is half of the forward pass and all layers above are trained (forward and
two products backward), 1.33x is the most there is, which is what `vit` shows; `vit, mu` is a usual child, whose layers
above are trained with probability 0.2.
ray: one generation of eight children, one thread each, by 2 Ray workers and by 1. Target: at least 1.6x on two idle
cores. Wall time: others must not use the machine.

Run: python benchmarks/bench_mu2net.py --part child (or cache, ray)
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from side_by_side import counted, interleaved, ratio, write_record

from polypath.core.examples import TaskData
from polypath.core.seeds import generator
from polypath.data import arrays, batches
from polypath.methods.jobs import Job, Shared, Source
from polypath.methods.offspring import train_child
from polypath.methods.prefix import forget
from polypath.nn.layered import Layered, LayeredConfig
from polypath.nn.roots import HEAD, described_root, layer_of, new_layer
from polypath.search.evolution import Gene
from polypath.search.hyperparameters import default_table, defaults
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

CHILDREN, CYCLES = 8, 4
STILL = {"crop": False, "flip": False, "learning_rate": 0.02}
ROOTS: dict[str, dict[str, Any]] = {
    "numerals": {"kind": "vit", "name": "Ti/16", "depth": 3},
    "vit": {"kind": "vit", "name": "Ti/16", "depth": 6, "options": {"patch_size": 8}},
    "conv": {"kind": "conv", "blocks": [[32, 32], [32, 32], [32, 32]], "dense": []},
}


class World:
    """A root with values, a task of random images, and children of it."""

    def __init__(self, root: str, images: int, batch: int, cycles: int = CYCLES) -> None:
        stream = generator(0, "bench")
        pixels = torch.randint(0, 256, (images * 5 // 4, 3, 32, 32), generator=stream).to(torch.uint8)
        labels = torch.arange(len(pixels)) % 10
        parts = {"train": (pixels[:images], labels[:images]), "val": (pixels[images:], labels[images:])}
        self.data: TaskData = arrays("random", **parts, labels=[str(n) for n in range(10)])
        self.root = described_root(ROOTS[root])
        network = Layered(LayeredConfig(root=self.root, inputs=self.data.task.inputs))
        sources = {n: Source(r.slot, None, dict(network.tensors([n])[n])) for n, r in network.records.items()}
        self.slots = [(record.slot, name) for name, record in network.records.items()]
        assert self.data.val is not None
        rows = torch.arange(len(self.data.val))
        self.shared = Shared(
            self.root, self.data.task.inputs, self.data, rows, sources, cycles=cycles, samples=images, batch=batch
        )

    def job(self, number: int, share: float = 1.0) -> Job:
        """A child with the lower half frozen and `share` of the layers above trained, drawn by its number."""
        drawn = torch.rand(len(self.slots), generator=generator(number, "genes")).tolist()
        half = len(self.slots) // 2
        trained = [i >= half and (i == half or drawn[i] < share) for i in range(len(self.slots))]
        genes = [Gene(s, "clone" if t else "share", name) for (s, name), t in zip(self.slots, trained, strict=True)]
        settings = {**defaults(default_table()), **STILL}
        return Job(number, number, (*genes, Gene(HEAD, "new")), settings)


def bare_loop(world: World, job: Job) -> Callable[[], None]:
    """The training of one child as one would write it by hand for this child alone."""
    shared, data = world.shared, world.data
    task, frozen = data.task, [g for g in job.genes if g.action == "share"]

    def run() -> None:
        layers = [structure(world, gene) for gene in job.genes]
        below, above = layers[: len(frozen)], layers[len(frozen) :]
        parameters = [p for layer in above for p in layer.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9, foreach=True)
        steps = math.ceil(len(data.train) / shared.batch)
        total, warm, step = steps * shared.cycles, int(0.05 * steps * shared.cycles), 0
        for cycle in range(shared.cycles):
            order = torch.randperm(len(data.train), generator=generator(job.seed, "order", cycle))
            for rows in order.split(shared.batch):
                rising = 0.02 * (0.01 + 0.99 * step / max(warm, 1))
                falling = 0.01 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
                optimizer.param_groups[0]["lr"] = rising if step < warm else falling
                value = batches.load(data, rows).inputs.contiguous(memory_format=torch.channels_last)
                with torch.no_grad():
                    for layer in below:
                        value = layer(value)
                for layer in above:
                    value = layer(value)
                loss = torch.nn.functional.cross_entropy(value, data.train.targets[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
                optimizer.step()
                with torch.no_grad():
                    for p in parameters:
                        trace = optimizer.state[p]["momentum_buffer"]
                        trace.copy_(trace.bfloat16())
                step += 1
            with torch.no_grad():
                assert data.val is not None
                right = 0
                for rows in torch.arange(len(data.val)).split(shared.batch):
                    value = task.preprocess.encode(data.val.inputs(rows)).contiguous(memory_format=torch.channels_last)
                    for layer in layers:
                        value = layer(value)
                    right += int((value.argmax(1) == data.val.targets[rows]).sum())

    return run


def structure(world: World, gene: Gene) -> torch.nn.Module:
    """A layer of the bare loop with the child's values."""
    shared = world.shared
    if gene.action == "new":
        return new_layer(shared.root, shared.inputs, gene.slot, 10)
    layer = layer_of(shared.root, shared.inputs, gene.slot, None)
    values = {key: value.detach().clone() for key, value in shared.sources[str(gene.origin)].tensors.items()}
    layer.load_state_dict(values, assign=True)
    return layer.to(memory_format=torch.channels_last).requires_grad_(gene.action == "clone")


def child(images: int, batch: int, rounds: int) -> dict[str, Any]:
    """One child and the bare loop in turns."""
    found: dict[str, Any] = {"target": 1.05, "images": images, "batch": batch, "cycles": CYCLES, "rounds": rounds}
    for root in ("numerals", "conv"):
        world = World(root, images, batch)
        job = world.job(0)
        processor: dict[str, list[float]] = {"bare": [], "child": []}
        actions = {"bare": bare_loop(world, job), "child": lambda world=world, job=job: train_child(world.shared, job)}
        for action in actions.values():
            action()
        interleaved({name: counted(action, processor[name]) for name, action in actions.items()}, rounds, warmup=0)
        found[root] = {"child over bare": ratio(processor, "child", "bare"), "processor seconds": processor}
    return found


def equal(a: Any, b: Any) -> bool:
    """Whether two answers are the same bits, times apart."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k != "seconds")
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def cache(images: int, batch: int, rounds: int) -> dict[str, Any]:
    """A generation with the store and without, in turns; the store begins empty every time."""
    found: dict[str, Any] = {"target": {"conv": 1.5}, "images": images, "batch": batch, "rounds": rounds}
    found |= {"children": CHILDREN, "cycles": CYCLES}
    for name, root, share in (("conv", "conv", 1.0), ("vit", "vit", 1.0), ("vit, mu", "vit", 0.2)):
        world = World(root, images, batch)
        jobs = [world.job(number, share) for number in range(CHILDREN)]
        answers: dict[str, list[Any]] = {}

        def generation(budget: int, key: str, world: World = world, jobs: Any = jobs, answers: Any = answers) -> None:
            forget()
            shared = replace(world.shared, cache_bytes=budget)
            answers[key] = [train_child(shared, job) for job in jobs]

        processor: dict[str, list[float]] = {"off": [], "on": []}
        actions = {
            "off": counted(lambda generation=generation: generation(0, "off"), processor["off"]),
            "on": counted(lambda generation=generation: generation(2**31, "on"), processor["on"]),
        }
        interleaved(actions, rounds, warmup=0)
        forget()
        same = all(equal(a, b) for a, b in zip(answers["off"], answers["on"], strict=True))
        figures = {"off over on": ratio(processor, "off", "on"), "same bits": same, "processor seconds": processor}
        found[name] = {"root": ROOTS[root], "layers": len(world.slots), **figures}
    return found


def workers(images: int, batch: int, rounds: int) -> dict[str, Any]:
    """A generation by one and by two workers of the same cluster on this machine, in turns."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    world = World("numerals", images, batch)
    jobs = [world.job(number) for number in range(CHILDREN)]
    engines = {
        n: Engine(config=RunConfig(device="cpu", threads=1, executor="ray", parallel=n), progress=False) for n in (1, 2)
    }
    engines[2].map(train_child, jobs[:2], World("numerals", 64, 32, cycles=1).shared)  # starts both workers
    answers: dict[str, Any] = {}

    def generation(count: int) -> None:
        answers[str(count)] = engines[count].map(train_child, jobs, world.shared)

    seconds = interleaved({str(n): lambda n=n: generation(n) for n in (1, 2)}, rounds, warmup=0)
    same = all(equal(a, b) for a, b in zip(answers["1"], answers["2"], strict=True))
    ray.shutdown()
    found = {"target": 1.6, "1 worker over 2": ratio(seconds, "1", "2"), "same bits": same, "wall seconds": seconds}
    middle = {key: statistics.median(values) for key, values in seconds.items()}
    return {**found, "children": CHILDREN, "images": images, "batch": batch, "rounds": rounds, "median_s": middle}


PARTS: dict[str, Callable[[int, int, int], dict[str, Any]]] = {"child": child, "cache": cache, "ray": workers}
SIZES = {"child": (2048, 256, 5), "cache": (1024, 128, 3), "ray": (2048, 256, 3)}


def main() -> None:
    """One part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="child")
    parser.add_argument("--images", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    given = (args.images, args.batch, args.rounds)
    images, batch, rounds = (a or b for a, b in zip(given, SIZES[args.part], strict=True))
    figures = PARTS[args.part](images, batch, rounds)
    words = ["python benchmarks/bench_mu2net.py", "--part", args.part]
    names = ("images", "batch", "rounds")
    words += [f"--{name} {value}" for name, value in zip(names, given, strict=True) if value is not None]
    write_record(f"mu2net_{args.part}", figures, " ".join(words), args.out)


if __name__ == "__main__":
    main()
