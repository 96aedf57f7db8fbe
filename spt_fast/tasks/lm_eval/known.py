"""What is known of a task of lm-eval from its config alone, and what can be done with it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Use: TypeAlias = Literal["tuned", "cut", "asked", "refused"]
"""`tuned`: it has rows to learn from; `cut`: they are cut from its test rows; `asked`: nothing of it can be learnt."""

MAX_TOKENS = 256
"""Of a completion, where a task does not say; lm-eval's own default."""

OPTION_TOKENS = 64
"""Of a completion, where lm-eval scores likelihoods and has nothing written."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A task as its YAML has it, without its functions."""

    name: str
    file: str
    """Its YAML; one of lm-eval's own relative to the folder of these."""
    digest: str
    """Of everything that its config says, and of the Python beside the YAML of a user."""
    output: str = "generate_until"
    hub: str = ""
    config: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Of `datasets.load_dataset`."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """`training`, `validation`, `test`, `fewshot` -> the data set's name of it."""
    version: str = "0"
    shots: int | None = None
    """`num_fewshot`."""
    choices: int | None = None
    """Options of every row, where that is known."""
    regex: str = ""
    """Of its first filter that looks for the answer by one."""
    filter: str = ""
    """That filter's name."""
    until: tuple[str, ...] = ()
    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    constant: bool = False
    """Its target is the same for all rows, and is no option: its own code scores answers otherwise."""
    obstacle: str = ""
    """Why it cannot be asked at all."""
    unsafe: bool = False
    """It runs what the model writes."""
    own_rows: bool = False
    """Its rows come from code, with settings of its own."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """What the group that it was found in puts over its config."""
    inside: tuple[int, ...] = ()
    """Where in the lists `task` of a group's YAML it is defined; empty: it has a YAML of its own."""

    @property
    def scored(self) -> str:
        """The data set's split that is scored."""
        return self.splits.get("test") or self.splits.get("validation", "")

    @property
    def learnt(self) -> str:
        """`training` or `validation`, whichever holds rows to learn from; empty: neither."""
        for what in ("training", "validation"):
            if self.splits.get(what, self.scored) != self.scored:
                return what
        return ""

    @property
    def use(self) -> Use:
        """What can be done with it, as far as its config tells; how many rows there are, only they tell."""
        if self.obstacle or self.unsafe or self.own_rows:
            return "refused"
        if self.constant:
            return "asked"
        return "tuned" if self.learnt else "cut"

    @property
    def why(self) -> str:
        """Why it is not tuned, in words."""
        if self.obstacle:
            return self.obstacle
        if self.unsafe:
            return "it runs the code that a model writes: allow that with unsafe_code: true"
        if self.own_rows:
            return "its rows are made by code of its own (custom_dataset): give rows as data_files"
        if self.constant:
            return "its rows have no target of their own: there is nothing to learn"
        return "" if self.learnt else "it has test rows only: some of them are cut off to learn from"

    def plain(self) -> dict[str, Any]:
        """As JSON has it, without what is at its default."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "", (), {}, False)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Known:
        """From `plain`."""
        return cls(**{**plain, "until": tuple(plain.get("until", ())), "inside": tuple(plain.get("inside", ()))})


def known(name: str, file: Path, config: Mapping[str, Any], *, root: Path | None) -> Known:
    """What a config says.

    Args:
        name: of the task.
        file: its YAML.
        config: with functions as text ("/folder/utils.process_docs").
        root: the folder of lm-eval's own tasks, if it is one of these.
    """
    output = config.get("output_type", "generate_until")
    splits = {what: config.get(f"{what}_split") for what in ("training", "validation", "test", "fewshot")}
    wanted = config.get("generation_kwargs") or {}
    samples = wanted.get("do_sample", wanted.get("temperature", 0.0) or False)
    filter_name, regex = _regex(config)
    choices = config.get("doc_to_choice")
    kwargs = {key: value for key, value in (config.get("dataset_kwargs") or {}).items() if key != "trust_remote_code"}
    meta = config.get("metadata")
    return Known(
        name=name,
        file=str(file.relative_to(root)) if root else str(file),
        digest=_digest(config, file, root),
        output=output,
        hub=str(config.get("dataset_path") or ""),
        config=config.get("dataset_name"),
        kwargs=json.loads(json.dumps(kwargs, default=str)),
        splits={what: str(split) for what, split in splits.items() if split is not None},
        version=str(meta.get("version", "0") if isinstance(meta, Mapping) else "0"),
        shots=config.get("num_fewshot"),
        choices=len(choices) if isinstance(choices, list | dict) and output == "multiple_choice" else None,
        regex=regex,
        filter=filter_name,
        until=_until(config, wanted),
        max_tokens=_most_tokens(wanted) if output == "generate_until" else OPTION_TOKENS,
        temperature=float(wanted.get("temperature", 1.0)) if samples else 0.0,
        top_p=float(wanted.get("top_p", 1.0)) if samples else 1.0,
        constant=_constant(config, output),
        obstacle=_obstacle(config, output, splits, wanted),
        unsafe=bool(config.get("unsafe_code")),
        own_rows=config.get("custom_dataset") is not None,
    )


def _digest(config: Mapping[str, Any], file: Path, root: Path | None) -> str:
    """Its own tasks are what its version says; a user's folder has Python beside the YAML, of which all counts."""
    text = json.dumps(config, sort_keys=True, default=str)
    digest = hashlib.sha256(text.replace(f"{root}/", "").encode() if root else text.encode())
    if root is None:
        for code in sorted(file.parent.glob("*.py")):
            digest.update(code.name.encode() + code.read_bytes())
    return digest.hexdigest()[:16]


