"""Tables of settings in docs/ say what the configurations say: every setting there is, with its true default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from polypath.analysis import CKAConfig
from polypath.core.config import Config
from polypath.data.tasks import DataOptions
from polypath.estimator import PathClassifier, PathRegressor
from polypath.methods import METHODS, method_class
from polypath.methods.training import TrainingConfig
from polypath.nn.backbones import BACKBONES, kind_of
from polypath.serve import Limits
from polypath.train.config import RunConfig

DOCS = Path(__file__).resolve().parents[1] / "docs"
REQUIRED = "required"
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
WORDS = {True: "yes", False: "no", None: "none"}


def tables(text: str, first: str) -> dict[str, dict[str, str]]:
    """Setting -> default, of every table whose columns are `first`, one with "default" in its name, and others.

    Grouped by the heading above the table. A row describes one setting, the first word in backticks.
    """
    found: dict[str, dict[str, str]] = {}
    heading, column = "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading, column = line.lstrip("# "), None
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            column = None
        elif cells[0] == first:
            column = next((number for number, cell in enumerate(cells) if "default" in cell), None)
        elif column is not None and not set(line) <= set("|-: "):
            names = re.findall(r"`(\w+)`", cells[0])
            assert len(names) == 1, f"one setting a row: {line}"
            group = found.setdefault(heading, {})
            assert names[0] not in group, f"twice: {line}"
            group[names[0]] = cells[column]
    return found


def default_of(config: type[Config], name: str) -> Any:
    field = config.model_fields[name]
    return REQUIRED if field.is_required() else field.get_default(call_default_factory=True)


def says(cell: str, value: Any) -> bool:
    """Whether the text of a cell is a default."""
    text = cell.replace("`", "")
    if isinstance(value, Config) or (isinstance(value, Mapping) and value):
        return bool(text)  # too much for a cell: the table says where it is described
    if value is None or isinstance(value, bool) or value in ((), {}):
        return text == WORDS[value if isinstance(value, bool) else None]
    if isinstance(value, (int, float)):
        number, _, unit = text.replace(",", "").partition(" ")
        return (
            bool(re.fullmatch(r"[\d.e-]+", number)) and float(number) * UNITS.get(unit, 1 if not unit else 0) == value
        )
    if isinstance(value, tuple):
        if any(isinstance(entry, tuple) for entry in value):
            return text == str([list(entry) for entry in value])
        entries = text.split(", ")
        return len(entries) == len(value) and all(says(*pair) for pair in zip(entries, value, strict=True))
    return text == str(value)


def check(told: Mapping[str, str], config: type[Config], wanted: set[str] | None = None) -> None:
    """All settings of a configuration (or those `wanted`) are told, none that is not there, with true defaults."""
    wanted = set(config.model_fields) if wanted is None else wanted
    assert set(told) - set(config.model_fields) == set(), "no such setting"
    assert wanted - set(told) == set(), "missing in the table"
    wrong = {
        name: (cell, default_of(config, name))
        for name, cell in told.items()
        if not says(cell, default_of(config, name))
    }
    assert wrong == {}, "setting -> (the page says, it is)"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def merged(groups: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {name: cell for group in groups.values() for name, cell in group.items()}


@pytest.mark.parametrize(
    "cell, value",
    [
        ("0.5, 0.75", (0.5, 0.75)),
        ("none", None),
        ("none", ()),
        ("yes", True),
        ("16 MiB", 16 * 2**20),
        ("25,000,000", 25_000_000),
        ("`mlp`", "mlp"),
        ("1e-3", 0.001),
    ],
)
def test_defaults_are_read(cell: str, value: Any) -> None:
    assert says(cell, value)


@pytest.mark.parametrize(
    "cell, value",
    [("0.5", (0.5, 0.75)), ("no", None), ("", 0), ("17 MiB", 16 * 2**20), ("`conv`", "mlp"), ("0", False)],
)
def test_other_defaults_are_noticed(cell: str, value: Any) -> None:
    assert not says(cell, value)


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_of_a_method_is_on_its_page(name: str) -> None:
    """The settings of plain training are described once, on the page of `single`, unless a default is another one."""
    config = method_class(name).config_class
    wanted = set(config.model_fields)
    if name != "single" and issubclass(config, TrainingConfig):
        plain = TrainingConfig.model_fields
        wanted = {
            key for key in wanted if key not in plain or default_of(config, key) != default_of(TrainingConfig, key)
        }
    check(merged(tables(page(f"methods/{name}.md"), "setting")), config, wanted)


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_option_of_a_backbone_is_on_their_page(kind: str) -> None:
    told = {heading.strip("`"): rows for heading, rows in tables(page("backbones.md"), "option").items()}
    check(told[kind], kind_of({"kind": kind}).Options)


def test_every_setting_of_a_run_is_told() -> None:
    check(merged(tables(page("running.md"), "setting")), RunConfig)


def test_every_limit_of_the_server_is_told() -> None:
    check(merged(tables(page("howto/serve.md"), "limit")), Limits)


def test_every_option_of_cka_is_told() -> None:
    told = merged(tables(page("analysis.md"), "option"))
    assert told.pop("inputs") == "`common`"  # of compare_representations and study, beside the configuration
    check(told, CKAConfig)


def test_every_option_of_a_suite_is_told() -> None:
    check(merged(tables(page("data.md"), "option")), DataOptions)


@pytest.mark.parametrize("estimator", [PathClassifier, PathRegressor])
def test_every_argument_of_the_estimators_is_told(estimator: type) -> None:
    told = merged(tables(page("howto/sklearn.md"), "argument"))
    arguments = estimator().get_params()
    assert set(told) == set(arguments)
    assert {name: cell for name, cell in told.items() if not says(cell, arguments[name])} == {}
