"""The headline claims what the seeds support, and no more."""

from __future__ import annotations

import pytest

from polypath.report.headline import command, verdict
from polypath.report.summary import summarise


def summary_of(samples, metric="accuracy", **values):
    """A summary where variant v has one task with these values, seed by seed."""
    results = []
    for variant, numbers in values.items():
        for seed, value in numbers.items():
            result = samples.sample(variant, seed, tasks=("t",))
            results.append(result.changed(tasks=[result.tasks[0].changed(test={metric: value})]))
    return summarise(results)


def test_a_difference_beyond_its_spread(samples):
    # differences 0.10, 0.12, 0.14: mean 0.12, deviation 0.02
    (said,) = verdict(summary_of(samples, a={0: 0.60, 1: 0.62, 2: 0.64}, b={0: 0.50, 1: 0.50, 2: 0.50}))
    assert said == (
        "a is ahead of b by 0.120 ± 0.020 in mean test accuracy, paired over 3 seeds, and leads on 3 of them. "
        "The difference exceeds its spread over seeds. 3 seeds are few, so read this as an indication."
    )


def test_five_seeds_are_not_called_few(samples):
    a = {s: 0.6 + 0.01 * s for s in range(5)}
    (said,) = verdict(summary_of(samples, a=a, b=dict.fromkeys(range(5), 0.5)))
    assert said.endswith("The difference exceeds its spread over seeds.")


def test_a_difference_within_its_spread(samples):
    # differences of b over a: 0.2 and -0.1: mean 0.05, deviation 0.212
    (said,) = verdict(summary_of(samples, a={0: 0.5, 1: 0.5}, b={0: 0.7, 1: 0.4}))
    assert "b is ahead of a by 0.050 ± 0.212" in said and "leads on 1 of them" in said
    assert said.endswith("The difference does not exceed its spread: on this evidence neither is better.")


def test_a_lead_that_rounds_to_nothing_is_none(samples):
    (said,) = verdict(summary_of(samples, a={0: 0.9, 1: 0.9}, b={0: 0.9001, 1: 0.9}))
    assert said == "b and a reach the same mean test accuracy on 2 seeds."


def test_what_is_no_better_than_the_most_frequent_label_is_said(samples):
    """19 of 30 examples are x: always answering x is right as often as this."""
    result = samples.sample("a", 0, tasks=("t", "u"))
    guess, learned = ([[19, 0], [11, 0]], [[19, 0], [1, 10]])
    tasks = [
        task.changed(confusion=c, labels=["x", "y"]) for task, c in zip(result.tasks, (guess, learned), strict=True)
    ]
    _, said = verdict(summarise([result.changed(tasks=tasks)]))
    assert said.startswith(
        "a learned nothing on t: it is right no more often than the most frequent label. Train longer"
    )
    few = [task.changed(confusion=[[5, 0], [5, 0]], labels=["x", "y"]) for task in tasks]
    assert len(verdict(summarise([result.changed(tasks=few)]))) == 1


def test_all_right_is_learned_where_there_is_one_label_only(samples):
    result = samples.sample("a", 0, tasks=("t",))
    (task,) = result.tasks
    right, wrong = (task.changed(confusion=[[n, 30 - n], [0, 0]], labels=["x", "y"]) for n in (30, 29))
    assert len(verdict(summarise([result.changed(tasks=[right])]))) == 1
    assert "learned nothing on t" in verdict(summarise([result.changed(tasks=[wrong])]))[-1]


def test_a_regression_that_is_no_better_than_the_mean_is_said(samples):
    result = samples.sample("a", 0, tasks=("t", "u"))
    (worse, better) = ({"mse": 5.0, "r2": -0.1}, {"mse": 5.0, "r2": 0.1})
    tasks = [
        task.changed(test=test, confusion=None, labels=None, examples={"test": 30})
        for task, test in zip(result.tasks, (worse, better), strict=True)
    ]
    _, said = verdict(summarise([result.changed(tasks=tasks)]))
    assert said.startswith("a learned nothing on t: it is no closer than the mean of the test targets")
    few = [task.changed(examples={"test": 10}) for task in tasks]
    assert len(verdict(summarise([result.changed(tasks=few)]))) == 1


def test_one_seed_is_no_evidence(samples):
    (said,) = verdict(summary_of(samples, a={0: 0.5}, b={0: 0.4}))
    assert said.startswith("a is ahead of b by 0.100 in mean test accuracy on the one seed both ran.")
    assert said.endswith("One seed has no spread: no evidence.")


def test_lower_errors_lead(samples):
    (said,) = verdict(summary_of(samples, metric="mse", a={0: 3.0, 1: 3.0}, b={0: 2.0, 1: 1.8}))
    assert said.startswith("b is ahead of a by 1.100 ± 0.141 in mean test mse (lower is better)")
    assert "leads on 2 of them" in said


def test_the_best_mean_does_not_lead_when_its_paired_seeds_do_not(samples):
    # a has the better mean (0.7 against 0.6) but on the common seed b is ahead
    (said,) = verdict(summary_of(samples, a={0: 0.5, 1: 0.9}, b={0: 0.6}))
    assert said.startswith("b is ahead of a by 0.100")


def test_the_two_best_of_three_are_compared(samples):
    (said,) = verdict(summary_of(samples, a={0: 0.1, 1: 0.1}, b={0: 0.6, 1: 0.6}, c={0: 0.5, 1: 0.5}))
    assert said.startswith("b is ahead of c by 0.100 ± 0.000")


def test_nothing_to_compare(samples):
    assert verdict(summarise([])) == ["No variant has finished, so there is nothing to report yet."]
    (said,) = verdict(summary_of(samples, a={0: 0.5}))
    assert said.startswith("a reaches a mean test accuracy of 0.500 over one seed.")
    assert said.endswith("No other variant has finished, so nothing is compared.")
    (said,) = verdict(summary_of(samples, a={0: 0.5}, b={1: 0.4}))
    assert "shares no seed with b" in said
    (said,) = verdict(summary_of(samples, a={0: 0.5}, b={0: 0.5}))
    assert said == "a and b reach the same mean test accuracy on one seed."


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"command": "polypath run x"}, "polypath run x"),
        ({"command": ["polypath", "run", "a b"]}, "polypath run 'a b'"),
        ({}, "polypath run part/cifar100 --quick --seeds 2 --out runs/again"),
        (
            {"overrides": {"method.modules": 8}},
            "polypath run part/cifar100 --quick --seeds 2 --set method.modules=8 --out runs/again",
        ),
    ],
)
def test_command(samples, config, line):
    assert command(summary_of(samples, a={0: 0.5, 1: 0.6}), config) == line


def test_command_of_one_seed_and_of_nothing(samples):
    assert (
        command(summary_of(samples, a={3: 0.5}), {}) == "polypath run part/cifar100 --quick --seed 3 --out runs/again"
    )
    assert command(summarise([]), {}) is None
    assert command(summarise([samples.sample("a", 0, tasks=("t",), recipe="own")]), {}) is None
