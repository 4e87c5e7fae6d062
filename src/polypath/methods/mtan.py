"""MTAN: one trunk whose features every task picks through attention of its own (Liu, Johns, Davison, 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from polypath.core.config import Config
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.together import together_objective
from polypath.methods.training import JointConfig, optimizer_of, train
from polypath.nn.attention import AttentionNetwork
from polypath.nn.backbones import Described, common_inputs
from polypath.nn.residual import ResidualConfig


class MtanConfig(JointConfig):
    """Settings of MTAN; those of training are `polypath.methods.training.JointConfig`'s.

    The defaults of the optimizer are those with which the Multi-Path paper compares all methods.

    Args:
        backbone: the trunk, a `resnet18`.
    """

    backbone: Described = Field("resnet18", validate_default=True)


class Mtan(Method[MtanConfig]):
    """Multi-task attention network; the sum of all task losses is minimised with equal weights."""

    name: ClassVar[str] = "mtan"
    config_class: ClassVar[type[Config]] = MtanConfig
    network_class: ClassVar[type[Network]] = AttentionNetwork
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone"})

    @property
    def isolation(self) -> Isolation:
        """Always joint: tasks share the trunk."""
        return "joint"

    def build(self, tasks: Sequence[Task], run: Run) -> AttentionNetwork:
        """The trunk, for inputs of the tasks' common shape."""
        assert isinstance(self.config.backbone, dict)
        inputs = common_inputs(tasks, self.name)
        return AttentionNetwork(ResidualConfig(backbone=self.config.backbone, inputs=inputs, seed=run.seed))

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage of all tasks, known ones included."""
        return [Stage((*known, *new))]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """One step a mini-batch of every task on the sum of their losses."""
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
            objective=together_objective(network, {item.name: item for item in data}, run),
            shared=self.config.shares(data),
        )
