"""One soft prompt while it is learnt: its vectors, optimiser, batches, early stop, and what is kept. The passes are the
trainer's.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spt_fast.config import AUTO, Learning, SoftPromptConfig
from spt_fast.errors import DataError, TrainingError
from spt_fast.models import finite
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.prompts.initialize import initialize
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.training.batches import TuningRow, batches
from spt_fast.training.encoders import encoder
from spt_fast.training.optimizers import optimizer, schedule
from spt_fast.types import Position, TrainingStep

Following: TypeAlias = Callable[[npt.NDArray[np.float32], Sequence[int]], Sequence[bool]]
"""From vectors `[P, H]` and indices of rows to whether each of these is answered in the form asked for."""
MOST_CHECKS = 100_000
"""Verdicts of held-out rows that are kept with the vectors, of all checks together; of more, none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TuningJob:
    """A soft prompt that is to be learnt."""

    rows: Sequence[TuningRow]
    """Worked examples."""
    config: SoftPromptConfig
    """Length, steps, optimiser and where the vectors stand."""
    seed: int
    """Of the vectors' start, of an encoder's weights, of the order of the rows and of which are held out."""
    start: npt.NDArray[np.float32] | None = None
    """`[P, H]`, where the vectors, or the inputs of their encoder, start; None: `initialize`, without a vocabulary."""
    on_step: Callable[[TrainingStep], None] | None = None
    """Told of each step, after its update."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Kept with the vectors, beside seed, step and position."""
    following: Following | None = None
    """Needed for `patience_on: format`."""
    last: Sequence[int] = ()
    """Rows that are learnt on last, in this order, and not held out where there are enough others."""

    @property
    def position(self) -> Position:
        """Where its vectors stand; `tuning.settled` puts a place instead of `auto`."""
        assert self.config.position != AUTO, "position: auto was not settled"
        return self.config.position


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """What one soft prompt has in a pass."""

    vectors_PH: Tensor
    """`[P, H]` fp32, a leaf whose gradient is wanted."""
    rows: Sequence[TuningRow]
    """Those of one step."""
    position: Position = "front"
    """Where the vectors stand."""

    @property
    def positions(self) -> int:
        """Tokens and vectors that go into the model, without padding."""
        return sum(len(row) + len(self.vectors_PH) for row in self.rows)


