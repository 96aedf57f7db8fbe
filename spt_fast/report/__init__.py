"""Reports: what the cells of a grid came to, as files for programs and as tables and words for people.

Everything starts from the cells of a run (`analysis.cells.RunCell`). `sections` makes paragraphs, tables and figures of
what was `Recorded`, and `html`, `markdown` and `tables` draw them for a browser, a log and a terminal. The page, `report.html`,
is imported by itself when one is written, because it computes and draws.
"""

from spt_fast.analysis.cells import Disagreement, Verdict
from spt_fast.analysis.cells import RunCell as RunCell
from spt_fast.report.files import CSV_COLUMNS, results_csv, results_json
from spt_fast.report.markdown import markdown
from spt_fast.report.parts import Section
from spt_fast.report.recorded import Recorded
from spt_fast.report.sections import SECTIONS, sections
from spt_fast.report.sections.overview import section as overview
from spt_fast.report.summary import summary
from spt_fast.report.tables import terminal
from spt_fast.report.transfer import TransferMatrix, Transferred, transfer_matrices

__all__ = [
    "CSV_COLUMNS",
    "SECTIONS",
    "Disagreement",
    "Recorded",
    "Section",
    "TransferMatrix",
    "Transferred",
    "Verdict",
    "markdown",
    "overview",
    "results_csv",
    "results_json",
    "sections",
    "summary",
    "terminal",
    "transfer_matrices",
]
