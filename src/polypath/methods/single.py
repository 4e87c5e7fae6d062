"""Single-task learning: every task alone, in a network of its own. The control of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from polypath.core.config import Config
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.training import TrainingConfig, optimizer_of, train
from polypath.nn.backbones import Described, backbone
from polypath.nn.columns import Columns, ColumnsConfig


class SingleConfig(TrainingConfig):
    """Settings of single-task learning; those of training are `polypath.methods.training.TrainingConfig`'s.

    Args:
        backbone: the network of each task, see `polypath.nn.backbones`.
    """

    backbone: Described = Field("mlp", validate_default=True)


class Single(Method[SingleConfig]):
    """A backbone and a head for every task; nothing is shared, so nothing can be disturbed."""

    name: ClassVar[str] = "single"
    config_class: ClassVar[type[Config]] = SingleConfig
    network_class: ClassVar[type[Network]] = Columns
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone"})

    @property
    def isolation(self) -> Isolation:
        """Always exact."""
        return "exact"

    def build(self, tasks: Sequence[Task], run: Run) -> Columns:
        """No column yet; says now whether the backbone takes every task's inputs."""
        assert isinstance(self.config.backbone, dict)
        config = ColumnsConfig(backbone=self.config.backbone, share="none", seed=run.seed)
        for inputs in {str(task.inputs): task.inputs for task in tasks}.values():
            planned(self.config.backbone, inputs)
        return Columns(config)

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage a task."""
        return [Stage((name,)) for name in new]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Train each task of the stage on its own column."""
        for item in data:
            names = network.path(item.name).components
            optimizer = optimizer_of(self.config, network.trainable(names))
            train(
                network,
                [item],
                run,
                self.config,
                optimizers={item.name: optimizer},
                groups=[[item.name]],
                moving=names,
            )


def planned(config: dict[str, Any], inputs: Any) -> int:
    """Number of features that a backbone has for inputs of a shape; raises where it does not take them."""
    import torch

    with torch.device("meta"):
        return backbone(config, inputs).features
