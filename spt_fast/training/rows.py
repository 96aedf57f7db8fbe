"""A worked example, as text, to a tuning row."""

from __future__ import annotations

from spt_fast.errors import DataError, ModelError
from spt_fast.models.tokenizer import Tokenizer, continuation
from spt_fast.training.batches import TuningRow


def tuning_row(tokenizer: Tokenizer, prompt: str, target: str) -> TuningRow:
    """The row that teaches to write `target`, and then to stop, behind `prompt`.

    The prompt's ids are those that the model is asked with later, whatever follows; the target's are the rest of the
    two encoded together. Where a token would cross the seam, the target is encoded by itself instead: no prompt that is
    asked ends in half a token.

    Args:
        tokenizer: the model's.
        prompt: the rendered prompt (`Tokenizer.render`).
        target: what is to be written, without outer white space.

    Raises:
        DataError: the target is empty.
        ModelError: the tokenizer has no end-of-sequence token.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{tokenizer.name}: the tokenizer has no end-of-sequence token, so nothing can be taught to stop")
    if not target.strip():
        raise DataError("a tuning row with an empty target")
    prompt_ids = tokenizer.prompt_ids(prompt)
    text = continuation(prompt, target)
    together = tokenizer.prompt_ids(prompt + text)
    crossed = together[: len(prompt_ids)] != prompt_ids
    target_ids = tokenizer.text_ids(text) if crossed else together[len(prompt_ids) :]
    return TuningRow(prompt_ids=prompt_ids, target_ids=(*target_ids, tokenizer.eos_token_id))
