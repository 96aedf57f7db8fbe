"""The run folder: what is done, and what it came to."""

from spt_fast.store.folder import CHECKSUM, CURVE, PROMPT, RERUN, RESULT, Failure, Results, Store, StoredResult, broken

__all__ = ["CHECKSUM", "CURVE", "PROMPT", "RERUN", "RESULT", "Failure", "Results", "Store", "StoredResult", "broken"]
