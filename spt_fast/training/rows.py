"""A worked example, as text, to a tuning row."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from spt_fast.errors import DataError, ModelError
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.training.batches import TuningRow
from spt_fast.types import Example


def tuning_row(tokenizer: Tokenizer, prompt: str, target: str, *, chat: bool = False) -> TuningRow:
    """The row that teaches to write `target`, and then to stop, behind `prompt`.

    The prompt's ids are those that the model is asked with later, whatever follows; the target's are the rest of the
    two encoded together. Where a token would reach across the seam, the target is encoded by itself instead
    (`Tokenizer.ids_behind`): no prompt that is asked ends in half a token.

    Args:
        tokenizer: the model's.
        prompt: the rendered prompt (`Tokenizer.render`).
        target: what is to be written, without outer white space.
        chat: whether the prompt went through the chat template.

    Raises:
        DataError: the target is empty.
        ModelError: the tokenizer has no end-of-sequence token.
    """
    return lesson_row(tokenizer, prompt, tokenizer.continuation(prompt, target, chat=chat))


def lesson_row(tokenizer: Tokenizer, prompt: str, continued: str) -> TuningRow:
    """The same of a target with the white space that it begins with behind the prompt.

    Raises:
        DataError: the target is empty.
        ModelError: the tokenizer has no end-of-sequence token.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{tokenizer.name}: the tokenizer has no end-of-sequence token, so nothing can be taught to stop")
    if not continued.strip():
        raise DataError("a tuning row with an empty target")
    target_ids = tokenizer.ids_behind(prompt, continued)
    return TuningRow(prompt_ids=tokenizer.prompt_ids(prompt), target_ids=(*target_ids, tokenizer.eos_token_id))


def shuffled_targets(examples: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """Examples whose targets have the form and tell nothing: a control.

    Closed-ended: any of a row's own options, the right one as likely as the others, so that it cannot even be learnt to
    avoid. Open-ended: the target of another row; the same ones in all, each somewhere else.

    Args:
        examples: the tuning rows.
        seed: of the cell; the same one gives the same targets.

    Raises:
        DataError: a single open-ended row, which has no other to take a target from.
    """
    drawn = random.Random(f"shuffled labels {seed}")
    closed = [bool(example.options) for example in examples]
    if all(closed):
        return tuple(replace(example, target=drawn.choice(example.options)) for example in examples)
    if len(examples) == 1:
        raise DataError("shuffled_labels needs at least two tuning rows")
    # Along one random cycle, nobody keeps their own.
    order = list(range(len(examples)))
    drawn.shuffle(order)
    moved = list(examples)
    for here, there in zip(order, [*order[1:], order[0]], strict=True):
        moved[here] = replace(examples[here], target=examples[there].target)
    return tuple(moved)
