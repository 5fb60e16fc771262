"""What a run leaves to read: its figures, its report.

Entry points: :func:`write_report`, :func:`terminal_table` and :func:`pseudo_grid`.
"""

from fedf2dg.report.follow import PROGRESS, follow
from fedf2dg.report.judgements import plain, verdicts
from fedf2dg.report.model_card import model_card
from fedf2dg.report.pseudo_images import PseudoImages, pseudo_grid
from fedf2dg.report.report import write_report
from fedf2dg.report.run_record import RunRecord
from fedf2dg.report.tables import rounds_left, terminal_table

__all__ = [
    "PROGRESS",
    "PseudoImages",
    "RunRecord",
    "follow",
    "model_card",
    "plain",
    "pseudo_grid",
    "rounds_left",
    "terminal_table",
    "verdicts",
    "write_report",
]
