"""DF-CNN on MNIST, ten one-against-rest tasks or five pairs of digits at once (appendix C, table 1).

Full: 3, 5, 7, 10 or 30 % of the training images, two 5x5 convolutions, RMSProp 1e-3 / (1 + e / 250), batch 10, 500
epochs of one task each. The paper's errors at 3 % and 10 %, pairs: single 0.99 and 0.39, hard sharing 0.95 and 0.40,
tensor factorisation 0.95 and 0.40, direct 0.82 and 0.34, DF-CNN 0.78 and 0.35 %; one against rest: DF-CNN 3.25 and
1.55 %.
Named alone, only the variants of 3 % run; `--variant homogeneous_10_dfcnn` and so on give the others.
Run: polypath run dfcnn/mnist_mtl --out runs/mnist_mtl
"""

from __future__ import annotations

from polypath.recipes import Size
from polypath.recipes.dfcnn.multitask import multitask
from polypath.recipes.experiment import Experiment


def experiment(size: Size = "full") -> Experiment:
    """Both kinds of tasks, five fractions, seven methods."""
    return multitask(
        "dfcnn/mnist_mtl",
        "mnist",
        "mnist",
        (3, 5, 7, 10, 30),
        3,
        (1e-3, 1 / 250, 10, 500),
        {"homogeneous": {"knowledge": [12, 40], "basis": [24, 64]}},
        "DF-CNN on MNIST: many tasks at once",
        "DF-CNN, appendix C, table 1",
        size,
    )
