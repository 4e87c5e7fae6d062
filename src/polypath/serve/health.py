"""Routes for those who run the server: does it live, does it answer, what does it do."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from polypath.serve.access import METRICS
from polypath.serve.errors import Refused, documented, json_response
from polypath.serve.predict import said_by
from polypath.serve.schemas import Health, Ready

router = APIRouter(tags=["operation"])


@router.get("/health", response_model=None, responses={200: {"model": Health}, **documented()})
async def health() -> Response:
    """Whether the process lives."""
    return json_response({"status": "ok"})


@router.get(
    "/ready",
    response_model=None,
    responses={200: {"model": Ready}, **documented(), 503: {"model": Ready, "description": "Stopping"}},
)
async def ready(request: Request) -> Response:
    """Whether requests are answered: 503 once the server is stopping, so that no more are sent here."""
    service, _ = said_by(request)
    status = "stopping" if service.draining else "ready"
    found = {"status": status, "generation": service.live.now.number}
    return json_response(found, 503 if service.draining else 200)


@router.get(
    "/metrics",
    response_model=None,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **documented()},
)
async def metrics(request: Request) -> Response:
    """What Prometheus reads. Names every task, so where there are tokens only those of the group `metrics` may."""
    service, caller = said_by(request)
    if service.tokens is not None and METRICS not in caller.groups:
        raise Refused(403, "forbidden", f"a token of the group {METRICS!r} is required")
    return Response(service.measures.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
