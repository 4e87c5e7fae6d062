"""Saves the systems that every later version must open: `python tests/helpers/release.py tests/data/systems/VERSION`.

Run it once a release, and before a format changes. Small tables and images, an exact, a joint and an evolving method,
with pages of three entries so that there are some; answers.json holds what they answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import small
import tiny
import torch

import polypath as pp
from polypath.store import pages
from polypath.system import System
from polypath.testing import tiny_features

INPUTS = {
    "mu2net": torch.linspace(-1, 1, 24).reshape(3, 8),
    "rsn2": torch.linspace(-1, 1, 24).reshape(3, 8),
    "part": (torch.arange(3 * 64) % 251).to(torch.uint8).reshape(3, 1, 8, 8),
}
EVOLVING = {"root": small.MLP, "generations": 2, "children": 3, "cycles": 1, "batch": 8}


def systems() -> dict[str, System]:
    """What is saved, by name."""
    grown = small.learn(data=small.suite(small.task(0, private_to="ward"), small.task(1)))
    grown.learn(small.task(2), **small.QUIET)
    grown.remove("task1")
    joint = tiny.learn(tiny.suite(2), modules=2, selected=1, width=1, epochs=1, evaluate_every=0)
    evolved = pp.learn("mu2net", tiny_features(4), **EVOLVING, **small.QUIET)
    return {"rsn2": grown, "part": joint, "mu2net": evolved}


def answers(system: System, inputs: torch.Tensor) -> dict[str, list[list[float]]]:
    """Probabilities of every task."""
    return {name: system.predict(name, inputs).probabilities.tolist() for name in system.tasks}


def main(folder: Path) -> None:
    """Save them and their answers."""
    torch.set_num_threads(1)
    pages.PAGE = 3
    for name, system in systems().items():
        system.save(folder / name)
        text = json.dumps(answers(system, INPUTS[name]), indent=1)
        (folder / f"{name}.answers.json").write_text(text + "\n")
        (folder / name / ".lock").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
