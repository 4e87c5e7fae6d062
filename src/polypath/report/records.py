"""Result records of a RUN folder: read, checked and handed on in one order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polypath.core.config import describe
from polypath.core.errors import CorruptError, InvalidInput
from polypath.core.files import read_json
from polypath.core.result import Result

SEED_FOLDER = re.compile(r"seed-(\d+)")


@dataclass(frozen=True)
class Records:
    """Everything a report is made from.

    Args:
        folder: the RUN folder.
        results: finished results, ordered by variant (main first), then seed.
        config: RUN/config.json, or {} where there is none.
        environment: RUN/environment.json, or {}.
        missing: one sentence for every part that should be there and is not.
    """

    folder: Path
    results: tuple[Result, ...]
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants that have at least one finished result, in report order."""
        return tuple(dict.fromkeys(result.variant for result in self.results))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names in order of first appearance."""
        return tuple(dict.fromkeys(task.name for result in self.results for task in result.tasks))

    def of(self, variant: str) -> tuple[Result, ...]:
        """Results of one variant, by seed."""
        return tuple(result for result in self.results if result.variant == variant)


def read_run(run_dir: str | Path) -> Records:
    """The validated records of a RUN folder.

    Args:
        run_dir: a folder with config.json and `<variant>/seed-<n>/results.json` files; partial runs are fine. Or the
            folder of a single run, with its results.json.

    Raises:
        InvalidInput: no such folder, or nothing in it that a run writes, or results of several recipes.
        CorruptError: a record that is not valid JSON or not a `Result`, or that lies in the folder of another
            variant or seed; the message names the file.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise InvalidInput(f"run folder {str(folder)!r}: no such folder; give the --out folder of `polypath run`")
    config, environment = (_mapping(folder / name) for name in ("config.json", "environment.json"))
    if (folder / "results.json").exists():  # what one `learn(..., out=folder)` leaves
        one = _result(folder / "results.json")
        return Records(folder, (one,), config, environment or one.environment, tuple(_incomplete([one])))
    started = _started(folder)
    if not started and not (folder / "config.json").exists():
        raise InvalidInput(
            f"run folder {str(folder)!r}: holds neither config.json nor <variant>/seed-<n>/ folders; "
            "give the --out folder of `polypath run`"
        )
    results = [
        _result(path / "results.json", variant, seed)
        for (variant, seed), path in started.items()
        if (path / "results.json").exists()
    ]
    recipes = sorted({result.recipe for result in results})
    if len(recipes) > 1:
        raise InvalidInput(f"run folder {str(folder)!r}: holds results of several recipes ({', '.join(recipes)})")
    rank = {name: place for place, name in enumerate(_planned_variants(config))}
    results.sort(key=lambda r: (rank.get(r.variant, len(rank)), r.variant, r.seed))
    missing = _missing(results, started, config)
    return Records(folder, tuple(results), config, environment, missing)


def read_results(folder: str | Path) -> tuple[Result, ...]:
    """Every `results.json` below `folder` (any depth), validated, ordered by path.

    Raises:
        CorruptError: a file that is not a result record.
    """
    return tuple(_result(path) for path in sorted(Path(folder).rglob("results.json")))


def _started(folder: Path) -> dict[tuple[str, int], Path]:
    found: dict[tuple[str, int], Path] = {}
    for path in sorted(folder.glob("*/seed-*")):
        match = SEED_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            found[path.parent.name, int(match[1])] = path
    return found


def _mapping(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    values = read_json(path)
    if not isinstance(values, dict):
        raise CorruptError(f"{path}: a JSON object is required, received {type(values).__name__}")
    return values


def _result(path: Path, variant: str | None = None, seed: int | None = None) -> Result:
    values = read_json(path)
    try:
        result = Result.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(describe(e) for e in error.errors()[:5])
        raise CorruptError(
            f"{path}: not a result record of this version of polypath: {problems}; "
            "remove the file or run again with --resume"
        ) from error
    if variant is not None and (result.variant, result.seed) != (variant, seed):
        raise CorruptError(
            f"{path}: this record belongs to variant {result.variant!r}, seed {result.seed}, "
            f"but lies in the folder of variant {variant!r}, seed {seed}"
        )
    names = [task.name for task in result.tasks]
    if len(set(names)) != len(names):
        raise CorruptError(f"{path}: two tasks have one name: {sorted({n for n in names if names.count(n) > 1})}")
    return result


def _planned_variants(config: dict[str, Any]) -> list[str]:
    planned = config.get("variants", ())
    names = [str(name) for name in planned] if isinstance(planned, (dict, list, tuple)) else []
    main = config.get("main")
    return [main, *(n for n in names if n != main)] if isinstance(main, str) and main else names


def _planned_seeds(config: dict[str, Any]) -> list[int]:
    seeds = config.get("seeds")
    if isinstance(seeds, bool):
        return []
    if isinstance(seeds, int):
        return list(range(seeds))
    return [s for s in seeds if isinstance(s, int)] if isinstance(seeds, list) else []


def _missing(results: list[Result], started: dict[tuple[str, int], Path], config: dict[str, Any]) -> tuple[str, ...]:
    """What config.json plans, other variants have, or a started folder promises, and is not finished."""
    done = {(result.variant, result.seed) for result in results}
    variants = list(dict.fromkeys([*_planned_variants(config), *(v for v, _ in started)]))
    planned = _planned_seeds(config)
    seeds = planned or sorted({seed for _, seed in started})
    said = []
    for variant in variants:
        absent = [s for s in sorted({*seeds, *(s for v, s in started if v == variant)}) if (variant, s) not in done]
        if absent and not any(v == variant for v, _ in done):
            began = any(v == variant for v, _ in started)
            said.append(
                f"Variant {variant}: no finished result"
                + (" (it was started, and stopped or failed)." if began else " (it was not started).")
            )
            continue
        said += [
            f"Variant {variant}, seed {seed}: "
            + ("started, but not finished." if (variant, seed) in started else "not started.")
            for seed in absent
        ]
        if not seeds and not any(v == variant for v, _ in done):
            said.append(f"Variant {variant}: no finished result (it was not started).")
    return tuple(said + _incomplete(results, config))


def _incomplete(results: Iterable[Result], config: Mapping[str, Any] | None = None) -> list[str]:
    """Parts that a finished result lacks; a variant that was planned with a few tasks lacks none of the others."""
    results = list(results)
    planned = (config or {}).get("variants")
    plans = planned if isinstance(planned, dict) else {}
    elsewhere = {name for name, plan in plans.items() if isinstance(plan, dict) and plan.get("suite") is not None}
    everything = list(dict.fromkeys(t.name for r in results if r.variant not in elsewhere for t in r.tasks))
    said = []
    for result in results:
        have = {task.name for task in result.tasks}
        where = f"Variant {result.variant}, seed {result.seed}: "
        plan = plans.get(result.variant)
        chosen = plan.get("tasks") if isinstance(plan, dict) else None
        wanted = () if result.variant in elsewhere else chosen or everything
        said += [where + f"task {name} is absent." for name in wanted if name not in have]
        said += [where + f"task {task.name} has no test value." for task in result.tasks if not task.test]
    return said
