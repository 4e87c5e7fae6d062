"""The five image folders of the FiveTasks experiment, which their user supplies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from polypath.core.errors import InvalidInput

# Name -> folder, classes, whether images are cropped to the object (resized to a square, not cut).
FOLDERS: dict[str, tuple[str, int, bool]] = {
    "cubs": ("cubs_cropped", 200, True),
    "cars": ("stanford_cars_cropped", 196, True),
    "flowers": ("flowers", 102, False),
    "wikiart": ("wikiart", 195, False),
    "sketches": ("sketches", 250, False),
}


def folder_task(name: str) -> dict[str, Any]:
    """Suite configuration of one of the five: 224 pixels, ImageNet constants, the paper's augmentation.

    Cropped sets are resized to 224 x 224 and mirrored; the others are cut out at random (RandomResizedCrop) of the
    centre square of the image with a shorter side of 256. The authors' code adds a 16-pixel cutout, which the paper
    does not mention: append {"kind": "cutout", "size": 16} to `augment` for it.

    Raises:
        InvalidInput: the folder is not there; says which one is looked for and how it must be laid out.
    """
    folder, classes, cropped = FOLDERS[name]
    root = Path(os.environ.get("POLYPATH_DATA", "data")) / "five_tasks"
    path = root / folder
    if not all((path / split).is_dir() for split in ("train", "test")):
        wanted = ", ".join(f"{root / name}/{{train,test}}" for name, _, _ in FOLDERS.values())
        raise InvalidInput(
            f"{path}/train and {path}/test are required, with one sub-folder a class ({classes} classes). The five "
            f"sets cannot be redistributed; put them at {wanted} (the layout published with CPG), or use --quick, "
            "which runs the same code on small sets"
        )
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    crop: list[dict[str, Any]] = [] if cropped else [{"kind": "resized_crop"}]
    shape = {"fit": "stretch"} if cropped else {"fit": "crop", "shorter_side": 256}
    return {
        "kind": "whole",
        "dataset": f"folder:{path}",
        "task": name,
        "train": "train",
        "test": "test",
        "size": 224,
        "normalise": {"mean": mean, "std": std},
        "augment": [*crop, {"kind": "flip"}],
        **shape,
    }
