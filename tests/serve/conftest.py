"""Tiny systems on disk, and clients that speak to their servers inside this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from serving import GROWING, HERE, RUN, Client, table

import polypath as pp
from polypath.core.examples import Examples, Sealed, Suite, TaskData
from polypath.core.preprocess import TablePreprocess, TextPreprocess
from polypath.core.task import Classification, Features, MultiLabel, Task, Tokens
from polypath.system import System
from polypath.testing import tiny_images

pytest.importorskip("fastapi", reason="fastapi is not installed (pip install -e '.[serve]')")
from starlette.testclient import TestClient  # noqa: E402

from polypath.serve import Limits, create_app  # noqa: E402
from polypath.serve.access import create_token  # noqa: E402


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three image tasks of 8x8 grey pixels: `digits` for all, `scan` private to `clinic`, `halves` multi-label."""
    data = [
        tiny.data("digits", seed=1),
        tiny.data("scan", seed=2, private_to="clinic"),
        tiny.data("halves", seed=3, target=MultiLabel(labels=("left", "right"))),
    ]
    return _saved(pp.learn("rsn2", Suite("tiny", tuple(data)), **GROWING), tmp_path_factory)


@pytest.fixture(scope="session")
def exits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three image tasks of 8x8 colour pixels, each with three exits."""
    conv = {"kind": "conv", "blocks": [[4, 4], [4]], "dense": [6], "norm": "batch"}
    system = pp.learn(
        "multipath", tiny_images(3, per_class=8), backbone=conv, cuts=["conv1", "conv3", "fc1"], epochs=2, batch=16,
        learning_rate=0.05, decay_at=[], distill=False, exits="all", **RUN,
    )  # fmt: skip
    system.calibrate_confidence()
    return _saved(system, tmp_path_factory)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table system that can grow: `risk` (classification) and `dose` (regression in units of hundreds)."""
    data = Suite("tables", (table("risk"), table("dose", regression=True)))
    return _saved(pp.learn("rsn2", data, **GROWING), tmp_path_factory)


@pytest.fixture(scope="session")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task `risk` on rows of which numbers may be missing."""
    data = table("risk")
    preprocess = data.task.preprocess.changed(missing="mean")
    data = replace(data, task=data.task.changed(preprocess=preprocess))
    return _saved(pp.learn("rsn2", Suite("gaps", (data,)), **GROWING), tmp_path_factory)


@pytest.fixture(scope="session")
def categories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table task whose second column holds words."""
    rows = [{"age": age, "smoker": smoker} for age in range(20, 80, 3) for smoker in ("no", "yes")]
    preprocess = TablePreprocess(
        columns=("age", "smoker"), mean=(50.0, 0.0), std=(17.0, 1.0), categories={"smoker": ("no", "yes")}
    )
    labels = torch.tensor([int(row["smoker"] == "yes") for row in rows])
    held = Examples.of(preprocess.decode(rows), labels)
    made = Task(
        name="risk",
        inputs=Features(size=preprocess.width),
        target=Classification(labels=("low", "high")),
        preprocess=preprocess,
    )
    data = Suite("words", (TaskData(made, held, test=Sealed(held)),))
    return _saved(pp.learn("rsn2", data, **GROWING), tmp_path_factory)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One task on texts of up to four words."""
    words = ("good", "bad", "film")
    stream = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 5, (24, 4), generator=stream)
    made = Task(
        name="mood",
        inputs=Tokens(vocabulary=5, length=4),
        target=Classification(labels=("sad", "glad")),
        preprocess=TextPreprocess(vocabulary=words, length=4),
    )
    held = Examples.of(tokens, (tokens == 2).any(1).long())
    backbone = {"kind": "transformer", "width": 8, "heads": 2, "feed_forward": 8, "dropout": 0.0}
    data = Suite("texts", (TaskData(made, held, test=Sealed(held)),))
    return _saved(pp.learn("hard_sharing", data, backbone=backbone, epochs=1, batch=8, **RUN), tmp_path_factory)


def _saved(system: System, factory: pytest.TempPathFactory) -> Path:
    return system.save(factory.mktemp("systems") / "system")


@pytest.fixture
def client() -> Iterator[Client]:
    """Makes clients of a system's server; they are closed after the test."""
    with ExitStack() as stack:

        def make(folder: Path, *, tokens: Path | None = None, token: str | None = None, **limits: Any) -> TestClient:
            app = create_app(folder, tokens=tokens, limits=Limits.of(limits))
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return stack.enter_context(TestClient(app, base_url=HERE, headers=headers, raise_server_exceptions=False))

        yield make


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file of three tokens, and the tokens: `nurse` (clinic), `guest` (no group), `watcher` (metrics)."""
    file = tmp_path / "tokens.json"
    groups = {"nurse": ["clinic"], "guest": [], "watcher": ["metrics"]}
    return file, {name: create_token(file, name, held) for name, held in groups.items()}
