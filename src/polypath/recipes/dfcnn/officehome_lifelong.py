"""Ten tasks of thirteen Office-Home classes, product images then photographs (DF-CNN, section 4, figures 5 and 7).

Full: 60 % training, 10 % validation, 30 % test images at 128 pixels in [0, 1], four large convolutions, RMSProp 5e-6 /
(1 + e / 1000), batch 16, 1,000 epochs a task, five trials. The paper's peak accuracies: single 45.5 (large 51.9), hard
sharing 52.0, ProgNN 46.4, DEN 31.6, DF-CNN 49.1 %.
Needs the data set in $POLYPATH_DATA/office_home/{Product,Real World}/<class>/, as its authors publish it.
Quick: the same code on two small sets of other pictures (CIFAR-10, CIFAR-100) at 32 pixels.
Run: polypath run dfcnn/officehome_lifelong --out runs/officehome
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from polypath.core.errors import InvalidInput
from polypath.recipes import Size
from polypath.recipes.dfcnn.settings import SEEDS, lifelong_variants, tiny, training
from polypath.recipes.experiment import Experiment

DOMAINS = {"product": "Product", "real": "Real World"}
# Classes of every task as the authors dealt them out at random, the same of both domains.
TASKS = [
    line.split()
    for line in """
    TV Sneakers Soda Telephone Radio Calendar Bottle Speaker Exit_Sign Scissors Bed Spoon Couch
    Trash_Can Fan Flipflops Mop Webcam Push_Pin Helmet Chair Oven Eraser Flowers Monitor Knives
    Refrigerator Desk_Lamp Screwdriver Bucket Pan Lamp_Shade Bike Mouse Printer Paper_Clip Drill Curtains Clipboards
    Candles Keyboard Backpack Postit_Notes Marker Hammer Glasses Laptop Sink Computer Pencil Notebook ToothBrush
    Kettle Batteries Ruler Mug File_Cabinet Folder Table Fork Shelf Toys Calculator Alarm_Clock Pen
    """.strip().splitlines()
]


def domain(name: str) -> dict[str, Any]:
    """Suite configuration of one domain: the authors' five tasks of thirteen classes each.

    Raises:
        InvalidInput: the folder is not there; says how it must be laid out.
    """
    root = Path(os.environ.get("POLYPATH_DATA", "data")) / "office_home"
    path = root / DOMAINS[name]
    if not path.is_dir():
        raise InvalidInput(
            f"{path} is required, with one sub-folder of images for each of the 65 classes (the layout in which "
            "Office-Home is published; it cannot be redistributed), or use --quick, which runs the same code on small "
            "sets"
        )
    return {
        "kind": "split",
        "dataset": f"folder:{path}",
        "classes": TASKS,
        "prefix": name,
        "train": "train[:70%]",
        "test": "train[70%:]",
        "validation": 1 / 7,
        "size": 128,
        "fit": "stretch",
        "normalise": "none",
    }


def substitute(dataset: str, prefix: str, per_class: int, test: int) -> dict[str, Any]:
    """Two tasks of a small data set with its pixels in [0, 1]."""
    classes = {"tasks": 2, "classes_per_task": 3, "prefix": prefix}
    some = {"per_class": per_class, "test_per_class": test, "validation": 0.2, "normalise": "none"}
    return {"kind": "split", "dataset": dataset, **classes, **some}


def experiment(size: Size = "full") -> Experiment:
    """Ten tasks one after the other: DF-CNN and what it is compared with, on the same backbone and data."""
    large: dict[str, Any] = {"channels": [128, 256, 512, 512], "hidden": [1024, 128]}
    base = training(5e-6, 1 / 1000, 16, 1000, 10)
    if size == "full":
        suites = [domain(name) for name in DOMAINS]
    else:
        count, test = (30, 50) if size == "quick" else (6, 4)
        suites = [substitute("cifar10", "product", count, test), substitute("cifar100", "real", count, test)]
        base |= {"epochs": 20 if size == "quick" else 1, "learning_rate": 5e-5, "evaluate_every": 5}
        large = {"channels": [32, 64, 64, 64], "hidden": [64, 32]}
    variants = lifelong_variants(base, "office_home", large, None)
    if size == "smoke":
        tiny(variants, "office_home", {"channels": [2, 4, 4, 4], "hidden": [8, 4]})
    return Experiment(
        recipe="dfcnn/officehome_lifelong",
        size=size,
        title="DF-CNN on Office-Home: ten tasks one after the other",
        paper="DF-CNN, section 4, figures 5 and 7",
        suite={"kind": "mix", "suites": suites},
        variants=variants,
        main="dfcnn",
        seeds=SEEDS if size == "full" else SEEDS[:1],
        checkpoint_every=1 if size == "smoke" else 50,
        threads=1 if size != "full" else None,
    )
