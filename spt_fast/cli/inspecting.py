"""`inspect PROMPT`: what soft prompts are, what they lie next to, how alike they are, and what their vectors do.

What a run folder's prompts lie next to is kept there by the run itself; what is missing (learnt by an older version, or asked
of an engine only here) is kept beside them, so that the report shows it.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spt_fast import tasks
from spt_fast.cli.pages import Page, number, signed_points
from spt_fast.config import CHAT_DATE, ModelConfig
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError, SptError
from spt_fast.models.identity import ChatTemplate, Model, require_resolved, resolve
from spt_fast.plan.cell import TaskRows
from spt_fast.prompts.meaning import Change, Kinship, Meaning, Neighbour, Placed, Probe, Variant, kinships, plain
from spt_fast.prompts.soft_prompt import SoftPrompt, load_steps
from spt_fast.store import PROMPT, Store

if TYPE_CHECKING:
    from spt_fast.types import Position

VARIANTS = {"zero_shot": "zero-shot, no vectors", "soft_prompt": "all vectors", "tokens": "nearest tokens instead"}
"""Variants of a probe as a person is told of them; `without` names its vector."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be found out."""

    model: str | None = None
    """Instead of the one that the prompt names."""
    task: str | None = None
    """Instead of the one that the prompt names: whose rows the engine is asked."""
    top: int = 3
    """Nearest tokens that are shown of a vector; at most those that are kept."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Of a run folder: patterns for model, task, protocol, seed."""
    leave_one_out: bool = False
    """Ask the test rows without each of the vectors."""
    as_text: bool = False
    """Ask the test rows behind the nearest tokens."""
    rows: int = 200
    """Test rows that are asked, at most."""
    engine: str | None = None
    """Kind of engine; None: that of the grid, or vLLM."""

    @property
    def asks(self) -> bool:
        """Whether an engine is needed."""
        return self.leave_one_out or self.as_text


@dataclass(kw_only=True)
class Inspected:
    """One soft prompt, and what is known of it."""

    file: str
    prompt: SoftPrompt
    steps: Sequence[int]
    """In the file; none where it does not say."""
    model: str | None
    task: str | None
    protocol: str = "soft_prompt"
    seed: int | None = None
    key: str = ""
    """Of the cell; empty: it is in no run folder."""
    meaning: Meaning | None = None
    probe: Probe | None = None
    note: str = ""
    """Why something is not known."""

    @property
    def position(self) -> Position:
        """Where its vectors stand."""
        return self.prompt.position


def inspect(where: Location, wanted: Wanted, *, as_json: bool = False, say: Callable[[str], None] = lambda _: None) -> str:
    """What there is to know of a soft prompt's file, a PEFT adapter, a cell's folder, or all prompts of a run folder.

    Args:
        where: it is.
        wanted: what is to be found out.
        as_json: JSON instead of tables.
        say: is told how far it is.

    Raises:
        StoreError: there is no soft prompt, or a file is damaged; the run folder is at work.
        ConfigError: the model, task or pattern is not there, or does not fit.
        ModelError, DataError, EngineError: what an engine is to be asked cannot be.
    """
    run = _run_of(where)
    if run is None:
        if wanted.only:
            raise ConfigError(f"--only: chooses among the prompts of a run folder, and {where} is one prompt")
        found = [_of_file(where)]
        _look(found, _origin_of_file(found[0]), wanted, say)
    else:
        found = _of_run(*run, wanted, say)
    alike = kinships([_placed(each) for each in found])
    if as_json:
        shown = {"prompts": [_plain(each) for each in found], "similarity": [_plain_kinship(each) for each in alike]}
        return json.dumps(shown, ensure_ascii=False, allow_nan=False, indent=1)
    return _text(found, alike, wanted)


# What is where


def _run_of(where: Location) -> tuple[Location, str | None] | None:
    """The run folder that this is or is in, and the cell's key where it is one; None: it is a file of its own."""
    text = str(where).rstrip("/").removesuffix(f"/{PROMPT}")
    above, _, key = text.rpartition("/")
    folder, _, cells = above.rpartition("/")
    if cells == "cells":
        root: Location = folder if isinstance(where, str) else Path(folder)
        if _is_run(root):
            return root, key
    if isinstance(where, Path) and not where.is_dir():
        return None
    if isinstance(where, str) and where.endswith(".safetensors"):
        return None
    if isinstance(where, Path) and (where / "adapter_config.json").is_file():
        return None
    if isinstance(where, Path) and (where / PROMPT).is_file():
        return None
    return where, None


