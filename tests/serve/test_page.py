"""The page in a browser: what it shows, by mouse, keyboard and name; nothing from another host; who may see what."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from serving import png

from polypath.serve.access import create_token

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
# The first box of a network in which every task takes the same first step.
SHARED = '[data-component][role=button][aria-label$="used by task0, task1, task2"]'
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """The address of `polypath serve` in a process of its own, which must end with 0 when told to stop."""
    command = [sys.executable, "-m", "polypath", "serve", str(folder), "--port", "0", *arguments]
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert " at http://127.0.0.1:" in line, line + process.stderr.read()
            yield line.rpartition(" at ")[2].strip()
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        assert process.wait(timeout=60) == 0 and rest.endswith("Stopped.\n"), rest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')")
    with api.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@contextmanager
def opened(browser: Any, url: str, **context: Any) -> Iterator[Any]:
    """A page whose requests and complaints are written down; none may go to another host, none may complain."""
    with browser.new_context(**context) as made:
        page = made.new_page()
        page.set_default_timeout(90_000)
        asked: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(url)
        yield page
        assert [one for one in asked if not one.startswith((url, "data:", "blob:"))] == []
        page.complaints = complaints


@pytest.fixture(scope="module")
def server(exits: Path) -> Iterator[str]:
    with serving(exits) as url:
        yield url


def image(tmp_path: Path) -> str:
    file = tmp_path / "a.png"
    file.write_bytes(png(torch.randint(0, 256, (3, 12, 9), generator=torch.Generator().manual_seed(0)).byte()))
    return str(file)


def test_an_image_is_answered_by_every_task_with_its_time(browser: Any, server: str, tmp_path: Path) -> None:
    with opened(browser, server) as page:
        page.locator("#tasks tbody tr").first.wait_for()
        page.locator("#file").set_input_files(image(tmp_path))
        page.locator("#outcome", has_text="one by one in").wait_for()
        answers = page.locator("[data-answer]")
        assert answers.evaluate_all("all => all.map(one => one.dataset.answer)") == ["task0", "task1", "task2"]
        for place in range(3):
            text = answers.nth(place).inner_text()
            assert " ms" in text and ("class0" in text and "class1" in text) and "%" in text
        assert page.locator("#outcome").inner_text().startswith("3 tasks answered together in ")
        page.locator("#fit").uncheck()
        page.locator("#go").click()
        page.locator("#outcome .bad", has_text="8, 8) pixels required").wait_for()
        assert answers.count() == 0
    assert [one for one in page.complaints if "422" not in one] == []


def test_tasks_paths_and_curves_are_shown_and_followed_by_mouse(browser: Any, server: str) -> None:
    with opened(browser, server) as page:
        rows = page.locator("#tasks tbody tr")
        rows.first.wait_for()
        assert rows.locator("th").all_inner_texts() == ["task0", "task1", "task2"]
        assert page.locator("#panels figure").count() == 2  # task1 and task2 have several exits
        assert page.locator("#panels figure").last.locator("circle").count() == 3
        page.locator("#chips button", has_text="task1").hover()
        assert page.locator("svg.paths.focus g.t.on").count() == 1
        page.mouse.move(0, 0)
        assert page.locator("svg.paths.focus").count() == 0
        shared = page.locator(SHARED).first
        shared.click()
        assert "shared by 3 tasks: task0, task1, task2" in page.locator("#component").inner_text()
        assert page.locator("#chips button[aria-pressed=true]").count() == 3
        page.keyboard.press("Escape")
        assert page.locator("#chips button[aria-pressed=true]").count() == 0
    assert page.complaints == []


def test_everything_can_be_reached_and_done_by_keyboard_and_has_a_name(browser: Any, server: str) -> None:
    with opened(browser, server, reduced_motion="reduce") as page:
        page.locator("#tasks tbody tr").first.wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        reached = []
        for _ in range(50):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.dataset.component || ''"))
        assert {"file", "fit", "go", "early", "budget", "map"} <= set(reached)
        assert page.locator(SHARED).first.get_attribute("data-component") in reached
        page.locator(SHARED).first.focus()
        page.keyboard.press("Enter")
        assert "shared by 3 tasks" in page.locator("#component").inner_text()
        # What a screen reader is told: every control has a name, results are announced.
        nameless = """() => [...document.querySelectorAll('button, input, select, textarea, [role=button], svg[role]')]
            .filter(one => one.checkVisibility() && !(one.labels?.length || one.innerText?.trim()
                || one.getAttribute('aria-label') || one.getAttribute('aria-labelledby'))).map(one => one.outerHTML)"""
        assert page.evaluate(nameless) == []
        assert page.locator("#outcome").get_attribute("aria-live") == "polite"
        levels = page.locator("h1, h2").evaluate_all("all => all.filter(h => h.checkVisibility()).map(h => h.tagName)")
        assert levels[0] == "H1" and set(levels[1:]) == {"H2"}
    assert page.complaints == []


def test_it_fits_a_phone_and_follows_the_dark_scheme(browser: Any, server: str, tmp_path: Path) -> None:
    backgrounds, shades = {}, []
    for scheme in ("light", "dark"):
        with opened(browser, server, color_scheme=scheme, viewport={"width": 360, "height": 740}) as page:
            page.locator("#tasks tbody tr").first.wait_for()
            page.locator("#file").set_input_files(image(tmp_path))
            page.locator("#outcome", has_text="one by one in").wait_for()
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360  # nothing sticks out; wide parts scroll for themselves
            shades.append(
                page.evaluate("getComputedStyle(document.querySelector('.scroll:not(.map)')).backgroundImage")
            )
            backgrounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert page.complaints == []
    assert backgrounds == {"light": "rgb(251, 251, 253)", "dark": "rgb(14, 18, 25)"}
    assert "rgba(20, 24, 40, 0.2)" in shades[0] and "rgba(0, 0, 0, 0.75)" in shades[1]  # seen on either


def test_numbers_lose_no_digits_before_the_decimal_point(browser: Any, server: str) -> None:
    with opened(browser, server) as page:
        module = page.evaluate("document.querySelector('script[type=module]').src.replace('app.js', 'dom.js')")
        said = "import('{}').then((dom) => [0.5, -0.06123, 12.345, 547775.3, -1234].map(dom.shown))"
        assert page.evaluate(said.format(module)) == ["0.500", "-0.06123", "12.35", "547,775", "-1,234"]
        assert page.evaluate(f"import('{module}').then((dom) => dom.written(123456.7, 5))") == "123,457"


def test_a_row_is_typed_and_a_task_is_seen_only_with_a_token_of_its_group(
    browser: Any, tables: Path, gaps: Path, categories: Path, images: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.json"
    guest, nurse = create_token(tokens, "guest"), create_token(tokens, "nurse", ["clinic"])
    with serving(tables) as url, opened(browser, url) as page:
        page.locator("[data-column=age]").fill("30")
        page.locator("[data-column=weight]").fill("")
        page.locator("#go").click()
        page.locator("#outcome .bad", has_text="weight: a number is required").wait_for()
        page.locator("[data-column=weight]").fill("80.5")
        page.locator("[data-column=weight]").press("Enter")
        page.locator('[data-answer="dose"]').wait_for()
        assert page.locator('[data-answer="risk"]').count() == 1
    assert page.complaints == []
    with serving(gaps) as url, opened(browser, url) as page:
        assert page.locator("[data-column=age]").get_attribute("placeholder") == "none: the mean"
        page.locator("[data-column=age]").fill("")  # nothing, which this task takes
        page.locator("#go").click()
        page.locator('[data-answer="risk"]').wait_for()
    assert page.complaints == []
    with serving(categories) as url, opened(browser, url) as page:
        page.locator("select[data-column=smoker]").select_option("yes")
        page.locator("#go").click()
        page.locator('[data-answer="risk"]').wait_for()
    assert page.complaints == []
    with serving(images, "--tokens", str(tokens)) as url, opened(browser, url) as page:
        page.locator("#token").fill("wrong")
        page.locator("#token").press("Enter")
        page.locator("#login-note", has_text="this token is not known here").wait_for()
        for token, names in ((guest, ["digits", "halves"]), (nurse, ["digits", "scan", "halves"])):
            page.locator("#token").fill(token)
            page.locator("#token").press("Enter")
            page.locator("#tasks tbody tr").nth(len(names) - 1).wait_for()
            assert page.locator("#tasks tbody th").all_inner_texts() == names
            page.evaluate("sessionStorage.clear()")
            page.reload()
            page.locator("#token").wait_for()
    assert [one for one in page.complaints if "401" not in one] == []
