"""What a path reads of several owners: all earlier weights, a choice of them, one set of biases, limits."""

from __future__ import annotations

import copy

import torch

from polypath.core import accounting
from polypath.core.preprocess import TablePreprocess
from polypath.core.task import Classification, Features, Task
from polypath.nn.spaces import Space
from polypath.nn.subnet import Subnetworks
from polypath.nn.subnet_config import SubnetConfig
from polypath.ops.ownership import limited

COLUMNS = 4
ENTRY = "0.weight"


def task(name: str) -> Task:
    names = tuple(f"x{i}" for i in range(COLUMNS))
    preprocess = TablePreprocess(columns=names, mean=(0.0,) * COLUMNS, std=(1.0,) * COLUMNS)
    return Task(
        name=name, inputs=Features(size=COLUMNS), target=Classification(labels=("a", "b")), preprocess=preprocess
    )


def network(tasks: int = 2, **values: object) -> Subnetworks:
    config = {"backbone": {"kind": "mlp", "hidden": [3]}, "share": 0.25, "heads": "dense", "init": "backbone"}
    inputs = Features(size=COLUMNS).model_dump()
    made = Subnetworks(SubnetConfig.of({**config, "inputs": inputs, **values}))
    for number in range(tasks):
        made.add_task(task(f"task{number}"))
    return made


def dense(made: Subnetworks, component: str) -> torch.Tensor:
    part = made.part(component)
    return torch.zeros(12).scatter(0, part.positions(ENTRY), part.values(ENTRY).detach()).view(3, 4)


def hidden(made: Subnetworks, name: str, inputs: torch.Tensor) -> torch.Tensor:
    return made.step(inputs, made.path(name).steps[0])


def test_reading_earlier_owners_adds_their_weights_and_takes_the_last_biases() -> None:
    made, inputs = network(3, reads="earlier"), torch.randn(5, COLUMNS, generator=torch.Generator().manual_seed(0))
    whole = sum(dense(made, f"fc1.t{i}") for i in range(3))
    bias = made.part("fc1.t2").own["0-bias"]
    expected = torch.relu(inputs @ torch.as_tensor(whole).T + bias)
    torch.testing.assert_close(hidden(made, "task2", inputs), expected)
    made.freeze(made.path("task1").components)  # composed once now: the same values
    assert torch.equal(hidden(made, "task2", inputs), hidden(copy.deepcopy(made), "task2", inputs))
    torch.testing.assert_close(hidden(made, "task2", inputs), expected)


def test_what_is_composed_once_follows_every_change_of_what_it_was_composed_of() -> None:
    made, inputs = network(2, reads="earlier"), torch.ones(1, COLUMNS)
    made.freeze(["fc1.t0"])
    for change in (1.0, 2.0):
        before = hidden(made, "task1", inputs)
        with torch.no_grad():
            made.part("fc1.t0").values(ENTRY).add_(change)
        after = hidden(made, "task1", inputs)
        assert not torch.equal(before, after)
        expected = torch.relu(
            inputs @ (dense(made, "fc1.t0") + dense(made, "fc1.t1")).T + made.part("fc1.t1").own["0-bias"]
        )
        torch.testing.assert_close(after, expected)
    values = {local: tensor.clone() for local, tensor in made.tensors(["fc1.t0"])["fc1.t0"].items()}
    values["value.0-weight"] = values["value.0-weight"] * 3
    before = hidden(made, "task1", inputs)
    made.assign({"fc1.t0": values})
    assert not torch.equal(before, hidden(made, "task1", inputs))


def test_a_choice_reads_the_chosen_weights_and_no_others_also_when_everything_may_learn() -> None:
    made, inputs = network(2, reads="chosen"), torch.ones(1, COLUMNS)
    old = made.part("fc1.t0").positions(ENTRY)
    assert made.older("task1") == {"fc1.t1": ["fc1.t0"]}
    made.choose_older("fc1.t1", ENTRY, old[:1])
    weight = dense(made, "fc1.t1")
    weight.view(-1)[old[0]] = made.part("fc1.t0").values(ENTRY)[0].item()
    expected = torch.relu(inputs @ weight.T + made.part("fc1.t1").own["0-bias"])
    for frozen in (["fc1.t0"], []):
        made.thaw()
        made.freeze(frozen)
        torch.testing.assert_close(hidden(made, "task1", inputs), expected)
    hidden(made, "task1", inputs).sum().backward()
    assert made.part("fc1.t0").values(ENTRY).grad is None  # older weights are constants of whoever chooses them


