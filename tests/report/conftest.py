"""A seeded sampler of plausible result records, and runs on disk made from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from polypath.core.result import Curve, Lifelong, PathPicture, Result, TaskResult, Timing, Totals

LAYER_PARAMETERS = (1_920, 74_112, 74_112, 221_952, 295_680, 886_272, 1_181_184, 3_542_016, 4_721_664)
LEVEL = {"parallel": 0.79, "sequential": 0.74, "single": 0.77}
TASKS = tuple(f"task{i}" for i in range(10))


def picture(
    seed: int, tasks: tuple[str, ...] = TASKS, layers: int = 9, modules: int = 12, selected: int = 4
) -> PathPicture:
    """Paths drawn as the PaRT paper does: every layer of every task an independent uniform subset."""
    rng = np.random.default_rng([seed, 1])
    steps = [[f"layer{s + 1}.module{m}" for m in range(modules)] for s in range(layers)]
    paths = {
        task: [
            sorted((steps[s][m] for m in rng.choice(modules, selected, replace=False)), key=steps[s].index)
            for s in range(layers)
        ]
        for task in tasks
    }
    sizes = {name: LAYER_PARAMETERS[s % 9] for s, step in enumerate(steps) for name in step}
    return PathPicture(steps=steps, tasks=paths, sizes=sizes)


def sharing(paths: PathPicture) -> dict[str, list[float]]:
    """Components used by k tasks, counted, beside the binomial expectation."""
    from math import comb

    number = len(paths.tasks)
    used = [
        sum(name in step for task in paths.tasks.values() for step in task) for names in paths.steps for name in names
    ]
    share = len(next(iter(paths.tasks.values()))[0]) / len(paths.steps[0])
    expected = [len(used) * comb(number, k) * share**k * (1 - share) ** (number - k) for k in range(number + 1)]
    return {"observed": [float(used.count(k)) for k in range(number + 1)], "expected": expected}


def cka(seed: int) -> list[dict[str, Any]]:
    """Two tasks, five layers of four modules, two chosen each; sharing lifts similarity in the shared layers."""
    rng = np.random.default_rng([seed, 2])
    records = []
    for setup, shared_layers in (
        ("no layer", ()),
        ("layer 1", (1,)),
        ("layer 123", (1, 2, 3)),
        ("layer 12345", (1, 2, 3, 4, 5)),
    ):
        layers, modules, shared = [], [], []
        for layer in range(1, 6):
            a = [f"layer{layer}.module0", f"layer{layer}.module1"]
            b = a if layer in shared_layers else [f"layer{layer}.module2", f"layer{layer}.module3"]
            shared += a if layer in shared_layers else []
            base = 0.85 - 0.12 * layer + (0.15 if layer in shared_layers else 0)
            values = np.clip(base + 0.08 * rng.standard_normal((2, 2)), 0, 1)
            if layer in shared_layers and layer == 1:
                values[np.eye(2, dtype=bool)] = 1.0
            modules.append({"layer": layer, "rows": a, "columns": b, "values": values.round(4).tolist()})
            layers.append({"layer": layer, "cka": float(np.clip(base + 0.03 * rng.standard_normal(), 0, 1).round(4))})
        records.append(
            {
                "setup": setup,
                "kernel": "rbf",
                "fraction": 0.5,
                "debiased": False,
                "samples": 1000,
                "inputs": "common",
                "tasks": ["cars", "birds"],
                "layers": layers,
                "modules": modules,
                "shared": shared,
            }
        )
    return records


def sample(
    variant: str = "parallel", seed: int = 0, tasks: tuple[str, ...] = TASKS, with_cka: bool = False, **changes: Any
) -> Result:
    """One plausible record; the same arguments give the same record."""
    rng = np.random.default_rng([seed, sum(map(ord, variant))])
    level = LEVEL.get(variant, 0.7)
    paths = picture(seed, tasks)
    final = {t: float(np.clip(level + 0.04 * rng.standard_normal(), 0.05, 0.98).round(4)) for t in tasks}
    records, used, curves = [], set(), []
    for place, task in enumerate(tasks):
        mine = {name for step in paths.tasks[task] for name in step}
        size, new = (sum(paths.sizes[n] for n in names) for names in (mine, mine - used))
        used |= mine
        confusion = rng.multinomial(100, [0.03 / 9 * 9 / 10] * 10, size=10)
        confusion[np.arange(10), np.arange(10)] += rng.integers(60, 95, 10)
        records.append(
            TaskResult(
                name=task,
                test={"accuracy": final[task], "f1_macro": round(final[task] - 0.01, 4)},
                parameters=size + 5130,
                added_parameters=new + 5130,
                activated=size / 131_987_000,
                flops=2_220_000_000,
                examples={"train": 5000, "test": 1000},
                facts={
                    "classes": [f"class {place}.{c}" for c in range(10)],
                    "duplicates_train_test": int(rng.integers(0, 4)),
                },
                confusion=confusion.tolist(),
                labels=[f"class {place}.{c}" for c in range(10)],
            )
        )
        stage = place if variant == "sequential" else 0
        for split, gap in (("train", 0.12), ("test", 0.0)):
            rise = 1 - np.exp(-np.arange(1, 13) / 3.0)
            values = np.clip((final[task] + gap) * rise + 0.01 * rng.standard_normal(12), 0.05, 1).round(4)
            curves.append(
                Curve(
                    task=task,
                    split=split,
                    metric="accuracy",
                    stages=[stage] * 12,
                    epochs=list(range(12)),
                    values=values.tolist(),
                )
            )
    number = len(tasks)
    matrix: list[list[float | None]] = [[final[t] for t in tasks]]
    unlearned = None
    if variant == "sequential":
        matrix = [[final[t] if j <= i else None for j, t in enumerate(tasks)] for i in range(number)]
    if variant == "single":
        unlearned = [
            [final[t] if i == j else float((0.1 + 0.05 * rng.random()).__round__(4)) for j, t in enumerate(tasks)]
            for i in range(number)
        ]
    values: dict[str, Any] = dict(
        recipe="part/cifar100",
        variant=variant,
        method="part",
        isolation="joint" if variant == "parallel" else "exact",
        suite="split(cifar100, 10)",
        seed=seed,
        size="quick",
        tasks=records,
        totals=Totals(parameters=132_038_244, size_bytes=528_391_168),
        lifelong=Lifelong(
            matrix=matrix,
            unlearned=unlearned,
            peak_accuracy=final,
            forgetting_ratio=dict.fromkeys(tasks, 1.0),
            convergence_epochs=dict.fromkeys(tasks, 9),
        ),
        curves=curves,
        sharing=sharing(paths),
        paths=paths,
        analysis={"cka": cka(seed)} if with_cka else {},
        timing=Timing(
            wall_s=310.5 + seed,
            train_s=280.25 + seed,
            evaluate_s=20.5,
            samples=20_000,
            samples_per_second=71.4,
            peak_memory_bytes=1_500_000_000,
        ),
        environment={"machine": "2 x test CPU", "commit": "0123456789abcdef", "threads": 2},
    )
    return Result(**{**values, **changes})


def write(
    folder: Path, results: list[Result], config: dict[str, Any] | None = None, environment: dict[str, Any] | None = None
) -> Path:
    """A RUN folder as the run engine leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        path = folder / result.variant / f"seed-{result.seed}" / "results.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(result.model_dump_json(), encoding="utf-8")
    for name, values in (("config.json", config), ("environment.json", environment)):
        if values is not None:
            (folder / name).write_text(json.dumps(values), encoding="utf-8")
    return folder


