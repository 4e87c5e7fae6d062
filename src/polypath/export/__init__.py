"""One task as a file for other programs: raw inputs in, probabilities or values out, without polypath."""

from polypath.export.files import FORMATS, Exported, export_task
from polypath.export.graph import TaskGraph

__all__ = ["FORMATS", "Exported", "TaskGraph", "export_task"]
