"""Which model it is: from a name to a folder or a commit, and a fingerprint of its weights. Reads files; loads nothing."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from spt_fast.config import CHAT_DATE, ModelConfig, is_pattern
from spt_fast.config.output import at_home
from spt_fast.config.ranges import part_of_place
from spt_fast.errors import ConfigError, ModelError
from spt_fast.models import hub
from spt_fast.models.faults import fault_of
from spt_fast.models.faults.files import is_there
from spt_fast.models.faults.folder import ADAPTER
from spt_fast.models.trained import trained_for
from spt_fast.models.weights import Size, read_header, size_of

WHOLE = 1 << 20
"""Tensors of up to this many bytes are hashed whole; of larger ones, `SAMPLES` pieces of `PIECE` bytes."""
PIECE = 1 << 16
SAMPLES = 4
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)

ChatTemplate: TypeAlias = Literal["always", "never", "if_any"]
"""Whether prompts go through the tokenizer's chat template; `if_any`: where it has one."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of a grid, resolved: where it is, and what it is."""

    name: str
    """What tables call it."""
    source: str
    """A folder, or a Hub id."""
    revision: str | None = None
    """The commit of a Hub id."""
    fingerprint: str
    """From the content of its weights, config and tokenizer, or from the commit: new weights, new fingerprint."""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    gpus: float = 0.0
    """GPUs that a worker of it takes: a share of one in (0, 1), or `tensor_parallel` times `pipeline_parallel`, which it is
    where nothing is said."""
    dtype: str = "auto"
    chat_template: ChatTemplate = "never"
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    chat_date: str = CHAT_DATE
    """The day that the chat template is told when it asks for today's."""
    trust_remote_code: bool = False
    soft_prompt: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    post_trained: str | None = None
    """Name of its partner among the models of the grid."""
    partner_of: str | None = None
    """Name of the base model whose partner this is."""
    series: str | None = None
    """The series that it is one of, by its pattern: `<id>@<revision>` on the Hub, `<folder>/<checkpoints>` elsewhere."""
    trained: Mapping[str, int] = field(default_factory=dict)
    """Of a series: the training "steps" and "tokens" of the checkpoint, as far as they are known. Part of no key."""
    from_cache: bool = False
    """A Hub id whose commit is the cache's word, because the Hub gave none: nobody need ask it for the files either."""
    unresolved: str | None = None
    """Why it cannot be used, as far as that is known without loading it, in a sentence; its cells then fail with it."""
    weight_bytes: int | None = None
    """Bytes of its weight files; None where nobody says. Like `gpus`, part of no key."""
    parameters: int | None = None
    """Numbers in its weight files; None where nobody says."""

    def __post_init__(self) -> None:
        if not self.gpus:
            object.__setattr__(self, "gpus", float(self.tensor_parallel * self.pipeline_parallel))

    @property
    def unreachable(self) -> bool:
        """Whether that is because there is no way to the Hub from here now: then nothing is known to be wrong with it."""
        return self.unresolved is not None and hub.UNREACHABLE in self.unresolved

    @property
    def broken(self) -> bool:
        """Whether it is known to be of no use: not there, or not as a model must be."""
        return self.unresolved is not None and not self.unreachable

    @cached_property
    def content(self) -> dict[str, Any]:
        """What of a model can change a result: part of the cell's key. Its name and place are not."""
        return {
            "fingerprint": self.fingerprint,
            "dtype": self.dtype,
            "chat_template": self.chat_template,
            # Without a chat template there is nothing to give them to: a base model's cells do not depend on its partner's.
            "chat_template_kwargs": {} if self.chat_template == "never" else dict(self.chat_template_kwargs),
            "chat_date": "" if self.chat_template == "never" else self.chat_date,
            "trust_remote_code": self.trust_remote_code,
        }


def resolve(config: ModelConfig, *, by_revision: bool = False) -> list[Model]:
    """The models that an entry of the grid stands for: itself or its series, each, and its partner.

    What is not there, or is broken, is a model with the reason (`unresolved`): the others of a grid need not wait for it.

    Args:
        config: the entry.
        by_revision: a single revision is named `<id>@<revision>` too, as those of a series are.

    Raises:
        ConfigError: the entry has keys that do not go together.
    """
    if config.checkpoints is None:
        models = _resolve(config, by_revision=by_revision)
    else:
        series = f"{config.id.rstrip('/')}/{config.checkpoints}"
        try:
            found = _series(config)
        except ModelError as e:
            models = [_unusable(series, str(e), _known(config))]
        else:
            models = [of_series(model, series) for entry in found for model in _resolve(entry)]
    if config.post_trained is None:
        return models
    (partner,) = _resolve(
        replace(
            config,
            id=config.post_trained,
            revision=None,
            checkpoints=None,
            post_trained=None,
        )
    )
    ask: ChatTemplate = "if_any" if config.chat_template is None else partner.chat_template
    partner = replace(partner, partner_of=models[-1].name, chat_template=ask)
    return [*(replace(model, post_trained=partner.name) for model in models), partner]


