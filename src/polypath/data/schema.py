"""The JSON schema of tasks.yaml, for editors that complete and check as one types."""

from __future__ import annotations

import inspect
from typing import Any

from polypath.data.catalogue import CATALOGUE
from polypath.data.options import DataOptions
from polypath.data.own import METRICS, OwnConfig, OwnTask
from polypath.ops.losses import LOSSES

FILE = "tasks.schema.json"


def tasks_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12): a list of tasks with what they have in common, or one task alone."""
    whole = OwnConfig.model_json_schema()
    definitions = whole.pop("$defs")
    task = definitions["OwnTask"]
    task["description"] = "One task: where its examples are, and optionally more."
    _described(task, {**documented(DataOptions), **documented(OwnTask)})
    _described(whole, documented(OwnConfig))
    _named(task)
    del whole["properties"]["kind"]
    required = task.pop("required")
    # Settings may come from `defaults`, so that a task of a list need not give them; its name it must.
    definitions["Settings"] = {**task, "description": "Settings of every task that does not give its own."}
    definitions["OwnTask"] = {**task, "required": ["name"]}
    alone = {"$ref": "#/$defs/OwnTask", "required": required}
    whole["properties"]["defaults"] = {"$ref": "#/$defs/Settings"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "polypath tasks.yaml",
        "description": "Tasks to learn, and where their examples are.",
        "anyOf": [
            {key: value for key, value in whole.items() if key not in ("title", "description")},
            alone,
        ],
        "$defs": definitions,
    }


def documented(cls: type) -> dict[str, str]:
    """Argument -> its description, from the `Args:` of a docstring; `a, b: ...` describes both."""
    found: dict[str, str] = {}
    names: list[str] = []
    depth = None
    for line in (inspect.getdoc(cls) or "").partition("Args:\n")[2].splitlines():
        indent = len(line) - len(line.lstrip())
        if not line.strip() or indent == 0:
            break
        depth = indent if depth is None else depth
        head, colon, rest = line.strip().partition(": ")
        if indent == depth and colon:
            names = [name.strip() for name in head.split(",")]
            found |= dict.fromkeys(names, rest)
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _described(schema: dict[str, Any], meanings: dict[str, str]) -> None:
    for key, value in schema["properties"].items():
        text = meanings.get(key, "")
        value["description"] = text[:1].upper() + text[1:]
        value.pop("title", None)


def _named(task: dict[str, Any]) -> None:
    """Names that an editor can offer."""
    properties = task["properties"]
    properties["dataset"]["examples"] = ["folder:images", "csv:table.csv", "parquet:rows.parquet", *CATALOGUE]
    for key, names in (("loss", list(LOSSES)), ("metric", METRICS)):
        properties[key] = {"description": properties[key]["description"], "enum": [*names, None], "default": None}
