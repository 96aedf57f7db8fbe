"""Prompts of a task of lm-eval, byte for byte its own: description, worked examples, question, delimiters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spt_fast.errors import ConfigError, DataError, first_line
from spt_fast.tasks.gold import distinct
from spt_fast.tasks.library import Chat, Continued, Prompt, Prompts, Rows
from spt_fast.tasks.lm_eval import door
from spt_fast.tasks.lm_eval.known import Known
from spt_fast.types import Example


class LmEvalPrompts(Prompts):
    """What is asked of the rows of one cell.

    Worked examples are drawn row by row, as `lm_eval` does in a run over all test rows as they are published, seeded with 1234
    and more: seed 0 of a grid gives the prompts of `lm_eval`'s default. So a row's prompt does not depend on which others are
    asked, unless the rows that shots come from are others.
    """

    def __init__(self, task: Known, ready: door.Ready, rows: Rows, *, shots: int, seed: int | None, chat: Chat | None) -> None:
        self._task, self._ready, self._rows, self._chat = task, ready, rows, chat
        self._shots = shots
        self._few_shot: dict[str, Any] = {}
        if shots:
            ready.seed(door.FEWSHOT_SEED + (seed or 0))
            self._draw_all(sorted(rows.test, key=lambda example: example.place))

    def of(self, example: Example) -> Prompt:
        """What is asked of a test row, or of a row by which the best scoring method is chosen."""
        context = self._few_shot.get(example.key) or self._context(example)
        asked = self._continued(example, context)
        text = context if isinstance(context, str) else context[0]
        if self._ready.output_type == "generate_until":
            return Prompt(text=text, answers=self._answers(example, text))
        k = len(example.options)
        return Prompt(text=text, options=asked[:k], beside=asked[k:], answers=() if k else asked[:1])

    def lesson(self, example: Example) -> Continued:
        """What is taught by a tuning row, without worked examples."""
        context = self._context(example, shots=0)
        if example.options:  # the right one, or with `shuffled_labels` any
            return self._continued(example, context)[example.options.index(example.target)]
        assert isinstance(context, str)
        if self._ready.output_type == "loglikelihood":
            return self._continued(example, context)[0]
        return context, self._behind(example, context, example.target)

    def _answers(self, example: Example, context: str) -> tuple[Continued, ...]:
        """None where all rows have the same target, which is then no answer."""
        texts = () if self._task.constant else distinct(example.answers)
        return tuple((context, self._behind(example, context, text)) for text in texts)

    def _behind(self, example: Example, context: str, answer: str) -> str:
        if self._chat is not None and not self._ready.has_prefix(_doc(example)):
            return self._chat.behind(context, answer)
        return self._ready.answer(_doc(example), answer, plain=self._chat is None)

    def _continued(self, example: Example, context: str | list[str]) -> tuple[Continued, ...]:
        if self._ready.output_type == "generate_until":
            return ()
        found = self._ready.requests(_doc(example), context, chat=self._chat is not None)
        return tuple((str(before), str(behind)) for before, behind, *_ in found)

    def _draw_all(self, examples: Sequence[Example]) -> None:
        drawn = 0
        for example in examples:
            while drawn < example.place:
                self._drawing(lambda: self._ready.draw(self._shots))
                drawn += 1
            # A row that appears twice has one place each.
            self._few_shot[example.key] = self._context(example)
            drawn += 1

    def _context(self, example: Example, shots: int | None = None) -> str | list[str]:
        write = None if self._chat is None else self._chat.write
        found: str | list[str] = self._drawing(
            lambda: self._ready.context(_doc(example), self._shots if shots is None else shots, write)
        )
        return found

    def _drawing(self, draw: Any) -> Any:
        try:
            return draw()
        except (ConfigError, DataError):
            raise
        except Exception as e:
            pool = len(self._ready.inner.sampler.df)
            if pool <= self._shots > 0:
                raise DataError(
                    f"lm-eval:{self._task.name}: few_shot wants {self._shots} shots, and there are {pool} rows to draw them "
                    "from; ask for fewer, or give more rows"
                ) from None
            raise DataError(f"lm-eval:{self._task.name}: a row cannot be asked ({type(e).__name__}: {first_line(e)})") from e


def _doc(example: Example) -> door.Doc:
    assert example.row is not None
    return example.row
