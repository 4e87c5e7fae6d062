from __future__ import annotations

import json

from polypath.metrics.stopping import EarlyStopping


def run(rule: EarlyStopping, values: list[float]) -> tuple[list[bool], list[bool]]:
    state = rule.start()
    better, over = [], []
    for value in values:
        better.append(rule.improved(state, value))
        over.append(rule.over(state))
        state = json.loads(json.dumps(state))  # it travels in checkpoints
    return better, over


def test_it_stops_after_patience_values_without_an_improvement() -> None:
    better, over = run(EarlyStopping(2, 0.1), [1.0, 0.95, 0.8, 0.75, 0.71])
    # 0.95 is lower by 0.05 only; 0.8 by 0.2; 0.75 and 0.71 by less than 0.1 than the best, 0.8
    assert better == [True, False, True, False, False]
    assert over == [False, False, False, False, True]


def test_no_patience_never_stops_and_nan_never_improves() -> None:
    assert run(EarlyStopping(0), [1.0, 2.0, 3.0])[1] == [False] * 3
    assert run(EarlyStopping(1), [float("nan"), 1.0])[0] == [False, True]
