"""The table of methods: one name, one file, one class."""

from __future__ import annotations

import importlib
from typing import Any

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.method import Method

METHODS: dict[str, str] = {
    "cpg": "polypath.methods.cpg:CPG",
    "den": "polypath.methods.den:DEN",
    "dfcnn": "polypath.methods.dfcnn:DFCNN",
    "ewc": "polypath.methods.ewc:EWC",
    "adashare": "polypath.methods.adashare:AdaShare",
    "hard_sharing": "polypath.methods.hard_sharing:HardSharing",
    "multipath": "polypath.methods.multipath:MultiPath",
    "mu2net": "polypath.methods.mu2net:Mu2Net",
    "mtan": "polypath.methods.mtan:Mtan",
    "nestednet": "polypath.methods.nestednet:NestedNet",
    "packnet": "polypath.methods.packnet:PackNet",
    "part": "polypath.methods.part:PaRT",
    "rsn2": "polypath.methods.rsn2:RSN2",
    "prognn": "polypath.methods.prognn:ProgNN",
    "single": "polypath.methods.single:Single",
    "tensor_factorisation": "polypath.methods.tensor_factorisation:TensorFactorisation",
}


def method_class(name: str) -> type[Method[Any]]:
    """The class of a method, by its name in `METHODS` or as `package.module:Class` for methods of your own.

    Raises:
        UnknownName: no such method; offers the nearest.
        InvalidInput: the module cannot be imported or holds no such method.
    """
    target = METHODS.get(name)
    if target is None:
        if ":" not in name:
            raise UnknownName("method", name, METHODS)
        target = name
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"method {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InvalidInput(f"method {name!r}: {attribute} is not a subclass of polypath.core.method.Method")
    return found
