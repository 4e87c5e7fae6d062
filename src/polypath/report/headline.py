"""What a run says in a sentence: which variant is ahead, and whether the seeds agree."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from polypath.report.summary import lower_is_better
from polypath.report.tables import measured, number

FEW_SEEDS = 5  # the papers' own number of seeds; below it the spread itself is poorly known

REMEDY = "Train longer (epochs, patience), in smaller batches or at another learning rate."


def verdict(summary: Mapping[str, Any]) -> list[str]:
    """One honest paragraph a main metric.

    The two variants with the best means are compared on the seeds both ran. "Exceeds the spread" means that the mean
    paired difference is larger than the sample standard deviation of these differences.

    Args:
        summary: as `summarise` returns it.
    """
    if not summary["variants"]:
        return ["No variant has finished, so there is nothing to report yet."]
    if not summary["metrics"]:
        return ["Nothing was tested, so there is nothing to compare."]
    return [_verdict(summary, metric) for metric in summary["metrics"]] + not_learned(summary)


def not_learned(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each variant that is no better on some task than one answer for every input."""
    said = []
    for variant, figures in summary["variants"].items():
        for numbers, why in (
            (False, "it is right no more often than the most frequent label"),
            (True, "it is no closer than the mean of the test targets (r2 of 0 or less)"),
        ):
            tasks = [name for name in figures["not_learned"] if ("r2" in figures["tasks"][name]["test"]) == numbers]
            if tasks:
                said.append(f"{variant} learned nothing on {', '.join(tasks)}: {why}. {REMEDY}")
    return said


def _verdict(summary: Mapping[str, Any], metric: str) -> str:
    means = {v: f["overall"][metric] for v, f in summary["variants"].items() if f["overall"].get(metric)}
    sign = -1.0 if lower_is_better(metric) else 1.0
    order = sorted(means, key=lambda variant: -sign * means[variant]["mean"])
    said = f"{order[0]} reaches a mean test {metric} of {measured(means[order[0]])}"
    if len(order) == 1:
        seeds = means[order[0]]["n"]
        return f"{said} over {_seeds(seeds)}. No other variant has finished, so nothing is compared."
    pair = next(p for p in summary["paired"] if set(p["variants"]) == set(order[:2]))
    figure = pair["overall"].get(metric)
    if figure is None:
        return f"{said}. It shares no seed with {order[1]} ({measured(means[order[1]])}), so the two are not compared."
    gain = sign * figure["mean"]
    ahead, behind = pair["variants"] if gain >= 0 else reversed(pair["variants"])
    if number(abs(gain)) == number(0):
        return f"{ahead} and {behind} reach the same mean test {metric} on {_seeds(figure['n'])}."
    better = sum((sign * gap > 0) == (gain > 0) and gap != 0 for gap in figure["by_seed"].values())
    lower = " (lower is better)" if sign < 0 else ""
    lead = f"{ahead} is ahead of {behind} by {number(abs(gain))}"
    if figure["sd"] is None:
        return f"{lead} in mean test {metric}{lower} on the one seed both ran. One seed has no spread: no evidence."
    over = f"paired over {_seeds(figure['n'])}, and leads on {better} of them"
    body = f"{lead} ± {number(figure['sd'])} in mean test {metric}{lower}, {over}."
    if abs(gain) <= figure["sd"]:
        return f"{body} The difference does not exceed its spread: on this evidence neither is better."
    few = f" {figure['n']} seeds are few, so read this as an indication." if figure["n"] < FEW_SEEDS else ""
    return f"{body} The difference exceeds its spread over seeds.{few}"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def command(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The command line that repeats the run: the recorded one, else one put together from recipe, size and seeds."""
    recorded = config.get("command")
    if isinstance(recorded, str):
        return recorded
    if isinstance(recorded, list):
        return shlex.join(map(str, recorded))
    recipe = summary["recipe"] or config.get("recipe")
    if not recipe or recipe in ("own", "compare"):  # learned from Python or from a user's own tasks: nothing to name
        return None
    size = summary["size"] or config.get("size") or "full"
    seeds = sorted({seed for variant in summary["variants"].values() for seed in variant["seeds"]})
    words = ["polypath", "run", str(recipe)] + ([f"--{size}"] if size in ("quick", "smoke") else [])
    if len(seeds) == 1:
        words += ["--seed", str(seeds[0])]
    elif seeds:
        words += ["--seeds", str(len(seeds))]
    overrides = config.get("overrides") or {}
    pairs = [f"{k}={v}" for k, v in overrides.items()] if isinstance(overrides, dict) else [str(o) for o in overrides]
    words += [word for pair in pairs for word in ("--set", pair)]
    return shlex.join([*words, "--out", "runs/again"])
