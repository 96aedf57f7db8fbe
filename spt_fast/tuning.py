"""One soft prompt for one model and task: what `spt-fast tune` does, and what each cell of a grid does many times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from spt_fast import tasks
from spt_fast.config import ModelConfig, SoftPromptConfig
from spt_fast.errors import ModelError
from spt_fast.models.identity import Model, require_resolved, resolve
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import TrainingStep

if TYPE_CHECKING:
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.tokenizer import Tokenizer
    from spt_fast.tasks.base import Task


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
        config: length, steps, learning rate and so on; the paper's where left out.
        seed: of the vectors' start and the order of the rows.
        data_files: local rows instead of the Hub's, as in grid.yaml.
        on_step: told after every update.

    Returns:
        The soft prompts by step: those of `config.evaluate_at`, and the last.

    Raises:
        ConfigError: there is no such model or task.
        ModelError, DataError, TrainingError: it cannot be loaded, read, learnt.
    """
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.tokenizer import Tokenizer

    config = config or SoftPromptConfig()
    rows = load_rows(tasks.get(task), data_files=data_files, need={"tuning"})
    resolved = require_resolved(resolve(ModelConfig(id=model) if isinstance(model, str) else model)[0])
    tokenizer = Tokenizer.load(resolved.source, revision=resolved.revision, trust_remote_code=resolved.trust_remote_code)
    frozen = FrozenModel.load(
        resolved.source,
        revision=resolved.revision,
        dtype=resolved.dtype,
        trust_remote_code=resolved.trust_remote_code,
    )
    try:
        return learn_task(
            frozen,
            tokenizer,
            tasks.get(task),
            rows,
            config,
            seed=seed,
            chat=uses_chat(resolved, tokenizer),
            on_step=on_step,
            provenance=provenance(resolved, tasks.get(task), seed),
        )
    finally:
        frozen.free()


def learn_task(
    model: FrozenModel,
    tokenizer: Tokenizer,
    task: Task,
    rows: Rows,
    config: SoftPromptConfig,
    *,
    seed: int,
    chat: bool,
    provenance: Mapping[str, str],
    on_step: Callable[[TrainingStep], None] | None = None,
) -> dict[int, SoftPrompt]:
    """Render a task's tuning rows for a loaded model and learn the soft prompts by step."""
    if config.position == "after_bos" and tokenizer.bos_token_id is None:
        raise ModelError(f"{tokenizer.name}: puts no BOS in front of a text, so nothing can stand after it; use front")
    from spt_fast.training.rows import tuning_row
    from spt_fast.training.trainer import learn

    tuning_rows = [
        tuning_row(tokenizer, tokenizer.render(task.template.prompt(example), chat=chat), example.target)
        for example in rows.tuning
    ]
    return learn(
        model,
        tuning_rows,
        config,
        seed=seed,
        pad_id=tokenizer.pad_token_id,
        on_step=on_step,
        provenance=provenance,
    )


def provenance(model: Model, task: Task, seed: int) -> dict[str, str]:
    """Where a soft prompt comes from, for its header."""
    return {
        "model": model.name,
        "source": str(Path(model.source).name) if Path(model.source).is_dir() else model.source,
        "revision": model.revision or "",
        "fingerprint": model.fingerprint,
        "task": f"{task.name} v{task.version}",
        "seed": str(seed),
        "spt_fast": metadata.version("spt-fast"),
    }


def uses_chat(model: Model, tokenizer: Tokenizer) -> bool:
    """Whether prompts of this model go through its chat template.

    Raises:
        ModelError: the grid asks for one, and the tokenizer has none.
    """
    if model.chat_template == "always" and not tokenizer.has_chat_template:
        raise ModelError(f"{model.name}: chat_template is true, and its tokenizer has none; leave it out")
    return model.chat_template != "never" and tokenizer.has_chat_template
