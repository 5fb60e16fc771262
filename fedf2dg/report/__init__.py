"""What a run leaves to read: its figures, its report, its model's card."""

from fedf2dg.report.follow import PROGRESS, follow
from fedf2dg.report.model_card import model_card
from fedf2dg.report.pseudo_images import pseudo_grid
from fedf2dg.report.report import write_report
from fedf2dg.report.run_record import RunRecord
from fedf2dg.report.tables import rounds_left, terminal_table
from fedf2dg.report.verdict import guessing, plain, verdicts

__all__ = [
    "PROGRESS",
    "RunRecord",
    "follow",
    "guessing",
    "model_card",
    "plain",
    "pseudo_grid",
    "rounds_left",
    "terminal_table",
    "verdicts",
    "write_report",
]
