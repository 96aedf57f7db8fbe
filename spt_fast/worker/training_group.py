"""Cells that are trained together, because they want the same thing at other steps or for other test rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from spt_fast.config import Lora, SoftPromptConfig, Vectors
from spt_fast.plan.cell import Cell
from spt_fast.prompts import carried
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.tasks.base import Task
from spt_fast.tasks.rows import Rows
from spt_fast.training.task import learn_task_by_lora, place, provenance, start, tuning_job
from spt_fast.types import TrainingStep
from spt_fast.worker.events import Progress
from spt_fast.worker.workspace import Workspace

if TYPE_CHECKING:
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.training.run import TuningJob


@dataclass(eq=False)
class TrainingGroup:
    """Cells of one `tuning_key`, and the one job that trains what they want."""

    cells: Sequence[Cell]
    work: Workspace
    shown_as: str = ""
    """Key of the cell that progress is told of; empty: of the one that is trained longest."""
    curve: list[TrainingStep] = field(default_factory=list)
    """The loss of every step so far."""
    seconds: float = field(default=0.0, init=False)
    """That preparing and training have taken so far."""
    start: SoftPrompt | None = field(default=None, init=False)
    """What its vectors start from with `init_from`."""

    @property
    def longest(self) -> Cell:
        """The cell that is trained longest: the others want some of its steps."""
        return max(self.cells, key=lambda cell: max(step for step in cell.steps if step is not None))

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that any of the cells wants."""
        return tuple({step for cell in self.cells for step in cell.steps if step is not None})

    def soft_prompt_job(self, model: FrozenModel, given: SoftPrompt | None, tell: Callable[[Progress], None]) -> TuningJob:
        """The training of a soft prompt; `given` is what the vectors start from with `init_from`."""
        protocol = self.longest.protocol
        assert isinstance(protocol, SoftPromptConfig)
        return tuning_job(
            model,
            self.work.tokenizer,
            self._task,
            self._rows,
            replace(protocol, evaluate_at=self.steps),
            seed=self._seed,
            chat=self.work.chat,
            on_step=self._telling(tell, protocol.steps),
            provenance=self._provenance,
            given=given,
        )

    def train_adapter(self, model: FrozenModel, tell: Callable[[Progress], None]) -> dict[int, LoraAdapter]:
        """Train a LoRA adapter."""
        protocol = self.longest.protocol
        assert isinstance(protocol, Lora)
        return learn_task_by_lora(
            model,
            self.work.tokenizer,
            self._task,
            self._rows,
            replace(protocol, evaluate_at=self.steps),
            seed=self._seed,
            chat=self.work.chat,
            on_step=self._telling(tell, protocol.steps),
            provenance=self._provenance,
        )

    def random_vectors(self, model: FrozenModel, given: SoftPrompt | None) -> dict[int, SoftPrompt]:
        """The vectors of a control that trains nothing."""
        protocol = self.longest.protocol
        assert isinstance(protocol, Vectors)
        vectors = start(model, self.work.tokenizer, self._rows, protocol, seed=self._seed, given=given)
        origin = provenance(self.work.model, self._task, self._seed)
        position = place(protocol, self.work.tokenizer)
        return {0: SoftPrompt(vectors=vectors, provenance={**origin, "position": position, "step": "0"})}

    @property
    def _task(self) -> Task:
        return self.longest.source.task

    @property
    def _rows(self) -> Rows:
        return self.work.rows.of(self.longest.source)

    @property
    def _seed(self) -> int:
        assert self.longest.seed is not None
        return self.longest.seed

    @property
    def _provenance(self) -> Mapping[str, str]:
        own = {**provenance(self.work.model, self._task, self._seed), "cell": self.longest.key}
        if self.start is None or not self.longest.protocol.carried:
            return own
        return {**own, **carried.provenance_of(self.start, thread=self.longest.thread)}

    def _telling(self, tell: Callable[[Progress], None], total: int) -> Callable[[TrainingStep], None]:
        """What is told of each step, which is added to the curve."""
        key = self.shown_as or self.longest.key

        def on_step(step: TrainingStep) -> None:
            self.curve.append(step)
            tell(Progress(phase="train", key=key, done=step.step, total=total, note=f"loss {step.loss:.3f}"))

        return on_step
