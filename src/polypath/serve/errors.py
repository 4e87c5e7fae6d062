"""What goes wrong, as HTTP: a stable code and the same sentence the library says, never a trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from polypath.core.config import describe
from polypath.core.errors import PolypathError, StoreError, UnknownName

log = logging.getLogger(__name__)


class Refused(PolypathError):
    """A request that is refused.

    Args:
        status: HTTP status.
        code: stable name of the reason, for programs.
        message: a sentence, for people.
        headers: to send along (Retry-After, WWW-Authenticate).
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.code, self.headers = status, code, dict(headers or {})
        super().__init__(message)


class ErrorDetail(BaseModel):
    """What was wrong with a request."""

    code: str = Field(description="Stable name of the reason, for programs.", examples=["unknown_task"])
    message: str = Field(description="What is required, what was received, what to do.")


class ErrorBody(BaseModel):
    """Body of every answer that is no success."""

    error: ErrorDetail


_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_type"}


def refusal(error: BaseException) -> Refused:
    """Any error as a refusal; what is not meant for the caller is left out and logged."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, UnknownName):
        return Refused(404 if error.kind == "task" else 422, f"unknown_{error.kind.split()[0]}", str(error))
    if isinstance(error, StoreError):  # its text names paths of this machine
        log.error("the system on disk cannot be read: %s", error)
        return Refused(
            503, "system_unavailable", "the system cannot answer this task now; the operator must look at it"
        )
    if isinstance(error, PolypathError):
        return Refused(422, "invalid_input", str(error))
    if isinstance(error, RequestValidationError):
        said = "; ".join(_sentence(problem) for problem in error.errors()[:5])
        return Refused(422, "invalid_request", said)
    if isinstance(error, HTTPException):
        code = _CODES.get(error.status_code, "refused")
        return Refused(error.status_code, code, str(error.detail), error.headers)
    log.error("a request failed", exc_info=error)
    if isinstance(error, MemoryError):
        return Refused(503, "out_of_memory", "the server has no memory for this request now", {"Retry-After": "5"})
    return Refused(500, "internal_error", "the server failed on this request; its log has the details")


def _sentence(problem: Mapping[str, Any]) -> str:
    """As the library says it, but without the received value: it may be megabytes, or a secret."""
    if problem["type"] == "json_invalid":
        return "body: JSON is required, and this is none"
    said = describe({**problem, "input": None, "loc": [part for part in problem["loc"] if part != "body"] or ["body"]})
    return said.removesuffix("; received None")[:300]


def response(error: BaseException) -> Response:
    """An error as a JSON answer."""
    found = refusal(error)
    return json_response({"error": {"code": found.code, "message": str(found)}}, found.status, found.headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Plain values as JSON: in ASCII, so that no string can fail to be encoded; without NaN."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Response(text, status, headers=dict(headers or {}), media_type="application/json")


def handle_errors(app: FastAPI) -> None:
    """Answer every error of the application with `ErrorBody`."""

    async def handler(request: Request, error: Exception) -> Response:
        service: Any = request.app.state.service
        found = refusal(error)
        service.measures.refused.labels(found.code).inc()
        return response(found)

    for kind in (PolypathError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handler)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Refusals of a route, for OpenAPI."""
    return {status: {"model": ErrorBody, "description": _SAID[status]} for status in (*statuses, *_ALWAYS)}


_SAID = {
    400: "A request that cannot be read, or to another host name than this machine's where there are no tokens",
    401: "A bearer token is required, or this one is not known",
    403: "The token's groups do not include those of the task",
    404: "No such task; the nearest permitted name is offered",
    408: "The request took too long to arrive",
    413: "The body, an image or the number of inputs is over the limit",
    422: "The inputs or options do not fit the task",
    429: "Too many requests of this token at once",
    500: "A mistake of the server",
    503: "Too many requests at once, shutting down, or the system cannot be read",
}
_ALWAYS = (400, 401, 403, 500)
