"""Learning: drives a method stage by stage, checks its promises, saves, records."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from polypath.admission import check_groups
from polypath.core.errors import InvalidInput, IsolationError, UnknownName
from polypath.core.examples import Suite, TaskData
from polypath.core.files import is_leftover, read_json, write_json
from polypath.core.method import Method, Stage
from polypath.core.probe import contiguous
from polypath.core.result import Result
from polypath.core.task import Regression
from polypath.core.threads import threads
from polypath.methods import METHODS, method_class
from polypath.methods.names import tell_strangers
from polypath.records import record
from polypath.store import writing
from polypath.system import System, load
from polypath.train.config import RunConfig
from polypath.train.devices import first_process
from polypath.train.engine import Engine, Progress
from polypath.trial import Trial


def learn(
    method: str | Method[Any],
    data: Suite | TaskData | Sequence[TaskData],
    *,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    on_progress: Callable[[Progress], Any] | None = None,
    labels: Mapping[str, str] | None = None,
    **settings: Any,
) -> System:
    """Learn every task of a suite with one method.

    Args:
        method: name ("part"), `package.module:Class`, or an instance.
        data: the tasks.
        seed: of everything random: initial values, paths, orders, augmentation.
        out: folder for results.json, metrics.jsonl, checkpoint/ and system/; None keeps all in memory.
        resume: continue an interrupted run in `out`; it reaches the same result as an unbroken one.
        progress: show a bar on a terminal.
        on_progress: called while learning; a truthy answer cancels.
        labels: recipe, variant and size for the record.
        settings: the method's configuration (`modules=12`) and the run's (`device`, `precision`, `threads`, ...).

    Returns:
        The system; `system.result` is its record.

    Raises:
        UnknownName: unknown method or setting.
        InvalidInput: bad settings or data; `out` holds another run.
        Cancelled: Ctrl-C or a truthy `on_progress`; finished epochs are on disk.
    """
    suite = as_suite(data)
    chosen, run_config = _resolved(method, settings)
    folder = Path(out) if out is not None else None
    identity = {
        "method": chosen.name,
        "config": chosen.config.model_dump(mode="json"),
        "suite": suite.config or {"name": suite.name, "tasks": list(suite.names)},
        "seed": seed,
        "run": run_config.model_dump(mode="json", exclude=set(RunConfig.elsewhere)),
        **(labels or {}),
    }
    with _owned(folder, identity, resume) if folder is not None and first_process() else nullcontext():
        if folder is not None and resume and (folder / "results.json").exists():
            system = load(folder / "system")
            system.data, system.result = suite, Result.of(read_json(folder / "results.json"))
            return system
        with _engine(seed, run_config, folder, resume, chosen.name, progress, on_progress) as engine:
            return _run(chosen, suite, seed, engine, folder, resume, identity)


def _run(
    method: Method[Any],
    suite: Suite,
    seed: int,
    engine: Engine,
    folder: Path | None,
    resume: bool,
    identity: Mapping[str, Any],
) -> System:
    began = time.monotonic()
    system = _begin(method, suite, seed, engine, folder, resume)
    rows = _stages(system, method, suite, engine, _run_id(identity), folder)
    system.load_all()  # what a finished stage left on disk
    system.data = suite
    wall_s = time.monotonic() - began
    system.result = record(system, suite, engine, rows, isolation=method.isolation, identity=identity, wall_s=wall_s)
    if folder is not None and engine.fabric.is_global_zero:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # every stage is saved: nothing goes on from them
        write_json(folder / "results.json", system.result.model_dump(mode="json"))
    engine.fabric.barrier()  # whoever returns finds the whole run on disk
    if folder is not None:
        engine.stop_if_cancelled()  # asked for after the last step: this run is whole, a caller's next must not begin
    return system


def grow(
    system: System,
    data: Suite | TaskData | Sequence[TaskData],
    *,
    method: str | type[Method[Any]] | None = None,
    progress: bool = True,
    on_progress: Callable[[Progress], Any] | None = None,
    groups: Iterable[str] | None = None,
    further: Sequence[str] = (),
    **settings: Any,
) -> None:
    """Learn new tasks in a system; see `System.learn`. Nothing is changed unless every stage succeeds.

    `further` names known tasks that go on from what they have learned, by methods that can.
    """
    suite = as_suite(data)
    check_groups(system, suite, groups, further)
    cls = _method_of(system, method)
    base = cls.config_class.of(system.config, "method")
    chosen, run_config = _resolved(cls(base), settings)
    for key in sorted(chosen.fixed & settings.keys()):
        if getattr(chosen.config, key) != getattr(base, key):
            raise InvalidInput(
                f"{key}={settings[key]!r}: this system was learned with {key}={getattr(base, key)!r}, which cannot be "
                "changed while it grows; leave it out, or learn a new system"
            )
    with (
        _engine(system.seed, run_config, None, False, chosen.name, progress, on_progress) as engine,
        system.kept_on_error(),
    ):
        _stages(system, chosen, suite, engine, None, None, further)
    kept = system.tasks.keys() - set(suite.names)
    known = [] if system.data is None else [data for data in system.data if data.name in kept]
    system.data = Suite(suite.name, (*known, *suite.tasks), suite.seed)
    system.suite_config = _together(system.suite_config, suite.config)


def _together(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The description of all data, where both are of a user's own tasks; else none tells all of it any more."""
    if known.get("kind") != "own" or new.get("kind") != "own":
        return {}
    names = [task["name"] for task in new["tasks"]]
    return {**known, "tasks": [*(task for task in known["tasks"] if task["name"] not in names), *new["tasks"]]}


