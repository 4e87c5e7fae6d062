"""What bench_serve.py measures with: systems that need no training, a bare server, client threads, processes."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from polypath.core.preprocess import ImagePreprocess, TablePreprocess
from polypath.core.task import Classification, Features, Image, Task
from polypath.methods import method_class
from polypath.system import System
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

COLUMNS = 64
_PROCESSES: dict[str, int] = {}  # address of a server -> its process


def rows(count: int, seed: int = 0) -> list[list[float]]:
    """Rows of `COLUMNS` standard normal numbers."""
    return torch.randn(count, COLUMNS, generator=torch.Generator().manual_seed(seed)).tolist()


def table_task(name: str) -> Task:
    """Ten classes on rows."""
    columns = tuple(f"x{number}" for number in range(COLUMNS))
    preprocess = TablePreprocess(columns=columns, mean=(0.0,) * COLUMNS, std=(1.0,) * COLUMNS)
    labels = tuple(f"class{number}" for number in range(10))
    return Task(name=name, inputs=Features(size=COLUMNS), target=Classification(labels=labels), preprocess=preprocess)


def image_task(name: str) -> Task:
    """Ten classes on 32 x 32 colour images."""
    shape = {"channels": 3, "height": 32, "width": 32}
    preprocess = ImagePreprocess(**shape, mean=(0.5,) * 3, std=(0.25,) * 3)
    labels = tuple(f"class{number}" for number in range(10))
    return Task(name=name, inputs=Image(**shape), target=Classification(labels=labels), preprocess=preprocess)


def built(method: str, tasks: Sequence[Task], folder: Path, **settings: Any) -> System:
    """A system with random weights on disk: what it costs to answer does not depend on their values."""
    chosen = method_class(method)(**settings)
    config = RunConfig(device="cpu", precision="32-true", threads=torch.get_num_threads(), checkpoint_every=0)
    network = chosen.build(list(tasks), Engine(config=config, progress=False))
    for task in tasks:
        chosen.admit(network, task)
    system = System(network.eval(), method=method, config=settings, seed=0)
    system.save(folder)
    return system


@contextmanager
def process(command: list[str], ready: str) -> Iterator[str]:
    """The address of a server in a process of its own: the word after `ready` in what it says on standard error."""
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if ready in line:
                break
        else:
            raise RuntimeError("the server did not start")
        threading.Thread(target=running.stderr.read, daemon=True).start()
        url = line.rpartition(ready)[2].strip()
        _PROCESSES[url] = running.pid
        try:
            yield url
        finally:
            running.send_signal(signal.SIGTERM)


def polypath_server(folder: Path) -> Any:
    """`polypath serve`."""
    command = [sys.executable, "-m", "polypath", "serve", str(folder), "--port", "0"]
    return process([*command, "--set", "max_per_token=512", "--set", "max_concurrency=512"], " at ")


def bare_server(folder: Path, task: str) -> Any:
    """The plain FastAPI application of bare_app.py around one torch module."""
    return process([sys.executable, str(Path(__file__).with_name("bare_app.py")), str(folder), task], "bare ")


def ask(connection: http.client.HTTPConnection, path: str, body: bytes) -> Any:
    """One answer over a connection that stays open."""
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    said = connection.getresponse()
    data = said.read()
    if said.status != 200:
        raise RuntimeError(f"{said.status}: {data[:300]!r}")
    return json.loads(data)


def crowd(
    url: str, threads: int, requests: int, question: Callable[[int], tuple[str, bytes]], keep: bool = False
) -> tuple[float, list[float], list[Any]]:
    """Seconds, latencies and (if kept) answers of `requests` questions from `threads` clients, each on its connection.

    Args:
        url: of the server.
        threads: clients; each asks its next question when it has its answer.
        requests: of all clients together.
        question: (path, body) of the n-th question.
        keep: return the answers in order.
    """
    host = url.partition("://")[2]
    latencies = [0.0] * requests
    answers: list[Any] = [None] * requests if keep else []
    failed: list[BaseException] = []

    def client(first: int) -> None:
        try:
            connection = http.client.HTTPConnection(host, timeout=120)
            for number in range(first, requests, threads):
                path, body = question(number)
                began = time.perf_counter()
                said = ask(connection, path, body)
                latencies[number] = time.perf_counter() - began
                if keep:
                    answers[number] = said
            connection.close()
        except BaseException as error:
            failed.append(error)

    began = time.perf_counter()
    running = [threading.Thread(target=client, args=(first,)) for first in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    if failed:
        raise failed[0]
    return time.perf_counter() - began, latencies, answers


class _Client:
    """One connection of `storm`: sends the questions it is given, and knows when an answer is complete."""

    def __init__(self, host: str) -> None:
        self.host, (name, _, port) = host, host.partition(":")
        self.socket = socket.create_connection((name, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number, self.began, self._received = 0, 0.0, b""

    def send(self, number: int, path: str, body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        self.number, self.began, self._received = number, time.perf_counter(), b""
        self.socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def receive(self) -> bytes | None:
        """The body, once all of it is there."""
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError(f"the server closed the connection after {self._received[:300]!r}")
        self._received += data
        head, complete, body = self._received.partition(b"\r\n\r\n")
        if not complete or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0]):
            return None
        if head.split(b" ", 2)[1] != b"200":
            raise RuntimeError(f"{head[:80]!r}: {body[:300]!r}")
        return body


def storm(
    url: str, clients: int, requests: int, question: Callable[[int], tuple[str, bytes]]
) -> tuple[list[float], list[bytes]]:
    """Latencies and bodies of `requests` questions from `clients` connections, each asking when it has its answer.

    One thread that waits for all connections: it takes a tenth of a millisecond of processor time a request, where 32
    Python threads with http.client would take more of two cores than a server they are to measure.
    """
    latencies, bodies = [0.0] * requests, [b""] * requests
    numbers = iter(range(requests))
    with selectors.DefaultSelector() as waiting:

        def next_question(one: _Client) -> None:
            number = next(numbers, None)
            if number is None:
                waiting.unregister(one.socket)
                one.socket.close()
            else:
                one.send(number, *question(number))

        for _ in range(clients):
            one = _Client(url.partition("://")[2])
            waiting.register(one.socket, selectors.EVENT_READ, one)
            next_question(one)
        while waiting.get_map():
            for key, _ in waiting.select(120):
                body = key.data.receive()
                if body is not None:
                    latencies[key.data.number] = time.perf_counter() - key.data.began
                    bodies[key.data.number] = body
                    next_question(key.data)
    return latencies, bodies


def cpu_seconds(url: str) -> float:
    """Processor time that a server has used; unlike wall time it does not depend on what else the machine does."""
    fields = Path(f"/proc/{_PROCESSES[url]}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(latencies, n=100)
    return {"p50_ms": round(1000 * cuts[49], 3), "p99_ms": round(1000 * cuts[98], 3)}


def resident_bytes(url: str) -> int:
    """Memory of a polypath server, as its own /metrics say."""
    connection = http.client.HTTPConnection(url.partition("://")[2], timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return int(float(next(line.split()[1] for line in text.splitlines() if line.startswith("process_resident"))))
