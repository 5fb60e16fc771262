"""Compare methods over seeds: run what is missing, then tables, figures and intervals.

Entry point: :func:`compare`.
"""

from .comparison import compare
from .plan import Plan, read_plan

__all__ = ["Plan", "compare", "read_plan"]
