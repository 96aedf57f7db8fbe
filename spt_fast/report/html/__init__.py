"""report.html: one self-contained file with the sections of a report, their figures, and a browser of samples.

    page      sections -> the page, with its content security policy
    samples   which rows travel in the page, and how they are packed
    figures   rows -> SVG
    build     a run folder -> what its report is made from

page.html, parts.html, page.css and page.js are what a browser gets. All text of models is hostile: it is escaped here, and in
the page only ever set as text.
"""

from spt_fast.report.html.page import MOST_BYTES, html
from spt_fast.report.html.samples import CellVerdicts, SampleCell, Samples, chosen, pack

__all__ = ["MOST_BYTES", "CellVerdicts", "SampleCell", "Samples", "chosen", "html", "pack"]
