"""BatchNorm folded into the convolution before it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

_TRACING = threading.Lock()


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of one convolution that equals `norm(conv(x))` in eval mode.

    Computed in float64 and rounded once, so that the difference stays within 1e-5 relative in float32.

    Returns:
        weight (out, in / groups, kh, kw) and bias (out,), new tensors.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("BatchNorm without running statistics cannot be folded")
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = conv.bias.double() if conv.bias is not None else torch.zeros_like(gain)
    weight = conv.weight.double() * gain.view(-1, 1, 1, 1)
    return weight.float().detach(), ((bias - norm.running_mean.double()) * gain + norm.bias.double()).float().detach()


def plain_conv(weight: torch.Tensor, bias: torch.Tensor, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with the given values and the stride, padding and dilation of another (groups = 1)."""
    conv = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        like.kernel_size,  # type: ignore[arg-type]
        like.stride,  # type: ignore[arg-type]
        like.padding,  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        device="meta",
    )
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv


def folded_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode with every BatchNorm that directly follows a convolution folded into it.

    The order of layers is read by symbolic tracing; a module that cannot be traced (its forward branches on values) is
    copied as it is.
    """
    made = copy.deepcopy(module).eval()
    for parameter in made.parameters():
        parameter.requires_grad_(True)
    if not any(isinstance(part, nn.BatchNorm2d) for part in made.modules()):
        return made
    try:
        traced = _traced(made)
    except Exception:  # tracing runs the module's own code on proxies and may fail in any way
        return made
    parts = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(parts.get(str(node.target)), nn.BatchNorm2d):
            continue
        norm, before = parts[str(node.target)], node.args[0]
        if before.op != "call_module" or not isinstance(parts.get(str(before.target)), nn.Conv2d):
            continue
        conv = parts[str(before.target)]
        assert isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d)
        alone = len(before.users) == 1 and all(
            sum(other.op == "call_module" and other.target == one.target for other in traced.graph.nodes) == 1
            for one in (node, before)
        )
        if not alone or norm.running_mean is None:  # used elsewhere too, or without statistics of its own
            continue
        weight, bias = folded(conv, norm)
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
        traced.delete_submodule(str(node.target))
    traced.recompile()
    return traced.eval()


class _Tracer(fx.Tracer):
    """Leaves other threads alone: while it traces, torch hands it the module calls of the whole process."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _traced(module: nn.Module) -> fx.GraphModule:
    """Symbolic tracing, one at a time: two at once would restore each other's patches of torch in the wrong order."""
    with _TRACING:
        tracer = _Tracer()
        graph = tracer.trace(module)
        return fx.GraphModule(tracer.root, graph)
