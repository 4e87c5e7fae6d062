"""What a learned network shows: which modules tasks share, how alike their representations are."""

from polypath.analysis.ensembles import ensembles
from polypath.analysis.probes import Probe, equal_per_class
from polypath.analysis.representations import CKAConfig, average, compare_paths
from polypath.analysis.sharing import sharing_profile
from polypath.analysis.similarity import compare_representations
from polypath.analysis.unlearned import unlearned_matrix

__all__ = [
    "CKAConfig",
    "Probe",
    "average",
    "compare_paths",
    "compare_representations",
    "ensembles",
    "equal_per_class",
    "sharing_profile",
    "unlearned_matrix",
]