def _method_of(system: System, given: str | type[Method[Any]] | None) -> type[Method[Any]]:
    """The class that a system was learned with; one outside the table is never imported because a file names it."""
    if given is None and system.method_type is None and system.method not in METHODS:
        raise InvalidInput(
            f"this system was learned with a method of your own, {system.method!r}; name it again: --method "
            "package.module:MyMethod on the command line, learn(..., method=MyMethod) in Python"
        )
    known = given or system.method_type or system.method
    cls = method_class(known) if isinstance(known, str) else known
    if cls.name != system.method:
        raise InvalidInput(f"method: this system was learned with {system.method!r}; received {cls.name!r}")
    return cls


def as_suite(data: Suite | TaskData | Sequence[TaskData]) -> Suite:
    """A suite from whatever `learn` accepts."""
    if isinstance(data, Suite):
        return data
    items = (data,) if isinstance(data, TaskData) else tuple(data)
    if not all(isinstance(item, TaskData) for item in items):
        raise InvalidInput(
            f"data: a Suite or TaskData required, received {type(data).__name__}; "
            "make one with polypath.data.split(...), polypath.data.arrays(...) or polypath.data.own(...)"
        )
    return Suite("own", items)


def _resolved(method: str | Method[Any], settings: Mapping[str, Any]) -> tuple[Method[Any], RunConfig]:
    run_keys = set(RunConfig.model_fields)
    own = {key: value for key, value in settings.items() if key not in run_keys}
    run_config = RunConfig.of({key: value for key, value in settings.items() if key in run_keys}, "run")
    if isinstance(method, Method):
        base: dict[str, Any] = method.config.model_dump()
        cls: type[Method[Any]] = type(method)
    else:
        base, cls = {}, method_class(method)
    for key in own:
        if key not in cls.config_class.model_fields:
            raise UnknownName(f"setting of {cls.name}", key, [*cls.config_class.model_fields, *run_keys])
    return cls(cls.config_class.of({**base, **own}, "method")), run_config


@contextmanager
def _engine(
    seed: int,
    config: RunConfig,
    folder: Path | None,
    resume: bool,
    title: str,
    progress: bool,
    on_progress: Callable[[Progress], Any] | None,
) -> Iterator[Engine]:
    def tell(now: Progress) -> None:
        if on_progress is not None and on_progress(now):
            engine.cancel()

    engine = Engine(
        seed=seed, config=config, out=folder, resume=resume, title=title, progress=progress, on_progress=tell
    )
    with threads(engine.threads), closing(engine), engine.interruptible(), engine.display:
        yield engine