def _regex(config: Mapping[str, Any]) -> tuple[str, str]:
    """The name and the pattern of the first filter that looks for the answer by a regular expression."""
    for each in _list(config.get("filter_list")):
        for step in _list(each.get("filter")):
            pattern = step.get("regex_pattern", r"#### (\-?[0-9\.\,]+)") if step.get("function") == "regex" else None
            if pattern is not None:
                return str(each.get("name")), str(pattern)
    return "", ""


def _until(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, ...]:
    if config.get("output_type", "generate_until") != "generate_until":
        return ("\n\n",)
    until = wanted.get("until", [config.get("fewshot_delimiter", "\n\n")])
    return tuple(dict.fromkeys(each for each in (until if isinstance(until, list) else [until]) if each))


def _most_tokens(wanted: Mapping[str, Any]) -> int:
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    return int(next((wanted[name] for name in names if wanted.get(name) is not None), MAX_TOKENS))


def _constant(config: Mapping[str, Any], output: str) -> bool:
    target = config.get("doc_to_target")
    if output == "multiple_choice" or config.get("doc_to_choice") is not None:
        return False
    return not isinstance(target, str) or not target.strip()


def _obstacle(config: Mapping[str, Any], output: str, splits: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if "class" in config:
        return "it is a Python class of its own, and no config"
    if config.get("doc_to_image") is not None or config.get("doc_to_audio") is not None:
        return "it asks about images or sound"
    if output == "loglikelihood_rolling":
        return "it is the perplexity of a text: nothing is asked, and there is no form to learn"
    if output not in ("multiple_choice", "generate_until", "loglikelihood"):
        return f"its output_type {output!r} is not known"
    if config.get("repeats", 1) != 1:
        return f"it asks each row {config['repeats']} times"
    if wanted.get("num_beams", 1) != 1:
        return "it searches with several beams, which the engines do not"
    if config.get("use_prompt") is not None:
        return "its prompts are those of promptsource (use_prompt)"
    if splits["test"] is None and splits["validation"] is None and config.get("custom_dataset") is None:
        return "it names neither a test nor a validation split"
    return ""


def _list(value: Any) -> list[Mapping[str, Any]]:
    found = value if isinstance(value, list) else []
    return [each for each in found if isinstance(each, Mapping)]


def is_file(text: str) -> bool:
    """Whether a reference is the path of a YAML file."""
    return re.search(r"\.ya?ml$", text) is not None
