"""PaRT: every task trains on its own random choice of modules, all tasks at once.

Paper: PaRT - parallel learning towards robust and transparent AI (2022), section 3 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Batch, TaskData
from polypath.core.method import Isolation, Method, Stage
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.nn.grid import Grid, GridConfig, read_paths


class PaRTConfig(Config):
    """Settings of PaRT; the defaults are those of the paper's CIFAR-100 experiment (section 4.1, appendix B).

    Args:
        mode: `parallel` (algorithm 1), `sequential` (one task after the other, used modules are frozen with their
            BatchNorm statistics) or `single` (every task alone, on modules of its own with the same initial values).
        layout, modules, selected, width, norm, pretrained: the grid, see `polypath.nn.grid.GridConfig`.
        paths: task name -> one row a layer of the modules it uses; tasks not named are drawn.
        paths_file: the same, saved as JSON.
        epochs: passes over the (oversampled) training set.
        batch: examples a mini-batch.
        batch_set: consecutive mini-batches of a task before the next task's turn (parallel).
        learning_rate: of Adam (betas 0.9 and 0.999, eps 1e-8).
        halve_at: epochs at whose start the learning rate is halved.
        weight_decay: of Adam; the paper uses none.
        order: in which tasks are learned in sequential mode; `random` is drawn from the seed. Their paths and heads
            are the same in every order.
        evaluate_every: test metrics every so many epochs (recorded, never used); 0 for the end only.
    """

    mode: Literal["parallel", "sequential", "single"] = "parallel"
    layout: Literal["cifar", "resnet50"] = "cifar"
    modules: int = Field(12, gt=0)
    selected: int = Field(4, gt=0)
    width: int = Field(64, gt=0)
    norm: Literal["shared", "task"] = "shared"
    pretrained: str | None = None
    paths: dict[str, list[list[int]]] = Field(default_factory=dict)
    paths_file: str | None = None
    epochs: int = Field(60, gt=0)
    batch: int = Field(16, gt=1)
    batch_set: int = Field(10, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    halve_at: tuple[int, ...] = (20, 30, 40)
    weight_decay: float = Field(0.0, ge=0)
    order: Literal["given", "random"] = "given"
    evaluate_every: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.selected > self.modules:
            raise ValueError(f"selected (N = {self.selected}) must not exceed modules (M = {self.modules})")
        if self.paths and self.paths_file:
            raise ValueError("give paths or paths_file, not both")
        return self

    def given_paths(self) -> dict[str, list[list[int]]]:
        """Those that are set, here or in the file."""
        return read_paths(self.paths_file) if self.paths_file else self.paths

    def named_tasks(self) -> Mapping[str, Iterable[str]]:
        """Those of the paths."""
        return {"paths": self.given_paths()}


class PaRT(Method[PaRTConfig]):
    """Parallel learning on a grid of modules, with its sequential and single-task modes.

    Every task has an Adam of its own over the modules of its path and its rows of the output layer. That is what
    keeps a step of one task from moving anything off its path: a shared Adam would, through momentum.
    """

    name: ClassVar[str] = "part"
    config_class: ClassVar[type[Config]] = PaRTConfig
    network_class: ClassVar[type[Network]] = Grid
    fixed: ClassVar[frozenset[str]] = frozenset({"layout", "modules", "selected", "width", "norm", "pretrained"})

    @property
    def isolation(self) -> Isolation:
        """Joint in parallel mode; exact in sequential and single mode."""
        return "joint" if self.config.mode == "parallel" else "exact"

    def build(self, tasks: Sequence[Task], run: Run) -> Grid:
        """The grid with all its modules and no task.

        Raises:
            InvalidInput: tasks that are no images with one channel count, or a path that does not fit the grid.
            UnknownName: paths are given, but for none of the tasks.
        """
        config = self.config
        channels = {task.inputs.shape[0] for task in tasks if task.inputs.kind == "image"}
        if len(channels) != 1 or any(task.inputs.kind != "image" for task in tasks):
            kinds = sorted({f"{task.inputs.kind} {task.inputs.shape}" for task in tasks})
            raise InvalidInput(f"part needs image tasks with one channel count, received {kinds}")
        paths, names = config.given_paths(), [task.name for task in tasks]
        if paths and paths.keys().isdisjoint(names):
            raise UnknownName("task in paths", next(iter(paths)), names)
        values = {
            "layout": config.layout,
            "modules": config.modules,
            "selected": config.selected,
            "width": config.width,
            "channels": channels.pop(),
            "norm": config.norm,
            "private": config.mode == "single",
            "pretrained": config.pretrained,
            "paths": paths,
            "seed": run.seed,
        }
        return Grid(GridConfig.of(values, "method"))

    def expect(self, network: Network, tasks: Sequence[str]) -> None:
        """Fix the tasks' positions in the grid: those of the suite, in whichever order they are learned."""
        assert isinstance(network, Grid)
        network.reserve(tasks)

    def admit(self, network: Network, task: Task) -> None:
        """Add a task on the path this configuration sets for it, else on a drawn one.

        Raises:
            InvalidInput: the path does not fit the grid, or single mode was asked for on shared modules.
        """
        assert isinstance(network, Grid)
        if self.config.mode == "single" and not network.config.private:
            raise InvalidInput(
                "mode='single' needs modules of its own for every task, but this system was learned with shared ones; "
                "grow it with mode='sequential' (other tasks stay as they are) or 'parallel'"
            )
        network.add_task(task, self.config.given_paths().get(task.name))

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """Parallel: one stage of all tasks, known ones included; otherwise one stage a new task."""
        if self.config.mode == "parallel":
            return [Stage((*known, *new))]
        names = list(new)
        if self.config.mode == "sequential" and self.config.order == "random":
            names = [names[i] for i in torch.randperm(len(names), generator=run.rng("order of tasks")).tolist()]
        return [Stage((name,)) for name in names]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Train the stage's tasks; in sequential mode everything on other tasks' paths is held still."""
        config = self.config
        names = [item.name for item in data]
        outside = [task for task in network.tasks if task not in names]
        network.freeze({name for task in outside for name in network.path(task).components})
        optimizers = {name: self._optimizer(network, name) for name in names}
        largest = max(len(item.train) for item in data)
        steps = len(data) * -(-largest // config.batch)
        for epoch in run.epochs(config.epochs, steps=steps, network=network, optimizers=optimizers):
            rate = config.learning_rate * 0.5 ** sum(epoch >= start for start in config.halve_at)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = rate
            network.train()
            sums = {name: torch.zeros((), device=run.device) for name in names}
            seen = dict.fromkeys(names, 0)
            for item, batch in self._turns(data, largest, epoch, run):
                with run.autocast():
                    outputs = network(batch.inputs, item.name)
                loss = item.task.loss_of(outputs, batch.targets)
                run.step(loss, optimizers[item.name])
                sums[item.name] += loss.detach() * len(batch)
                seen[item.name] += len(batch)
            run.log(epoch=epoch, learning_rate=rate, loss={name: float(sums[name]) / seen[name] for name in names})
            every = config.evaluate_every
            if every and (epoch + 1) % every == 0 and epoch + 1 < config.epochs:
                run.record_test(network, data)

    def _optimizer(self, network: Network, task: str) -> torch.optim.Optimizer:
        parameters = network.trainable(network.path(task).components)
        config = self.config
        return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)

    def _turns(self, data: Sequence[TaskData], largest: int, epoch: int, run: Run) -> Iterator[tuple[TaskData, Batch]]:
        """Algorithm 1, lines 4 to 8: rounds over the tasks in random order, `batch_set` batches a turn."""
        config = self.config
        streams = {
            item.name: run.batches(item, config.batch, item.name, "epoch", epoch, equal_to=largest) for item in data
        }
        order = run.rng("turns", epoch)
        waiting = list(data)
        while waiting:
            left: set[str] = set()
            for position in torch.randperm(len(waiting), generator=order).tolist():
                item, taken = waiting[position], 0
                for batch in islice(streams[item.name], config.batch_set):
                    taken += 1
                    yield item, batch
                if taken == config.batch_set:
                    left.add(item.name)
            waiting = [item for item in data if item.name in left]
