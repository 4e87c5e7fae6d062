"""DF-CNN's network: every task a backbone whose filters are generated from knowledge bases that all tasks share.

Components: `base.conv1` (base: the layer's knowledge base), `trunk.conv1.t0` (own: a task's transforms, biases and
whatever else the piece holds), `head.t0` (own). Grouped convolutions are not generated: they are a task's own.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from polypath.core.component import Component
from polypath.core.errors import InvalidInput
from polypath.core.seeds import seeded_values
from polypath.core.task import InputSpec
from polypath.nn.backbones import Backbone, backbone
from polypath.nn.columns import Columns, ColumnsConfig
from polypath.nn.generated import (
    GeneratedConv2d,
    KnowledgeBase,
    SharedConv2d,
    Variant,
    convolutions,
    default_basis,
    replaced,
)
from polypath.ops.filters import base_size_of, kernel_size_of

# (layout, variant) -> channels of the base, of the basis, and maps of the base, of every convolution: paper and code.
PAPER: dict[tuple[str, str], tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    ("cifar", "contraction"): ((16, 24, 32, 36), (24, 48, 64, 72), (1, 1, 1, 1)),
    ("cifar", "tc2"): ((12, 12, 24, 24), (24, 24, 48, 48), (2, 12, 12, 24)),
    ("cifar", "direct"): ((24, 48, 64, 72), (0, 0, 0, 0), (1, 1, 1, 1)),
    ("office_home", "contraction"): ((24, 64, 64, 64), (48, 128, 128, 128), (1, 1, 1, 1)),
    ("mnist", "contraction"): ((12, 24), (24, 48), (1, 1)),
    ("mnist", "direct"): ((24, 48), (0, 0), (1, 1)),
}
Size = int | tuple[int, int]


class FactorizedConfig(ColumnsConfig):
    """Shape of a factorized network; see also `ColumnsConfig`.

    Args:
        variant: `contraction` (deconvolution, then contraction over the basis: the paper's), `tc2` (two contractions)
            or `direct` (deconvolution alone).
        knowledge: base of every generated convolution in order: its channels, or (side, channels). None: the paper's
            for its own backbones, else half as many channels as filters.
        basis: channels of the deconvolved basis of each; None: the paper's, else as many as filters. Not for `direct`.
        maps: maps of each base, for `tc2`; None: the paper's, else half as many as filters.
        growth: stride of the deconvolution; a base of side b makes filters of side (b - 1) * growth + 1.
        side: of the deconvolution's filter, odd.
    """

    variant: Variant = "contraction"
    knowledge: tuple[Size, ...] | None = None
    basis: tuple[int, ...] | None = None
    maps: tuple[int, ...] | None = None
    growth: int = Field(2, gt=0)
    side: int = Field(3, gt=0)
    share: Literal["none"] = "none"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.side % 2 == 0:
            raise ValueError(f"side: an odd number is required, received {self.side}")
        if self.maps is not None and self.variant != "tc2":
            raise ValueError(f"maps is for variant='tc2', but the variant is {self.variant!r}")
        if self.basis is not None and self.variant == "direct":
            raise ValueError("basis: variant='direct' has none, its basis are the filters; leave it out")
        return self


class SharedFilters(Columns):
    """Columns whose convolutions make their filters from bases that all tasks share; subclasses say which bases."""

    def _make_shared(self, keep: Collection[str] | None) -> None:
        config = self.config
        if config.inputs is None:
            raise InvalidInput("a network of shared filters needs the shape of its inputs")
        with torch.device("meta"):
            template = backbone(config.backbone, config.inputs)
        found = [(piece, name, conv) for piece, m in template.pieces.items() for name, conv in convolutions(m).items()]
        if not found:
            raise InvalidInput(
                f"backbone {config.backbone['kind']!r} has no convolution whose filters could be generated; "
                "take a convolutional one ('dfcnn', 'conv', 'timm' with a convolutional network)"
            )
        self.bases = nn.ModuleDict()
        self._layers: dict[tuple[str, str], str] = {}
        for number, (piece, name, _) in enumerate(found):
            several = sum(other == piece for other, _, _ in found) > 1
            key = f"{piece}-{sum(other == piece for other, _, _ in found[:number])}" if several else piece
            self._layers[piece, name] = key
            make = self._base_of(number, [one for _, _, one in found], f"{piece}.{name}".rstrip("."))
            if keep is None or base_name(key) in keep:
                with seeded_values(self.config.seed, "base", key):
                    self.bases[key] = make()
        self._components = None

    @abstractmethod
    def _base_of(self, number: int, convs: list[nn.Conv2d], where: str) -> Callable[[], nn.Module]:
        """What makes the base of one convolution; raises where it cannot be."""

    @abstractmethod
    def _generated(self, number: int, conv: nn.Conv2d, base: nn.Module) -> nn.Module:
        """A task's convolution on a base, its values drawn from the global generator."""

    def _make_column(self, inputs: InputSpec) -> Backbone:
        made = backbone(self.config.backbone, inputs)
        for number, ((piece, name), key) in enumerate(self._layers.items()):
            if key not in self.bases:
                continue  # an extracted path of another task: the piece is dropped by the caller
            conv = made.pieces[piece].get_submodule(name)
            assert isinstance(conv, nn.Conv2d)
            new = self._generated(number, conv, self.bases[key])
            made.pieces[piece] = replaced(made.pieces[piece], name, new)
        return made

    def _reset_shared(self) -> list[str]:
        device = next(self.bases.parameters()).device
        self._make_shared(None)
        self.bases.to(device)
        return [base_name(key) for key in self.bases]

    def _found_components(self) -> dict[str, Component]:
        bases = {}
        for key, base in self.bases.items():
            name = base_name(key)
            tensors = {local: f"bases.{key}.{local}" for local in base.state_dict()}
            bases[name] = Component(name, "base", tensors, self.memory.auxiliary_of(name), capacity=True)
        return {**bases, **super()._found_components()}

    def _names(self, piece: str, column: str) -> tuple[str, ...]:
        bases = [base_name(key) for (of, _), key in self._layers.items() if of == piece]
        return (*bases, *super()._names(piece, column))

    def _plain(self, module: nn.Module) -> nn.Module:
        generated = {name: part for name, part in module.named_modules() if isinstance(part, SharedConv2d)}
        if not generated:
            return module
        plain = copy.deepcopy(module)
        for name, part in generated.items():
            plain = replaced(plain, name, part.plain())
        return plain


class Factorized(SharedFilters):
    """Convolutions generated from knowledge bases; see the module docstring."""

    config: FactorizedConfig
    config_class: ClassVar[type[ColumnsConfig]] = FactorizedConfig

    def _base_of(self, number: int, convs: list[nn.Conv2d], where: str) -> Callable[[], nn.Module]:
        self._sizes = layer_sizes(self.config, convs)
        channels, _, maps = self._sizes[number]
        size = base_sizes(convs[number], self.config, number, where)
        return lambda: KnowledgeBase(maps, channels, size)

    def _generated(self, number: int, conv: nn.Conv2d, base: nn.Module) -> nn.Module:
        config = self.config
        assert isinstance(base, KnowledgeBase)
        basis = self._sizes[number][1]
        return GeneratedConv2d(conv, base, variant=config.variant, basis=basis, stride=config.growth, side=config.side)


def base_name(key: str) -> str:
    """`base.conv1`, or `base.body.3` where a piece holds several convolutions."""
    return f"base.{key.replace('-', '.')}"


def layer_sizes(config: FactorizedConfig, convs: list[nn.Conv2d]) -> list[tuple[int, int, int]]:
    """Channels of the base, channels of the basis and maps of the base, for every generated convolution.

    Raises:
        InvalidInput: lists that do not have one entry for each convolution.
    """
    paper = _paper(config)
    given = {"knowledge": config.knowledge, "basis": config.basis, "maps": config.maps}
    for name, values in given.items():
        if values is not None and len(values) != len(convs):
            raise InvalidInput(
                f"{name}: one entry for each of {len(convs)} generated convolutions is required, "
                f"received {len(values)}: {list(values)}"
            )
        if values is not None and min(v if isinstance(v, int) else min(v) for v in values) < 1:
            raise InvalidInput(f"{name}: numbers above 0 are required, received {list(values)}")
    sizes = []
    for number, conv in enumerate(convs):
        half = max(1, conv.out_channels // 2)
        knowledge, basis, maps = half, default_basis(conv, config.variant), half if config.variant == "tc2" else 1
        if paper is not None:
            knowledge, basis, maps = (column[number] for column in paper)
        if config.knowledge is not None:
            entry = config.knowledge[number]
            knowledge = entry if isinstance(entry, int) else entry[1]
        basis = config.basis[number] if config.basis is not None else basis
        maps = config.maps[number] if config.maps is not None else maps
        sizes.append((knowledge, basis, maps))
    return sizes


def _paper(config: FactorizedConfig) -> Any:
    """The paper's sizes where the backbone is one of its own."""
    if config.backbone.get("kind") != "dfcnn":
        return None
    return PAPER.get((config.backbone.get("layout", "cifar"), config.variant))


def base_sizes(conv: nn.Conv2d, config: FactorizedConfig, number: int, where: str) -> tuple[int, int]:
    """Height and width of the base of one convolution.

    Raises:
        InvalidInput: a kernel that the size rule does not reach, or a base given with a side that makes another one.
    """
    try:
        height, width = (base_size_of(side, config.growth) for side in conv.kernel_size)
    except ValueError as error:
        raise InvalidInput(f"convolution {where!r}: {error}") from None
    entry = config.knowledge[number] if config.knowledge is not None else 0
    if not isinstance(entry, int) and (entry[0] != height or entry[0] != width):
        makes = kernel_size_of(entry[0], config.growth)
        raise InvalidInput(
            f"knowledge[{number}] = {entry}: a base of side {entry[0]} makes filters of side {makes} with growth "
            f"{config.growth}, but convolution {where!r} has {conv.kernel_size[0]} x {conv.kernel_size[1]}; "
            f"a side of {height} is required"
        )
    return height, width
