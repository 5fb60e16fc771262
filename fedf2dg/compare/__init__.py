"""Compare methods over seeds: run what is missing, then tables, figures and intervals.

:func:`fedf2dg.compare.comparison.compare` draws figures, whose library takes a second to load; a
plan that cannot be is refused before, by :func:`read_plan`.
"""

from .plan import Plan, read_plan

__all__ = ["Plan", "read_plan"]
