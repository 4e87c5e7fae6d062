"""Draws paths.svg, the picture of the README: run `python docs/assets/paths.py` after changing the path picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polypath.core.result import PathPicture
from polypath.report.paths import path_picture_svg

# Values per module of the nine layers of the CIFAR grid (PaRT, ResNet-18 base network).
SIZES = (1_920, 74_112, 74_112, 221_952, 295_680, 886_272, 1_181_184, 3_542_016, 4_721_664)


def drawn(tasks: int = 10, modules: int = 12, selected: int = 4, seed: int = 3) -> str:
    """Ten tasks, nine layers of twelve modules, four chosen at random in each; two tasks stand out."""
    rng = np.random.default_rng(seed)
    steps = [[f"layer {layer + 1}, module {m + 1}" for m in range(modules)] for layer in range(len(SIZES))]
    paths = {
        f"task {t + 1}": [[step[m] for m in sorted(rng.choice(modules, selected, replace=False))] for step in steps]
        for t in range(tasks)
    }
    sizes = {name: size for step, size in zip(steps, SIZES, strict=True) for name in step}
    return path_picture_svg(
        PathPicture(steps=steps, tasks=paths, sizes=sizes), standalone=True, focus=("task 2", "task 7")
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(drawn() + "\n", encoding="utf-8")
