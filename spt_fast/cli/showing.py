"""`tasks show T`: the exact prompt, target, tokens, stops, format and splits of a task, with white space to be seen."""

from __future__ import annotations

from collections.abc import Sequence

from spt_fast import tasks
from spt_fast.config import ModelConfig
from spt_fast.models.identity import require_resolved, resolve
from spt_fast.tasks.base import HubSource, Task
from spt_fast.tasks.rows import load_rows
from spt_fast.types import Example


def show_task(name: str, *, model: str | None = None, shots: int = 0, data_files: str | None = None) -> str:
    """A task and one of its examples, as text.

    Raises:
        ConfigError: there is no such task or model.
        DataError: its rows cannot be read.
    """
    task = tasks.get(name)
    rows = load_rows(task, data_files=data_files)
    example = rows.test[0]
    worked = rows.few_shot[:shots]
    prompt = task.template.prompt(example, worked)
    lines = [
        f"{task.name} (version {task.version}): {task.summary}",
        f"rows       tuning {len(rows.tuning)}, few-shot {len(rows.few_shot)}, test {len(rows.test)}",
        f"from       {_source(task)}",
        f"licence    {task.licence}",
        f"format     {_format(task)}",
        f"extractor  {_extractor(task)}",
        f"decoding   at most {task.sampling.max_tokens} tokens, stops {_strings(task.sampling.stop)}",
        f"guessing   {task.random_baseline:.3g}",
    ]
    if task.notes:
        lines.append(f"notes      {task.notes}")
    lines += ["", "prompt of the first test row (· space, → tab, ↵ line break):", "", visible(prompt), ""]
    lines += [f"target     {visible(' ' + example.target)}", f"answers    {_strings(example.answers)}"]
    if example.options:
        lines.append(f"options    {_strings(example.options)}")
    if model is not None:
        lines += ["", *_tokens(model, prompt, example)]
    return "\n".join(lines)


def visible(text: str) -> str:
    """Text with its white space to be seen; line breaks still break lines."""
    return text.replace(" ", "·").replace("\t", "→").replace("\n", "↵\n")


def _source(task: Task) -> str:
    if isinstance(task.source, HubSource):
        splits = ", ".join(f"{ours} = {theirs}" for ours, theirs in task.source.splits.items())
        config = f" ({task.source.config})" if task.source.config else ""
        return f"{task.source.id}{config} at {task.source.revision[:12]}; {splits}"
    return f"made by the package ({task.source.content})"


def _format(task: Task) -> str:
    if task.format is None:
        return "equals one of the options, in full"
    return f"the whole completion matches {task.format}"


def _extractor(task: Task) -> str:
    if task.extract is None:
        return "none: knowledge is the likeliest option"
    summary = (task.extract.__doc__ or "").strip().splitlines()
    return f"{getattr(task.extract, '__name__', 'extract')}: {summary[0] if summary else ''}"


def _strings(strings: Sequence[str]) -> str:
    return ", ".join(repr(string) for string in strings) or "none"


def _tokens(model: str, prompt: str, example: Example) -> list[str]:
    from spt_fast.models.tokenizer import Tokenizer
    from spt_fast.training.rows import tuning_row

    resolved = require_resolved(resolve(ModelConfig(id=model))[0])
    tokenizer = Tokenizer.load(resolved.source, revision=resolved.revision)
    row = tuning_row(tokenizer, prompt, example.target)
    return [
        f"tokens of {model}: {len(row.prompt_ids)} in the prompt, {len(row.target_ids)} in the target",
        "prompt  " + "|".join(visible(piece).replace("\n", "") for piece in tokenizer.tokens(row.prompt_ids)),
        "target  " + "|".join(visible(piece).replace("\n", "") for piece in tokenizer.tokens(row.target_ids)),
    ]
