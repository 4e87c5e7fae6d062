"""NestedNet: levels of one network, each inside the next; level k is the network of task k. All are trained together.

Paper: Kim, Ahn and Oh, NestedNet: learning nested sparse structures in deep neural networks (2018); in the multi-task
use of the Multi-Path paper every level has a task of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage, paced_epochs
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.owners import empty_network
from polypath.methods.training import TrainingConfig, optimizer_of, steps_an_epoch, train
from polypath.nn.backbones import Described, common_inputs
from polypath.nn.nested import Nested
from polypath.nn.spaces import Space
from polypath.nn.subnet import Subnetworks
from polypath.nn.subnet_config import increasing
from polypath.ops.ownership import share_count
from polypath.ops.pruning import cubic_sparsity, nested_units


class NestedNetConfig(TrainingConfig):
    """Settings of NestedNet. Those of plain training are inherited.

    Args:
        backbone: the network whose levels the tasks get, see `polypath.nn.backbones`.
        ratios: part of the network that each level holds, increasing; as many levels as numbers at most.
        ratio_of: in levels of channels, of the `units` of every layer, or of the `weights` of the whole network.
        select: levels of `channel`s (units by their position), or of weights by `magnitude`.
        search_epochs: magnitude: epochs of gradual pruning after which every weight's level is settled.
        update_every: magnitude: optimizer steps between two rankings of the weights.
        init: see `polypath.nn.subnet_config.SubnetConfig`.
    """

    backbone: Described = Field("mlp", validate_default=True)
    ratios: tuple[float, ...] = (0.4, 0.6, 0.7, 0.8, 1.0)
    ratio_of: Literal["units", "weights"] = "units"
    select: Literal["channel", "magnitude"] = "channel"
    search_epochs: int = Field(10, gt=0)
    update_every: int = Field(10, gt=0)
    init: Literal["normal", "backbone"] = "backbone"

    @field_validator("ratios")
    @classmethod
    def _increasing(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return increasing(value)


class NestedNet(Method[NestedNetConfig]):
    """Owners as levels: task k reads the weights of levels 1..k, which learn from all tasks that read them."""

    name: ClassVar[str] = "nestednet"
    config_class: ClassVar[type[Config]] = NestedNetConfig
    network_class: ClassVar[type[Network]] = Subnetworks
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone", "ratios", "ratio_of", "select", "init"})

    @property
    def isolation(self) -> Isolation:
        """Joint: a new level trains those inside it again."""
        return "joint"

    def build(self, tasks: Sequence[Task], run: Run) -> Subnetworks:
        """The network without an owner; refuses now what would not fit later.

        Raises:
            InvalidInput: more tasks than ratios, layers too narrow for a level, inputs of several shapes.
        """
        common_inputs(tasks, self.name)  # all levels read the same inputs
        ratios, heads, levels = self.config.ratios, "dense", tuple[float, ...]()
        if self.config.select == "channel":
            heads, levels = "masked", nested_units(ratios) if self.config.ratio_of == "weights" else ratios
        return empty_network(self, tasks, run.seed, ("init",), heads=heads, levels=levels, reads="earlier")

    def admit(self, network: Network, task: Task) -> None:
        """Add a task as the next level."""
        assert isinstance(network, Subnetworks)
        level, ratios = len(network.tasks), self.config.ratios
        if level >= len(ratios):
            raise InvalidInput(
                f"task {task.name!r}: ratios {list(ratios)} make {len(ratios)} levels, and {level} are taken; learn "
                "a system with more numbers, or remove a task"
            )
        if task.inputs != network.config.inputs:
            raise InvalidInput(
                f"task {task.name!r}: levels of one network read inputs of one shape, {network.config.inputs!r}; "
                f"received {task.inputs!r}"
            )
        if self.config.select == "magnitude":
            begin, end = ([0.0, *ratios][level], ratios[level])
            network.add_task(task, lambda space, entry, free: _count(space, entry, end) - _count(space, entry, begin))
            return
        where = self._channels(network, level)
        network.add_task(task, lambda space, entry, free: len(where(space, entry)))
        for component in network.own(task.name):
            space, values = network.space(component), network.initial(component, task)[0]
            for entry in space.masked:
                if not network.part(component).values(entry).is_meta:
                    positions = where(space, entry)
                    network.hold(component, entry, positions, values[entry].view(-1)[positions])

    def _channels(self, network: Subnetworks, level: int) -> Callable[[Space, str], torch.Tensor]:
        with torch.device("cpu"):
            nested = Nested(network.template, network.config.levels)

        def positions(space: Space, entry: str) -> torch.Tensor:
            head = space.name.startswith("head")
            with torch.device("cpu"):  # also where a network is only planned
                held = nested.head(space, level) if head else nested.levels(space, entry) == level
                return held.nonzero().view(-1)

        return positions

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """A tenth of the passes finds the levels, where they go by magnitude."""
        search = max(1, passes // 10) if self.config.select == "magnitude" else 0
        found = paced_epochs(self.config, passes - search)
        return {**found, "search_epochs": search} if search else found

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage of all levels, known ones included."""
        return [Stage((*known, *new))]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Minimise the sum of all levels' losses; smaller tasks are oversampled to the largest."""
        assert isinstance(network, Subnetworks)
        if self.config.select == "magnitude":
            Search(network, data, self.config).run(run)
        names = [item.name for item in data]
        moving = list(network.components())
        optimizer = optimizer_of(self.config, network.trainable(moving))
        train(network, data, run, self.config, optimizers={names[0]: optimizer}, groups=[names], moving=moving)


