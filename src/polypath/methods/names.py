"""Settings that name tasks: names that no task has yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from polypath.core.config import Config
from polypath.core.errors import nearest

log = logging.getLogger(__name__)


@runtime_checkable
class NamesTasks(Protocol):
    """A configuration with settings that are given task by task."""

    def named_tasks(self) -> Mapping[str, Iterable[str]]:
        """Setting -> the tasks that it names."""


def keys_of(value: Any) -> tuple[str, ...]:
    """The tasks that a setting names where it may be one value for all of them."""
    return tuple(value) if isinstance(value, Mapping) else ()


def tell_strangers(config: Config, tasks: Sequence[str], before: Mapping[str, Any] | None = None) -> None:
    """Warn of names that are none of the tasks, in settings that may name tasks which are added later.

    Args:
        config: of a method; one that names no tasks is passed over. `default` is none of a task.
        tasks: those there are, and those that are added now.
        before: settings of a system that grows; names that these hold were told, or are of tasks that were removed.
    """
    if not isinstance(config, NamesTasks):
        return
    old = type(config).of(before, "method") if before is not None else None
    told = old.named_tasks() if isinstance(old, NamesTasks) else {}
    for setting, names in config.named_tasks().items():
        for name in dict.fromkeys(names):
            if name not in tasks and name not in told.get(setting, ()) and name != "default":
                close = nearest(name, tasks)
                log.warning(
                    "%s: %r is none of the tasks %s and counts only if one of that name is added later%s",
                    setting,
                    name,
                    list(tasks),
                    f"; did you mean {close!r}?" if close else "",
                )
