"""Before a request reaches a route: who asks, how large it is, whether there is room. After it: one line of metrics.

Plain ASGI: a layer that buffers or copies would be paid by every request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polypath.serve.access import NOBODY, Caller
from polypath.serve.errors import Refused, refusal, response
from polypath.serve.service import Service

OPEN = ("/", "/health", "/ready", "/openapi.json")  # and /static/: what everybody may read
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


class Guard:
    """The outermost layer of the application.

    Args:
        app: what it guards.
        service: shared state.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service
        self._busy: Counter[str | None] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        started = False

        async def sending(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                held = message.setdefault("headers", [])
                names = {name.lower() for name, _ in held}
                message["headers"] = [*held, *(pair for pair in HEADERS.items() if pair[0] not in names)]
            await send(message)

        try:
            await self._admitted(scope, receive, sending)
        except Exception as error:
            if started:  # half an answer cannot be taken back
                raise
            found = refusal(error)
            self.service.measures.refused.labels(found.code).inc()
            await response(found)(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.service.measures.requests.labels(route, str(status)).inc()
            self.service.measures.seconds.labels(route).observe(time.perf_counter() - began)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value for name, value in scope["headers"]}
        path = scope["path"]
        caller = NOBODY
        if self.service.tokens is None:
            _require_this_machine(scope, headers)
        elif path not in OPEN and not path.startswith("/static/"):
            caller = self._known(headers)
        scope.setdefault("state", {})["caller"] = caller
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        self._require_room(caller)
        self._busy[caller.name] += 1
        self.service.measures.in_progress.inc()
        try:
            body = await self._body(headers, receive)
            await self.app(scope, _again(body, receive), send)
        finally:
            self._busy[caller.name] -= 1
            if not self._busy[caller.name]:
                del self._busy[caller.name]
            self.service.measures.in_progress.dec()

    def _known(self, headers: MutableMapping[bytes, bytes]) -> Caller:
        assert self.service.tokens is not None
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        found = self.service.tokens.caller(token.strip()) if kind.lower() == "bearer" else None
        if found is None:
            said = "a bearer token is required" if not token else "this token is not known here"
            raise Refused(401, "unauthorized", said, {"WWW-Authenticate": "Bearer"})
        return found

    def _require_room(self, caller: Caller) -> None:
        limits = self.service.limits
        if self.service.draining:
            raise Refused(503, "stopping", "the server is stopping", {"Retry-After": "5"})
        if self._busy.total() >= limits.max_concurrency:
            said = f"{limits.max_concurrency} requests are in progress, which is the limit of this server"
            raise Refused(503, "busy", said, {"Retry-After": "1"})
        if caller.name is not None and self._busy[caller.name] >= limits.max_per_token:
            said = f"{limits.max_per_token} requests of this token are in progress, which is its limit"
            raise Refused(429, "too_many_requests", said, {"Retry-After": "1"})

    async def _body(self, headers: MutableMapping[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, refused as soon as it is known to be too large."""
        limit = self.service.limits.max_body_bytes
        large = Refused(413, "body_too_large", f"body: at most {limit:,} bytes", {"Connection": "close"})
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > 18 or int(length) > limit):
            raise large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.service.limits.body_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "incomplete", "body: the client left before the end")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        raise large
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(
                408, "too_slow", f"body: not complete within {self.service.limits.body_s:g} s", {"Connection": "close"}
            ) from None
        return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """A receive that gives the body that was read already, and then what follows it."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receiving


def _require_this_machine(scope: Scope, headers: MutableMapping[bytes, bytes]) -> None:
    """Without tokens only this machine is served, and only under its own name.

    The name keeps out pages of other hosts that a browser on this machine has open (DNS rebinding).
    """
    host = headers.get(b"host", b"").decode("latin-1")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    client: Any = scope.get("client")
    if name and not is_loopback(name):
        raise Refused(400, "wrong_host", "without tokens this server answers to localhost, 127.0.0.1 and [::1] only")
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and origin.partition("://")[2] != host:
        raise Refused(403, "wrong_origin", "without tokens this server does not answer pages of other hosts")
    if client and not is_loopback(client[0], unknown=True):
        raise Refused(403, "wrong_client", "without tokens this server answers this machine only")


def is_loopback(host: str, *, unknown: bool = False) -> bool:
    """Whether a host name or address is this machine's own; `unknown` for what is neither (a UNIX socket)."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return unknown
