"""Mean and confidence over trials."""

import math

import pytest
import scipy.stats

from polypath.core.errors import InvalidInput
from polypath.metrics import over_trials


def test_five_trials_by_hand():
    # 1..5: mean 3, std sqrt(2.5), t(0.975, 4) = 2.776 (any printed table), half width 2.776 * sqrt(2.5 / 5)
    found = over_trials([1, 2, 3, 4, 5])
    assert (found.n, found.mean, found.level) == (5, 3.0, 0.95)
    assert found.std == pytest.approx(math.sqrt(2.5))
    assert found.confidence == pytest.approx(2.776 * math.sqrt(0.5), abs=5e-4)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_interval_is_scipys(level):
    values = [0.31, 0.35, 0.42, 0.29]
    low, high = scipy.stats.t.interval(level, 3, sum(values) / 4, scipy.stats.sem(values))
    found = over_trials(values, level)
    assert (found.mean - found.confidence, found.mean + found.confidence) == pytest.approx((low, high))


@pytest.mark.parametrize("count", [*range(2, 12), 50, 101])
def test_t_factor_is_scipys_for_any_number_of_trials(count):
    found = over_trials([float(i % 2) for i in range(count)])
    factor = found.confidence / found.std * math.sqrt(count)
    assert factor == pytest.approx(scipy.stats.t.ppf(0.975, count - 1), rel=1e-10)


def test_one_trial_has_no_spread_and_equal_trials_have_none_left():
    assert (over_trials([0.5]).std, over_trials([0.5]).confidence) == (None, None)
    assert over_trials([0.5, 0.5]).confidence == 0.0


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_no_or_broken_values_are_refused(values):
    with pytest.raises(InvalidInput, match="at least one finite number"):
        over_trials(values)


def test_a_level_of_one_is_refused():
    with pytest.raises(InvalidInput, match="level"):
        over_trials([1.0, 2.0], 1.0)
