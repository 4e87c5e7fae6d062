"""The plain training loop of methods that minimise a sum of task losses: optimizers, early stopping, best state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, NeedsValidation
from polypath.core.examples import Batch, TaskData
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.methods.names import keys_of
from polypath.methods.together import Objective, batch_count, reads_shared
from polypath.methods.together import batches as side_by_side
from polypath.metrics.stopping import EarlyStopping
from polypath.nn.columns import Columns
from polypath.nn.expanding import Expanding
from polypath.ops.rmsprop import RMSProp, decayed

COUNTING = (Columns, Expanding)  # networks that count the epochs they were trained for, for rates that fall over time

BatchSize = Annotated[int, Field(gt=0)]
Delta = Annotated[float, Field(ge=0)]
OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop", "rmsprop_tf1"]


class TrainingConfig(Config):
    """Settings of plain training; methods inherit them.

    Args:
        epochs: passes over a task's training examples, at most.
        batch: examples a mini-batch, for all tasks or task by task (`default` for those not named).
        optimizer: `adam`, `adamw`, `sgd`, `rmsprop` or `rmsprop_tf1` (TensorFlow 1: the small number inside the root,
            squares from one; `polypath.ops.rmsprop`).
        learning_rate: of the optimizer.
        momentum: of SGD.
        nesterov: its look-ahead form.
        weight_decay: of the optimizer.
        decay_at: epochs at whose start the learning rate is multiplied by `decay`.
        decay: see above.
        time_decay: the learning rate is divided by 1 + e * time_decay, e counting all epochs of the system: it is not
            reset when the next task begins (DF-CNN).
        over_batch: the loss of a mini-batch is the `mean` or the `sum` over its examples.
        drop_last: leave an incomplete last mini-batch out.
        patience: epochs without a lower validation loss before a task (or all, where they train together) stops;
            0 trains all epochs and keeps the last state, otherwise the best state by validation loss is kept.
        min_delta: how much lower a validation loss must be to count, for all tasks or task by task (`default`, else 0,
            for those not named): losses of tasks differ in size. Tasks that stop together take the smallest of theirs.
        evaluate_every: test metrics every so many epochs (recorded, never used); 0 for the end only.
        peaks: what lets a record tell each task's peak: `test` measures the test split only, so that a peak is the
            best test value (the usual way, and flattering); `validation` measures validation as well, so that a peak
            is the test value at the best validation value. Matters where `evaluate_every` is set.
    """

    epochs: int = Field(100, gt=0)
    batch: BatchSize | dict[str, BatchSize] = 128
    optimizer: OptimizerName = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0)
    decay_at: tuple[int, ...] = ()
    decay: float = Field(0.1, gt=0)
    time_decay: float = Field(0.0, ge=0)
    over_batch: Literal["mean", "sum"] = "mean"
    drop_last: bool = False
    patience: int = Field(0, ge=0)
    min_delta: Delta | dict[str, Delta] = 0.0
    evaluate_every: int = Field(0, ge=0)
    peaks: Literal["validation", "test"] = "test"

    @model_validator(mode="after")
    def _nesterov_looks_along_momentum(self) -> TrainingConfig:
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum above 0, received 0")
        return self

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

    def named_tasks(self) -> dict[str, Iterable[str]]:
        """Setting -> the tasks that it names, see `polypath.methods.names`."""
        return {"batch": keys_of(self.batch), "min_delta": keys_of(self.min_delta)}

    def rate(self, epoch: int, before: int = 0) -> float:
        """Learning rate in an epoch of a stage, `before` epochs having gone before the stage."""
        steps = self.decay ** sum(epoch >= start for start in self.decay_at)
        return decayed(self.learning_rate * steps, self.time_decay, before + epoch)


class JointConfig(TrainingConfig):
    """Training as Multi-Path and the methods it is compared with do it: SGD with Nesterov momentum, all tasks at once.

    Args:
        share_inputs: the tasks label the same examples, so that one forward pass serves all; None finds out, true
            insists, false reads every task's examples by themselves.
    """

    share_inputs: bool | None = None
    epochs: int = Field(200, gt=0)
    optimizer: OptimizerName = "sgd"
    learning_rate: float = Field(0.1, gt=0)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0)
    decay_at: tuple[int, ...] = (100, 150)

    def shares(self, data: Sequence[TaskData]) -> bool:
        """Whether the tasks' inputs are read once, see `polypath.methods.together.reads_shared`."""
        return reads_shared(data, self.share_inputs, {item.name: self.batch_of(item.name) for item in data})


