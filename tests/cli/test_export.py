"""`polypath export`: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Invoke = Callable[..., Any]


def test_the_file_answers_as_predict_does(system: Path, invoke: Invoke, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    file = tmp_path / "task2.pt2"
    result = invoke("export", system, "task2", "--format", "torch", "--out", file, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["size_bytes"] == file.stat().st_size and found["format"] == "torch"
    assert found["size_bytes"] < found["system_bytes"] and found["relative_difference"] <= 1e-4
    lines = [
        json.loads(line)
        for line in invoke("predict", system, "task2", tmp_path / "x.npy", "--json").stdout.splitlines()
    ]
    _, probabilities = torch.export.load(file).module()(torch.from_numpy(images)[:, None])
    expected = [list(line["probabilities"].values()) for line in lines]
    assert np.abs(probabilities.detach().numpy() - np.asarray(expected)).max() <= 1e-4
    said = invoke("export", system, "task2", "--out", file)  # again: the older file is replaced
    assert said.exit_code == 0 and "of the system's" in said.stdout and "Answers like the system" in said.stdout


def test_what_is_wrong_is_said_and_nothing_written(system: Path, invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "a.pt2"
    for words, said in (
        (("task22", "--out", out), "Did you mean 'task2'?"),
        (("task2", "--out", tmp_path / "a.txt"), "format"),
        (("task2", "--out", tmp_path / "a.onnx", "--format", "torch"), "ends in .pt2"),
        (("task2", "--out", tmp_path / "none" / "a.pt2"), "no folder"),
        (("task2", "--out", out, "--exit", "early"), "one exit"),
        (("task2", "--out", out, "--resize"), "stretch"),
    ):
        result = invoke("export", system, *words)
        assert result.exit_code == 2 and said in result.stderr and result.stdout == "", words
    assert [file.suffix for file in tmp_path.iterdir() if file.is_file()] == []
