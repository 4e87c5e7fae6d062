"""Several methods on the same tasks, with the same sealed test data and the same budget of time or passes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Suite
from polypath.core.files import read_json
from polypath.core.method import Method
from polypath.data import build
from polypath.learning import learn
from polypath.methods import method_class
from polypath.recipes.experiment import Experiment, claimable
from polypath.recipes.overrides import assignment
from polypath.train.config import RunConfig

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# A pilot is short: this share of the budget, or one pass where a single one takes longer.
PILOT, MOST_PILOT_PASSES = 0.1, 20


class Budget(Config):
    """What every method may spend on learning all tasks once.

    Args:
        amount: seconds on this machine (evaluation included), or passes over every task's training examples.
        unit: which of these.
    """

    amount: float = Field(gt=0)
    unit: Literal["seconds", "passes"]


def budget_of(text: str) -> Budget:
    """A budget as people write it: `90s`, `10m`, `1.5h` of time, or `20e`: twenty epochs.

    Raises:
        InvalidInput: anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|e)\s*", text)
    if found is None or float(found[1]) == 0:
        raise InvalidInput(
            f"budget: a time (90s, 10m, 1.5h) or a number of epochs (20e) is required; received {text!r}"
        )
    if found[2] == "e":
        if float(found[1]) != int(float(found[1])):
            raise InvalidInput(f"budget: a whole number of epochs is required; received {text!r}")
        return Budget(amount=float(found[1]), unit="passes")
    return Budget(amount=float(found[1]) * SECONDS[found[2]], unit="seconds")


def comparison(
    values: Mapping[str, Any],
    methods: Sequence[str],
    *,
    title: str,
    seeds: Sequence[int] = (0,),
    overrides: Sequence[str] = (),
) -> Experiment:
    """One variant a method, on one suite, before any budget.

    Args:
        values: configuration of `polypath.data.build`.
        methods: names in the table of methods.
        title: of the report.
        seeds: one run of every method each.
        overrides: "PATH=VALUE": `method.KEY` for every method that has such a setting, `NAME.KEY` for one of them,
            `suite.KEY`, and run settings (`precision`, `device`, `threads`).

    Raises:
        UnknownName, InvalidInput: an unknown or repeated method, a setting that none of them has.
    """
    repeated = sorted({name for name in methods if list(methods).count(name) > 1})
    if not methods or repeated:
        raise InvalidInput(
            f"methods: different names are required, separated by commas; repeated: {repeated or 'none'}"
        )
    paths = {method_class(name).name: name for name in methods}
    configs: dict[str, dict[str, Any]] = {name: {} for name in paths}
    suite, run = dict(values), dict[str, Any]()
    for text in overrides:
        _set(text, configs, paths, suite, run)
    return Experiment.of(
        {
            "recipe": "compare",
            "title": title,
            "paper": "",
            "suite": suite,
            "variants": {name: {"method": paths[name], "config": config} for name, config in configs.items()},
            "main": next(iter(configs)),
            "seeds": list(seeds),
            **run,
        }
    )


def _set(
    text: str,
    configs: Mapping[str, dict[str, Any]],
    paths: Mapping[str, str],
    suite: dict[str, Any],
    run: dict[str, Any],
) -> None:
    path, value = assignment(text, "method.batch=32 or part.modules=8")
    head, _, key = path.partition(".")
    if not key and head in RunConfig.model_fields:
        run[head] = value
    elif head == "suite" and key:
        suite[key] = value
    elif head == "method" and key:
        having = [name for name in configs if key in method_class(paths[name]).config_class.model_fields]
        if not having:
            known = {field for name in configs for field in method_class(paths[name]).config_class.model_fields}
            raise UnknownName("setting of the compared methods", key, sorted(known))
        for name in having:
            configs[name][key] = value
    elif head in configs and key:
        if key not in method_class(paths[head]).config_class.model_fields:
            raise UnknownName(f"setting of {head}", key, list(method_class(paths[head]).config_class.model_fields))
        configs[head][key] = value
    else:
        known_paths = ["method.KEY", "suite.KEY", *(f"{name}.KEY" for name in configs), *RunConfig.model_fields]
        raise UnknownName("setting (--set)", path, known_paths)


