"""Algorithm 1 of the mu2Net paper: parents, mutations, what survives. No training, no global random state."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch

from polypath.core.errors import InvalidInput
from polypath.search import Child, Evolution, EvolutionConfig, Individual
from polypath.search.evolution import Anatomy
from polypath.search.hyperparameters import DATA
from polypath.search.score import ScoreConfig, Term, accounted, factor

ROOT = Individual(0, None, (("a", "a.0"), ("b", "b.1"), ("norm", "norm.2")), {})
VIT = Anatomy(frozenset({"norm"}), "block_", "head")


def model(number: int, task: str, score: float, parent: int = 0, blocks: int = 0, **settings: Any) -> Individual:
    layers = [("a", "a.0"), ("b", f"b.{10 * number}")]
    layers += [(f"block_{index}", f"block_{index}.{10 * number + index}") for index in range(blocks)]
    layers += [("norm", f"norm.{10 * number}"), ("head", f"head.{10 * number}")]
    return Individual(number, task, tuple(layers), settings, score, parent)


def evolution(**changes: Any) -> Evolution:
    options = changes.pop("options", {})
    given: dict[str, Any] = {"active": [], "others": [ROOT], "seed": 0, "anatomy": VIT, "first": 100, **changes}
    return Evolution(EvolutionConfig(**options), "t", **given)


def parents(search: Evolution, count: int) -> list[int]:
    return [child.parent for child in search.ask(count)]


def test_a_model_never_chosen_is_always_accepted_best_first() -> None:
    search = evolution(active=[model(1, "t", 0.5), model(2, "t", 0.9), model(3, "t", 0.7)])
    assert parents(search, 1) == [2]


def test_a_parent_is_accepted_with_half_the_chance_each_time() -> None:
    """Chosen k times before, accepted with 0.5 ** k; else the next best, which was never chosen, is."""
    for chosen in (1, 2, 3):
        hits = 0
        for seed in range(1500):
            search = evolution(
                active=[model(1, "t", 0.9), model(2, "t", 0.5)], others=[ROOT], seed=seed, selections={1: chosen}
            )
            hits += parents(search, 1) == [1]
        assert abs(hits / 1500 - 0.5**chosen) < 0.04  # three standard deviations are at most 0.039


def test_selections_count_when_a_child_is_asked_for_whatever_becomes_of_it() -> None:
    search = evolution(active=[model(1, "t", 0.9)])
    for child in search.ask(6):
        search.tell(child, None, ())
    search.end_generation()
    assert sum(search.counted.values()) == 6
    assert [m.number for m in search.population] == [1]


def test_others_come_in_random_order_when_no_own_model_is_accepted() -> None:
    others = [ROOT, model(1, "u", 0.1), model(2, "v", 0.9)]
    found = Counter(parents(evolution(others=others, seed=seed), 1)[0] for seed in range(600))
    assert set(found) == {0, 1, 2}
    assert all(abs(count / 600 - 1 / 3) < 0.06 for count in found.values())  # scores on other tasks do not matter


def test_the_last_resort_is_any_model() -> None:
    """With every model chosen a thousand times before, nothing is accepted and the draw is uniform over all."""
    given = {"active": [model(1, "t", 0.9), model(2, "t", 0.2)], "others": [ROOT]}
    many = dict.fromkeys((0, 1, 2), 1000)
    found = Counter(parents(evolution(**given, seed=seed, selections=many), 1)[0] for seed in range(600))
    assert all(abs(found[number] / 600 - 1 / 3) < 0.06 for number in (0, 1, 2))


def test_rotating_others_go_on_behind_the_last_accepted_one() -> None:
    others = [ROOT, model(1, "u", 0.1), model(2, "v", 0.9)]
    found = parents(evolution(others=others, options={"others": "rotating"}), 3)
    assert sorted(found) == [0, 1, 2]


def test_only_the_root_is_a_parent_where_that_is_asked() -> None:
    others = [ROOT, model(1, "u", 0.1)]
    search = evolution(others=others, options={"parents": "root"})
    assert set(parents(search, 8)) == {0}


def mutated(child: Child, name: str, default: Any) -> bool:
    return bool(child.hyperparameters[name] != default)


def test_mu_mutates_first_and_its_new_value_governs_the_rest() -> None:
    """From mu = 0 nothing moves; from {0, 1} with mu = 1 it becomes 0 half of the time, and then nothing else moves."""
    still = evolution(options={"hyperparameters": {"mu": [0.0]}}).ask(20)
    assert all(child.hyperparameters["learning_rate"] == 0.01 for child in still)
    assert all({gene.action for gene in child.genes} == {"share", "clone", "new"} for child in still)
    table = {"mu": {"values": [0.0, 1.0], "default": 1.0}}
    children = evolution(options={"hyperparameters": table}).ask(200)
    calm = [child for child in children if child.hyperparameters["mu"] == 0]
    assert 70 < len(calm) < 130
    for child in children:
        moved = [mutated(child, "learning_rate", 0.01), mutated(child, "momentum", 0.9)]
        assert moved == ([False] * 2 if child.hyperparameters["mu"] == 0 else [True] * 2)


def test_every_mutation_happens_with_probability_mu() -> None:
    children = evolution(options={"hyperparameters": {"mu": [0.3]}}).ask(1500)
    cloned = sum(gene.action == "clone" for child in children for gene in child.genes if gene.slot in ("a", "b"))
    assert abs(cloned / 3000 - 0.3) < 0.026  # three standard deviations
    assert abs(sum(mutated(c, "learning_rate", 0.01) for c in children) / 1500 - 0.3) < 0.036
    # The image's smallest area may go either way; brightness begins at the end of its list and stays half of the time.
    assert abs(sum(mutated(c, "area_min", 0.05) for c in children) / 1500 - 0.3) < 0.036
    assert abs(sum(mutated(c, "brightness", 0.0) for c in children) / 1500 - 0.15) < 0.03


def test_the_head_is_always_trained_and_new_for_another_task() -> None:
    search = evolution(active=[model(1, "t", 0.5)], options={"clone": 0.0})
    (own,) = search.ask(1)
    assert [(g.slot, g.action) for g in own.genes] == [
        ("a", "share"),
        ("b", "share"),
        ("norm", "clone"),
        ("head", "clone"),
    ]
    assert own.genes[-1].origin == "head.10" and own.threshold == 0.5
    (foreign,) = evolution(others=[model(1, "u", 0.5)]).ask(1)
    assert (foreign.genes[-1].action, foreign.genes[-1].origin, foreign.threshold) == ("new", None, None)


def test_a_head_of_the_same_task_among_the_ancestors_is_cloned() -> None:
    """The parent is of task u, whose own parent is this task's model: its head serves again."""
    own, other = model(1, "t", 0.5), model(2, "u", 0.9, parent=1)
    search = evolution(active=[own], others=[other], selections={1: 1000})
    (child,) = search.ask(1)
    assert child.parent == 2 and child.genes[-1].origin == "head.10"
    assert child.threshold is None  # the parent's score is another task's


