"""From row numbers to batches on the device: index streams, and everything between `take` and the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from polypath.core.errors import InvalidInput
from polypath.core.examples import Batch, Examples, TaskData
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Regression
from polypath.data.augment import augment as changed


def epoch_indices(n: int, size: int, generator: torch.Generator, drop_last: bool = False) -> list[torch.Tensor]:
    """Every one of `n` rows once, in a random order, in mini-batches of `size`; the last one may be short.

    Args:
        n: number of examples.
        size: of a mini-batch.
        generator: on the CPU.
        drop_last: leave an incomplete last mini-batch out.
    """
    return chunks(torch.randperm(n, generator=generator), size, drop_last)


def chunks(rows: torch.Tensor, size: int, drop_last: bool = False) -> list[torch.Tensor]:
    """`rows` cut into mini-batches of `size`."""
    if size <= 0:
        raise InvalidInput(f"batch size: a number above 0 is required, received {size}")
    cut = list(rows.split(size))
    return cut[:-1] if drop_last and cut and len(cut[-1]) < size else cut


def parts(rows: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Mini-batches in order; a last one of a single example joins the one before, for BatchNorm needs two."""
    cut = list(rows.split(size))
    if len(cut) > 1 and len(cut[-1]) == 1:
        cut[-2:] = [torch.cat(cut[-2:])]
    return cut


def at_least(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The rows, repeated from the start until there are `count`: a step of several processes needs all of them."""
    return rows if len(rows) >= count else rows.repeat(-(-count // len(rows)))[:count]


def oversampled(n: int, target: int, generator: torch.Generator) -> torch.Tensor:
    """`target` row numbers below `n` in random order: as many full passes as fit, and a random remainder.

    Brings a small task to the size of the largest one (PaRT, algorithm 1 line 2); every row occurs floor(target / n)
    times or once more. Draw again for every epoch.

    Args:
        n: number of examples.
        target: how many are wanted, at least n.
        generator: on the CPU.
    """
    if n <= 0 or target < n:
        raise InvalidInput(f"oversampling: at least {max(n, 1)} examples must be wanted of {n}, received {target}")
    passes, rest = divmod(target, n)
    rows = torch.arange(n).repeat(passes)
    rows = torch.cat([rows, torch.randperm(n, generator=generator)[:rest]])
    return rows[torch.randperm(target, generator=generator)]


def load(
    data: TaskData,
    rows: torch.Tensor | slice,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
    augment: bool = True,
    examples: Examples | None = None,
) -> Batch:
    """One batch, ready for the network.

    Args:
        data: the task.
        rows: row numbers among the examples.
        device: where the batch is wanted.
        generator: for augmentation; required where the task augments and `augment` is set.
        augment: whether the task's augmentation is applied.
        examples: where the rows lie; None: the training examples.
    """
    examples = data.train if examples is None else examples
    return finish(data, examples.inputs(rows), examples.targets[rows], device, generator, augment)


def finish(
    data: TaskData,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
    augment: bool = True,
) -> Batch:
    """Move decoded inputs to the device (still compact), augment and encode them there; scale regression targets."""
    inputs = inputs.to(device, non_blocking=True)
    if augment and data.augment:
        if generator is None:
            raise InvalidInput(f"task {data.name!r} augments its training images: a generator is required")
        inputs = augmented(data, inputs, generator)
    return Batch(data.task.preprocess.encode(inputs), scaled(data, targets.to(device, non_blocking=True)))


def augmented(data: TaskData, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Decoded inputs as the task augments them; the very tensor where it does not."""
    if not data.augment:
        return inputs
    preprocess = data.task.preprocess
    colour = preprocess.mean if isinstance(preprocess, ImagePreprocess) else None
    return changed(inputs, data.augment, generator, colour)


def scaled(data: TaskData, targets: torch.Tensor) -> torch.Tensor:
    """Targets as the loss wants them: regression targets as (t - mean) / std, others unchanged."""
    target = data.task.target
    if not isinstance(target, Regression) or not target.mean:
        return targets
    mean = torch.tensor(target.mean, device=targets.device)
    std = torch.tensor(target.std, device=targets.device)
    return (targets.float().reshape(len(targets), -1) - mean) / std


def stream(
    data: TaskData,
    batches: Iterable[torch.Tensor],
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
    augment: bool = True,
    examples: Examples | None = None,
    workers: int = 0,
) -> Iterator[Batch]:
    """Batches of the given rows, in order, decoded ahead by worker processes.

    Args:
        data: the task.
        batches: row numbers of every batch.
        device: as in `load`, like the next three.
        generator: for augmentation.
        augment: whether it is applied.
        examples: where the rows lie.
        workers: processes that decode; 0 decodes in this one. Results do not depend on it.
    """
    examples = data.train if examples is None else examples
    if workers == 0:
        for rows in batches:
            yield load(data, rows, device, generator, augment, examples)
        return
    from torch.utils.data import DataLoader

    wanted = list(batches)
    # The loader's own generator: it would otherwise draw a seed from the global one.
    loader = DataLoader(
        _Rows(examples, wanted),
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),
        pin_memory=torch.device(device).type == "cuda",
    )
    for rows, inputs in zip(wanted, loader, strict=True):
        yield finish(data, inputs, examples.targets[rows], device, generator, augment)


class _Rows(torch.utils.data.Dataset[torch.Tensor]):
    """Decoded inputs of whole batches, so that a worker makes one batch at a time."""

    def __init__(self, examples: Examples, batches: Sequence[torch.Tensor]) -> None:
        self.examples, self.batches = examples, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> torch.Tensor:
        return self.examples.inputs(self.batches[position])


def channels_last(inputs: torch.Tensor) -> torch.Tensor:
    """Images in the layout in which convolutions run fastest; other inputs as they are.

    One channel is both layouts at once: its strides say in which one the layers shall go on.
    """
    if inputs.ndim != 4:
        return inputs
    if inputs.shape[1] > 1:
        return inputs.contiguous(memory_format=torch.channels_last)
    height, width = inputs.shape[2:]
    return inputs.contiguous().as_strided(inputs.shape, (height * width, 1, width, 1))
