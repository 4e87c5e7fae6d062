from __future__ import annotations

from typing import Any

import pytest

from polypath.core.result import Result
from polypath.report.comparison import comparison_grid, front, quality, recommendation
from polypath.report.summary import summarise


def result(
    variant: str, seed: int, scores: dict[str, tuple[str, float]], flops: int = 1_000_000, isolation: str = "joint"
) -> Result:
    tasks = [
        {"name": name, "test": {metric: value}, "parameters": 10, "added_parameters": 10, "flops": flops}
        for name, (metric, value) in scores.items()
    ]
    timing = dict.fromkeys(("wall_s", "train_s", "evaluate_s", "samples_per_second"), 1.0)
    values: dict[str, Any] = {
        "recipe": "compare",
        "variant": variant,
        "method": variant,
        "isolation": isolation,
        "suite": "own",
        "seed": seed,
        "tasks": tasks,
        "totals": {"parameters": 100, "size_bytes": 400},
        "timing": {**timing, "samples": 1, "peak_memory_bytes": 1},
        "lifelong": {"forgetting_ratio": {name: 0.5 for name in scores}},
    }
    return Result.of(values)


def runs(variant: str, accuracies: list[float], **facts: Any) -> list[Result]:
    return [result(variant, seed, {"a": ("accuracy", value)}, **facts) for seed, value in enumerate(accuracies)]


def said(results: list[Result]) -> str:
    return " ".join(recommendation(results, summarise(results)))


def test_the_best_is_taken_and_what_is_behind_is_said() -> None:
    """Differences 0.2, 0.2, 0.21: mean 0.203, half width 4.303 x 0.00577 / sqrt(3) = 0.014, which leaves zero out."""
    text = said([*runs("x", [0.9, 0.91, 0.92]), *runs("y", [0.7, 0.71, 0.71], isolation="exact")])
    assert "x has the best mean test accuracy, 0.910." in text
    assert "Behind it: y (0.203 ± 0.014 less)." in text
    assert "Take x: the best in the mean, at 1 MFLOPs an answer." in text
    assert "take y, 0.203 accuracy worse in the mean: with x old tasks are trained again." in text
    assert "3 seeds are few" in text


def test_a_cheaper_one_is_taken_when_the_difference_is_noise() -> None:
    text = said([*runs("x", [0.90, 0.94]), *runs("y", [0.91, 0.92], flops=500_000, isolation="exact")])
    assert "Not told apart from it by these runs: y (0.005 ± 0.191 less)." in text
    assert (
        "Take y: its answers cost 50% of x's (500 kFLOPs), and it is 0.005 behind, where x itself differs by 0.028"
        in text
    )
    assert "y also keeps old tasks bit-identical" in text


def test_a_method_far_behind_is_not_taken_because_its_seeds_scatter() -> None:
    text = said([*runs("x", [0.97, 0.98]), *runs("y", [0.6, 0.9], flops=10)])
    assert "Not told apart from it by these runs: y" in text and "Take x: the best in the mean" in text


def test_one_seed_says_that_nothing_is_sure() -> None:
    text = said([*runs("x", [0.9]), *runs("y", [0.8], flops=10)])
    assert "Take x" in text and "One seed has no spread; run --seeds 3 or more." in text
    assert "None of these methods keeps old tasks bit-identical" in text


def test_metrics_that_cannot_be_averaged_are_ranked() -> None:
    """x is first in accuracy and second in error: 1.5; y the other way round with one more first place: 4 / 3."""
    x = result("x", 0, {"a": ("accuracy", 0.9), "b": ("rmse", 2.0), "c": ("rmse", 2.0)})
    y = result("y", 0, {"a": ("accuracy", 0.8), "b": ("rmse", 1.0), "c": ("rmse", 1.0)})
    what, found = quality([x, y], summarise([x, y]))
    assert what == "rank" and found == {"x": {0: pytest.approx(-5 / 3)}, "y": {0: pytest.approx(-4 / 3)}}
    assert "y has the best mean rank over tasks, 1.333" in said([x, y])


def test_equal_values_share_a_rank() -> None:
    both = [result(name, 0, {"a": ("accuracy", 0.9), "b": ("rmse", 2.0)}) for name in "xy"]
    assert quality(both, summarise(both))[1] == {"x": {0: -1.5}, "y": {0: -1.5}}


def test_the_front_holds_what_nothing_beats() -> None:
    results = [*runs("x", [0.9], flops=100), *runs("y", [0.8], flops=50), *runs("z", [0.7], flops=60)]
    assert [name for name, _, _ in front(results, summarise(results))] == ["y", "x"]
    grid = comparison_grid(results, summarise(results))
    assert {row[0]: row[-1] for row in grid.rows} == {"x": "yes", "y": "yes", "z": "–"}
    assert grid.rows[0] == ("x", "0.900", "100", "100", "400 B", "1 s", "0.500", "trained again", "yes")


def test_nothing_to_compare_is_said() -> None:
    assert said(runs("x", [0.9])) == "Fewer than two methods were tested, so nothing is recommended."


def test_what_is_as_good_is_not_called_better() -> None:
    text = said([*runs("x", [1.0, 1.0]), *runs("y", [1.0, 1.0], isolation="exact")])
    assert "as good in the mean" in text and "better in the mean" not in text
