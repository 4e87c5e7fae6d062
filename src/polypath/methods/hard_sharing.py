"""Hard parameter sharing: one trunk for all tasks, a head for each (Caruana, 1997)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from polypath.core.config import Config
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage, paced_epochs
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.training import TrainingConfig, optimizer_of, train, train_drawn
from polypath.nn.backbones import Described, common_inputs
from polypath.nn.columns import Columns, ColumnsConfig


class HardSharingConfig(TrainingConfig):
    """Settings of hard sharing; those of training are `polypath.methods.training.TrainingConfig`'s.

    Args:
        backbone: the shared trunk, see `polypath.nn.backbones`.
        mode: `joint` minimises the sum of all task losses; `sequential` trains one task after the other on the same
            trunk without protecting the earlier ones, which then forget; `drawn`: every epoch is a pass over one task,
            drawn with replacement, with an optimizer of its own (DF-CNN's multi-task setting; `epochs` counts all).
    """

    backbone: Described = Field("mlp", validate_default=True)
    mode: Literal["joint", "sequential", "drawn"] = "joint"


class HardSharing(Method[HardSharingConfig]):
    """One shared trunk, a linear head for each task."""

    name: ClassVar[str] = "hard_sharing"
    config_class: ClassVar[type[Config]] = HardSharingConfig
    network_class: ClassVar[type[Network]] = Columns
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone"})

    @property
    def isolation(self) -> Isolation:
        """Joint; in sequential mode known tasks drift."""
        return "drifts" if self.config.mode == "sequential" else "joint"

    def build(self, tasks: Sequence[Task], run: Run) -> Columns:
        """The trunk, for inputs of the tasks' common shape."""
        assert isinstance(self.config.backbone, dict)
        inputs = common_inputs(tasks, self.name)
        return Columns(ColumnsConfig(backbone=self.config.backbone, share="trunk", inputs=inputs, seed=run.seed))

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """Where tasks are drawn, epochs count all of them together."""
        return paced_epochs(self.config, passes * (tasks if self.config.mode == "drawn" else 1))

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """Joint: one stage of all tasks, known ones included; sequential: one a new task."""
        return [Stage((name,)) for name in new] if self.config.mode == "sequential" else [Stage((*known, *new))]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Each step sums the losses of a mini-batch of every task; smaller tasks are oversampled to the largest."""
        names = [item.name for item in data]
        if self.config.mode == "drawn":
            assert isinstance(network, Columns)
            each = {n: optimizer_of(self.config, network.trainable(network.path(n).components)) for n in names}
            train_drawn(network, data, run, self.config, optimizers=each, kept=each)
            return
        moving = network.components_of(names)
        optimizer = optimizer_of(self.config, network.trainable(moving))
        train(network, data, run, self.config, optimizers={names[0]: optimizer}, groups=[names], moving=moving)