def _is_run(root: Location) -> bool:
    try:
        Store(root).resolved()
    except ConfigError:
        return False
    return True


def _of_file(where: Location) -> Inspected:
    if isinstance(where, Path) and (where / PROMPT).is_file():
        where = where / PROMPT
    steps = load_steps(where)
    prompt = SoftPrompt.load(where)
    origin = prompt.provenance
    seed = origin.get("seed", "")
    return Inspected(
        file=str(where),
        prompt=prompt,
        steps=[step for step in steps if step is not None],
        model=origin.get("model"),
        task=origin["task"].rpartition(" v")[0] if " v" in origin.get("task", "") else None,
        seed=int(seed) if seed.lstrip("-").isdecimal() else None,
    )


def _of_run(root: Location, key: str | None, wanted: Wanted, say: Callable[[str], None]) -> list[Inspected]:
    """The prompts of a run folder, or that of one cell. What is found out is kept there."""
    store = Store(root)
    grid = store.resolved()
    cells = {name: cell for name, cell in grid["cells"].items() if cell.get("rests_on") is None and key in (None, name)}
    learnt = store.learnt.among(list(cells))
    chosen = {name: cell for name, cell in cells.items() if name in learnt and _matches(cell, wanted.only)}
    # What LoRA has learnt is no soft prompt.
    found = [one for name, cell in chosen.items() if (one := _of_cell(store, name, cell)) is not None]
    if not found:
        which = " that match --only" if wanted.only else "" if key is None else f" in cells/{key}"
        raise ConfigError(f"{store.root}: there are no soft prompts{which}; `spt-fast run` learns those of a grid")
    for model in dict.fromkeys(each.model for each in found):
        mine = [each for each in found if each.model == model]
        before = [(each.meaning, each.probe) for each in mine]
        _look(mine, _origin_of_run(grid, str(model)), wanted, say)
        _keep(store, [each for each, known in zip(mine, before, strict=True) if (each.meaning, each.probe) != known])
    return found


def _of_cell(store: Store, key: str, cell: Mapping[str, Any]) -> Inspected | None:
    steps = store.learnt.soft_prompts(key)
    if not steps:
        return None
    prompt = steps[max(steps)]
    meaning, probe = store.learnt.meaning(key), store.learnt.probe(key)
    return Inspected(
        file=store.name(f"cells/{key}/{PROMPT}"),
        prompt=prompt,
        steps=list(steps),
        model=cell["model"],
        task=cell["task"],
        protocol=cell["protocol"],
        seed=cell["seed"],
        key=key,
        meaning=meaning if meaning is not None and meaning.prompt == prompt.key else None,
        probe=probe if probe is not None and probe.prompt == prompt.key else None,
    )


def _matches(cell: Mapping[str, Any], only: Mapping[str, str]) -> bool:
    for name in only:
        if name not in ("model", "task", "protocol", "seed"):
            raise ConfigError(f"--only: unknown key {name!r}; there are model, task, protocol, seed")
    return all(fnmatch.fnmatchcase("" if cell[name] is None else str(cell[name]), pattern) for name, pattern in only.items())


def _keep(store: Store, found: Sequence[Inspected]) -> None:
    """Keep what was found out, and write the report that shows it."""
    if not found:
        return
    from spt_fast.report.folder import write_tables

    store.lock()
    with closing(store):
        for each in found:
            if each.meaning is not None:
                store.learnt.put_meaning(each.key, each.meaning)
            if each.probe is not None:
                store.learnt.put_probe(each.key, each.probe)
    write_tables(store.root)


# Where prompts come from


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """The model that prompts were learnt for, and the tasks."""

    model: ModelConfig | None
    """None: they do not name one."""
    name: str = ""
    fingerprint: str = ""
    """Of the model that it was then; empty: any will do."""
    chat_template: ChatTemplate = "never"
    tasks: Mapping[str, TaskRows] = field(default_factory=dict)
    """By name; others are as the registry has them."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings."""

    def resolved(self, instead: str | None) -> Model:
        """The model, or the one that is named instead of it.

        Raises:
            ConfigError, ModelError: it is not there, or another one than then.
        """
        if instead is not None:
            config = ModelConfig(id=instead) if self.model is None else replace(self.model, id=instead, revision=None)
            model = require_resolved(resolve(config)[0])
        elif self.model is None:
            raise ConfigError("the file names no model; --model shows the nearest tokens")
        else:
            model = require_resolved(resolve(self.model)[0])
            if self.fingerprint and model.fingerprint != self.fingerprint:
                raise ConfigError(f"{self.name}: {model.source} is another model than the run had; name that one with --model")
        return replace(model, name=self.name or model.name, chat_template=self.chat_template)

    def rows(self, name: str) -> TaskRows:
        """Which rows a task has.

        Raises:
            ConfigError: there is no such task.
        """
        if name in self.tasks:
            return self.tasks[name]
        task = tasks.get(name)
        return TaskRows(name=task.name, version=task.version, content="", ref=name)


