"""What a person sees while a grid runs: bars on a terminal, plain lines elsewhere. Always on stderr; results own stdout."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.prompts.carried import started_from
from spt_fast.tasks.losses import told
from spt_fast.terminal import console
from spt_fast.worker.events import (
    THIS_MACHINE,
    CellDone,
    CellFailed,
    CellTrained,
    Event,
    Noticed,
    Outlook,
    PhaseStarted,
    Progress,
    RowsRead,
    StageDone,
    WorkerEnded,
    WorkerStarted,
)
from spt_fast.worker.throughput import Throughput

if TYPE_CHECKING:
    from rich.progress import TaskID

DOING = {
    "wait": "waiting for room",
    "load": "reading the model's tokenizer and the rows",
    "train": "training soft prompts",
    "engine": "starting the engine",
    "evaluate": "evaluating",
    "rerun": "rerunning some rows",
    "judge": "judging completions",
}


class Watcher(ABC):
    """Shows events. A context manager, so that a terminal is left as it was found."""

    def __init__(self, cells: Mapping[str, Cell], done: int) -> None:
        """`cells`: those that are to be done, by key; `done`: how many of the grid were done before."""
        self.cells = cells
        self.done_before = done
        self._done: set[str] = set()
        self._failed: set[str] = set()
        self._learnt: set[str] = set()
        learning = (cell for cell in cells.values() if cell.judge is None and not cell.members)
        self.to_learn = sum(cell.protocol.attaches != "nothing" for cell in learning)
        self.began = time.monotonic()
        self.throughput = Throughput()
        self.gpus: dict[tuple[str, int], float] = {}
        """Of each worker there is."""
        self._outlook: tuple[float, float] | None = None
        """What the executor expects: seconds that were left, and when."""

    @abstractmethod
    def show(self, stage: Stage, event: Event) -> None:
        """Show one event."""

    def count(self, stage: Stage, event: Event) -> None:
        """Keep the books."""
        worker = (stage.model.name, stage.worker)
        self.throughput.take(worker, event, time.monotonic())
        match event:
            case Outlook(seconds_left=left):
                self._outlook = left, time.monotonic()
            case WorkerStarted(gpus=gpus):
                self.gpus[worker] = gpus
            case WorkerEnded():
                self.gpus.pop(worker, None)
            case CellDone(key=key) | CellFailed(key=key) if key in self.cells:
                (self._done if isinstance(event, CellDone) else self._failed).add(key)
            case CellTrained(key=key):
                self._learnt.add(key)

    @property
    def done(self) -> int:
        """Cells that are done; with those that have failed never more than there are, whatever is told twice."""
        return len(self._done)

    @property
    def failed(self) -> int:
        """Cells that have failed."""
        return len(self._failed - self._done)

    @property
    def learnt(self) -> int:
        """Cells that have learnt what they ask with."""
        return len(self._learnt)

    @property
    def time_left(self) -> str:
        """A guess from what is behind: "about 4 min left", or nothing before a first cell is done.

        To learn a soft prompt counts as much as to ask a cell: models first learn all of theirs, then are asked, and a guess
        from cells alone would begin far too high.
        """
        if self._outlook is not None:
            left, when = self._outlook
            return f"about {spoken(max(0.0, left - (time.monotonic() - when)))} left"
        behind = self.done + self.failed + self.learnt
        if not self.done + self.failed:
            return ""
        ahead = len(self.cells) - self.done - self.failed + max(0, self.to_learn - self.learnt)
        return f"about {spoken((time.monotonic() - self.began) / behind * ahead)} left"

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the terminal as it was."""
        self.stop()

    def stop(self) -> None:  # noqa: B027  (lines leave nothing to put back)
        """Put back what a subclass changed on the terminal."""


def watch(cells: Mapping[str, Cell], done: int, stream: TextIO | None = None) -> Watcher:
    """Bars where `stream` (stderr) is a terminal, lines where it is not."""
    stream = stream or sys.stderr
    return BarWatcher(cells, done) if stream.isatty() else LineWatcher(cells, done, stream)


def named(stage: Stage) -> str:
    """The model, and which of its workers where there are several."""
    return f"{stage.model.name} [{stage.worker}]" if stage.worker else stage.model.name


def counted(gpus: float) -> str:
    """1 GPU, 2 GPUs, 0.5 of a GPU."""
    return f"{gpus:g} of a GPU" if gpus < 1 else f"{gpus:g} GPU{'s' * (gpus != 1)}"


