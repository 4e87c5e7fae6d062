"""Hyper-parameters that evolve: the paper's table, steps to neighbours, and lists that are refused."""

from __future__ import annotations

from random import Random

import pytest

from polypath.core.errors import InvalidInput, UnknownName
from polypath.search.hyperparameters import Choice, default_table, defaults, merged


def test_the_table_is_the_papers() -> None:
    """Table 1 of the paper, defaults from the authors' notebook."""
    table = default_table()
    assert {name: len(choice.values) for name, choice in table.items()} == {
        "mu": 11,
        "learning_rate": 12,
        "warmup": 7,
        "momentum": 9,
        "nesterov": 2,
        "crop": 2,
        "area_min": 7,
        "aspect_min": 4,
        "flip": 2,
        "brightness": 6,
        "contrast": 6,
        "saturation": 6,
        "hue": 6,
    }
    assert table["learning_rate"].values == (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5)
    assert defaults(table) == {
        "mu": 0.2,
        "learning_rate": 0.01,
        "warmup": 0.05,
        "momentum": 0.9,
        "nesterov": False,
        "crop": True,
        "area_min": 0.05,
        "aspect_min": 0.75,
        "flip": True,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
    }


def test_a_step_goes_to_either_neighbour_equally_often() -> None:
    choice = Choice(values=(1, 2, 5, 9))
    rng = Random(0)
    steps = [choice.step(2, rng) for _ in range(4000)]
    assert set(steps) == {1, 5}
    assert abs(steps.count(1) / 4000 - 0.5) < 0.03  # three standard deviations are 0.024


def test_at_an_end_a_step_stays_half_of_the_time() -> None:
    choice = Choice(values=(1, 2, 5, 9))
    rng = Random(0)
    steps = [choice.step(9, rng) for _ in range(4000)]
    assert set(steps) == {5, 9}
    assert abs(steps.count(9) / 4000 - 0.5) < 0.03


def test_one_value_alone_never_changes() -> None:
    assert {Choice(values=(0.3,)).step(0.3, Random(seed)) for seed in range(20)} == {0.3}


def test_a_value_of_another_list_counts_as_the_nearest() -> None:
    choice = Choice(values=(0.1, 0.2, 0.4))
    assert [choice.nearest(value) for value in (0.0, 0.19, 0.31, 7)] == [0.1, 0.2, 0.4, 0.4]


def test_entries_replace_values_defaults_or_both() -> None:
    table = merged(
        {"mu": [0.0], "warmup": {"default": 0.1}, "learning_rate": {"values": [0.5, 1.0]}, "num_layers": [0, 1]}
    )
    assert table["mu"] == Choice(values=(0.0,), default=0.0)
    assert table["warmup"].values == default_table()["warmup"].values and table["warmup"].start == 0.1
    assert table["learning_rate"].start == 0.5  # the listed value closest to 0.01
    assert table["num_layers"].start == 0
    assert merged({name: choice.model_dump() for name, choice in table.items()}) == table


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": []}, "hyperparameters.learning_rate.*at least one is required, received an empty list"),
        ({"learning_rate": [0.1, 0.01]}, r"ascending numbers without repeats are required, received \[0.1, 0.01\]"),
        ({"momentum": [0.5, 0.5]}, "ascending numbers without repeats"),
        ({"mu": [0.1, 1.1]}, r"hyperparameters.mu: probabilities in \[0, 1\] are required, received \[1.1\]"),
        ({"mu": [-0.1]}, "hyperparameters.mu"),
        ({"mu": {"values": [0.1, 0.2], "default": 0.3}}, "one of .* is required, received 0.3"),
        ({"area_min": [0, 0.5]}, "hyperparameters.area_min"),
        ({"momentum": [0.9, 1.0]}, "hyperparameters.momentum"),
        ({"num_layers": [0, 1.5]}, "hyperparameters.num_layers"),
    ],
)
def test_lists_that_cannot_be_searched_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        merged(given)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'momentum'"):
        merged({"momentun": [0.9]})
