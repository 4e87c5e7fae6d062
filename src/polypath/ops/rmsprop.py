"""RMSProp as TensorFlow 1 wrote it, on accumulators that its owner keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class RMSProp(torch.optim.Optimizer):
    """RMSProp whose running squares lie in tensors of the caller, so that they are saved with what they belong to.

    `tf1`: squares <- rho * squares + (1 - rho) * g^2; w <- w - lr * g / sqrt(squares + eps). The small number stands
    inside the root, and TensorFlow starts the squares at one (`initial_squares`), which damps the first steps.
    Otherwise torch's form: w <- w - lr * g / (sqrt(squares) + eps), squares from zero.

    Args:
        parameters: what is moved.
        squares: one accumulator a parameter, updated in place and not part of this optimizer's state; None: its own.
        lr: step size.
        rho: decay of the squares.
        eps: 1e-10 in TensorFlow, 1e-8 in torch.
        weight_decay: decoupled, as in AdamW: w <- (1 - lr * weight_decay) w before the step.
        tf1: which form.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        squares: Sequence[torch.Tensor] | None = None,
        *,
        lr: float = 1e-3,
        rho: float = 0.9,
        eps: float | None = None,
        weight_decay: float = 0.0,
        tf1: bool = True,
    ) -> None:
        parameters = list(parameters)
        small = eps or (1e-10 if tf1 else 1e-8)
        super().__init__(parameters, {"lr": lr, "rho": rho, "eps": small, "weight_decay": weight_decay, "tf1": tf1})
        if squares is not None and len(squares) != len(parameters):
            raise ValueError(f"one accumulator a parameter is required: {len(parameters)}, received {len(squares)}")
        self._given = dict(zip(parameters, squares, strict=True)) if squares is not None else None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            gradients = [p.grad for p in moved]
            squares = [self._square(p, group["tf1"]) for p in moved]
            torch._foreach_mul_(squares, group["rho"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["rho"])
            if group["tf1"]:
                roots = torch._foreach_add(squares, group["eps"])
                torch._foreach_sqrt_(roots)
            else:
                roots = torch._foreach_sqrt(squares)
                torch._foreach_add_(roots, group["eps"])
            if group["weight_decay"]:
                torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_addcdiv_(moved, gradients, roots, -group["lr"])

    def _square(self, parameter: torch.Tensor, tf1: bool) -> torch.Tensor:
        if self._given is not None:
            return self._given[parameter]
        state = self.state[parameter]
        if "square" not in state:
            state["square"] = initial_squares(parameter, tf1)
        square: torch.Tensor = state["square"]
        return square


def initial_squares(parameter: torch.Tensor, tf1: bool) -> torch.Tensor:
    """A fresh accumulator: ones as in TensorFlow 1, else zeros."""
    value = torch.ones_like if tf1 else torch.zeros_like
    return value(parameter, requires_grad=False)


def decayed(rate: float, decay: float, epoch: int) -> float:
    """Learning rate of an epoch: rate / (1 + epoch * decay). The paper calls it exponential; the code is this."""
    return rate / (1 + epoch * decay)