def within(
    experiment: Experiment,
    budget: Budget,
    out: Path,
    *,
    suite: Suite | None = None,
    tell: Callable[[str], Any] | None = None,
) -> Experiment:
    """The comparison with every method's settings such that it spends the budget; settings given by hand stay.

    Passes follow from the settings alone. For a time each method first learns the first seed's tasks briefly; from
    what that took follow the passes that fit. What was found is part of the experiment (`analysis_options.budget`),
    so that a comparison that is resumed from OUT trains what the interrupted one would have.

    Args:
        experiment: of `comparison`.
        budget: see `budget_of`.
        out: the comparison's folder, new or of this comparison.
        suite: of the first seed, where it is built already.
        tell: called with a line about every pilot.

    Raises:
        InvalidInput: OUT holds something else.
    """
    asked = {"budget": budget.model_dump(mode="json"), "of": experiment.model_dump(mode="json")}
    known = _known(out, asked)
    if known is None:
        claimable(out, experiment, resume=False)  # said now, not after the pilots
        if suite is None:
            suite = build({**experiment.suite, "seed": experiment.seeds[0]})
        found = {}
        for name, variant in experiment.variants.items():
            method = method_class(variant.method)(**variant.config)
            if budget.unit == "passes":
                found[name] = {"passes": int(budget.amount)}
                continue
            found[name] = _fitted(method, suite, experiment, budget.amount)
            if tell is not None:
                one = found[name]
                tell(f"{name}: {one['passes']} passes fit, at {one['seconds_a_pass']:.2f} s a pass")
        known = {"asked": asked, "methods": found, "tasks": len(suite.names)}
    variants = {}
    for name, variant in experiment.variants.items():
        paced = method_class(variant.method)(**variant.config).paced(known["methods"][name]["passes"], known["tasks"])
        variants[name] = {**variant.model_dump(mode="json"), "config": {**paced, **variant.config}}
    return experiment.changed(variants=variants, analysis_options={"budget": known})


def _known(out: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an earlier call found for the comparison in this folder; None where there is none yet."""
    file = out / "config.json"
    if not file.exists():
        return None
    found: dict[str, Any] | None = read_json(file).get("analysis_options", {}).get("budget")
    if found is None or found["asked"] != json.loads(json.dumps(asked)):
        raise InvalidInput(f"{out} holds another run (other tasks, methods, seeds or budget); choose another --out")
    return found


def _fitted(method: Method[Any], suite: Suite, experiment: Experiment, seconds: float) -> dict[str, Any]:
    """How many passes fit into a time, by what one pass takes, and where that is short by what several take."""
    first = _timed(method, suite, experiment, 1)
    passes, fixed, each = 1, 0.0, first
    more = min(MOST_PILOT_PASSES, int(PILOT * seconds / first))
    if more > 1:  # what is spent once (selection, tests, compiling) is told apart from what every pass costs
        passes = more
        again = _timed(method, suite, experiment, more)
        each = max((again - first) / (more - 1), again / more / 10)
        fixed = max(first - each, 0.0)
    fitting = max(1, int((seconds - fixed) / each))
    return {"passes": fitting, "seconds_a_pass": each, "pilot_passes": passes}


def _timed(method: Method[Any], suite: Suite, experiment: Experiment, passes: int) -> float:
    paced = method.paced(passes, len(suite.names))
    own = {key: value for key, value in paced.items() if key not in method.config.model_fields_set}
    changed = type(method)(method.config.changed(**own))
    run = {**experiment.run_config(), "checkpoint_every": 0}
    system = learn(changed, suite, seed=experiment.seeds[0], progress=False, **run)
    return float(system.result.timing.wall_s)