@contextmanager
def _owned(folder: Path, identity: Mapping[str, Any], resume: bool) -> Iterator[None]:
    """Make the run folder ours and keep other processes out of it, or refuse to touch another run's."""
    plain = json.loads(json.dumps(identity))
    _check_claim(folder, plain, resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"out: {folder} cannot be made ({error}); choose another out") from error
    with writing(folder):
        _check_claim(folder, plain, resume)
        write_json(folder / "run.json", plain)
        yield


def _check_claim(folder: Path, plain: Mapping[str, Any], resume: bool) -> None:
    file = folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; choose another out")
    if file.exists():
        found = read_json(file)
        if found != plain and not _nothing_learned(folder):
            differs = sorted(k for k in {*found, *plain} if found.get(k) != plain.get(k))
            raise InvalidInput(
                f"{folder} already holds another run (different: {', '.join(differs)}); choose another out"
            )
        if found == plain and not resume and not _nothing_learned(folder):
            raise InvalidInput(
                f"{folder} already holds this run; continue it with resume (--resume) or choose another out"
            )
    elif folder.exists() and not all(is_leftover(path) or path.name == ".lock" for path in folder.iterdir()):
        raise InvalidInput(f"{folder} exists, is not empty and holds no polypath run; choose another out")


def _nothing_learned(folder: Path) -> bool:
    """Whether a run stopped before its first epoch ended, as one with unfitting settings does: it blocks nobody."""
    kept = [path for path in folder.rglob("*") if path.is_file() and not is_leftover(path)]
    return all(path.name in ("run.json", ".lock") or path.stat().st_size == 0 for path in kept)


def _begin(method: Method[Any], suite: Suite, seed: int, engine: Engine, folder: Path | None, resume: bool) -> System:
    """The system as the last finished stage left it, or an empty one."""
    if resume and folder is not None and (folder / "system" / "manifest.json").exists():
        system = load(folder / "system")
        system.load_all()
        if system.store is not None and engine.fabric.is_global_zero:
            system.store.collect()  # killed after the manifest was replaced: nobody may save again
        return system
    network = method.build([data.task for data in suite], engine)
    config = method.config.model_dump(mode="json")
    system = System(network, method=method.name, config=config, seed=seed, suite=suite.config)
    system.method_type = type(method)
    return system


def _stages(
    system: System,
    method: Method[Any],
    suite: Suite,
    engine: Engine,
    run: str | None,
    folder: Path | None,
    further: Sequence[str] = (),
) -> list[list[str]]:
    """Learn stage after stage; returns the tasks known after each."""
    done = [event for event in system.history if run is not None and event.run == run]
    begun = {name for event in done for name in event.tasks}
    before = [name for name in system.tasks if name not in begun]
    new = [name for name in suite.names if name not in before]
    if further and not method.goes_on:
        raise InvalidInput(
            f"further: {method.name} cannot go on with a task it has learned ({list(further)}); update learns it anew"
        )
    if not new and not further:
        raise InvalidInput(
            f"nothing to learn, known already: {list(suite.names)}; to learn again: polypath update, system.update"
        )
    tell_strangers(method.config, [*before, *new], system.config if before else None)
    stages = method.stages([*further, *new], [name for name in before if name not in further], engine)
    _check_data(stages, suite, before, method)
    _check_known(stages, suite, system, method)
    known, rows = list(before), list[list[str]]()
    told = frozenset(suite.names)
    for number, stage in enumerate(stages):
        known += [name for name in stage.tasks if name not in known]
        rows.append([name for name in known if name in told])
        if number < len(done):
            engine.end_stage(number)  # killed after the save: its checkpoints may still be there
            continue
        engine.begin_stage(number, len(stages))
        changed = _one_stage(system, method, stage, suite, engine)
        for name in stage.tasks:
            facts = {**system.entries[name].facts, **suite[name].facts}
            system.entries[name] = system.entries[name].changed(facts=json.loads(json.dumps(facts, default=str)))
        # Equal digests are equal answers: only tasks that something was moved on are measured again.
        touched = system.network.affected_by(changed)
        engine.record_test(system.network, [suite[name] for name in rows[-1] if name in touched or name in stage.tasks])
        engine.journal.flush()
        _remember_scores(system, engine, number)
        config = method.config.model_dump(mode="json")
        system.note("learned", stage.tasks, isolation=method.isolation, config=config, run=run, stage=number)
        if folder is not None and engine.fabric.is_global_zero:
            system.save(folder / "system", snapshot=False)
        engine.end_stage(number)
    return rows


