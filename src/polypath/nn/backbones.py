"""Backbones: from encoded inputs to the features that linear heads read, as a sequence of named pieces.

A backbone is described by plain JSON, `"mlp"` or `{"kind": "mlp", "hidden": [100, 100]}`, so that a saved system can
build it again without anybody's code.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.task import Image, InputSpec, Task, Tokens
from polypath.nn.patches import check_patches

BACKBONES: dict[str, str] = {
    "mlp": "polypath.nn.backbones:Mlp",
    "conv": "polypath.nn.backbones:Conv",
    "timm": "polypath.nn.backbones:Timm",
    "dfcnn": "polypath.nn.small_cnn:SmallCnn",
    "timm_stages": "polypath.nn.stages:TimmStages",
    "resnet18": "polypath.nn.resnet:ResNet18",
    "mobilenetv2": "polypath.nn.mobilenet:MobileNetV2",
    "own": "polypath.nn.own:Own",
    "transformer": "polypath.nn.transformer:Transformer",
}


class Backbone(nn.Module):
    """Encoded inputs (n, ...) to features (n, features).

    Each piece holds at least one parameter (activations, pooling and reshaping belong to the piece before or after
    them), so that a piece can be a component.

    Args:
        pieces: name -> module, in the order in which they run.
        features: length of the vector that heads read.
    """

    Options: ClassVar[type[Config]]

    def __init__(self, pieces: Mapping[str, nn.Module], features: int) -> None:
        super().__init__()
        self.pieces = nn.ModuleDict(dict(pieces))
        self.features = features

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Features (n, features) of encoded inputs (n, ...)."""
        value = inputs
        for piece in self.pieces.values():
            value = piece(value)
        return value

    @staticmethod
    def head(features: int, outputs: int) -> nn.Module:
        """A task's output layer on the features, its values drawn from the global generator."""
        return nn.Linear(features, outputs)

    @staticmethod
    def task_pieces(config: Mapping[str, Any]) -> frozenset[str]:
        """Pieces that every task has for itself where the rest of the backbone is shared."""
        return frozenset()


