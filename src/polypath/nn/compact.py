"""Dead units left out: a plain chain of layers made smaller where pruning left nothing of a neuron or channel."""

from __future__ import annotations

import torch
from torch import fx, nn

WEIGHTED = (nn.Linear, nn.Conv2d)
EVERYWHERE = (nn.ReLU, nn.Identity, nn.Dropout)
POOLING = (nn.MaxPool2d, nn.AdaptiveAvgPool2d)


def compacted(module: nn.Sequential) -> nn.Module:
    """The same function with fewer units, where the layers form a chain; any other network is returned as it is.

    A unit (neuron or channel) goes when nothing reads it (its column of the next layer is zero), or when it is zero for
    every input (its row is zero and its bias is not positive before a ReLU). Outputs are equal but for the order of
    float sums. Done from the last layer to the first, which finds what is read by nobody, and then from the first to
    the last, which finds what is fed by nobody.

    Args:
        module: nested `nn.Sequential`s in eval mode: convolutions (groups = 1) with max-pooling or average pooling to
            a size, a flattening to (n, features), linear layers; ReLU and dropout anywhere. Classes derived from
            these, a layer that is used twice, and hooks are left alone, for they may compute something else.
    """
    layers = _flat(module)
    weighted = [layer for layer in layers if isinstance(layer, WEIGHTED)]
    if len(weighted) < 2 or any(layer.weight.is_meta for layer in weighted) or not _is_chain(layers):
        return module
    pairs = list(zip(weighted, weighted[1:], strict=False))
    for first, second in (*reversed(pairs), *pairs):
        between = layers[layers.index(first) + 1 : layers.index(second)]
        _shrink(first, second, any(isinstance(layer, nn.ReLU) for layer in between))
    return nn.Sequential(*layers)


def _is_chain(layers: list[nn.Module]) -> bool:
    """Whether every layer is known, used once, and reads units where the one before writes them."""
    if len({id(layer) for layer in layers}) != len(layers):
        return False
    flat = False  # (n, features), or (n, channels, height, width) before
    for layer in layers:
        if layer._forward_hooks or layer._forward_pre_hooks:
            return False
        if type(layer) is nn.Conv2d:
            if flat or layer.groups != 1:
                return False
        elif type(layer) is nn.Flatten:
            if (layer.start_dim, layer.end_dim) != (1, -1):
                return False
            flat = True
        elif type(layer) is nn.Linear:
            if not flat and any(isinstance(other, (nn.Conv2d, *POOLING)) for other in layers):
                return False  # works on the columns of an image
            if any(isinstance(other, nn.Flatten) for other in layers[layers.index(layer) :]):
                return False  # units that are flattened later are not the slowest index
        elif type(layer) in POOLING:
            if flat:
                return False
        elif type(layer) not in EVERYWHERE:
            return False
    return True


def _flat(module: nn.Module) -> list[nn.Module]:
    """Layers in the order in which they run; a module that is no plain chain stands for itself."""
    if isinstance(module, fx.GraphModule):
        nodes = list(module.graph.nodes)
        chain = all(
            node.op == "call_module" and node.args == (before,) and not node.kwargs
            for before, node in zip(nodes[:-2], nodes[1:-1], strict=True)
        )
        chain = chain and nodes[-1].args == (nodes[-2],)  # what comes last is what comes out
        if not chain:
            return [module]
        return [layer for node in nodes[1:-1] for layer in _flat(module.get_submodule(str(node.target)))]
    if type(module) is nn.Sequential and not module._forward_hooks and not module._forward_pre_hooks:
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