def test_clone_and_freeze_are_the_controls() -> None:
    everything = evolution(options={"clone": 1.0}).ask(4)
    assert {gene.action for child in everything for gene in child.genes[:-1]} == {"clone"}
    upper = evolution(options={"clone": 1.0, "freeze": 1}).ask(4)
    assert all([g.action for g in child.genes] == ["share", "clone", "clone", "new"] for child in upper)


def test_own_layers_are_always_trained_where_that_is_asked() -> None:
    active = [model(1, "t", 0.5)]
    options = {"clone": 0.0, "always_train_own": True}
    (child,) = evolution(active=active, own=frozenset({"b.10"}), options=options).ask(1)
    assert [g.action for g in child.genes] == ["share", "clone", "clone", "clone"]
    (child,) = evolution(active=active, own=frozenset({"b.10"}), options={"clone": 0.0}).ask(1)
    assert [g.action for g in child.genes] == ["share", "share", "clone", "clone"]


def test_image_settings_of_a_generation_are_one() -> None:
    options = {"data_hyperparameters": "generation", "hyperparameters": {"mu": [0.9], "area_min": [0.1, 0.2, 0.5]}}
    children = evolution(options=options).ask(12)
    assert all(len({child.hyperparameters[name] for child in children}) == 1 for name in DATA)
    assert len({child.hyperparameters["learning_rate"] for child in children}) > 1
    each = evolution(options={**options, "data_hyperparameters": "child"}).ask(12)
    assert len({child.hyperparameters["area_min"] for child in each}) > 1


