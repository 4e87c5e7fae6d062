"""Every named data set in one explicit table: where it comes from and what its columns mean.

`$POLYPATH_DATA/<name>/*.parquet` (the hub's own layout) is read first; where it is not there, the hub through
`datasets.load_dataset`. Sets without a hub id are not published there under a name we could check: put the files in
place by hand, as the message says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from polypath.core.errors import UnknownName

Kind = Literal["image", "table", "text"]
TargetKind = Literal["classification", "regression", "multilabel"]


@dataclass(frozen=True)
class Grouping:
    """Classes made from classes: `groups` maps a group name to labels of column `of`."""

    of: str
    groups: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Entry:
    """What is known about one named data set.

    Args:
        name: how it is asked for, also the folder under $POLYPATH_DATA.
        kind: what its inputs are.
        hub: id on the hub, None where it is bundled or not published there.
        inputs: input column(s); empty for a table: every column that is no target.
        targets: target column -> kind; the first one is the default.
        labels: class names of a column, for files that do not carry them.
        mean, std: one number a channel in [0, 1], where a paper gives them; else computed from training examples.
        groupings: named coarser classes.
        bundled: scikit-learn loader that ships the data.
        licence: what the publisher says.
        remark: shown with every result made from the set.
    """

    name: str
    kind: Kind
    hub: str | None
    inputs: tuple[str, ...]
    targets: Mapping[str, TargetKind]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    groupings: Mapping[str, Grouping] = field(default_factory=dict)
    bundled: str | None = None
    licence: str = ""
    remark: str = ""


# The three groups of the Multi-Path paper's Table 4 over the official twenty superclasses; the table's own class
# lists hold slips (small mammals among the reptiles), the superclasses do not.
CIFAR100_GROUPS = Grouping(
    of="coarse_label",
    groups={
        "animals": (
            "aquatic_mammals",
            "fish",
            "insects",
            "large_carnivores",
            "large_omnivores_and_herbivores",
            "medium_mammals",
            "non-insect_invertebrates",
            "people",
            "reptiles",
            "small_mammals",
        ),
        "things": (
            "food_containers",
            "household_electrical_devices",
            "household_furniture",
            "large_man-made_outdoor_things",
            "large_natural_outdoor_scenes",
            "vehicles_1",
            "vehicles_2",
        ),
        "plants": ("flowers", "fruit_and_vegetables", "trees"),
    },
)

CELEBA_ATTRIBUTES = tuple(
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones "
    "Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline "
    "Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick "
    "Wearing_Necklace Wearing_Necktie Young".split()
)

DIGITS = tuple("0123456789")
_CMATERDB = "stored sorted by label: it is always shuffled before slicing"
_FACES = "faces of people who were not asked; judgements such as 'attractive' or 'ethnicity' are the annotators' own"


def _cmaterdb(script: str) -> Entry:
    return Entry(
        name=f"cmaterdb_{script}",
        kind="image",
        hub=None,
        inputs=("image",),
        targets={"label": "classification"},
        labels={"label": DIGITS},
        licence="Apache-2.0",
        remark=_CMATERDB,
    )


def _celeba(name: str, hub: str | None, remark: str) -> Entry:
    return Entry(
        name=name,
        kind="image",
        hub=hub,
        inputs=("image",),
        targets=dict.fromkeys(CELEBA_ATTRIBUTES, "classification"),
        labels={attribute: (f"not {attribute}", attribute) for attribute in CELEBA_ATTRIBUTES},
        licence="non-commercial research",
        remark=remark,
    )


_ENTRIES = (
    Entry(
        name="cifar10",
        kind="image",
        hub="uoft-cs/cifar10",
        inputs=("img",),
        targets={"label": "classification"},
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        licence="research use",
    ),
    Entry(
        name="cifar100",
        kind="image",
        hub="uoft-cs/cifar100",
        inputs=("img",),
        targets={"fine_label": "classification", "coarse_label": "classification"},
        mean=(0.507, 0.486, 0.44),
        std=(0.267, 0.256, 0.276),
        groupings={"group": CIFAR100_GROUPS},
        licence="research use",
        remark="some test images are exact copies of training images; they are counted",
    ),
    Entry(
        name="mnist",
        kind="image",
        hub="ylecun/mnist",
        inputs=("image",),
        targets={"label": "classification"},
        labels={"label": DIGITS},
        licence="CC BY-SA 3.0",
    ),
    Entry(
        name="fashion_mnist",
        kind="image",
        hub="zalando-datasets/fashion_mnist",
        inputs=("image",),
        targets={"label": "classification"},
        licence="MIT",
    ),
    _cmaterdb("bangla"),
    _cmaterdb("devanagari"),
    _cmaterdb("telugu"),
    Entry(
        name="utkface",
        kind="image",
        hub=None,
        inputs=("image",),
        targets={"age": "regression", "gender": "classification", "ethnicity": "classification"},
        labels={"gender": ("male", "female"), "ethnicity": ("white", "black", "asian", "indian", "other")},
        licence="non-commercial research",
        remark=f"{_FACES}; the source holds duplicate images with conflicting labels",
    ),
    _celeba("celeba", "flwrlabs/celeba", _FACES),
    _celeba("celeba_small", None, f"{_FACES}; a random subset at 64 pixels"),
    Entry(
        name="imdb",
        kind="text",
        hub="stanfordnlp/imdb",
        inputs=("text",),
        targets={"label": "classification"},
        labels={"label": ("neg", "pos")},
        licence="research use",
    ),
    Entry(
        name="reuters21578",
        kind="text",
        hub=None,
        inputs=("text",),
        targets={"label": "classification"},
        licence="research use",
        remark="single-topic documents split by date, not the ModApte split",
    ),
    Entry(
        name="boston_housing",
        kind="table",
        hub=None,
        inputs=(),
        targets={"medv": "regression"},
        licence="public",
        remark="column b is built from the share of Black residents and assumes that segregation raises prices: "
        "it is ethically contested; use the set only to compare with published figures",
    ),
    Entry(
        name="digits",
        kind="image",
        hub=None,
        inputs=("image",),
        targets={"label": "classification"},
        labels={"label": DIGITS},
        bundled="load_digits",
        licence="CC BY 4.0",
    ),
    Entry(
        name="wine",
        kind="table",
        hub=None,
        inputs=(),
        targets={"target": "classification"},
        bundled="load_wine",
        licence="CC BY 4.0",
    ),
    Entry(
        name="breast_cancer",
        kind="table",
        hub=None,
        inputs=(),
        targets={"target": "classification"},
        bundled="load_breast_cancer",
        licence="CC BY 4.0",
    ),
    Entry(
        name="diabetes",
        kind="table",
        hub=None,
        inputs=(),
        targets={"target": "regression"},
        bundled="load_diabetes",
        licence="published with Efron et al., 2004",
    ),
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def entry(name: str) -> Entry:
    """The entry of a named data set.

    Raises:
        UnknownName: no such set; offers the nearest.
    """
    if name not in CATALOGUE:
        raise UnknownName("data set", name, CATALOGUE)
    return CATALOGUE[name]
