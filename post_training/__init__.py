"""What is done to the global model after training: one file per method, found by name.

A method sees a trained federation through the small interface :class:`Trained`; it knows no Flower,
no files and no data set.
"""

from questions.class_statistics import ClassStatistics, StatisticsRequest

from .method import Method, Settings, chosen, methods
from .trained import Inputs, PseudoRequest, Trained

__all__ = [
    "ClassStatistics",
    "Inputs",
    "Method",
    "PseudoRequest",
    "Settings",
    "StatisticsRequest",
    "Trained",
    "chosen",
    "methods",
]
