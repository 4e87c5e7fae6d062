"""Search by ask and tell: what to try next, told how it went. No training code, no global random state."""

from polypath.search.evolution import Child, Evolution, EvolutionConfig, Gene, Individual, Trained
from polypath.search.hyperparameters import Choice, Value, default_table, merged
from polypath.search.score import ScoreConfig, Term, accounted, factor

__all__ = [
    "Child",
    "Choice",
    "Evolution",
    "EvolutionConfig",
    "Gene",
    "Individual",
    "Trained",
    "ScoreConfig",
    "Term",
    "Value",
    "accounted",
    "default_table",
    "factor",
    "merged",
]
