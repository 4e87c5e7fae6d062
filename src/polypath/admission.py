"""Who may add to a system: a task that is private to a group is added by members of that group alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polypath.core.errors import InvalidInput

if TYPE_CHECKING:
    from polypath.core.examples import Suite
    from polypath.system import System


def check_groups(system: System, suite: Suite, groups: Iterable[str] | None, known: Iterable[str] = ()) -> None:
    """Whether a user may learn the tasks of a suite in a system.

    Args:
        system: which grows.
        suite: the tasks; of those that it knows already the data is there for a joint method.
        groups: access groups of the user; None: the owner of the files, who may do all.
        known: tasks of the suite that are learned again.

    Raises:
        InvalidInput: a task is private to a group that the user is not in, or a known task that is trained again needs
            such a group; names tasks and groups.
    """
    if isinstance(groups, str):
        raise InvalidInput(f"groups: a list of access groups is required, received {groups!r}; give [{groups!r}]")
    if groups is None:
        return
    groups = tuple(groups)
    if not all(isinstance(group, str) for group in groups):
        raise InvalidInput(
            f"groups: names of access groups are required where a system grows, received {list(groups)}; rsn2's groups "
            "of tasks that learn together are learned in one call each"
        )
    mine, tasks, again = frozenset(groups), system.tasks, frozenset(known)
    problems = []
    for data in suite:
        if data.name in tasks and data.name not in again:
            continue
        needed = set() if data.task.private_to is None else {data.task.private_to}
        if data.name in tasks:
            needed |= system.access(data.name)
        if lacking := sorted(needed - mine):
            problems.append(f"task {data.name!r} is private to {', '.join(map(repr, lacking))}")
    if problems:
        raise InvalidInput(
            f"{'; '.join(problems)}, but whoever adds it is in {sorted(mine) or 'no group'}; let a member of the group "
            "add it (groups=[...], --group), or the owner of the system, who names no groups"
        )
