"""`--set PATH=VALUE`: changes of an experiment's resolved configuration."""

from __future__ import annotations

import json
from typing import Any

from polypath.core.errors import InvalidInput, UnknownName
from polypath.methods import method_class
from polypath.train.config import RunConfig


def assignment(text: str, example: str = "method.modules=8") -> tuple[str, Any]:
    """The path and the value of a `--set PATH=VALUE`; the value is read as JSON, else as text.

    Args:
        text: what was given.
        example: shown where it is no assignment.

    Raises:
        InvalidInput: it is none.
    """
    path, equals, raw = text.partition("=")
    if not equals or not path:
        raise InvalidInput(f"--set {text!r}: PATH=VALUE required, for example {example}")
    try:
        return path, json.loads(raw)
    except ValueError:
        return path, raw


def override(values: dict[str, Any], text: str) -> None:
    """Change an experiment's plain values in place as one `--set` says.

    Args:
        values: of an `Experiment`.
        text: "PATH=VALUE", see `polypath.recipes.experiment.experiment_of`.

    Raises:
        UnknownName, InvalidInput: a path or value that does not fit.
    """
    path, value = assignment(text)
    head, _, rest = path.partition(".")
    if head == "method" and rest:
        targets = [variant["config"] for variant in values["variants"].values()]
        known = {k for v in values["variants"].values() for k in method_class(v["method"]).config_class.model_fields}
        if rest.partition(".")[0] not in known:
            raise UnknownName("setting (--set method.)", rest, sorted(known))
        for target in targets:
            _put(target, rest, value, text)
    elif head == "variants" and rest.count("."):
        name, _, key = rest.partition(".")
        if name not in values["variants"]:
            raise UnknownName("variant (--set variants.)", name, values["variants"])
        _put(values["variants"][name]["config"], key, value, text)
    elif head == "suite" and rest:
        for suite in (values["suite"], *(v["suite"] for v in values["variants"].values() if v["suite"] is not None)):
            _put(suite, rest, value, text)
    elif head == "analysis_options" and rest:
        _put(values[head], rest, value, text)
    elif not rest and head in (*RunConfig.model_fields, "seeds"):
        values[head] = value
    else:
        raise UnknownName(
            "setting (--set)", path, ["method.KEY", "suite.KEY", "variants.NAME.KEY", *RunConfig.model_fields]
        )


def _put(target: Any, path: str, value: Any, text: str) -> None:
    keys = path.split(".")
    try:
        for key in keys[:-1]:
            target = target[int(key)] if isinstance(target, list) else target.setdefault(key, {})
        if isinstance(target, list):
            target[int(keys[-1])] = value
        else:
            target[keys[-1]] = value
    except (AttributeError, IndexError, TypeError, ValueError):
        raise InvalidInput(
            f"--set {text!r}: the path leads below a plain value or past the end of a list; "
            "`polypath run RECIPE --dry-run` shows every path"
        ) from None
