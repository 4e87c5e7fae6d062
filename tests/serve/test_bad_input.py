"""Bad requests get a 4xx with a sentence, never a trace: images, JSON, sizes, counts."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from bad_requests import bomb
from pydantic import ValidationError
from serving import Client, base64_png, png

import polypath as pp
from polypath.serve.schemas import MOST_NAMES, PredictManyRequest

GREY = tiny.pixels(1, 0)[0]


def sixteen_bit() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("I;16", (8, 8), 300).save(out, "PNG")
    return out.getvalue()


IMAGES: list[tuple[str, bytes, int, str]] = [
    ("bomb", bomb(), 413, "at most 25,000,000 pixels an image"),
    ("smaller bomb", bomb(8_000, 8_000), 413, "received 8000 x 8000"),
    ("truncated", png(torch.randint(0, 255, (1, 8, 8), generator=torch.Generator().manual_seed(0)).byte())[:-30], 422,
     "damaged or truncated"),
    ("no image", b"hello", 422, "cannot be read as an image"),
    ("empty", b"", 422, "cannot be read as an image"),
    ("colour", png(GREY, "RGB"), 422, "1 channel(s) required, received mode 'RGB'"),
    ("colour and alpha", png(GREY, "RGBA"), 422, "received mode 'RGBA'"),
    ("another size", png(GREY[:, :4]), 422, "(1, 8, 8) pixels required"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", 422, "cannot be read as an image"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status", "words"), [one[1:] for one in IMAGES], ids=[one[0] for one in IMAGES])
def test_images_that_cannot_be_used_are_refused_by_both_ways_in(
    images: Path, client: Client, data: bytes, status: int, words: str
) -> None:
    server = client(images)
    good = png(GREY)
    encoded = [base64.b64encode(one).decode() for one in (good, data)]
    for said in (
        server.post("/v1/tasks/digits/predict", json={"inputs": encoded}),
        server.post("/v1/tasks/digits/predict/files", files=[("files", ("a.png", one)) for one in (good, data)]),
    ):
        error = said.json()["error"]
        assert (said.status_code, words in error["message"]) == (status, True), said.text
        assert "inputs[1]" in error["message"] and "Traceback" not in said.text


@pytest.mark.parametrize("step", ["open", "load"])
def test_an_image_for_which_memory_runs_out_is_not_called_damaged(
    images: Path, client: Client, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from PIL import Image

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    server, encoded = client(images), [base64.b64encode(png(GREY)).decode()]
    with monkeypatch.context() as patched:
        patched.setattr(*((Image, "open", full) if step == "open" else (Image.Image, "load", full)))
        if step == "load":
            from PIL import ImageFile

            patched.setattr(ImageFile.ImageFile, "load", full)
        said = server.post("/v1/tasks/digits/predict", json={"inputs": encoded})
    assert said.status_code == 503 and said.json()["error"]["code"] == "out_of_memory"
    assert server.post("/v1/tasks/digits/predict", json={"inputs": encoded}).status_code == 200


def test_images_that_do_not_fit_are_converted_where_that_is_asked_for(images: Path, client: Client) -> None:
    server = client(images)
    wide = png(torch.zeros(3, 20, 30, dtype=torch.uint8))
    body = {"inputs": [base64.b64encode(wide).decode()], "fit": True}
    said = server.post("/v1/tasks/digits/predict", json=body).json()["answers"]
    black = server.post("/v1/tasks/digits/predict", json={"inputs": [base64_png(torch.zeros_like(GREY))]}).json()
    assert said == black["answers"]
    files = [("files", ("a.png", wide))]
    assert server.post("/v1/predict/files", files=files, data={"fit": "true"}).status_code == 200


def test_sixteen_bit_images_answer_or_are_refused_but_never_fail(images: Path, client: Client) -> None:
    inputs = [base64.b64encode(sixteen_bit()).decode()]
    assert client(images).post("/v1/tasks/digits/predict", json={"inputs": inputs}).status_code in (200, 422)


DEEP = "[" * 100_000
BODIES: list[tuple[str, str | bytes]] = [
    ("no JSON", "{"),
    ("nothing", ""),
    ("a list", "[]"),
    ("no inputs", "{}"),
    ("empty inputs", '{"inputs": []}'),
    ("an unknown key", '{"inputs": [[1, 2]], "batch": 3}'),
    ("a mixture", '{"inputs": [[1, 2], {"age": 1, "weight": 2}]}'),
    ("a missing column", '{"inputs": [{"age": 1}]}'),
    ("too many columns", '{"inputs": [[1, 2, 3]]}'),
    ("rows of different lengths", '{"inputs": [[1, 2], [1]]}'),
    ("not a number", '{"inputs": [[NaN, 1]]}'),
    ("infinite", '{"inputs": [[Infinity, 1]]}'),
    ("too large for float32", '{"inputs": [[1e39, 1]]}'),
    ("a number of 5,000 digits", '{"inputs": [[' + "9" * 5000 + ", 1]]}"),
    ("words in a row", '{"inputs": [["a", "b"]]}'),
    ("half a surrogate", '{"inputs": ["\\ud800"]}'),
    ("deep", DEEP),
    ("deep inside", '{"inputs": [' + DEEP),
    ("no UTF-8", b'{"inputs": ["\xff"]}'),
    ("null", '{"inputs": null}'),
]


@pytest.mark.parametrize("body", [body for _, body in BODIES], ids=[name for name, _ in BODIES])
def test_bodies_that_cannot_be_read_are_refused(tables: Path, client: Client, body: str | bytes) -> None:
    for path in ("/v1/tasks/risk/predict", "/v1/predict"):
        said = client(tables).post(path, content=body, headers={"Content-Type": "application/json"})
        assert said.status_code in (400, 422), said.text
        assert said.json()["error"]["message"] and len(said.text) < 1000 and "Traceback" not in said.text


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ('[[1, 2], {"age": 1, "weight": NaN}]', "inputs: 1: column 'weight': a finite number within float32"),
        ("[[1, -Infinity]]", "inputs: 0: place 1: a finite number within float32"),
        ("[[1, 1e39]]", "received another number"),
        ("[[1, [2]]]", "received a list"),
        ('[[1, "' + "a" * 1001 + '"]]', "received 1,001 characters"),
        ("[3]", "inputs: 0: an image as base64, a text, or a row as list or object is required, received another"),
        ('[{"\\ud800": 1}]', "names of columns must be texts"),
    ],
)
def test_the_first_wrong_cell_is_named(tables: Path, client: Client, inputs: str, said: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client(tables).post("/v1/tasks/risk/predict", content=f'{{"inputs": {inputs}}}', headers=headers)
    assert answer.status_code == 422 and said in answer.json()["error"]["message"]


FLOODS = {
    "cells": '{"inputs": [[' + "NaN, " * 200_000 + "1]]}",
    "columns": '{"inputs": [{' + ", ".join(f'"{n}": NaN' for n in range(100_000)) + "}]}",
    "rows": '{"inputs": [' + "[NaN], " * 200_000 + "[1]]}",
    "keys": '{"inputs": [[1, 2]], ' + ", ".join(f'"{n}": 1' for n in range(100_000)) + "}",
    "budget": '{"inputs": [[1, 2]], "budget": {' + ", ".join(f'"{n}": 1' for n in range(100_000)) + "}}",
    "tasks": '{"inputs": [[1, 2]], "tasks": [' + "1, " * 200_000 + "1]}",
}


@pytest.mark.parametrize("body", FLOODS.values(), ids=FLOODS)
def test_a_body_full_of_mistakes_costs_no_more_than_one(body: str) -> None:
    with pytest.raises(ValidationError) as error:
        PredictManyRequest.model_validate(json.loads(body))
    assert error.value.error_count() <= MOST_NAMES + 1  # each is an object of kilobytes; there were millions


def test_numbers_that_overflow_in_the_network_are_refused_and_others_answered(tables: Path, client: Client) -> None:
    system = pp.load(tables)
    module = system.extract("dose")
    for parameter in module.parameters():  # finite ones, with which the first layer overflows whatever was learned
        parameter.data.fill_(1000.0)
    server = client(tables)
    server.app.state.service.live.now.system._module = lambda task, exit=None: module
    said = server.post("/v1/tasks/dose/predict", json={"inputs": [[51, 52], [3e38, 3e38]]})
    assert said.status_code == 422 and "no finite answer in row(s) [1]" in said.json()["error"]["message"]
    assert server.post("/v1/tasks/dose/predict", json={"inputs": [[51, 52]]}).status_code == 200


def test_the_sentence_names_the_row_and_the_column(tables: Path, client: Client) -> None:
    server = client(tables)
    message = server.post("/v1/tasks/risk/predict", json={"inputs": [{"age": 1}]}).json()["error"]["message"]
    assert message == "rows: column(s) ['weight'] missing; received ['age']"
    message = server.post("/v1/tasks/risk/predict", json={"inputs": [[1, 2], "x"]}).json()["error"]["message"]
    assert message == "inputs[1]: task 'risk' takes a row of numbers, received a text"
    message = server.post("/v1/tasks/risk/predict", json={}).json()["error"]["message"]
    assert message == "inputs: required, but not given"


def test_limits_refuse_with_413_before_work_is_done(images: Path, tables: Path, client: Client) -> None:
    server = client(tables, max_rows=2, max_body_bytes=2000)
    assert server.post("/v1/tasks/risk/predict", json={"inputs": [[1, 2]] * 2}).status_code == 200
    many = server.post("/v1/tasks/risk/predict", json={"inputs": [[1, 2]] * 3})
    assert (many.status_code, many.json()["error"]["code"]) == (413, "too_many_inputs")
    large = server.post("/v1/predict", content=b"x" * 2001)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")

    def unannounced() -> Any:  # no Content-Length: counted as it comes
        for _ in range(30):
            yield b"x" * 100

    assert server.post("/v1/predict", content=unannounced()).status_code == 413
    small = client(images, max_pixels=63)
    refused = small.post("/v1/tasks/digits/predict", json={"inputs": [base64_png(GREY)]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_many_pixels")


def test_unknown_routes_and_methods_have_the_same_shape_of_error(tables: Path, client: Client) -> None:
    server = client(tables)
    assert server.get("/nowhere").json() == {"error": {"code": "not_found", "message": "Not Found"}}
    assert server.get("/v1/predict").json()["error"]["code"] == "method_not_allowed"
    assert server.get("/static/../app.py").status_code == 404
    assert server.get("/static/%2e%2e%2fapp.py").status_code == 404
    assert server.get("/docs").status_code == 404  # would load scripts from another host


def test_a_mistake_of_the_server_is_500_without_a_trace(
    tables: Path, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = client(tables)
    monkeypatch.setattr("polypath.serve.service.decoded", lambda *_: 1 / 0)
    said = server.post("/v1/tasks/risk/predict", json={"inputs": [[1, 2]]})
    assert said.status_code == 500 and said.json()["error"]["code"] == "internal_error"
    assert "division" not in said.text and "ZeroDivisionError" in caplog.text  # the operator sees it


def test_a_damaged_system_is_503_and_names_no_path(tables: Path, client: Client, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(tables, tmp_path / "system")
    for file in (folder / "components").glob("*/*"):
        file.write_bytes(b"rubbish")
    said = client(folder).post("/v1/tasks/risk/predict", json={"inputs": [[1, 2]]})
    assert (said.status_code, said.json()["error"]["code"]) == (503, "system_unavailable")
    assert str(tmp_path) not in said.text
