"""The run folder: what is done, and what it came to. A module a kind of file; `folder` puts them together."""

from spt_fast.store.folder import Results, Store
from spt_fast.store.grid_file import broken
from spt_fast.store.layout import CURVE, PROMPT, RERUN, RESULT
from spt_fast.store.results import CHECKSUM, Failure, StoredResult

__all__ = ["CHECKSUM", "CURVE", "PROMPT", "RERUN", "RESULT", "Failure", "Results", "Store", "StoredResult", "broken"]
