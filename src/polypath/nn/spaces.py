"""Spaces: pieces of a backbone whose weights several tasks own in parts, as templates without values.

A space is one piece (or one head). Its *masked* entries are the weights of linear and convolutional layers, attention
projections included; each position of them has at most one owner. Everything else (biases, normalisation, embeddings,
tokens) is *dense*: every owner has its own copy.
"""

from __future__ import annotations

import copy
import fnmatch
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from polypath.core.errors import InvalidInput
from polypath.core.task import InputSpec
from polypath.nn.backbones import Backbone, backbone

log = logging.getLogger(__name__)
_TOLD: set[tuple[str, type[nn.Module]]] = set()  # networks are planned and restored by the hundred: said once

PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""Weights that `nn.MultiheadAttention` holds itself; its output projection is a linear layer."""


@dataclass(frozen=True, eq=False)
class Space:
    """One piece of a backbone, or one head.

    Args:
        name: unique in a network; tasks whose weights lie in one space own disjoint positions of it.
        module: the piece on the meta device; constants (buffers that are not state) have values.
        masked: entry -> shape, of those that are owned position by position.
        dense: parameters of which every owner has its own.
        buffers: state that is no parameter (BatchNorm statistics).
    """

    name: str
    module: nn.Module
    masked: Mapping[str, tuple[int, ...]]
    dense: tuple[str, ...]
    buffers: tuple[str, ...]

    def size(self, entry: str) -> int:
        """Number of positions of a masked entry."""
        return prod(self.masked[entry])

    def prepared(self, training: bool, hold: bool, device: torch.device) -> nn.Module:
        """The template in a mode, constants on a device; `hold` keeps BatchNorm in evaluation."""
        self.module.train(training)
        for part in self.module.modules():
            if training and hold and isinstance(part, _BatchNorm):
                part.eval()
            for key, value in part._buffers.items():
                if value is not None and not value.is_meta and value.device != device:
                    part._buffers[key] = value.to(device)
        return self.module

    def __deepcopy__(self, memo: object) -> Space:
        """A template of its own: its mode is switched while it runs."""
        return Space(self.name, copy.deepcopy(self.module), self.masked, self.dense, self.buffers)


def spaces_of(
    config: Mapping[str, Any], inputs: InputSpec, layers: Sequence[str], mask_bias: bool, *, strict: bool = True
) -> Template:
    """A backbone as spaces, one a piece.

    Args:
        config: description of the backbone.
        inputs: what it receives.
        layers: patterns (`fc*`, `body.layer3.*`) of the layers whose weights are masked, matched against the name of
            the piece, of the layer in it, and both.
        mask_bias: mask the biases of these layers too.
        strict: refuse patterns without a match (False: for inputs of another shape, whose pieces may be others).

    Raises:
        InvalidInput: a pattern that matches no maskable layer (lists those there are), masked weights that are tied to
            others, or any weight that is tied to one of another piece.
    """
    made = _template(config, inputs)
    _refuse_tied_pieces(made)
    found: dict[str, Space] = {}
    unmatched = set(layers)
    known: list[str] = []
    for piece, module in made.pieces.items():
        masked: dict[str, tuple[int, ...]] = {}
        for path, layer in module.named_modules():
            names = maskable(layer)
            if not names:
                continue
            full = f"{piece}.{path}".rstrip(".")
            known.append(full)
            hits = {p for p in layers if any(fnmatch.fnmatchcase(n, p) for n in (piece, path, full) if n)}
            unmatched -= hits
            if hits:
                names += ["bias"] if mask_bias and getattr(layer, "bias", None) is not None else []
                masked |= {f"{path}.{name}".lstrip("."): tuple(getattr(layer, name).shape) for name in names}
        _refuse_tied(piece, module, masked)
        _tell_unsupported(piece, module, masked)
        found[piece] = _space(piece, module, masked)
    if unmatched and strict:
        raise InvalidInput(f"layers: {sorted(unmatched)} match(es) no layer with weights to share; there are {known}")
    if strict and not any(space.masked for space in found.values()):
        raise InvalidInput("layers: the network has no linear or convolutional layer whose weights could be shared")
    return Template(found, made.features)


@dataclass(frozen=True, eq=False)
class Template:
    """The spaces of a backbone in order, and the length of the vector its heads read."""

    spaces: dict[str, Space]
    features: int


def head_space(name: str, features: int, outputs: int, mask_bias: bool) -> Space:
    """The space of a linear head."""
    with torch.device("meta"):
        head = nn.Linear(features, outputs)
    masked = {"weight": (outputs, features), **({"bias": (outputs,)} if mask_bias else {})}
    return _space(name, head, masked)


def renamed(space: Space, name: str) -> Space:
    """The same piece as a space of its own."""
    return Space(name, space.module, space.masked, space.dense, space.buffers)


def same_shape(first: Space, second: Space) -> bool:
    """Whether weights of one fit the other: equal entries with equal shapes."""

    def shapes(space: Space) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in space.module.state_dict().items()}

    return shapes(first) == shapes(second)


def maskable(layer: nn.Module) -> list[str]:
    """Names of a layer's own weights that can be owned position by position."""
    if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return ["weight"]
    if isinstance(layer, nn.MultiheadAttention):
        return [name for name in PROJECTIONS if getattr(layer, name) is not None]
    return []


