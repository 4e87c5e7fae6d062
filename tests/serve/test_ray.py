"""The Ray Serve deployment: the same answers from a cluster of one, and named honestly where Ray Serve is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.serve import Limits
from polypath.serve.ray_serve import deployment


def test_without_ray_serve_it_says_what_to_install(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        InvalidInput, match=r"Ray Serve is not installed: pip install 'polypath\[serve\]' 'ray\[serve\]'"
    ):
        deployment(images)


def test_the_deployment_is_made_with_its_options(images: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed (pip install 'ray[serve]')")
    code = (
        "from polypath.serve.ray_serve import deployment\n"
        f"made = deployment({str(images)!r}, num_replicas=3)\n"
        "found = made._bound_deployment\n"
        "print(found.name, found.num_replicas, found.max_ongoing_requests)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    if "ModuleNotFoundError" in done.stderr or "Ray Serve is not installed" in done.stderr:
        pytest.skip("ray is installed without its serve extra")
    assert done.stdout.split() == ["polypath", "3", str(Limits().max_concurrency)], done.stderr


# In a process of its own: Ray leaves threads and warnings behind.
SERVED = """
import json, socket, sys, urllib.error, urllib.request
import ray
from ray import serve
from polypath.serve.ray_serve import deployment

def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as said:
            return said.status, json.load(said)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
try:
    serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
    serve.run(deployment(sys.argv[1], name="trees"))
    row = {"inputs": [[1, 2]]}
    found = {path: ask(path, body) for path, body in (("/ready", None), ("/v1/tasks/risk/predict", row),
                                                      ("/v1/tasks/rosk/predict", row))}
    found["replicas"] = list(serve.status().applications["default"].deployments)
    print(json.dumps(found))
finally:
    serve.shutdown()
    ray.shutdown()
"""


def test_a_deployment_answers_as_the_system_does(tables: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed (pip install 'ray[serve]')")
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_register_timeout_seconds": "300",
        "RAY_raylet_start_wait_time_s": "300",
    }
    command = [sys.executable, "-c", SERVED, str(tables)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("ray is installed without its serve extra")
    if "timed out during startup" in done.stderr:
        pytest.skip("this machine is too busy: Ray gives its own processes 30 s to start, which cannot be changed")
    assert done.returncode == 0, done.stderr[-2000:]
    # Ray's own processes write to the same stream, also after the answer.
    (found,) = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert found["replicas"] == ["trees"] and found["/ready"][0] == 200
    status, said = found["/v1/tasks/risk/predict"]
    expected = pp.load(tables).predict("risk", [[1, 2]])
    assert status == 200 and expected.probabilities is not None and expected.labels is not None
    (answer,) = said["answers"]
    assert answer["label"] == expected.labels[0]
    assert list(answer["probabilities"].values()) == pytest.approx(expected.probabilities[0].tolist(), abs=1e-5)
    status, said = found["/v1/tasks/rosk/predict"]
    assert status == 404 and "Did you mean 'risk'" in said["error"]["message"]


def test_limits_survive_the_way_to_a_replica() -> None:
    assert Limits.of(Limits(max_rows=3).model_dump()) == Limits(max_rows=3)