def _parameter(given: torch.nn.Parameter | dict[str, Any]) -> torch.nn.Parameter:
    """What RMSProp takes: its accumulators belong to parameters, so that groups of them are not taken."""
    if isinstance(given, dict):
        raise InvalidInput("optimizer: groups with learning rates of their own need adam, adamw or sgd, not rmsprop")
    return given


Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


def optimizer_of(
    config: TrainingConfig,
    parameters: Sequence[torch.nn.Parameter] | Sequence[dict[str, Any]],
    squares: Sequence[torch.Tensor] | None = None,
) -> torch.optim.Optimizer:
    """The configured optimizer over parameters, or groups of them, that came from `Network.trainable`.

    A group's learning rate is the configured one times its `scale`, where it has one.

    Args:
        config: the settings.
        parameters: what is moved.
        squares: accumulators of RMSProp that are kept elsewhere; None: inside the optimizer.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer in ("rmsprop", "rmsprop_tf1"):
        return RMSProp(
            [_parameter(given) for given in parameters],
            squares,
            lr=rate,
            weight_decay=decay,
            tf1=config.optimizer == "rmsprop_tf1",
        )
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
    optimizers: Mapping[str, Optimizers],
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
        optimizers: name -> optimizer or several; a group's steps are taken with those called like its first task.
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
    check_tracking(config, data)
    if config.time_decay and not isinstance(network, COUNTING):
        raise InvalidInput(
            f"time_decay={config.time_decay:g}: a {type(network).__name__} does not count the epochs of earlier "
            "stages, so that the rate would start again with every task; use decay_at and decay, or set time_decay=0"
        )
    before = network.epochs if isinstance(network, COUNTING) else 0
    stopping = EarlyStopping(config.patience, config.min_delta_of(item.name for item in data))
    kept = {"stopping": stopping.start(), "best": _copies(network, moving) if config.patience else {}}
    count = config.epochs if epochs is None else epochs
    by_name = {item.name: item for item in data}
    taken = {
        name: (given,) if isinstance(given, torch.optim.Optimizer) else tuple(given)
        for name, given in optimizers.items()
    }
    steppers = {name: dict(zip(map(str, range(len(given))), given, strict=True)) for name, given in taken.items()}
    aims = objective or plain_objective(network, by_name, run)
    held = {"network": network, "optimizers": steppers, "kept": kept, **state}
    steps = steps_an_epoch(by_name, groups, config)
    for epoch in run.epochs(count, steps=steps, until=lambda: stopping.over(kept["stopping"]), **held):
        for group in (g for given in taken.values() for optimizer in given for g in optimizer.param_groups):
            group["lr"] = config.rate(epoch, before) * group.get("scale", 1.0)
        network.train()
        losses = _one_epoch(
            aims, by_name, groups, run, config, taken, (key, epoch), weights or {}, penalty, after_step, shared
        )
        run.log(learning_rate=config.rate(epoch, before), **{label: losses})
        if config.patience:
            loss = sum((weights or {}).get(item.name, 1.0) * run.score(network, item)["loss"] for item in data)
            if stopping.improved(kept["stopping"], loss):
                for name, values in kept["best"].items():
                    _copy_into(values, network.tensors([name])[name])
        track(network, data, run, config, epoch, count)
    if isinstance(network, COUNTING):
        network.epochs = before + (kept["stopping"]["values"] if config.patience else count)
    if config.patience:
        for name, values in kept["best"].items():
            _copy_into(network.tensors([name])[name], values)


def train_drawn(
    network: Columns,
    data: Sequence[TaskData],
    run: Run,
    config: TrainingConfig,
    *,
    optimizers: Mapping[str, torch.optim.Optimizer],
    kept: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Every epoch one pass over one task, drawn uniformly with replacement (DF-CNN, appendix B.1).

    Args:
        network: the network, placed on the device.
        data: the tasks.
        run: the engine.
        config: the settings; `epochs` counts those of all tasks together.
        optimizers: one for each task.
        kept: those of them whose state is not kept in the network, for checkpoints.

    Raises:
        InvalidInput: early stopping is asked for.
    """
    if config.patience:
        raise InvalidInput(
            f"patience={config.patience}: an epoch is a pass over one task drawn at random, so that no task's "
            "validation loss is followed; set patience=0 and choose `epochs`"
        )
    check_tracking(config, data)
    before = network.epochs
    most = max(-(-len(item.train) // config.batch_of(item.name)) for item in data)
    by_name = {item.name: item for item in data}
    for epoch in run.epochs(config.epochs, steps=most, network=network, optimizers=dict(kept)):
        item = data[int(torch.randint(len(data), (1,), generator=run.rng("task", before + epoch)))]
        for group in optimizers[item.name].param_groups:
            group["lr"] = config.rate(epoch, before)
        network.train()
        key = ("drawn", before + epoch)
        one = {item.name: by_name[item.name]}
        mine = {item.name: [optimizers[item.name]]}
        aims = plain_objective(network, one, run)
        losses = _one_epoch(aims, one, [[item.name]], run, config, mine, key, {}, None, None)
        run.log(learning_rate=config.rate(epoch, before), loss=losses)
        track(network, data, run, config, epoch, config.epochs)
    network.epochs = before + config.epochs


def check_tracking(config: TrainingConfig, data: Sequence[TaskData]) -> None:
    """Say before training, not after, that peaks by validation need validation examples.

    Raises:
        NeedsValidation: a task without a validation split.
    """
    without = [item.name for item in data if item.val is None]
    if config.evaluate_every and config.peaks == "validation" and without:
        raise NeedsValidation(
            f"peaks='validation': tasks {without} have no validation split; build the suite with validation=0.15 or "
            "so, or set peaks='test' (the best test value, as the DF-CNN paper reports it)"
        )


def track(network: Network, data: Sequence[TaskData], run: Run, config: TrainingConfig, epoch: int, count: int) -> None:
    """Measure where the configured rhythm says so; the test split at the end of a stage is the engine's."""
    every, last = config.evaluate_every, epoch + 1 == count
    if not every or not ((epoch + 1) % every == 0 or last):
        return
    for item in data if config.peaks == "validation" else ():
        run.score(network, item)
    if not last:
        run.record_test(network, data)


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
    objective: Objective,
    data: Mapping[str, TaskData],
    groups: Sequence[Sequence[str]],
    run: Run,
    config: TrainingConfig,
    optimizers: Mapping[str, Sequence[torch.optim.Optimizer]],
    key: tuple[object, ...],
    weights: Mapping[str, float],
    penalty: Callable[[str], torch.Tensor | None] | None,
    after_step: Callable[[], None] | None,
    shared: bool = False,
) -> dict[str, float]:
    """One pass; mean training loss of every task. Groups take turns, step by step, until all examples were seen."""
    sums = {name: torch.zeros((), device=run.device) for name in data}
    seen = dict.fromkeys(data, 0)
    sizes = {name: config.batch_of(name) for name in data}
    streams = [
        side_by_side([data[name] for name in group], run, sizes, shared, key, config.drop_last) for group in groups
    ]
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
                batch = batches[name]
                counted = len(batch) if config.over_batch == "sum" else 1
                loss = loss + weights.get(name, 1.0) * counted * task_loss
                sums[name] += task_loss.detach() * len(batch)
                seen[name] += len(batch)
            extra = penalty(group[0]) if penalty is not None else None
            run.step(loss if extra is None else loss + extra, *optimizers[group[0]])
            if after_step is not None:
                after_step()
        waiting = left
    return {name: float(sums[name]) / max(seen[name], 1) for name in data}


def steps_an_epoch(data: Mapping[str, TaskData], groups: Sequence[Sequence[str]], config: TrainingConfig) -> int:
    """Optimizer steps of an epoch in which every group takes its steps in turn."""
    longest = [max(len(data[name].train) for name in group) for group in groups]
    return sum(
        max(batch_count(most, config.batch_of(name), config.drop_last) for name in group)
        for most, group in zip(longest, groups, strict=True)
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