def tied(module: nn.Module) -> list[list[str]]:
    """Names of every parameter that has several."""
    names: dict[int, list[str]] = {}
    for key, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(key)
    return [known for known in names.values() if len(known) > 1]


def _space(name: str, module: nn.Module, masked: Mapping[str, tuple[int, ...]]) -> Space:
    state = module.state_dict()
    parameters = [key for key, _ in module.named_parameters()]
    buffers = tuple(key for key, _ in module.named_buffers() if key in state)
    return Space(name, module, dict(masked), tuple(key for key in parameters if key not in masked), buffers)


def _template(config: Mapping[str, Any], inputs: InputSpec) -> Backbone:
    """The backbone on the meta device; with values only where buffers are constants, which nothing would restore."""
    with torch.device("meta"):
        made = backbone(config, inputs)
    if {key for key, _ in made.named_buffers()} <= made.state_dict().keys():
        return made
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        made = backbone(config, inputs)
    state = made.state_dict()
    for path, module in made.named_modules():
        for key, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[key] = nn.Parameter(torch.empty_like(value, device="meta"))
        for key, buffer in list(module._buffers.items()):
            if buffer is not None and f"{path}.{key}".lstrip(".") in state:
                module._buffers[key] = torch.empty_like(buffer, device="meta")
    return made


def _refuse_tied_pieces(made: Backbone) -> None:
    names: dict[int, dict[str, str]] = {}
    for piece, module in made.pieces.items():
        for key, parameter in module.named_parameters():
            names.setdefault(id(parameter), {})[piece] = f"{piece}.{key}"
    for places in names.values():
        if len(places) > 1:
            raise InvalidInput(
                f"backbone: {' and '.join(places.values())} are one tied weight in two pieces, of which every task "
                "would get two that differ; untie them, or make one piece of both"
            )


def _refuse_tied(piece: str, module: nn.Module, masked: Mapping[str, tuple[int, ...]]) -> None:
    for names in tied(module):
        if not masked.keys().isdisjoint(names):
            raise InvalidInput(
                f"backbone, piece {piece!r}: {' and '.join(names)} are one tied weight, which cannot be owned position "
                "by position for one use and not for the other; untie them, or leave the layer out with `layers`: it "
                "then stays dense, a copy for every task"
            )


def _tell_unsupported(piece: str, module: nn.Module, masked: Mapping[str, tuple[int, ...]]) -> None:
    for path, layer in module.named_modules():
        weights = [key for key, value in layer.named_parameters(recurse=False) if value.ndim > 1]
        missed = [key for key in weights if f"{path}.{key}".lstrip(".") not in masked]
        name = f"{piece}.{path}".rstrip(".")
        if missed and not maskable(layer) and (name, type(layer)) not in _TOLD:
            _TOLD.add((name, type(layer)))
            log.warning(
                "layer %r (%s) has no weights that can be owned in parts: %s stay dense, a copy for every task",
                name,
                type(layer).__name__,
                ", ".join(missed),
            )
