"""TRAIN: load the frozen model once, train what the cells of a stage wait for, free it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from spt_fast.errors import DataError, ModelError, SptError, TrainingError, boundary
from spt_fast.models import memory
from spt_fast.plan.cell import Cell
from spt_fast.prompts.lora import Learnt
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.learning import loss_fall
from spt_fast.worker.events import PhaseStarted, Throttled
from spt_fast.worker.trained import Trained
from spt_fast.worker.training_group import TrainingGroup
from spt_fast.worker.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.training.run import TuningJob


def train(work: Workspace) -> None:
    """Train what cells wait for; those of one `tuning_key` together. What cannot be trained fails."""
    trained = Trained(work)
    groups = trained.groups()
    if not groups:
        return
    try:
        model = _load(work)
    except SptError as e:  # the engine may still be able to run what the trainer cannot load
        work.backlog.fail([cell for group in groups for cell in group.cells], e)
        return
    try:
        Training(work, model, trained).run(groups)
    finally:
        model.free()


def _load(work: Workspace) -> FrozenModel:
    """The frozen model of a stage.

    Raises:
        ModelError: it cannot be loaded, or not on one node.
    """
    from spt_fast.models.frozen_model import FrozenModel

    began = time.perf_counter()
    if work.stage.nodes:
        _require_one_node_holds_it(work)
    model = FrozenModel.load(
        work.model.source,
        revision=work.model.revision,
        dtype=work.model.dtype,
        trust_remote_code=work.model.trust_remote_code,
        gpus=work.model.tensor_parallel if work.stage.nodes else work.model.gpus,
    )
    work.shared_costs["load_s"] = time.perf_counter() - began
    return model


def _require_one_node_holds_it(work: Workspace) -> None:
    """What is spread over nodes to be asked is trained with on the first of them: gradients do not cross nodes.

    Raises:
        ModelError: it has too little memory for that.
    """
    gpus, size = work.model.tensor_parallel, work.model.weight_bytes
    seen = memory.free_and_total(gpus)
    if seen is None or size is None or size <= (there := gpus * seen[1]):
        return
    raise ModelError(
        f"{work.model.name}: soft prompts are learnt on one node, and its weights of {memory.gib(size)} GiB, spread over "
        f"{len(work.stage.nodes)} nodes to be asked, do not fit the {memory.gib(there)} GiB of GPU memory that it has of "
        "each; raise tensor_parallel, or leave its soft prompts out"
    )


class Training:
    """The trainings of a stage, with its model loaded."""

    def __init__(self, work: Workspace, model: FrozenModel, trained: Trained) -> None:
        from spt_fast.models.nearest_tokens import Lexicon

        self._work = work
        self._model = model
        self._trained = trained
        self._lexicon = Lexicon(model, work.tokenizer)

    def run(self, groups: Sequence[TrainingGroup]) -> None:
        """Train soft prompts, then adapters. What others start from is trained before them, and once."""
        memory.forget_peak()
        self._work.backlog.emit(PhaseStarted(phase="train"))
        adapters = [group for group in groups if group.longest.protocol.attaches == "adapter"]
        vectors = [group for group in groups if group not in adapters]
        self._train_vectors([group for group in vectors if group.longest.first is None])
        self._train_vectors([group for group in vectors if group.longest.first is not None])
        for group in adapters:
            self._train_adapter(group)

    def _train_vectors(self, groups: Sequence[TrainingGroup]) -> None:
        """Train the vectors of groups, several at once where that pays, unless cells are to be done one by one."""
        from spt_fast.training.trainer import learn_many

        of_job: dict[TuningJob, TrainingGroup] = {}
        at_once = 1 if self._work.backlog.one_by_one else None
        for tuned in learn_many(
            self._model, self._jobs(groups, of_job), pad_id=self._work.tokenizer.pad_token_id, at_once=at_once
        ):
            group = of_job.pop(tuned.job)
            try:
                if tuned.error is not None:
                    with boundary(TrainingError, "training"):
                        raise tuned.error
            except SptError as e:
                self._work.backlog.fail(group.cells, e)
                continue
            group.seconds += tuned.seconds
            # What an encoder starts from is no place where vectors have been.
            start = None if tuned.job.config.encoder is not None else tuned.job.start
            self._keep(group, tuned.prompts, start, {"prompts_at_once": float(tuned.at_once)})

    def _jobs(self, groups: Sequence[TrainingGroup], of_job: dict[TuningJob, TrainingGroup]) -> Iterator[TuningJob]:
        """The trainings of groups, each claimed when it is asked for; vectors that are not trained are kept at once.

        Args:
            groups: of cells.
            of_job: is told whose each training is.
        """
        tell = Throttled(self._work.backlog.emit)
        for group in self._begun(groups):
            began = time.perf_counter()
            try:
                with boundary(TrainingError, "training"):
                    group.start = start = self._start(group.cells[0])
                    if group.longest.protocol.learns:
                        job = group.soft_prompt_job(self._model, start, tell)
                    else:
                        prompts = group.random_vectors(self._model, start)
            except SptError as e:
                self._work.backlog.fail(group.cells, e)
                continue
            group.seconds = time.perf_counter() - began
            if group.longest.protocol.learns:
                of_job[job] = group
                yield job
            else:
                self._keep(group, prompts, prompts[0].vectors)

    def _train_adapter(self, whole: TrainingGroup) -> None:
        """Train the adapter of a group, alone: the model itself is another one meanwhile."""
        for group in self._begun([whole]):
            began = time.perf_counter()
            try:
                with boundary(TrainingError, "training"):
                    adapters = group.train_adapter(self._model, Throttled(self._work.backlog.emit))
            except SptError as e:
                self._work.backlog.fail(group.cells, e)
                continue
            group.seconds = time.perf_counter() - began
            self._keep(group, adapters)

    def _begun(self, groups: Sequence[TrainingGroup]) -> Iterator[TrainingGroup]:
        """The groups, each begun when it is asked for, with the cells that are still this worker's."""
        for group in groups:
            if cells := self._work.backlog.begin(group.cells, "train"):
                yield TrainingGroup(cells, self._work)

    def _start(self, cell: Cell) -> SoftPrompt | None:
        """The soft prompt that a cell's vectors start from with `init_from`, trained now where it is not there yet."""
        carried = self._work.starts.get(cell.key)
        if carried is not None and carried.hidden_size == self._model.hidden_size:  # else the series is of several models
            return carried
        if cell.first is not None:
            return self._first(cell.first, shown_as=cell.key)
        path = cell.protocol.starts_from
        if not cell.starts_with or path is None:
            return None
        given = SoftPrompt.load(path)
        if given.key != cell.starts_with:
            raise DataError(f"init_from: {path} has changed since the run began; start it again")
        return given

    def _first(self, first: Cell, *, shown_as: str) -> SoftPrompt:
        from spt_fast.training.trainer import learn_job

        found = self._trained.of(first)
        (last,) = first.steps
        assert last is not None
        if last not in found:
            group = TrainingGroup([first], self._work, shown_as=shown_as)
            job = group.soft_prompt_job(self._model, None, Throttled(self._work.backlog.emit))
            found.update(learn_job(self._model, job, pad_id=self._work.tokenizer.pad_token_id))
        prompt = found[last]
        assert isinstance(prompt, SoftPrompt)
        return prompt

    def _keep(
        self,
        group: TrainingGroup,
        steps: Mapping[int, Learnt],
        start: npt.NDArray[np.float32] | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """Give the cells of a group what was trained for them; vectors from this start, where it is known."""
        self._trained.of(group.longest).update(steps)
        self._look_up([steps[step] for cell in group.cells if (step := cell.steps[-1]) is not None], start)
        costs = {"train_s": group.seconds / len(group.cells), **(costs or {})}
        costs |= {f"train_peak_{what}": size for what, size in memory.peak(1).items()}
        if read := sum(point.positions for point in group.curve):
            costs["train_positions"] = read / len(
                group.cells
            )  # as the seconds: what they were trained for together, they share
        costs |= loss_fall(group.curve)
        for cell in group.cells:
            self._work.costs[cell.key] |= costs
            self._trained.give(cell, group.curve)

    def _look_up(self, steps: Sequence[Learnt], start: npt.NDArray[np.float32] | None) -> None:
        """Look up the nearest tokens of vectors, while the model is there."""
        # Nothing that was trained is lost because somebody could not look at it: `spt-fast inspect` will.
        with suppress(SptError), boundary(TrainingError, "inspecting"):
            for prompt in steps:
                if isinstance(prompt, SoftPrompt) and prompt.key not in self._work.meanings:
                    self._work.meanings[prompt.key] = self._lexicon.meaning(prompt, start=start)
