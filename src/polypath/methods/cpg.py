"""CPG: each task picks among earlier weights, adds as few of its own as reach its goal, and leaves the rest.

Paper: Hung et al., Compacting, picking and growing for unforgetting continual learning (2019).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage, paced_epochs
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.gradual import Pruning, pruning_key
from polypath.methods.names import keys_of
from polypath.methods.owners import empty_network
from polypath.methods.single import Single, SingleConfig
from polypath.methods.training import BatchSize, TrainingConfig, optimizer_of, steps_an_epoch, train
from polypath.metrics import LOWER_IS_BETTER
from polypath.nn.backbones import Described
from polypath.nn.ownership import key_of
from polypath.nn.spaces import Space
from polypath.nn.subnet import Subnetworks
from polypath.nn.widths import Widths, wider
from polypath.ops.ownership import unpack

log = logging.getLogger(__name__)


class CPGConfig(TrainingConfig):
    """Settings of CPG. Those of plain training are inherited; weight decay is that of a task's own shared weights only.

    Args:
        backbone: the network that the tasks share, see `polypath.nn.backbones`.
        goal: validation score (the task's main metric) that pruning must keep: a number, one task by task (`default`
            for those not named), or `single`: that of a network of the same backbone, trained first for this task alone
            with the same settings and then thrown away.
        max_width: up to which multiple of the backbone's layers the network is widened, for all later tasks too, when
            training does not reach the goal; the task trains again then. 1: never. See `polypath.nn.widths`.
        width_step: how much it is widened at a time.
        missed: when training at the last width does not reach the goal either: `lower` it to what was reached, `keep`
            all free weights (nothing is left for later tasks then), or `refuse`.
        sparsities: parts of the free weights that are given back, one step after the other, increasing.
        prune_epochs: passes for each step.
        prune_every: optimizer steps between two prunings in a step.
        prune_rate: learning rate while pruning.
        mask_init: what the real mask over older weights starts from.
        threshold: above which an older weight is used.
        mask_rate: learning rate of the mask (Adam); it decays like the other.
        layers, init: see `polypath.nn.subnet_config.SubnetConfig`.
    """

    backbone: Described = Field("mlp", validate_default=True)
    goal: Literal["single"] | float | dict[str, float] = "single"
    max_width: float = Field(1.5, ge=1)
    width_step: float = Field(0.5, gt=0)
    missed: Literal["lower", "keep", "refuse"] = "lower"
    sparsities: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    prune_epochs: int = Field(20, gt=0)
    prune_every: int = Field(10, gt=0)
    prune_rate: float = Field(1e-2, gt=0)
    mask_init: float = 0.01
    threshold: float = 0.005
    mask_rate: float = Field(5e-4, gt=0)
    epochs: int = Field(100, gt=0)
    batch: BatchSize | dict[str, BatchSize] = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"
    learning_rate: float = Field(1e-2, gt=0)
    nesterov: bool = True
    weight_decay: float = Field(4e-5, ge=0)
    layers: tuple[str, ...] = ("*",)
    init: Literal["normal", "backbone"] = "backbone"

    @field_validator("sparsities")
    @classmethod
    def _growing(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(low < high for low, high in zip((0.0, *value), (*value, 1.0), strict=True)):
            raise ValueError(f"numbers between 0 and 1, each larger than the one before; received {list(value)}")
        return value

    @model_validator(mode="after")
    def _judged_by_the_goal(self) -> Self:
        if self.patience or self.evaluate_every:
            raise ValueError(
                "patience and evaluate_every must be 0: which state is kept follows from the goal, and the choice of "
                "older weights is settled only where training ends"
            )
        return self

    def widths(self) -> tuple[float, ...]:
        """Multiples of the backbone's width, from 1 to `max_width`."""
        steps = int((self.max_width - 1) / self.width_step + 1e-9)
        return tuple(1 + number * self.width_step for number in range(steps + 1))

    def named_tasks(self) -> dict[str, Iterable[str]]:
        """As of all training, and the goals."""
        return {**super().named_tasks(), "goal": keys_of(self.goal)}

    def goal_of(self, task: str) -> float | None:
        """The given goal of a task; None where a single network sets it.

        Raises:
            InvalidInput: no goal for this task.
        """
        if self.goal == "single":
            return None
        if not isinstance(self.goal, dict):
            return float(self.goal)
        found = self.goal.get(task, self.goal.get("default"))
        if found is None:
            raise InvalidInput(f"goal: none for task {task!r} and no 'default'; received {self.goal}")
        return found


