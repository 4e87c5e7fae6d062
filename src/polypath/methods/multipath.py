"""Multi-Path networks: every task leaves the backbone at a branch of its own; teachers help the early ones.

Paper: Park, Lee and Kim, Resource-efficient multi-task deep learning using a multi-path network (2022).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import Batch, TaskData
from polypath.core.method import Isolation, Method, Stage, moved, paced_epochs
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.seeds import derive
from polypath.core.task import Task
from polypath.methods import assignment, teachers
from polypath.methods.together import Objective, same_inputs
from polypath.methods.training import JointConfig, optimizer_of, train
from polypath.nn.backbones import BACKBONES, Described, backbone, common_inputs
from polypath.nn.multipath import MultiPathNet, MultiPathNetConfig
from polypath.ops.distillation import combined


class MultiPathConfig(JointConfig):
    """Settings of Multi-Path; those of training are `polypath.methods.training.JointConfig`'s.

    The paper gives optimizer, learning rate, momentum and batch size; epochs, weight decay and the epochs of the decay
    are our assumption.

    Args:
        backbone: see `polypath.nn.backbones`; {"kind": "resnet18", "stem": "paper"} is the paper's.
        cuts: pieces of the backbone after which branches stand; None takes the backbone's own, else every piece.
        assign: which task takes which branch: `given` in the order of the suite, `classes` by number of outputs,
            `random`, `difficulty` by the validation loss of linear heads at the first branch after `probe_epochs`
            epochs of all tasks together, `last` all at the end (hard parameter sharing).
        order_seed: of the random order; None uses the run's seed.
        probe_epochs: see above.
        branches: task -> branch (1 is the shallowest), before `assign`; tasks that are added later and not named here
            take the last.
        exits: `own` one head a task, at its branch; `all` one at every branch up to it, for any budget.
        exit_weight: of the losses at exits before the task's own.
        distill: self-auxiliary learning.
        alpha: 0..1, the weight in `combination`; the paper has 1, and 0.9 on Celeb-A.
        combination: `additive` loss + alpha * distillation, `eq5` alpha * loss + (1 - alpha) * distillation as printed.
        temperature: of distillation.
        direction: `teacher_student` KL(teacher || student), `student_teacher` as printed in equation 4.
        t2_scale: multiply distillation by the temperature squared.
        teacher_epochs: of a teacher; None: as many as the student. `decay_at` moves in proportion.
        teachers: task -> folder of a saved system that knows it, instead of training a teacher.
    """

    backbone: Described = Field("resnet18", validate_default=True)
    cuts: tuple[str, ...] | None = Field(None, min_length=1)
    assign: Literal["given", "classes", "difficulty", "random", "last"] = "given"
    order_seed: int | None = None
    probe_epochs: int = Field(3, gt=0)
    branches: dict[str, int] = Field(default_factory=dict)
    exits: Literal["own", "all"] = "own"
    exit_weight: float = Field(1.0, ge=0)
    distill: bool = True
    alpha: float = Field(1.0, ge=0, le=1)
    combination: Literal["additive", "eq5"] = "additive"
    temperature: float = Field(2.0, gt=0)
    direction: Literal["teacher_student", "student_teacher"] = "teacher_student"
    t2_scale: bool = False
    teacher_epochs: int | None = Field(None, gt=0)
    teachers: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _teachers_are_used(self) -> Self:
        if self.teachers and not self.distill:
            raise ValueError("teachers are given, but distill is off; leave them out or switch it on")
        return self

    def named_tasks(self) -> dict[str, Iterable[str]]:
        """As of all training, and those of branches and teachers."""
        return {**super().named_tasks(), "branches": self.branches, "teachers": self.teachers}


class MultiPath(Method[MultiPathConfig]):
    """One backbone with branches, learned by all tasks together; its teachers are never part of the system."""

    name: ClassVar[str] = "multipath"
    config_class: ClassVar[type[Config]] = MultiPathConfig
    network_class: ClassVar[type[Network]] = MultiPathNet
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone", "cuts", "exits"})

    @property
    def isolation(self) -> Isolation:
        """Always joint: tasks share their prefixes."""
        return "joint"

    def build(self, tasks: Sequence[Task], run: Run) -> MultiPathNet:
        """The backbone, and the branch of every task as far as it can be known before learning."""
        config = self.config
        assert isinstance(config.backbone, dict)
        inputs = common_inputs(tasks, self.name)
        cuts = config.cuts or _own_cuts(config.backbone, inputs)
        unknown = sorted(set(config.teachers) - {task.name for task in tasks})
        if unknown:
            raise InvalidInput(f"teachers: {unknown} are none of the tasks {[task.name for task in tasks]}")
        values: dict[str, Any] = {"backbone": config.backbone, "inputs": inputs.model_dump(), "cuts": cuts}
        values |= {"exits": config.exits, "branches": self._branches(tasks, len(cuts), run), "seed": run.seed}
        return MultiPathNet(MultiPathNetConfig.of(values, "method"))

    def _branches(self, tasks: Sequence[Task], count: int, run: Run) -> dict[str, int]:
        config, names = self.config, [task.name for task in tasks]
        if config.assign == "classes":
            names = assignment.by_classes(tasks)
        if config.assign == "random":
            seed = run.seed if config.order_seed is None else config.order_seed
            names = assignment.shuffled(names, torch.Generator().manual_seed(derive(seed, "order of branches")))
        if config.assign in ("last", "difficulty"):
            return {**dict.fromkeys(names, count), **config.branches}
        return {**assignment.spread(names, count), **config.branches}

    def admit(self, network: Network, task: Task) -> None:
        """Add a task at the branch this configuration names for it, else at the network's, else at the last."""
        assert isinstance(network, MultiPathNet)
        network.add_task(task, self.config.branches.get(task.name))

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """Half of the passes trains teachers, where they are trained here."""
        if not self.config.distill or self.config.teachers:
            return paced_epochs(self.config, passes)
        teachers = max(1, passes // 2)
        return {**paced_epochs(self.config, passes - teachers), "teacher_epochs": teachers}

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage of all tasks, known ones included."""
        return [Stage((*known, *new))]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Teachers first, then one step a mini-batch of every task on the sum of all losses (algorithm 1)."""
        assert isinstance(network, MultiPathNet)
        config = self.config
        shared = config.shares(data)
        if config.assign == "difficulty" and not network.difficulty:
            self._place_by_difficulty(network, data, run, shared)
        taught = self._teachers(network, data, run) if config.distill else {}
        names = [item.name for item in data]
        moving = network.components_of(names)
        train(
            network,
            data,
            run,
            config,
            optimizers={names[0]: optimizer_of(config, network.trainable(moving))},
            groups=[names],
            moving=moving,
            objective=self._objective(network, data, taught, run),
            shared=shared,
        )

    def _objective(
        self, network: MultiPathNet, data: Sequence[TaskData], taught: Mapping[str, nn.Module], run: Run
    ) -> Objective:
        """Equations 3 to 5 for a batch of every task; tasks whose batches are the same inputs share one forward."""
        tasks = {item.name: item.task for item in data}
        paths = {name: [network.path(name, exit) for exit in network.exits(name)] for name in tasks}

        def losses(batches: Mapping[str, Batch]) -> dict[str, torch.Tensor]:
            outputs: dict[str, list[torch.Tensor]] = {}
            with run.autocast():
                for inputs, names in same_inputs(batches):
                    found = network.walk_many(inputs, [path for name in names for path in paths[name]])
                    for name in names:
                        outputs[name], found = found[: len(paths[name])], found[len(paths[name]) :]
            return {
                name: self._task_loss(tasks[name], outputs[name], batch, taught.get(name), run)
                for name, batch in batches.items()
            }

        return losses

    def _task_loss(
        self, task: Task, outputs: Sequence[torch.Tensor], batch: Batch, teacher: nn.Module | None, run: Run
    ) -> torch.Tensor:
        """The loss at the task's own branch, and `exit_weight` times those at earlier exits."""
        config = self.config
        answers = None
        if teacher is not None:
            with torch.no_grad(), run.autocast():
                answers = teacher(batch.inputs)
        total = torch.zeros((), device=run.device)
        for number, output in enumerate(outputs, start=1):
            loss = task.loss_of(output, batch.targets, weighted=False)
            if answers is not None:
                far = teachers.auxiliary_loss(
                    task, output, answers, config.temperature, config.direction, config.t2_scale
                )
                loss = combined(loss, far, config.alpha, config.combination)
            total = total + (loss if number == len(outputs) else config.exit_weight * loss)
        return total if task.loss_weight == 1 else task.loss_weight * total  # the teacher's share is weighted too

    def _teachers(self, network: MultiPathNet, data: Sequence[TaskData], run: Run) -> dict[str, nn.Module]:
        """One full-depth network a task; those that the configuration names are read instead of trained."""
        config = self.config
        found = teachers.given(config.teachers, data, run)
        rest = [item for item in data if item.name not in found]
        epochs = config.teacher_epochs or config.epochs
        plan = config.changed(
            epochs=epochs,
            decay_at=moved(config.decay_at, config.epochs, epochs),
            patience=0,
            evaluate_every=0,
        )

        def make(item: TaskData) -> MultiPathNet:
            changes = {"cuts": network.config.cuts[-1:], "exits": "own", "branches": {}}
            # Seeds fit into 32 bits, so that they survive JSON readers of all kinds.
            own = MultiPathNet(network.config.changed(**changes, seed=derive(run.seed, "teacher", item.name) % 2**32))
            own.add_task(item.task)
            return own

        return {**found, **teachers.trained(rest, make, plan, run)}

    def _place_by_difficulty(self, network: MultiPathNet, data: Sequence[TaskData], run: Run, shared: bool) -> None:
        """Train a throw-away network with every task at the first branch, and place tasks by its validation loss."""
        config, names = self.config, [item.name for item in data]
        probe = MultiPathNet(network.config.changed(cuts=network.config.cuts[:1], exits="own", branches={}))
        for item in data:
            probe.add_task(item.task)
        run.place(probe)
        moving = probe.components_of(names)
        train(
            probe,
            data,
            run,
            config.changed(epochs=config.probe_epochs, patience=0, evaluate_every=0, decay_at=()),
            optimizers={names[0]: optimizer_of(config, probe.trainable(moving))},
            groups=[names],
            moving=moving,
            key="probe",
            shared=shared,
            label="probe_loss",
        )
        network.difficulty = assignment.validation_losses(probe, data, run.device)
        ordered = assignment.spread(assignment.by_difficulty(network.difficulty), len(network.config.cuts))
        for name, branch in ordered.items():
            network.place_task(name, config.branches.get(name, branch))


def _own_cuts(config: Mapping[str, Any], inputs: Any) -> tuple[str, ...]:
    """The cuts that a kind of backbone names itself, else the end of every piece."""
    module, _, attribute = BACKBONES[config["kind"]].partition(":")
    own: tuple[str, ...] | None = getattr(getattr(importlib.import_module(module), attribute), "cuts", None)
    if own is not None:
        return own
    with torch.device("meta"):
        plain = {**config, "pretrained": False} if "pretrained" in config else dict(config)
        return tuple(backbone(plain, inputs).pieces)
