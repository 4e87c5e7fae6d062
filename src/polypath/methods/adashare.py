"""AdaShare: for every task a learned choice of which blocks of one network it runs (Sun et al., 2020).

First a search, in which weights and policies learn in turn on different examples; then policies are drawn, a network is
trained anew for each draw, and the one that is best on validation examples is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator

from polypath.core.config import Config
from polypath.core.errors import NeedsValidation
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage, paced_epochs
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.seeds import derive
from polypath.core.task import Task
from polypath.methods import assignment
from polypath.methods.together import batches as side_by_side
from polypath.methods.together import together_objective
from polypath.methods.training import JointConfig, optimizer_of, train
from polypath.nn.backbones import Described, common_inputs
from polypath.nn.policy import BLOCKS, PolicyNetwork
from polypath.nn.residual import ResidualConfig
from polypath.ops.policies import drawn_policy, sharing_loss, skipping_loss, soft_sample

DRAW_EPOCHS = 10
"""Where passes are few, several policies are trained only if each gets so many: one says nothing of a network."""


class AdaShareConfig(JointConfig):
    """Settings of AdaShare; training of the final network is `polypath.methods.training.JointConfig`'s.

    Args:
        backbone: a `resnet18`.
        search_epochs: of the search; an epoch after the warm-up is one pass of the weights and one of the policies.
        warmup_epochs: of these, with every block run (the authors: a fifth); less than all.
        policy_share: of the training examples that teach the policies; the rest teaches the weights.
        search_rate: learning rate of the weights in the search (SGD, momentum 0.9, weight decay 1e-4).
        policy_rate: of the policies (Adam, weight decay 5e-4).
        temperature, cooling: of the soft samples, and its factor after every epoch.
        curriculum_every: epochs after which the search opens one more block, the last one first; others run.
        skip_weight, share_weight: of the two losses on policies.
        draws: policies drawn after the search; each is trained, the best by validation loss is kept. Blocks that the
            search has not opened have no policy, and run.
    """

    backbone: Described = Field("resnet18", validate_default=True)
    search_epochs: int = Field(50, gt=0)
    warmup_epochs: int = Field(10, ge=0)
    policy_share: float = Field(0.2, gt=0, lt=1)
    search_rate: float = Field(1e-3, gt=0)
    policy_rate: float = Field(0.01, gt=0)
    temperature: float = Field(5.0, gt=0)
    cooling: float = Field(0.965, gt=0, le=1)
    curriculum_every: int = Field(3, gt=0)
    skip_weight: float = Field(0.05, ge=0)
    share_weight: float = Field(0.05, ge=0)
    draws: int = Field(8, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_epochs >= self.search_epochs:
            raise ValueError(
                "warmup_epochs must be less than search_epochs, for no policy is learned in the warm-up; received "
                f"{self.warmup_epochs} of {self.search_epochs}"
            )
        if self.evaluate_every:
            raise ValueError(
                "evaluate_every must be 0: what it would measure are the networks of drawn policies, of which all but "
                f"one are thrown away; received {self.evaluate_every}"
            )
        return self

    def opened(self, epoch: int) -> int:
        """How many blocks, counted from the last, have policies in an epoch of the search."""
        since = epoch - self.warmup_epochs
        return min(BLOCKS, 1 + since // self.curriculum_every) if since >= 0 else 0


class AdaShare(Method[AdaShareConfig]):
    """Blocks shared by choice; tasks whose policies differ still learn together."""

    name: ClassVar[str] = "adashare"
    config_class: ClassVar[type[Config]] = AdaShareConfig
    network_class: ClassVar[type[Network]] = PolicyNetwork
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone"})

    @property
    def isolation(self) -> Isolation:
        """Always joint."""
        return "joint"

    def build(self, tasks: Sequence[Task], run: Run) -> PolicyNetwork:
        """All blocks, run by every task until policies are found."""
        return self._network(common_inputs(tasks, self.name), run.seed)

    def _network(self, inputs: Any, seed: int) -> PolicyNetwork:
        assert isinstance(self.config.backbone, dict)
        return PolicyNetwork(ResidualConfig(backbone=self.config.backbone, inputs=inputs, seed=seed))

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """A quarter of the passes searches, the rest trains draws.

        The curriculum opens blocks in proportion, and soon enough for all where there are epochs for it; there are as
        many draws as can each have `DRAW_EPOCHS`, one at least.
        """
        config, given = self.config, self.config.model_fields_set
        least = config.warmup_epochs + 1 if "warmup_epochs" in given else 1
        search = config.search_epochs if "search_epochs" in given else max(least, passes // 4)
        warmup = config.warmup_epochs if "warmup_epochs" in given else search // 5
        every = min(config.curriculum_every * search // config.search_epochs, (search - warmup - 1) // (BLOCKS - 1))
        draws = min(config.draws, max(1, (passes - search) // DRAW_EPOCHS))
        return {
            **paced_epochs(config, (passes - search) // draws),
            "search_epochs": search,
            "warmup_epochs": warmup,
            "curriculum_every": max(1, every),
            "draws": draws,
        }

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage of all tasks, known ones included; their policies are searched again."""
        return [Stage((*known, *new))]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Search, draw policies, train each draw from scratch, keep the best.

        Raises:
            NeedsValidation: several draws, but a task without validation examples to choose by.
        """
        assert isinstance(network, PolicyNetwork)
        config = self.config
        without = [item.name for item in data if item.val is None]
        if config.draws > 1 and without:
            raise NeedsValidation(
                f"adashare chooses among {config.draws} drawn policies by validation loss, but {without} have no "
                "validation split; build the suite with validation=0.1 or so, or set draws=1"
            )
        logits = self._search(network, data, run)
        always = BLOCKS - config.opened(config.search_epochs - 1)  # blocks without a learned policy
        best: tuple[float, PolicyNetwork] | None = None
        for draw in range(config.draws):
            candidate = self._fresh(network, derive(run.seed, "draw", draw) % 2**32)
            stream = run.rng("policies", draw)
            for name, table in logits.items():
                learned = table.detach()[always:]
                probabilities = [1.0] * always + learned.softmax(1)[:, 0].tolist()
                candidate.set_policy(name, [True] * always + drawn_policy(learned, stream), probabilities)
            run.place(candidate)
            self._train(candidate, data, run, f"draw {draw}")
            loss = 0.0
            if config.draws > 1:
                loss = sum(assignment.validation_losses(candidate, data, run.device).values())
            if best is None or loss < best[0]:
                best = (loss, candidate)
        assert best is not None
        for name in logits:
            network.set_policy(name, best[1].policies[name], best[1].probabilities[name])
        with torch.no_grad():
            network.load_state_dict(best[1].state_dict())

    def _fresh(self, network: PolicyNetwork, seed: int) -> PolicyNetwork:
        """A network of the same shape with initial values of its own."""
        plan = network.plan()
        made = self._network(network.config.inputs, seed)
        for entry in plan["tasks"]:  # ids must be the same: tasks may have come and gone
            made._admit(Task.of(entry["task"]), entry["id"])
        return made

    def _train(self, network: PolicyNetwork, data: Sequence[TaskData], run: Run, key: str) -> None:
        names = [item.name for item in data]
        moving = network.components_of(names)
        train(
            network,
            data,
            run,
            self.config,
            optimizers={names[0]: optimizer_of(self.config, network.trainable(moving))},
            groups=[names],
            moving=moving,
            key=key,
            objective=together_objective(network, {item.name: item for item in data}, run),
            shared=self.config.shares(data),
        )

    def _search(self, network: PolicyNetwork, data: Sequence[TaskData], run: Run) -> dict[str, torch.Tensor]:
        """Task -> (8, 2) logits of running and skipping every block."""
        config = self.config
        made = self._fresh(network, derive(run.seed, "search") % 2**32)
        run.place(made)
        logits = {item.name: torch.zeros(BLOCKS, 2, device=run.device, requires_grad=True) for item in data}
        parts = made.components_of(logits)
        rate, decay = config.search_rate, 1e-4
        optimizers = {
            "weights": torch.optim.SGD(made.trainable(parts), lr=rate, momentum=0.9, weight_decay=decay, fused=True),
            "policies": torch.optim.Adam(list(logits.values()), lr=config.policy_rate, weight_decay=5e-4),
        }
        halves = _two_parts(data, config.policy_share, run)
        steps = sum(-(-max(len(item.train) for item in half) // config.batch_of(half[0].name)) for half in halves)
        held: dict[str, Any] = {
            "network": made,
            "optimizers": optimizers,
            "logits": {k: v.data for k, v in logits.items()},
        }
        for epoch in run.epochs(config.search_epochs, steps=steps, **held):
            made.train()
            opened = config.opened(epoch)
            heat = config.temperature * config.cooling ** max(epoch - config.warmup_epochs, 0)
            losses = self._pass(made, halves[0], logits, opened, heat, run, optimizers["weights"], epoch)
            run.log(epoch=epoch, search_loss=losses, opened=opened)
            if opened:
                self._pass(made, halves[1], logits, opened, heat, run, optimizers["policies"], epoch)
        return logits

    def _pass(
        self,
        network: PolicyNetwork,
        data: Sequence[TaskData],
        logits: Mapping[str, torch.Tensor],
        opened: int,
        heat: float,
        run: Run,
        optimizer: torch.optim.Optimizer,
        epoch: int,
    ) -> float:
        """One pass over half of the examples; the policies' own losses count where policies learn."""
        config = self.config
        learns_policies = isinstance(optimizer, torch.optim.Adam)
        stream = run.rng("soft samples", epoch, learns_policies)
        sizes = {item.name: config.batch_of(item.name) for item in data}
        tasks = {item.name: item.task for item in data}
        key = ("search", epoch, learns_policies)
        total, count = 0.0, 0
        for batches in side_by_side(data, run, sizes, config.shares(data), key):
            loss = torch.zeros((), device=run.device)
            for name, batch in batches.items():
                with run.autocast():
                    weights = _forced(soft_sample(logits[name], heat, stream), opened)
                    outputs = network.mixed(batch.inputs, name, weights)
                loss = loss + tasks[name].loss_of(outputs, batch.targets)
            if learns_policies:
                loss = loss + config.skip_weight * skipping_loss(logits, range(BLOCKS - opened, BLOCKS))
                loss = loss + config.share_weight * sharing_loss(logits)
            run.step(loss, optimizer)
            total, count = total + float(loss.detach()), count + 1
        return total / max(count, 1)


