"""A RUN folder is read whole or refused with the name of the file at fault."""

from __future__ import annotations

import json

import pytest

from polypath.core.errors import CorruptError, InvalidInput
from polypath.report.records import read_results, read_run


def test_order_is_main_first_then_the_planned_order_then_seeds_as_numbers(samples, make_run):
    results = [samples.sample(v, s, tasks=("a",)) for v in ("z", "b") for s in (10, 2)]
    run = make_run(results, {"main": "b", "variants": ["z", "b"]})
    assert [(r.variant, r.seed) for r in read_run(run).results] == [("b", 2), ("b", 10), ("z", 2), ("z", 10)]


def test_a_complete_run_misses_nothing(run_folder):
    records = read_run(run_folder)
    assert records.missing == ()
    assert records.variants == ("parallel", "sequential", "single")
    assert len(records.results) == 9 and len(records.tasks) == 10
    assert [r.seed for r in records.of("single")] == [0, 1, 2]


def test_missing_seeds_and_failed_variants_are_named(samples, make_run):
    run = make_run([samples.sample("a", s, tasks=("t",)) for s in (0, 1)], {"variants": ["a", "b", "c"], "seeds": 3})
    (run / "b" / "seed-0").mkdir(parents=True)
    (run / "a" / "seed-2").mkdir()
    assert read_run(run).missing == (
        "Variant a, seed 2: started, but not finished.",
        "Variant b: no finished result (it was started, and stopped or failed).",
        "Variant c: no finished result (it was not started).",
    )


def test_seeds_that_only_one_variant_has_are_named_without_a_plan(samples, make_run):
    run = make_run(
        [
            samples.sample("a", 0, tasks=("t",)),
            samples.sample("a", 4, tasks=("t",)),
            samples.sample("b", 4, tasks=("t",)),
        ]
    )
    assert read_run(run).missing == ("Variant b, seed 0: not started.",)


def test_absent_tasks_and_test_values_are_named(samples, make_run):
    one, two = samples.sample("a", 0, tasks=("s", "t")), samples.sample("a", 1, tasks=("s",))
    two = two.changed(tasks=[two.tasks[0].changed(test={})])
    assert read_run(make_run([one, two])).missing == (
        "Variant a, seed 1: task t is absent.",
        "Variant a, seed 1: task s has no test value.",
    )


@pytest.mark.parametrize("text", ["", "{", "\x00\x01", '{"recipe": 1}', "[]", "null"])
def test_a_corrupt_or_foreign_record_is_refused_by_name(samples, make_run, text):
    run = make_run([samples.sample("a", 0, tasks=("t",))])
    path = run / "a" / "seed-0" / "results.json"
    path.write_text(text)
    with pytest.raises(CorruptError, match="results.json"):
        read_run(run)


def test_a_record_that_is_not_text_is_refused_by_name(samples, make_run):
    run = make_run([samples.sample("a", 0, tasks=("t",))])
    (run / "a" / "seed-0" / "results.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(CorruptError, match="results.json cannot be read as JSON"):
        read_run(run)


def test_the_message_names_the_field(samples, make_run):
    run = make_run([samples.sample("a", 0, tasks=("t",))])
    path = run / "a" / "seed-0" / "results.json"
    values = json.loads(path.read_text())
    values["tasks"][0]["parameters"] = "many"
    path.write_text(json.dumps(values))
    with pytest.raises(CorruptError, match=r"tasks\.0\.parameters.*received 'many'"):
        read_run(run)


def test_a_record_in_another_seeds_folder_is_refused(samples, make_run):
    run = make_run([samples.sample("a", 0, tasks=("t",))])
    (run / "a" / "seed-0").rename(run / "a" / "seed-1")
    with pytest.raises(CorruptError, match="variant 'a', seed 0, but lies in the folder of variant 'a', seed 1"):
        read_run(run)


def test_two_tasks_of_one_name_are_refused(samples, make_run):
    result = samples.sample("a", 0, tasks=("t",))
    with pytest.raises(CorruptError, match=r"two tasks have one name: \['t'\]"):
        read_run(make_run([result.changed(tasks=[result.tasks[0], result.tasks[0]])]))


def test_results_of_two_recipes_are_refused(samples, make_run):
    one = samples.sample("a", 0, tasks=("t",))
    with pytest.raises(InvalidInput, match=r"several recipes \(other/thing, part/cifar100\)"):
        read_run(make_run([one, samples.sample("b", 0, tasks=("t",), recipe="other/thing")]))


def test_a_config_that_is_not_an_object_is_refused(samples, make_run):
    run = make_run([samples.sample("a", 0, tasks=("t",))])
    (run / "config.json").write_text("[1]")
    with pytest.raises(CorruptError, match=r"config\.json: a JSON object is required, received list"):
        read_run(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no such folder"):
        read_run(tmp_path / "absent")
    with pytest.raises(InvalidInput, match=r"neither config\.json nor"):
        read_run(tmp_path)


def test_read_results_goes_to_any_depth(samples, tmp_path):
    samples.write(tmp_path / "x" / "y", [samples.sample("a", 3, tasks=("t",))])
    assert [r.seed for r in read_results(tmp_path)] == [3]


def test_the_folder_of_a_single_run_is_read_too(samples, tmp_path):
    run = samples.write(tmp_path, [samples.sample("a", 3, tasks=("t",))]) / "a" / "seed-3"
    records = read_run(run)
    assert [(r.variant, r.seed) for r in records.results] == [("a", 3)] and records.missing == ()
    assert records.environment == {"machine": "2 x test CPU", "commit": "0123456789abcdef", "threads": 2}
