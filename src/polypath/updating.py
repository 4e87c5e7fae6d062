"""Learning known tasks again from other data, as if they were new."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from polypath.admission import check_groups
from polypath.core import accounting
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.network import Network
from polypath.learning import as_suite, grow
from polypath.removal import release
from polypath.system import System


def update(
    system: System,
    data: Any,
    tasks: Sequence[str] | None = None,
    *,
    further: bool = False,
    groups: Iterable[str] | None = None,
    **settings: Any,
) -> None:
    """See `System.update`."""
    suite = as_suite(data)
    wanted = suite.names if tasks is None else tuple(dict.fromkeys(tasks))
    for name in wanted:
        if name not in suite.names:
            raise UnknownName("task in the data", name, suite.names)
        if name not in system.tasks:
            raise InvalidInput(
                f"task {name!r} is not in the system, which knows {list(system.tasks)}; add it (polypath add, "
                "system.learn) instead of updating it"
            )
    check_groups(system, suite, groups, wanted)
    if further:
        grow(system, suite.only(wanted), further=wanted, **settings)
        return
    _check_nobody_builds_on(system, wanted)
    with system.kept_on_error():
        system.network = _shared(system.network)  # releasing changes it in place
        release(system, wanted)
        # What other tasks' components remember of the old data keeps its access group, under a name of its own.
        marks = system._bury(wanted)
        system.note("updated", wanted, config={"traces": marks})
        grow(system, suite, **settings)


def _shared(network: Network) -> Network:
    """A network from which tasks can be released without a change of this one; a lazy one has the same modules."""
    if not network.lazy:
        return copy.deepcopy(network)
    made = network.fork(())
    made.take(network, network.built())
    return made


def _check_nobody_builds_on(system: System, wanted: Sequence[str]) -> None:
    network = system.network
    depends = accounting.dependencies(network.reaches(), network.components())
    for name in wanted:
        others = [other for other in depends[name] if other not in wanted]
        if others:
            raise InvalidInput(
                f"task {name!r} cannot be updated: {others} build on its components; update them in the same file, or "
                f"rename {name!r} (it stays for them) and add the new version under its name"
            )
