"""The page: whole, self-contained, the same for the same records, and honest about what is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from polypath.core.errors import CorruptError
from polypath.core.result import Lifelong
from polypath.report.page import write_report
from polypath.report.sections import duplicates, facts

VOID = {"meta", "br", "hr", "img", "input", "link", "source", "wbr"}


class Page(HTMLParser):
    """A parsed page: every element closed in order, attributes and texts by tag."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.problems, self.words, self.by_tag = [], [], [], [], {}
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.problems.append(f"<{tag}> names an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)
            if self.open:
                self.by_tag.setdefault(self.open[-1], []).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, name, tag=None):
        return [attrs[name] for t, attrs in self.tags if name in attrs and tag in (None, t)]


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def full(run_folder):
    return write_report(run_folder).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def full_page(full):
    return Page(full)


def test_every_element_is_closed_in_order(full_page):
    assert full_page.problems == []
    assert full_page.tags[0][0] == "html"


def test_nothing_is_loaded_from_outside(full, full_page):
    assert "http:" not in full and "https:" not in full and "@import" not in full
    loads = [v for name in ("src", "href", "xlink:href", "srcset", "data", "action") for v in full_page.values(name)]
    assert loads and all(value.startswith(("#", "data:image/png;base64,")) for value in loads)
    assert re.findall(r"url\((?!#)", full) == []
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in full_page.tags}
    (policy,) = [
        a["content"] for t, a in full_page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_every_reference_has_its_target(full_page):
    ids = full_page.values("id")
    assert len(ids) == len(set(ids))
    wanted = {v[1:] for v in full_page.values("href") if v.startswith("#")}
    wanted |= {i for name in ("aria-labelledby", "aria-describedby") for v in full_page.values(name) for i in v.split()}
    assert wanted <= set(ids)


def test_headings_descend_by_one(full_page):
    levels = [int(tag[1]) for tag, _ in full_page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_tables_have_captions_and_scoped_headers_and_pictures_have_names(full_page):
    tags = [tag for tag, _ in full_page.tags]
    assert tags.count("table") == tags.count("caption") > 5
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in full_page.tags if tag == "th")
    pictures = [a for tag, a in full_page.tags if tag == "svg" and a.get("aria-hidden") != "true"]
    assert len(pictures) > 20 and all(a["role"] == "img" and a["aria-labelledby"] for a in pictures)
    assert all(
        attrs.get("tabindex") == "0" for tag, attrs in full_page.tags if "scroll" in attrs.get("class", "").split()
    )


def test_a_complete_run_shows_every_section(full_page):
    assert full_page.by_tag["h2"] == [
        "Headline", "Per task", "Learning curves", "Accuracy matrix", "Costs", "Sharing", "Paths", "CKA", "Data",
        "Configuration", "Environment", "Reproduce",
    ]  # fmt: skip
    text = full_page.text
    assert "Not complete" not in text
    assert "polypath run part/cifar100 --quick --seeds 3 --out runs/again" in text
    assert "Duplicates train test, all tasks together:" in text
    for words in ("method.modules", "versions.torch", "2 x test CPU", "0123456789abcdef", "layer 12345", "chance"):
        assert words in text
    # ten buttons to follow a task, none pressed
    assert full_page.values("aria-pressed", "button") == ["false"] * 10


def test_the_table_holds_the_values_of_the_records(full_page, run_folder):
    values = [json.loads((run_folder / "single" / f"seed-{s}" / "results.json").read_text()) for s in range(3)]
    numbers = [v["tasks"][4]["test"]["accuracy"] for v in values]
    mean = sum(numbers) / 3
    sd = (sum((x - mean) ** 2 for x in numbers) / 2) ** 0.5
    assert f"{mean:.3f} ± {sd:.3f}" in full_page.by_tag["td"]


def test_the_same_records_give_the_same_bytes(samples, tmp_path):
    """In another folder and in another process, which hashes strings otherwise."""
    one, two = (samples.write(tmp_path / n, [samples.sample("a", 0, tasks=("t",), with_cka=True)]) for n in ("x", "y"))
    before = write_report(one).read_bytes()
    code = f"from polypath.report.page import write_report; write_report({str(two)!r})"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)
    assert (two / "report.html").read_bytes() == before
    assert (two / "summary.json").read_bytes() == (one / "summary.json").read_bytes()


