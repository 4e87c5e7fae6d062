"""`kill -9` at any moment, then resume: the same components, records and measurements as the unbroken run."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

HELPERS = Path(tiny.__file__).parent

# Each list is one run, killed and resumed and killed again at these places, in this order.
# `checkpoint` and `manifest` name the file that was being written.
CHAINS: dict[str, tuple[str, list[list[Any]]]] = {
    "while stepping": ("sequential", [["step", 1], ["step", 3], ["half a line", 1], ["step", 5], ["half a line", 4]]),
    "at checkpoints": (
        "sequential",
        [
            ["half of checkpoint", 1],
            ["before renaming checkpoint", 2],
            ["after renaming checkpoint", 2],  # the last epoch of stage 1: its scores are not written yet
            ["half a line", 1],
            ["after renaming checkpoint", 2],
            ["half of checkpoint", 1],
        ],
    ),
    "at saves": (
        "sequential",
        [
            ["blob", 1],
            ["blob", 4],
            ["half of manifest", 1],
            ["before renaming manifest", 1],
            ["after renaming manifest", 1],
            ["after the save", 2],  # 1 clears the checkpoint of stage 1 again
            ["after renaming manifest", 1],  # of the last stage: nobody saves again and cleans up
            ["before renaming results", 1],
        ],
    ),
    "parallel": (
        "parallel",
        [
            ["step", 2],
            ["after renaming checkpoint", 1],
            ["half a line", 2],
            ["after renaming checkpoint", 2],  # the last: nothing but the test and the save is left
            ["half of manifest", 1],
            ["after the save", 1],
            ["half of results", 1],
        ],
    ),
    "in a search": (
        "evolution",
        [
            ["cycle", 2],  # in the middle of the first child
            ["half of checkpoint", 1],  # its answer
            ["after renaming checkpoint", 1],  # nothing but its answer is left
            ["cycle", 2],  # of the second child: the first is not trained again
            ["half a line", 1],
            ["before renaming checkpoint", 1],  # of the generation
            ["after renaming checkpoint", 2],  # one child of the next
            ["half of manifest", 1],
            ["after renaming manifest", 1],
            ["cycle", 9],
            ["after the save", 1],
            ["before renaming results", 1],
        ],
    ),
}


class Server:
    """The process that runs jobs; see helpers/killed.py."""

    def __init__(self, errors: Path) -> None:
        self.errors, self.log = errors, errors.open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(HELPERS / "killed.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def run(self, out: Path, mode: str, kill: Any = None) -> tuple[int, float]:
        """(exit code or minus the signal, seconds) of a run in a process of its own."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"out": str(out), "mode": mode, "kill": kill}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.errors.read_text()
        code, seconds = json.loads(answer)
        assert code in (0, -9), self.errors.read_text()
        return code, seconds


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("server") / "errors.txt")
    yield found
    assert found.process.stdin is not None and found.process.stdout is not None
    found.process.stdin.close()
    found.process.wait(60)
    found.process.stdout.close()
    found.log.close()


@pytest.fixture(scope="module")
def unbroken(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], float]]:
    """Mode -> (what the unbroken run left, how long it took)."""
    out = tmp_path_factory.mktemp("unbroken")
    seconds = {mode: server.run(out / mode, mode)[1] for mode in ("sequential", "parallel", "evolution")}
    return {mode: (tiny.outcome(out / mode), took) for mode, took in seconds.items()}


@pytest.mark.parametrize("chain", CHAINS)
def test_killed_at_a_chosen_place_and_resumed(chain: str, server: Server, unbroken: Any, tmp_path: Path) -> None:
    mode, places = CHAINS[chain]
    codes = [server.run(tmp_path / "run", mode, kill)[0] for kill in [*places, None]]
    assert codes == [-9] * len(places) + [0]  # each place was reached
    assert tiny.outcome(tmp_path / "run") == unbroken[mode][0]


@pytest.mark.parametrize("mode", ["sequential", "parallel", "evolution"])
def test_killed_at_any_time_and_resumed(mode: str, server: Server, unbroken: Any, tmp_path: Path) -> None:
    """Four deaths a run at drawn moments; where the machine is slow they come early, and the law holds as well."""
    expected, seconds = unbroken[mode]
    stream = random.Random(f"moments {mode}")
    moments = [{"after": stream.uniform(0.1, 0.9) * seconds} for _ in range(4)]
    codes = [server.run(tmp_path / "run", mode, kill)[0] for kill in [*moments, None]]
    assert codes[-1] == 0
    assert tiny.outcome(tmp_path / "run") == expected


def test_the_unbroken_search_keeps_no_answers_and_best_scores_never_fall(unbroken: Any) -> None:
    found = unbroken["evolution"][0]
    assert found["checkpoints"] == []
    lines = [json.loads(line) for line in found["metrics"].splitlines()]
    searches = [line for line in lines if "search" in line]
    # two tasks, two iterations each, two generations each, in the order in which tasks become active
    order = [("task1", 0), ("task1", 1), ("task2", 0), ("task2", 1)] * 2
    assert [(line["search"], line["generation"]) for line in searches] == order
    for task in ("task1", "task2"):
        best = [line["best"]["score"] for line in searches if line["search"] == task]
        assert best == sorted(best)


def test_every_line_of_the_unbroken_run_is_there_once(unbroken: Any) -> None:
    """By hand: three stages (one task each) of three epochs; every epoch a line for the loss and one for the test.

    After the last epoch the test comes once, from the end of the stage. Frozen tasks are not measured again.
    """
    lines = [json.loads(line) for line in unbroken["sequential"][0]["metrics"].splitlines()]
    expected = []
    for stage in range(3):
        for epoch in range(3):
            expected += [(stage, epoch, "train", None), (stage, epoch, "score", f"task{stage + 1}")]
    assert [(line["stage"], line["epoch"], line["kind"], line.get("task")) for line in lines] == expected
