"""Deep multi-task learning by tensor factorisation: the tasks' stacked filters are one tensor in shared factors.

Paper: Yang and Hospedales, Deep Multi-task Representation Learning (ICLR 2017); on convolutions only and with dense
layers of each task's own, as the DF-CNN paper compares it.
"""

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
from polypath.nn.tensors import TensorConfig, TensorNetwork
from polypath.ops.tensors import Form


class TensorFactorisationConfig(TrainingConfig):
    """Settings of tensor factorisation; those of training are `polypath.methods.training.TrainingConfig`'s.

    Args:
        backbone: a convolutional one.
        form, rank: see `polypath.nn.tensors.TensorConfig`.
        start: `scratch` (factors of a random tensor) or `single` (factors of the filters of single-task networks that
            are trained first, and thrown away: the paper's "distillation").
        start_epochs: of each of those networks.
        epochs: passes over one task each, drawn with replacement, of all tasks together.
    """

    backbone: Described = Field("dfcnn", validate_default=True)
    form: Form = "tucker"
    rank: float = Field(1.0, gt=0, le=1)
    start: Literal["scratch", "single"] = "scratch"
    start_epochs: int = Field(100, gt=0)


class TensorFactorisation(Method[TensorFactorisationConfig]):
    """All tasks at once, every epoch a pass over one of them; each has an optimizer of its own."""

    name: ClassVar[str] = "tensor_factorisation"
    config_class: ClassVar[type[Config]] = TensorFactorisationConfig
    network_class: ClassVar[type[Network]] = TensorNetwork
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone", "form", "rank"})

    @property
    def isolation(self) -> Isolation:
        """Joint: the shared factors move with every task."""
        return "joint"

    def build(self, tasks: Sequence[Task], run: Run) -> TensorNetwork:
        """The shared factors, with ranks for these tasks."""
        config = self.config
        values = {"backbone": config.backbone, "form": config.form, "rank": config.rank, "num_tasks": len(tasks)}
        inputs = common_inputs(tasks, self.name)
        return TensorNetwork(TensorConfig.of({**values, "inputs": inputs, "seed": run.seed}, "method"))

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """Epochs count all tasks together; half of the passes trains single networks, where these come first."""
        first = passes // 2 if self.config.start == "single" else 0
        found = paced_epochs(self.config, (passes - first) * tasks)
        return {**found, "start_epochs": max(1, first)} if self.config.start == "single" else found

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage of all tasks, known ones included."""
        return [Stage((*known, *new))]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Train all tasks, where asked for from single-task networks."""
        assert isinstance(network, TensorNetwork)
        if self.config.start == "single" and network.epochs == 0:
            network.start_from(self._singles(data, run))
        each = {
            item.name: optimizer_of(self.config, network.trainable(network.path(item.name).components)) for item in data
        }
        train_drawn(network, data, run, self.config, optimizers=each, kept=each)

    def _singles(self, data: Sequence[TaskData], run: Run) -> Columns:
        """A trained single-task network for every task; not part of the system."""
        assert isinstance(self.config.backbone, dict)
        columns = Columns(ColumnsConfig(backbone=self.config.backbone, share="none", seed=run.seed))
        for item in data:
            columns.add_task(item.task)
        run.place(columns)
        quiet = self.config.changed(evaluate_every=0)
        for item in data:
            names = columns.path(item.name).components
            optimizers = {item.name: optimizer_of(quiet, columns.trainable(names))}
            train(
                columns,
                [item],
                run,
                quiet,
                optimizers=optimizers,
                groups=[[item.name]],
                moving=names,
                key="start",
                epochs=self.config.start_epochs,
            )
        return columns
