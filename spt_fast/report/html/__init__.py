"""report.html: one self-contained file that says what report.md says, with figures and a browser of samples.

    page      sections -> the page, with its content security policy
    sections, orders, cost, sweeps, transfers      cells -> tables and figures
    meaning   soft prompts -> tables and figures
    samples   which rows travel in the page, and how they are packed
    figures   rows -> SVG
    grid, parts, words      cells by place; what sections are made of; how numbers and names are written

page.html, parts.html, page.css and page.js are what a browser gets. All text of models is hostile: it is escaped here, and in
the page only ever set as text.
"""

from spt_fast.report.html.meaning import Known
from spt_fast.report.html.page import MOST_BYTES, Recorded, html
from spt_fast.report.html.samples import CellVerdicts, SampleCell, Samples, chosen, pack

__all__ = ["MOST_BYTES", "CellVerdicts", "Known", "Recorded", "SampleCell", "Samples", "chosen", "html", "pack"]
