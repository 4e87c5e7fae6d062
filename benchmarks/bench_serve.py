"""The server: right answers under load, throughput beside a bare FastAPI application, memory, bad requests.

Sections (`--sections`): `threads` 32 client threads ask ten tasks at once and get the serial answers; `table`, `image`
throughput against bare_app.py around the same module, one client and 32, in turns; `memory` 20,000 requests; `together`
ten tasks on one input against ten separate questions, by method; `bad` 5,000 generated bad requests. Targets: at least
0.8 of the bare server from one client, at least 1.5 times it from 32 with a model of 5 ms or more at batch 1; flat
memory; no 5xx. Batching can pay where a forward of many costs less than as many forwards of one, which
`forward_ms_by_batch` shows: in `table`, whose weights are read from memory once for all, and not in `image`, whose
convolutions keep a core busy with one image. Sections that are not run keep the figures of the record; each names the
commit, the load and the cores it was measured with.
Run: python benchmarks/bench_serve.py
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from serving import (
    bare_server,
    built,
    cpu_seconds,
    crowd,
    image_task,
    percentiles,
    polypath_server,
    resident_bytes,
    rows,
    storm,
    table_task,
)
from side_by_side import interleaved, ratio, write_record

import polypath as pp
from polypath.testing import tiny_images
from polypath.train.environment import environment

RECORD = Path(__file__).parents[1] / "docs" / "results" / "benchmarks" / "serve.json"
TEN = [f"task{number}" for number in range(10)]
CONV = {"kind": "conv", "blocks": [[16, 16], [32, 32]], "dense": [64], "norm": "batch"}
# Ten tasks of every kind of network. Small: what is measured is what sharing saves, a ratio.
ONCE: dict[str, Any] = {"epochs": 1, "batch": 8, "device": "cpu", "precision": "32-true", "progress": False}
METHODS: dict[str, dict[str, Any]] = {
    "multipath": {"backbone": CONV, "cuts": ["conv2", "conv4", "fc1"]},
    "part": {"modules": 12, "selected": 4, "width": 8},
    "rsn2": {"backbone": CONV, "share": 0.1},
    "dfcnn": {"backbone": {**CONV, "norm": "none"}},
    "hard_sharing": {"backbone": CONV},
    "single": {"backbone": CONV},
}


def main() -> None:
    """Measure the sections that are asked for and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    sections = {"threads": threads, "table": table, "image": image, "memory": memory, "together": together, "bad": bad}
    parser.add_argument("--sections", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=20_000, help="of the memory section")
    parser.add_argument("--bad", type=int, default=5_000, help="bad requests, a third of them images")
    parser.add_argument("--out")
    args = parser.parse_args()
    held = Path(args.out or RECORD.parent) / RECORD.name
    figures = json.loads(held.read_text())["figures"] if held.exists() else {}
    for name in args.sections:
        with tempfile.TemporaryDirectory() as folder:
            began = os.times()
            figures[name] = sections[name](Path(folder) / "system", args)
            ended = os.times()
            facts = environment(torch.device("cpu"), "32-true", torch.get_num_threads())
            figures[name]["measured"] = {
                "commit": facts["commit"],
                "cpu": facts["cpu"],
                "cores": facts["cores"],
                "load_average": round(os.getloadavg()[0], 1),
            }
            print(name, "wall", round(ended.elapsed - began.elapsed), "s", file=sys.stderr)
        command = "python benchmarks/bench_serve.py"
        write_record("serve", {key: figures[key] for key in sections if key in figures}, command, args.out)


def question(task: str, inputs: list[Any]) -> tuple[str, bytes]:
    """Path and body that ask one task."""
    return f"/v1/tasks/{task}/predict", json.dumps({"inputs": inputs}).encode()


