"""A worked example, as text, to a tuning row."""

from __future__ import annotations

from spt_fast.errors import DataError, ModelError
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.training.batches import TuningRow


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
