"""A network whose tasks' filters, stacked, are a tensor in factors: shared ones, and one vector a task and layer.

Components: `base.conv1` (the shared factors of a layer), `trunk.conv1.t0` (own: the task's vector and bias; dense
pieces) and `head.t0`. Source: Yang and Hospedales 2017 (DMTRL), as the DF-CNN paper uses it: convolutions only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from polypath.core.errors import InvalidInput
from polypath.nn.columns import Columns, ColumnsConfig
from polypath.nn.factorized import SharedFilters
from polypath.nn.generated import SharedConv2d
from polypath.nn.small_cnn import BIAS, WEIGHT_DEVIATION
from polypath.ops.tensors import Form, decomposed, factor_shapes, recomposed


class TensorConfig(ColumnsConfig):
    """Shape of a network in factors; see also `ColumnsConfig`.

    Args:
        form: `tucker`, `tt` (tensor train) or `laf` (last-axis flattening).
        rank: share of the full ranks, in (0, 1]. The authors cut ranks at a relative error of 1e-3 of the initial
            tensor, which leaves random and trained ones nearly full.
        num_tasks: how many tasks the ranks are meant for; more can be added later.
    """

    form: Form = "tucker"
    rank: float = Field(1.0, gt=0, le=1)
    num_tasks: int = Field(gt=0)
    share: Literal["none"] = "none"


class Factors(nn.Module):
    """Shared factors of one layer, from a random stack of filters.

    Args:
        form: of the decomposition.
        shape: (o, i, h, w, tasks).
        rank: share of the full ranks.
    """

    def __init__(self, form: Form, shape: tuple[int, ...], rank: float) -> None:
        super().__init__()
        self.form, self.shape, self.rank = form, shape, rank
        shapes, self.length = factor_shapes(form, shape, rank)
        self.factors = nn.ParameterDict({name: torch.empty(size) for name, size in shapes.items()})
        self._start: torch.Tensor | None = None
        if torch.get_default_device().type != "meta":
            stack = torch.empty(shape)
            nn.init.trunc_normal_(stack, std=WEIGHT_DEVIATION, a=-2 * WEIGHT_DEVIATION, b=2 * WEIGHT_DEVIATION)
            self._start = self.take(stack)

    @torch.no_grad()
    def take(self, stack: torch.Tensor) -> torch.Tensor:
        """Become the factors of a stack; returns the tasks' vectors (t, k)."""
        factors, vectors = decomposed(self.form, stack, self.rank)
        for name, value in factors.items():
            self.factors[name].copy_(value)
        return vectors

    def start(self, position: int) -> torch.Tensor:
        """The initial vector of the task added as number `position`; drawn where the factors were not made for it."""
        if self._start is not None and position < len(self._start):
            return self._start[position].clone()
        return torch.randn(self.length) / self.length**0.5


class TensorConv2d(SharedConv2d):
    """A task's convolution: its vector contracted with the shared factors."""

    def __init__(self, like: nn.Conv2d, base: Factors, position: int) -> None:
        super().__init__(like, base)
        self.vector = nn.Parameter(base.start(position))
        if self.bias is not None:
            nn.init.constant_(self.bias, BIAS)

    def generated(self) -> torch.Tensor:
        """Filters (outputs, inputs, height, width), made now."""
        base = self._base[0]
        assert isinstance(base, Factors)
        return recomposed(base.form, dict(base.factors.items()), self.vector, base.shape[:-1])


class TensorNetwork(SharedFilters):
    """See the module docstring."""

    config: TensorConfig
    config_class: ClassVar[type[ColumnsConfig]] = TensorConfig

    def _base_of(self, number: int, convs: list[nn.Conv2d], where: str) -> Callable[[], nn.Module]:
        conv, config = convs[number], self.config
        shape = (conv.out_channels, conv.in_channels, *conv.kernel_size, config.num_tasks)
        return lambda: Factors(config.form, shape, config.rank)

    def _generated(self, number: int, conv: nn.Conv2d, base: nn.Module) -> nn.Module:
        assert isinstance(base, Factors)
        return TensorConv2d(conv, base, self._added)

    def start_from(self, columns: Columns) -> None:
        """Take the weights that the tasks have in a network of single columns: the paper's TF (distillation).

        Raises:
            InvalidInput: a task that the columns do not know.
        """
        missing = sorted(set(self.tasks) - set(columns.tasks))
        if missing:
            raise InvalidInput(f"start='single': tasks {missing} have no single-task network to start from")
        names = list(self.tasks)
        for (piece, name), key in self._layers.items():
            mine = [self._column(self._ids[task])[piece].get_submodule(name) for task in names]
            theirs = [columns._column(columns._ids[task])[piece].get_submodule(name) for task in names]
            base = self.bases[key]
            assert isinstance(base, Factors)
            stack = torch.stack([conv.get_parameter("weight").detach() for conv in theirs], dim=-1)
            vectors = base.take(_filled(stack, base.shape[-1]))
            with torch.no_grad():
                for row, (own, conv) in enumerate(zip(mine, theirs, strict=True)):
                    own.get_parameter("vector").copy_(vectors[row])
                    if "bias" in dict(conv.named_parameters()):
                        own.get_parameter("bias").copy_(conv.get_parameter("bias"))
        self._copy_rest(columns, names)

    def _copy_rest(self, columns: Columns, names: list[str]) -> None:
        """What is not a shared convolution: dense pieces, BatchNorm, heads."""
        with torch.no_grad():
            for task in names:
                mine, theirs = self._ids[task], columns._ids[task]
                other = {**columns._column(theirs).state_dict()}
                for key, value in self._column(mine).state_dict().items():
                    if key in other and other[key].shape == value.shape:
                        value.copy_(other[key])
                self.heads[mine].load_state_dict(columns.heads[theirs].state_dict())


def _filled(stack: torch.Tensor, tasks: int) -> torch.Tensor:
    """The stack with as many tasks as the factors are made for: cut, or its first ones again."""
    return stack[..., torch.arange(tasks) % stack.shape[-1]]
