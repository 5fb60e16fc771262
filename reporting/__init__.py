"""What a run leaves to read: its metrics file, its figures, its report.

Entry points: :class:`MetricsFile` while the run goes on; :func:`write_report`,
:func:`terminal_table` and :func:`pseudo_grid` afterwards.
"""

from reporting.follow import PROGRESS, follow
from reporting.judgements import plain, verdicts
from reporting.metrics import MetricsError, MetricsFile, read_events
from reporting.model_card import model_card
from reporting.optional import only_warned
from reporting.pseudo_images import PseudoImages, pseudo_grid
from reporting.report import write_report
from reporting.run_record import RunRecord
from reporting.tables import rounds_left, terminal_table

__all__ = [
    "PROGRESS",
    "MetricsError",
    "MetricsFile",
    "PseudoImages",
    "RunRecord",
    "follow",
    "model_card",
    "only_warned",
    "plain",
    "pseudo_grid",
    "read_events",
    "rounds_left",
    "terminal_table",
    "verdicts",
    "write_report",
]
