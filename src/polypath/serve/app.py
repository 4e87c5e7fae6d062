"""The application: routes, guard, errors, and a system that is watched while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from polypath.serve import about, health, page, predict
from polypath.serve.access import Tokens
from polypath.serve.errors import handle_errors
from polypath.serve.guard import Guard
from polypath.serve.live import Live
from polypath.serve.service import Service
from polypath.serve.settings import Limits

DESCRIPTION = """Every task of one system. A task is asked by name; several tasks asked at once share what their paths
share. Errors have one shape: `{"error": {"code", "message"}}`."""


def create_app(folder: str | Path, *, tokens: str | Path | None = None, limits: Limits | None = None) -> FastAPI:
    """The application for a system's folder; `app.state.service` holds what its routes share.

    Args:
        folder: the system. When it is saved again (a task added, removed, updated, rolled back), requests that come
            after it are answered by the new state; those in progress end with the old one.
        tokens: file of bearer tokens (`polypath token`); None serves only callers on this machine, and no private
            task.
        limits: of requests.

    Raises:
        StoreError: no system there, or it cannot be read.
        InvalidInput: the file of tokens holds none.
    """
    held = None if tokens is None else Tokens(tokens)
    service = Service(Live(folder, held is not None), held, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(service.watch())
        try:
            yield
        finally:
            service.draining = True
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            service.close()

    from polypath import __version__

    app = FastAPI(
        title="polypath",
        description=DESCRIPTION,
        version=__version__,
        docs_url=None,  # those pages load scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    bearer = [Security(HTTPBearer(auto_error=False, description="Made by `polypath token`."))]
    app.include_router(predict.router, dependencies=bearer)
    app.include_router(about.router, dependencies=bearer)
    app.include_router(health.router)
    app.include_router(page.router)
    handle_errors(app)
    app.add_middleware(Guard, service=service)
    return app
