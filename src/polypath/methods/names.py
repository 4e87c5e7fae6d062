"""Settings that name tasks: names that no task has yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from polypath.core.errors import nearest

log = logging.getLogger(__name__)


def tell_strangers(setting: str, names: Iterable[str], tasks: Sequence[str]) -> None:
    """Warn of names that are none of the tasks, in a setting that may name tasks which are added later.

    Args:
        setting: what it is called.
        names: that it names; `default` is none of a task.
        tasks: those there are.
    """
    for name in dict.fromkeys(names):
        if name not in tasks and name != "default":
            close = nearest(name, tasks)
            log.warning(
                "%s: %r is none of the tasks %s and counts only if one of that name is added later%s",
                setting,
                name,
                list(tasks),
                f"; did you mean {close!r}?" if close else "",
            )
