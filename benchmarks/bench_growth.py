"""Growth: a thousand small tasks added to one system, what the last one costs beside the tenth.

Tasks are added one after the other, those that are not measured by tens and with one epoch. Adding and answering are
then timed on the system of few tasks and on that of many in turns, so that a busy machine hits both; memory and opening
are of fresh processes.
Run: python benchmarks/bench_growth.py [--tasks 1000] [--method mu2net]
Growing and timing apart, for timing wants a quiet machine: --system DIR --grow-only, then --system DIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from side_by_side import in_memory, ratio, write_record

import polypath as pp
from polypath.core.examples import Examples, Sealed, TaskData
from polypath.core.preprocess import TablePreprocess
from polypath.core.task import Classification, Features, Task
from polypath.store import Store
from polypath.system import System

COLUMNS = 16
RUN: dict[str, Any] = {"threads": 1, "device": "cpu", "precision": "32-true", "progress": False}
BACKBONE = {"kind": "mlp", "hidden": [32, 32]}
SETTINGS: dict[str, dict[str, Any]] = {  # method -> how a task is learned that is timed
    "single": {"backbone": BACKBONE, "epochs": 5, "batch": 16},
    "mu2net": {
        "root": BACKBONE,
        "iterations": 1,
        "generations": 1,
        "children": 2,
        "cycles": 2,
        "batch": 16,
        "hyperparameters": {"mu": [0.5], "learning_rate": [0.02, 0.05, 0.1]},
    },
}
BRIEF: dict[str, dict[str, Any]] = {"single": {"epochs": 1}, "mu2net": {"children": 1, "cycles": 1}}  # the others


def task_data(number: int) -> TaskData:
    """Task `number`: whether one of sixteen numbers is positive; 64 training examples, 16 and 32 to select and test."""
    stream = torch.Generator().manual_seed(number)
    names = tuple(f"x{i}" for i in range(COLUMNS))
    zeros, ones = (0.0,) * COLUMNS, (1.0,) * COLUMNS
    task = Task(
        name=f"task{number}",
        inputs=Features(size=COLUMNS),
        target=Classification(labels=("minus", "plus")),
        preprocess=TablePreprocess(columns=names, mean=zeros, std=ones),
    )
    inputs = torch.randn(112, COLUMNS, generator=stream)
    targets = (inputs[:, number % COLUMNS] > 0).long()
    targets[:2] = torch.tensor([0, 1])  # no class is without an example
    parts = (slice(64), slice(64, 96), slice(96, 112))
    train, test, val = (Examples.of(inputs[part], targets[part]) for part in parts)
    return TaskData(task, train, val, test=Sealed(test))


def add(system: System, folder: Path, number: int) -> None:
    """Learn a task and save."""
    system.learn(task_data(number), **RUN)
    system.save(folder)


def grown(folder: Path, tasks: int, early: int, method: str) -> dict[str, Any]:
    """Grow a system to `tasks` tasks in `folder`, leaving a copy of `early` tasks beside it; what lay on disk when."""
    system = pp.learn(method, task_data(0), **SETTINGS[method], **RUN)
    system.save(folder)
    began = time.perf_counter()
    for number in range(1, early):
        add(system, folder, number)
    disk = {str(early): on_disk(folder)}
    shutil.copytree(folder, early_folder(folder))
    row = torch.zeros(1, COLUMNS)
    answers = {name: system.predict(name, row).probabilities for name in system.tasks}
    for until in (tasks // 2, tasks):
        while (count := len(system.tasks)) < until:  # those in between are not timed: an epoch each, saved by tens
            some = [task_data(number) for number in range(count, min(count + 10, until))]
            system.learn(some, **BRIEF[method], **RUN)
            system.save(folder)
        disk[str(until)] = on_disk(folder)
    again = pp.load(folder)
    same = all(torch.equal(again.predict(name, row).probabilities, held) for name, held in answers.items())
    return {"disk": disk, "seconds_for_all": time.perf_counter() - began, "early_tasks_answer_bit_identically": same}


def early_folder(folder: Path) -> Path:
    """Where the copy of the system of few tasks lies."""
    return folder.with_name("early")


def on_disk(folder: Path) -> dict[str, int]:
    """Bytes of everything in a system's folder, by what it is."""
    manifest = Store(folder).manifest()
    named = {entry.sha256 for entry in manifest.components.values()}
    files = {path.stem: path.stat().st_size for path in (folder / "components").rglob("*.safetensors")}
    parts = {"components": sum(size for sha, size in files.items() if sha in named)}
    parts["recorded_answers"] = sum(files.values()) - parts["components"]
    pages = Store(folder).pages  # of which the snapshots keep some that the manifest no longer names
    now = sum(_size(pages.path(sha)) for sha in pages.named(folder / "manifest.json"))
    parts["manifest_and_pages"] = _size(folder / "manifest.json") + now
    parts["snapshots"] = _size(folder / "snapshots") + _size(folder / "pages") - now
    parts["values_in_components"] = sum(entry.size_bytes for entry in manifest.components.values())
    return parts


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


