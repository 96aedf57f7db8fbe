"""What every protocol is: its settings, and the traits by which the rest of spt-fast knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from spt_fast.config import ranges
from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError

AUTO: Final = "auto"
"""Of a setting: measured on the model."""
LATER: Mapping[str, Any] = {"later": True}
"""Metadata of a field that grids did not always have. At its default it is no part of a cell's key: keys stay as they were."""


def only_with(name: str, *values: Any, later: bool = True) -> dict[str, Any]:
    """Metadata of a field that means something only where the field `name` has one of `values` (none: where it is not null)."""
    return {"goes_with": (name, values), "later": later}


def is_unused(settings: Mapping[str, Any], f: Field[Any]) -> bool:
    """Whether a field means nothing beside these settings (by field name): the betas of Adafactor, the text of `normal`."""
    if not f.metadata.get("goes_with"):
        return False
    name, values = f.metadata["goes_with"]
    return settings[name] not in values if values else settings[name] is None


Attached: TypeAlias = Literal["nothing", "soft_prompt", "adapter"]
"""What is put to the frozen model before it is asked: vectors in front of the prompt, low-rank changes of its weights."""


TASK: Mapping[str, Any] = {"task": True}
"""Metadata of a field that names a task, by its name or by a path beside the grid, or the file of a soft prompt."""


def refuse_unused(protocol: Protocol) -> None:
    """Refuse a setting that means nothing beside the others.

    Raises:
        ConfigError: it is set.
    """
    settings = {f.name: getattr(protocol, f.name) for f in fields(protocol)}
    for f in fields(protocol):
        if settings[f.name] != f.default and is_unused(settings, f):
            name, values = f.metadata["goes_with"]
            wanted = f"{name}: {' or '.join(values)}" if values else name
            now = "null" if settings[name] is None else settings[name]
            mend = _meant(settings[f.name], f) or "; set that, or leave it out"
            raise ConfigError(f"{protocol.name}.{f.name}: goes with {wanted}, and {name} is {now}{mend}")


def _meant(value: Any, f: Field[Any]) -> str:
    """The end of a sentence about a value that is nearly one of the field's words: "Prevous" for "previous"."""
    return did_you_mean(value.strip().lower(), f.metadata.get("words", ())) if isinstance(value, str) else ""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is asked. Its fields are the settings of grid.yaml; its traits are what the rest of spt-fast goes by.

    Derive from this to ask in another way (`asks`), from `Vectors` for vectors that are not learnt (`first_vectors`), from
    `SoftPromptConfig` for another way to learn them (`learns_from`). CONTRIBUTING.md has one of each kind.
    """

    name: ClassVar[str] = "protocol"
    """As grid.yaml and tables have it."""
    in_words: ClassVar[str] = ""
    """As a sentence has it, behind the model's name: "Gemma, <asked plainly>". Empty: "with <name>" (`said`)."""
    is_control: ClassVar[bool] = False
    """Whether it is there to be compared with, not to be used."""
    is_baseline: ClassVar[bool] = False
    """Whether it is the model by itself, which other protocols are held against: the bare question."""
    is_treatment: ClassVar[bool] = False
    """Whether it is what a study is about: reports, `rank` and `compare` hold it against the others."""
    seeded: ClassVar[bool] = False
    """Whether a seed can change anything."""
    attaches: ClassVar[Attached] = "nothing"
    """What stands beside the frozen model. A soft prompt need not have been learnt: random vectors are one."""
    learns: ClassVar[bool] = False
    """Whether something is learnt on tuning rows."""
    shuffles: ClassVar[bool] = False
    """Whether it learns on rows whose answers are other rows'."""
    transfers: ClassVar[bool] = False
    """Whether it learns on another task than it is asked (`source`)."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that have a name in grid.yaml: `soft_prompt: paper`."""

    def __post_init__(self) -> None:
        ranges.check(self, f"{self.name}.")
        refuse_unused(self)

    @property
    def shots(self) -> int:
        """Worked examples in front of each question."""
        return 0

    @property
    def soft_length(self) -> int:
        """Soft positions in front of each prompt, `P`."""
        return 0

    @property
    def source(self) -> str | None:
        """The task that it learns on, by name or path; None: the one that is asked."""
        return None

    @property
    def starts_from(self) -> str | None:
        """The task, or the file of a soft prompt, whose vectors it starts from; None: it needs none."""
        return None

    @property
    def carried(self) -> bool:
        """Whether what it learns starts from what the checkpoint before has learnt, in a series of checkpoints."""
        return False

    @property
    def checkpoints(self) -> tuple[int | None, ...]:
        """Steps whose vectors or adapter are kept and evaluated, in order; the one None where nothing is attached."""
        return (None,)

    @property
    def rows_needed(self) -> int:
        """Tuning rows that it takes, each of them once."""
        return 0

    def too_few(self, rows: int) -> str:
        """Why so many tuning rows are too few, and what to do about it; empty where they are enough."""
        return ""

    @property
    def looks_ahead(self) -> bool:
        """Whether a step depends on how many are still to come: the first 80 of 120 are then not those of 80."""
        return False

    @property
    def takes_other_rows(self) -> bool:
        """Whether it takes rows of the task that are no test rows: to learn on, to start from, or to show as examples."""
        return self.attaches != "nothing" or self.shots > 0

    def parts(self, seed: int) -> tuple[tuple[Protocol, int], ...]:
        """The protocols and seeds of the cells that answer together for this one. Empty: it is asked itself."""
        return ()

    def asks(self, task: Any) -> Any:
        """A task (`tasks.base.Task`) as this protocol asks it: `dataclasses.replace(task, template=...)`.

        Its prompt (`template`, `cloze`), its `sampling`, and how an open-ended answer is read (`format`, `form`, `extract`)
        may be others; its name, rows and options may not. What is learnt is learnt on the same prompts.
        """
        return task

    def on(self, source: str) -> Self:
        """The same, learning on this task."""
        return self

    def first(self) -> Protocol | None:
        """What learns the vectors that it starts from, where `starts_from` is a task."""
        return None

    @classmethod
    def said(cls) -> str:
        """As a sentence has it, behind the model's name."""
        return cls.in_words or f"with {cls.name.replace('_', ' ')}"
