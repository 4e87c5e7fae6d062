"""timm networks cut at their feature stages."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.task import Image, InputSpec
from polypath.nn.backbones import Backbone

# timm's feature extractors whose forward runs their children one after the other; others gather features by hooks.
IN_SEQUENCE = ("FeatureListNet", "EfficientNetFeatures", "MobileNetV3Features")


class TimmStagesOptions(Config):
    """A network of the timm library up to its last feature map.

    Args:
        name: as `timm.create_model` takes it.
        pretrained: start from published weights (downloaded by timm when first used).
        options: further arguments of `timm.create_model`.
    """

    name: str
    pretrained: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


class TimmStages(Backbone):
    """One piece a feature stage, called `stage1`, `stage2`, ...; what lies before the first stage's end is its part.

    What a network does after its last feature map (a final convolution, a classifier) is left out.
    """

    Options = TimmStagesOptions

    def __init__(self, inputs: InputSpec, options: TimmStagesOptions) -> None:
        import timm

        if not isinstance(inputs, Image):
            raise InvalidInput(f"backbone 'timm_stages' takes images, received {inputs!r}")
        arguments = {"in_chans": inputs.channels, **options.options}
        try:
            net: Any = timm.create_model(options.name, pretrained=options.pretrained, features_only=True, **arguments)
        except (AttributeError, AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"backbone 'timm_stages': {options.name!r} cannot be made with {arguments}: {error}"
            ) from error
        if type(net).__name__ not in IN_SEQUENCE:
            raise InvalidInput(
                f"backbone 'timm_stages': the stages of {options.name!r} do not follow one another "
                f"({type(net).__name__}); take a convolutional network (resnet18, convnext_femto, mobilenetv2_050, ...)"
            )
        ends = [str(name).replace(".", "_") for name in net.feature_info.module_name()]
        if type(net).__name__ == "MobileNetV3Features":  # names the norm, but hands out what the activation made of it
            ends = ["act1" if end == "bn1" else end for end in ends]
        for part in net.modules():
            if getattr(part, "inplace", False):
                part.inplace = False  # a head may still read what the next stage receives
        groups = _grouped(_flat(net, ends), ends)
        groups[-1] += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        pieces = {f"stage{number}": nn.Sequential(*group) for number, group in enumerate(groups, start=1)}
        super().__init__(pieces, int(net.feature_info.channels()[-1]))


def _flat(net: nn.Module, ends: list[str]) -> list[tuple[str, nn.Module]]:
    """Children in the order they run; a sequence with a feature stage inside is taken apart."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential) and any(end.startswith(f"{name}_") for end in ends):
            found += [(f"{name}_{number}", part) for number, part in child.named_children()]
        else:
            found.append((name, child))
    return found


def _grouped(layers: list[tuple[str, nn.Module]], ends: list[str]) -> list[list[nn.Module]]:
    """Layers up to each stage's end; what holds no parameter (a pooling) joins the stage before it."""
    groups: list[list[nn.Module]] = [[]]
    for name, layer in layers:
        groups[-1].append(layer)
        if name in ends:
            groups.append([])
    groups.pop()  # nothing, or layers after the last feature map
    kept = [groups[0]]
    for group in groups[1:]:
        if any(True for layer in group for _ in layer.parameters()):
            kept.append(group)
        else:
            kept[-1] += group
    return kept
