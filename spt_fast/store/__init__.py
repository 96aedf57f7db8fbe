"""The run folder: what is done, and what it came to. A module a kind of file; `folder` puts them together.

Decisions:

* Only the driver writes here. A cell is done when result.json is there: it is written last, whole or not at all.
* The run folder is believed by its checksums. result.json has those of itself and of the cell's other files; of those only
  the ones that look newer are read to check them. A cell whose files are not what was written is failed in the tables
  (`DamagedError`), with the command that computes it again.
* Earlier folders are asked once for a cell (`.asked`), so what was deleted does not come back.
"""

from spt_fast.store.folder import Results, Store
from spt_fast.store.grid_file import broken
from spt_fast.store.layout import CURVE, PROMPT, RERUN, RESULT
from spt_fast.store.results import CHECKSUM, Failure, StoredResult

__all__ = ["CHECKSUM", "CURVE", "PROMPT", "RERUN", "RESULT", "Failure", "Results", "Store", "StoredResult", "broken"]
