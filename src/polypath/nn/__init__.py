"""Blocks and networks; the table of networks that a saved system may name."""

from __future__ import annotations

import importlib

from polypath.core.errors import UnknownName
from polypath.core.network import Network

NETWORKS: dict[str, str] = {
    "attention": "polypath.nn.attention:AttentionNetwork",
    "columns": "polypath.nn.columns:Columns",
    "expanding": "polypath.nn.expanding:Expanding",
    "factorized": "polypath.nn.factorized:Factorized",
    "grid": "polypath.nn.grid:Grid",
    "layered": "polypath.nn.layered:Layered",
    "policy": "polypath.nn.policy:PolicyNetwork",
    "subnetworks": "polypath.nn.subnet:Subnetworks",
    "tensors": "polypath.nn.tensors:TensorNetwork",
    "progressive": "polypath.nn.progressive:Progressive",
    "multipath": "polypath.nn.multipath:MultiPathNet",
}


def network_class(name: str) -> type[Network]:
    """The class of a network by its name in `NETWORKS`; a manifest can name nothing else.

    Raises:
        UnknownName: no such network.
    """
    if name not in NETWORKS:
        raise UnknownName("network", name, NETWORKS)
    module, _, attribute = NETWORKS[name].partition(":")
    found: type[Network] = getattr(importlib.import_module(module), attribute)
    return found


def network_name(cls: type[Network]) -> str:
    """The table's name of a class, or `module:Class` for one that is not in it."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, known in NETWORKS.items() if known == target), target)
