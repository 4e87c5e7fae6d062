"""Epoch checkpoints: one flat safetensors file that holds everything a loop changes; no pickle.

Every object becomes named tensors plus JSON values. Restoring copies values into the tensors that are there, so that
devices and memory layouts stay as the engine placed them: the continued run does the same arithmetic as the unbroken.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polypath.core.errors import CorruptError
from polypath.core.files import write_atomically

Tensors = dict[str, torch.Tensor]


def save_checkpoint(path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write `state` (networks, optimizers, dicts of them, JSON values) and `facts` (JSON) as one file, atomically."""
    from safetensors.torch import save

    tensors: Tensors = {}
    values = {name: _pack(item, name, tensors) for name, item in state.items()}
    ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    header = {"facts": json.dumps(dict(facts)), "values": json.dumps(values), "crc32": str(_checksum(ready))}
    data = save(ready, metadata=header)
    write_atomically(path, lambda file: file.write(data))


def checkpoint_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, without reading its tensors.

    Raises:
        CorruptError: the file is truncated or not a checkpoint.
    """
    facts: dict[str, Any] = json.loads(_header(path)["facts"])
    return facts


def restore_checkpoint(path: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """Put a checkpoint's values into the objects of `state`; returns its facts.

    JSON values inside dicts are updated in place.

    Raises:
        CorruptError: unreadable, or the objects do not have the shapes that were saved.
    """
    values, tensors = _contents(path)
    if set(values) != set(state):
        raise CorruptError(f"checkpoint {path} holds {sorted(values)}, but this run keeps {sorted(state)}")
    try:
        for name, item in state.items():
            _unpack(item, name, values[name], tensors)
    except (IndexError, KeyError, RuntimeError, ValueError) as error:
        raise CorruptError(
            f"checkpoint {path} does not fit this run ({error}); delete it to train the stage again"
        ) from error
    return checkpoint_facts(path)


def save_answer(path: Path, answer: Mapping[str, Any]) -> None:
    """Write an answer (nested dicts of tensors and JSON values with text keys) as one file, atomically."""
    save_checkpoint(path, {"answer": answer}, {})


def load_answer(path: Path) -> dict[str, Any]:
    """What `save_answer` wrote.

    Raises:
        CorruptError: unreadable, or changed since.
    """
    values, tensors = _contents(path)
    answer: dict[str, Any] = _rebuilt(values["answer"], "answer", tensors)
    return answer


def _rebuilt(values: Any, prefix: str, tensors: Tensors) -> Any:
    if prefix in tensors:
        return tensors[prefix]
    if isinstance(values, dict):
        return {key: _rebuilt(value, f"{prefix}/{key}", tensors) for key, value in values.items()}
    return values


def _contents(path: Path) -> tuple[dict[str, Any], Tensors]:
    """JSON values and tensors of a checkpoint, once its checksum is right."""
    from safetensors import safe_open

    header = _header(path)
    with safe_open(str(path), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    if str(_checksum(tensors)) != header["crc32"]:
        raise CorruptError(f"checkpoint {path} was changed since it was written; delete it to train the stage again")
    values: dict[str, Any] = json.loads(header["values"])
    return values, tensors


def _checksum(tensors: Tensors) -> int:
    total = 0
    for name in sorted(tensors):
        value = tensors[name]
        total = zlib.crc32(name.encode(), total)
        total = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"", total)
    return total


def _header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
    except (OSError, ValueError, SafetensorError) as error:
        raise CorruptError(f"checkpoint {path} cannot be read: {error}; delete it to train the stage again") from error
    if not {"facts", "values", "crc32"} <= header.keys():
        raise CorruptError(f"{path} is not a polypath checkpoint; delete it to train the stage again")
    return header


def _pack(item: Any, prefix: str, tensors: Tensors) -> Any:
    if isinstance(item, nn.Module):
        for key, tensor in item.state_dict().items():
            tensors[f"{prefix}/{key}"] = tensor
        return None
    if isinstance(item, torch.optim.Optimizer):
        return _pack_optimizer(item, prefix, tensors)
    if isinstance(item, Mapping):
        return {key: _pack(value, f"{prefix}/{key}", tensors) for key, value in item.items()}
    if isinstance(item, torch.Tensor):
        tensors[prefix] = item
        return None
    return item


def _pack_optimizer(item: torch.optim.Optimizer, prefix: str, tensors: Tensors) -> Any:
    packed = item.state_dict()
    plain: dict[str, Any] = {"groups": packed["param_groups"], "state": {}}
    for number, entries in packed["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{prefix}/{number}/{key}"] = value
            else:
                plain["state"].setdefault(str(number), {})[key] = value
    return plain


def _unpack(item: Any, prefix: str, values: Any, tensors: Tensors) -> None:
    if isinstance(item, nn.Module):
        with torch.no_grad():
            for key, tensor in item.state_dict().items():
                tensor.copy_(tensors[f"{prefix}/{key}"])
    elif isinstance(item, torch.optim.Optimizer):
        _unpack_optimizer(item, prefix, values, tensors)
    elif isinstance(item, torch.Tensor):
        item.copy_(tensors[prefix])
    elif isinstance(item, dict):
        for key in values:
            if isinstance(item.get(key), (nn.Module, torch.optim.Optimizer, torch.Tensor, dict)):
                _unpack(item[key], f"{prefix}/{key}", values[key], tensors)
            else:
                item[key] = values[key]


def _unpack_optimizer(item: torch.optim.Optimizer, prefix: str, values: Any, tensors: Tensors) -> None:
    own = f"{prefix}/"
    state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in values["state"].items()}
    parameters = [p for group in item.param_groups for p in group["params"]]
    for name, tensor in tensors.items():
        number, _, key = name.removeprefix(own).partition("/")
        if not name.startswith(own) or not number.isdigit() or "/" in key:
            continue
        parameter = parameters[int(number)]
        if tensor.shape == parameter.shape:
            # Moments keep their parameter's memory layout: fused optimizers walk both in storage order.
            tensor = torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
        state.setdefault(int(number), {})[key] = tensor
    item.load_state_dict({"state": state, "param_groups": values["groups"]})