class Search:
    """Gradual pruning towards nested levels by magnitude.

    All weights of a layer are the first level's while the search lasts. Every level sees the largest of them, at first
    all, in the end its ratio (cubic schedule); gradients pass straight through to the others, which can come back. At
    the end the weights between two thresholds become the upper level's.
    """

    def __init__(self, network: Subnetworks, data: Sequence[TaskData], config: NestedNetConfig) -> None:
        self.network, self.data, self.config = network, data, config
        self.masks: dict[str, torch.Tensor] = {}
        top = list(network.tasks)[-1]
        self.layers = [
            (step, entry) for step in network.path(top).steps[:-1] for entry in network.space(step[0]).masked
        ]

    def run(self, run: Run) -> None:
        """Learn with limits that tighten, then settle every weight's level."""
        network, config, names = self.network, self.config, [item.name for item in self.data]
        total = config.search_epochs * steps_an_epoch({item.name: item for item in self.data}, [names], config)
        taken = {"steps": 0}
        self._begin(run.device)

        def tighten() -> None:
            taken["steps"] += 1
            if taken["steps"] % config.update_every == 0:
                self.rank(taken["steps"] / total)

        moving = list(network.components())
        plain = config.changed(patience=0, evaluate_every=0)
        parameters = [parameter for parameter in network.trainable(moving) if parameter.numel()]
        train(
            network,
            self.data,
            run,
            plain,
            optimizers={names[0]: optimizer_of(plain, parameters)},
            groups=[names],
            moving=moving,
            key="search",
            epochs=config.search_epochs,
            after_step=tighten,
            taken=taken,
            masks=self.masks,
        )
        self._settle()

    def _begin(self, device: torch.device) -> None:
        network, task = self.network, next(iter(self.network.tasks.values()))
        for owners, entry in self.layers:
            size = network.space(owners[0]).size(entry)
            values = network.initial(owners[0], task)[0][entry].reshape(-1).clone()
            for owner in owners:
                part = network.part(owner)
                values[part.positions(entry).cpu()] = part.values(entry).detach().cpu()
            for number, owner in enumerate(owners):
                held = torch.arange(0 if number else size)
                network.hold(owner, entry, held, values[held])
                mask = torch.ones(size, dtype=torch.bool, device=device)
                self.masks[f"{owner}/{entry}"] = mask
                network.limit(owner, entry, mask)

    def rank(self, progress: float) -> None:
        """Let every level see its part, at this point of the schedule, of the largest weights."""
        for owners, entry in self.layers:
            order = self._order(owners[0], entry)
            for owner, ratio in zip(owners, self.config.ratios, strict=False):
                kept = share_count(1 - cubic_sparsity(0.0, 1 - ratio, progress), len(order))
                self.masks[f"{owner}/{entry}"].zero_()[order[:kept]] = True

    def _order(self, component: str, entry: str) -> torch.Tensor:
        values = self.network.part(component).values(entry).detach()
        return values.abs().argsort(descending=True, stable=True)

    def _settle(self) -> None:
        network = self.network
        for owners, entry in self.layers:
            order, values = self._order(owners[0], entry), network.part(owners[0]).values(entry).detach().clone()
            ends = [_count(network.space(owners[0]), entry, ratio) for ratio in self.config.ratios]
            for owner, begin, end in zip(owners, [0, *ends], ends, strict=False):
                positions = order[begin:end].sort().values
                network.hold(owner, entry, positions, values[positions])
                network.limit(owner, entry, None)


def _count(space: Space, entry: str, ratio: float) -> int:
    return share_count(ratio, space.size(entry))