def _origin_of_file(prompt: Inspected) -> _Origin:
    return _Origin(model=None if prompt.model is None else ModelConfig(id=prompt.model))


def _origin_of_run(grid: Mapping[str, Any], model: str) -> _Origin:
    entry = next(entry for entry in grid["models"] if entry["id"] == model)
    rows = (
        TaskRows(
            **{**{name: task.get(name) for name in ("version", "content", "limit", "data_files")}, "name": task["task"]},
            cut=task.get("cut", True),
        )
        for task in grid["tasks"]
    )
    return _Origin(
        model=ModelConfig(
            id=entry["source"],
            revision=entry["revision"],
            tensor_parallel=entry["tensor_parallel"],
            gpus=entry["gpus"],
            dtype=entry["dtype"],
            chat_template_kwargs=entry["chat_template_kwargs"],
            chat_date=entry.get("chat_date", CHAT_DATE),
            trust_remote_code=entry["trust_remote_code"],
        ),
        name=model,
        fingerprint=entry["fingerprint"],
        chat_template=entry["chat_template"],
        tasks={each.name: each for each in rows},
        engine={**grid["engine"], **entry["engine"]},
    )


# What is found out


def _look(found: Sequence[Inspected], origin: _Origin, wanted: Wanted, say: Callable[[str], None]) -> None:
    """Find out what is not known of prompts of one model, with at most one load of it and one start of its engine."""
    missing = [each for each in found if each.meaning is None or _fewest(each.meaning) < wanted.top]
    if not missing and not wanted.asks:
        return
    try:
        model = origin.resolved(wanted.model)
        if missing:
            _look_up(missing, model, wanted)
    except SptError as e:
        if wanted.model is not None or wanted.asks:
            raise
        for each in missing:
            each.note = f"no nearest tokens: {e}; name the model with --model"
        return
    if wanted.asks:
        _ask(found, origin, model, wanted, say)


def _fewest(meaning: Meaning) -> int:
    return min(len(vector.by_cosine) for vector in meaning.vectors)


def _look_up(found: Sequence[Inspected], model: Model, wanted: Wanted) -> None:
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


def _ask(found: Sequence[Inspected], origin: _Origin, model: Model, wanted: Wanted, say: Callable[[str], None]) -> None:
    """What the vectors do: one engine for all prompts."""
    from spt_fast.engine import config_of, open_engine
    from spt_fast.inspection.ablation import Subject, probe
    from spt_fast.models.tokenizer import load_tokenizer, uses_chat

    subjects = []
    for each in found:
        name = wanted.task or each.task
        if name is None:
            raise ConfigError(f"{each.file}: does not say which task it was learnt on; name it with --task")
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


# How it is told


def _text(found: Sequence[Inspected], alike: Sequence[Kinship], wanted: Wanted) -> str:
    page = Page()
    for each in found:
        page.lines(_head(each))
        _vectors(page, each, wanted.top)
        _probe(page, each.probe)
    _similarity(page, found, alike)
    return page.text


def _head(each: Inspected) -> list[str]:
    prompt = each.prompt
    lines = [f"{each.file}: {prompt.length} vectors of {prompt.hidden_size} numbers, key {prompt.key}"]
    lines += [f"  {name}: {value}" for name, value in sorted(prompt.provenance.items()) if value]
    if len(each.steps) > 1:
        lines.append(f"  steps in the file: {', '.join(str(step) for step in each.steps)}")
    return lines