def _one_stage(system: System, method: Method[Any], stage: Stage, suite: Suite, engine: Engine) -> set[str]:
    """Train a copy; take it only if it keeps the method's promise. Returns the components that changed."""
    trial = Trial(system, method, {name: suite[name].task for name in stage.tasks}, suite.names)
    network = trial.network
    engine.place(network)
    method.learn(network, [_scaled(suite[name]) for name in stage.tasks], engine)
    network.thaw()
    contiguous(network.cpu().eval())  # the layout that loading gives: a system answers alike before and after a save
    changed = trial.changed()
    if method.isolation == "exact":
        moved = trial.moved([task for task in system.tasks if task not in stage.tasks])
        if moved:
            raise IsolationError(
                f"{method.name} promised exact isolation, but learning {list(stage.tasks)} changed {moved[:5]}; "
                "the previous system is kept"
            )
        for task in stage.tasks:  # a task that is learned again answers anew: its drift is counted from now on
            system.entries.pop(task, None)
    used = set(network.components_of(stage.tasks))
    trial.adopt(stage.tasks, [name for name in changed if name in used or name in trial.before])
    return set(changed)


def _scaled(data: TaskData) -> TaskData:
    """The data, once it is certain that regression targets have a scale."""
    target = data.task.target
    if isinstance(target, Regression) and not target.mean:
        raise InvalidInput(
            f"task {data.name!r}: a regression target needs mean and std of its training targets; "
            "polypath.data fills them in, or set Regression(mean=..., std=...)"
        )
    return data


def _check_data(stages: Sequence[Stage], suite: Suite, known: Sequence[str], method: Method[Any]) -> None:
    missing = sorted({name for stage in stages for name in stage.tasks if name not in suite.names})
    if missing:
        raise InvalidInput(
            f"{method.name} ({method.isolation}) trains known tasks again and needs the data of {missing}; pass them "
            "with the new ones, or learn with an exact mode"
        )


def _check_known(stages: Sequence[Stage], suite: Suite, system: System, method: Method[Any]) -> None:
    """InvalidInput where a known task that is to be trained again is another one than the system knows."""
    for name in dict.fromkeys(name for stage in stages for name in stage.tasks if name in system.tasks):
        known, given = system.tasks[name], suite[name].task
        fields = [key for key in ("inputs", "target", "preprocess") if getattr(known, key) != getattr(given, key)]
        if fields:
            raise InvalidInput(
                f"task {name!r}: {method.name} ({method.isolation}) trains it again, but its {' and '.join(fields)} in "
                "the data differ from what the system knows (other classes, sizes or scaling); give the data it was "
                "learned from, or update it (polypath update, system.update)"
            )
        if known.private_to != given.private_to:
            raise InvalidInput(
                f"task {name!r}: {method.name} ({method.isolation}) trains it again, but private_to is "
                f"{given.private_to!r} in the data and {known.private_to!r} in the system, which would stay. Give the "
                "data with the latter, or learn the task anew: update without further (polypath update, system.update)"
            )


def _remember_scores(system: System, engine: Engine, stage: int) -> None:
    for line in engine.journal.lines:
        if line["kind"] == "score" and line["split"] == "test" and line["stage"] == stage:
            entry = system.entries.get(line["task"])
            if entry is not None and "exit" in line:
                system.entries[line["task"]] = entry.changed(exits={**entry.exits, line["exit"]: line["values"]})
            elif entry is not None:
                system.entries[line["task"]] = entry.changed(metrics=line["values"])


def _run_id(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