def of_series(model: Model, series: str) -> Model:
    """A model as one of a series, with how far it has been trained."""
    folder = None if model.revision is not None else Path(model.source)
    return replace(model, series=series, trained=trained_for(model.name, folder))


def _resolve(config: ModelConfig, *, by_revision: bool = False) -> list[Model]:
    """The model that an entry without `checkpoints` names, or the revisions of it that match a pattern."""
    try:
        return _found(config, _known(config), by_revision=by_revision)
    except ModelError as e:
        return [_unusable(config.id, str(e), _known(config))]


def _known(config: ModelConfig) -> dict[str, Any]:
    """What of a model is what its entry says."""
    return {
        "name": config.id.rstrip("/"),
        "tensor_parallel": config.tensor_parallel,
        "pipeline_parallel": config.pipeline_parallel,
        "gpus": config.gpus or 0.0,
        "dtype": config.dtype,
        "chat_template": "always" if config.chat_template else "never",
        "chat_template_kwargs": dict(config.chat_template_kwargs),
        "chat_date": config.chat_date,
        "trust_remote_code": config.trust_remote_code,
        "soft_prompt": dict(config.soft_prompt),
        "engine": dict(config.engine),
    }


def _found(config: ModelConfig, known: dict[str, Any], *, by_revision: bool) -> list[Model]:
    """`_resolve`, where there is something.

    Raises:
        ConfigError: the entry has keys that do not go together.
        ModelError: there is no such model.
    """
    if config.id.startswith("zoo/"):
        from spt_fast import zoo

        if config.revision is not None:
            raise ConfigError(f"{config.id}: revision is for models of the Hub; leave it out")
        return [_of_folder(zoo.find(config.id), known)]
    folder = at_home(config.id)
    if folder.is_dir():
        if config.revision is not None:
            raise ConfigError(
                f"{config.id}: revision is for models of the Hub, and this is a folder; leave it out, "
                "or name a series inside the folder by checkpoints"
            )
        return [_of_folder(folder, {**known, "name": _short_name(folder)})]
    if folder.is_file():
        raise ModelError(f"{config.id}: is a file; name the folder that holds config.json and the weights")
    if not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", config.id) or config.id.startswith("."):
        raise ModelError(f"{part_of_place(config.id)}: no such folder, and no id of the Hub either; correct the path")
    if config.revision is not None and is_pattern(config.revision):
        known["series"] = f"{config.id}@{config.revision}"
        found = hub.revisions(config.id, config.revision)
        models = [_of_hub(config.id, each, {**known, "name": f"{config.id}@{name}"}) for name, each in found.items()]
        return [replace(model, trained=trained_for(model.name)) for model in models]
    if by_revision and config.revision is not None:
        known["name"] = f"{config.id}@{config.revision}"
    return [_of_hub(config.id, hub.revision(config.id, config.revision), known)]


def _of_folder(folder: Path, known: Mapping[str, Any]) -> Model:
    source = str(folder.resolve())
    if (wrong := fault_of(folder, trust_remote_code=known["trust_remote_code"])) is not None:
        return _unusable(source, wrong, known)
    try:
        return Model(source=source, fingerprint=fingerprint(folder), **_size(size_of(folder)), **known)
    except ConfigError as e:  # it changes while it is looked at
        return _unusable(source, str(e), known)


def _unusable(source: str, reason: str, known: Mapping[str, Any]) -> Model:
    """A model that is not there or is broken. Its source is part of its cells' keys: they are not another's."""
    return Model(source=source, fingerprint=f"unresolved:{source}", unresolved=reason, **known)


def _of_hub(model_id: str, found: hub.Revision, known: Mapping[str, Any]) -> Model:
    known = {**known, **_size(found.size)}
    if found.commit is None:
        # Its name too: cells of two such models are not one.
        return Model(source=model_id, fingerprint=f"unresolved:{known.get('name', model_id)}", unresolved=found.reason, **known)
    cached = hub.folder_of(model_id, found.commit)
    wrong = fault_of(cached, trust_remote_code=known["trust_remote_code"], whole=False)
    return Model(
        source=model_id,
        revision=found.commit,
        fingerprint=f"commit:{found.commit}",
        from_cache=found.reason is not None,
        unresolved=f"{model_id}: {wrong}" if wrong else None,
        **known,
    )