class Run:
    """The state of one soft prompt between two passes."""

    def __init__(self, model: FrozenModel, job: TuningJob) -> None:
        """Stand before the first step.

        Raises:
            DataError: no rows, or none beside the held-out ones, a row longer than the model's positions, or one without
                BOS for `after_bos`.
        """
        self.job = job
        self.config = config = job.config
        self._model = model
        check_rows(job.rows, model, length=config.length, position=job.position)
        self._held_out = _held_out(len(job.rows), config, job.seed, job.last)
        chosen = set(self._held_out)
        taught = [i for i in range(len(job.rows)) if i not in chosen]
        rows = [job.rows[i] for i in taught]
        place = {number: i for i, number in enumerate(taught)}
        last = [place[number] for number in job.last if number in place]
        # The master copy is fp32, whatever the model's dtype: an update of 1e-3 would be lost on most bf16 numbers near 1.
        start = initialize(config, model.hidden_size, job.seed) if job.start is None else job.start
        self._learner = encoder(config, torch.tensor(start, device=model.device), job.seed)
        self._update = optimizer(config, self._learner.parameters())
        self._rates = schedule(config, self._update)
        self._stream = islice(batches(rows, config.batch_size, seed=job.seed, last=last), config.steps)
        self._smallest: int | None = None
        self._best = _Best()
        self.step = 0
        """Updates so far."""
        self.seconds = 0.0
        """What its passes took; of those that it shared with others, its part."""
        self.at_once = 1
        """Most soft prompts that one of its passes had."""
        self.learnt: dict[int, SoftPrompt] = {}
        """By step, what is kept so far."""
        self._checks: dict[int, Sequence[bool]] = {}
        """Updates -> of each held-out row, whether it was answered in form."""
        self._keep_point()

    def vectors(self) -> Tensor:
        """The vectors as they are, `[P, H]`, without a gradient."""
        vectors_PH: Tensor = self._learner()
        return vectors_PH.detach()

    def share(self) -> Share:
        """What the next step's pass is to have of it."""
        self._made_PH: Tensor = self._learner()
        self._batch = next(self._stream)
        # A leaf of its own: here the model's part of the gradient ends, over all micro-batches, and an encoder's begins.
        leaf_PH = self._made_PH.detach().requires_grad_(True)
        return Share(vectors_PH=leaf_PH, rows=self._batch, position=self.job.position)

    def update(self, loss: Tensor, gradient_PH: Tensor, rows_at_once: int, *, at_once: int) -> None:
        """Take the step that `share` was for.

        Args:
            loss: a scalar.
            gradient_PH: `[P, H]`.
            rows_at_once: rows that there was memory for.
            at_once: soft prompts that shared the pass.

        Raises:
            TrainingError: the loss, its gradient or the vectors are no longer finite.
        """
        config, self.step = self.config, self.step + 1
        self.at_once = max(self.at_once, at_once)
        if rows_at_once < len(self._batch):
            self._smallest = min(rows_at_once, self._smallest or rows_at_once)
        norm = torch.linalg.vector_norm(gradient_PH)
        positions = sum(len(row) for row in self._batch) + len(self._batch) * len(gradient_PH)
        report = TrainingStep(step=self.step, loss=loss.item(), grad_norm=norm.item(), positions=positions)
        self._require_finite("loss", report.loss)
        self._require_finite("gradient norm", report.grad_norm)
        if config.max_grad_norm is not None and report.grad_norm > config.max_grad_norm:
            gradient_PH = gradient_PH * (config.max_grad_norm / norm)
        self._update.zero_grad()
        self._made_PH.backward(gradient_PH)
        self._update.step()
        self._rates.step()
        self._keep_point()
        if self.job.on_step is not None:
            self.job.on_step(report)

    @property
    def is_due(self) -> bool:
        """Whether the held-out rows are to be looked at now (`see`)."""
        return self.config.patience is not None and (self.step % self.config.check_every == 0 or self.step == self.config.steps)

    @property
    def held_out(self) -> list[TuningRow]:
        """Rows that nothing is learnt from."""
        return [self.job.rows[i] for i in self._held_out]

    def see(self, loss: float) -> None:
        """Take note of the loss on held-out rows, and see how many are answered in form where that is asked for.

        Raises:
            TrainingError: it is not finite.
        """
        self._require_finite("loss on held-out rows", loss)
        vectors_PH = self.vectors()
        share = self._check(vectors_PH) if self.config.patience_on == "format" else 0.0
        self._best.see(self.step, share, loss, vectors_PH)

    def _check(self, vectors_PH: Tensor) -> float:
        """The share of held-out rows that are answered in form."""
        assert self.job.following is not None
        found = self._checks[self.step] = self.job.following(vectors_PH.cpu().numpy(), self._held_out)
        return sum(found) / len(found)

    @property
    def has_ended(self) -> bool:
        """Whether all steps are taken, or no more are wanted."""
        patience = self.config.patience
        stalled = patience is not None and self.is_due and self.step - self._best.risen >= patience
        return self.step == self.config.steps or stalled

    def finish(self) -> None:
        """Keep what is known only at the end: the best vectors, for the last step and for those behind an early stop."""
        if self.config.patience is None:
            return
        told = {**self._best.told(self.config), "steps_taken": str(self.step)}
        if self._checks and len(self._checks) * len(self._held_out) <= MOST_CHECKS:
            told["held_out_checks"] = json.dumps({n: "".join("01"[ok] for ok in rows) for n, rows in self._checks.items()})
        for point in self.config.checkpoints:
            if point >= self.step:
                self._keep(point, self._best.vectors_PH, **told)

    def _keep_point(self) -> None:
        if self.step in self.config.checkpoints:
            self._keep(self.step, self.vectors())

    def _keep(self, step: int, vectors_PH: Tensor, **more: str) -> None:
        if not vectors_PH.isfinite().all():
            raise TrainingError(f"step {step}: the vectors overflow; a smaller lr than {self.config.rate:g} may help")
        origin = {**self.job.provenance, "seed": str(self.job.seed), "position": self.job.position}
        if self.config.encoder is not None:
            origin["trained_parameters"] = str(sum(parameter.numel() for parameter in self._learner.parameters()))
        if self._smallest is not None:
            origin["micro_batch"] = str(self._smallest)
        if self.at_once > 1:
            origin["prompts_at_once"] = str(self.at_once)
        provenance = {**origin, **more, "step": str(step)}
        self.learnt[step] = SoftPrompt(vectors=vectors_PH.cpu().numpy(), provenance=provenance)

    def _require_finite(self, what: str, value: float) -> None:
        require_finite(what, value, self.step, self.config, self._model)


