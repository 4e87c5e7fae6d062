"""Several labellings of the same examples, read once: one batch of inputs carries the targets of all tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import torch

from polypath.core.errors import InvalidInput
from polypath.core.examples import Batch, Examples, TaskData
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Regression
from polypath.data.batches import scaled

Objective = Callable[[Mapping[str, Batch]], Mapping[str, torch.Tensor]]


def share_inputs(data: Sequence[TaskData]) -> bool:
    """Whether all tasks train on the very same examples, brought to the network in the same way."""
    first = data[0]
    return all(
        item.train.source is first.train.source
        and torch.equal(item.train.index, first.train.index)
        and item.task.inputs == first.task.inputs
        and item.task.preprocess == first.task.preprocess
        and item.augment == first.augment
        for item in data[1:]
    )


def require_shared(data: Sequence[TaskData]) -> None:
    """Raise InvalidInput, saying what differs, unless the tasks share their inputs."""
    first = data[0]
    for item in data[1:]:
        if len(item.train) != len(first.train):
            raise InvalidInput(
                f"share_inputs: {first.name!r} has {len(first.train)} training examples and {item.name!r} "
                f"{len(item.train)}; tasks that share inputs label the same examples, so leave share_inputs out"
            )
        if not share_inputs([first, item]):
            raise InvalidInput(
                f"share_inputs: {first.name!r} and {item.name!r} have other examples, another order, preprocessing or "
                "augmentation; make both with one suite (hierarchy, attributes), or leave share_inputs out"
            )


def same_inputs(batches: Mapping[str, Batch]) -> list[tuple[torch.Tensor, list[str]]]:
    """Distinct inputs with the tasks that read them."""
    found: dict[int, tuple[torch.Tensor, list[str]]] = {}
    for name, batch in batches.items():
        found.setdefault(id(batch.inputs), (batch.inputs, []))[1].append(name)
    return list(found.values())


def reads_shared(data: Sequence[TaskData], asked: bool | None, size: Mapping[str, int]) -> bool:
    """Whether to read the tasks' inputs once.

    Args:
        data: the tasks.
        asked: True insists, False never does, None does where it can.
        size: task -> examples a mini-batch.

    Raises:
        InvalidInput: insisted on, but the inputs differ; or mini-batches of different sizes.
    """
    if asked:
        require_shared(data)
    shared = len(data) > 1 and (share_inputs(data) if asked is None else asked)
    if shared and len(set(size.values())) > 1:
        raise InvalidInput(
            f"batch: tasks that share their inputs need one size, received {dict(size)}; give one, or have every "
            "task's examples read by themselves (share_inputs=False)"
        )
    return shared


def joined(data: Sequence[TaskData]) -> TaskData:
    """The common examples with the targets of all tasks side by side, as one task that only batches are taken of."""
    columns = [item.train.targets.reshape(len(item.train), -1).double() for item in data]
    targets = torch.cat(columns, dim=1)
    task = data[0].task.changed(
        target=Regression(size=targets.shape[1]), class_weights=None, loss=None, metric=None, private_to=None
    )
    source, index = data[0].train.source, data[0].train.index
    return TaskData(task, Examples(source, targets, index), augment=data[0].augment)


def apart(data: Sequence[TaskData], batch: Batch) -> dict[str, Batch]:
    """A batch of `joined(data)` as one batch a task; all have the same inputs, the very same tensor."""
    widths = [item.train.targets[:1].reshape(1, -1).shape[1] for item in data]
    found = {}
    for item, part in zip(data, batch.targets.split(widths, dim=1), strict=True):
        own = item.train.targets
        targets = scaled(item, part.reshape(len(part), *own.shape[1:]).to(own.dtype))
        found[item.name] = Batch(batch.inputs, targets)
    return found


def batch_count(examples: int, each: int, drop_last: bool) -> int:
    """How many mini-batches an epoch of so many examples has; a last one of a single example joins the one before."""
    whole, rest = divmod(examples, each)
    return whole + int(rest > 0 and not (whole and (drop_last or rest == 1)))


def batches(
    data: Sequence[TaskData],
    run: Run,
    size: Mapping[str, int],
    shared: bool,
    key: tuple[object, ...],
    drop_last: bool = False,
) -> Iterator[dict[str, Batch]]:
    """One epoch of all tasks side by side.

    Args:
        data: the tasks.
        run: the engine.
        size: task -> examples a mini-batch; one for all where inputs are shared.
        shared: read the common inputs once; otherwise every task has its own and small ones are oversampled.
        key: names the random streams.
        drop_last: leave a task's incomplete last mini-batch out, where it has a complete one.
    """

    def taken(stream: Iterator[Batch], examples: int, each: int) -> Iterator[Batch]:
        return islice(stream, batch_count(examples, each, drop_last)) if drop_last else stream

    if shared:
        whole, each = joined(data), size[data[0].name]
        for common in taken(run.batches(whole, each, "shared", *key), len(whole.train), each):
            yield apart(data, common)
        return
    equal = max(len(item.train) for item in data) if len(data) > 1 else None
    streams = {}
    for item in data:
        stream = run.batches(item, size[item.name], item.name, *key, equal_to=equal)
        streams[item.name] = taken(stream, equal or len(item.train), size[item.name])
    while True:
        found = {name: batch for name, stream in streams.items() if (batch := next(stream, None)) is not None}
        if not found:
            return
        yield found


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
