"""The paper's data splits (tables 8 and 9) as data, and where the images are looked for.

Slices are taken after a seeded shuffle that keeps the classes' proportions, so that they hold the paper's numbers of
images, not its very images. Sets that are not in polypath's catalogue are supplied by their user as image folders:
`$POLYPATH_DATA/mu2net/<name>/{train,val,test}/<class>/*.png`, `/` in a name written as `-` (`eurosat-rgb`); val or test
are needed where a split names them.

Not as the paper: imagenet2012 has its validation images in `test` and those of imagenet_v2 in `val`; cifar10 is
validated on 2 % of its training images, for cifar10_1 is another data set; VTAB-1k's sun397 is validated on 397 images,
one a class, where the paper takes 200.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polypath.core.errors import InvalidInput
from polypath.data.catalogue import CATALOGUE
from polypath.recipes.mu2net import image_task


@dataclass(frozen=True)
class Split:
    """One task of a benchmark.

    Args:
        name: of the data set, as in the paper.
        train, val, test: split expressions; `validation` is the folder `val`.
    """

    name: str
    train: str
    val: str
    test: str = "test"

    @property
    def folder(self) -> str:
        """Its name in a path, and in polypath's catalogue where it is there."""
        return self.name.replace("/", "-")


def _stored(*names: str) -> list[Split]:
    """Data sets whose publishers made all three splits."""
    return [Split(name, "train", "validation") for name in names]


def _first(name: str, count: str, test: str = "test") -> Split:
    """Train on the first images of the stored training split, validate on its others."""
    return Split(name, f"train[:{count}]", f"train[{count}:]", test)


_HELD_OUT = ("clevr/count_cylinders", "clevr/count_all", "clevr/closest_object_distance")
_KITTI = ("kitti/closest_object_distance", "kitti/count_vehicles", "kitti/closest_vehicle_distance")
_NORB = ("smallnorb/label_category", "smallnorb/label_lighting", "smallnorb/label_azimuth", "smallnorb/label_elevation")
_SPRITES = ("dsprites/label_x_position", "dsprites/label_orientation")

VIT = (*_stored("imagenet2012"), _first("cifar100", "98%"), _first("cifar10", "98%"))

VTAB_FULL = (
    _first("caltech101", "2754"),
    *_stored("dtd", "oxford_flowers102"),
    _first("oxford_iiit_pet", "2944"),
    *_stored("sun397"),
    _first("svhn_cropped", "65931"),
    *_stored("patch_camelyon"),
    Split("eurosat/rgb", "train[:16200]", "train[16200:21600]", "train[21600:]"),
    Split("resisc45", "train[:18900]", "train[18900:25200]", "train[25200:]"),
    *_stored("drd/btgraham-300"),
    *(_first(name, "63000", "validation") for name in _HELD_OUT),
    *_stored("dmlab"),
    *(Split(name, "train[:589824]", "train[589824:663552]", "train[663552:]") for name in _SPRITES),
    *_stored(*_KITTI),
    *(Split(name, "train", "test[:50%]", "test[50%:]") for name in _NORB),
)

DECATHLON = tuple(
    Split(f"vdd/{name}", "train", "validation[:50%]", "validation[50%:]")
    for name in (
        "imagenet12",
        "svhn",
        "cifar100",
        "gtsrb",
        "daimlerpedcls",
        "omniglot",
        "ucf101",
        "aircraft",
        "dtd",
        "vgg-flowers",
    )
)

CHARACTERS = (
    *(Split(name, "train[5%:]", "train[:5%]") for name in ("emnist/digits", "emnist/letters", "kmnist", "mnist")),
    Split("omniglot", "train", "validation"),
    *(Split(f"cmaterdb_{name}", "train[20%:]", "train[:20%]") for name in ("bangla", "devanagari", "telugu")),
)


def _thousand(name: str, start: int, test: str = "test") -> Split:
    """800 training images, 200 validation images from behind row `start` of the training split."""
    return Split(name, "train[:800]", f"train[{start}:{start + 200}]", test)


def _thousand_stored(*names: str) -> list[Split]:
    return [Split(name, "train[:800]", f"validation[:{397 if name == 'sun397' else 200}]") for name in names]


VTAB_1K = (
    _thousand("caltech101", 2_754),
    _thousand("cifar100", 45_000),
    _thousand("cifar10", 45_000),
    *_thousand_stored("dtd", "oxford_flowers102"),
    _thousand("oxford_iiit_pet", 2_944),
    *_thousand_stored("sun397"),
    _thousand("svhn_cropped", 65_931),
    *_thousand_stored("patch_camelyon"),
    _thousand("eurosat/rgb", 16_200, "train[21600:]"),
    _thousand("resisc45", 18_900, "train[25200:]"),
    *_thousand_stored("drd/btgraham-300"),
    *(_thousand(name, 63_000, "validation") for name in _HELD_OUT),
    *_thousand_stored("dmlab"),
    *(_thousand(name, 589_824, "train[663552:]") for name in _SPRITES),
    *_thousand_stored(*_KITTI),
    *(Split(name, "train[:800]", "test[:200]", "test[50%:]") for name in _NORB),
)


def folder_of(split: Split) -> Path:
    """Where the images of a set that is not in the catalogue are looked for."""
    return Path(os.environ.get("POLYPATH_DATA", "data")) / "mu2net" / split.folder


def at_hand(split: Split) -> bool:
    """Whether a set is in the catalogue or its folder is there."""
    return split.name in CATALOGUE or folder_of(split).is_dir()


def suite(name: str, splits: tuple[Split, ...], size: int) -> dict[str, Any]:
    """A benchmark as the suite of a recipe.

    Args:
        name: of the benchmark.
        splits: its tasks in order.
        size: side of the images.

    Raises:
        InvalidInput: folders are missing; says which, and how they must be laid out.
    """
    missing = [split for split in splits if not at_hand(split)]
    if missing:
        raise InvalidInput(
            f"{name}: {len(missing)} of {len(splits)} data sets are not here: "
            f"{', '.join(split.folder for split in missing)}. Put each at {folder_of(missing[0]).parent}/NAME with "
            "train/, val/ and test/ (as far as the splits of polypath.recipes.mu2net.benchmarks name them) and one "
            "sub-folder a class in each; or use --quick, which runs the same code on small sets"
        )
    return {"kind": "mix", "suites": [task_of(split, size) for split in splits]}


def task_of(split: Split, size: int) -> dict[str, Any]:
    """One task as a suite of its own: images stretched to a square, values in [-1, 1], three channels."""
    source = split.name if split.name in CATALOGUE else f"folder:{folder_of(split)}"
    rows = {"train": split.train, "validation": split.val, "test": split.test}
    return image_task(source, split.folder.removeprefix("cmaterdb_"), size, fit="stretch", **rows)
