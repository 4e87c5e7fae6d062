"""DF-CNN on CIFAR-10, ten one-against-rest tasks or five pairs of classes at once (appendix C, table 2).

Full: 4, 10, 30, 50 or 70 % of the training images, four 3x3 convolutions, RMSProp 2.5e-4 / (1 + e / 1000), batch 20,
2,000 epochs of one task each. The paper's errors at 4 %, pairs: single 19.6, hard sharing 22.1, tensor factorisation
32.7 (from single-task networks 20.2), direct 19.8, DF-CNN 20.6, tc2 23.4 %.
Named alone, only the variants of 4 % run; `--variant heterogeneous_10_dfcnn` and so on give the others.
Run: polypath run dfcnn/cifar10_mtl --out runs/cifar10_mtl
"""

from __future__ import annotations

from polypath.recipes import Size
from polypath.recipes.dfcnn.multitask import multitask
from polypath.recipes.experiment import Experiment


def experiment(size: Size = "full") -> Experiment:
    """Both kinds of tasks, five fractions, seven methods."""
    return multitask(
        "dfcnn/cifar10_mtl",
        "cifar10",
        "cifar",
        (4, 10, 30, 50, 70),
        4,
        (2.5e-4, 1 / 1000, 20, 2000),
        {},
        "DF-CNN on CIFAR-10: many tasks at once",
        "DF-CNN, appendix C, table 2",
        size,
    )
