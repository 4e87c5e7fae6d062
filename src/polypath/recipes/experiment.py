"""An experiment: one suite, several variants, several seeds; how it is changed, planned and run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from polypath.core import accounting
from polypath.core.config import Config
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Suite
from polypath.core.files import read_json, write_json
from polypath.core.network import Network
from polypath.core.result import Result
from polypath.data import build
from polypath.learning import learn
from polypath.methods import method_class
from polypath.methods.names import tell_strangers
from polypath.recipes import Size, recipe
from polypath.recipes.following import Follows, followed
from polypath.recipes.overrides import override
from polypath.system import System
from polypath.train.config import RunConfig
from polypath.train.devices import first_process
from polypath.train.engine import Engine, Progress

Analysis = Literal["cka", "unlearned", "ensemble"]


class Variant(Config):
    """One way of learning the suite.

    Args:
        method: name of the method.
        config: its configuration, defaults left out.
        analysis: what is computed from the learned system for the report.
        suite: what it learns instead of the experiment's suite (smaller images, shorter texts).
        tasks: only these tasks of the suite.
        follows: settings that are known only when another variant's run of the same seed is finished.
    """

    method: str
    config: dict[str, Any] = Field(default_factory=dict)
    analysis: tuple[Analysis, ...] = ()
    suite: dict[str, Any] | None = None
    tasks: tuple[str, ...] = ()
    follows: Follows | None = None

    @model_serializer(mode="wrap")
    def _only_where_it_is_set(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs that were begun before `follows` was there can still be resumed."""
        return {key: value for key, value in written(self).items() if key != "follows" or value is not None}


class Experiment(RunConfig):
    """A recipe's whole configuration; the run settings are its own fields.

    Args:
        recipe, size: which recipe, in which size.
        title, paper: what it reproduces, and where that is in the paper.
        suite: configuration of `polypath.data.build`; its seed is set to the run's.
        variants: name -> variant.
        main: the variant that the recipe is about.
        by_default: variants that run when none is named; empty: all of them.
        seeds: one run of every variant each; variants of one seed share data, paths and initial values.
        analysis_options: passed to the analyses.
    """

    recipe: str
    size: Size = "full"
    title: str
    paper: str
    suite: dict[str, Any]
    variants: dict[str, Variant]
    main: str
    by_default: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    analysis_options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _main_is_there(self) -> Experiment:
        if self.main not in self.variants:
            raise ValueError(f"main variant {self.main!r} is not among {list(self.variants)}")
        if not set(self.by_default) <= set(self.variants):
            raise ValueError(f"by_default: variants {list(self.by_default)} are not all among {list(self.variants)}")
        for name, variant in self.variants.items():
            known = {key for key, other in self.variants.items() if other.follows is None}
            if variant.follows is not None and variant.follows.variant not in known:
                wanted = variant.follows.variant
                raise ValueError(
                    f"variant {name!r} takes settings from the finished run of {wanted!r} with the same seed, which is "
                    f"not part of this run; run both in one folder: --variant {wanted} --variant {name}"
                )
        return self

    @property
    def in_order(self) -> list[tuple[str, Variant]]:
        """Variants as they run: one that follows another comes behind it."""
        named = list(self.variants)

        def place(item: tuple[str, Variant]) -> tuple[int, int]:
            own = (named.index(item[0]), 0)
            follows = item[1].follows
            return own if follows is None else max(own, (named.index(follows.variant), 1))

        return sorted(self.variants.items(), key=place)

    def run_config(self) -> dict[str, Any]:
        """The run settings alone."""
        return {key: getattr(self, key) for key in RunConfig.model_fields}


def experiment_of(
    name: str,
    size: Size = "full",
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    variants: Sequence[str] = (),
) -> Experiment:
    """A recipe with changes.

    Args:
        name: of the recipe.
        size: full (the paper's), quick (minutes on two cores) or smoke (seconds).
        overrides: "PATH=VALUE" into the resolved configuration: `method.modules=8` (all variants),
            `variants.sequential.epochs=5` (one), `suite.tasks=5`, `precision=32-true`. Values are read as JSON, else
            as text.
        seeds: instead of the recipe's; its first N with a count.
        variants: run only these; none named: the recipe's `by_default`, else all.

    Raises:
        UnknownName, InvalidInput: a path or value that does not fit, with its path.
    """
    found = recipe(name)(size)
    assert isinstance(found, Experiment)
    return altered(found, overrides, seeds, variants)