# ---- in processes of their own ------------------------------------------------------------------------------------


def timed(early: Path, late: Path, rounds: int) -> dict[str, Any]:
    """Adding and answering, the two systems taking turns: seconds, and ratios late / early."""
    systems = {"early": pp.load(early), "late": pp.load(late)}
    folders = {"early": early, "late": late}
    counts = {name: len(system.tasks) for name, system in systems.items()}
    row = torch.zeros(1, COLUMNS)

    def first_answer(name: str, number: int) -> None:  # of a task that was never asked: read, proved, folded
        systems[name].predict(f"task{counts[name] - 1 - number}", row)

    def answer(name: str, number: int) -> None:
        systems[name].predict(f"task{counts[name] - 1}", row)

    def adding(name: str, number: int) -> None:
        add(systems[name], folders[name], counts[name] + number)

    found = {}
    asked = min(counts["early"], rounds)
    for what, action, count in (
        ("first_answer", first_answer, asked),
        ("answer", answer, 200),
        ("add", adding, rounds),
    ):
        found[what] = _in_turns(action, count)
    return found


def _in_turns(action: Callable[[str, int], None], rounds: int) -> dict[str, Any]:
    wall: dict[str, list[float]] = {"early": [], "late": []}
    cpu: dict[str, list[float]] = {"early": [], "late": []}
    for number in range(rounds):
        for name in ("early", "late") if number % 2 else ("late", "early"):
            clock, processor = time.perf_counter(), time.process_time()
            action(name, number)
            wall[name].append(time.perf_counter() - clock)
            cpu[name].append(time.process_time() - processor)
    skip = 1 if rounds > 2 else 0  # the first of all warms up
    wall, cpu = ({name: values[skip:] for name, values in clocks.items()} for clocks in (wall, cpu))
    medians = {name: statistics.median(values) for name, values in wall.items()}
    processor = {name: statistics.median(values) for name, values in cpu.items()}
    return {
        "seconds": medians,
        "cpu_seconds": processor,
        "ratio_of_medians": medians["late"] / medians["early"],
        "ratio_of_cpu_medians": processor["late"] / processor["early"],
        "ratio_within_rounds": ratio(wall, "late", "early"),
    }


def remembered(folder: Path) -> dict[str, int]:
    """Peak memory of a process that opens a system, answers its last task, adds two and saves."""
    system = pp.load(folder)
    opened, count = in_memory("VmRSS"), len(system.tasks)
    system.predict(f"task{count - 1}", torch.zeros(1, COLUMNS))
    answered = in_memory("VmHWM")
    add(system, folder, count)
    before = in_memory("VmRSS")
    add(system, folder, count + 1)
    return {
        "opened": opened,
        "peak_answering": answered,
        "peak_adding": in_memory("VmHWM"),
        "kept_by_an_add": in_memory("VmRSS") - before,
    }


