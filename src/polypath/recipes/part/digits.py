"""PaRT on scikit-learn's handwritten digits: the demo. Five tasks of two digits, three learning modes.

Not from the paper. 8x8 grey images come with scikit-learn, so it runs anywhere in under a minute on two cores.
Run: polypath run part/digits --out runs/digits
"""

from __future__ import annotations

from polypath.recipes import Size
from polypath.recipes.experiment import Experiment, Variant


def experiment(size: Size = "full") -> Experiment:
    """Five tasks of two digits each, M = 6, N = 2, width 8."""
    epochs = {"full": 6, "quick": 3, "smoke": 1}[size]
    base = {"modules": 6, "selected": 2, "width": 8, "epochs": epochs, "batch": 32, "batch_set": 4, "halve_at": [4]}
    suite: dict[str, object] = {"kind": "split", "dataset": "digits", "tasks": 5, "order": "random"}
    if size == "smoke":
        suite |= {"tasks": 2, "classes_per_task": 2, "per_class": 20, "test_per_class": 10}
    return Experiment(
        recipe="part/digits",
        size=size,
        title="PaRT on handwritten digits: five tasks of two digits",
        paper="none (demo on bundled data)",
        suite=suite,
        variants={
            mode: Variant(method="part", config={**base, "mode": mode}) for mode in ("parallel", "sequential", "single")
        },
        main="parallel",
        threads=1,  # 8x8 images are too little work to share: two threads mostly wait for each other
    )