def _size(size: Size) -> dict[str, Any]:
    return {"weight_bytes": size.weight_bytes, "parameters": size.parameters}


def _short_name(folder: Path) -> str:
    """A folder is called by its last two parts, which tells `run7/step-100` from `run8/step-100`."""
    return "/".join(folder.resolve().parts[-2:]).lstrip("/")


def _series(config: ModelConfig) -> list[ModelConfig]:
    folder = at_home(config.id)
    pattern = config.checkpoints or ""
    is_inside = not Path(pattern).is_absolute() and ".." not in Path(pattern).parts
    if config.id.startswith("zoo/") and not folder.is_dir() and is_inside:
        return [replace(config, id=name, checkpoints=None, post_trained=None) for name in _of_zoo(config.id, pattern)]
    if not folder.is_dir() and not config.id.startswith("zoo/"):
        raise ModelError(
            f"{config.id}: checkpoints is for folders, and there is no such folder; "
            'a series on the Hub is named by a pattern of revisions (revision: "step*")'
        )
    if not is_inside:
        raise ConfigError(f"{config.id}: checkpoints: {pattern!r} must be a pattern inside the folder")
    found = (path for path in folder.glob(pattern) if _is_meant(path))
    matches = sorted(found, key=lambda path: hub.natural(path.relative_to(folder).as_posix()))
    if not matches:
        raise ModelError(f"{config.id}: checkpoints: nothing with a config.json matches {pattern!r}")
    return [replace(config, id=str(match), checkpoints=None, post_trained=None) for match in matches]


def _of_zoo(run: str, pattern: str) -> list[str]:
    """The checkpoints of a training run of the zoo that match, as far as they are built."""
    from spt_fast import zoo

    if not zoo.is_run(run):
        names = ", ".join(f"zoo/{name}" for name in zoo.RUNS)
        raise ConfigError(f"{run}: checkpoints is for a run, and this is none of the zoo's; leave it out, or name {names}")
    found = [name for name in zoo.find_checkpoints(run) if fnmatchcase(name.rpartition("/")[2], pattern)]
    if not found:
        raise ModelError(f"{run}: checkpoints: no checkpoint that is built matches {pattern!r}")
    return found


def _is_meant(folder: Path) -> bool:
    """Whether a match of `checkpoints` is a model, be it a broken one, and not a folder of logs."""
    return any(is_there(folder / name) for name in ("config.json", ADAPTER)) or any(folder.glob("*.safetensors"))


def fingerprint(folder: Path) -> str:
    """Content hash of a model folder: small files whole, safetensors header whole and every tensor sampled.

    Sampling reads some 100 MB of a model of any size, so that an unchanged grid is answered at once; training moves all of a
    tensor, so new weights are seen. A change that somebody makes by hand inside one large tensor may not be: `--fresh`.

    Raises:
        ConfigError: the folder is no model, or its weights are not safetensors.
    """
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: is no model folder: it has no config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth") for path in folder.glob(kind))
        mend = f"; {others[0]} could run code when it is read: convert it" if others else ""
        raise ConfigError(f"{folder}: has no weights in safetensors{mend}")
    digest = hashlib.sha256()
    for name in SMALL_FILES:
        path = folder / name
        if path.is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for path in weights:
        digest.update(path.name.encode() + b"\0")
        _hash_safetensors(path, digest)
    return f"sha256:{digest.hexdigest()[:32]}"


def _hash_safetensors(path: Path, digest: Any) -> None:
    try:
        with path.open("rb") as file:
            header = read_header(file)
            digest.update(header.text)
            for name in sorted(header.tensors):
                begin, end = header.tensors[name]["data_offsets"]
                for at, size in _pieces(begin, end):
                    file.seek(header.data + at)
                    digest.update(file.read(size))
            ends = [tensor["data_offsets"][1] for tensor in header.tensors.values()]
            if file.seek(0, os.SEEK_END) < header.data + max(ends, default=0):
                raise ValueError("it ends too early")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as e:
        raise ConfigError(f"{path}: is not a whole safetensors file: {e}") from None


def _pieces(begin: int, end: int) -> list[tuple[int, int]]:
    size = end - begin
    if size <= WHOLE:
        return [(begin, size)]
    return [(begin + (size - PIECE) * i // (SAMPLES - 1), PIECE) for i in range(SAMPLES)]


def require_resolved(model: Model) -> Model:
    """The model, or why it cannot be used.

    Raises:
        ModelError: it could not be reached.
    """
    if model.unresolved is not None:
        raise ModelError(model.unresolved)
    return model
