"""One task as a file for other programs: raw inputs in, probabilities or values out, without polypath."""

from polypath.export.files import FORMATS, ParityError, export_task
from polypath.export.graph import TaskGraph

__all__ = ["FORMATS", "ParityError", "TaskGraph", "export_task"]