def test_names_are_escaped_everywhere(samples, make_run):
    evil = "<script>alert(1)</script>&\"'"
    result = samples.sample(
        evil.replace("/", ""), 0, tasks=(evil, "$b$ <i>"), recipe=evil, suite=evil, environment={evil: evil}
    )
    run = make_run([result], {"recipe": evil, evil: {evil: [evil]}})
    page = page_of(run)
    assert page.problems == []
    assert [tag for tag, _ in page.tags].count("script") == 1 and "i" not in page.open
    assert evil in page.by_tag["h1"] and evil in page.by_tag["button"] and "$b$ <i>" in page.by_tag["th"]
    assert "alert(1)</script>" not in (run / "report.html").read_text()


def test_an_unfinished_run_still_has_a_page_that_says_so(samples, make_run):
    run = make_run([], {"recipe": "part/digits", "variants": ["parallel", "single"], "main": "parallel", "seeds": 2})
    (run / "parallel" / "seed-0").mkdir(parents=True)
    page = page_of(run)
    assert page.problems == [] and page.by_tag["h1"] == ["part/digits"]
    for words in (
        "No variant has finished, so there is nothing to report yet.",
        "Variant parallel: no finished result (it was started, and stopped or failed).",
        "Variant single: no finished result (it was not started).",
        "No test value is recorded.", "No learning curves are recorded.", "No costs are recorded.",
        "No paths are recorded.",
        "No sharing profile is recorded.", "CKA was not computed in this run.", "No facts about the data are recorded.",
        "No environment is recorded.", "polypath run part/digits --out runs/again",
    ):  # fmt: skip
        assert words in page.text


def test_missing_seeds_are_on_the_page(samples, make_run):
    results = [
        samples.sample("a", 0, tasks=("t",)),
        samples.sample("a", 1, tasks=("t",)),
        samples.sample("b", 1, tasks=("t",)),
    ]
    page = page_of(make_run(results))
    assert "Not complete" in page.text and "Variant b, seed 0: not started." in page.text


def test_a_bare_record_makes_a_page(samples, make_run):
    result = samples.sample(
        "only", 5, tasks=("t",), curves=[], sharing={}, paths=None, lifelong=Lifelong(), environment={}
    )
    bare = result.tasks[0].changed(
        test={"mse": 21.5}, confusion=None, labels=None, facts={}, examples={}, activated=None
    )
    page = page_of(make_run([result.changed(tasks=[bare])]))
    assert page.problems == []
    assert "only reaches a mean test mse of 21.50 over one seed." in page.text
    assert "one seed, no spread" in page.text and "test mse (lower is better)" in page.text
    assert "chance" not in page.text and "script" not in {tag for tag, _ in page.tags}
    assert "No facts about the data are recorded." in page.text and "No configuration is recorded." in page.text


def test_a_mixed_suite_has_a_card_and_a_picture_for_each_metric(samples, make_run):
    results = []
    for variant, accuracy, mse in (("a", 0.9, 12.0), ("b", 0.8, 10.0)):
        result = samples.sample(variant, 0, tasks=("s", "t"))
        tasks = [result.tasks[0].changed(test={"accuracy": accuracy}), result.tasks[1].changed(test={"mse": mse})]
        results.append(result.changed(tasks=tasks))
    page = page_of(make_run(results))
    assert "a is ahead of b by 0.100 in mean test accuracy" in page.text
    assert "b is ahead of a by 2.000 in mean test mse (lower is better)" in page.text
    assert {"accuracy-0-title", "accuracy-1-title"} <= set(page.values("id"))
    assert {"mean (accuracy)", "mean (mse)"} <= set(page.by_tag["th"])


def test_a_broken_record_leaves_the_old_page(samples, make_run):
    run = make_run([samples.sample("a", 0, tasks=("t",))])
    before = write_report(run).read_bytes()
    (run / "a" / "seed-0" / "results.json").write_text("{")
    with pytest.raises(CorruptError, match="results.json"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert sorted(p.name for p in run.iterdir()) == ["a", "report.html", "summary.json"]


def test_facts_that_hold_for_all_tasks_are_said_once(samples):
    result = samples.sample("a", 0, tasks=("s", "t"))
    tasks = [
        task.changed(facts={"licence": "free", "dataset": name, "examples": {"train": 1}, "duplicates_train_test": n})
        for task, name, n in zip(result.tasks, ("x", "y"), (2, 3), strict=True)
    ]
    results = [result.changed(tasks=tasks)]
    grid = facts(results)
    assert grid.header == ("task", "train examples", "test examples", "dataset", "duplicates train test")
    assert grid.rows == (("s", "5,000", "1,000", "x", "2"), ("t", "5,000", "1,000", "y", "3"))
    assert grid.notes[0] == "All tasks: licence free."
    assert duplicates(results) == [("duplicates train test", 5)]
