"""The page at `/`: three files of this package, no build step, nothing from another host."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)
_TYPES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "dom.js": "text/javascript",
    "picture.js": "text/javascript",
    "charts.js": "text/javascript",
}


@router.get("/")
async def index() -> Response:
    """The page."""
    return _file("index.html")


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """One of its files."""
    return _file(name)


@cache
def _contents(name: str) -> bytes:
    return (files("polypath.serve") / "static" / name).read_bytes()


def _file(name: str) -> Response:
    if name not in _TYPES:
        raise HTTPException(404, "no such file")
    return Response(_contents(name), media_type=_TYPES[name], headers={"Cache-Control": "no-cache"})
