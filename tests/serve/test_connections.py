"""Connections that never end their headers, and more of them than there is room for."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed (pip install -e '.[serve]')")

from polypath.serve.connections import limited, room  # noqa: E402

Connect = Callable[[bytes], socket.socket]
REQUEST = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, or after 0.8 s where the path says `slow`."""
    assert scope["type"] == "http"
    await asyncio.sleep(0.8 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def server() -> Iterator[Callable[..., Connect]]:
    """Starts a server with limits; gives what opens a connection and sends bytes."""
    running: list[tuple[Any, threading.Thread]] = []
    opened: list[socket.socket] = []

    def start(headers_s: float, most: int) -> Connect:
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(application, log_level="error", lifespan="off", http=limited(headers_s, most))
        one = uvicorn.Server(config)
        thread = threading.Thread(target=one.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((one, thread))
        while not one.started:
            time.sleep(0.01)

        def connect(data: bytes) -> socket.socket:
            client = socket.create_connection(listening.getsockname(), timeout=5)
            opened.append(client)
            client.sendall(data)
            return client

        return connect

    yield start
    for client in opened:
        client.close()
    for one, thread in running:
        one.should_exit = True
        thread.join(10)


def closed_after(client: socket.socket) -> float:
    """Seconds until the server closes a connection without a word."""
    began = time.monotonic()
    try:
        assert client.recv(100) == b""
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def test_unfinished_headers_are_cut_off_in_time_and_requests_are_not(server: Callable[..., Connect]) -> None:
    connect = server(headers_s=0.4, most=100)
    slow = connect(REQUEST % b"slow")  # takes twice as long as headers may
    silent, half, dribbling = connect(b""), connect(b"GET / HT"), connect(b"GET / HTTP/1.1\r\n")
    time.sleep(0.25)
    dribbling.sendall(b"a: b\r\n")  # one line more gains no time
    assert closed_after(dribbling) < 0.3
    assert closed_after(silent) < 0.3 and closed_after(half) < 0.3
    assert slow.recv(1000).startswith(b"HTTP/1.1 200")
    slow.sendall(b"GET / HT")  # a second request of the same connection
    assert closed_after(slow) < 1
    kept = connect(REQUEST % b"")
    for _ in range(3):  # a connection that is used and not idle may live longer than its headers
        assert kept.recv(1000).startswith(b"HTTP/1.1 200")
        time.sleep(0.25)
        kept.sendall(REQUEST % b"")


def test_the_longest_waiting_makes_room_for_a_new_one(server: Callable[..., Connect]) -> None:
    connect = server(headers_s=30, most=3)
    waiting = [connect(b"GET / HT") for _ in range(3)]
    time.sleep(0.2)
    assert connect(REQUEST % b"").recv(1000).startswith(b"HTTP/1.1 200")
    assert closed_after(waiting[0]) < 1
    waiting[2].sendall(b"TP/1.1\r\nhost: x\r\n\r\n")
    assert waiting[2].recv(1000).startswith(b"HTTP/1.1 200")


def test_where_all_are_being_answered_a_new_one_is_told(server: Callable[..., Connect]) -> None:
    connect = server(headers_s=30, most=2)
    answered = [connect(REQUEST % b"slow") for _ in range(2)]
    time.sleep(0.2)
    assert connect(b"").recv(1000).startswith(b"HTTP/1.1 503")
    assert all(client.recv(1000).startswith(b"HTTP/1.1 200") for client in answered)


@pytest.mark.parametrize(("files", "expected"), [(256, (128, 64)), (1024, (512, 256)), (65536, (63488, 1024))])
def test_files_are_left_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, files: int, expected: tuple[int, int]
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    assert room() == expected


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_told_to_stop_has_not_failed(tables: Path, sent: signal.Signals) -> None:
    # A shell that starts jobs in the background may ignore SIGINT for them; the child must not inherit that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from polypath.cli import main; main()"
    )
    words = [sys.executable, "-c", code, "serve", str(tables), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and "Serving" in process.stderr.readline()
        process.send_signal(sent)
        assert process.wait(30) == 0
        assert "Stopped." in process.stderr.read()
