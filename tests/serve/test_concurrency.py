"""Many requests at once: shared batches with everybody's own answers, limits, reload and stop without a dropped one."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from serving import HERE, table

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.serve import Limits, create_app
from polypath.serve.access import NOBODY, create_token
from polypath.serve.batching import Batcher, Question
from polypath.serve.live import Generation


@asynccontextmanager
async def running(folder: Path, tokens: Path | None = None, **limits: Any) -> AsyncIterator[tuple[Any, Any]]:
    """The service of a running application, and a client; no request times out."""
    app = create_app(folder, tokens=tokens, limits=Limits.of(limits))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=HERE, timeout=None) as client:
            yield app.state.service, client


def slowly(service: Any, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.05) -> list[int]:
    """Makes every forward take that long; returns the list that the sizes of batches are written to."""
    from polypath.serve import batching

    sizes: list[int] = []
    before = batching._said

    def slow(generation: Generation, question: Question, stored: torch.Tensor, budget: Any) -> Any:
        sizes.append(len(stored))
        time.sleep(seconds)
        return before(generation, question, stored, budget)

    monkeypatch.setattr(batching, "_said", slow)
    return sizes


def test_concurrent_requests_share_batches_and_everybody_gets_his_own_answer(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (100 * torch.rand(48, 2, generator=torch.Generator().manual_seed(0))).tolist()
    asked = [("risk" if n % 2 else "dose", rows[n : n + 1 + n % 3]) for n in range(45)]
    system = pp.load(tables)

    async def all_at_once() -> tuple[list[Any], list[int]]:
        async with running(tables, workers=1) as (service, client):
            sizes = slowly(service, monkeypatch, 0.02)
            calls = [client.post(f"/v1/tasks/{task}/predict", json={"inputs": inputs}) for task, inputs in asked]
            return [one.json() for one in await asyncio.gather(*calls)], sizes

    answers, sizes = asyncio.run(all_at_once())
    assert len(sizes) < 20 and sum(sizes) == sum(len(inputs) for _, inputs in asked)
    for (task, inputs), said in zip(asked, answers, strict=True):
        expected = system.predict(task, inputs)
        assert len(said["answers"]) == len(inputs)
        for place, answer in enumerate(said["answers"]):
            if expected.values is not None:
                assert answer["values"] == pytest.approx(expected.values[place].tolist(), rel=1e-5)
            else:
                assert expected.probabilities is not None
                found = list(answer["probabilities"].values())
                assert found == pytest.approx(expected.probabilities[place].tolist(), abs=1e-5)


@pytest.mark.parametrize(("forward_s", "limit_ms", "waits_s"), [(0.2, 100, 0.1), (0.1, 5000, 0.1)])
def test_a_single_client_never_waits_for_others_and_one_after_a_crowd_at_most_a_forward_or_the_limit(
    tables: Path, monkeypatch: pytest.MonkeyPatch, forward_s: float, limit_ms: float, waits_s: float
) -> None:
    generation = Generation(pp.load(tables), 1, guarded=False)
    stored = torch.zeros(1, 2)
    slowly(None, monkeypatch, forward_s)

    async def ask() -> tuple[list[float], list[int]]:
        sizes: list[int] = []
        batcher = Batcher(Limits(max_wait_ms=limit_ms, workers=1, max_batch=8), sizes.append)
        asked = partial(batcher.ask, generation, Question(("risk",)), stored)
        alone = [(await asked()).ms for _ in range(2)][1]
        await asyncio.gather(*(asked() for _ in range(5)))
        # The batch before was shared, so this one waits for company that does not come.
        found = [alone, (await asked()).ms, (await asked()).ms]
        batcher.close()
        return found, sizes

    (alone, after_a_crowd, then), sizes = asyncio.run(ask())
    assert sizes == [1, 1, 1, 4, 1, 1]
    assert after_a_crowd >= 1000 * (forward_s + waits_s) - 2 and max(alone, then) < after_a_crowd


def test_a_request_that_fails_does_not_fail_those_in_its_batch(tables: Path) -> None:
    generation = Generation(pp.load(tables), 1, guarded=False)

    async def ask() -> list[Any]:
        batcher = Batcher(Limits(workers=1))
        question = Question(("risk",))
        wrong = torch.zeros(1, 3)  # three columns: cannot even be put beside the others
        asked = [batcher.ask(generation, question, rows) for rows in (torch.zeros(1, 2), wrong, torch.ones(2, 2))]
        found = await asyncio.gather(*asked, return_exceptions=True)
        batcher.close()
        return found

    first, wrong, last = asyncio.run(ask())
    assert isinstance(wrong, Exception)
    assert (len(first.rows["risk"]), len(last.rows["risk"])) == (1, 2)


def test_batches_hold_at_most_max_batch_inputs(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> list[int]:
        async with running(tables, workers=1, max_batch=4, max_rows=6) as (service, client):
            sizes = slowly(service, monkeypatch)
            calls = [client.post("/v1/tasks/risk/predict", json={"inputs": [[1, 2]] * n}) for n in (1, 3, 3, 6, 1, 1)]
            assert {one.status_code for one in await asyncio.gather(*calls)} == {200}
            return sizes

    sizes = asyncio.run(ask())
    assert sum(sizes) == 15 and max(sizes) == 6 and all(size <= 4 for size in sizes if size != 6)


def test_past_the_limits_of_concurrency_requests_get_503_and_a_token_429(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens.json"
    headers = [{"Authorization": f"Bearer {create_token(tokens, name)}"} for name in ("a", "b")]

    async def ask() -> list[Any]:
        async with running(tables, tokens, workers=1, max_concurrency=4, max_per_token=3) as (service, client):
            slowly(service, monkeypatch, 0.2)
            body = {"inputs": [[1, 2]]}
            calls = [client.post("/v1/tasks/risk/predict", json=body, headers=headers[n]) for n in (0, 0, 0, 0, 1, 1)]
            found = await asyncio.gather(*calls)
            again = await client.post("/v1/tasks/risk/predict", json=body, headers=headers[0])
            return [*found, again]

    found = asyncio.run(ask())
    assert [one.status_code for one in found] == [200, 200, 200, 429, 200, 503, 200]
    assert found[3].json()["error"]["code"] == "too_many_requests" and found[3].headers["retry-after"] == "1"
    assert found[5].json()["error"]["code"] == "busy" and found[5].headers["retry-after"] == "1"


def test_a_request_that_waits_too_long_or_arrives_too_slowly_is_let_go(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drip() -> AsyncIterator[bytes]:
        yield b'{"inputs": '
        await asyncio.sleep(0.5)
        yield b"[[1, 2]]}"

    async def ask() -> list[int]:
        async with running(tables, workers=1, answer_s=0.1, body_s=0.2) as (service, client):
            slowly(service, monkeypatch, 0.4)
            json = {"Content-Type": "application/json"}
            late = await client.post("/v1/tasks/risk/predict", json={"inputs": [[1, 2]]})
            slow = await client.post("/v1/tasks/risk/predict", content=drip(), headers=json)
            assert service.measures.in_progress._value.get() == 0
            return [late.status_code, slow.status_code]

    assert asyncio.run(ask()) == [503, 408]


def test_a_grown_system_is_picked_up_while_requests_run_and_none_is_dropped(tables: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tables, tmp_path / "system")
    before = pp.load(folder).predict("risk", [[30.0, 80.0]]).probabilities
    assert before is not None

    async def ask() -> tuple[set[int], list[Any], int]:
        async with running(folder, reload_s=0.02) as (service, client):
            statuses: set[int] = set()
            answers: list[Any] = []
            stop = asyncio.Event()

            async def keep_asking(task: str) -> None:
                while not stop.is_set():
                    said = await client.post(f"/v1/tasks/{task}/predict", json={"inputs": [[30.0, 80.0]]})
                    statuses.add(said.status_code)
                    if task == "risk":
                        answers.append(list(said.json()["answers"][0]["probabilities"].values()))

            asking = [asyncio.create_task(keep_asking(task)) for task in ("risk", "risk", "dose")]
            assert (await client.post("/v1/tasks/later/predict", json={"inputs": [[1, 2]]})).status_code == 404
            await asyncio.to_thread(lambda: pp.load(folder).learn(table("later")).save(folder))
            await _until(lambda: service.live.now.number == 2)
            new = await client.post("/v1/tasks/later/predict", json={"inputs": [[1, 2]]})
            stop.set()
            await asyncio.gather(*asking)
            statuses.add(new.status_code)
            ready = (await client.get("/ready")).json()
            return statuses, answers, ready["generation"]

    statuses, answers, generation = asyncio.run(ask())
    assert statuses == {200} and generation == 2 and len(answers) > 5
    for found in answers:  # learned exactly: the old task answers as before
        assert found == pytest.approx(before[0].tolist(), abs=1e-6)


def test_a_task_whose_components_are_gone_is_answered_by_the_new_state(tables: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tables, tmp_path / "system")

    async def ask() -> list[Any]:
        # Nobody looks for changes for a minute; the first question finds its component file gone.
        async with running(folder, reload_s=60) as (service, client):
            system = pp.load(folder)
            system.remove("dose")
            with torch.no_grad():
                for name, value in system.network.named_parameters():
                    if "fc1" in name:
                        system.load_all()
                        value += 0.5
            system.save(folder)
            body = {"inputs": [[1, 2]]}
            return [await client.post(f"/v1/tasks/{task}/predict", json=body) for task in ("risk", "dose")]

    kept, removed = asyncio.run(ask())
    assert kept.status_code == 200
    assert removed.status_code == 404 and removed.json()["error"]["code"] == "unknown_task"


def test_a_change_that_cannot_be_read_leaves_the_old_state_answering(
    tables: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(tables, tmp_path / "system")

    async def ask() -> tuple[int, int, int]:
        async with running(folder, reload_s=0.02) as (service, client):
            (folder / "manifest.json").write_text("{")
            await _until(lambda: service.live.failures == 1)
            await asyncio.sleep(0.1)  # several looks at the same file count once
            said = await client.post("/v1/tasks/risk/predict", json={"inputs": [[1, 2]]})
            failures = service.live.failures
            shutil.copy(tables / "manifest.json", folder / "manifest.json")
            await _until(lambda: service.live.now.number == 2)
            return said.status_code, failures, service.live.now.number

    assert asyncio.run(ask()) == (200, 1, 2)
    assert "the one before goes on answering" in caplog.text


def test_a_server_that_is_stopping_refuses_new_questions_and_finishes_the_old(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> list[Any]:
        async with running(tables, workers=1) as (service, client):
            slowly(service, monkeypatch, 0.2)
            body = {"inputs": [[1, 2]]}
            old = asyncio.create_task(client.post("/v1/tasks/risk/predict", json=body))
            await asyncio.sleep(0.05)
            service.draining = True
            new = await client.post("/v1/tasks/risk/predict", json=body)
            return [new, await client.get("/ready"), await client.get("/health"), await old]

    new, ready, health, old = asyncio.run(ask())
    assert [one.status_code for one in (new, ready, health, old)] == [503, 503, 200, 200]
    assert new.json()["error"]["code"] == "stopping" and ready.json()["status"] == "stopping"


def test_the_metrics_count_what_happened(tables: Path) -> None:
    async def ask() -> str:
        async with running(tables) as (_, client):
            await client.post("/v1/tasks/risk/predict", json={"inputs": [[1, 2]] * 3})
            await client.post("/v1/tasks/riks/predict", json={"inputs": [[1, 2]]})
            await client.get("/v1/tasks/<made up>")
            found: str = (await client.get("/metrics")).text
            return found

    text = asyncio.run(ask())
    assert 'polypath_predictions_total{task="risk"} 3.0' in text
    assert 'polypath_requests_total{route="/v1/tasks/{task}/predict",status="404"} 1.0' in text
    assert 'polypath_refused_total{code="unknown_task"} 2.0' in text
    assert 'polypath_batch_inputs_bucket{le="4.0"} 1.0' in text
    assert "polypath_generation 1.0" in text and "made up" not in text and "riks" not in text


def test_a_task_that_is_private_again_after_a_reload_is_closed_at_once(tables: Path) -> None:
    generation = Generation(pp.load(tables), 1, guarded=False)
    assert generation.permitted(NOBODY) == ["risk", "dose"]
    generation.access["risk"] = frozenset({"clinic"})
    assert generation.permitted(NOBODY) == ["dose"]


def test_limits_are_checked() -> None:
    with pytest.raises(InvalidInput, match="max_rows"):
        Limits.of({"max_rows": 0})


async def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "still not so"
        await asyncio.sleep(0.01)
