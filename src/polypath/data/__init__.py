"""Data: named sets and files, suites of tasks, batches and augmentation."""

from polypath.core.examples import Suite, TaskData
from polypath.data.catalogue import CATALOGUE
from polypath.data.sources import open_source
from polypath.data.suites import attributes, build, hierarchy, mix, one_vs_rest, own, pairs, split, whole
from polypath.data.tasks import arrays

__all__ = [
    "CATALOGUE",
    "Suite",
    "TaskData",
    "arrays",
    "attributes",
    "build",
    "hierarchy",
    "mix",
    "one_vs_rest",
    "open_source",
    "own",
    "pairs",
    "split",
    "whole",
]
