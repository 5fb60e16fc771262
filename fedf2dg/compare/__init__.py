"""Compare methods over seeds: run what is missing, then tables, figures and intervals.

Entry points: :func:`fedf2dg.compare.comparison.compare`, and :func:`read_plan` for what it would
make. The former draws figures, whose library takes a second to load; a plan that cannot be is
refused before.
"""

from .plan import Plan, read_plan

__all__ = ["Plan", "read_plan"]
