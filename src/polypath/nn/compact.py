"""Dead units left out: a plain chain of layers made smaller where pruning left nothing of a neuron or channel."""

from __future__ import annotations

import torch
from torch import fx, nn

PLAIN = (nn.ReLU, nn.Flatten, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Dropout)


def compacted(module: nn.Sequential) -> nn.Module:
    """The same function with fewer units, where the layers form a chain; any other network is returned as it is.

    A unit (neuron or channel) goes when nothing reads it (its column of the next layer is zero), or when it is zero for
    every input (its row is zero and its bias is not positive before a ReLU). Outputs are equal but for the order of
    float sums. Done from the last layer to the first and once more forwards, so that what only fed dead units goes too.

    Args:
        module: nested `nn.Sequential`s of linear layers, convolutions (groups = 1), ReLU, max-pooling, flattening and
            global average pooling, in eval mode.
    """
    layers = _flat(module)
    weighted = [layer for layer in layers if isinstance(layer, (nn.Linear, nn.Conv2d))]
    simple = all(isinstance(layer, (nn.Linear, nn.Conv2d, *PLAIN)) for layer in layers)
    if not simple or len(weighted) < 2 or any(layer.weight.is_meta for layer in weighted):
        return module
    if any(isinstance(layer, nn.Conv2d) and layer.groups != 1 for layer in weighted):
        return module
    for _ in range(2):
        for first, second in reversed(list(zip(weighted, weighted[1:], strict=False))):
            between = layers[layers.index(first) + 1 : layers.index(second)]
            _shrink(first, second, any(isinstance(layer, nn.ReLU) for layer in between))
    return nn.Sequential(*layers)


def _flat(module: nn.Module) -> list[nn.Module]:
    """Layers in the order in which they run; a module that is no plain chain stands for itself."""
    if isinstance(module, fx.GraphModule):
        nodes = list(module.graph.nodes)
        chain = all(
            node.op == "call_module" and node.args == (before,) and not node.kwargs
            for before, node in zip(nodes[:-2], nodes[1:-1], strict=True)
        )
        if not chain:
            return [module]
        return [layer for node in nodes[1:-1] for layer in _flat(module.get_submodule(str(node.target)))]
    if isinstance(module, nn.Sequential):
        return [layer for child in module for layer in _flat(child)]
    return [module]


@torch.no_grad()
def _shrink(first: nn.Linear | nn.Conv2d, second: nn.Linear | nn.Conv2d, rectified: bool) -> None:
    units = first.weight.shape[0]
    width = second.weight.shape[1] // units  # positions of a channel that flattening laid out; 1 otherwise
    reads = second.weight.reshape(second.weight.shape[0], units, -1).ne(0).any(2).any(0)
    fed = first.weight.reshape(units, -1).ne(0).any(1)
    silent = first.bias <= 0 if first.bias is not None else torch.ones_like(fed)
    keep = reads & (fed | ~silent) if rectified else reads
    if first.bias is None and not rectified:
        keep = reads & fed
    if keep.all():
        return
    if not keep.any():
        keep[0] = True  # a layer of no unit is no layer
    at = keep.nonzero().view(-1)
    first.weight = nn.Parameter(first.weight[at])
    if first.bias is not None:
        first.bias = nn.Parameter(first.bias[at])
    columns = (at[:, None] * width + torch.arange(width)).view(-1)
    second.weight = nn.Parameter(second.weight[:, columns])
    _resize(first, len(at), out=True)
    _resize(second, len(columns), out=False)


def _resize(layer: nn.Linear | nn.Conv2d, size: int, *, out: bool) -> None:
    if isinstance(layer, nn.Linear):
        setattr(layer, "out_features" if out else "in_features", size)
    else:
        setattr(layer, "out_channels" if out else "in_channels", size)
