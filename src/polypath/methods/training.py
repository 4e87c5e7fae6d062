"""The plain training loop of methods that minimise a sum of task losses: optimizers, early stopping, best state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import Batch, TaskData
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.methods.together import batches as side_by_side
from polypath.methods.together import same_inputs
from polypath.metrics.stopping import EarlyStopping

Objective = Callable[[Mapping[str, Batch]], Mapping[str, torch.Tensor]]
Delta = Annotated[float, Field(ge=0)]


class TrainingConfig(Config):
    """Settings of plain training; methods inherit them.

    Args:
        epochs: passes over a task's training examples, at most.
        batch: examples a mini-batch, for all tasks or task by task (`default` for those not named).
        optimizer: `adam`, `adamw` or `sgd`.
        learning_rate: of the optimizer.
        momentum: of SGD; nesterov: its look-ahead form.
        weight_decay: of the optimizer.
        decay_at: epochs at whose start the learning rate is multiplied by `decay`.
        decay: see above.
        patience: epochs without a lower validation loss before a task (or all, where they train together) stops;
            0 trains all epochs and keeps the last state, otherwise the best state by validation loss is kept.
        min_delta: how much lower a validation loss must be to count, for all tasks or task by task (`default`, else 0,
            for those not named): losses of tasks differ in size. Tasks that stop together take the smallest of theirs.
        evaluate_every: test metrics every so many epochs (recorded, never used); 0 for the end only.
    """

    epochs: int = Field(100, gt=0)
    batch: int | dict[str, int] = 128
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0)
    decay_at: tuple[int, ...] = ()
    decay: float = Field(0.1, gt=0)
    patience: int = Field(0, ge=0)
    min_delta: Delta | dict[str, Delta] = 0.0
    evaluate_every: int = Field(0, ge=0)

    def batch_of(self, task: str) -> int:
        """Examples a mini-batch of a task."""
        if isinstance(self.batch, int):
            return self.batch
        found = self.batch.get(task, self.batch.get("default"))
        if found is None:
            raise InvalidInput(f"batch: no size for task {task!r} and no 'default'; received {self.batch}")
        return found

    def min_delta_of(self, tasks: Iterable[str]) -> float:
        """How much lower the loss of these tasks must be to count."""
        if not isinstance(self.min_delta, dict):
            return self.min_delta
        return min(self.min_delta.get(task, self.min_delta.get("default", 0.0)) for task in tasks)

    def rate(self, epoch: int) -> float:
        """Learning rate in an epoch."""
        return self.learning_rate * self.decay ** sum(epoch >= start for start in self.decay_at)


def optimizer_of(config: TrainingConfig, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The configured optimizer over parameters that came from `Network.trainable`."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=decay,
            fused=True,
        )
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=rate, weight_decay=decay, fused=True)


def train(
    network: Network,
    data: Sequence[TaskData],
    run: Run,
    config: TrainingConfig,
    *,
    optimizers: Mapping[str, torch.optim.Optimizer],
    groups: Sequence[Sequence[str]],
    moving: Sequence[str],
    key: str = "train",
    epochs: int | None = None,
    weights: Mapping[str, float] | None = None,
    penalty: Callable[[str], torch.Tensor | None] | None = None,
    after_step: Callable[[], None] | None = None,
    objective: Objective | None = None,
    shared: bool = False,
    label: str = "loss",
    **state: Any,
) -> None:
    """Minimise task losses until the epochs are over or the validation loss no longer falls.

    Args:
        network: the network, placed on the device.
        data: the tasks that are trained.
        run: the engine.
        config: the settings.
        optimizers: name -> optimizer; a group's steps are taken with the one called like its first task.
        groups: tasks whose losses are summed in one step; every group takes its steps in turn.
        moving: components that change, whose best state is kept when the configuration stops early.
        key: names the random streams of this loop.
        epochs: instead of the configured ones.
        weights: task -> factor of its loss.
        penalty: added to a group's loss, from its first task's name.
        after_step: called after every optimizer step.
        objective: task -> loss of a batch of every task of a group; None: each task's own loss on its outputs.
        shared: the tasks of a group have the same inputs, which are read once (see `polypath.methods.together`).
        label: under which the losses are logged.
        state: what else the loop changes, for checkpoints.
    """
    stopping = EarlyStopping(config.patience, config.min_delta_of(item.name for item in data))
    kept = {"stopping": stopping.start(), "best": _copies(network, moving) if config.patience else {}}
    count = config.epochs if epochs is None else epochs
    by_name = {item.name: item for item in data}
    held = {"network": network, "optimizers": dict(optimizers), "kept": kept, **state}
    for epoch in run.epochs(count, steps=steps_an_epoch(by_name, groups, config), **held):
        if stopping.over(kept["stopping"]):
            break
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = config.rate(epoch)
        network.train()
        losses = _one_epoch(
            by_name,
            groups,
            run,
            config,
            optimizers,
            (key, epoch),
            objective or plain_objective(network, by_name, run),
            shared,
            weights or {},
            penalty,
            after_step,
        )
        run.log(epoch=epoch, learning_rate=config.rate(epoch), **{label: losses})
        if config.patience:
            loss = sum(run.score(network, item)["loss"] for item in data)
            if stopping.improved(kept["stopping"], loss):
                for name, values in kept["best"].items():
                    _copy_into(values, network.tensors([name])[name])
        every = config.evaluate_every
        if every and (epoch + 1) % every == 0 and epoch + 1 < count:
            run.record_test(network, data)
    if config.patience:
        for name, values in kept["best"].items():
            _copy_into(network.tensors([name])[name], values)


def together_objective(network: Network, data: Mapping[str, TaskData], run: Run) -> Objective:
    """Every task's own loss; what the paths of tasks with the same inputs have in common is computed once."""

    def losses(batches: Mapping[str, Batch]) -> dict[str, torch.Tensor]:
        found = {}
        for inputs, names in same_inputs(batches):
            with run.autocast():
                outputs = network.forward_many(inputs, names)
            for name in names:
                found[name] = data[name].task.loss_of(outputs[name], batches[name].targets)
        return {name: found[name] for name in batches}

    return losses


