"""What the server answers is what the system answers: one task, several, all; base64, uploads, rows, texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from serving import Client, base64_png, png

import polypath as pp
from polypath.testing import tiny_images


def same(said: dict[str, Any], expected: pp.System, inputs: Any, **options: Any) -> None:
    """The answers of one task over HTTP are those of `System.predict`."""
    wanted = expected.predict(said["task"], inputs, **options)
    for place, answer in enumerate(said["answers"]):
        if wanted.values is not None:
            assert answer == {"values": pytest.approx(wanted.values[place].tolist(), rel=1e-5)}
            continue
        assert wanted.labels is not None and wanted.probabilities is not None
        key = "labels" if isinstance(wanted.labels[place], list) else "label"
        assert answer[key] == wanted.labels[place]
        assert list(answer["probabilities"].values()) == pytest.approx(wanted.probabilities[place].tolist(), abs=1e-5)
        assert answer.get("exit") == (wanted.exits[place] if wanted.exits else None)


def test_one_task_answers_images_in_base64_and_as_uploads(images: Path, client: Client) -> None:
    server, system = client(images), pp.load(images)
    pixels = tiny.pixels(3, 5)
    for task in ("digits", "halves"):
        said = server.post(f"/v1/tasks/{task}/predict", json={"inputs": [base64_png(one) for one in pixels]})
        assert said.status_code == 200, said.text
        same(said.json(), system, pixels)
        files = [("files", (f"{place}.png", png(one))) for place, one in enumerate(pixels)]
        same(server.post(f"/v1/tasks/{task}/predict/files", files=files).json(), system, pixels)
    with_prefix = "data:image/png;base64," + base64_png(pixels[0])
    same(server.post("/v1/tasks/digits/predict", json={"inputs": [with_prefix]}).json(), system, pixels[:1])


def test_rows_are_lists_or_objects_and_regression_answers_in_units(tables: Path, client: Client) -> None:
    server, system = client(tables), pp.load(tables)
    rows = [[30.0, 80.0], [90.0, 20.5]]
    named = [{"weight": weight, "age": age} for age, weight in rows]
    for task in ("risk", "dose"):
        for inputs in (rows, named):
            same(server.post(f"/v1/tasks/{task}/predict", json={"inputs": inputs}).json(), system, rows)
    value = server.post("/v1/tasks/dose/predict", json={"inputs": rows}).json()["answers"][0]["values"][0]
    assert 100 < value < 2000  # the target's mean is 1000, its deviation 400: scaled back


def test_a_missing_number_is_null_where_the_task_takes_gaps(tables: Path, gaps: Path, client: Client) -> None:
    server = client(gaps)
    for inputs in ([[None, 20.0], [30.0, None]], [{"age": None, "weight": 20}, {"age": 30, "weight": None}]):
        said = server.post("/v1/tasks/risk/predict", json={"inputs": inputs}).json()["answers"]
        means = server.post("/v1/tasks/risk/predict", json={"inputs": [[50, 20], [30, 50]]}).json()["answers"]
        assert said == means  # the means of the columns are 50
        refused = client(tables).post("/v1/tasks/risk/predict", json={"inputs": inputs})
        assert refused.status_code == 422 and "column 'age'" in refused.json()["error"]["message"]
    assert server.get("/v1/tasks").json()["tasks"][0]["inputs"]["missing"] == "mean"


def test_categories_are_given_as_words_and_told_to_the_page(categories: Path, client: Client) -> None:
    server, system = client(categories), pp.load(categories)
    rows = [{"age": 50, "smoker": "yes"}, {"age": 50, "smoker": "no"}, {"age": 70.5, "smoker": None}]
    expected = system.predict("risk", rows)
    for inputs in (rows, [list(row.values()) for row in rows]):
        answers = server.post("/v1/tasks/risk/predict", json={"inputs": inputs}).json()["answers"]
        assert [one["label"] for one in answers] == expected.labels
        assert expected.probabilities is not None
        found = torch.tensor([list(one["probabilities"].values()) for one in answers])
        assert torch.allclose(found, expected.probabilities, atol=1e-6)
        assert not torch.allclose(found[0], found[1], atol=2e-6)  # the word is read
    assert server.get("/v1/tasks").json()["tasks"][0]["inputs"]["categories"] == {"smoker": ["no", "yes"]}
    said = server.post("/v1/tasks/risk/predict", json={"inputs": [{"age": "old", "smoker": "yes"}]})
    assert said.status_code == 422 and "'age'" in said.json()["error"]["message"]


def test_texts_are_answered(texts: Path, client: Client) -> None:
    said = client(texts).post("/v1/tasks/mood/predict", json={"inputs": ["A good film", "bad", ""]})
    same(said.json(), pp.load(texts), ["A good film", "bad", ""])


def test_several_and_all_tasks_answer_one_input_together(images: Path, exits: Path, client: Client) -> None:
    server, system = client(exits), pp.load(exits)
    pixels = tiny_images(1, per_class=1).tasks[0].train.inputs()
    inputs = [base64_png(one) for one in pixels]
    said = server.post("/v1/predict", json={"inputs": inputs}).json()
    assert [one["task"] for one in said["predictions"]] == ["task0", "task1", "task2"] and said["skipped"] == []
    assert {one["together"] for one in said["predictions"]} == {3} and said["ms"] > 0
    for one in said["predictions"]:
        same(one, system, pixels)
    chosen = server.post("/v1/predict", json={"inputs": inputs, "tasks": ["task2", "task0", "task2"]}).json()
    assert [one["task"] for one in chosen["predictions"]] == ["task2", "task0"]
    files = [("files", ("a.png", png(pixels[0])))]
    said = server.post("/v1/predict/files", files=files, data={"tasks": ["task1"]}).json()
    assert [one["task"] for one in said["predictions"]] == ["task1"]
    private = client(images).post("/v1/predict", json={"inputs": [base64_png(tiny.pixels(1, 0)[0])]}).json()
    assert [one["task"] for one in private["predictions"]] == ["digits", "halves"]  # scan is for the clinic only


def test_tasks_that_cannot_take_the_input_are_skipped_with_a_reason_or_refused_when_named(
    tables: Path, client: Client
) -> None:
    server = client(tables)
    nobody = server.post("/v1/predict", json={"inputs": ["a text"]})
    assert nobody.status_code == 422 and "takes a row of numbers, received a text" in nobody.text
    named = server.post("/v1/predict", json={"inputs": ["a text"], "tasks": ["risk"]})
    assert named.status_code == 422 and "inputs[0]: task 'risk' takes a row" in named.json()["error"]["message"]


def test_a_budget_chooses_the_exit_and_early_stops_where_confident(exits: Path, client: Client) -> None:
    server, system = client(exits), pp.load(exits)
    pixels = tiny_images(1, per_class=2).tasks[0].train.inputs()
    inputs = [base64_png(one) for one in pixels]
    for cost in system.exit_costs("task1"):
        body = {"inputs": inputs, "budget": {"flops": cost.flops}}
        said = server.post("/v1/tasks/task1/predict", json=body).json()
        same(said, system, pixels, budget={"flops": cost.flops})
    said = server.post("/v1/tasks/task1/predict", json={"inputs": inputs, "early": True}).json()
    same(said, system, pixels, early=True)
    cheapest = system.exit_costs("task1")[0].flops
    files = [("files", ("a.png", png(pixels[0])))]
    one = server.post("/v1/tasks/task1/predict/files", files=files, data={"budget": f'{{"flops": {cheapest}}}'}).json()
    assert one["answers"][0]["exit"] == "branch1"
    every = server.post("/v1/predict", json={"inputs": inputs, "budget": {"flops": cheapest}}).json()
    assert [(p["answers"][0]["exit"], p["together"]) for p in every["predictions"]] == [("branch1", 1)] * 3


def test_budgets_that_cannot_be_met_say_what_the_cheapest_exit_costs(exits: Path, client: Client) -> None:
    server = client(exits)
    inputs = [base64_png(torch.zeros(3, 8, 8, dtype=torch.uint8))]
    for budget, words in (
        ({"flops": 1}, "cheapest exit is 'branch1'"),
        ({"ms": 5}, "not timed on this machine"),
        ({"flop": 1}, "budget.flop"),
        ({}, "at least one of flops, parameters and ms"),
        ({"flops": -1}, "greater than 0"),
    ):
        said = server.post("/v1/tasks/task1/predict", json={"inputs": inputs, "budget": budget})
        assert (said.status_code, words in said.json()["error"]["message"]) == (422, True), said.text


def test_tasks_are_described_with_quality_costs_and_exits(exits: Path, client: Client) -> None:
    server, system = client(exits), pp.load(exits)
    found = server.get("/v1/tasks").json()
    assert (found["method"], found["generation"]) == ("multipath", 1)
    task = found["tasks"][2]
    cost = system.cost("task2")
    assert (task["parameters"], task["added_parameters"], task["flops"]) == (
        cost.parameters, cost.added_parameters, cost.flops,
    )  # fmt: skip
    assert task["metrics"] == dict(system.entries["task2"].metrics) and task["early"]
    assert [exit["name"] for exit in task["exits"]] == ["branch1", "branch2", "branch3"]
    assert task["exits"][0]["metrics"] == dict(system.entries["task2"].exits["branch1"])
    assert server.get("/v1/tasks/task2").json() == task


def test_the_picture_names_every_component_and_who_uses_it(exits: Path, client: Client) -> None:
    found = client(exits).get("/v1/picture").json()
    system = pp.load(exits)
    for name, part in found["components"].items():
        users = [task for task in system.tasks if name in system.network.reach(task).components]
        assert part["tasks"] == users
        assert f'data-component="{name}"' in found["svg"]