def test_a_choice_is_counted_in_costs_and_survives_the_plan() -> None:
    made = network(2, reads="chosen")
    made.choose_older("fc1.t1", ENTRY, made.part("fc1.t0").positions(ENTRY)[:2])
    made.count_picks("task1")
    assert made.path("task1").selected == (("fc1.t0", 2),)
    # 3 own weights, 3 biases, 2 chosen, a head of 3 x 2 + 2
    assert accounting.cost(made, "task1").parameters == 3 + 3 + 2 + 8
    again = Subnetworks.restore(made.plan())
    assert again.path("task1") == made.path("task1")
    again.assign(made.tensors(made.components()))
    inputs = torch.ones(1, COLUMNS)
    assert torch.equal(again(inputs, "task1"), made(inputs, "task1"))
    assert torch.equal(made.extract("task1", fused=False)(inputs), made(inputs, "task1"))


def test_a_real_mask_chooses_while_learning_and_is_trained_straight_through() -> None:
    made, inputs = network(2, reads="chosen"), torch.ones(1, COLUMNS)
    made.freeze(["fc1.t0"])
    old = made.part("fc1.t0").values(ENTRY).detach()
    real = torch.nn.Parameter(torch.tensor([0.01, 0.001, 0.01]))
    made.soften("fc1.t1", ENTRY, real, 0.005)
    weight = dense(made, "fc1.t1")
    at = made.part("fc1.t0").positions(ENTRY)
    weight.view(-1)[at[[0, 2]]] = old[[0, 2]]
    with torch.no_grad():
        made.part("fc1.t1").own["0-bias"].fill_(10.0)  # every unit is above zero: gradients are those of a linear layer
    torch.testing.assert_close(hidden(made, "task1", inputs), inputs @ weight.T + 10.0)
    hidden(made, "task1", inputs).sum().backward()
    torch.testing.assert_close(real.grad, old)  # d(w x 1)/d(mask) = w, also where the mask is off
    made.soften("fc1.t1", ENTRY, None)
    torch.testing.assert_close(hidden(made, "task1", inputs), inputs @ dense(made, "fc1.t1").T + 10.0)


def test_the_first_owners_biases_serve_all_where_that_is_wanted() -> None:
    made, inputs = network(2, reads="earlier", dense="first"), torch.zeros(1, COLUMNS)
    with torch.no_grad():
        made.part("fc1.t0").own["0-bias"].copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert hidden(made, "task1", inputs).tolist() == [[1.0, 2.0, 3.0]]
    assert set(made.components()["fc1.t1"].tensors) == {"value.0-weight", "at.0-weight"}


def test_a_limit_hides_weights_from_one_path_and_lets_their_gradients_through() -> None:
    made, inputs = network(2, reads="earlier"), torch.ones(1, COLUMNS)
    keep = torch.zeros(12, dtype=torch.bool)
    keep[made.part("fc1.t0").positions(ENTRY)[0]] = True
    made.limit("fc1.t1", ENTRY, keep)
    with torch.no_grad():
        made.part("fc1.t1").own["0-bias"].fill_(10.0)
    expected = torch.where(keep.view(3, 4), dense(made, "fc1.t0"), torch.zeros(3, 4)).sum(1) + 10
    torch.testing.assert_close(hidden(made, "task1", inputs)[0], expected)
    hidden(made, "task1", inputs).sum().backward()
    assert made.part("fc1.t0").values(ENTRY).grad.tolist() == [1.0, 1.0, 1.0]
    assert made.part("fc1.t1").values(ENTRY).grad.tolist() == [1.0, 1.0, 1.0]
    keep.fill_(True)  # in place: read by the next step
    assert not torch.equal(hidden(made, "task1", inputs)[0], expected)
    unlimited = hidden(made, "task0", inputs)
    made.limit("fc1.t1", ENTRY, None)
    assert torch.equal(hidden(made, "task0", inputs), unlimited)


def test_limits_do_not_let_values_outside_through_not_even_as_nan() -> None:
    weight = torch.tensor([1.0, float("nan")], requires_grad=True)
    out = limited(weight, torch.tensor([True, False]))
    assert out.tolist() == [1.0, 0.0]
    out.sum().backward()
    assert weight.grad.tolist() == [1.0, 1.0]


def test_a_rule_says_layer_by_layer_how_many_weights_a_task_gets() -> None:
    made = network(1)
    asked = []

    def rule(space: Space, entry: str, free: int) -> int:
        asked.append((space.name, entry, free))
        return free - 1

    made.add_task(task("task1"), rule)
    assert asked == [("fc1", ENTRY, 9), ("head@t1", "weight", 6)]
    assert made.part("fc1.t1").counts() == {ENTRY: 8}
