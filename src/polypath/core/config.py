"""Frozen, validated settings whose mistakes read like sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from polypath.core.errors import InvalidInput, UnknownName, collect


class Config(BaseModel):
    """A frozen pydantic model: unknown keys are errors that name the nearest valid one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Build from a mapping.

        Args:
            values: plain values, as read from JSON or the command line.
            where: path of this mapping inside the whole configuration ("method"), used in messages.

        Raises:
            UnknownName: a key this config does not have (the first such key).
            InvalidInput: one or more values of the wrong type or range, each with its path.
        """
        prefix = f"{where}." if where else ""
        for key in values:
            if key not in cls.model_fields:
                raise UnknownName(f"key of {where or cls.__name__}", key, cls.model_fields)
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problems = [describe(e, prefix) for e in error.errors()]
            if where and len(problems) == 1:
                raise InvalidInput(problems[0]) from error  # its path begins with `where` already
            collect(problems, where or cls.__name__)
            raise  # pragma: no cover - a ValidationError always holds at least one problem

    def changed(self, **values: Any) -> Self:
        """A validated copy with some values replaced."""
        return type(self).of({**self.model_dump(), **values})


def describe(problem: Mapping[str, Any], prefix: str = "") -> str:
    """One sentence for one pydantic problem: the path, what is required, what was received."""
    path = (prefix + ".".join(str(part) for part in problem["loc"])).rstrip(".") or "configuration"
    received = shown(problem.get("input"))
    message = str(problem["msg"])
    if problem["type"] == "missing":
        return f"{path}: required, but not given"
    if problem["type"] == "value_error":  # raised by our own validators, whose sentences say what was received
        return f"{path}: {message.removeprefix('Value error, ')}"
    return f"{path}: {message[:1].lower()}{message[1:]}; received {received}"


def shown(value: Any) -> str:
    """A received value as a message shows it, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
