"""ImageNet ResNet-50 values, from timm, for the modules of the ResNet-50 grid.

timm names a stage's entries `layer1.0.conv1.weight`, `layer1.0.downsample.1.running_mean`; a grid module names its
convolutions `0_conv1`, `0_downsample` and its BatchNorms `0_bn1`, `0_downsample_bn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import nn

from polypath.core.errors import InvalidInput
from polypath.nn.layouts import BottleneckStage, GridModule, Stem


@lru_cache(maxsize=1)
def imagenet_state(name: str) -> Mapping[str, torch.Tensor]:
    """State of a pretrained timm ResNet-50, read once a process.

    Raises:
        InvalidInput: timm does not know the model, or its weights cannot be had (no network and no cached copy).
    """
    import timm

    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # timm and its hub client raise many kinds for a missing model or connection
        raise InvalidInput(
            f"pretrained={name!r}: weights could not be loaded ({type(error).__name__}: {error}); "
            "use a timm ResNet-50 name that is reachable or cached, or pretrained=None"
        ) from error


def load_convolutions(module: GridModule, layer: int, name: str) -> None:
    """Copy the convolutions of one layer (1 stem, 2..5 stages) into a module; on the meta device nothing is copied."""
    if next(module.parameters()).is_meta:
        return
    state = imagenet_state(name)
    with torch.no_grad():
        if isinstance(module, Stem):
            module.conv1.weight.copy_(state["conv1.weight"])
        elif isinstance(module, BottleneckStage):
            for key, conv in module.convs.items():
                block, part = key.split("_")
                entry = "downsample.0" if part == "downsample" else part
                assert isinstance(conv, nn.Conv2d)
                conv.weight.copy_(state[f"layer{layer - 1}.{block}.{entry}.weight"])


def load_norms(norms: nn.ModuleDict, layer: int, name: str) -> None:
    """Copy weight, bias and running statistics of every BatchNorm of one layer."""
    if next(norms.parameters()).is_meta:
        return
    state = imagenet_state(name)
    for key, norm in norms.items():
        if layer == 1:
            source = "bn1"
        else:
            block, _, part = key.partition("_")
            source = f"layer{layer - 1}.{block}." + ("downsample.1" if part == "downsample_bn" else part)
        norm.load_state_dict({entry: state[f"{source}.{entry}"] for entry in norm.state_dict()})