def altered(
    experiment: Experiment,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    variants: Sequence[str] = (),
) -> Experiment:
    """An experiment with changes; arguments and errors as `experiment_of`."""
    values = experiment.model_dump(mode="json")
    variants = variants or experiment.by_default
    if variants:
        for wanted in variants:
            if wanted not in values["variants"]:
                raise UnknownName("variant", wanted, values["variants"])
        values["variants"] = {key: values["variants"][key] for key in variants}
        values["main"] = values["main"] if values["main"] in variants else variants[0]
        values["by_default"] = []
    for text in overrides:
        override(values, text)
    if seeds is not None:
        values["seeds"] = list(seeds)
    changed = Experiment.of(values)
    alike = not any(text.startswith("variants.") for text in overrides)
    for key, variant in changed.variants.items():
        where = "method" if alike else f"variants.{key}"  # the path that --set takes
        method_class(variant.method).config_class.of(variant.config, where)
    return changed


def changed_settings(method: str, config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings for `System.learn` from `--set` texts: those of the method that differ, and those of the run.

    Args:
        method: of the system.
        config: its configuration.
        overrides: `method.KEY=VALUE`, or a run setting, `threads=2`.

    Raises:
        UnknownName: no such setting.
        InvalidInput: no PATH=VALUE, or a setting that a system cannot be given while it grows.
    """
    values: dict[str, Any] = {"variants": {"system": {"method": method, "config": copy.deepcopy(dict(config))}}}
    for text in overrides:
        if text.partition("=")[0].partition(".")[0] not in ("method", *RunConfig.model_fields):
            raise UnknownName("setting (--set)", text.partition("=")[0], ["method.KEY", *RunConfig.model_fields])
        override(values, text)
    mine = values.pop("variants")["system"]["config"]
    found = {key: value for key, value in mine.items() if key not in config or config[key] != value}
    if "groups" in found:  # what `System.learn` calls so are access groups
        raise InvalidInput("method.groups: given for a first learning only; learn one group of tasks after the other")
    return {**found, **values}


def first_seeds(name: str, size: Size, count: int) -> list[int]:
    """The recipe's first `count` seeds; past its own list they go on from 1000."""
    found = recipe(name)(size)
    assert isinstance(found, Experiment)
    own = list(found.seeds)
    try:
        full = recipe(name)("full")
    except InvalidInput:  # its data is not here; the small sizes do not need it
        full = found
    assert isinstance(full, Experiment)
    own = list(dict.fromkeys((*own, *full.seeds)))
    return [*own, *range(1000, 1000 + count)][:count]


def suites_of(experiment: Experiment, seed: int) -> dict[str, Suite]:
    """What every variant learns with one seed; variants with the same suite share its examples."""
    built: dict[str, Suite] = {}
    found = {}
    for key, variant in experiment.variants.items():
        config = {**(variant.suite or experiment.suite), "seed": seed}
        text = json.dumps(config, sort_keys=True)
        if text not in built:
            built[text] = build(config)
        found[key] = built[text].only(variant.tasks) if variant.tasks else built[text]
    return found


def planned(experiment: Experiment, suites: Mapping[str, Suite] | None = None) -> dict[str, Any]:
    """What `run --dry-run --json` prints: costs of every variant, counted without values or training.

    Args:
        experiment: the runs.
        suites: of every variant, where they are built already.
    """
    seed = experiment.seeds[0]
    suites = suites_of(experiment, seed) if suites is None else suites
    engine = Engine(seed=seed, config=RunConfig(device="cpu", checkpoint_every=0), progress=False)
    out: dict[str, Any] = {"recipe": experiment.recipe, "main": experiment.main, "variants": {}}
    for key, variant in experiment.variants.items():
        tell_strangers(method_class(variant.method)(**variant.config).config, suites[key].names)
        network = _empty(variant, suites[key], engine)
        rows = []
        for name in suites[key].names:
            cost = accounting.cost(network, name)
            row = {"name": name, "parameters": cost.parameters, "added_parameters": cost.added_parameters}
            rows.append({**row, "flops": cost.flops})
        totals = {"parameters": accounting.total_parameters(network)}
        out["variants"][key] = {"method": variant.method, "tasks": rows, "totals": totals}
    return out


def fitting(experiment: Experiment, seed: int, suites: Mapping[str, Suite] | None = None) -> dict[str, Suite]:
    """The suites for one seed, once it is certain that every variant can build its network for its own.

    Args:
        experiment: whose variants are tried.
        seed: of the suites.
        suites: of every variant, where they are built already.

    Raises:
        UnknownName, InvalidInput: settings of the suite, or of a network (paths, channels), that do not fit.
    """
    suites = suites_of(experiment, seed) if suites is None else dict(suites)
    engine = Engine(seed=seed, config=RunConfig(device="cpu", checkpoint_every=0), progress=False)
    for key, variant in experiment.variants.items():
        _empty(variant, suites[key], engine)
    return suites


def _empty(variant: Variant, suite: Suite, engine: Engine) -> Network:
    """The network that a variant would train, with all tasks and without values."""
    method = method_class(variant.method)(**variant.config)
    with torch.device("meta"):
        network = method.build([data.task for data in suite], engine)
        for data in suite:
            method.admit(network, data.task)
    return network


def run_experiment(
    experiment: Experiment,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    on_progress: Callable[[Progress], Any] | None = None,
    on_result: Callable[[Result], Any] | None = None,
    built: Mapping[str, Suite] | None = None,
) -> list[Result]:
    """Run every variant with every seed; results under `out/<variant>/seed-<n>/`.

    Args:
        experiment: what to run.
        out: the run's folder; must be new, empty, or hold this very run when resuming.
        resume: skip finished runs and continue the interrupted one.
        progress: show bars on a terminal.
        on_progress: called while learning.
        on_result: called after every finished run.
        built: suites of the first seed, by variant, where they are there already.
    """
    # What does not fit together is said before the folder is taken, so that the corrected command can have it.
    first = built
    if first_process():
        first = fitting(experiment, experiment.seeds[0], built) if claimable(out, experiment, resume) else built
        claim(out, experiment, resume)
    results = []
    for seed in experiment.seeds:
        suites = first if first is not None and seed == experiment.seeds[0] else suites_of(experiment, seed)
        for key, variant in experiment.in_order:
            folder = out / key / f"seed-{seed}"
            found = {} if variant.follows is None else followed(variant.follows, key, out, seed)
            system = learn(
                variant.method,
                suites[key],
                seed=seed,
                out=folder,
                resume=resume and (folder / "run.json").exists(),
                progress=progress,
                on_progress=on_progress,
                labels={"recipe": experiment.recipe, "variant": key, "size": experiment.size},
                **{**variant.config, **found},
                **experiment.run_config(),
            )
            assert isinstance(system.result, Result)
            result = analysed(system, suites[key], system.result, variant, experiment)
            if result is not system.result and first_process():
                write_json(folder / "results.json", result.model_dump(mode="json"))
            if first_process() and not (out / "environment.json").exists():
                write_json(out / "environment.json", result.environment)
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results


def analysed(system: System, suite: Suite, result: Result, variant: Variant, experiment: Experiment) -> Result:
    """The result with the variant's analyses, computed where they are not there yet."""
    wanted = [name for name in variant.analysis if name not in result.analysis and name != "unlearned"]
    found = dict(result.analysis)
    lifelong = result.lifelong
    if wanted or ("unlearned" in variant.analysis and lifelong.unlearned is None):
        system.load_all()
        from polypath import analysis

        if "cka" in wanted:
            options = experiment.analysis_options.get("cka", {})
            first, second = suite.names[:2]
            record = analysis.compare_representations(system.network, suite[first], suite[second], **options)
            found["cka"] = [{**record, "setup": result.variant}]
        if "ensemble" in wanted:
            found["ensemble"] = analysis.ensembles(system.network, suite)
        if "unlearned" in variant.analysis and lifelong.unlearned is None:
            options = experiment.analysis_options.get("unlearned", {})
            lifelong = lifelong.changed(unlearned=analysis.unlearned_matrix(system.network, suite, **options))
    if found == result.analysis and lifelong is result.lifelong:
        return result
    return result.changed(analysis=found, lifelong=lifelong.model_dump())


def claim(out: Path, experiment: Experiment, resume: bool) -> None:
    """Make a run folder ours, or refuse to touch another run's.

    Raises:
        InvalidInput: it holds another run, this run without `resume`, or something else.
    """
    if claimable(out, experiment, resume):
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "config.json", experiment.model_dump(mode="json", exclude=set(RunConfig.elsewhere)))


def claimable(out: Path, experiment: Experiment, resume: bool) -> bool:
    """True where the folder is free, False where it holds this run and `resume` is set; raises as `claim`."""
    file = out / "config.json"
    plain = experiment.model_dump(mode="json", exclude=set(RunConfig.elsewhere))
    if out.exists() and not out.is_dir():
        raise InvalidInput(f"{out} is a file; choose another --out")
    if file.exists():
        found: Mapping[str, Any] = read_json(file)
        keys = {*found, *plain} - RunConfig.elsewhere
        differs = sorted(key for key in keys if found.get(key) != plain.get(key))
        if differs:
            raise InvalidInput(
                f"{out} already holds another run (different: {', '.join(differs)}); choose another --out"
            )
        if not resume:
            raise InvalidInput(f"{out} already holds this run; continue it with --resume or choose another --out")
        return False
    if out.exists() and any(out.iterdir()):
        raise InvalidInput(f"{out} exists, is not empty and holds no polypath run; choose another --out")
    return True