def plain_objective(network: Network, data: Mapping[str, TaskData], run: Run) -> Objective:
    """Every task's own loss on its outputs."""

    def losses(batches: Mapping[str, Batch]) -> dict[str, torch.Tensor]:
        found = {}
        for name, batch in batches.items():
            with run.autocast():
                outputs = network(batch.inputs, name)
            found[name] = data[name].task.loss_of(outputs, batch.targets)
        return found

    return losses


def _one_epoch(
    data: Mapping[str, TaskData],
    groups: Sequence[Sequence[str]],
    run: Run,
    config: TrainingConfig,
    optimizers: Mapping[str, torch.optim.Optimizer],
    key: tuple[object, ...],
    objective: Objective,
    shared: bool,
    weights: Mapping[str, float],
    penalty: Callable[[str], torch.Tensor | None] | None,
    after_step: Callable[[], None] | None,
) -> dict[str, float]:
    """One pass; mean training loss of every task. Groups take turns, step by step, until all examples were seen."""
    sums = {name: torch.zeros((), device=run.device) for name in data}
    seen = dict.fromkeys(data, 0)
    sizes = {name: config.batch_of(name) for name in data}
    streams = [side_by_side([data[name] for name in group], run, sizes, shared, key) for group in groups]
    waiting = list(zip(groups, streams, strict=True))
    while waiting:
        left = []
        for group, stream in waiting:
            batches = next(stream, None)
            if batches is None:
                continue
            left.append((group, stream))
            loss = torch.zeros((), device=run.device)
            for name, task_loss in objective(batches).items():
                loss = loss + weights.get(name, 1.0) * task_loss
                sums[name] += task_loss.detach() * len(batches[name])
                seen[name] += len(batches[name])
            extra = penalty(group[0]) if penalty is not None else None
            run.step(loss if extra is None else loss + extra, optimizers[group[0]])
            if after_step is not None:
                after_step()
        waiting = left
    return {name: float(sums[name]) / max(seen[name], 1) for name in data}


def steps_an_epoch(data: Mapping[str, TaskData], groups: Sequence[Sequence[str]], config: TrainingConfig) -> int:
    """Optimizer steps of an epoch in which every group takes its steps in turn."""
    return sum(
        max(-(-max(len(data[n].train) for n in group) // config.batch_of(name)) for name in group) for group in groups
    )


def _copies(network: Network, names: Sequence[str]) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {local: tensor.detach().clone() for local, tensor in held.items()}
        for name, held in network.tensors(names).items()
    }


@torch.no_grad()
def _copy_into(target: Mapping[str, torch.Tensor], source: Mapping[str, torch.Tensor]) -> None:
    for local, tensor in target.items():
        tensor.copy_(source[local])
