"""Reports: what the cells of a grid came to, as files for programs and as tables and words for people.

Everything starts from `CellReport`s; nothing here reads or writes a folder. The page, `report.html`, is imported by
itself when one is written, because it computes and draws.
"""

from spt_fast.report.cells import CellReport, Disagreement, Verdict, disagreements, verdicts
from spt_fast.report.files import CSV_COLUMNS, results_csv, results_json
from spt_fast.report.markdown import markdown
from spt_fast.report.summary import summary
from spt_fast.report.tables import terminal
from spt_fast.report.transfer import TransferMatrix, Transferred, transfer_matrices

__all__ = [
    "CSV_COLUMNS",
    "CellReport",
    "Disagreement",
    "TransferMatrix",
    "Transferred",
    "Verdict",
    "disagreements",
    "markdown",
    "results_csv",
    "results_json",
    "summary",
    "terminal",
    "transfer_matrices",
    "verdicts",
]
