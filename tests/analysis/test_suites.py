"""Analyses that start from tasks with their data."""

import pytest
import torch

from polypath.analysis import CKAConfig, compare_paths, compare_representations, equal_per_class, unlearned_matrix
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Examples, Sealed, Suite, TaskData


def examples(seed, n=40, classes=3, size=6):
    stream = torch.Generator().manual_seed(seed)
    return Examples.of(torch.randn(n, size, generator=stream), torch.arange(n) % classes)


def data(task, seed, **splits):
    return TaskData(task, examples(seed), **splits)


def test_equal_per_class_draws_rounds_without_repeats():
    held = Examples.of(torch.arange(30.0)[:, None], torch.tensor([0] * 15 + [1] * 11 + [2] * 4))
    drawn = equal_per_class(held, 11, torch.Generator().manual_seed(0))
    assert drawn.targets.tolist() == [0, 1, 2] * 3
    assert len(set(drawn.inputs().flatten().tolist())) == 9
    # bounded by the rarest class
    assert drawn.targets.bincount().tolist() == [3, 3, 3]
    most = equal_per_class(held, 1000, torch.Generator().manual_seed(0))
    assert most.targets.bincount().tolist() == [4, 4, 4]
    again = equal_per_class(held, 11, torch.Generator().manual_seed(0))
    assert torch.equal(again.index, drawn.index)
    with pytest.raises(InvalidInput, match="each of 3 classes is required, received 2"):
        equal_per_class(held, 2, torch.Generator())


def test_common_probe_is_half_of_either_task_and_reproducible(network):
    a = data(network.tasks["a"], 1, val=examples(2))
    b = data(network.tasks["b"], 3, test=Sealed(examples(4)))
    found = compare_representations(network, a, b, samples=24, kernel="linear")
    assert (found["samples"], found["inputs"], found["splits"]) == (24, "common", ["val", "test"])
    assert found == compare_representations(network, a, b, samples=24, kernel="linear")
    assert found != compare_representations(network, a, b, samples=24, kernel="linear", seed=1)


def test_all_examples_are_compared_when_fewer_than_asked_for(network):
    # 39 of 40 validation examples are balanced (13 of each class); common takes 39 of either
    a, b = (data(network.tasks[name], 1, val=examples(seed)) for name, seed in (("a", 2), ("b", 3)))
    assert compare_representations(network, a, b)["samples"] == 78
    found = compare_representations(network, a, b, inputs="own")
    assert (found["samples"], found["inputs"]) == (39, "own")


def test_drawing_everything_equals_comparing_everything(network):
    # CKA does not depend on the order of the probe: every test input of both tasks, whatever the draw
    a, b = (data(network.tasks[name], 1, test=Sealed(examples(seed))) for name, seed in (("a", 2), ("b", 3)))
    found = compare_representations(network, a, b, samples=80)
    whole = compare_paths(network, ("a", "b"), [a.test, b.test], CKAConfig())
    assert [e["cka"] for e in found["layers"]] == pytest.approx([e["cka"] for e in whole["layers"]])


def test_options_are_checked_by_name(network):
    a, b = (data(network.tasks[name], 1) for name in ("a", "b"))
    with pytest.raises(UnknownName, match="Did you mean 'kernel'"):
        compare_representations(network, a, b, kernal="linear")
    with pytest.raises(InvalidInput, match="at least 4"):
        compare_representations(network, a, b, samples=3)


def test_unlearned_matrix_by_hand(network, tiny):
    network.add(tiny[2]("five", labels=5), [[0, 1], [0, 1]])
    tests = {"a": examples(5), "b": examples(6), "five": examples(7, classes=5)}
    tasks = network.tasks
    suite = Suite("s", tuple(TaskData(tasks[n], tests[n], test=Sealed(tests[n])) for n in tasks))
    found = unlearned_matrix(network, suite)
    for i, one in enumerate(tasks):
        for j, other in enumerate(tasks):
            if (one == "five") != (other == "five"):
                assert found[i][j] is None  # another number of answers
                continue
            shift = 0.5 if one == "b" else 0.0  # the path's own preprocessing, also for the other's data
            with torch.no_grad():
                answers = network(tests[other].inputs() - shift, one).argmax(1)
            assert found[i][j] == pytest.approx(float((answers == tests[other].targets).double().mean()))
    few = unlearned_matrix(network, suite, samples=7)
    with torch.no_grad():
        answers = network(tests["a"].inputs(slice(0, 7)), "a").argmax(1)
    assert few[0][0] == pytest.approx(float((answers == tests["a"].targets[:7]).double().mean()))


def test_unlearned_matrix_without_test_data_is_empty(network):
    suite = Suite("s", (data(network.tasks["a"], 1), data(network.tasks["b"], 2, test=Sealed(examples(3)))))
    found = unlearned_matrix(network, suite)
    assert [row[0] for row in found] == [None, None]
    assert all(row[1] is not None for row in found)
