"""report.html: one self-contained file with the sections of a report, their figures, and a browser of samples.

    page      sections -> the page, with its content security policy
    samples   which rows travel in the page, and how they are packed
    figures   rows -> SVG
    build     a run folder -> what its report is made from

page.html, parts.html, page.css and page.js are what a browser gets. All text of models is hostile: it is escaped here, and in
the page only ever set as text.

Decisions:

* Figures are drawn when the page is written. The browser gets SVG whose colours are CSS variables, so the page needs no
  chart library, no eval and no network, and its policy can forbid everything but its own script.
* Which samples a page carries is a function of the run: half failures of form, in turns over cells and verdicts, in the
  order of content hashes.
* A sweep is found in the cells, not in the grid: of the settings that they have, those that some cells differ in alone.
"""

from spt_fast.report.html.page import MOST_BYTES, html
from spt_fast.report.html.samples import CellVerdicts, SampleCell, Samples, chosen, pack

__all__ = ["MOST_BYTES", "CellVerdicts", "SampleCell", "Samples", "chosen", "html", "pack"]
