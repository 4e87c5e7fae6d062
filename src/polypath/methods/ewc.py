"""Elastic weight consolidation and RWalk: hard sharing in sequence, held back where earlier tasks need their weights.

Sources: Kirkpatrick et al. 2017 (classic); the online form and RWalk as Chaudhry et al.'s code computes them (running
Fisher of mini-batch gradients, importances normalised to 0..1, no factor 1/2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.utils.hooks import RemovableHandle

from polypath.core.config import Config
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.training import TrainingConfig, optimizer_of, train
from polypath.nn.backbones import Described, common_inputs
from polypath.nn.columns import Columns, ColumnsConfig


class EWCConfig(TrainingConfig):
    """Settings of EWC; those of training are `polypath.methods.training.TrainingConfig`'s.

    Args:
        backbone: the shared trunk, see `polypath.nn.backbones`.
        penalty: `classic`: strength / 2 * sum over tasks of F_t (w - w_t)^2, F_t the mean squared gradient of single
            examples; `online`: strength * F (w - w')^2 with the latest running F and weights; `rwalk`: the same with
            F + s, s the path score.
        strength: lambda, on the scale of a loss that is a mean over the mini-batch (it is multiplied by the size of
            the mini-batch where `over_batch` is `sum`).
        fisher_examples: training examples that classic F is the mean over, at most.
        every: optimizer steps between updates of the running F and the path score.
        keep: share of the new value in the running F.
    """

    backbone: Described = Field("mlp", validate_default=True)
    penalty: Literal["classic", "online", "rwalk"] = "classic"
    strength: float = Field(10.0, ge=0)
    fisher_examples: int = Field(1000, gt=0)
    every: int = Field(50, gt=0)
    keep: float = Field(0.9, gt=0, le=1)


class EWC(Method[EWCConfig]):
    """One trunk, trained one task after the other under a quadratic penalty; a head for each task.

    Importances and the weights they hold on to lie beside the trunk's components as their auxiliary state.
    """

    name: ClassVar[str] = "ewc"
    config_class: ClassVar[type[Config]] = EWCConfig
    network_class: ClassVar[type[Network]] = Columns
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone", "penalty"})

    @property
    def isolation(self) -> Isolation:
        """Known tasks drift, less than without the penalty."""
        return "drifts"

    def build(self, tasks: Sequence[Task], run: Run) -> Columns:
        """The trunk, for inputs of the tasks' common shape."""
        values = {"backbone": self.config.backbone, "share": "trunk", "inputs": common_inputs(tasks, self.name)}
        return Columns(ColumnsConfig.of({**values, "seed": run.seed}))

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage a task."""
        return [Stage((name,)) for name in new]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Train each task under the penalty of those before, then note what it needs."""
        assert isinstance(network, Columns)
        for item in data:
            names = network.path(item.name).components
            optimizer = optimizer_of(self.config, network.trainable(names))
            size = self.config.batch_of(item.name)
            scale = size if self.config.over_batch == "sum" else 1
            guard = Guard(network, [name for name in names if is_shared(name)], self.config, scale)
            with guard:
                train(
                    network,
                    [item],
                    run,
                    self.config,
                    optimizers={item.name: optimizer},
                    groups=[[item.name]],
                    moving=names,
                    after_step=guard.stepped,
                    counters=guard.counters,
                )
            guard.consolidate(network, item, run)


def is_shared(name: str) -> bool:
    """Whether a component is a piece of the trunk that all tasks use."""
    return name.startswith("trunk.") and name.count(".") == 1


class Guard:
    """Adds the penalty's gradient to the shared weights and keeps the figures it is made of.

    Args:
        network: whose memory holds them.
        names: the shared components.
        config: of the method.
        scale: of the penalty, against a loss summed over the mini-batch.
    """

    def __init__(self, network: Columns, names: Sequence[str], config: EWCConfig, scale: float) -> None:
        self.config, self.scale, self.memory = config, scale, network.memory
        held = {key: p for key, p in network.named_parameters() if p.requires_grad}
        parts = network.components()
        self.weights = {
            (name, local): held[key] for name in names for local, key in parts[name].tensors.items() if key in held
        }
        self.first = not all(self.memory.has(name, f"importance.{local}") for name, local in self.weights)
        self.importance, self.anchor = self._entries("importance"), self._entries("anchor")
        running = config.penalty != "classic"
        self.fisher, self.sums = (self._entries(what) if running else {} for what in ("fisher", "sum"))
        walk = config.penalty == "rwalk"
        self.gain, self.path, self.score, self.last, self.before = (
            self._entries(what) if walk else {} for what in ("gain", "path", "score", "last", "before")
        )
        self.score_gradient: dict[tuple[str, str], torch.Tensor] = {}
        self.counters = {"steps": 0}
        self._hooks: list[RemovableHandle] = []
        with torch.no_grad():
            for key, weight in self.weights.items() if walk else ():
                self.last[key].copy_(weight)
                self.path[key].zero_()
                self.gain[key].zero_()

    def _entries(self, what: str) -> dict[tuple[str, str], torch.Tensor]:
        return {
            (name, local): self.memory.keep(name, f"{what}.{local}", lambda w=weight: torch.zeros_like(w))  # type: ignore[misc]
            for (name, local), weight in self.weights.items()
        }

    def __enter__(self) -> Guard:
        for key, weight in self.weights.items():
            self._hooks.append(weight.register_post_accumulate_grad_hook(self._hook(key)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, key: tuple[str, str]) -> Any:
        @torch.no_grad()
        def held_back(weight: torch.Tensor) -> None:
            assert weight.grad is not None
            if self.sums:
                self.sums[key].addcmul_(weight.grad, weight.grad)
            if self.gain:
                self.before[key].copy_(weight)
                self.score_gradient[key] = weight.grad.clone()
            if not self.first:
                twice = 1.0 if self.config.penalty == "classic" else 2.0
                pull = self.importance[key] * (weight - self.anchor[key])
                weight.grad.add_(pull, alpha=twice * self.config.strength * self.scale)

        return held_back

    @torch.no_grad()
    def stepped(self) -> None:
        """After an optimizer step: the running Fisher and the path score, in their rhythm."""
        config, steps = self.config, self.counters["steps"]
        self.counters["steps"] = steps + 1
        for key, weight in self.weights.items() if self.gain else ():
            if key in self.score_gradient:  # a weight without a gradient did not move
                self.gain[key].addcmul_(self.score_gradient[key], weight - self.before[key], value=-1)
        if self.sums and self.first and steps == 0:
            for key, total in self.sums.items():
                self.fisher[key].copy_(total)
        if (steps + 1) % config.every:
            return
        for key, total in self.sums.items():
            self.fisher[key].mul_(1 - config.keep).add_(total, alpha=config.keep / config.every)
            total.zero_()
        for key, gain in self.gain.items():
            moved = self.weights[key] - self.last[key]
            self.path[key].add_((gain / (1e-3 + self.fisher[key] * moved.square())).relu_())
            gain.zero_()
            self.last[key].copy_(self.weights[key])

    @torch.no_grad()
    def consolidate(self, network: Columns, item: TaskData, run: Run) -> None:
        """At a task's end: new importances and the weights they hold on to."""
        if self.config.penalty == "classic":
            found = self._squared_gradients(network, item, run)
            for key, weight in self.weights.items():
                total = self.importance[key] + found[key]
                # Quadratics add up: sum F_t (w - w_t)^2 = F (w - m)^2 + constant, m the F_t-weighted mean of the w_t.
                share = torch.where(total > 0, found[key] / total.clamp_min(1e-38), torch.ones_like(total))
                self.anchor[key].lerp_(weight.detach(), share)
                self.importance[key].copy_(total)
            return
        normal = normalised(self.fisher)
        if self.path:
            for key, path in self.path.items():
                self.score[key].copy_(path if self.first else (self.score[key] + path) / 2)
            scores = normalised(self.score)
            normal = {key: value + scores[key] for key, value in normal.items()}
        for key, weight in self.weights.items():
            self.importance[key].copy_(normal[key])
            self.anchor[key].copy_(weight)

    def _squared_gradients(self, network: Columns, item: TaskData, run: Run) -> dict[tuple[str, str], torch.Tensor]:
        """Mean over training examples of the squared gradient of each example's loss, in evaluation mode."""
        sums = {key: torch.zeros_like(weight) for key, weight in self.weights.items()}
        weights, count = list(self.weights.values()), 0
        network.eval()
        for inputs, target in islice(_singles(run, item), self.config.fisher_examples):
            with torch.enable_grad():
                loss = item.task.loss_of(network(inputs, item.name), target)
                found = torch.autograd.grad(loss, weights, allow_unused=True)
            for key, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    sums[key].addcmul_(gradient, gradient)
            count += 1
        return {key: total / count for key, total in sums.items()}


def _singles(run: Run, item: TaskData) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    for batch in run.batches(item, 32, item.name, "fisher", augment=False):
        yield from zip(batch.inputs.split(1), batch.targets.split(1), strict=True)


def normalised(values: dict[tuple[str, str], torch.Tensor]) -> dict[tuple[str, str], torch.Tensor]:
    """All values together brought to 0..1: (x - min) / (max - min)."""
    low = min(float(value.min()) for value in values.values())
    high = max(float(value.max()) for value in values.values())
    width = high - low or 1.0
    return {key: (value - low) / width for key, value in values.items()}
