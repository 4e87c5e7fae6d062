"""The server of a system: one file per group of routes; no training code reaches it.

`polypath serve SYSTEM` runs it. `create_app(folder)` makes the same application for any ASGI server, `ray_serve` the
same as a Ray Serve deployment. Needs the extra `[serve]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polypath.serve.app import create_app as create_app
    from polypath.serve.settings import Limits as Limits

__all__ = ["Limits", "create_app"]
_WHERE = {"create_app": "polypath.serve.app", "Limits": "polypath.serve.settings"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'polypath.serve' has no attribute {name!r}; public names: {', '.join(_WHERE)}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
