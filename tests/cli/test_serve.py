"""`polypath serve` and `polypath token`: what they print and refuse. The running server is tested in tests/serve."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import tiny
from typer.testing import CliRunner

from polypath.cli import app

pytest.importorskip("fastapi", reason="fastapi is not installed (pip install -e '.[serve]')")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.learn(tiny.suite(1), epochs=1).save(tmp_path_factory.mktemp("serve") / "system")


def ran(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_a_token_is_printed_once_and_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    code, out, err = ran("token", "--file", str(file), "--name", "alice", "--group", "a", "--group", "b")
    assert code == 0 and len(out.strip()) == 43 and "Groups: a, b." in err
    held = json.loads(file.read_text())["tokens"]
    assert [one["name"] for one in held] == ["alice"] and out.strip() not in file.read_text()
    assert ran("token", "--file", str(file), "--name", "alice")[0] == 2
    assert ran("token", "--file", str(file), "--name", "alice", "--remove")[0] == 0
    code, _, err = ran("token", "--file", str(file), "--name", "alice", "--remove")
    assert code == 2 and "unknown token 'alice'" in err


def test_what_cannot_be_served_is_said_before_the_port_is_opened(system: Path, tmp_path: Path) -> None:
    empty = tmp_path / "tokens.json"
    empty.write_text('{"tokens": []}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, words in (
            ([str(tmp_path / "nowhere")], "no system at"),
            ([str(system), "--host", "0.0.0.0"], "without tokens only this machine is served"),
            ([str(system), "--host", "example.org"], "without tokens only this machine is served"),
            ([str(system), "--tokens", str(tmp_path / "none.json")], "none.json does not exist"),
            ([str(system), "--tokens", str(empty)], "holds no token; make one with: polypath token"),
            ([str(system), "--set", "max_row=3"], "Did you mean 'max_rows'?"),
            ([str(system), "--set", "max_rows=0"], "max_rows"),
            ([str(system), "--set", "max_rows"], "NAME=VALUE is required"),
            ([str(system), "--port", port], f"cannot listen on 127.0.0.1 port {port}"),
        ):
            code, out, err = ran("serve", *arguments)
            assert (code, out) == (2, "") and words in err, err
