"""What a run leaves to read: its figures, its report, its model's card.

Entry points: :func:`listeners`, :func:`write_report`, :func:`follow`.
"""

from fedf2dg.report.live import follow, listeners
from fedf2dg.report.report import write_report
from fedf2dg.report.run_record import RunRecord
from fedf2dg.report.tables import terminal_table

__all__ = ["RunRecord", "follow", "listeners", "terminal_table", "write_report"]
