"""Routes that describe: the tasks a caller may use, what they cost, and the picture of their paths."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from polypath.core import accounting
from polypath.core.network import Network
from polypath.serve.errors import documented, json_response
from polypath.serve.live import Generation
from polypath.serve.picture import picture
from polypath.serve.predict import TaskName, said_by
from polypath.serve.schemas import Picture, SystemInfo, TaskInfo

router = APIRouter(prefix="/v1", tags=["about"])
PICTURED = 60  # tasks; with more, lanes are thinner than a line


@router.get("/tasks", response_model=None, responses={200: {"model": SystemInfo}, **documented()})
async def tasks(request: Request) -> Response:
    """The tasks that this caller may use."""
    from polypath import __version__

    service, caller = said_by(request)
    now = service.live.now
    found = await asyncio.to_thread(_described, now, now.permitted(caller))
    limits = service.limits.model_dump(include={"max_rows", "max_pixels", "max_body_bytes"})
    return json_response(
        {
            "method": now.system.method,
            "isolation": now.system.isolation,
            "generation": now.number,
            "polypath": __version__,
            "tasks": found,
            "limits": limits,
        }
    )


@router.get("/tasks/{task}", response_model=None, responses={200: {"model": TaskInfo}, **documented(404)})
async def task(request: Request, task: TaskName) -> Response:
    """One task."""
    service, caller = said_by(request)
    now = service.live.now
    now.task(caller, task)
    return json_response((await asyncio.to_thread(_described, now, [task]))[0])


@router.get("/picture", response_model=None, responses={200: {"model": Picture}, **documented()})
async def paths(request: Request) -> Response:
    """The picture of paths: permitted tasks and the components they use."""
    service, caller = said_by(request)
    now = service.live.now
    shown = tuple(now.permitted(caller)[:PICTURED])
    if shown not in now.pictures:
        now.pictures[shown] = await asyncio.to_thread(_drawn, now, shown)
    return json_response(now.pictures[shown])


def _drawn(generation: Generation, names: tuple[str, ...]) -> dict[str, Any]:
    with generation.lock:
        return picture(_planned(generation), names)


def _planned(generation: Generation) -> Network:
    """The network without values, made once a generation: costs and pictures need shapes alone."""
    if generation.plan is None:
        network = generation.system.network
        generation.plan = type(network).restore(network.plan())
    return generation.plan


def _described(generation: Generation, names: list[str]) -> list[dict[str, Any]]:
    """`TaskInfo` of every named task; costs are counted once a generation."""
    with generation.lock:
        for name in names:
            if name not in generation.infos:
                generation.infos[name] = _info(generation, name)
        return [generation.infos[name] for name in names]


def _info(generation: Generation, name: str) -> dict[str, Any]:
    system, found = generation.system, generation.tasks[name]
    cost = accounting.cost(_planned(generation), name)
    entry = system.entries.get(name)
    exits = system.exit_costs(name) if len(system.network.exits(name)) > 1 else ()
    preprocess = found.preprocess
    inputs: dict[str, Any] = {"kind": preprocess.kind}
    if preprocess.kind == "table":
        inputs |= preprocess.model_dump(include={"columns", "mean", "categories", "missing"})
    elif preprocess.kind == "image":
        inputs |= preprocess.model_dump(include={"channels", "height", "width", "fit"})
    target = found.target
    held = {"labels": target.labels} if target.kind != "regression" else {"size": target.size}
    return {
        "name": name,
        "inputs": inputs,
        "target": {"kind": target.kind, **held},
        "metrics": dict(entry.metrics) if entry is not None else {},
        "parameters": cost.parameters,
        "added_parameters": cost.added_parameters,
        "flops": cost.flops,
        "exits": [
            {
                "name": exit.exit,
                "parameters": exit.parameters,
                "flops": exit.flops,
                "ms": exit.ms,
                "metrics": dict(entry.exits.get(exit.exit, {})) if entry is not None else {},
            }
            for exit in exits
        ],
        "early": entry is not None and entry.confidence is not None,
    }
