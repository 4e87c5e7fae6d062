"""How many modules are used by how many tasks: what random paths lead one to expect, and what is there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import comb


def expected_profile(layers: int, modules: int, selected: int, tasks: int) -> list[float]:
    """Expected number of modules used by k tasks, k = 0..tasks, when every path is drawn at random.

    layers * modules * C(tasks, k) * p^k * (1 - p)^(tasks - k) with p = selected / modules: in every layer a task
    takes a uniform subset, independently of the others. Sums to layers * modules.

    Args:
        layers: of the network (L).
        modules: in every layer (M).
        selected: modules a task uses in every layer (N).
        tasks: how many (T).

    Raises:
        ValueError: a count that is not positive (tasks may be 0), or selected > modules.
    """
    if min(layers, modules, selected) < 1 or tasks < 0 or selected > modules:
        raise ValueError(
            "layers, modules and selected must be at least 1, tasks at least 0 and selected at most modules; "
            f"received layers={layers}, modules={modules}, selected={selected}, tasks={tasks}"
        )
    share = selected / modules
    return [layers * modules * comb(tasks, k) * share**k * (1 - share) ** (tasks - k) for k in range(tasks + 1)]


def observed_profile(used: Sequence[Collection[str]], components: Collection[str]) -> list[int]:
    """Number of components used by k tasks, k = 0..number of tasks.

    Args:
        used: for every task the components on its path; others than `components` are not counted.
        components: everything that is counted, used or not.
    """
    profile = [0] * (len(used) + 1)
    sets = [frozenset(names) for names in used]
    for name in frozenset(components):
        profile[sum(name in names for names in sets)] += 1
    return profile
