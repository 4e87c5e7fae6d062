"""The file: described, written beside its place, asked the system's probe questions, and only then named."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from polypath.core import accounting
from polypath.core.errors import InvalidInput, PolypathError, UnknownName
from polypath.core.files import write_atomically
from polypath.core.preprocess import TablePreprocess
from polypath.core.probe import PROBE_COUNT
from polypath.core.task import Regression, Task
from polypath.export.graph import Pixels, TaskGraph, probe_raw
from polypath.portable import PARITY, Exported

if TYPE_CHECKING:
    from polypath.system import System

# Name -> (ending, module with `built(graph, example, about) -> bytes` and `opened(file)(raw) -> tensors`).
FORMATS = {"onnx": (".onnx", "polypath.export.onnx_file"), "torch": (".pt2", "polypath.export.torch_file")}
FORMAT_VERSION = 1


class ParityError(PolypathError):
    """The exported file does not answer like the system; nothing was written."""


def export_task(
    system: System,
    task: str,
    path: str | Path,
    *,
    format: str | None = None,
    exit: str | None = None,
    pixels: Pixels = "uint8",
    resize: bool = False,
) -> Exported:
    """Write one task's path with its preprocessing and labels; see `System.export`."""
    path = Path(path)
    found = system.network.task_named(task)
    kind = _checked_place(path, format)
    backend = importlib.import_module(FORMATS[kind][1])
    backend.require()
    graph = TaskGraph(found, system.extract(task, exit=exit), pixels=pixels, resize=resize).eval()
    for parameter in graph.parameters():
        parameter.requires_grad_(False)
    about = _described(system, found, graph, exit)
    entry = system.entries.get(task)
    raw = probe_raw(found, entry.probe.seed if entry is not None and entry.probe else system.seed, PROBE_COUNT, pixels)
    expected = _expected(system, found, raw, exit)
    differences: list[float] = []

    def write(file: BinaryIO) -> None:
        content = _built(backend.built, graph, raw[:3], about, system)
        file.write(content)
        file.flush()
        parts = (slice(None), slice(1))  # eight at once and one alone: the number of examples is free
        for part, got in zip(parts, _asked(task, backend, content, [raw[part] for part in parts]), strict=True):
            differences.extend(_compared(task, a, b[part]) for a, b in zip(got, expected, strict=True))

    write_atomically(path, write)
    total = sum(accounting.byte_counts(system.network).values())
    groups = tuple(sorted(system.access(task)))
    return Exported(path, kind, task, exit, path.stat().st_size, total, max(differences), groups)


def _checked_place(path: Path, format: str | None) -> str:
    """The format, once it is certain that the file may be written."""
    endings = {ending: name for name, (ending, _) in FORMATS.items()}
    kind = format or endings.get(path.suffix)
    if kind is None:
        raise InvalidInput(f"format: one of {', '.join(FORMATS)} is required for a file called {path.name!r}")
    if kind not in FORMATS:
        raise UnknownName("format", kind, FORMATS)
    if path.suffix != FORMATS[kind][0]:
        raise InvalidInput(f"path: a file of format {kind} ends in {FORMATS[kind][0]}, received {path.name!r}")
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidInput(f"path: {path} is a folder" if path.is_dir() else f"path: no folder {path.parent}")
    return kind


def _expected(system: System, task: Task, raw: torch.Tensor, exit: str | None) -> tuple[torch.Tensor, ...]:
    """The system's own answers, on the way every prediction goes."""
    from polypath.prediction import answer

    stored = task.preprocess.decode(raw) if task.inputs.kind != "tokens" else raw
    with torch.inference_mode():
        outputs = system._module(task.name, exit)(task.preprocess.encode(stored)).float()
    said = answer(task, outputs)
    if isinstance(task.target, Regression):
        assert said.values is not None
        return (said.values,)
    assert said.probabilities is not None
    return outputs, said.probabilities


def _built(
    build: Callable[[TaskGraph, torch.Tensor, dict[str, Any]], bytes],
    graph: TaskGraph,
    example: torch.Tensor,
    about: dict[str, Any],
    system: System,
) -> bytes:
    try:
        return build(graph, example, about)
    except (PolypathError, MemoryError, OSError):
        raise
    except Exception as error:  # tracing runs the network's own code and fails in the many ways of torch.export
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        network = type(system.network).__name__
        raise InvalidInput(
            f"task {about['task']!r} cannot be exported: its network ({network}) cannot be traced by torch.export "
            f"({first.strip()[:200]}). A forward that branches on values, or makes shapes of them, must be rewritten "
            "with tensor operations (torch.where); or use the module of system.extract(task) from Python"
        ) from error


def _asked(task: str, backend: Any, content: bytes, parts: list[torch.Tensor]) -> list[tuple[torch.Tensor, ...]]:
    """What the file answers for each of some raw inputs."""
    asked = 0
    try:
        ask = backend.opened(content)
        answers = []
        for raw in parts:
            asked = len(raw)
            answers.append(ask(raw))
    except Exception as error:  # every runtime has its own
        raise ParityError(
            f"export: the file of task {task!r} cannot answer {asked} example(s) ({str(error).strip()[:200]}); "
            "nothing was written. Please report it with the versions of torch and onnxruntime"
        ) from error
    return answers


def _compared(task: str, got: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value where that is above 1."""
    if got.shape != expected.shape:
        raise ParityError(f"export: task {task!r} answers with shape {tuple(got.shape)}, not {tuple(expected.shape)}")
    difference = float((got - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    if not difference <= PARITY:  # NaN fails too
        raise ParityError(
            f"export: the file would not answer like task {task!r} of the system (largest relative difference "
            f"{difference:.3g}, allowed {PARITY:g}); nothing was written. Please report it with the versions of torch "
            "and onnxruntime"
        )
    return difference


def _described(system: System, task: Task, graph: TaskGraph, exit: str | None) -> dict[str, Any]:
    """Everything beside the numbers that a program needs to use the file, as JSON values."""
    from polypath import __version__

    entry = system.entries.get(task.name)
    exits = system.network.exits(task.name)
    metrics = {} if entry is None else entry.exits.get(exit, {}) if exit in exits[:-1] else entry.metrics
    held = task.preprocess
    one = (len(held.columns),) if isinstance(held, TablePreprocess) else task.inputs.shape
    shape: list[int | None] = [None, *one]
    if graph.resize:
        shape[2:] = [None, None]
    kinds = {"image": "uint8" if graph.pixels == "uint8" else "float32", "features": "float32", "tokens": "int64"}
    return {
        "format_version": FORMAT_VERSION,
        "polypath": __version__,
        "task": task.name,
        "method": system.method,
        "exit": exit,
        "kind": task.target.kind,
        "labels": list(getattr(task.target, "labels", ())),
        "private_to": task.private_to,
        "input": {"name": graph.input_name, "dtype": kinds[task.inputs.kind], "shape": shape},
        "outputs": list(graph.output_names),
        "preprocess": {**task.preprocess.model_dump(mode="json"), "inside": _inside(graph)},
        "test": dict(metrics),
    }


def _inside(graph: TaskGraph) -> list[str]:
    """Which parts of the preprocessing the graph does itself."""
    if graph.kind == "tokens":
        return []
    return [*(["resize"] if graph.resize else []), "scale"]
