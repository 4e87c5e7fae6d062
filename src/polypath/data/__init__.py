"""Data: named sets and files, suites of tasks, batches and augmentation."""

from polypath.data.catalogue import CATALOGUE
from polypath.data.sources import open_source
from polypath.data.suites import build, split, whole
from polypath.data.tasks import arrays

__all__ = ["CATALOGUE", "arrays", "build", "open_source", "split", "whole"]
