"""Connections below the routes: how long one may take to send its headers, and how many there may be.

uvicorn gives a client all the time it wants for the headers of a request, so that a few hundred that never end them
would use up the files that the process may open.
"""

from __future__ import annotations

import asyncio
from typing import Any

MOST_BACKLOG = 1024  # connections that the kernel holds ready; accepted in one go, before any of them is looked at
ELSEWHERE = 4096  # connections where the system has no limit on open files to stay below (Windows)
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)
SAID = b'{"error":{"code":"busy","message":"the server has as many connections as it can hold"}}'


def room() -> tuple[int, int]:
    """(connections at once, backlog) that leave files for the system's components and whatever else is open."""
    try:
        import resource
    except ImportError:
        return ELSEWHERE, MOST_BACKLOG
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return ELSEWHERE, MOST_BACKLOG
    backlog = max(min(files // 4, MOST_BACKLOG), 1)
    return max(files - 2 * backlog, 1), backlog


def limited(headers_s: float, most: int) -> type[Any]:
    """The protocol of uvicorn, which closes connections whose headers are not complete in time.

    Where `most` are open, a new one takes the place of the one that has waited longest for its headers; where all are
    being answered it is told that the server is busy.

    Args:
        headers_s: seconds from the first byte of a request (or the start of the connection) to its complete headers.
        most: connections at once.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol
    waiting: dict[Any, asyncio.TimerHandle] = {}  # connections without complete headers, the oldest first

    class Limited(base):  # type: ignore[misc]
        """One connection."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                if not waiting:
                    transport.write(BUSY % (len(SAID), SAID))
                    transport.close()
                    return
                next(iter(waiting))._give_up()
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._arrived()
            elif self not in waiting and not self.transport.is_closing():
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._arrived()
            super().connection_lost(exc)

        def _wait(self) -> None:
            waiting[self] = asyncio.get_running_loop().call_later(headers_s, self._give_up)

        def _arrived(self) -> None:
            timer = waiting.pop(self, None)
            if timer is not None:
                timer.cancel()

        def _give_up(self) -> None:
            self._arrived()
            self.connections.discard(self)  # not only once the loop has closed it: the next one is counted before
            self.transport.abort()

    return Limited
