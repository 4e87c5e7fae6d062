"""PackNet: one network filled task after task; each prunes what it trained and leaves the rest to the next.

Paper: Mallya and Lazebnik, PackNet: adding multiple tasks to a single network by iterative pruning (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage, paced_epochs
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.owners import empty_network
from polypath.methods.training import BatchSize, TrainingConfig, optimizer_of, train
from polypath.nn.backbones import Described
from polypath.nn.spaces import Space
from polypath.nn.subnet import Rule, Subnetworks
from polypath.nn.subnet_config import increasing
from polypath.ops.ownership import choose, share_count

PRUNE = (0.5, 0.75)


class PackNetConfig(TrainingConfig):
    """Settings of PackNet. Those of plain training are inherited.

    Args:
        backbone: the network that the tasks share, see `polypath.nn.backbones`.
        prune: part of the weights a task has trained that it gives back, first task first; the last number counts for
            all later tasks. Exactly round(prune x n) of a layer's n go, the smallest in absolute value.
        ratios: instead of `prune`, part of every layer that is taken after the first, second, ... task, increasing
            (0.4, 0.6, 0.7, 0.8, 1 for five tasks in the Multi-Path paper); no task more than there are numbers.
        retrain_epochs: passes with the weights that were kept; 0 for none.
        retrain_rate: learning rate of these.
        dense: biases and norms of the `first` task serve all (the original), or every `task` has its own.
        restart: free weights start from `zero`, as the pruned ones are (the original), or from `initial` values.
        layers: patterns of the layers whose weights are shared; the others stay dense, a copy for every task.
        init: see `polypath.nn.subnet_config.SubnetConfig`.
    """

    backbone: Described = Field("mlp", validate_default=True)
    prune: tuple[float, ...] = PRUNE
    ratios: tuple[float, ...] = ()
    epochs: int = Field(20, gt=0)
    batch: BatchSize | dict[str, BatchSize] = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"
    learning_rate: float = Field(1e-3, gt=0)
    decay_at: tuple[int, ...] = (10,)
    retrain_epochs: int = Field(10, ge=0)
    retrain_rate: float = Field(1e-4, gt=0)
    dense: Literal["first", "task"] = "first"
    restart: Literal["zero", "initial"] = "zero"
    layers: tuple[str, ...] = ("*",)
    init: Literal["normal", "backbone"] = "backbone"

    @field_validator("prune")
    @classmethod
    def _parts(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 <= part < 1 for part in value):
            raise ValueError(f"at least one number, each from 0 up to but not including 1; received {list(value)}")
        return value

    @field_validator("ratios")
    @classmethod
    def _increasing(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return increasing(value) if value else value

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.ratios and self.prune != PRUNE:
            raise ValueError("prune and ratios say the same thing twice: give one of them")
        return self


class PackNet(Method[PackNetConfig]):
    """Owners 1..k: task k reads the weights of all tasks before it and moves its own."""

    name: ClassVar[str] = "packnet"
    config_class: ClassVar[type[Config]] = PackNetConfig
    network_class: ClassVar[type[Network]] = Subnetworks
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone", "layers", "init", "dense"})

    @property
    def isolation(self) -> Isolation:
        """Always exact."""
        return "exact"

    def build(self, tasks: Sequence[Task], run: Run) -> Subnetworks:
        """The network without an owner; refuses now what would not fit later.

        Raises:
            InvalidInput: a layer in which nothing would be left for a task (names both), more tasks than `ratios`.
        """
        return empty_network(self, tasks, run.seed, ("layers", "init", "dense"), heads="dense", reads="earlier")

    def admit(self, network: Network, task: Task) -> None:
        """Add a task with the weights it will keep, among those that are free."""
        assert isinstance(network, Subnetworks)
        network.add_task(task, self._kept(len(network.tasks), task.name))

    def _kept(self, earlier: int, task: str) -> Rule:
        """How many of a layer's free weights a task keeps that comes after `earlier` others."""
        prune, ratios = self.config.prune, self.config.ratios
        if ratios and earlier >= len(ratios):
            raise InvalidInput(
                f"task {task!r}: ratios {list(ratios)} say what {len(ratios)} tasks take, and {earlier} are there; "
                "give more numbers, or remove a task"
            )

        def kept(space: Space, entry: str, free: int) -> int:
            if not ratios:
                return free - round(prune[min(earlier, len(prune) - 1)] * free)
            size = space.size(entry)
            return max(0, share_count(ratios[earlier], size) - (size - free))

        return kept

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """A third of the passes retrains what was kept, where that is done at all."""
        again = passes // 3 if self.config.retrain_epochs else 0
        return {**paced_epochs(self.config, passes - again), "retrain_epochs": again}

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage a task."""
        return [Stage((name,)) for name in new]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Train all free weights, keep the largest, train these again."""
        assert isinstance(network, Subnetworks)
        config = self.config
        for item in data:
            mine, older = network.own(item.name), network.older(item.name)
            network.freeze(network.components().keys() - set(mine))
            counts = {part: network.part(part).counts() for part in mine}
            for part in mine[:-1]:  # the head is the task's own and stays whole
                network.widen(part, item.task, zero=config.restart == "zero" and bool(older.get(part)))
            self._train(network, item, run, config, "train")
            for part in mine[:-1]:
                keep_largest(network, part, counts[part])
            if config.retrain_epochs:
                again = config.changed(epochs=config.retrain_epochs, learning_rate=config.retrain_rate, decay_at=())
                self._train(network, item, run, again, "retrain")

    def _train(self, network: Subnetworks, item: TaskData, run: Run, config: PackNetConfig, key: str) -> None:
        mine = network.own(item.name)
        train(
            network,
            [item],
            run,
            config,
            optimizers={item.name: optimizer_of(config, network.trainable(mine))},
            groups=[[item.name]],
            moving=mine,
            key=key,
        )


def keep_largest(network: Subnetworks, component: str, counts: dict[str, int]) -> None:
    """Let a component keep so many of its weights in every layer, the largest in absolute value.

    Ties go to the lower position: exactly as many are kept as wanted, also when all are equal.
    """
    for entry, count in counts.items():
        part = network.part(component)
        positions = part.positions(entry)
        scores = part.values(entry).detach().abs()
        if not torch.isfinite(scores).all():
            raise InvalidInput(
                f"pruning {component}.{entry}: a weight became NaN or infinite; use a lower learning rate, or "
                "precision='32-true'"
            )
        network.settle(component, entry, choose(scores.cpu(), positions.cpu(), count))
