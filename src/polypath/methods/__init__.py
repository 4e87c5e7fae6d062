"""The table of methods: one name, one file, one class."""

from __future__ import annotations

import importlib
from typing import Any

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.method import Method

METHODS: dict[str, str] = {
    "dfcnn": "polypath.methods.dfcnn:DFCNN",
    "hard_sharing": "polypath.methods.hard_sharing:HardSharing",
    "part": "polypath.methods.part:PaRT",
    "single": "polypath.methods.single:Single",
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
