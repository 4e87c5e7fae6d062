"""polypath: one network, many tasks. Every task is a path through a shared pool of components.

The public names load when first used, so that `import polypath` is quick and brings no heavy package:

- `data`: data sets and suites of tasks; `learn`: train a system; `load`: open a saved one; `System`: what both return;
- `subnetworks`: make a network of your own one for many tasks;
- `recipes`: the papers' experiments; `testing`: the exam for methods; `errors`: everything that can be said to a user.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polypath import data as data
    from polypath import recipes as recipes
    from polypath import testing as testing
    from polypath.core import errors as errors
    from polypath.learning import learn as learn
    from polypath.methods.rsn2 import subnetworks as subnetworks
    from polypath.system import System as System
    from polypath.system import load as load

__version__ = "0.1.0"

# Public name -> where it lives: "module" or "module:attribute".
_PUBLIC = {
    "System": "polypath.system:System",
    "data": "polypath.data",
    "errors": "polypath.core.errors",
    "learn": "polypath.learning:learn",
    "load": "polypath.system:load",
    "recipes": "polypath.recipes",
    "subnetworks": "polypath.methods.rsn2:subnetworks",
    "testing": "polypath.testing",
}

__all__ = ["System", "__version__", "data", "errors", "learn", "load", "recipes", "subnetworks", "testing"]


def __getattr__(name: str) -> Any:
    where = _PUBLIC.get(name)
    if where is None:
        raise AttributeError(f"module 'polypath' has no attribute {name!r}; public names: {', '.join(_PUBLIC)}")
    module, _, attribute = where.partition(":")
    value: Any = import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value  # later uses skip this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