@dataclass
class _Best:
    """The best vectors so far: those with the most answers in form, and of these the ones with the lowest loss."""

    step: int = 0
    risen: int = 0
    """The step since which nothing that is waited for has become better."""
    share: float = 0.0
    """Of held-out rows, those answered in form; always 0 where only the loss counts."""
    loss: float = math.inf
    vectors_PH: Tensor = field(default_factory=lambda: torch.empty(0))

    def see(self, step: int, share: float, loss: float, vectors_PH: Tensor) -> None:
        """Take these vectors if they are better."""
        if (share, -loss) <= (self.share, -self.loss):
            return
        if share > self.share or share < 1:
            self.risen = step
        self.step, self.share, self.loss, self.vectors_PH = step, share, loss, vectors_PH.clone()

    def told(self, config: SoftPromptConfig) -> dict[str, str]:
        """For the provenance."""
        share = {"held_out_format_following": f"{self.share:.4f}"} if config.patience_on == "format" else {}
        return {"best_step": str(self.step), "held_out_loss": f"{self.loss:.4f}", **share}


def _held_out(rows: int, config: SoftPromptConfig, seed: int, last: Sequence[int] = ()) -> list[int]:
    """Which rows are held out: a sample, for published rows are often sorted by subject; none of `last`, where that can be."""
    if config.patience is None:
        return []
    if rows <= config.held_out:
        raise DataError(f"of {rows} tuning rows, {config.held_out} are to be held out; lower {config.name}.held_out")
    spared = set(last) if rows - len(last) > config.held_out else set()
    pool = [i for i in range(rows) if i not in spared]
    return sorted(random.Random(f"held-out rows {seed}").sample(pool, config.held_out))


def require_finite(what: str, value: float, step: int, config: Learning, model: FrozenModel) -> None:
    """Refuse to go on from a number that is none.

    Raises:
        TrainingError: it is NaN or infinite. It says what is at fault: the weights, their dtype, or how fast is learnt.
    """
    if not math.isfinite(value):
        raise TrainingError(f"step {step}: the {what} is {value}; {_fault(model, step, config)}")


def _fault(model: FrozenModel, step: int, config: Learning) -> str:
    if found := model.fault():
        return found
    # Nothing was learnt before the loss of the first step.
    if step <= 1 and model.dtype != torch.float32:
        return finite.overflow(str(model.dtype).removeprefix("torch."))
    return f"a smaller lr than {config.rate:g} may help"


def check_rows(rows: Sequence[TuningRow], model: FrozenModel, *, length: int = 0, position: Position = "front") -> None:
    """Refuse rows that cannot be learnt behind `length` soft positions.

    Raises:
        DataError: there are none, one is too long, one is without BOS for `after_bos`, or they are of another tokenizer.
    """
    if not rows:
        raise DataError("there are no rows to tune on")
    longest, most = max(map(len, rows)), model.max_position_embeddings
    if longest + length > most:
        raise DataError(
            f"a tuning row of {longest} tokens and {length} soft positions do not fit the model's {most} positions; "
            "give shorter rows as data_files, or leave the task out for this model"
        )
    if position == "after_bos" and not all(row.prompt_ids for row in rows):
        raise DataError("position: after_bos needs a first token in every prompt; one is empty")
    # On a GPU an id outside the table is a device-side assertion, after which the process is of no use.
    highest = max(max((*row.prompt_ids, *row.target_ids)) for row in rows)
    if highest >= model.vocab_size:
        raise DataError(
            f"token id {highest} is outside the model's vocabulary of {model.vocab_size}; is it the right tokenizer?"
        )
