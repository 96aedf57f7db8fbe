"""Where a grid stands: what `run_grid` returns, or leaves behind where it is interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spt_fast.analysis.frames import Library, Table
from spt_fast.analysis.runs import Run, open_run
from spt_fast.config import GridConfig
from spt_fast.config.output import Location
from spt_fast.plan.cell import Cell
from spt_fast.store import Failure, Results, Store, StoredResult


@dataclass(frozen=True, kw_only=True)
class GridResult:
    """Where a grid stands. A notebook shows it as a table; `frame()` is all of its numbers."""

    config: GridConfig
    folder: Location
    """The run folder: a `Path`, or where the grid's `output` is a URL, that URL as text. `f"{folder}/results.csv"` names a file
    either way."""
    cells: tuple[Cell, ...]
    results: Mapping[str, StoredResult]
    """Cell key -> result, of the cells that are done; read from the run folder when it is asked for."""
    failures: Mapping[str, Failure]
    """Cell key -> why, of the cells that failed."""
    stopped: frozenset[str] = frozenset()
    """Keys of the cells that were asked no further than was needed (`stop`)."""
    not_rerun: Mapping[str, str] = field(default_factory=dict)
    """Cell key -> why its rows could not be asked again, of the cells of this call where they could not."""

    @property
    def complete(self) -> bool:
        """Whether every cell is done."""
        return len(self.results) == len(self.cells)

    @property
    def left(self) -> int:
        """Cells that are neither done, nor stopped, nor failed."""
        return len(self.cells) - len(self.results) - len(self.stopped) - len(self.failures)

    @property
    def run(self) -> Run:
        """The run folder, opened: its cells and their rows."""
        return open_run(self.folder)

    def frame(self, table: Table = "results", *, library: Library | None = None, **only: str) -> Any:
        """The results or the samples as a data frame of pandas or polars: `Run.frame`.

        Raises:
            ConfigError: there is no such table, or neither library.
            StoreError: a file is damaged.
        """
        return self.run.frame(table, library=library, **only)

    def _repr_html_(self) -> str:
        """The first cells as a table, for a notebook."""
        return self.run._repr_html_()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run: the workers have ended, and what was done is kept."""

    def __init__(self, result: GridResult, why: str = "") -> None:
        """`why`: what has ended it, where nobody asked for that."""
        super().__init__()
        self.result = result
        self.why = why


def standing(config: GridConfig, cells: Sequence[Cell], store: Store) -> GridResult:
    """Where a grid stands, from its run folder."""
    done = store.done()
    left = [cell for cell in cells if cell.key not in done]
    stopped = store.stopped.among(done) if left else set()
    failed = store.failed() if left else set()
    # A cell fails where what it rests on has.
    failures = {cell.key: store.failure(min(why)) for cell in left if (why := cell.keys & failed)}
    return GridResult(
        config=config,
        folder=store.root,
        cells=tuple(cells),
        results=Results(store, [cell.key for cell in cells if cell.key in done]),
        failures=failures,
        stopped=frozenset(cell.key for cell in left if cell.key in stopped and cell.key not in failures),
    )
