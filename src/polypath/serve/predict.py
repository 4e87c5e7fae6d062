"""Routes that answer: one task, several, or all; JSON or uploads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Path, Request, UploadFile
from pydantic import ValidationError
from starlette.responses import Response

from polypath.core.config import describe
from polypath.core.errors import InvalidInput
from polypath.prediction import Budget
from polypath.serve.access import Caller
from polypath.serve.errors import documented, json_response
from polypath.serve.schemas import ManyAnswers, PredictManyRequest, PredictRequest, TaskAnswers
from polypath.serve.service import Options, Service

router = APIRouter(prefix="/v1", tags=["predict"])

TaskName = Annotated[str, Path(description="Name of the task.", examples=["digits"])]
Files = Annotated[list[UploadFile], File(description="Image files, one an input.")]
BudgetText = Annotated[
    str | None, Form(description='What one input may cost, as JSON: {"flops": 6e7}, {"parameters": 1e6}, {"ms": 2.5}.')
]
Early = Annotated[bool, Form(description="Stop at the first exit that is confident enough.")]
Fit = Annotated[bool, Form(description="Convert and stretch images that do not fit, instead of refusing them.")]
_REFUSALS = (404, 408, 413, 422, 429, 503)


def said_by(request: Request) -> tuple[Service, Caller]:
    """The application's service, and who asks."""
    return request.app.state.service, request.state.caller


@router.post(
    "/tasks/{task}/predict", response_model=None, responses={200: {"model": TaskAnswers}, **documented(*_REFUSALS)}
)
async def predict(request: Request, task: TaskName, body: PredictRequest) -> Response:
    """Ask one task."""
    service, caller = said_by(request)
    return json_response(await service.predict(caller, task, body.inputs, _options(body)))


@router.post(
    "/tasks/{task}/predict/files",
    response_model=None,
    responses={200: {"model": TaskAnswers}, **documented(*_REFUSALS)},
)
async def predict_files(
    request: Request, task: TaskName, files: Files, budget: BudgetText = None, early: Early = False, fit: Fit = False
) -> Response:
    """Ask one task about uploaded images."""
    service, caller = said_by(request)
    return json_response(await service.predict(caller, task, await _read(files), Options(_budget(budget), early, fit)))


@router.post("/predict", response_model=None, responses={200: {"model": ManyAnswers}, **documented(*_REFUSALS)})
async def predict_many(request: Request, body: PredictManyRequest) -> Response:
    """Ask several tasks, or all that are permitted, about the same inputs; what their paths share is computed once."""
    service, caller = said_by(request)
    return json_response(await service.predict_many(caller, body.tasks, body.inputs, _options(body)))


@router.post("/predict/files", response_model=None, responses={200: {"model": ManyAnswers}, **documented(*_REFUSALS)})
async def predict_many_files(
    request: Request,
    files: Files,
    tasks: Annotated[list[str] | None, Form(description="Names, one a field; none asks all.")] = None,
    budget: BudgetText = None,
    early: Early = False,
    fit: Fit = False,
) -> Response:
    """Ask several tasks, or all that are permitted, about the same uploaded images."""
    service, caller = said_by(request)
    return json_response(
        await service.predict_many(caller, tasks, await _read(files), Options(_budget(budget), early, fit))
    )


def _options(body: PredictRequest) -> Options:
    return Options(body.budget, body.early, body.fit)


async def _read(files: list[UploadFile]) -> list[Any]:
    return [await file.read() for file in files]


def _budget(text: str | None) -> Budget | None:
    if not text:
        return None
    if len(text) > 1000:
        raise InvalidInput(f"budget: at most 1,000 characters of JSON are required, received {len(text):,}")
    try:
        return Budget.model_validate_json(text)
    except ValidationError as error:
        said = "; ".join(describe({**problem, "input": None}, "budget.") for problem in error.errors()[:3])
        raise InvalidInput(said.replace("; received None", "")) from None
