"""`polypath methods`: the learning methods and their settings."""

from __future__ import annotations

import importlib
import inspect
import re
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from polypath.cli.own import importable
from polypath.cli.show import AsJson, listing, print_json, print_tables
from polypath.core.config import Config


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[METHOD]", help="Show every setting of this method.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods, or every setting of one with its type and default."""
    from polypath.methods import METHODS

    if name is None:
        found = [_about(method) for method in METHODS]
        if as_json:
            print_json(found)
        else:
            table = [(about["name"], about["title"], ", ".join(about["settings"])) for about in found]
            notes = ("polypath methods METHOD shows types, defaults and meanings.",)
            print_tables(listing("Methods", ("method", "what", "settings"), table, notes))
        return
    about = _about(name)
    if as_json:
        print_json(about)
        return
    rows = [
        (f"method.{key}", value["type"], str(value["default"]), value["meaning"])
        for key, value in about["settings"].items()
    ]
    print_tables(listing(f"{about['name']}: {about['title']}", ("setting", "type", "default", "meaning"), rows))


def _about(name: str) -> dict[str, Any]:
    from polypath.methods import method_class

    importable(name)
    cls = method_class(name)
    meanings = meanings_of(cls.config_class)
    settings = {
        key: {
            "type": _named(field.annotation),
            "default": None if field.is_required() else _plain(field.get_default(call_default_factory=True)),
            "meaning": meanings.get(key, ""),
        }
        for key, field in cls.config_class.model_fields.items()
    }
    return {"name": name, "title": (inspect.getdoc(cls) or "").partition("\n")[0], "settings": settings}


def meanings_of(config: type) -> dict[str, str]:
    """Setting -> what it means; where the text only says "see `module.Class`", what that class says."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):  # settings may be inherited, with their meaning
        found |= documented(cls.__doc__ or "") if cls.__module__.startswith("polypath.") else {}
    for key, text in found.items():
        other = re.search(r"see `([\w.]+)\.(\w+)`", text)
        if other:
            there = documented(getattr(importlib.import_module(other[1]), other[2]).__doc__ or "")
            found[key] = there.get(key, text)
    return found


def documented(text: str) -> dict[str, str]:
    """Argument -> its description, from the `Args:` of a docstring; `a, b: ...` describes both."""
    found: dict[str, str] = {}
    names: list[str] = []
    depth = None
    for line in inspect.cleandoc(text).partition("Args:\n")[2].splitlines():
        indent = len(line) - len(line.lstrip())
        if not line.strip() or indent == 0:
            break
        depth = indent if depth is None else depth
        if indent == depth and ": " in line:
            head, _, rest = line.strip().partition(": ")
            names = [name.strip() for name in head.split(",")]
            found |= dict.fromkeys(names, rest)
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _named(annotation: Any) -> str:
    """A type as one writes it: bounds, which pydantic keeps in the annotation, are left to the message of a refusal."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _named(arguments[0])
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " | ".join(map(_named, arguments))
    if origin is not None:
        return f"{_named(origin)}[{', '.join(map(_named, arguments))}]"
    if annotation in (None, type(None)):
        return "None"
    return "..." if annotation is Ellipsis else getattr(annotation, "__name__", str(annotation))


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value
