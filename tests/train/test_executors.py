"""Jobs done by other processes: the same answers, a dead worker's job done again, settings that cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from polypath.core.errors import InvalidInput
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

HELPERS = Path(tiny.__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What helpers/cluster.py found on a Ray cluster of two nodes on this machine."""
    pytest.importorskip("ray")
    environment = {**os.environ, "RAY_worker_register_timeout_seconds": "300"}
    for _ in range(2):
        out = tmp_path_factory.mktemp("cluster")
        command = [sys.executable, str(HELPERS / "cluster.py"), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
        if "task_manager.cc" not in done.stderr:  # a check of Ray's own fails now and then after kills
            break
    assert done.returncode == 0, done.stderr[-3000:]
    facts: dict[str, Any] = json.loads((out / "facts.json").read_text())
    return facts


def test_answers_are_the_same_bits_here_with_one_worker_and_with_two(found: dict[str, Any]) -> None:
    assert found["equal"] == {"one": [True] * 6, "two": [True] * 6}


def test_mu2net_learns_the_same_here_with_workers_and_when_a_run_goes_on_elsewhere(found: dict[str, Any]) -> None:
    assert len(found["evolved"]) == 3 and len(set(found["evolved"])) == 1


def test_every_answer_is_on_disk(found: dict[str, Any]) -> None:
    assert found["kept"] == [f"stage-000-six-{number}.safetensors" for number in range(6)]


def test_jobs_get_the_threads_the_layout_and_the_alignment_that_they_get_here(found: dict[str, Any]) -> None:
    here = found["here"]
    assert here["threads"] == 1
    assert here["kept"] == [[48, 1, 12, 3], 3, 0]  # strides of a channels-last (2, 3, 4, 4); 64-byte aligned
    for there in found["where"]:
        assert (there["threads"], there["kept"]) == (1, here["kept"])
        assert there["process"] != here["process"]


def test_two_jobs_run_at_the_same_time_on_both_nodes(found: dict[str, Any]) -> None:
    assert "alone" not in found["met"] and len(set(found["met"])) == 2


def test_the_job_of_a_killed_worker_is_done_again(found: dict[str, Any]) -> None:
    assert found["again"] == [0, 10, 20, 30]


def test_a_job_that_kills_every_worker_ends_the_run_and_says_so(found: dict[str, Any]) -> None:
    assert found["always"].startswith("WorkerLost: job 1: the worker process died 2 times")
    assert "set parallel lower" in found["always"]


def test_an_error_inside_a_job_arrives_as_it_was_raised(found: dict[str, Any]) -> None:
    assert found["refused"] == "InvalidInput: job 7 does not like this"


def test_ctrl_c_ends_jobs_that_run_elsewhere(found: dict[str, Any]) -> None:
    assert found["interrupted"]["stopped"].startswith("the run was stopped")
    assert found["interrupted"]["seconds"] < 10  # the job itself would take ten minutes
    assert not found["interrupted"]["worker_alive"]


def test_clusters_that_cannot_do_it(found: dict[str, Any]) -> None:
    assert found["unreachable"].startswith("InvalidInput: run.cluster='127.0.0.1:1' cannot be reached")
    assert found["too_large"].startswith("InvalidInput: a job takes 64 CPU(s)")
    assert "most CPUs of one: 1" in found["too_large"]


# ---- in this process ----------------------------------------------------------------------------------------------


def threads_and_sum(shared: int, job: int) -> list[int]:
    return [torch.get_num_threads(), shared + job]


def engine(**settings: Any) -> Engine:
    return Engine(config=RunConfig(device="cpu", threads=1, **settings), progress=False)


def test_jobs_have_threads_of_their_own_and_give_them_back() -> None:
    assert engine(job_threads=2).map(threads_and_sum, [1, 2], 10) == [[2, 11], [2, 12]]
    assert torch.get_num_threads() == 1  # as the tests run
    assert engine().map(threads_and_sum, [1], 10) == [[1, 11]]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"parallel": 2}, "run.parallel=2 belongs to executor='ray'"),
        ({"cluster": "auto"}, "run.cluster='auto' belongs to executor='ray'"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        engine(**settings).map(threads_and_sum, [1], 10)


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "polypath.train.on_ray", raising=False)
    with pytest.raises(InvalidInput, match=r"pip install 'polypath\[ray\]'"):
        engine(executor="ray").map(threads_and_sum, [1], 10)


def test_importing_polypath_imports_no_ray() -> None:
    code = "import sys, polypath.learning, polypath.train.engine; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
