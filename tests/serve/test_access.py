"""Who may ask what: tokens, groups, this machine only; the wrong group learns nothing about a task."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import tiny
from serving import Client, base64_png

from polypath.core.errors import CorruptError, InvalidInput, UnknownName
from polypath.serve.access import Tokens, create_token, remove_token
from polypath.serve.run import serve

Held = tuple[Path, dict[str, str]]
INPUTS = {"inputs": [base64_png(tiny.pixels(1, 0)[0])]}


def test_a_token_of_the_group_may_ask_and_one_of_another_gets_403_and_learns_nothing(
    images: Path, client: Client, tokens: Held
) -> None:
    file, held = tokens
    nurse, guest = (client(images, tokens=file, token=held[name]) for name in ("nurse", "guest"))
    assert nurse.post("/v1/tasks/scan/predict", json=INPUTS).status_code == 200
    for path, body in (("/v1/tasks/scan/predict", INPUTS), ("/v1/predict", {**INPUTS, "tasks": ["digits", "scan"]})):
        refused = guest.post(path, json=body)
        assert refused.status_code == 403
        # The same words for every task: neither its kind, nor its group, nor its labels.
        message = "this task is not for this token's groups"
        assert refused.json() == {"error": {"code": "forbidden", "message": message}}
    # Wrong inputs, too, are not looked at before access is.
    assert guest.post("/v1/tasks/scan/predict", json={"inputs": [[1.0]]}).status_code == 403
    assert guest.get("/v1/tasks/scan").status_code == 403
    said = guest.post("/v1/predict", json=INPUTS).json()
    assert [one["task"] for one in said["predictions"]] == ["digits", "halves"]
    for path in ("/v1/tasks", "/v1/picture", "/openapi.json", "/"):
        assert "scan" not in guest.get(path).text
    picture = guest.get("/v1/picture").json()
    assert {task for part in picture["components"].values() for task in part["tasks"]} == {"digits", "halves"}
    assert "scan" in nurse.get("/v1/tasks").text


def test_an_unknown_task_is_404_with_the_nearest_permitted_name(images: Path, client: Client, tokens: Held) -> None:
    file, held = tokens
    guest, nurse = (client(images, tokens=file, token=held[name]) for name in ("guest", "nurse"))
    said = guest.post("/v1/tasks/scann/predict", json=INPUTS)
    assert said.status_code == 404 and said.json()["error"]["code"] == "unknown_task"
    assert "scan'" not in said.json()["error"]["message"].replace("'scann'", "")
    assert "Known: digits, halves." in said.text
    assert "Did you mean 'scan'?" in nurse.post("/v1/tasks/scann/predict", json=INPUTS).json()["error"]["message"]
    assert "Did you mean 'digits'?" in guest.get("/v1/tasks/digitz").json()["error"]["message"]


def test_with_tokens_every_question_needs_one_and_the_page_and_health_do_not(
    images: Path, client: Client, tokens: Held
) -> None:
    server = client(images, tokens=tokens[0])
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer"}):
        for path in ("/v1/tasks", "/v1/picture", "/metrics", "/nowhere"):
            refused = server.get(path, headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert server.post("/v1/predict", json=INPUTS, headers=headers).status_code == 401
    for path in ("/", "/static/app.js", "/health", "/ready", "/openapi.json"):
        assert server.get(path).status_code == 200


def test_metrics_name_every_task_and_need_the_group_metrics(images: Path, client: Client, tokens: Held) -> None:
    file, held = tokens
    assert client(images, tokens=file, token=held["nurse"]).get("/metrics").status_code == 403
    assert client(images, tokens=file, token=held["watcher"]).get("/metrics").status_code == 200


def test_without_tokens_private_tasks_are_not_served(images: Path, client: Client) -> None:
    server = client(images)
    assert [task["name"] for task in server.get("/v1/tasks").json()["tasks"]] == ["digits", "halves"]
    assert server.post("/v1/tasks/scan/predict", json=INPUTS).status_code == 403


def test_without_tokens_only_this_machine_is_answered(images: Path, client: Client) -> None:
    server = client(images)
    for host, status in (("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:80", 200), ("evil.example", 400)):
        assert server.get("/v1/tasks", headers={"Host": host}).status_code == status
    foreign = server.post("/v1/predict", json=INPUTS, headers={"Origin": "http://evil.example"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "wrong_origin")
    with pytest.raises(InvalidInput, match="host '0.0.0.0': without tokens only this machine"):
        serve(images, host="0.0.0.0", port=0)


def test_another_machine_is_refused_without_tokens(images: Path) -> None:
    from starlette.testclient import TestClient

    from polypath.serve import create_app

    with TestClient(create_app(images), base_url="http://127.0.0.1", client=("192.0.2.7", 1)) as far:
        assert far.get("/v1/tasks").json()["error"]["code"] == "wrong_client"


def test_the_file_holds_hashes_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token = create_token(file, "alice", ["b", "a", "b"])
    assert len(token) >= 43 and token not in file.read_text()  # 256 bits in base64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    entry = json.loads(file.read_text())["tokens"][0]
    assert (entry["name"], entry["groups"], len(entry["sha256"])) == ("alice", ["a", "b"], 64)
    with pytest.raises(InvalidInput, match="token 'alice' is already in"):
        create_token(file, "alice")
    with pytest.raises(UnknownName, match="unknown token 'alicia'. Did you mean 'alice'"):
        remove_token(file, "alicia")
    remove_token(file, "alice")
    with pytest.raises(InvalidInput, match="holds no token; make one with: polypath token"):
        Tokens(file)
    file.write_text('{"tokens": [{"name": "x"}]}')
    with pytest.raises(CorruptError, match="is no file of tokens: tokens.0.sha256: required"):
        Tokens(file)


def test_a_token_that_is_removed_or_added_counts_while_the_server_runs(
    images: Path, client: Client, tokens: Held
) -> None:
    file, held = tokens
    server = client(images, tokens=file, token=held["guest"], reload_s=0.02)
    assert server.get("/v1/tasks").status_code == 200
    remove_token(file, "guest")
    fresh = create_token(file, "late", ["clinic"])
    _until(lambda: server.get("/v1/tasks").status_code == 401)
    _until(lambda: "scan" in server.get("/v1/tasks", headers={"Authorization": f"Bearer {fresh}"}).text)
    file.write_text("{")  # half written by hand: the tokens stay as they were
    with pytest.raises(AssertionError):
        _until(lambda: server.get("/health", headers={}).status_code != 200, seconds=0.2)
    assert server.get("/v1/tasks", headers={"Authorization": f"Bearer {fresh}"}).status_code == 200


def _until(holds: Any, seconds: float = 20.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.01)
