"""How many tasks use a module, beside what paths drawn at random lead one to expect (PaRT, figure 4)."""

from __future__ import annotations

from polypath.core import accounting
from polypath.core.network import Network
from polypath.ops.sharing import expected_profile


def sharing_profile(network: Network) -> dict[str, list[float]]:
    """{"observed": [...], "expected": [...]}: number of components used by k tasks, k = 0..number of tasks.

    The record of `Result.sharing`. Counted is what tasks could share: every component but their own. `expected` is
    there for networks in which every task uses as many modules of every layer and all layers have equally many: what
    paths drawn at random would give. A network in which everything is some task's own has no profile: {}.
    """
    parts, paths = network.components(), network.paths()
    observed = accounting.sharing(parts, paths).profile
    if not sum(observed):
        return {}
    profile = {"observed": [float(count) for count in observed]}
    grid = _grid(network)
    if grid is not None:
        profile["expected"] = expected_profile(*grid, len(paths))
    return profile


def _grid(network: Network) -> tuple[int, int, int] | None:
    """(layers, modules in each, modules a task uses in each); None where the network is no such grid."""
    parts, paths = network.components(), network.paths()
    shareable = [name for name, part in parts.items() if part.kind != "own"]
    if not paths or any(parts[name].kind != "module" for name in shareable):
        return None
    pool = set(shareable)
    rows = {tuple(len(pool.intersection(step)) for step in path.steps) for path in paths.values()}
    if len(rows) > 1:
        return None
    counts = [count for count in rows.pop() if count]
    layers = len(counts)
    if not layers or len(set(counts)) > 1 or len(shareable) % layers:
        return None
    return layers, len(shareable) // layers, counts[0]
