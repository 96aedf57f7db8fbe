"""`tasks show T`: the exact prompt, target, tokens, stops, format and splits of a task, with white space to be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spt_fast import tasks
from spt_fast.config import ModelConfig
from spt_fast.errors import DataError
from spt_fast.models.identity import require_resolved, resolve
from spt_fast.tasks.base import SPLITS, Cut, FileSource, HubSource, Task
from spt_fast.tasks.forms import bare_texts
from spt_fast.tasks.gold import distinct, gold_of, lead_in
from spt_fast.tasks.library import LibrarySource
from spt_fast.tasks.multiple_choice import INSTRUCTIONS, has_forms
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import Example


def show_task(
    name: str, *, model: str | None = None, shots: int = 0, data_files: str | None = None, regex: bool = False
) -> str:
    """A task and one of its examples, as text. Where the Hub cannot be reached, the task's made-up row is the example.

    Args:
        name: of the task.
        model: whose tokens are shown.
        shots: worked examples in the prompt.
        data_files: local rows instead of the task's own.
        regex: show the regular expression of the form as well.

    Raises:
        ConfigError: there is no such task or model.
        DataError: its rows cannot be read.
    """
    task = tasks.get(name)
    try:
        rows: Rows | None = _loaded(task, data_files)
    except DataError as e:
        if task.library is not None and data_files is None:
            return "\n".join([*_about(task, [f"rows       none could be read: {e}"], regex=regex), "", *tasks.described(name)])
        if task.sample is None or data_files is not None or not isinstance(task.source, HubSource):
            raise
        rows, why = None, str(e)
    example, worked = _shown(task, rows, shots)
    prompt, target = task.template.prompt(example, worked), f" {example.target}"
    if task.library is not None and rows is not None:
        prompts = task.library.prompts(rows, shots=shots, seed=0)
        prompt, target = prompts.of(example).text, prompts.lesson(example)[1]
    whose = "a made-up row" if rows is None else "the first test row" if rows.test else "a row"
    about = [
        f"rows       {_sizes(task) if rows is None else _read(rows)}",
        *([] if rows is not None else [f"           {why}"]),
        *([] if rows is None else [f"           {sentence}" for sentence in rows.losses.told(task.name)]),
    ]
    lines = _about(task, about, regex=regex)
    if has_forms(task):
        others = ", ".join(f"{task.name}:{form}" for form in INSTRUCTIONS)
        lines.append(f"forms      also {others}")
    lines += ["", f"prompt of {whose} (· space, → tab, ↵ line break):", "", visible(prompt), ""]
    lines += [f"target     {visible(target)}", f"answers    {_strings(example.answers)}"]
    if example.options:
        lines.append(f"options    {_strings(example.options)}")
    lines.append(f"likelihood {_scored(task, example, rows)}")
    if model is not None:
        lines += ["", *_tokens(model, prompt, example)]
    return "\n".join(lines)


def _scored(task: Task, example: Example, rows: Rows | None) -> str:
    """What bits per byte are of."""
    if task.closed_ended:
        texts = bare_texts(example.options) if not example.texts else example.texts
        cloze = task.cloze_template is not None and texts and example.gold is not None
        return f"of {texts[example.gold]!r}, as cloze asks it" if cloze else "of the right option, as it is asked"  # type: ignore[index]
    if task.library is not None:
        return f"of {' or '.join(map(repr, distinct(example.answers)))}"
    lead = lead_in(task, () if rows is None else (*rows.test, *rows.tuning, *rows.few_shot))
    gold = gold_of(task, example, lead)
    return f"of {' or '.join(map(repr, gold.texts))}{f', behind {gold.given!r}' if gold.given else ''}"


def _about(task: Task, rows: Sequence[str], *, regex: bool = False) -> list[str]:
    """What is known of a task; `rows` are the lines that tell of its rows."""
    cloze = task.cloze_template
    guessing = "one in the number of options" if math.isnan(task.random_baseline) else f"{task.random_baseline:.3g}"
    return [
        f"{task.name} (version {task.version}): {task.summary}",
        *rows,
        f"from       {_source(task)}",
        f"licence    {task.licence}",
        f"form       {task.form_in_words}",
        *([f"expression {_expression(task)}"] if regex else []),
        f"extractor  {_extractor(task)}",
        *([f"cloze      {cloze.item!r}, and the texts of the options"] if cloze is not None else []),
        *([f"scores     {', '.join(task.scores)}"] if task.scores else []),
        f"decoding   at most {task.sampling.max_tokens} tokens, stops {_strings(task.sampling.stop)}",
        f"guessing   {guessing}",
        *([f"notes      {task.notes}"] if task.notes else []),
    ]


def _loaded(task: Task, data_files: str | None) -> Rows:
    """Its rows; where the cut leaves none to be scored, that can be shown too."""
    rows = load_rows(task, data_files=data_files, need=())
    return rows if rows.tuning or rows.few_shot else load_rows(task, data_files=data_files, need={"test"})


def _shown(task: Task, rows: Rows | None, shots: int) -> tuple[Example, tuple[Example, ...]]:
    if rows is not None:
        return next(iter((*rows.test, *rows.few_shot, *rows.tuning))), rows.few_shot[:shots]
    assert task.sample is not None
    example = task.read_row(task.sample)
    if example is None:
        raise DataError(f"{task.name}: leaves out its own sample row")
    return example, (example,) * shots


def _read(rows: Rows) -> str:
    sizes = f"tuning {len(rows.tuning)}, few-shot {len(rows.few_shot)}, test {len(rows.test)}"
    dropped = ", ".join(f"{count} {why}" for why, count in rows.dropped.items())
    return f"{sizes}; left out: {dropped}" if dropped else sizes


def _sizes(task: Task) -> str:
    """As published, and not read."""
    assert isinstance(task.source, HubSource)
    known = [f"{split} {task.source.sizes[split]}" for split in SPLITS if split in task.source.sizes]
    return f"{', '.join(known)} as published; none could be read:" if known else "none could be read:"


def visible(text: str) -> str:
    """Text with its white space to be seen; line breaks still break lines."""
    return text.replace(" ", "·").replace("\t", "→").replace("\n", "↵\n")


def _source(task: Task) -> str:
    if isinstance(task.source, HubSource):
        others = [f"{split} rows from {_hub(source)}" for split, source in task.source.elsewhere.items()]
        return "; ".join([_hub(task.source), *others]) + _cut(task.cut)
    if isinstance(task.source, FileSource):
        return f"local files: {task.source.files}" + _cut(task.cut)
    if isinstance(task.source, LibrarySource):
        return str(task.source)
    return f"made by the package ({task.source.content})"


def _hub(source: HubSource) -> str:
    splits = ", ".join(f"{ours} = {theirs}" for ours, theirs in source.splits.items())
    config = source.config if isinstance(source.config, str) else ", ".join(source.config or ())
    return f"{source.id}{f' ({config})' if config else ''} at {source.revision[:12]}; {splits}"


def _cut(cut: Cut | None) -> str:
    if cut is None:
        return ""
    unit = "rows" if cut.by == "row" else "whole groups"
    parts = f"tuning {cut.tuning} (at most {cut.share:.0%}), few-shot {cut.few_shot}, test the rest"
    return f"; cut by content hash, {unit}: {parts}"


def _expression(task: Task) -> str:
    if task.format is None:
        return "none: the completion equals one of the options, in full"
    also = "; so does each published answer of its row" if task.verbatim else ""
    return f"{task.format} (the whole completion matches{also})"


def _extractor(task: Task) -> str:
    if task.library is not None and not task.closed_ended:
        return "the filters of lm-eval"
    if task.extract is None:
        return "none: knowledge is the likeliest option"
    summary = (task.extract.__doc__ or "").strip().splitlines()
    return getattr(task.extract, "__name__", "extract") + (f": {summary[0]}" if summary else "")


def _strings(strings: Sequence[str]) -> str:
    return ", ".join(repr(string) for string in strings) or "none"


def _tokens(model: str, prompt: str, example: Example) -> list[str]:
    from spt_fast.models.tokenizer import load_tokenizer
    from spt_fast.training.rows import tuning_row

    resolved = require_resolved(resolve(ModelConfig(id=model))[0])
    tokenizer = load_tokenizer(resolved)
    row = tuning_row(tokenizer, prompt, example.target)
    return [
        f"tokens of {model}: {len(row.prompt_ids)} in the prompt, {len(row.target_ids)} in the target",
        "prompt  " + "|".join(visible(piece).replace("\n", "") for piece in tokenizer.tokens(row.prompt_ids)),
        "target  " + "|".join(visible(piece).replace("\n", "") for piece in tokenizer.tokens(row.target_ids)),
    ]