def threads(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """32 client threads ask ten tasks at once; every answer is compared with `System.predict`, one at a time."""
    built("hard_sharing", [table_task(name) for name in TEN], folder, backbone={"kind": "mlp", "hidden": [256, 128]})
    system = pp.load(folder)
    data = rows(640)
    with polypath_server(folder) as url:
        asked = [question(TEN[number % 10], [data[number]]) for number in range(len(data))]
        _, latencies, answers = crowd(url, 32, len(asked), lambda number: asked[number], keep=True)
    off, wrong, batches = 0.0, 0, []
    for number, said in enumerate(answers):
        expected = system.predict(TEN[number % 10], [data[number]])
        assert expected.probabilities is not None and expected.labels is not None
        (answer,) = said["answers"]
        found = torch.tensor(list(answer["probabilities"].values()))
        off = max(off, float((found - expected.probabilities[0]).abs().max()))
        wrong += answer["label"] != expected.labels[0]
        batches.append(said["batch"])
    figures = {"requests": len(answers), "wrong_labels": wrong, "largest_difference": off, "target_difference": 1e-5}
    return {**figures, "mean_batch": round(statistics.mean(batches), 2), **percentiles(latencies)}


def table(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """An MLP on rows whose weights do not fit into a cache: batching reads them once for all."""
    settings = {"backbone": {"kind": "mlp", "hidden": [5000, 3600]}}
    built("hard_sharing", [table_task("one")], folder, **settings)
    bodies = [question("one", [row])[1] for row in rows(64)]
    return {"network": settings["backbone"], **_beside(folder, bodies, rows(1)[0], args.rounds)}


def image(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """A convolutional network on 32 x 32 images as PNG in base64: a single image already keeps a core busy."""
    from PIL import Image

    settings = {"backbone": {"kind": "conv", "blocks": [[64, 64], [128, 128]], "dense": [256], "norm": "batch"}}
    built("hard_sharing", [image_task("one")], folder, **settings)
    stream = torch.Generator().manual_seed(0)
    encoded = []
    for _ in range(16):
        out = io.BytesIO()
        Image.fromarray(torch.randint(0, 256, (32, 32, 3), generator=stream).byte().numpy()).save(out, "PNG")
        encoded.append(base64.b64encode(out.getvalue()).decode())
    bodies = [question("one", [one])[1] for one in encoded]
    pixels = torch.randint(0, 256, (3, 32, 32), generator=stream).byte()
    return {"network": settings["backbone"], **_beside(folder, bodies, pixels, args.rounds)}


def _beside(folder: Path, bodies: list[bytes], example: Any, rounds: int) -> dict[str, Any]:
    """Throughput of polypath over that of the bare server, in turns within every round.

    On a busy machine a server with 32 running threads gets a larger share of the processor than one with two; the
    processor time a request takes is the same there as on an idle one.
    """
    system = pp.load(folder)
    module, preprocess = system.extract("one"), system.tasks["one"].preprocess
    inputs = preprocess.encode(preprocess.decode([example]))
    by_batch = {}
    with torch.inference_mode():
        for batch in (1, 2, 4, 8, 16, 32):
            many = inputs.repeat(batch, *[1] * (inputs.dim() - 1))
            seconds = interleaved({"many": lambda many=many: module(many)}, 10)["many"]
            by_batch[str(batch)] = round(1000 * statistics.median(seconds), 3)
    figures: dict[str, Any] = {"forward_ms_by_batch": by_batch, "rounds": rounds}
    with polypath_server(folder) as ours, bare_server(folder, "one") as bare:
        for clients, requests in ((1, 30), (32, 192)):
            seen: dict[str, list[float]] = {"polypath": [], "bare": []}
            batches: list[int] = []

            def run(
                name: str, url: str, path: str, seen: Any = seen, batches: Any = batches, n: Any = (clients, requests)
            ) -> None:
                latencies, answers = storm(url, *n, lambda number: (path, bodies[number % len(bodies)]))
                seen[name] += latencies
                batches += [json.loads(one)["batch"] for one in answers] if name == "polypath" else []

            before = {"polypath": cpu_seconds(ours), "bare": cpu_seconds(bare)}
            seconds = interleaved(
                {
                    "polypath": lambda run=run: run("polypath", ours, "/v1/tasks/one/predict"),
                    "bare": lambda run=run: run("bare", bare, "/predict"),
                },
                rounds,
            )
            asked = requests * (rounds + 1)  # interleaved() warms up with one round
            used = {name: cpu_seconds({"polypath": ours, "bare": bare}[name]) - before[name] for name in before}
            figures[f"{clients}_clients" if clients > 1 else "1_client"] = {
                "requests_a_round": requests,
                "processor_ms_a_request": {name: round(1000 * value / asked, 3) for name, value in used.items()},
                "processor_time_of_bare_over_polypath": round(used["bare"] / used["polypath"], 3),
                "throughput_over_bare": ratio(seconds, "bare", "polypath"),
                "polypath": {
                    "requests_per_second": round(requests / statistics.median(seconds["polypath"]), 1),
                    **percentiles(seen["polypath"]),
                    "mean_batch_of_a_request": round(statistics.mean(batches), 2),
                },
                "bare": {
                    "requests_per_second": round(requests / statistics.median(seconds["bare"]), 1),
                    **percentiles(seen["bare"]),
                },
            }
    return {**figures, "targets": {"1_client": 0.8, "32_clients": 1.5}}


def memory(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Resident memory of the server over many requests to ten tasks."""
    built("hard_sharing", [table_task(name) for name in TEN], folder, backbone={"kind": "mlp", "hidden": [64]})
    data = rows(50)
    asked = [question(TEN[number % 10], [data[number % 50]]) for number in range(50)]
    with polypath_server(folder) as url:
        marks, sizes, done = [0.1, 0.25, 0.5, 0.75, 1.0], {}, 0
        for mark in marks:
            count = int(args.requests * mark) - done
            storm(url, 8, count, lambda number: asked[number % 50])
            done += count
            sizes[done] = resident_bytes(url)
    values = list(sizes.values())
    return {"requests": done, "resident_bytes_after": sizes, "growth_after_first_tenth": values[-1] / values[0] - 1}


def together(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Ten tasks on one image in one question against ten questions one after the other, by method."""
    from PIL import Image

    out = io.BytesIO()
    pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    Image.fromarray(pixels.numpy()).save(out, "PNG")
    encoded = [base64.b64encode(out.getvalue()).decode()]
    every = ("/v1/predict", json.dumps({"inputs": encoded}).encode())
    data = tiny_images(10, classes=4, per_class=2, size=32)
    found: dict[str, Any] = {}
    for method, settings in METHODS.items():
        place = folder.parent / method
        pp.learn(method, data, **settings, **ONCE).save(place)
        with polypath_server(place) as url:
            seconds = interleaved(
                {
                    "together": lambda: storm(url, 1, 1, lambda _: every),
                    "apart": lambda: storm(url, 1, 10, lambda number: question(TEN[number], encoded)),
                },
                max(10, 4 * args.rounds),
                warmup=2,
            )
        found[method] = {
            "together_ms": round(1000 * statistics.median(seconds["together"]), 2),
            "ten_questions_ms": round(1000 * statistics.median(seconds["apart"]), 2),
            "ratio": ratio(seconds, "apart", "together"),
        }
    return {"tasks": len(data), "methods": found}


def bad(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Bad requests in this process: a failed check raises; memory is read after a first tenth and at the end."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    from bad_requests import send_generated, send_images
    from starlette.testclient import TestClient

    from polypath.serve import create_app

    built("hard_sharing", [image_task(name) for name in TEN[:3]], folder, backbone={**CONV, "blocks": [[4]]})
    app = create_app(folder)
    began = time.perf_counter()
    images = args.bad // 3
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        statuses = send_generated(client, app, (args.bad - images) // 10)
        statuses += send_images(client, TEN[0], images // 10, seed=1)
        first = _resident()
        statuses += send_images(client, TEN[0], images - images // 10, seed=2)
        after_images = _resident()
        while statuses.total() < args.bad:  # some generated requests cannot be sent by any client
            statuses += send_generated(client, app, args.bad - statuses.total())
        last = _resident()
    return {
        "requests": statuses.total(),
        "statuses": {str(status): statuses[status] for status in sorted(statuses)},
        "resident_bytes": {"after_a_tenth": first, "after_the_images": after_images, "at_the_end": last},
        "wall_s": round(time.perf_counter() - began, 1),
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