def _vectors(page: Page, each: Inspected, top: int) -> None:
    if each.meaning is None:
        norms = np.linalg.norm(each.prompt.vectors, axis=1)
        page.table("Vectors", ("vector", "norm"), [(str(i), number(norm, 3)) for i, norm in enumerate(norms)])
        page.say(each.note)
        return
    rows = []
    for i, vector in enumerate(each.meaning.vectors):
        moved = "-" if vector.moved is None else number(vector.moved, 3)
        nearest = [_near(one) for one in vector.by_cosine[:top]]
        rows.append(
            (
                str(i),
                "  ".join(nearest),
                _near(vector.by_distance[0]),
                number(vector.norm, 3),
                f"{vector.norm_above:.0%}",
                moved,
            )
        )
    head = ("vector", "nearest by cosine", "by distance", "norm", "longer than", "moved")
    page.table("Vectors beside the vocabulary", head, rows, left=3)
    norms_V, chance = each.meaning.vocabulary_norms, each.meaning.chance
    page.say(
        f"norms of the vocabulary: median {norms_V.middle:.3f}, 5 to 95 % in {norms_V.low:.3f} to {norms_V.high:.3f}. A "
        f"direction drawn at random has a token at a cosine of {chance.middle:.2f} ({chance.low:.2f} to {chance.high:.2f}): "
        "nearer tokens than that say something. longer than: share of the vocabulary. moved: distance from the start."
    )


def _near(one: Neighbour) -> str:
    return f"{one.token!r} {one.value:.2f}"


def _probe(page: Page, probe: Probe | None) -> None:
    if probe is None:
        return
    rows = [
        (
            VARIANTS.get(each.name) or f"without vector {each.left_out}",
            *(text for name in ("format_following", "knowledge") for text in _measured(each, name)),
        )
        for each in probe.variants
    ]
    head = ("", "form", "change, points", "knows", "change, points")
    page.table(f"What they do: {probe.task}, n = {probe.rows}", head, rows)
    if probe.tokens:
        page.say(f"nearest tokens, as text: {''.join(probe.tokens)!r}")


def _measured(variant: Variant, name: str) -> tuple[str, str]:
    metric = variant.metric(name)
    share = f"{metric.value:.2f} ({metric.ci_low:.2f}-{metric.ci_high:.2f})"
    return share, "" if variant.name == "soft_prompt" else _points(variant.changes[name])


def _points(change: Change) -> str:
    return f"{signed_points(change.value)} ({signed_points(change.low)} to {signed_points(change.high)})"


def _similarity(page: Page, found: Sequence[Inspected], alike: Sequence[Kinship]) -> None:
    rows = []
    for each in alike:
        seeds = "same seed" if each.same_seed else "other seeds"
        span = f"{each.matched:.2f} ({each.matched_span[0]:.2f} to {each.matched_span[1]:.2f})"
        rows.append((each.model, each.protocol, each.between, seeds, str(each.pairs), f"{each.by_position:.2f}", span))
    head = ("model", "protocol", "tasks", "", "pairs", "by position", "best matched")
    page.table("How alike soft prompts are (mean cosine)", head, rows, left=4)
    chance = next((each.meaning for each in found if each.meaning is not None), None)
    if rows and chance is not None:
        position, matched = chance.alike_by_position, chance.alike_matched
        page.say(
            f"Random rows of the vocabulary, {found[0].prompt.length} and {found[0].prompt.length}: by position "
            f"{position.middle:.2f} (5 to 95 %: {position.low:.2f} to {position.high:.2f}), best matched {matched.middle:.2f} "
            f"({matched.low:.2f} to {matched.high:.2f}). Under one seed, two tasks start from the same vectors where the start "
            "is normal or uniform, and stay alike by that."
        )


def _placed(each: Inspected) -> Placed:
    return Placed(each.model or "", each.task or "", each.protocol, each.seed, each.prompt)


def _plain(each: Inspected) -> dict[str, Any]:
    return {
        "file": each.file,
        "cell": each.key or None,
        "model": each.model,
        "task": each.task,
        "protocol": each.protocol if each.key else None,
        "seed": each.seed,
        "key": each.prompt.key,
        "length": each.prompt.length,
        "hidden_size": each.prompt.hidden_size,
        "steps": list(each.steps),
        "provenance": dict(each.prompt.provenance),
        "norms": [round(float(norm), 6) for norm in np.linalg.norm(each.prompt.vectors, axis=1)],
        "meaning": None if each.meaning is None else plain(each.meaning),
        "probe": None if each.probe is None else plain(each.probe),
        "note": each.note or None,
    }


def _plain_kinship(each: Kinship) -> dict[str, Any]:
    return {**asdict(each), "tasks": list(each.tasks), "matched_span": list(each.matched_span)}
