"""Root models: networks as sequences of named layers, described by JSON, from which evolution begins.

`{"kind": "vit", "name": "Ti/16", "depth": 0}` is a vision transformer (`polypath.nn.vit`); every other kind is a
backbone of `polypath.nn.backbones`, whose pieces are the layers. A module of your own must be an `nn.Sequential`.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, TypeAdapter
from torch import nn

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.task import InputSpec
from polypath.nn import vit
from polypath.nn.backbones import BACKBONES, backbone, described, kind_of

HEAD = "head"
_INPUTS: TypeAdapter[Any] = TypeAdapter(InputSpec)


@dataclass(frozen=True)
class Root:
    """A network cut into layers, without a head.

    Args:
        layers: slot -> module, in the order in which they run; each holds at least one parameter.
        features: length of the vector that heads read.
        always: slots that belong to the head: trained whenever it is.
        block: prefix of the slots that can be inserted and removed; None where none can.
    """

    layers: dict[str, nn.Module]
    features: int
    always: frozenset[str] = frozenset()
    block: str | None = None


def described_root(config: str | Mapping[str, Any]) -> dict[str, Any]:
    """The whole description of a root, defaults filled in, as plain JSON.

    Raises:
        UnknownName: no such kind or option.
        InvalidInput: a wrong value, or a kind whose layers cannot be enumerated.
    """
    given = {"kind": config} if isinstance(config, str) else dict(config)
    kind = given.get("kind")
    if kind == "vit":
        options = {key: value for key, value in given.items() if key != "kind"}
        return {"kind": "vit", **vit.VitOptions.of(options, "root").model_dump(mode="json")}
    if kind not in BACKBONES:
        raise UnknownName("kind of root", str(kind), ["vit", *BACKBONES])
    if kind == "timm":
        raise InvalidInput(
            "root: kind 'timm' is one piece whose layers cannot be enumerated; use 'vit' for vision transformers, "
            "'timm_stages' for networks in stages"
        )
    return described(given)


DescribedRoot = Annotated[str | dict[str, Any], AfterValidator(described_root)]
"""A setting that describes a root: the name of a kind or a mapping goes in, the whole description comes out."""


def root_of(config: Mapping[str, Any], inputs: InputSpec) -> Root:
    """The root of a description, its values drawn from the global generator or published; none on the meta device.

    Raises:
        InvalidInput: inputs that it does not take, or layers that cannot be enumerated.
    """
    if config["kind"] == "vit":
        layers, features = vit.vit_layers(inputs, _vit_options(config))
        return Root(layers, features, frozenset({vit.NORM}), vit.BLOCK)
    made = backbone(config, inputs)
    return Root(_sequence(dict(made.pieces.items()), config), made.features)


def template(config: Mapping[str, Any], inputs: InputSpec) -> Root:
    """The structure of a root on the meta device, made once a process; copy a layer before use."""
    return _template(json.dumps(config, sort_keys=True), inputs.model_dump_json())


@functools.lru_cache(maxsize=8)
def _template(config: str, inputs: str) -> Root:
    with torch.device("meta"):
        return root_of(json.loads(config), _INPUTS.validate_json(inputs))


def open_slots(config: Mapping[str, Any], inputs: InputSpec) -> frozenset[str]:
    """Layers of a root behind which it cannot be cut: what they hand on is not one tensor (half a residual block)."""
    return _open_slots(json.dumps(config, sort_keys=True), inputs.model_dump_json())


@functools.lru_cache(maxsize=8)
def _open_slots(config: str, inputs: str) -> frozenset[str]:
    spec = _INPUTS.validate_json(inputs)
    found = set()
    with torch.no_grad(), torch.device("meta"):
        value: Any = torch.zeros(2, *spec.shape, dtype=torch.int64 if spec.kind == "tokens" else torch.float32)
        for slot, layer in _template(config, inputs).layers.items():
            value = copy.deepcopy(layer).eval()(value)
            if not isinstance(value, torch.Tensor):
                found.add(slot)
    return frozenset(found)


def layer_of(config: Mapping[str, Any], inputs: InputSpec, slot: str, outputs: int | None) -> nn.Module:
    """The structure of one layer, on the meta device.

    Args:
        config: of the root.
        inputs: of the root.
        slot: a layer of the root, an inserted block, or the head.
        outputs: of a head.
    """
    found = template(config, inputs)
    with torch.device("meta"):
        if slot == HEAD:
            assert outputs is not None
            return _head(config, found.features, outputs)
        if slot in found.layers:
            return copy.deepcopy(found.layers[slot])
        if found.block is not None and slot.startswith(found.block):
            return copy.deepcopy(_block_template(json.dumps(config, sort_keys=True), inputs.model_dump_json()))
    raise InvalidInput(f"root: there is no layer {slot!r}; layers: {list(found.layers)}")


@functools.lru_cache(maxsize=8)
def _block_template(config: str, inputs: str) -> nn.Module:
    with torch.device("meta"):
        return vit.new_block(_INPUTS.validate_json(inputs), _vit_options(json.loads(config)))


def new_layer(
    config: Mapping[str, Any], inputs: InputSpec, slot: str, outputs: int | None, *, random_head: bool = False
) -> nn.Module:
    """A fresh layer, its values drawn from the global generator: an inserted block, or a head.

    Args:
        config: of the root.
        inputs: of the root.
        slot: `head`, or a block's.
        outputs: of a head.
        random_head: draw a head's values (paper) instead of zeros (the authors' library).
    """
    found = template(config, inputs)
    if slot == HEAD:
        assert outputs is not None
        head = _head(config, found.features, outputs)
        if not random_head:
            last = [part for part in head.modules() if isinstance(part, nn.Linear)][-1]
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
        return head
    if found.block is None or not slot.startswith(found.block):
        raise InvalidInput(f"root: a new layer {slot!r} cannot be made for this root")
    return vit.new_block(inputs, _vit_options(config))


def _head(config: Mapping[str, Any], features: int, outputs: int) -> nn.Module:
    return nn.Linear(features, outputs) if config["kind"] == "vit" else kind_of(config).head(features, outputs)


def _vit_options(config: Mapping[str, Any]) -> vit.VitOptions:
    return vit.VitOptions.of({key: value for key, value in config.items() if key != "kind"}, "root")


def _sequence(pieces: dict[str, nn.Module], config: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Pieces as layers; a body that is an nn.Sequential is taken apart."""
    if list(pieces) != ["body"]:
        return pieces
    body = pieces["body"]
    children = dict(body.named_children())
    if not isinstance(body, nn.Sequential) or type(body).forward is not nn.Sequential.forward or not children:
        raise InvalidInput(
            f"root: the layers of {config.get('name', config['kind'])!r} cannot be enumerated: it is a "
            f"{type(body).__name__}, whose order of computation only its own code knows; give an nn.Sequential"
        )
    layers: dict[str, nn.Module] = {}
    waiting: list[nn.Module] = []
    for name, child in children.items():
        waiting.append(child)
        if any(True for _ in child.parameters()):
            layers[f"layer_{name}"] = nn.Sequential(*waiting)
            waiting = []
    if not layers:
        raise InvalidInput(f"root: {config.get('name', config['kind'])!r} has no parameters")
    if waiting:  # activations and pooling behind the last parameters
        last = next(reversed(layers))
        layers[last] = nn.Sequential(*layers[last], *waiting)  # type: ignore[misc]
    return layers
