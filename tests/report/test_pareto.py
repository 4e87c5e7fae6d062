"""The front of accuracy and cost: which points stand on it, and what the report shows."""

from __future__ import annotations

from polypath.core.result import ExitResult, Result
from polypath.report.pareto import Point, front, pareto, points_of


def point(flops: int, value: float, variant: str = "a", exit: str | None = None) -> Point:
    return Point(variant, exit, flops, flops, (value,))


def test_the_front_holds_what_nothing_beats() -> None:
    cheap, better, beaten, tied, best = point(1, 0.5), point(3, 0.7), point(2, 0.4), point(3, 0.6), point(9, 0.8)
    assert front([best, tied, beaten, better, cheap]) == [cheap, better, best]
    assert front([point(1, 0.5), point(2, 0.5)]) == [point(1, 0.5)]  # as good for more is beaten


def test_of_errors_the_lower_is_better() -> None:
    assert front([point(1, 0.5), point(2, 0.3), point(3, 0.4)], lower=True) == [point(1, 0.5), point(2, 0.3)]


def record(variant: str, seed: int, exits: dict[str, tuple[int, float]]) -> Result:
    last = list(exits.values())[-1]
    return Result.of(
        {
            "recipe": "r", "variant": variant, "method": "multipath", "isolation": "joint", "suite": "s", "seed": seed,
            "tasks": [
                {
                    "name": "t", "test": {"accuracy": last[1]}, "parameters": 1, "added_parameters": 1,
                    "flops": last[0],
                    "exits": [
                        {"name": name, "test": {"accuracy": value}, "parameters": flops, "flops": flops}
                        for name, (flops, value) in (exits.items() if len(exits) > 1 else ())
                    ],
                }
            ],
            "totals": {"parameters": 1, "size_bytes": 4},
            "timing": {
                "wall_s": 1, "train_s": 1, "evaluate_s": 0, "samples": 1, "samples_per_second": 1,
                "peak_memory_bytes": 1,
            },
        }
    )  # fmt: skip


def test_seeds_are_gathered_and_every_exit_is_a_point() -> None:
    runs = [record("all", seed, {"branch1": (10, 0.3 + seed / 10), "branch2": (20, 0.5)}) for seed in (0, 1)]
    metric, points = points_of([*runs, record("one", 0, {"only": (15, 0.2)})], "t")
    assert metric == "accuracy"
    assert {(p.variant, p.exit, p.flops): p.values for p in points} == {
        ("all", "branch1", 10): (0.3, 0.4), ("all", "branch2", 20): (0.5, 0.5), ("one", None, 15): (0.2,)
    }  # fmt: skip
    assert isinstance(runs[0].tasks[0].exits[0], ExitResult)


def test_a_task_with_one_cost_has_no_front_to_draw() -> None:
    assert pareto([record("a", 0, {"only": (15, 0.2)}), record("b", 0, {"only": (15, 0.3)})]) == []


def test_the_figure_and_its_table_show_the_front() -> None:
    (found,) = pareto(
        [record("all", 0, {"branch1": (10, 0.3), "branch2": (20, 0.5)}), record("x", 0, {"o": (30, 0.4)})]
    )
    assert found["task"] == "t" and str(found["svg"]).startswith("<svg")
    assert [(row[0], row[-1]) for row in found["grid"].rows] == [
        ("all, branch1", "yes"), ("all, branch2", "yes"), ("x", "–")
    ]  # fmt: skip
