"""Progressive neural networks: every task a new column that reads the frozen columns before it.

Paper: Rusu et al., Progressive Neural Networks (2016), section 2; adapters of convolutions as the DF-CNN authors wrote
them.
"""

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
from polypath.methods.training import TrainingConfig, optimizer_of, train
from polypath.nn.backbones import Described, common_inputs
from polypath.nn.columns import ColumnsConfig
from polypath.nn.progressive import Progressive


class ProgNNConfig(TrainingConfig):
    """Settings of progressive networks; those of training are `polypath.methods.training.TrainingConfig`'s.

    Args:
        backbone: of every column: convolutions first, then dense pieces (`dfcnn`, `conv`).
    """

    backbone: Described = Field("dfcnn", validate_default=True)


class ProgNN(Method[ProgNNConfig]):
    """A column a task with lateral adapters from all earlier columns, which never move."""

    name: ClassVar[str] = "prognn"
    config_class: ClassVar[type[Config]] = ProgNNConfig
    network_class: ClassVar[type[Network]] = Progressive
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone"})

    @property
    def isolation(self) -> Isolation:
        """Always exact."""
        return "exact"

    def build(self, tasks: Sequence[Task], run: Run) -> Progressive:
        """No column yet."""
        values = {"backbone": self.config.backbone, "inputs": common_inputs(tasks, self.name), "seed": run.seed}
        return Progressive(ColumnsConfig.of(values))

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage a task."""
        return [Stage((name,)) for name in new]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Train each task's column and laterals; the columns that it reads are held still."""
        assert isinstance(network, Progressive)
        for item in data:
            own = network.own(item.name)
            network.freeze(set(network.path(item.name).components) - set(own))
            optimizer = optimizer_of(self.config, network.trainable(own))
            groups = [[item.name]]
            train(network, [item], run, self.config, optimizers={item.name: optimizer}, groups=groups, moving=own)
