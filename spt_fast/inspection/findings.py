"""Finding out what is not known of soft prompts: their nearest tokens, from the loaded model; what they do, from its engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from spt_fast.errors import ConfigError, SptError
from spt_fast.inspection.inspected import Inspected, Wanted
from spt_fast.inspection.origin import Origin
from spt_fast.models.identity import Model
from spt_fast.prompts.meaning import Meaning


def find_out(found: Sequence[Inspected], origin: Origin, wanted: Wanted, say: Callable[[str], None]) -> None:
    """Find out what is not known of prompts of one model, with at most one load of it and one start of its engine.

    Args:
        found: the prompts; what is found out is put into them.
        origin: of all of them.
        wanted: what is to be found out.
        say: is told how far it is.

    Raises:
        ConfigError: the model or task is not there, or does not fit.
        ModelError, DataError, EngineError: what an engine is to be asked cannot be.
    """
    missing = [each for each in found if each.meaning is None or _fewest(each.meaning) < wanted.top]
    if not missing and not wanted.asks:
        return
    try:
        model = origin.resolved(wanted.model)
        if missing:
            _look_up_tokens(missing, model, wanted)
    except SptError as e:
        if wanted.model is not None or wanted.asks:
            raise
        for each in missing:
            each.note = f"no nearest tokens: {e}; name the model with --model"
        return
    if wanted.asks:
        _ablate(found, origin, model, wanted, say)


def _fewest(meaning: Meaning) -> int:
    return min(len(vector.by_cosine) for vector in meaning.vectors)


def _look_up_tokens(found: Sequence[Inspected], model: Model, wanted: Wanted) -> None:
    """Nearest tokens and norms."""
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.nearest_tokens import TOP, Lexicon
    from spt_fast.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(model)
    frozen = FrozenModel.load(
        model.source,
        revision=model.revision,
        dtype=model.dtype,
        trust_remote_code=model.trust_remote_code,
        gpus=model.gpus,
    )
    try:
        lexicon = Lexicon(frozen, tokenizer)
        for each in found:
            if each.prompt.hidden_size != frozen.hidden_size:
                raise ConfigError(
                    f"{model.name}: has H = {frozen.hidden_size}, and the soft prompt has H = {each.prompt.hidden_size}"
                )
            known, new = each.meaning, lexicon.meaning(each.prompt, top=max(TOP, wanted.top))
            if known is not None:  # where the vectors started is known only to who learnt them
                moved = (vector.moved for vector in known.vectors)
                new = replace(new, vectors=tuple(replace(v, moved=m) for v, m in zip(new.vectors, moved, strict=True)))
            each.meaning = new
    finally:
        frozen.free()


def _ablate(found: Sequence[Inspected], origin: Origin, model: Model, wanted: Wanted, say: Callable[[str], None]) -> None:
    """What the vectors do: one engine for all prompts."""
    from spt_fast.engine import config_of, open_engine
    from spt_fast.inspection.ablation import Subject, probe
    from spt_fast.models.tokenizer import load_tokenizer, uses_chat

    subjects = []
    for each in found:
        name = wanted.task or each.task
        if name is None:
            raise ConfigError(f"{each.file}: does not say which task it was trained on; name it with --task")
        nearest = () if each.meaning is None else each.meaning.vectors
        subjects.append(
            Subject(
                prompt=each.prompt,
                task=origin.rows(name),
                position=each.position,
                leave_one_out=wanted.leave_one_out,
                token_ids=tuple(vector.by_cosine[0].token_id for vector in nearest) if wanted.as_text else (),
            )
        )
    rows = {task.name: task.read(wanted.rows) for task in {subject.task.name: subject.task for subject in subjects}.values()}
    tokenizer = load_tokenizer(model)
    settings = origin.engine if wanted.engine is None else {"kind": wanted.engine}
    say(f"{model.name}: starting its engine")
    with open_engine(config_of(model, settings)) as engine:

        def tell(done: int, total: int) -> None:
            if done == total or done % max(1, total // 10) == 0:
                say(f"{model.name}: {done:,} of {total:,} requests answered")

        chat = uses_chat(model, tokenizer)
        for each, answered in zip(found, probe(subjects, rows, engine, tokenizer, model, chat=chat, tell=tell), strict=True):
            each.probe = answered