def opened(folder: Path) -> float:
    """Seconds of opening a system; everything that it needs is imported before."""
    assert pp.load
    began = time.perf_counter()
    pp.load(folder)
    return time.perf_counter() - began


def fresh(*arguments: str) -> Any:
    """What this script prints when it is called with these arguments."""
    command = [sys.executable, __file__, "--probe", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def probe(what: str, *arguments: str) -> Any:
    """One measurement, in this process."""
    torch.set_num_threads(1)
    if what == "timed":
        return timed(Path(arguments[0]), Path(arguments[1]), int(arguments[2]))
    return (remembered if what == "remembered" else opened)(Path(arguments[0]))


def measured(folder: Path, about: dict[str, Any], rounds: int) -> dict[str, Any]:
    """All figures, of a system grown in `folder`; the system is as it was."""
    figures: dict[str, Any] = {"rounds": rounds, **about}
    tasks = figures["tasks"]
    figures["opening_s"] = {
        name: statistics.median(fresh("opened", str(path)) for _ in range(3))
        for name, path in (("early", early_folder(folder)), ("late", folder))
    }
    figures["memory_bytes"] = {}
    for name, path in (("early", early_folder(folder)), ("late", folder)):
        shutil.copytree(path, folder.with_name("copy"))
        figures["memory_bytes"][name] = fresh("remembered", str(folder.with_name("copy")))
        shutil.rmtree(folder.with_name("copy"))
    few, many = (figures["memory_bytes"][name] for name in ("early", "late"))
    figures["memory_ratio"] = {key: many[key] / few[key] for key in ("peak_answering", "peak_adding")}
    copies = {path: path.with_name(f"{path.name}_timed") for path in (early_folder(folder), folder)}
    for path, copy in copies.items():
        shutil.copytree(path, copy)
    figures["time"] = fresh("timed", *map(str, copies.values()), str(rounds))
    for copy in copies.values():
        shutil.rmtree(copy)
    half, whole = (figures["disk"][str(count)] for count in (tasks // 2, tasks))
    figures["bytes_a_task"] = {
        key: {"first_half": half[key] / (tasks // 2), "second_half": (whole[key] - half[key]) / (tasks - tasks // 2)}
        for key in ("components", "manifest_and_pages")
    }
    figures["target"] = {"time_and_memory_ratio": 1.2, "opening_s": 2.0}
    return figures


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=sorted(SETTINGS), default="single")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--early", type=int, default=10, help="number of tasks of the system compared with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--system", type=Path, help="folder to grow the systems in, or where they were grown")
    parser.add_argument("--grow-only", action="store_true", help="grow the systems in the folder and measure later")
    parser.add_argument("--out")
    parser.add_argument("--probe", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        print(json.dumps(probe(*args.probe)))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        where = args.system or Path(temporary)
        notes = where / "grown.json"
        if not notes.exists():
            where.mkdir(parents=True, exist_ok=True)
            about = {"method": args.method, "tasks": args.tasks, "early": args.early}
            about |= grown(where / "system", args.tasks, args.early, args.method)
            notes.write_text(json.dumps(about), encoding="utf-8")
        if args.grow_only:
            return
        about = json.loads(notes.read_text(encoding="utf-8"))
        if (about["method"], about["tasks"], about["early"]) != (args.method, args.tasks, args.early):
            parser.error(f"{where} holds another system: {about['method']}, {about['tasks']} tasks")
        figures = measured(where / "system", about, args.rounds)
    name = "growth" if args.method == "single" else f"growth_{args.method}"
    command = f"python benchmarks/bench_growth.py --method {args.method} --tasks {args.tasks}"
    write_record(name, figures, command, args.out)


if __name__ == "__main__":
    main()
