"""Two processes that share every batch (gloo, on the CPU), started as torchrun starts them."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import two

SCRIPT = Path(two.__file__)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], Path]:
    """What rank 0 and rank 1 of two found, what one process found, and the folder."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    launcher += ["--master_port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), str(out)], capture_output=True, text=True, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(2))
    return first, second, two.shares(1), out


def test_both_end_with_the_same_system_and_find_it_on_disk(ranks: Any) -> None:
    first, second, _, _ = ranks
    assert len({rank[key] for rank in (first, second) for key in ("digest", "loaded", "again")}) == 1
    assert first["losses"] and all(math.isfinite(loss) for loss in first["losses"])


def test_every_example_is_seen_once_by_one_of_them(ranks: Any) -> None:
    first, second, alone, _ = ranks
    assert sorted(first["seen"] + second["seen"]) == sorted(alone["seen"]) == list(range(20))
    assert len(first["seen"]) == len(second["seen"])


def test_the_mean_gradient_is_that_of_one_process(ranks: Any) -> None:
    first, second, alone, _ = ranks
    assert first["gradient"] == second["gradient"]
    assert first["gradient"] == pytest.approx(alone["gradient"], rel=1e-5, abs=1e-7)  # equal shares, another order
    assert max(abs(value) for value in first["gradient"]) > 1e-3


def test_one_of_them_writes(ranks: Any) -> None:
    folder = ranks[3] / "run"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seen = [(line["stage"], line["epoch"], line["kind"], line.get("task")) for line in lines]
    assert len(seen) == len(set(seen)) == 2 * 2 * 2  # stages, epochs, a loss and a test
    assert sorted(p.name for p in folder.iterdir() if p.name != ".lock") == [
        "metrics.jsonl",
        "results.json",
        "run.json",
        "system",
    ]
    assert tiny.pp.load(folder / "system").verify().ok


def test_when_one_is_stopped_all_stop(ranks: Any) -> None:
    assert all("stopped" in rank["cancelled"] for rank in ranks[:2])


def test_a_launcher_that_does_not_fit_the_setting_is_named(ranks: Any) -> None:
    assert all("torchrun started 2 process(es)" in rank["refused"] for rank in ranks[:2])
    assert not (ranks[3] / "alone" / "results.json").exists()
