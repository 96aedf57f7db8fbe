"""What was trained for a stage, by `tuning_key`: cells that share one get their steps of the same training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from spt_fast.plan.cell import Cell
from spt_fast.prompts.lora import Learnt
from spt_fast.types import TrainingStep
from spt_fast.worker.events import CellTrained
from spt_fast.worker.training_group import TrainingGroup
from spt_fast.worker.workspace import Workspace


class Trained:
    """The steps that are there, of all trainings of a stage."""

    def __init__(self, work: Workspace) -> None:
        """With what earlier runs have trained for the cells of `work`."""
        self._work = work
        self._steps: defaultdict[str, dict[int, Learnt]] = defaultdict(dict)
        for cell in work.backlog.left.values():
            self.of(cell).update(work.learnt.get(cell.key, {}))

    def of(self, cell: Cell) -> dict[int, Learnt]:
        """Step -> what was trained that this cell may want; to be added to."""
        return self._steps[cell.tuning_key]

    def groups(self) -> list[TrainingGroup]:
        """The cells that wait for their training, those that are trained together in one group.

        Cells whose steps are all there get them, and wait no more.
        """
        groups: defaultdict[str, list[Cell]] = defaultdict(list)
        for cell in self._work.untrained():
            if set(cell.steps) <= set(self.of(cell)):
                self.give(cell)
            else:
                groups[cell.tuning_key].append(cell)
        return [TrainingGroup(cells, self._work) for cells in groups.values()]

    def give(self, cell: Cell, curve: Sequence[TrainingStep] = ()) -> None:
        """Give a cell its steps of what was trained.

        Args:
            cell: that wants them.
            curve: the loss of every step; none: of an earlier run.
        """
        steps = [step for step in cell.steps if step is not None]
        own = {step: self.of(cell)[step] for step in steps}
        self._work.learnt[cell.key] = own
        last = max(steps)
        cut = tuple(point for point in curve if point.step <= last)
        costs = {**self._work.shared_costs, **self._work.costs[cell.key]}
        meaning = self._work.meanings.get(own[last].key)
        self._work.backlog.emit(CellTrained(key=cell.key, prompts=own, curve=cut, meaning=meaning, costs=costs))
