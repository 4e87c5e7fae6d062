"""Exported tasks: every network class, every kind of task, and nothing written where anything is wrong."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image as pil
from torch import nn

import polypath as pp
from polypath.core.errors import InvalidInput, StoreError, UnknownName
from polypath.core.examples import Suite
from polypath.core.seeds import seeded
from polypath.core.task import MultiLabel, Regression
from polypath.export import ParityError, torch_file
from polypath.nn import NETWORKS, network_name
from polypath.system import System
from polypath.testing import tiny_images

onnx = pytest.importorskip("onnx", reason="pip install 'polypath[onnx]'")
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "export.md"
MLP = {"backbone": {"kind": "mlp", "hidden": [8]}, "epochs": 1, "batch": 8}
CONV = {"backbone": {"kind": "conv", "blocks": [[4], [4]], "dense": [6], "norm": "batch"}, "epochs": 1, "batch": 8}
FILTERS = {"backbone": {"kind": "dfcnn", "channels": [2, 2, 3, 3], "hidden": [4]}, "epochs": 1, "batch": 8}
THIN = {"backbone": {"kind": "resnet18", "stem": "paper", "width": 1 / 8}, "epochs": 1, "batch": 8, "decay_at": []}
SUBNET = {"backbone": {"kind": "mlp", "hidden": [12, 8]}, "share": 0.3, "samples": 8, "patience": 1, "min_delta": 0.0}
PART = {"modules": 3, "selected": 2, "width": 2, "epochs": 1, "batch": 8, "batch_set": 1}
EVOLVED = {
    "root": {
        "kind": "vit",
        "name": "vit_tiny_patch16_224",
        "depth": 1,
        "options": {"patch_size": 4, "embed_dim": 8, "num_heads": 2},
    },
    "iterations": 1,
    "generations": 1,
    "children": 2,
    "cycles": 1,
    "batch": 8,
}

# Network class -> (method, settings): the smallest system of each.
SMALLEST: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("mtan", THIN),
    "columns": ("single", CONV),
    "expanding": ("den", {**MLP, "units": 2, "learning_rate": 0.05}),
    "factorized": ("dfcnn", {**FILTERS, "knowledge": [2] * 4, "basis": [3] * 4, "drop_last": False}),
    "grid": ("part", PART),
    "policy": ("adashare", {**THIN, "search_epochs": 1, "warmup_epochs": 0, "draws": 2}),
    "subnetworks": ("rsn2", {**SUBNET, "epochs": 1, "batch": 8}),
    "tensors": ("tensor_factorisation", FILTERS),
    "progressive": ("prognn", CONV),
    "layered": ("mu2net", EVOLVED),
    "multipath": ("multipath", {**CONV, "decay_at": [], "distill": False, "exits": "all", "cuts": ["conv1", "fc1"]}),
}


@cache  # one system a network class serves all tests
def learned(network: str) -> System:
    method, settings = SMALLEST[network]
    run = {"threads": 1, "device": "cpu", "precision": "32-true", "progress": False}
    return pp.learn(method, tiny_images(tasks=2), **settings, **run)


def opened(file: Path) -> tuple[Any, dict[str, Any]]:
    """(a function from raw inputs to NumPy outputs, the description), by the runtimes alone."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        about = json.loads(session.get_modelmeta().custom_metadata_map["polypath"])
        return lambda raw: session.run(None, {name: np.asarray(raw)}), about
    extra = {"polypath.json": ""}
    module = torch.export.load(file, extra_files=extra).module()
    return lambda raw: [out.detach().numpy() for out in module(torch.as_tensor(raw))], json.loads(
        extra["polypath.json"]
    )


