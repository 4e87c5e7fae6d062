"""Running the application with uvicorn: where it may listen, how it stops."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from polypath.core.errors import InvalidInput
from polypath.serve.app import create_app
from polypath.serve.connections import limited, room
from polypath.serve.guard import is_loopback
from polypath.serve.service import Service
from polypath.serve.settings import Limits


class Server(uvicorn.Server):
    """uvicorn's server, which says that it is stopping before it stops."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new predictions and let /ready say so; what is in progress is finished."""
        self._service.draining = True
        super().handle_exit(sig, frame)


def serve(
    folder: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    tokens: str | Path | None = None,
    limits: Limits | None = None,
    stop_s: float = 30.0,
    started: Callable[[str], object] = lambda url: None,
) -> None:
    """Serve a system until SIGTERM or Ctrl-C; requests in progress are finished first.

    Args:
        folder: the system.
        host: where to listen.
        port: 0 takes a free one.
        tokens: file of bearer tokens; without it `host` must be this machine's own address.
        limits: of requests.
        stop_s: seconds that requests in progress may take once the server is told to stop.
        started: told the address once the system is read and the port is open.

    Raises:
        InvalidInput: another host without tokens, a port that cannot be opened.
        StoreError: no system there, or it cannot be read.
    """
    if tokens is None and not is_loopback(host):
        raise InvalidInput(
            f"host {host!r}: without tokens only this machine is served (127.0.0.1); make tokens with "
            "polypath token --file tokens.json --name NAME and pass --tokens tokens.json"
        )
    limits = limits or Limits()
    app = create_app(folder, tokens=tokens, limits=limits)
    most, backlog = room()
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=backlog
        )
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"cannot listen on {host} port {port}: {reason}; choose another with --port") from error
    with listening:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(stop_s),
            http=limited(limits.body_s, most),
            backlog=backlog,
        )
        server = Server(config, app.state.service)
        # uvicorn raises the signal again once it has stopped; a server that was told to stop and did has not failed.
        before = {sig: signal.signal(sig, server.handle_exit) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            at = listening.getsockname()
            started(f"http://{f'[{at[0]}]' if ':' in at[0] else at[0]}:{at[1]}")
            server.run(sockets=[listening])
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)
