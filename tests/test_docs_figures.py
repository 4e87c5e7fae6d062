"""Figures that prose and tables outside of results.md quote are those of the newest records."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from polypath.report.records import read_results

DOCS = Path(__file__).resolve().parents[1] / "docs"
RECORDS = DOCS / "results"


def figures(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDS / "benchmarks" / f"{name}.json").read_text())["figures"]
    return found


def words(name: str) -> str:
    """A page as one line, so that where it breaks does not matter."""
    return " ".join((DOCS / name).read_text().split())


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms"


def growth_rows() -> list[tuple[str, list[str]]]:
    """Label -> cells of both methods, from the records of bench_growth."""
    rows: dict[str, list[str]] = {}
    for record in (figures("growth"), figures("growth_mu2net")):
        for label, key in (
            ("first answer of a task", "first_answer"),
            ("further answers", "answer"),
            ("adding a task and saving", "add"),
        ):
            time = record["time"][key]
            cells = [ms(time["seconds"]["early"]), ms(time["seconds"]["late"]), f"{time['ratio_of_medians']:.2f}"]
            rows.setdefault(label, []).extend(cells)
        for label, key in (("answering", "peak_answering"), ("adding", "peak_adding")):
            memory = [record["memory_bytes"][when][key] for when in ("early", "late")]
            cells = [*(f"{size / 1e6:.0f} MB" for size in memory), f"{record['memory_ratio'][key]:.2f}"]
            rows.setdefault(f"peak memory of the process, {label}", []).extend(cells)
        opening = record["opening_s"]
        rows.setdefault("opening", []).extend([f"{opening['early']:.2f} s", f"{opening['late']:.2f} s", ""])
        for label, key in (("components on disk", "components"), ("manifest and pages", "manifest_and_pages")):
            first, second = (record["bytes_a_task"][key][half] for half in ("first_half", "second_half"))
            cells = [f"{first:,.0f} bytes", f"{second:,.0f} bytes", f"{second / first:.2f}"]
            rows.setdefault(f"{label}, a task, first and second half", []).extend(cells)
    return list(rows.items())


def test_growth() -> None:
    lines = (DOCS / "system.md").read_text().splitlines()
    told = {cells[0]: cells[1:] for line in lines if len(cells := [c.strip() for c in line.split("|")[1:-1]]) == 7}
    for label, cells in growth_rows():
        assert told[label] == cells, label
    ratios = [float(cell) for _, cells in growth_rows() for cell in cells[2::3] if cell]
    opening = [float(cell.split()[0]) for label, cells in growth_rows() if label == "opening" for cell in cells if cell]
    reached = "The aims, 1.2 for all ratios and 2 s for opening, are reached." in words("system.md")
    assert reached == (max(ratios) <= 1.2 and max(opening) <= 2)


def test_the_server() -> None:
    text, found = words("howto/serve.md"), figures("serve")
    table, image = found["table"], found["image"]
    for one, many, bold in (
        (table["1_client"], table["32_clients"], "**2.5 times**"),
        (image["1_client"], image["32_clients"], "**1.7 times**"),
    ):
        assert f"**{one['throughput_over_bare']['median']:.2f}**" in text
        assert f"**{many['throughput_over_bare']['median']:.1f} times**" == bold and bold in text
    ours, bare = table["32_clients"]["polypath"], table["32_clients"]["bare"]
    rates = [f"{which['requests_per_second']:,.0f}" for which in (ours, bare)]
    assert f"{rates[0]} requests a second against {rates[1]}" in text
    assert f"within {ours['p50_ms']:.0f} ms against {bare['p50_ms']:.0f} ms" in text
    together = {name: f"{about['ratio']['median']:.1f}" for name, about in found["together"]["methods"].items()}
    assert f"{together['multipath']} times as fast for `multipath`" in text
    for name in ("rsn2", "dfcnn", "hard_sharing", "single", "part"):
        assert f"{together[name]} `{name}`" in text
    bad = found["bad"]
    refused = bad["requests"] - bad["statuses"]["200"]
    assert f"{bad['requests']:,} bad requests" in text and not [
        code for code in bad["statuses"] if code.startswith("5")
    ]
    assert f"{bad['statuses']['200']:,} answered" in text and f"{refused:,} refused" in text
    assert f"{found['threads']['requests']} requests, no wrong label" in text and found["threads"]["wrong_labels"] == 0


def test_exported_files() -> None:
    text, found = words("howto/export.md"), figures("export")
    for name, label in (
        ("rsn2", "a tenth of every layer"),
        ("part", "four of twelve modules"),
        ("multipath", "its deepest branch"),
    ):
        about = found[name]
        faster = [about[f"batch_{size}"]["onnx_times_faster_than_system"]["median"] for size in (1, 32)]
        assert (
            f"| `{name}`, {label} | {about['onnx_share_of_system']:.0%} | {about['onnx_share_of_dense']:.0%} "
            f"| {faster[0]:.1f} and {faster[1]:.1f} |"
        ).replace("%", " %") in text
        assert max(about["task"][f"{kind}_relative_difference"] for kind in ("onnx", "pt2")) < 1e-6
    archives = [
        found[name][f"batch_{size}"]["pt2_times_faster_than_system"]["median"]
        for name in ("rsn2", "part", "multipath")
        for size in (1, 32)
    ]
    assert f"({min(archives):.2f} to {max(archives):.2f})" in text


def test_the_children_of_mu2net() -> None:
    text = words("methods/mu2net.md")
    cache, child = figures("mu2net_cache"), figures("mu2net_child")
    assert f"1/{cache['conv']['off over on']['median']:.1f} of the processor time" in text
    assert f"one of transformers 1/{cache['vit']['off over on']['median']:.1f}" in text
    assert f"{figures('mu2net_ray')['1 worker over 2']['median']:.1f} times as fast as one" in text
    bare = [child[name]["child over bare"]["median"] for name in ("numerals", "conv")]
    assert f"{bare[0]:.2f} (`numerals`) and {bare[1]:.2f} times (convolutions)" in text


def test_dfcnn_on_cifar100() -> None:
    """Means over tasks and seeds, as percentages; DF-CNN ahead in every trial where the page says so."""
    text = words("methods/dfcnn.md")
    by_seed: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in read_results(RECORDS / "dfcnn" / "cifar100_lifelong"):
        for by, found in record.lifelong.by_peak.items():
            for key in ("peak_accuracy", "forgetting_ratio"):
                by_seed.setdefault((record.variant, by, key), {})[record.seed] = statistics.mean(found[key].values())

    def percent(variant: str, by: str, key: str = "peak_accuracy") -> str:
        return f"{100 * statistics.mean(by_seed[variant, by, key].values()):.1f}"

    assert (
        f"mean peak is {percent('dfcnn', 'test')} % by test and {percent('dfcnn', 'validation')} % by validation"
        in text
    )
    assert f"single networks ({percent('single', 'test')} and {percent('single', 'validation')})" in text
    assert f"hard sharing ({percent('hard_sharing', 'test')} and {percent('hard_sharing', 'validation')})" in text
    for other in ("single", "hard_sharing"):
        for by in ("test", "validation"):
            ours, theirs = by_seed["dfcnn", by, "peak_accuracy"], by_seed[other, by, "peak_accuracy"]
            assert all(ours[seed] > theirs[seed] for seed in theirs), "ahead in every trial"
    assert f"{percent('dfcnn_tc2', 'test')} % by test, with 3.0 instead of 8.0 million parameters" in text
    assert f"by test {percent('dfcnn', 'test', 'forgetting_ratio')} % is left at the end" in text
    assert f"of hard sharing's {percent('hard_sharing', 'test', 'forgetting_ratio')} %" in text
