"""DF-CNN: the filters of every task's network are generated from knowledge bases that all tasks share.

Paper: Lee, Stokes and Eaton, Learning Shared Knowledge for Deep Lifelong Learning Using Deconvolutional Networks
(IJCAI 2019), section 2 and algorithm 1; details that only the authors' code settles are named in docs/methods/dfcnn.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from polypath.core.config import Config
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage, paced_epochs
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.training import BatchSize, OptimizerName, TrainingConfig, optimizer_of, train, train_drawn
from polypath.nn.backbones import Described, common_inputs
from polypath.nn.columns import Columns
from polypath.nn.factorized import Factorized, FactorizedConfig, Size
from polypath.nn.generated import Variant
from polypath.ops.rmsprop import initial_squares


class DFCNNConfig(TrainingConfig):
    """Settings of DF-CNN; the defaults are those of the paper's CIFAR-100 experiment (appendix B.3).

    The settings of training are `polypath.methods.training.TrainingConfig`'s.

    Args:
        mode: `lifelong` (one task after the other; the knowledge bases move with each) or `multitask` (every epoch is
            a pass over one task, drawn with replacement; `epochs` counts those of all tasks together).
        backbone: any convolutional one, see `polypath.nn.backbones`; its convolutions are generated.
        variant, knowledge, basis, maps, growth, side: see `polypath.nn.factorized.FactorizedConfig`.
    """

    mode: Literal["lifelong", "multitask"] = "lifelong"
    backbone: Described = Field("dfcnn", validate_default=True)
    variant: Variant = "contraction"
    knowledge: tuple[Size, ...] | None = None
    basis: tuple[int, ...] | None = None
    maps: tuple[int, ...] | None = None
    growth: int = Field(2, gt=0)
    side: int = Field(3, gt=0)
    epochs: int = Field(2000, gt=0)
    batch: BatchSize | dict[str, BatchSize] = 10
    optimizer: OptimizerName = "rmsprop_tf1"
    learning_rate: float = Field(1e-4, gt=0)
    time_decay: float = Field(1 / 4000, ge=0)
    over_batch: Literal["mean", "sum"] = "sum"
    drop_last: bool = True
    peaks: Literal["validation", "test"] = "validation"


class DFCNN(Method[DFCNNConfig]):
    """Deconvolutional factorized CNN.

    A step of a task moves the knowledge bases, its own transforms, biases and dense layers, and nothing else; the
    filters of other tasks change with the bases, which is forgetting or reverse transfer. Every task has an optimizer
    of its own, for the bases as well; RMSProp's accumulators and the epoch counter are kept with the system.
    """

    name: ClassVar[str] = "dfcnn"
    config_class: ClassVar[type[Config]] = DFCNNConfig
    network_class: ClassVar[type[Network]] = Factorized
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone", "variant", "knowledge", "basis", "maps", "growth", "side"})

    @property
    def isolation(self) -> Isolation:
        """Known tasks drift in lifelong mode; in multitask mode they are trained again."""
        return "drifts" if self.config.mode == "lifelong" else "joint"

    def build(self, tasks: Sequence[Task], run: Run) -> Factorized:
        """The knowledge bases, for inputs of the tasks' common shape."""
        config = self.config
        shape = {name: getattr(config, name) for name in ("variant", "knowledge", "basis", "maps", "growth", "side")}
        inputs = common_inputs(tasks, self.name)
        values = {**shape, "backbone": config.backbone, "inputs": inputs, "seed": run.seed}
        return Factorized(FactorizedConfig.of(values, "method"))

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """In multitask mode epochs count all tasks together."""
        return paced_epochs(self.config, passes * (tasks if self.config.mode == "multitask" else 1))

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """Lifelong: one stage a task; multitask: one stage of all, known ones included."""
        return [Stage((name,)) for name in new] if self.config.mode == "lifelong" else [Stage((*known, *new))]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Train the stage's tasks."""
        assert isinstance(network, Columns)
        optimizers = {item.name: self._optimizer(network, item.name) for item in data}
        if self.config.mode == "multitask":
            kept = {} if self.config.optimizer.startswith("rmsprop") else optimizers
            train_drawn(network, data, run, self.config, optimizers=optimizers, kept=kept)
            return
        for item in data:
            train(
                network,
                [item],
                run,
                self.config,
                optimizers={item.name: optimizers[item.name]},
                groups=[[item.name]],
                moving=network.path(item.name).components,
            )

    def _optimizer(self, network: Columns, task: str) -> torch.optim.Optimizer:
        """The task's own; RMSProp's squares lie beside the task's components, those of the bases too."""
        names = network.path(task).components
        parameters = network.trainable(names)
        if not self.config.optimizer.startswith("rmsprop"):
            return optimizer_of(self.config, parameters)
        keys = {id(parameter): key for key, parameter in network.named_parameters()}
        owners = {key: name for name in names for key in network.components()[name].tensors.values()}
        head = names[-1]
        squares = []
        for parameter in parameters:
            key = keys[id(parameter)]
            owner = owners[key] if not owners[key].startswith("base.") else head
            tf1 = self.config.optimizer == "rmsprop_tf1"
            entry = f"square.{key}"
            squares.append(network.memory.keep(owner, entry, lambda p=parameter, t=tf1: initial_squares(p, t)))  # type: ignore[misc]
        return optimizer_of(self.config, parameters, squares)