class CPG(Method[CPGConfig]):
    """Owners with a choice: task k reads those older weights that its mask picked, and moves its own."""

    name: ClassVar[str] = "cpg"
    config_class: ClassVar[type[Config]] = CPGConfig
    network_class: ClassVar[type[Network]] = Subnetworks
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone", "layers", "init", "max_width", "width_step"})

    @property
    def isolation(self) -> Isolation:
        """Always exact."""
        return "exact"

    def build(self, tasks: Sequence[Task], run: Run) -> Subnetworks:
        """The network at its last width, without an owner; refuses now what cannot fit even at the highest sparsity.

        Raises:
            InvalidInput: a layer in which nothing would be left for a task (names both), a task without a goal, a
                backbone that cannot be widened.
        """
        for task in tasks:
            self.config.goal_of(task.name)
        assert isinstance(self.config.backbone, dict)
        backbone = wider(self.config.backbone, self.config.widths()[-1], "max_width")
        return empty_network(
            self, tasks, run.seed, ("layers", "init"), backbone=backbone, heads="dense", reads="chosen"
        )

    def admit(self, network: Network, task: Task) -> None:
        """Add a task with what it would keep at the highest sparsity; learning says what it really keeps."""
        assert isinstance(network, Subnetworks)
        highest = max((0.0, *self.config.sparsities))

        def least(space: Space, entry: str, free: int) -> int:
            return min(free, max(1, free - round(highest * free)))

        network.add_task(task, least)

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """Half of the passes prunes, in fewer steps where they are few; a goal by a single network costs as well."""
        half = max(1, passes // 2)
        every = -(-len(self.config.sparsities) // half)
        kept = self.config.sparsities[::-1][::every][::-1]  # the highest among them
        trainings = 2 if self.config.goal == "single" else 1
        pruning = {"sparsities": kept, "prune_epochs": max(1, half // len(kept))}
        return {**paced_epochs(self.config, (passes - half) // trainings), **pruning}

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage a task."""
        return [Stage((name,)) for name in new]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Set the goal, train own weights and the choice among older ones, prune as far as the goal allows."""
        assert isinstance(network, Subnetworks)
        for item in data:
            goal = self.config.goal_of(item.name)
            Learner(network, item, run, self.config).learn(self._reference(item, run) if goal is None else goal)

    def _reference(self, item: TaskData, run: Run) -> float:
        """Validation score of a network that learned this task alone."""
        values = {key: getattr(self.config, key) for key in SingleConfig.model_fields}
        alone = replace(item, task=item.task.renamed(f"{item.name[:90]} (single)"))  # measured under a name of its own
        method = Single(SingleConfig.of(values, "method"))
        network = method.build([alone.task], run)
        network.add_task(alone.task)
        run.place(network)
        method.learn(network, [alone], run)
        return run.score(network, alone)[_metric(alone.task)]


class Learner:
    """One task learning in a network of owners.

    Args:
        network: to which the task was added.
        item: the task.
        run: the engine.
        config: settings.
    """

    def __init__(self, network: Subnetworks, item: TaskData, run: Run, config: CPGConfig) -> None:
        self.network, self.item, self.run, self.config = network, item, run, config
        self.mine = network.own(item.name)
        self.parts = [(part, entry) for part in self.mine[:-1] for entry in network.space(part).masked]
        network.freeze(network.components().keys() - set(self.mine))
        widths = config.widths()
        self.widths = Widths(network.template, widths) if len(widths) > 1 else None
        self.level = self._present()
        self._open()

    def _present(self) -> int:
        """The width that earlier tasks need: none of them was ever given more."""
        if self.widths is None:
            return 0
        found = [0]
        for space, held in self.network.spaces.items():
            for owner in self.network.owners(space):
                if f"{space}.{owner}" not in self.mine and not space.startswith("head"):
                    part = self.network.part(f"{space}.{owner}")
                    found += [self.widths.level(held, entry, part.positions(entry)) for entry in held.masked]
        return max(found)

    def _open(self) -> None:
        """Start anew with all free weights of the present width, and a mask over all older ones."""
        network, older = self.network, self.network.older(self.item.name)
        for part in self.mine:
            space = network.space(part)
            network.part(part).fill(space, network.initial(part, self.item.task)[1])
            network.widen(part, self.item.task)
            for entry in space.masked:
                if self.widths is None:
                    continue
                positions = network.part(part).positions(entry)
                inside = self.widths.inside(space, entry, self.level).to(positions.device)
                network.settle(part, entry, positions[inside[positions]])
        self.sizes = {pair: len(network.part(pair[0]).values(pair[1])) for pair in self.parts}
        if not all(self.sizes.values()) and self._wider():
            return
        self.masks = nn.ParameterDict()
        self.older: dict[tuple[str, str], torch.Tensor] = {}
        for part, entry in self.parts:
            held = [network.part(other).positions(entry) for other in older.get(part, [])]
            if sum(map(len, held)):
                real = nn.Parameter(torch.full((sum(map(len, held)),), self.config.mask_init, device=self.run.device))
                self.masks[pruning_key(part, entry)] = real
                self.older[part, entry] = torch.cat(held)
                network.soften(part, entry, real, self.config.threshold)

    def _wider(self) -> bool:
        """Go to the next width and start anew there; False where there is none."""
        if self.widths is None or self.level == self.widths.last:
            return False
        self.level += 1
        log.info("task %r: the network grows to %g times its width", self.item.name, self.widths.factors[self.level])
        self._open()
        return True

    def learn(self, goal: float) -> None:
        """Train, growing until the goal is met, then prune while it is; the last state that meets it is kept."""
        config, network = self.config, self.network
        self._train(f"train {self.level}", config, None, {})
        reached = self._score()
        while not self._meets(reached, goal) and self._wider():
            self.run.log(task=self.item.name, width=config.widths()[self.level], score=reached, goal=goal)
            self._train(f"train {self.level}", config, None, {})
            reached = self._score()
        if not self._meets(reached, goal):
            goal = self._missed(reached, goal)
        kept, sparsity = self._state(), 0.0
        steps = config.sparsities if self._meets(reached, goal) else ()
        for end in steps:
            self._prune(sparsity, end)
            reached = self._score()
            self.run.log(task=self.item.name, sparsity=end, score=reached, goal=goal)
            if not self._meets(reached, goal):
                break
            kept, sparsity = self._state(), end
        self._restore(kept)
        for part, entry in self.older:
            network.soften(part, entry, None)
        network.count_picks(self.item.name)
        if self.widths is not None and self.level < self.widths.last:
            network.keep_width(self.item.name, self.widths.part(self.level))
        log.info("task %r keeps its goal of %.4g at sparsity %g", self.item.name, goal, sparsity)

    def _missed(self, reached: float, goal: float) -> float:
        text = f"task {self.item.name!r} reached {reached:.4g} on validation, its goal is {goal:.4g}"
        if self.config.missed == "refuse":
            raise InvalidInput(
                f"{text} at {self.config.widths()[-1]:g} times the backbone's width; set a larger max_width (a new "
                "system), more epochs or a lower goal, or say what to do with `missed`"
            )
        lowered = self.config.missed == "lower"
        log.warning("%s; %s", text, "the goal is lowered to that" if lowered else "all free weights are kept")
        return reached if lowered else goal

    # ---- training and pruning ---------------------------------------------------------------------------------

    def _train(self, key: str, config: CPGConfig, pruning: Pruning | None, state: Mapping[str, Any]) -> None:
        network, name = self.network, self.item.name
        decayed = [network.part(part).values(entry) for part, entry in self.parts]
        allowed = network.trainable(self.mine)
        shared = {id(values) for values in decayed}
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in allowed if id(parameter) in shared]},
            {"params": [parameter for parameter in allowed if id(parameter) not in shared], "weight_decay": 0.0},
        ]
        optimizers = [optimizer_of(config, groups)]
        if len(self.masks):
            scaled = {"params": list(self.masks.values()), "scale": config.mask_rate / config.learning_rate}
            optimizers.append(torch.optim.Adam([scaled], lr=config.mask_rate, fused=True))
        train(
            network,
            [self.item],
            self.run,
            config,
            optimizers={name: optimizers},
            groups=[[name]],
            moving=self.mine,
            key=key,
            after_step=pruning,
            piggymasks=self.masks,
            **state,
        )

    def _prune(self, start: float, end: float) -> None:
        """One step of gradual pruning; weights that were pruned stay zero and are given back at its end."""
        config, network = self.config, self.network
        again = config.changed(epochs=config.prune_epochs, learning_rate=config.prune_rate, decay_at=())
        steps = config.prune_epochs * steps_an_epoch({self.item.name: self.item}, [[self.item.name]], config)
        pruning = Pruning(network, self.sizes, config.prune_every, start, end, steps)
        self._train(f"prune {end}", again, pruning, {"pruned": pruning.pruned, "taken": pruning.taken})
        pruning.at(1.0)
        for part, entry in self.parts:
            positions = network.part(part).positions(entry)
            network.settle(part, entry, positions[~pruning.pruned[pruning_key(part, entry)]])

    # ---- choice, score, states --------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Settle the choice as the real masks say now."""
        for (part, entry), positions in self.older.items():
            real = self.masks[pruning_key(part, entry)].detach()
            self.network.choose_older(part, entry, positions[real > self.config.threshold])

    def _score(self) -> float:
        self._choose()
        return self.run.score(self.network, self.item)[_metric(self.item.task)]

    def _meets(self, score: float, goal: float) -> bool:
        return score <= goal if _metric(self.item.task) in LOWER_IS_BETTER else score >= goal

    def _state(self) -> dict[str, dict[str, torch.Tensor]]:
        held = self.network.tensors(self.mine)
        return {part: {local: tensor.detach().clone() for local, tensor in held[part].items()} for part in self.mine}

    @torch.no_grad()
    def _restore(self, kept: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        for part, entry in self.parts:
            key = key_of(entry)
            self.network.hold(part, entry, unpack(kept[part][f"at.{key}"]), kept[part][f"value.{key}"])
        for part, held in self.network.tensors(self.mine).items():
            for local, tensor in held.items():
                tensor.copy_(kept[part][local])


def _metric(task: Task) -> str:
    return task.metric or task.default_metric
