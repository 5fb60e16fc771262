"""What a run leaves to read: its figures, its report.

Entry points: :func:`listeners`, :func:`write_report`, :func:`terminal_table`, :func:`pseudo_grid`.
"""

from fedf2dg.report.follow import follow
from fedf2dg.report.live import listeners
from fedf2dg.report.pseudo_images import PseudoImages, pseudo_grid
from fedf2dg.report.report import write_report
from fedf2dg.report.run_record import RunRecord
from fedf2dg.report.tables import terminal_table

__all__ = [
    "PseudoImages",
    "RunRecord",
    "follow",
    "listeners",
    "pseudo_grid",
    "terminal_table",
    "write_report",
]
