"""A network small enough to walk by hand: two layers of linear modules, a head for each task."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.network import Network
from polypath.core.preprocess import TablePreprocess
from polypath.core.task import Classification, Features, Task

SIZE = 6


def task(name: str, mean: float = 0.0, labels: int = 3, size: int = SIZE) -> Task:
    pre = TablePreprocess(columns=tuple(f"c{i}" for i in range(size)), mean=(mean,) * size, std=(1.0,) * size)
    target = Classification(labels=tuple(f"{name}{i}" for i in range(labels)))
    return Task(name=name, inputs=Features(size=size), target=target, preprocess=pre)


class Tiny(Network):
    """Steps: sum of the chosen modules, then tanh; at the end the head. Modules `l<layer>.m<number>`."""

    def __init__(self, layers: int = 2, modules: int = 3) -> None:
        super().__init__()
        self.pool, self.heads = nn.ModuleDict(), nn.ModuleDict()
        self._rows: dict[str, list[list[int]]] = {}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for layer in range(layers):
                for number in range(modules):
                    self.pool[f"l{layer}-m{number}"] = nn.Linear(SIZE, SIZE)

    def add(self, task: Task, rows: list[list[int]]) -> "Tiny":
        with torch.random.fork_rng():
            torch.manual_seed(len(self._tasks) + 100)
            self.heads[task.name] = nn.Linear(SIZE, task.target.outputs)
        self._tasks[task.name], self._rows[task.name] = task, rows
        return self

    def components(self):
        found = {}
        for key, module in self.pool.items():
            name = key.replace("-", ".")
            found[name] = Component(name, "module", {k: f"pool.{key}.{k}" for k in module.state_dict()}, capacity=True)
        for key, module in self.heads.items():
            found[f"head.{key}"] = Component(f"head.{key}", "own", {k: f"heads.{key}.{k}" for k in module.state_dict()})
        return found

    def path(self, task, exit=None):
        self.task_named(task)
        rows = self._rows[task]
        steps = [tuple(f"l{layer}.m{number}" for number in row) for layer, row in enumerate(rows)]
        return Path(task, (*steps, (f"head.{task}",)))

    def start(self, inputs):
        return inputs

    def one(self, value, name):
        if name.startswith("head."):
            return self.heads[name.removeprefix("head.")](value)
        return self.pool[name.replace(".", "-")](value)

    def step(self, value, names):
        total = torch.stack([self.one(value, name) for name in names]).sum(0)
        return total if names[0].startswith("head.") else total.tanh()

    def fuse(self, path):
        return _Walk(self, path)

    def plan(self):
        raise NotImplementedError

    add_task = release = restore = plan


class _Walk(nn.Module):
    def __init__(self, network, path):
        super().__init__()
        self.network, self.path = network, path

    def forward(self, inputs):
        return self.network.walk(inputs, self.path)


class TinyShowing(Tiny):
    def step_outputs(self, value: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        return {name: self.one(value, name) for name in names}


@pytest.fixture
def network() -> TinyShowing:
    """Two tasks that share l0.m0 and nothing else; b's inputs are encoded with another mean."""
    return TinyShowing().add(task("a"), [[0, 1], [0, 1]]).add(task("b", mean=0.5), [[0, 2], [2]])


@pytest.fixture
def inputs() -> torch.Tensor:
    """Decoded inputs (20, 6)."""
    return torch.randn(20, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tiny():
    """The classes themselves, for tests that build their own."""
    return Tiny, TinyShowing, task