def test_every_network_class_is_exported() -> None:
    assert SMALLEST.keys() == NETWORKS.keys()
    assert all(network_name(type(learned(name).network)) == name for name in SMALLEST)


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
@pytest.mark.parametrize("network", SMALLEST)
def test_a_file_answers_like_the_system(network: str, ending: str, tmp_path: Path) -> None:
    system, file = learned(network), tmp_path / f"task{ending}"
    made = system.export("task1", file)
    assert made.size_bytes == file.stat().st_size and made.difference <= 1e-4
    ask, about = opened(file)
    images = tiny_images(tasks=2)["task1"].train.inputs()[:5]  # not what the export itself compared
    logits, probabilities = ask(images.numpy())
    expected = system.predict("task1", images).probabilities
    assert expected is not None and np.abs(probabilities - expected.numpy()).max() <= 1e-4
    assert about["labels"] == ["class0", "class1"] and about["task"] == "task1"
    assert about["input"] == {"name": "images", "dtype": "uint8", "shape": [None, 3, 8, 8]}
    assert np.allclose(torch.from_numpy(logits).softmax(1).numpy(), probabilities, atol=1e-5)


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_missing_numbers_are_read_as_the_mean_in_the_file_too(ending: str, tmp_path: Path) -> None:
    rows = [f"{'' if n % 4 == 0 else n},{n % 7},{('x', '', 'y')[n % 3]},{n % 2}" for n in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,y", *rows]) + "\n")
    task = {"name": "t", "dataset": f"csv:{tmp_path / 't.csv'}", "target": "y", "missing_inputs": "mean"}
    run = {"threads": 1, "device": "cpu", "precision": "32-true", "progress": False}
    learned = pp.learn("hard_sharing", pp.data.own({"tasks": [task]}), **MLP, **run)
    system = pp.load(learned.save(tmp_path / "system"))
    assert system.export("t", tmp_path / f"t{ending}").difference <= 1e-4
    table = system.tasks["t"].preprocess
    raw = table.decode([[None, 3, "x"], [5, None, "y"], [None, None, None], [7, 2, "x"]])
    *_, probabilities = opened(tmp_path / f"t{ending}")[0](raw.numpy())
    expected = system.predict("t", [[None, 3, "x"], [5, None, "y"], [None, None, None], [7, 2, "x"]]).probabilities
    filled = system.predict("t", [[table.mean[0], 3, "x"], [5, table.mean[1], "y"]]).probabilities
    assert expected is not None and filled is not None
    assert np.abs(probabilities - expected.numpy()).max() <= 1e-4
    torch.testing.assert_close(expected[:2], filled)


def test_an_exit_of_its_own_is_exported(tmp_path: Path) -> None:
    system = learned("multipath")
    first, *_ = system.network.exits("task1")
    made = system.export("task1", tmp_path / "early.pt2", exit=first)
    whole = system.export("task1", tmp_path / "last.pt2")
    ask, about = opened(made.path)
    images = tiny_images(tasks=2)["task1"].train.inputs()[:2]
    expected = system.extract("task1", exit=first)(system.tasks["task1"].preprocess.encode(images))
    assert about["exit"] == first and made.size_bytes < whole.size_bytes
    assert np.abs(ask(images.numpy())[0] - expected.detach().numpy()).max() <= 1e-4


@cache
def several_kinds() -> tuple[System, dict[str, Any]]:
    """A regression and a multi-label task on images, and raw inputs of one."""
    suite = Suite("kinds", (tiny.data("value", target=Regression(mean=(127.0,), std=(9.0,))),))
    suite = Suite("kinds", (*suite.tasks, tiny.data("halves", target=MultiLabel(labels=("left", "right")))))
    run = {"threads": 1, "progress": False}
    return pp.learn("hard_sharing", suite, **MLP, **run), {"images": tiny.pixels(4, 99)}


def test_a_regression_answers_in_its_own_units(tmp_path: Path) -> None:
    system, raw = several_kinds()
    system.export("value", tmp_path / "v.pt2")
    ask, about = opened(tmp_path / "v.pt2")
    (values,) = ask(raw["images"].numpy())
    expected = system.predict("value", raw["images"]).values
    assert about["outputs"] == ["values"] and expected is not None
    assert np.allclose(values, expected.numpy(), rtol=1e-5) and 50 < values.mean() < 200  # grey levels, not scaled ones


def test_several_labels_have_probabilities_of_their_own(tmp_path: Path) -> None:
    system, raw = several_kinds()
    system.export("halves", tmp_path / "m.pt2")
    logits, probabilities = opened(tmp_path / "m.pt2")[0](raw["images"].numpy())
    assert np.allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_float_pixels_are_rounded_as_the_system_rounds_them(tmp_path: Path) -> None:
    system, _ = several_kinds()
    system.export("halves", tmp_path / "f.pt2", pixels="float")
    ask, about = opened(tmp_path / "f.pt2")
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = system.predict("halves", images).probabilities
    assert about["input"]["dtype"] == "float32" and expected is not None
    assert np.allclose(ask(images)[1], expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_images_of_any_size_are_stretched_inside(ending: str, tmp_path: Path) -> None:
    system, _ = several_kinds()
    plain = system.tasks["halves"]
    task = plain.changed(preprocess=plain.preprocess.changed(fit="stretch"))
    from polypath.export.graph import TaskGraph

    class Pixels(nn.Module):  # what the path would see, before it is scaled
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((x * 0.25 + 0.5) * 255).flatten(1)

    from polypath.export import onnx_file

    graph = TaskGraph(task, Pixels(), resize=True).eval()
    backend = onnx_file if ending == ".onnx" else torch_file
    stream = np.random.default_rng(0)
    image = stream.integers(0, 256, (21, 13), dtype=np.uint8)
    content = backend.built(graph, torch.zeros(2, 1, 30, 40, dtype=torch.uint8), {"polypath": "0"})
    levels = backend.opened(content)(torch.from_numpy(image)[None, None])[0].round().view(8, 8)
    by_pil = np.asarray(pil.fromarray(image).resize((8, 8), pil.Resampling.BILINEAR)).astype(int)
    assert np.abs(levels.numpy() - by_pil).max() <= 1


def test_rows_are_scaled_and_texts_described(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(50, 9, (24, 3)).astype(np.float32)
    table = pp.data.arrays("table", (rows, (rows[:, 0] > 50).astype(int)), columns=("a", "b", "c"))
    texts = [f"good day number {i}" if i % 2 else f"bad night number {i}" for i in range(20)]
    text = pp.data.arrays("text", (texts, np.arange(20) % 2))
    small = {"kind": "transformer", "width": 8, "heads": 2, "feed_forward": 8, "dense": [6]}
    run = {"epochs": 1, "batch": 8, "threads": 1, "progress": False}
    tables = pp.learn("single", table, backbone=MLP["backbone"], **run)
    tables.export("table", tmp_path / "table.onnx")
    ask, about = opened(tmp_path / "table.onnx")
    expected = tables.predict("table", rows).probabilities
    assert expected is not None and np.allclose(ask(rows)[1], expected.numpy(), atol=1e-5)
    assert about["preprocess"]["columns"] == ["a", "b", "c"] and about["preprocess"]["inside"] == ["scale"]
    reading = pp.learn("single", text, backbone=small, **run)
    reading.export("text", tmp_path / "text.onnx")
    ask, about = opened(tmp_path / "text.onnx")
    held = about["preprocess"]
    ids = {word: number for number, word in enumerate(held["vocabulary"], start=2)}
    found = [ids.get(word, 1) for word in re.findall(r"[\w']+", "Good unheard day".lower())][: held["length"]]
    tokens = np.asarray([found + [0] * (held["length"] - len(found))], dtype=np.int64)
    expected = reading.predict("text", "Good unheard day").probabilities
    assert expected is not None and np.allclose(ask(tokens)[1], expected.numpy(), atol=1e-5)


def test_a_small_part_of_a_large_network_is_a_small_file(tmp_path: Path) -> None:
    settings = {**SUBNET, "backbone": {"kind": "mlp", "hidden": [200, 100]}, "share": 0.2}
    system = pp.learn("rsn2", tiny_images(), **settings, epochs=1, batch=8, threads=1, progress=False)
    dense = 4 * (192 * 200 + 200 * 100 + 100 * 2)  # bytes of the weights of one network of its own
    for name in ("a.onnx", "a.pt2"):
        made = system.export("task1", tmp_path / name)
        assert made.size_bytes < made.system_bytes and made.size_bytes < dense / 2


def test_a_file_that_would_answer_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.pt2"
    file.write_bytes(b"the old one")
    plain = torch_file.opened
    monkeypatch.setattr(
        torch_file, "opened", lambda content: lambda raw: tuple(out + 1e-3 for out in plain(content)(raw))
    )
    with pytest.raises(ParityError, match="nothing was written"):
        learned("columns").export("task1", file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"] and file.read_bytes() == b"the old one"


def test_the_file_is_opened_once_for_all_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, opened = torch_file.opened, []
    monkeypatch.setattr(torch_file, "opened", lambda content: opened.append(content) or plain(content))
    made = learned("columns").export("task1", tmp_path / "a.pt2")
    assert opened == [(tmp_path / "a.pt2").read_bytes()] and made.difference <= 1e-4


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.pt2"
    file.write_bytes(b"the old one")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        learned("columns").export("task1", file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"] and file.read_bytes() == b"the old one"


class Branching(nn.Module):
    """Computes another thing where the mean is positive: no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x.flatten(1))
        return out.relu() if float(out.mean()) > 0 else out


def test_a_network_that_branches_on_values_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = learned("columns")
    with seeded(0, "branching"):
        module = nn.Sequential(Branching(), nn.Linear(4, 2))
    monkeypatch.setattr(system, "extract", lambda *_, **__: module)
    with pytest.raises(InvalidInput, match="cannot be traced by torch.export .*torch.where"):
        system.export("task1", tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else found(name, *a))
    with pytest.raises(InvalidInput, match=r"onnxscript missing; pip install 'polypath\[onnx\]'"):
        learned("columns").export("task1", tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"path": "a.bin"}, InvalidInput, "format"),
        ({"path": "a.onnx", "format": "torch"}, InvalidInput, r"ends in \.pt2"),
        ({"path": "a.pt2", "format": "tourch"}, UnknownName, "torch"),
        ({"path": "none/a.pt2"}, InvalidInput, "no folder"),
        ({"path": "a.pt2", "task": "task9"}, UnknownName, "task1"),
        ({"path": "a.pt2", "exit": "conv1"}, InvalidInput, "one exit"),
        ({"path": "a.pt2", "resize": True}, InvalidInput, "'stretch'"),
    ],
)
def test_mistakes_are_said(
    given: dict[str, Any], error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        learned("columns").export(**{"task": "task1", **given})
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_a_file_names_this_machine_or_our_classes(tmp_path: Path) -> None:
    system = learned("columns")
    system.export("task1", tmp_path / "a.onnx")
    system.export("task1", tmp_path / "a.pt2")
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.pt2") as archive:
        inside = b"".join(archive.read(name) for name in archive.namelist())
    home = str(Path(pp.__file__).parent).encode()
    for content in (inside, (tmp_path / "a.onnx").read_bytes()):
        assert home not in content and b"polypath.nn" not in content and b"TaskGraph" not in content


ALONE = re.compile(r"<!-- alone: (?P<file>\S+) -->\n```python\n(?P<code>.*?)^```", re.M | re.S)
BLOCKED = "import sys\nsys.modules['polypath'] = None\n"  # import polypath raises ImportError


@pytest.mark.parametrize("found", list(ALONE.finditer(PAGE.read_text())), ids=lambda found: found["file"])
def test_the_scripts_of_the_page_run_without_polypath(found: re.Match[str], tmp_path: Path) -> None:
    assert len([line for line in found["code"].splitlines() if line.strip()]) <= 15
    learned("columns").export("task1", tmp_path / found["file"])
    code = BLOCKED + "try:\n    import polypath\nexcept ImportError:\n    print('blocked')\n" + found["code"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("blocked") and done.stdout.count("task1 class") == 5


def test_the_page_has_a_script_for_each_format() -> None:
    assert [found["file"].rpartition(".")[2] for found in ALONE.finditer(PAGE.read_text())] == ["onnx", "pt2"]
