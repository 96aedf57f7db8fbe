"""The reference pages of the documentation, made from the code they describe: `python docs/reference.py` prints them as JSON.

`docs/hooks.py` puts them into the site. This runs in the environment of spt-fast; the site's own tools are in another one.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin

import click

import spt_fast
from spt_fast import errors, tasks
from spt_fast.analysis.gate import Check, Policy
from spt_fast.cli import cli
from spt_fast.config import (
    PRESETS,
    PROTOCOLS,
    GridConfig,
    JudgeConfig,
    ModelConfig,
    PriceConfig,
    SoftPromptConfig,
    StopConfig,
    TaskConfig,
    Vectors,
)
from spt_fast.config.described import Key, keys
from spt_fast.config.engines import ENGINE_CHOICES, ENGINE_NUMBERS, ENGINE_OURS, ENGINES
from spt_fast.config.ranges import Choice, Range, Text
from spt_fast.export import formats
from spt_fast.scoring import metrics
from spt_fast.tasks.custom.keys import AnswerKeys, ColumnsKeys, OptionsKeys, RowsKeys, TaskFile
from spt_fast.types import CellResult, Metric, Sample, Stopped

Pages = dict[str, str]
"""Path below docs/ -> Markdown."""


def pages() -> Pages:
    """All of them."""
    return {
        "reference/grid.md": grid(),
        "reference/task-file.md": task_file(),
        "reference/policy.md": policy(),
        "reference/commands.md": commands(),
        "reference/tasks.md": task_list(),
        "reference/metrics.md": metric_list(),
        "reference/run-folder.md": run_folder(),
        "reference/python.md": python(),
        "reference/errors.md": error_classes(),
    }


# Tables of keys


def table(found: Iterable[Key], own: Mapping[str, str] = MappingProxyType({})) -> str:
    """A row a key; `own` are values that types do not tell well."""
    rows = (
        (
            f"`{key.name}`",
            own.get(key.name) or in_words(key.kind, key.allowed),
            "must be given" if key.needed else default(key.default),
            key.meaning,
        )
        for key in found
    )
    return markdown_table(("key", "value", "default", "meaning"), rows)


def columns(found: Iterable[Key]) -> str:
    """A row a column of a file."""
    return markdown_table(
        ("column", "value", "meaning"), ((f"`{key.name}`", in_words(key.kind, key.allowed), key.meaning) for key in found)
    )


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; what would end a cell, or be taken for HTML, is escaped."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def escaped(text: str) -> str:
    """Text for a cell of a table."""
    parts = re.split(r"(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(part if i % 2 else part.replace("<", "&lt;").replace("*", "\\*") for i, part in enumerate(parts))


def default(value: Any) -> str:
    """A default as YAML has it."""
    if isinstance(value, tuple):
        value = [getattr(each, "name", each) for each in value]
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    return f"`{json.dumps(value)}`"


def in_words(kind: Any, allowed: Any) -> str:
    """The values that a key may have."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        others = [each for each in args if each is not type(None)]
        if isinstance(allowed, Range):
            others = [each for each in others if get_origin(each) is not Literal]
        return " or ".join(dict.fromkeys(in_words(each, allowed) for each in others))
    if origin is Literal:
        return _or(args)
    if origin in (tuple, list):
        return f"a list; each {in_words(args[0], allowed)}"
    if isinstance(allowed, Choice):
        return _or(allowed.words)
    if isinstance(allowed, Range):
        most = None if allowed.most is not None and allowed.most >= 2**31 - 1 else allowed.most
        least = None if allowed.least is not None and allowed.least <= -(2**31) else allowed.least
        return str(replace(allowed, most=most, least=least))
    if isinstance(allowed, Text) and kind is str:
        return "text" if allowed.path or allowed.most > 1000 else str(allowed)
    if inspect.isclass(kind) and kind.__name__.endswith("Config"):
        return f"[settings](#{ANCHORS[kind]})"
    plain = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}
    return plain.get(kind, "a path or a URL" if "Path" in str(kind) else "a mapping")