CONFIG = {
    "recipe": "part/cifar100",
    "size": "quick",
    "main": "parallel",
    "variants": ["parallel", "sequential", "single"],
    "seeds": 3,
    "method": {"modules": 12, "selected": 4, "width": 8, "epochs": 12},
    "suite": {"tasks": 10},
    "precision": "auto",
    "threads": 2,
}
ENVIRONMENT = {
    "machine": "2 x test CPU",
    "threads": 2,
    "device": "cpu",
    "precision": "bf16-mixed",
    "commit": "0123456789abcdef",
    "versions": {"python": "3.11.2", "torch": "2.13.0", "polypath": "0.1.0"},
}


def full_run(folder: Path, **options: Any) -> Path:
    """Three variants, three seeds, ten tasks."""
    results = [sample(v, s, with_cka=v == "parallel", **options) for v in LEVEL for s in range(3)]
    return write(folder, results, CONFIG, ENVIRONMENT)


@pytest.fixture(scope="session")
def samples() -> SimpleNamespace:
    """The sampler's functions, without an import between test files."""
    return SimpleNamespace(
        sample=sample,
        write=write,
        full_run=full_run,
        picture=picture,
        cka=cka,
        sharing=sharing,
        config=CONFIG,
        environment=ENVIRONMENT,
    )


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, written once and only read."""
    return full_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write given results (and config, environment) as a run."""
    return lambda results, config=None, environment=None: write(tmp_path / "run", results, config, environment)