def _forced(weights: torch.Tensor, opened: int) -> torch.Tensor:
    """The last `opened` blocks as sampled, the others run."""
    always = torch.tensor([[1.0, 0.0]], device=weights.device).expand(BLOCKS - opened, 2)
    return torch.cat([always, weights[BLOCKS - opened :]])


def _two_parts(data: Sequence[TaskData], share: float, run: Run) -> tuple[list[TaskData], list[TaskData]]:
    """(for the weights, for the policies): every task's examples in two; tasks of one length in the same way."""
    parts: tuple[list[TaskData], list[TaskData]] = ([], [])
    for item in data:
        count = len(item.train)
        order = torch.randperm(count, generator=run.rng("two parts", count))
        cut = min(count - 1, max(1, round(share * count)))
        for part, rows in zip(parts, (order[cut:], order[:cut]), strict=True):
            half = replace(item.train, targets=item.train.targets[rows], index=item.train.index[rows])
            part.append(_unchecked(item, half))
    return parts


def _unchecked(item: TaskData, train: Any) -> TaskData:
    """The task with other training examples, which may lack a class."""
    made = object.__new__(TaskData)
    for name in ("task", "val", "test", "augment", "facts"):
        object.__setattr__(made, name, getattr(item, name))
    object.__setattr__(made, "train", train)
    return made