def _or(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


ANCHORS: Mapping[Any, str] = {
    ModelConfig: "models",
    TaskConfig: "tasks",
    JudgeConfig: "judge",
    StopConfig: "stop",
    PriceConfig: "price",
    **{cls: name for name, cls in PROTOCOLS.items()},
}


def summary(thing: Any) -> str:
    """The docstring, without its parts for programmers."""
    return inspect.cleandoc(thing.__doc__ or "").partition("\n\nArgs:")[0].partition("\n\nRaises:")[0]


# grid.yaml


def grid() -> str:
    """Every key of grid.yaml."""
    return "\n".join(_grid())


def _grid() -> Iterator[str]:
    yield "# grid.yaml\n"
    yield (
        "Made from the classes that read the file. `spt-fast init` writes a commented grid to start from, and a JSON Schema "
        "beside it, with which editors complete and check a grid as it is written (`spt-fast schema` prints it). "
        "`spt-fast check GRID.yaml` finds what a schema cannot.\n"
    )
    yield "```yaml\nname: first\nmodels: [zoo/base-70]\ntasks: [zoo-json]\n```\n"
    yield "is a whole grid: everything else has a default. An unknown key is an error that says where the key belongs.\n"
    yield "## The grid\n"
    yield table(keys(GridConfig), _GRID)
    yield "## models\n"
    yield "Each is an id (`Qwen/Qwen3-4B-Base`, a folder, `zoo/base-70`) or a mapping:\n"
    yield table(keys(ModelConfig))
    yield "## tasks\n"
    yield "Each is a name ([tasks](tasks.md)), the path of a [task file](task-file.md), or a mapping:\n"
    yield table(keys(TaskConfig), {"data_files": "a folder, or `{split: file}`", "allow_left_out": "a share: `30%` or `0.3`"})
    yield "## protocols\n"
    yield (
        "Each is a name (`zero_shot`) or a name with settings (`few_shot: {shots: 3}`). A setting may be a list of values, "
        "which makes a protocol for each combination: `soft_prompt: {length: [1, 10], lr: [0.01, auto]}` is four.\n"
    )
    usual = {key.name: key for key in keys(SoftPromptConfig)}
    for name, cls in PROTOCOLS.items():
        yield f"### {name}\n"
        yield summary(cls) + "\n"
        yield from _protocol(cls, usual)
    yield "### Presets\n"
    for name, settings in PRESETS.items():
        told = ", ".join(f"{key}: {value}" for key, value in settings.items())
        yield f"`soft_prompt: {name}`, or `preset: {name}` with other settings, stands for `{{{told}}}`.\n"
    yield "## engine\n"
    yield from _engine()
    yield "## judge\n"
    yield "A model id or a mapping. A judge rules on open-ended answers after everything else is done:\n"
    yield table(keys(JudgeConfig))
    yield "## stop\n"
    yield "How it decides, and what comes of it, is told in [rows until it is decided](../howto/stop.md).\n"
    yield table(keys(StopConfig))
    yield "## price\n"
    yield "A number, or a mapping:\n"
    yield table(keys(PriceConfig))


_GRID = {
    "models": "a list of ids or [settings](#models)",
    "tasks": "a list of names or [settings](#tasks)",
    "protocols": "a list of names or [settings](#protocols)",
    "engine": "[settings](#engine)",
    "judge": "an id or [settings](#judge)",
    "stop": "[settings](#stop)",
    "price": "a number or [settings](#price)",
    "output": "a folder or a URL",
    "rerun": "a share: `2%` or `0.02`",
    "truth": "`{model: score}` or `{task: {model: score}}`",
}


def _protocol(cls: type[Any], usual: Mapping[str, Key]) -> Iterator[str]:
    """The settings of a protocol; those that it has as `soft_prompt` has them are only named."""
    found = keys(cls)
    same = [key for key in found if cls is not SoftPromptConfig and usual.get(key.name) == key]
    own = [key for key in found if key not in same]
    if own:
        yield table(own)
    if same:
        yield f"As for [soft_prompt](#soft_prompt): {', '.join(f'`{key.name}`' for key in same)}.\n"
    if not found:
        yield "No settings.\n"
    if issubclass(cls, Vectors):
        yield "`preset`: see [presets](#presets).\n"


def _engine() -> Iterator[str]:
    yield (
        f"`kind` is {_or(ENGINES)}; `vllm` unless said otherwise. What is not in this table goes to vLLM as it is, under "
        "vLLM's own name. A model may have an `engine:` of its own, which goes over the grid's.\n"
    )
    choices = ((f"`{key}`", _or(words)) for key, words in ENGINE_CHOICES.items())
    numbers = ((f"`{key}`", str(allowed)) for key, allowed in ENGINE_NUMBERS.items())
    yield markdown_table(("key", "value"), [*choices, *numbers])
    yield f"Set by spt-fast, and refused here: {_or(ENGINE_OURS)}.\n"


# Other files that users write


def task_file() -> str:
    """Every key of a task file."""
    parts = [
        "# A task file\n",
        "A task of your own in YAML. [How to write one](../howto/task.md) begins with an example; this is every key.\n",
        table(keys(TaskFile)),
        f"## rows\n\n{summary(RowsKeys)}\n",
        table(keys(RowsKeys)),
        f"## columns\n\n{summary(ColumnsKeys)}\n",
        table(keys(ColumnsKeys)),
        f"### columns.answer\n\n{summary(AnswerKeys)}\n",
        table(keys(AnswerKeys)),
        f"### columns.options\n\n{summary(OptionsKeys)}\n",
        table(keys(OptionsKeys)),
    ]
    return "\n".join(parts)


def policy() -> str:
    """Every key of a gate's policy."""
    parts = [
        "# A policy\n",
        "What `spt-fast gate A B --policy policy.yaml` checks. [The gate](../numbers/gate.md) says what the answers mean.\n",
        "```yaml\nalpha: 0.05\nchecks:\n  - {metric: exact_match, largest_drop: 0.02, over: mean}\n```\n",
        table(keys(Policy)),
        "## checks\n",
        table(keys(Check)),
    ]
    return "\n".join(parts)


# The command line


def commands() -> str:
    """Every command with its arguments and options."""
    parts = [
        "# The command line\n",
        "Exit codes: 0 all cells are done; 1 some failed, and the others are there; 2 the request is wrong, in one sentence; "
        "130 interrupted, and the same command goes on. `gate` and `watch --once`: 0 pass, 1 fail, 3 undecided.\n",
        *_commands(cli, ("spt-fast",)),
    ]
    return "\n".join(parts)


def _commands(group: click.Group, path: tuple[str, ...]) -> Iterator[str]:
    for name in group.commands:
        command, full = group.commands[name], (*path, name)
        if isinstance(command, click.Group):
            yield from _commands(command, full)
            continue
        context = click.Context(command, info_name=" ".join(full))
        yield f"## {' '.join(full)}\n"
        yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n"
        yield inspect.cleandoc(command.help or "") + "\n"
        options = [each for each in command.params if isinstance(each, click.Option)]
        if rows := [record for each in options if (record := each.get_help_record(context))]:
            yield markdown_table(("option", "meaning"), ((f"`{option}`", meaning) for option, meaning in rows))
        if name == "export":
            yield markdown_table(("format", "what is written"), ((f"`{each}`", what) for each, what in formats().items()))


def task_list() -> str:
    """Every task that comes with the package."""
    rows = ((f"`{name}`", tasks.get(name).summary) for name in tasks.names())
    parts = [
        "# Tasks\n",
        "What `spt-fast tasks list` lists. `spt-fast tasks show TASK` shows an example: prompt, target, stops and format.\n",
        markdown_table(("task", "what is asked"), rows),
        "Closed-ended tasks take another form of the answer: `mmlu:letter` asks for `B`, `mmlu:text` for `Paris`.\n",
    ]
    return "\n".join(parts)


def metric_list() -> str:
    """Every metric."""
    rows = (
        (
            f"`{each.name}`",
            each.about,
            each.tasks,
            "rows in the form" if each.some_rows else "all rows",
            each.unit or "share",
            "higher" if each.higher_is_better else "lower",
        )
        for each in metrics.table().values()
    )
    parts = [
        "# All metrics\n",
        "The column `metric` of results.csv. [Metrics](../numbers/metrics.md) has formulas and examples.\n",
        markdown_table(("metric", "what it says", "tasks", "over", "unit", "better"), rows),
        "A task may have scores of its own (`f1` of SQuAD and DROP). An ensemble's cell has `<metric>_member_mean` and "
        "`<metric>_member_best` too.\n",
    ]
    return "\n".join(parts)


# What comes out


def run_folder() -> str:
    """The files of a run folder, and what is in them."""
    from spt_fast.store import folder

    tree = inspect.cleandoc(folder.__doc__ or "").split("\n\n")[1]
    parts = [
        "# The run folder\n",
        f"```\n{inspect.cleandoc(tree)}\n```\n",
        "Beside them, written again by every `run` and `report`: `results.csv` (a row a metric), `results.json` (with "
        "provenance, costs and failures), `report.md` and `report.html`.\n",
        "A cell is done when its `result.json` is there: it is written last. Killing a run loses the cells in flight and "
        "nothing else; the same command goes on.\n",
        "## results.csv\n",
        "`model,task,protocol,seed,step,metric,value,stderr,ci_low,ci_high,n`, in a grid with suites or groups also `mean_of` "
        "(of how many tasks a row is the mean; empty: it is a cell's), and where cells were stopped also `stopped_of` (of how "
        "many rows `n` were asked; empty: of all); of a metric:\n",
        columns(keys(Metric)),
        "## samples.parquet\n",
        summary(Sample) + "\n",
        columns(keys(Sample)),
        "## result.json\n",
        "The metrics by step, and:\n",
        columns(key for key in keys(CellResult) if key.name in ("costs", "provenance")),
        "## stopped.json\n",
        "Of a cell that was [asked no further than was needed](../howto/stop.md), in place of result.json: the same of the "
        "rows that were asked, `stopped_at` (when, in UTC), and `stopped`:\n",
        columns(key for key in keys(Stopped) if key.name != "answers"),
    ]
    return "\n".join(parts)


# Python


FIRST = (
    "run_grid",
    "GridResult",
    "load_grid",
    "tune",
    "SoftPrompt",
    "read_run",
    "compare_runs",
    "compare_protocols",
    "rank_run",
)
"""What the page about Python begins with."""


def python() -> str:
    """The public names, for mkdocstrings."""
    names = [name for name in spt_fast.__all__ if not name.endswith("Error")]
    parts = [
        "# Python\n",
        '```python\nimport spt_fast\n\nresult = spt_fast.run_grid("grid.yaml")\nprint(result.complete, result.folder)\n```\n',
        "The names below are public: `from spt_fast import run_grid`. Errors have [a page of their own](errors.md); the fields "
        "of the config classes are the keys of [grid.yaml](grid.md).\n",
        *(_documented(name) for name in sorted(names, key=lambda name: (*FIRST, name).index(name))),
    ]
    return "\n".join(parts)


def _documented(name: str) -> str:
    members = "\n      members: false" if name.endswith("Config") else ""
    path = f"spt_fast.{spt_fast._HOME[name]}.{name}"
    return f"::: {path}\n    options:\n      heading: {name}\n      toc_label: {name}{members}\n"


def error_classes() -> str:
    """Every class of error, and what it means."""
    found = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, errors.SptError)}
    rows = ((f"`{name}`", f"`{cls.__mro__[1].__name__}`", summary(cls)) for name, cls in found.items())
    parts = [
        "# Errors\n",
        "A mistake in a request is one sentence on stderr that names the file, the key and the fix, with exit code 2. A cell "
        "that fails is recorded with its reason, and the others go on (exit code 1). In Python the same sentences are the "
        "messages of these exceptions; `SptError` is all of them.\n",
        markdown_table(("error", "is a", "when"), rows),
        "Set `SPT_FAST_TRACEBACK=1` to see where an error that nobody has foreseen comes from.\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    json.dump(pages(), sys.stdout)
