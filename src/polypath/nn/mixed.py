"""Mixed precision on CPUs without the shapes for which torch leaves gradients unwritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from polypath.core.network import Network
from polypath.core.task import Image
from polypath.nn.columns import Columns
from polypath.nn.grid import Grid


@contextmanager
def sound(autocast: AbstractContextManager[Any], device: torch.device) -> Iterator[None]:
    """An autocast inside which convolutions that bfloat16 gets wrong on CPUs are computed in float32.

    torch 2.14.1 (oneDNN) does not write the whole gradient of a padded convolution's kernel whose stride is larger than
    the rows are long, as that of a 3x3 kernel with stride 2 on 1x1 maps: taps that never meet the image get what lay in
    memory, NaN or numbers up to 1e37. Deep networks come there with small images. All else is as without this.

    Args:
        autocast: entered first.
        device: where the block computes.
    """
    with autocast:
        if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with _Convolutions():
                yield
        else:
            yield


def may_outrun(network: Network) -> bool:
    """Whether a network may have a convolution that `sound` concerns: with padding and a stride above 1.

    Every call inside `sound` costs some microseconds, 2 to 3 % of a step of a small network. Columns and grids show all
    of their convolutions as modules; of other networks of images nothing is known.
    """
    if not any(isinstance(task.inputs, Image) for task in network.tasks.values()):
        return False
    if not isinstance(network, (Columns, Grid)):
        return True
    pooling = (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)
    found = [
        m for m in network.modules() if hasattr(m, "stride") and hasattr(m, "padding") and not isinstance(m, pooling)
    ]
    return not found or any(_largest(m.stride) > 1 and _largest(m.padding) != 0 for m in found)


def _largest(value: Any) -> Any:
    return max(value) if isinstance(value, (tuple, list)) else 1 if isinstance(value, str) else value


class _Convolutions(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and _outruns(*args, **(kwargs or {})):
            return _in_float32(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _outruns(
    input: torch.Tensor, weight: torch.Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, *_: Any, **__: Any
) -> bool:
    """Whether the stride is larger than a row, with padding."""
    step = stride if isinstance(stride, int) else stride[-1]
    return step > input.shape[-1] and padding not in (0, "valid", (0, 0), [0, 0])


def _in_float32(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *args: Any, **kwargs: Any
) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        shift = None if bias is None else bias.float()
        return torch.conv2d(input.float(), weight.float(), shift, *args, **kwargs).bfloat16()
