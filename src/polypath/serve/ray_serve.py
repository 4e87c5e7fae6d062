"""The same application as a Ray Serve deployment, on several machines. Needs `[serve]` and `ray[serve]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polypath.core.errors import InvalidInput
from polypath.serve.settings import Limits


def deployment(
    folder: str | Path, *, tokens: str | Path | None = None, limits: Limits | None = None, **options: Any
) -> Any:
    """A Ray Serve application that serves the system in `folder`; start it with `ray.serve.run(...)`.

    Every replica reads the system for itself and picks up a changed one for itself, so the folder (and the file of
    tokens) must be readable under the same path on every machine. Requests are batched within a replica.

    Args:
        folder: the system.
        tokens: file of bearer tokens; required where callers on other machines are to be answered.
        limits: of requests, a replica. Ray Serve's own proxy takes the connections, so that the time for headers and
            the number of connections are unlimited; a proxy in front of it must bound them.
        options: of the deployment (`name="polypath"`, `num_replicas=4`, `ray_actor_options={"num_cpus": 2}`,
            `autoscaling_config=...`).

    Raises:
        InvalidInput: Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise InvalidInput("Ray Serve is not installed: pip install 'polypath[serve]' 'ray[serve]'") from error

    limits = limits or Limits()
    where, held, kept = str(folder), None if tokens is None else str(tokens), limits.model_dump()
    # Ray Serve's own limit is five requests a replica: too few to make batches of, and ours are refused with a reason.
    options.setdefault("max_ongoing_requests", limits.max_concurrency)

    def build() -> Any:
        from polypath.serve.app import create_app

        return create_app(where, tokens=held, limits=Limits.of(kept))

    class Polypath:
        """One replica: the application, made where it runs."""

    ingress: Any = serve.ingress(build)
    made: Any = serve.deployment(**{"name": "polypath", **options})
    return made(ingress(Polypath)).bind()