def spoken(seconds: float) -> str:
    """12 s, 4 min, 1 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class LineWatcher(Watcher):
    """A line for each phase and cell, and now and then one for progress: what a log wants."""

    EVERY_S = 15.0

    def __init__(self, cells: Mapping[str, Cell], done: int, stream: TextIO) -> None:
        super().__init__(cells, done)
        self._stream = stream
        self._told = time.monotonic()

    def show(self, stage: Stage, event: Event) -> None:
        """Print a line, or nothing."""
        self.count(stage, event)
        match event:
            case WorkerStarted(where=where, gpus=gpus) if where != THIS_MACHINE:
                self._line(f"{named(stage)}: on {where}{f' with {counted(gpus)}' if gpus else ''}")
            case WorkerEnded(reason=reason) if reason:
                self._line(f"{named(stage)}: its worker was lost ({reason}); what it had not done goes to another")
            case PhaseStarted(phase=phase):
                self._line(f"{named(stage)}: {DOING[phase]}{f' ({event.note})' if event.note else ''}")
            case RowsRead(report=report):
                for sentence in told([report], {cell.task.name for cell in stage.cells}):
                    self._line(sentence)
            case Progress() if time.monotonic() - self._told >= self.EVERY_S:
                cell = self.cells.get(event.key) if event.key else None
                what = cell.title if cell else named(stage)
                self._line(f"{what}: {event.done}/{event.total} {event.note}".rstrip())
            case Noticed(key=key, said=said):
                self._line(f"note    {self.cells[key].title}: {said}")
            case CellTrained(key=key) if event.curve:  # else learnt for another cell, or not at all
                self._line(f"trained {stage.by_key[key].title}: loss {_losses(event)}")
            case CellDone(key=key, result=result) if result.stopped is not None:
                enough = f"{result.stopped.n:,} of {result.stopped.of:,} rows were enough: {result.stopped.why}"
                self._line(f"stopped {stage.by_key[key].title}: {enough}  {self._tally}")
            case CellDone(key=key):
                self._line(f"{'again   ' if stage.rerun else 'done    '}{stage.by_key[key].title}  {self._tally}")
            case CellFailed(key=key, reason=reason):
                self._line(f"FAILED  {stage.by_key[key].title}: {reason}  {self._tally}")

    @property
    def _tally(self) -> str:
        left = f", {self.time_left}" if self.time_left and self.done + self.failed < len(self.cells) else ""
        return f"[{self.done + self.failed}/{len(self.cells)}{left}]"

    def _line(self, text: str) -> None:
        self._told = time.monotonic()
        print(text.replace("\n", " "), file=self._stream, flush=True)


class BarWatcher(Watcher):
    """A bar for the grid and one for what each worker does, with rich."""

    MOST = 12
    """Workers that have a bar at once; a cluster has more."""

    def __init__(self, cells: Mapping[str, Cell], done: int) -> None:
        super().__init__(cells, done)
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            TimeElapsedColumn(),
            console=console(sys.stderr),
            transient=True,
        )
        self._grid: TaskID = self._bars.add_task("cells", total=len(cells), note="")
        self._phases: dict[tuple[str, int], TaskID] = {}
        """By worker: a cluster has several at once."""

    def show(self, stage: Stage, event: Event) -> None:
        """Move the bars."""
        self.count(stage, event)
        worker = (stage.model.name, stage.worker)
        match event:
            case PhaseStarted(phase=phase):
                if event.note:
                    from rich.text import Text

                    self._bars.console.print(Text(f"{named(stage)}: {event.note}", style="dim"))
                self._end(stage)  # rich keeps a total that is set to None
                shown = len(self._phases) < self.MOST
                self._phases[worker] = self._bars.add_task(
                    f"{named(stage)}: {DOING[phase]}", total=None, note="", visible=shown
                )
            case Progress() if worker in self._phases:
                cell = self.cells.get(event.key) if event.key else None
                doing = f"{cell.task.name}, seed {cell.seed}" if cell else DOING[event.phase]
                self._bars.update(
                    self._phases[worker],
                    description=f"{named(stage)}: {doing}",
                    total=event.total,
                    completed=event.done,
                    note=event.note,
                )
            case Noticed(key=key, said=said):
                from rich.text import Text

                self._bars.console.print(Text(f"{self.cells[key].title}: {said}", style="yellow"))
            case CellFailed(key=key, reason=reason):
                from rich.text import Text

                self._bars.console.print(Text(f"FAILED  {stage.by_key[key].title}: {reason}", style="red"))
            case WorkerEnded() | StageDone():
                self._end(stage)
        self._bars.update(self._grid, completed=self.done + self.failed, note=self._note)

    @property
    def _note(self) -> str:
        """Beside the grid's bar: what failed, how fast it goes, how long still."""
        parts = [f"{self.failed} failed"] if self.failed else []
        if len(self.gpus) > 1:
            gpus = sum(self.gpus.values())
            parts.append(f"{len(self.gpus)} workers{f' on {counted(gpus)}' if gpus else ''}")
            if rate := self.throughput.per_s(time.monotonic()):
                parts.append(f"{rate:.0f} requests/s")
        return ", ".join([*parts, *([self.time_left] if self.time_left else [])])

    def _end(self, stage: Stage) -> None:
        bar = self._phases.pop((stage.model.name, stage.worker), None)
        if bar is not None:
            self._bars.remove_task(bar)
            for other in list(self._phases.values())[: self.MOST]:
                self._bars.update(other, visible=True)

    def __enter__(self) -> Watcher:
        self._bars.start()
        return self

    def stop(self) -> None:
        self._bars.stop()


def _losses(trained: CellTrained) -> str:
    """First and last: "6.31 -> 0.42 in 80 steps"; of what is carried along a series, also what was behind it."""
    told = f"{trained.curve[0].loss:.2f} -> {trained.curve[-1].loss:.2f} in {len(trained.curve)} steps"
    start = started_from(trained.prompts[max(trained.prompts)].provenance)
    if start is None:
        return told
    if start.cold:
        return f"{told}, after {start.updates} from a cold start"
    return f"{told}, after {start.updates} before it (from {start.model})"
