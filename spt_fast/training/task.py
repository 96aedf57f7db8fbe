"""One soft prompt for one model and task: what `spt-fast tune` does, and what each cell of a grid does many times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spt_fast import tasks
from spt_fast.config import AUTO, ENCODER_RATE, RATE, Learning, Lora, ModelConfig, Protocol, SoftPromptConfig, Vectors
from spt_fast.errors import ConfigError, DataError, ModelError, boundary
from spt_fast.models.identity import Model, require_resolved, resolve
from spt_fast.prompts.initialize import initialize, root_mean_square
from spt_fast.prompts.soft_prompt import SoftPrompt, is_prompt_file
from spt_fast.scoring.score import follows_format
from spt_fast.tasks.library import chat_of
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import Example, Generate, Position, TrainingStep, Vocabulary
from spt_fast.version import version

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.tokenizer import Tokenizer
    from spt_fast.prompts.lora import LoraAdapter
    from spt_fast.tasks.base import Task
    from spt_fast.training.batches import TuningRow
    from spt_fast.training.run import Following, TuningJob


def tune(
    model: str | ModelConfig,
    task: str,
    config: SoftPromptConfig | None = None,
    *,
    seed: int = 0,
    data_files: str | Mapping[str, str] | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> dict[int, SoftPrompt]:
    """Learn one soft prompt.

    Args:
        model: a Hub id, a folder, `zoo/<name>`, or a `ModelConfig`.
        task: a task's name.
        config: length, steps, learning rate and so on; the paper's where left out. `init_from` is a file here.
        seed: of the vectors' start and the order of the rows.
        data_files: local rows instead of the Hub's, as in grid.yaml.
        on_step: told after every update.

    Returns:
        The soft prompts by step: those of `config.evaluate_at`, and the last.

    Raises:
        ConfigError: there is no such model or task; `init_from` names a task.
        ModelError, DataError, TrainingError: it cannot be loaded, read, learnt.
    """
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.tokenizer import load_tokenizer, uses_chat
    from spt_fast.training.trainer import learn_job

    config = config or SoftPromptConfig()
    given = None
    if config.carried:
        raise ConfigError("init_from: previous is for a series of checkpoints in a grid; name the file of a soft prompt")
    if config.init_from is not None:
        if not is_prompt_file(config.init_from):
            raise ConfigError(
                f"init_from: {config.init_from} is no file of a soft prompt; learn one on that task first, and name its file"
            )
        given = SoftPrompt.load(config.init_from)
    rows = load_rows(tasks.get(task), data_files=data_files, need={"tuning"})
    resolved = require_resolved(resolve(ModelConfig(id=model) if isinstance(model, str) else model)[0])
    tokenizer = load_tokenizer(resolved)
    frozen = FrozenModel.load(
        resolved.source,
        revision=resolved.revision,
        dtype=resolved.dtype,
        trust_remote_code=resolved.trust_remote_code,
        gpus=resolved.gpus,
    )
    try:
        job = tuning_job(
            frozen,
            tokenizer,
            config.asks(tasks.get(task)),
            rows,
            config,
            seed=seed,
            chat=uses_chat(resolved, tokenizer),
            given=given,
            on_step=on_step,
            provenance=provenance(resolved, tasks.get(task), seed),
        )
        return learn_job(frozen, job, pad_id=tokenizer.pad_token_id)
    finally:
        frozen.free()


def tuning_job(
    model: FrozenModel,
    tokenizer: Tokenizer,
    task: Task,
    rows: Rows,
    config: SoftPromptConfig,
    *,
    seed: int,
    chat: bool,
    provenance: Mapping[str, str],
    given: SoftPrompt | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> TuningJob:
    """What is to be learnt of a task: its tuning rows, rendered for a loaded model, and where the vectors start.

    `given` is the soft prompt that `init_from` stands for.

    Raises:
        DataError: there are no tuning rows, or fewer than the steps take and `repeat_rows` is off.
        ModelError: the tokenizer has no BOS for `after_bos`.
    """
    require_rows(task, rows, config)
    config = settled(config, model, tokenizer)
    from spt_fast.training.run import TuningJob

    tuning_rows = _tuning_rows(tokenizer, task, rows, config, seed=seed, chat=chat)
    on_format = config.patience_on == "format"
    return TuningJob(
        rows=tuning_rows,
        config=config,
        seed=seed,
        start=start(model, tokenizer, rows, config, seed=seed, given=given),
        on_step=on_step,
        provenance={**provenance, "lr": f"{config.rate:.6g}"},
        following=_following(model, tokenizer, task, rows.tuning, tuning_rows, config) if on_format else None,
        last=rows.choosing,
    )


def settled(config: SoftPromptConfig, model: FrozenModel, tokenizer: Tokenizer) -> SoftPromptConfig:
    """With numbers and a place where the settings say `auto`.

    Raises:
        ModelError: the tokenizer has no BOS for `after_bos`.
        DataError: it has no tokens to take a scale from.
    """
    rate = config.lr
    if rate == AUTO and config.encoder is not None:
        rate = ENCODER_RATE
    elif rate == AUTO:
        rate = RATE * _unit(model, tokenizer)
    return replace(config, lr=rate, position=place(config, tokenizer))


def place(config: Vectors, tokenizer: Tokenizer) -> Position:
    """Where the vectors stand for a model.

    Raises:
        ModelError: the tokenizer has no BOS for `after_bos`.
    """
    has_bos = tokenizer.bos_token_id is not None
    if config.position == "auto":
        return "after_bos" if has_bos else "front"
    if config.position == "after_bos" and not has_bos:
        raise ModelError(
            f"{tokenizer.name}: puts no BOS in front of a text, so nothing can stand after it; leave position out, or set front"
        )
    return config.position


def _unit(model: FrozenModel, tokenizer: Tokenizer) -> float:
    from spt_fast.training.vocabulary import ModelVocabulary

    return root_mean_square(ModelVocabulary(model, tokenizer))


def learn_task_by_lora(
    model: FrozenModel,
    tokenizer: Tokenizer,
    task: Task,
    rows: Rows,
    config: Lora,
    *,
    seed: int,
    chat: bool,
    provenance: Mapping[str, str],
    on_step: Callable[[TrainingStep], None] | None = None,
) -> dict[int, LoraAdapter]:
    """Render a task's tuning rows, as for a soft prompt, and learn the LoRA adapters by step.

    Raises:
        DataError: there are no tuning rows, or fewer than the steps take and `repeat_rows` is off.
        ModelError: PEFT is missing, or the model has no such layers.
        TrainingError: it came to nothing.
    """
    require_rows(task, rows, config)
    from spt_fast.training.lora import learn_lora

    return learn_lora(
        model,
        _tuning_rows(tokenizer, task, rows, config, seed=seed, chat=chat),
        config,
        seed=seed,
        pad_id=tokenizer.pad_token_id,
        on_step=on_step,
        provenance=provenance,
        last=rows.choosing,
    )


def _tuning_rows(tokenizer: Tokenizer, task: Task, rows: Rows, config: Learning, *, seed: int, chat: bool) -> list[TuningRow]:
    from spt_fast.training.rows import lesson_row, tuning_row

    with boundary(DataError, f"{config.name}: choosing what to learn from"):
        examples = config.learns_from(rows.tuning, seed)
    if task.library is not None:
        prompts = task.library.prompts(rows, chat=chat_of(tokenizer) if chat else None)
        return [lesson_row(tokenizer, *prompts.lesson(example)) for example in examples]
    return [
        tuning_row(tokenizer, tokenizer.render(task.template.prompt(example), chat=chat), example.target, chat=chat)
        for example in examples
    ]


def _following(
    model: FrozenModel,
    tokenizer: Tokenizer,
    task: Task,
    examples: Sequence[Example],
    rows: Sequence[TuningRow],
    config: SoftPromptConfig,
) -> Following:
    """Has the loaded model answer tuning rows as the engine will answer test rows: greedily, to the end of the answer.

    An answer may have twice as many tokens as the longest that is taught: one that goes on is cut off, and not in form.
    """
    from spt_fast.engine.transformers import TransformersEngine

    engine = TransformersEngine.around(model, tokenizer, batch_size=config.held_out)
    longest = 2 * max(len(row.target_ids) for row in rows)

    def following(vectors_PH: npt.NDArray[np.float32], chosen: Sequence[int]) -> list[bool]:
        key = engine.add(SoftPrompt(vectors=vectors_PH))
        requests = []
        for i in chosen:
            room = engine.max_model_len - config.length - len(rows[i].prompt_ids)
            sampling = replace(task.sampling, max_tokens=max(1, min(task.sampling.max_tokens, longest, room)))
            ids = rows[i].prompt_ids
            requests.append(Generate(token_ids=ids, sampling=sampling, soft_prompt=key, position=place(config, tokenizer)))
        written = engine.generate(requests)
        return [follows_format(task, examples[i], text) for i, text in zip(chosen, written, strict=True)]

    return following


def start(
    model: FrozenModel, tokenizer: Tokenizer, rows: Rows, config: Vectors, *, seed: int, given: SoftPrompt | None = None
) -> npt.NDArray[np.float32]:
    """The vectors before the first step for a loaded model, `[P, H]`.

    `given` is the soft prompt that `init_from` stands for.

    Raises:
        DataError: the start that is asked for cannot be had from this task, model or soft prompt.
    """
    from spt_fast.training.vocabulary import ModelVocabulary, answer_words

    answers = answer_words(rows.tuning) if config.init == "answers" else ()
    vocabulary = ModelVocabulary(model, tokenizer)
    if (own := _first_vectors(config, vocabulary, model.hidden_size, seed)) is not None:
        return own
    return initialize(config, model.hidden_size, seed, vocabulary, answers=answers, given=given)


def _first_vectors(config: Vectors, vocabulary: Vocabulary, hidden_size: int, seed: int) -> npt.NDArray[np.float32] | None:
    """What a protocol of another package starts from, checked."""
    with boundary(DataError, f"{config.name}: making its vectors"):
        found = config.first_vectors(vocabulary, hidden_size, seed)
        if found is None:
            return None
        vectors = SoftPrompt(vectors=found).vectors
    if vectors.shape != (config.length, hidden_size):
        raise DataError(
            f"{config.name}: made vectors of shape {list(vectors.shape)}, and must make {[config.length, hidden_size]} "
            "(length, the model's width)"
        )
    return vectors


def require_rows(task: Task, rows: Rows, config: Protocol) -> None:
    """Refuse to tune on rows that are not there, or on the same few again and again unless that is asked for.

    Raises:
        DataError: says how many there are and what can be done.
    """
    found = len(rows.tuning)
    if not found:
        raise DataError(
            f"{task.name}: there is nothing to tune on: its only rows are test rows; leave {config.name} out for this task, "
            "or give tuning rows as data_files"
        )
    if not task.repeat_rows and (said := config.too_few(found)):
        raise DataError(f"{task.name}: {said}")


def provenance(model: Model, task: Task, seed: int) -> dict[str, str]:
    """Where a soft prompt comes from, for its header."""
    return {
        "model": model.name,
        "source": str(Path(model.source).name) if Path(model.source).is_dir() else model.source,
        "revision": model.revision or "",
        "fingerprint": model.fingerprint,
        "task": f"{task.name} v{task.version}",
        "seed": str(seed),
        "spt_fast": version(),
    }
