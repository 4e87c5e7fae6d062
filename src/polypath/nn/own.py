"""Modules of the user's own as backbones: offered by name to this process, never imported because a file names them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, StoreError
from polypath.core.task import InputSpec
from polypath.nn.backbones import Backbone

Source = nn.Module | Callable[[], nn.Module]
"""A module, or a function that makes one."""

_OFFERED: dict[str, Source] = {}


def offer(name: str, module: Source) -> None:
    """Let systems of this process use a module under a name.

    Offering one of the same structure (equal names and shapes of its state) again replaces it.

    Raises:
        InvalidInput: it makes no module, or the name belongs to a module of another structure.
    """
    made = _made(module, name)
    known = _OFFERED.get(name)
    if known is not None and known is not module and _shapes(_made(known, name)) != _shapes(made):
        raise InvalidInput(f"module {name!r}: another module of this process has that name; give another with name=...")
    _OFFERED[name] = module


class OwnOptions(Config):
    """A module that was offered.

    Args:
        name: under which it was offered.
    """

    name: str


class Own(Backbone):
    """A module of the user's own, as the one piece `body`; it returns features (n, f)."""

    Options = OwnOptions

    def __init__(self, inputs: InputSpec, options: OwnOptions) -> None:
        source = _OFFERED.get(options.name)
        if source is None:
            raise StoreError(
                f"this system was made from a module of your own, {options.name!r}, which this process does not know; "
                f"pass it: polypath.load(folder, modules={{{options.name!r}: module}})"
            )
        body = _made(source, options.name)
        if torch.get_default_device().type == "meta":
            body = body.to("meta")
        super().__init__({"body": body}, _features(body, options.name, inputs))


def _made(source: Source, name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # initial values may be drawn, here from whatever seed is in force
        made = copy.deepcopy(source) if isinstance(source, nn.Module) else source() if callable(source) else source
    if not isinstance(made, nn.Module):
        raise InvalidInput(
            f"module {name!r}: a torch.nn.Module, or a function that makes one, is required; received "
            f"{type(made).__name__}"
        )
    return made


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def _features(body: nn.Module, name: str, inputs: InputSpec) -> int:
    """Length of the vector the module returns, found on a copy without values."""
    tried = copy.deepcopy(body).to("meta").eval()
    dtype = torch.int64 if inputs.kind == "tokens" else torch.float32
    try:
        with torch.no_grad(), torch.device("meta"):
            out = tried(torch.zeros(2, *inputs.shape, dtype=dtype, device="meta"))
    except Exception as error:  # the module's own code may fail in any way
        raise InvalidInput(
            f"module {name!r} cannot take encoded inputs of shape (n, {', '.join(map(str, inputs.shape))}): {error}"
        ) from error
    if not isinstance(out, torch.Tensor) or out.ndim != 2 or out.shape[0] != 2:
        got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise InvalidInput(
            f"module {name!r}: features of shape (n, f) are required from n inputs, received {got} from 2; average or "
            "flatten what it returns, and leave out its classifier"
        )
    return int(out.shape[1])
