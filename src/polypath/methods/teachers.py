"""Teachers of self-auxiliary learning: one network a task, of full capacity, frozen while the student learns."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from polypath.core.errors import InvalidInput, PolypathError
from polypath.core.examples import TaskData
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.training import TrainingConfig, optimizer_of, train
from polypath.ops import distillation


def trained(
    data: Sequence[TaskData], make: Callable[[TaskData], Network], config: TrainingConfig, run: Run
) -> dict[str, nn.Module]:
    """Task -> its teacher in eval mode without gradients, trained on that task alone.

    Each teacher is a loop of its own in the run, so that a resumed run takes finished ones from their checkpoints; the
    checkpoints go when the stage is saved, and the teachers with them.

    Args:
        data: the tasks that get a teacher.
        make: an untrained network that knows one task.
        config: epochs, batch size and optimizer.
        run: the engine.
    """
    found = {}
    for item in data:
        network = make(item)
        run.place(network)
        moving = network.path(item.name).components
        optimizer = optimizer_of(config, network.trainable(moving))
        train(
            network,
            [item],
            run,
            config,
            optimizers={item.name: optimizer},
            groups=[[item.name]],
            moving=moving,
            key="teacher",
            label="teacher_loss",
        )
        found[item.name] = frozen(network.extract(item.name), run)
    return found


def frozen(module: nn.Module, run: Run) -> nn.Module:
    """A merged path in eval mode, without gradients, on the run's device."""
    module.to(run.device)
    module.to(memory_format=torch.channels_last)
    return module.eval().requires_grad_(False)


def given(folders: Mapping[str, str], data: Sequence[TaskData], run: Run) -> dict[str, nn.Module]:
    """Task -> teacher out of a saved system.

    Args:
        folders: task -> folder of a system that learned it.
        data: the tasks that are taught.
        run: the engine.

    Raises:
        InvalidInput: a folder holds no system, not this task, or one with other labels, inputs or preprocessing.
    """
    # By name: methods stand below systems, and only this option needs one.
    load = importlib.import_module("polypath.system").load
    tasks = {item.name: item.task for item in data}
    found = {}
    for name, folder in folders.items():
        if name in tasks:
            try:
                system = load(folder)
            except PolypathError as error:
                raise InvalidInput(f"teachers.{name}: {folder} holds no system that can be read ({error})") from error
            check(tasks[name], system.tasks, folder)
            found[name] = frozen(system.extract(name), run)
    return found


def check(task: Task, known: Mapping[str, Task], folder: str) -> None:
    """Raise InvalidInput unless a system knows the very task that is to be taught."""
    if task.name not in known:
        raise InvalidInput(
            f"teachers.{task.name}: the system in {folder} was trained for {list(known)}, not for {task.name!r}; "
            "a teacher must know the task it teaches"
        )
    theirs = known[task.name]
    if theirs.target != task.target or theirs.inputs != task.inputs:
        raise InvalidInput(
            f"teachers.{task.name}: the system in {folder} has another task of that name ({_said(theirs)}), "
            f"but {_said(task)} is to be taught; train a teacher on this suite, or leave teachers out"
        )
    if theirs.preprocess != task.preprocess:
        raise InvalidInput(
            f"teachers.{task.name}: a teacher is given what the student sees, so it must have learned from inputs that "
            f"were prepared in the same way; {_differing(task, theirs, folder)}; train a teacher on this suite, build "
            "the suite as it was built for the teacher, or leave teachers out"
        )


def _differing(task: Task, theirs: Task, folder: str) -> str:
    """Where two ways to prepare inputs differ, as required and received."""
    required, received = (one.preprocess.model_dump() for one in (task, theirs))
    keys = [key for key in required if required[key] != received.get(key)]

    def said(values: dict[str, Any]) -> str:
        return textwrap.shorten(", ".join(f"{key}={values.get(key)}" for key in keys), 200)

    return f"required {said(required)}, the system in {folder} has {said(received)}"


def _said(task: Task) -> str:
    labels = getattr(task.target, "labels", ())
    shown = f"{len(labels)} labels from {labels[0]!r} to {labels[-1]!r}" if labels else task.target.kind
    return f"{shown}, inputs {task.inputs.shape}"


def auxiliary_loss(
    task: Task,
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float,
    direction: Literal["teacher_student", "student_teacher"],
    t2_scale: bool,
) -> torch.Tensor:
    """How far a student's outputs are from its teacher's, by the kind of target."""
    options: dict[str, Any] = {"temperature": temperature, "direction": direction, "t2_scale": t2_scale}
    if task.target.kind == "classification":
        return distillation.softmax_divergence(student, teacher, **options)
    if task.target.kind == "multilabel":
        return distillation.sigmoid_divergence(student, teacher, **options)
    return distillation.value_distance(student, teacher)