class MlpOptions(Config):
    """Fully connected layers with ReLU.

    Args:
        hidden: their widths.
        embedding: numbers a token, for inputs of tokens; all tokens of a text are then one vector.
    """

    hidden: tuple[int, ...] = (1000, 1000, 1000, 1000, 1000, 1000)
    embedding: int = Field(2, gt=0)

    @field_validator("hidden")
    @classmethod
    def _widths(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        return _positive(hidden, "hidden")


class Mlp(Backbone):
    """Flattened inputs through fully connected layers `fc1`, `fc2`, ...; tokens are embedded first."""

    Options = MlpOptions

    def __init__(self, inputs: InputSpec, options: MlpOptions) -> None:
        pieces: dict[str, nn.Module] = {}
        size = 1
        for side in inputs.shape:
            size *= side
        if isinstance(inputs, Tokens):
            table = nn.Embedding(inputs.vocabulary, options.embedding)
            # The RSN2 authors' framework draws from U(-0.05, 0.05). With torch's N(0, 1) every word begins as a vector
            # of its own that the layers behind learn by heart.
            nn.init.uniform_(table.weight, -0.05, 0.05)
            pieces["embedding"] = nn.Sequential(table, nn.Flatten())
            size *= options.embedding
        for number, width in enumerate(options.hidden, start=1):
            flatten = [nn.Flatten()] if number == 1 and isinstance(inputs, Image) else []
            pieces[f"fc{number}"] = nn.Sequential(*flatten, nn.Linear(size, width), nn.ReLU())
            size = width
        super().__init__(pieces, size)


class ConvOptions(Config):
    """Blocks of convolutions with ReLU, a max-pooling after each block, then fully connected layers.

    Args:
        blocks: channels of the convolutions of each block.
        kernel: side of the convolutions' kernels (odd; padded so that sizes stay).
        pool: side of the pooling window.
        pool_stride: of the pooling; 1 takes away one row and column (the RSN2 authors' network), `pool` divides.
        dense: widths of the fully connected layers.
        norm: BatchNorm after each convolution or none.
        flatten: read every position, or their average.
    """

    blocks: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64))
    kernel: int = Field(3, gt=0)
    pool: int = Field(2, gt=0)
    pool_stride: int = Field(2, gt=0)
    dense: tuple[int, ...] = (256, 256)
    norm: Literal["none", "batch"] = "none"
    flatten: bool = True

    @field_validator("blocks")
    @classmethod
    def _channels(cls, blocks: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if not blocks or not all(blocks):
            raise ValueError("blocks: at least one, each with the channels of one convolution or more")
        return tuple(_positive(block, "blocks") for block in blocks)

    @field_validator("dense")
    @classmethod
    def _widths(cls, dense: tuple[int, ...]) -> tuple[int, ...]:
        return _positive(dense, "dense") if dense else dense

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, received {kernel}")
        return kernel


class Conv(Backbone):
    """`conv1`, `conv2`, ..., `fc1`, ...: plain convolutional network for images."""

    Options = ConvOptions

    def __init__(self, inputs: InputSpec, options: ConvOptions) -> None:
        if not isinstance(inputs, Image):
            raise InvalidInput(f"backbone 'conv' takes images, received {inputs!r}; use 'mlp' or another kind")
        channels, height, width = inputs.shape
        pieces: dict[str, nn.Module] = {}
        for block in options.blocks:
            for position, wanted in enumerate(block):
                layers: list[nn.Module] = [
                    nn.Conv2d(
                        channels, wanted, options.kernel, padding=options.kernel // 2, bias=options.norm == "none"
                    )
                ]
                layers += [nn.BatchNorm2d(wanted)] if options.norm == "batch" else []
                layers += [nn.ReLU()]
                channels = wanted
                if position == len(block) - 1:
                    layers += [nn.MaxPool2d(options.pool, options.pool_stride)]
                    height, width = (1 + (side - options.pool) // options.pool_stride for side in (height, width))
                pieces[f"conv{len(pieces) + 1}"] = nn.Sequential(*layers)
        if min(height, width) < 1:
            raise InvalidInput(
                f"backbone 'conv': {len(options.blocks)} poolings leave nothing of {inputs.shape[1:]} pixels; "
                "use fewer blocks or larger images"
            )
        size = channels * height * width if options.flatten else channels
        last = pieces[f"conv{len(pieces)}"]
        assert isinstance(last, nn.Sequential)
        if not options.flatten:
            last.append(nn.AdaptiveAvgPool2d(1))
        last.append(nn.Flatten())
        for number, wide in enumerate(options.dense, start=1):
            pieces[f"fc{number}"] = nn.Sequential(nn.Linear(size, wide), nn.ReLU())
            size = wide
        super().__init__(pieces, size)


class TimmOptions(Config):
    """A network of the timm library.

    Args:
        name: as `timm.create_model` takes it.
        pretrained: start from published weights (downloaded by timm when first used).
        options: further arguments of `timm.create_model` (`img_size`, `depth`, `drop_path_rate`, ...).
    """

    name: str
    pretrained: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


class Timm(Backbone):
    """A timm network without its classifier, as the one piece `body`."""

    Options = TimmOptions

    def __init__(self, inputs: InputSpec, options: TimmOptions) -> None:
        import timm

        if not isinstance(inputs, Image):
            raise InvalidInput(f"backbone 'timm' takes images, received {inputs!r}")
        arguments = {"num_classes": 0, "in_chans": inputs.channels, **options.options}
        try:
            body = timm.create_model(options.name, pretrained=options.pretrained, **arguments)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InvalidInput(f"backbone 'timm': {options.name!r} cannot be made with {arguments}: {error}") from error
        check_patches(body, (inputs.height, inputs.width), f"backbone 'timm': {options.name!r}")
        super().__init__({"body": body}, int(body.num_features))  # type: ignore[arg-type]


def described(config: str | Mapping[str, Any]) -> dict[str, Any]:
    """The whole description of a backbone, defaults filled in, as plain JSON.

    Raises:
        UnknownName: no such kind, or an option that the kind does not have.
        InvalidInput: a value of the wrong type or range.
    """
    kind, cls, options = _read(config)
    return {"kind": kind, **cls.Options.of(options, "backbone").model_dump(mode="json")}


def _no_module(given: Any) -> Any:
    if isinstance(given, nn.Module):
        raise ValueError(
            "the name of a kind, or a mapping with `kind` and its options, is required, received a module of your own "
            f"({type(given).__name__}); polypath.subnetworks(module, ...) makes a system of it, or add a kind, see "
            "docs/extend/backbone.md"
        )
    return given


Described = Annotated[str | dict[str, Any], AfterValidator(described), BeforeValidator(_no_module)]
"""A setting that describes a backbone: the name of a kind or a mapping goes in, the whole description comes out."""


def backbone(config: str | Mapping[str, Any], inputs: InputSpec) -> Backbone:
    """A backbone for inputs of a shape, its values drawn from the global generator.

    Args:
        config: name of a kind, or a mapping with `kind` and its options.
        inputs: what it receives.

    Raises:
        UnknownName, InvalidInput: as `described`; inputs that the kind does not take.
    """
    _, cls, options = _read(config)
    made: Backbone = cls(inputs, cls.Options.of(options, "backbone"))  # type: ignore[arg-type]
    return made


def _read(config: str | Mapping[str, Any]) -> tuple[str, type[Backbone], dict[str, Any]]:
    given = {"kind": config} if isinstance(config, str) else dict(config)
    kind = given.pop("kind", None)
    if not isinstance(kind, str):
        raise InvalidInput(f"backbone: a kind is required, one of {sorted(BACKBONES)}; received {config!r}")
    if kind not in BACKBONES:
        raise UnknownName("kind of backbone", kind, BACKBONES)
    module, _, attribute = BACKBONES[kind].partition(":")
    cls: type[Backbone] = getattr(importlib.import_module(module), attribute)
    return kind, cls, given


def kind_of(config: str | Mapping[str, Any]) -> type[Backbone]:
    """The class of a description's kind."""
    return _read(config)[1]


def common_inputs(tasks: Sequence[Task], method: str) -> InputSpec:
    """The one input shape of all tasks.

    Raises:
        InvalidInput: they differ; names two that do.
    """
    first = tasks[0]
    for task in tasks[1:]:
        if task.inputs != first.inputs:
            raise InvalidInput(
                f"{method} needs tasks whose inputs have one shape: {first.name!r} has {first.inputs!r}, {task.name!r} "
                f"has {task.inputs!r}; bring them to one size"
            )
    spec: InputSpec = first.inputs
    return spec


def _positive(sizes: tuple[int, ...], what: str) -> tuple[int, ...]:
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{what}: at least one width, each above 0; received {list(sizes)}")
    return sizes
