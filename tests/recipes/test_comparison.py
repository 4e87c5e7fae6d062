from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.files import read_json
from polypath.methods import METHODS, method_class
from polypath.recipes import comparison
from polypath.recipes.comparison import Budget, budget_of, within
from polypath.recipes.experiment import run_experiment
from polypath.train.config import RunConfig

DIGITS: dict[str, Any] = {"kind": "split", "dataset": "digits", "tasks": 2, "per_class": 8, "validation": 0.25}
SMALL = ('method.backbone={"kind":"mlp","hidden":[8]}', "method.batch=16", "threads=1")


def of(*methods: str, overrides: tuple[str, ...] = SMALL) -> Any:
    return comparison.comparison(DIGITS, methods, title="t", overrides=overrides)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("90s", 90, "seconds"), ("10m", 600, "seconds"), ("1.5h", 5400, "seconds"), ("20e", 20, "passes")],
)
def test_a_budget_is_a_time_or_a_number_of_epochs(text: str, amount: float, unit: str) -> None:
    assert budget_of(text) == Budget.of({"amount": amount, "unit": unit})


@pytest.mark.parametrize("text", ["10", "ten minutes", "0m", "1.5e", "-3s", ""])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="budget: a"):
        budget_of(text)


def test_settings_go_to_the_methods_that_have_them() -> None:
    found = of("single", "rsn2", overrides=("method.share=0.3", "rsn2.samples=7", "suite.seed=1", "threads=2"))
    configs = {name: variant.config for name, variant in found.variants.items()}
    assert configs == {"single": {}, "rsn2": {"share": 0.3, "samples": 7}}
    assert found.suite["seed"] == 1 and found.threads == 2


@pytest.mark.parametrize(
    ("methods", "override", "message"),
    [
        (("single", "single"), "threads=1", r"repeated: \['single'\]"),
        ((), "threads=1", "different names are required"),
        (("single",), "method.share=0.3", "setting of the compared methods 'share'"),
        (("single",), "single.shape=1", "setting of single 'shape'"),
        (("single",), "rsn2.share=1", "setting .--set. 'rsn2.share'"),
        (("single",), "threads", "PATH=VALUE required"),
        (("singel",), "threads=1", "singel.*Did you mean 'single'"),
    ],
)
def test_what_does_not_fit_is_named(methods: tuple[str, ...], override: str, message: str) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=message):
        of(*methods, overrides=(override,))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_paced(name: str) -> None:
    """Settings that it takes, at least one pass of everything, and more of them for more passes."""
    cls = method_class(name)
    for passes in (1, 7, 200):
        method = cls()
        paced = method.paced(passes, 3)
        changed = method.config.changed(**paced)
        assert all(getattr(changed, key) == value for key, value in paced.items())
    assert method.paced(200, 3) != method.paced(1, 3)


def test_points_at_which_the_rate_falls_move_along() -> None:
    assert method_class("multipath")(distill=False).paced(20, 2) == {"epochs": 20, "decay_at": (10, 15)}
    assert method_class("part")().paced(12, 2) == {"epochs": 12, "halve_at": (4, 6, 8)}


@pytest.mark.parametrize("name", METHODS)
def test_the_rate_never_falls_before_anything_is_learned(name: str) -> None:
    """A pass of 200 whose rate falls at 100 and 150: half an epoch rounds to 0, which would lower it from the start."""
    method = method_class(name)()
    for passes in (1, 2, 3):
        paced = method.paced(passes, 3)
        assert all(at >= 1 for at in (*paced.get("decay_at", ()), *paced.get("halve_at", ())))


def test_pruning_and_goals_come_out_of_the_same_passes() -> None:
    """30 passes: 15 prune, at most one for each of ten sparsities; the others train twice, once for the goal."""
    paced = method_class("cpg")().paced(30, 2)
    assert paced["prune_epochs"] * len(paced["sparsities"]) + 2 * paced["epochs"] <= 30
    few = method_class("cpg")().paced(6, 2)
    assert few["sparsities"] == (0.4, 0.8, 0.95) or few["sparsities"][-1] == 0.95 and len(few["sparsities"]) <= 3


def test_a_time_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass takes 1.5 s, ten take 6: half a second each, one for what is spent once; 20 s hold 38."""
    asked = []

    def timed(method: Any, suite: Any, experiment: Any, passes: int) -> float:
        asked.append(passes)
        return 1.0 + 0.5 * passes

    monkeypatch.setattr(comparison, "_timed", timed)
    monkeypatch.setattr(comparison, "PILOT", 0.75)
    found = within(of("single"), Budget(amount=20, unit="seconds"), tmp_path / "out")
    assert asked == [1, 10]
    assert found.variants["single"].config["epochs"] == 38
    facts = found.analysis_options["budget"]["methods"]["single"]
    assert facts == {"passes": 38, "seconds_a_pass": 0.5, "pilot_passes": 10}


def test_a_comparison_is_resumed_with_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, budget = tmp_path / "out", Budget(amount=0.5, unit="seconds")
    first = within(of("single", "hard_sharing"), budget, out)
    run_experiment(first, out, progress=False)
    monkeypatch.setattr(comparison, "_timed", lambda *given: pytest.fail("measured again"))
    again = within(of("single", "hard_sharing"), budget, out)
    assert again == first and again.model_dump(mode="json", exclude=set(RunConfig.elsewhere)) == read_json(
        out / "config.json"
    )
    assert len(run_experiment(again, out, resume=True, progress=False)) == 2
    with pytest.raises(InvalidInput, match="holds another run"):
        within(of("single"), budget, out)


def test_settings_given_by_hand_stay() -> None:
    found = within(of("single", overrides=(*SMALL, "method.epochs=3")), Budget(amount=50, unit="passes"), Path("none"))
    assert found.variants["single"].config["epochs"] == 3