def test_blocks_are_inserted_below_the_norm_and_removed_from_the_top() -> None:
    table = {"mu": [1.0], "num_layers": [0, 1, 2, 3]}
    seen = set()
    for seed in range(30):
        (child,) = evolution(active=[model(1, "t", 0.5, blocks=2)], seed=seed, options={"hyperparameters": table}).ask(
            1
        )
        slots = [gene.slot for gene in child.genes]
        wanted = int(child.hyperparameters["num_layers"])
        seen.add(wanted)
        assert slots == ["a", "b", *(f"block_{i}" for i in range(wanted)), "norm", "head"]
        assert all(gene.action == "new" for gene in child.genes if gene.slot == "block_2")
    assert seen == {1, 3}


def test_an_inserted_block_is_an_ancestors_where_one_has_it() -> None:
    grandparent, parent = model(1, "u", 0.5, blocks=3), model(2, "t", 0.6, parent=1, blocks=2)
    table = {"mu": [1.0], "num_layers": [0, 1, 2, 3]}
    found = set()
    for seed in range(10):
        search = evolution(active=[parent], others=[grandparent], seed=seed, options={"hyperparameters": table})
        found |= {gene.origin for gene in search.ask(1)[0].genes if gene.slot == "block_2"}
    assert found == {"block_2.12"}


def test_children_join_after_their_generation_and_the_most_recent_of_equals_wins() -> None:
    search = evolution(active=[model(1, "t", 0.5)])
    first, second, third = search.ask(3)
    for child, score in ((first, 0.7), (second, 0.7), (third, 0.4)):
        search.tell(child, score, (("head", f"head@{child.number}"),))
    best = search.best()
    assert best is not None and best.number == 1  # the generation is not over
    search.end_generation()
    best = search.best()
    assert best is not None and best.number == second.number
    assert third.number in [m.number for m in search.population] or third.threshold == 0.5


def test_a_child_below_its_parent_is_discarded_and_an_equal_one_is_not() -> None:
    search = evolution(active=[model(1, "t", 0.5)])
    (child,) = search.ask(1)
    assert child.threshold == 0.5
    search.tell(child, 0.49, ())
    search.end_generation()
    assert len(search.population) == 1
    equal = next(c for c in search.ask(50) if c.parent == 1)
    search.tell(equal, 0.5, ())
    search.end_generation()
    assert len(search.population) == 2


def test_the_same_seed_asks_the_same_and_no_global_generator_is_touched() -> None:
    before = (random.getstate(), torch.get_rng_state().numpy().tobytes())
    again = [evolution(seed=3).ask(8) for _ in range(2)]
    assert again[0] == again[1] and again[0] != evolution(seed=4).ask(8)
    assert before == (random.getstate(), torch.get_rng_state().numpy().tobytes())


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one model"):
        evolution(others=[])
    with pytest.raises(InvalidInput, match="model 1 is of task 'u'"):
        evolution(active=[model(1, "u", 0.5)])
    with pytest.raises(InvalidInput, match="no blocks to insert"):
        evolution(anatomy=Anatomy(), options={"hyperparameters": {"num_layers": [0, 1]}})


def test_scores_are_products_of_terms() -> None:
    """Quality times 0.9 for every unit: half a unit of parameters and two of operations give 0.9 ** 2.5."""
    assert ScoreConfig().parameters.on is False
    assert factor([(Term(base=0.9, unit=10), 5, 1), (Term(base=0.9), 4, 2)]) == pytest.approx(0.9**2.5)
    assert factor([]) == 1


def test_parameters_are_accounted_among_those_who_use_them() -> None:
    """60 shared with two others: 20; 8 of its own; 10 of the root that nobody uses yet: 10."""
    users = {"x": ("u", "v"), "y": ("t",)}
    assert accounted({"x": 60, "y": 8, "root": 10}, users, ["x", "y", "root"], "t") == 38
