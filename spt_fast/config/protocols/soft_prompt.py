"""Vectors in front of the prompt: what they start from and where they stand; trained, several that vote, and the controls."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from spt_fast.config.protocols.base import AUTO, LATER, TASK, Protocol, only_with
from spt_fast.config.protocols.learning import Learning
from spt_fast.config.ranges import number, path, text, whole
from spt_fast.errors import ConfigError, DataError
from spt_fast.types import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spt_fast.types import Example

Encoder: TypeAlias = Literal["mlp", "lstm"]
PatienceOn: TypeAlias = Literal["loss", "format"]
ENCODER_RATE = 0.001
"""Of `lr: auto` with an `encoder`: what is learnt are weights of a network of ours, whatever the model's embeddings are."""


Init: TypeAlias = Literal["normal", "uniform", "vocabulary", "answers", "text", "soft_prompt"]
"""`vocabulary`: embeddings of tokens drawn from the most frequent ones. `normal`: N(0, init_std²). `uniform`: U(-init_range,
init_range). `answers`: embeddings of the task's answer words, then of drawn tokens. (`uniform`, `vocabulary` and `answers` are
those of Lester et al., arXiv 2104.08691.) `text`: embeddings of `init_text`, repeated up to `length`, as in PEFT.
`soft_prompt`: the vectors of another soft prompt, `init_from` (arXiv 2110.07904), which `init_from: previous` implies."""
Place: TypeAlias = Literal["auto", "front", "after_bos", "end"]
"""Where vectors are to stand: `auto` is behind BOS where the model's prompts begin with one, else in front."""
STARTS_FROM: Mapping[str, str] = {"text": "init_text", "soft_prompt": "init_from"}
"""Starts that need another setting, which says what they start from."""
PREVIOUS = "previous"
"""Of `init_from`: the checkpoint before, in the series that the model is one of."""
COLD_STEPS = 80
"""Updates of a soft prompt that is carried along a series, where there is no earlier checkpoint to start from."""

PAPER: Mapping[str, Any] = {"init": "normal", "init_std": 0.02, "lr": 0.001, "position": "front"}
"""The setting of arXiv 2606.12117, section 3 of its protocol, which a grid has by `soft_prompt: paper`."""


PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": PAPER}
"""What `preset` stands for."""


def with_preset(name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a preset, with others beside them or in their place."""
    more = with_start(more)
    left = {key: value for key, value in PRESETS[name].items() if key != "init_std" or more.get("init", "normal") == "normal"}
    return {**left, **more}


def with_start(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the `init` that `init_from: previous` implies, where they say none."""
    implied = {"init": "soft_prompt"} if settings.get("init_from") == PREVIOUS else {}
    return {**implied, **settings}


@dataclass(frozen=True, kw_only=True)
class Vectors(Protocol):
    """What every protocol has that puts vectors in front of the prompt.

    They enter at the input and nowhere else: there is no `depth`. Per-layer prefixes (prefix tuning, P-tuning v2) are
    vectors among the keys and values of every layer, where vLLM has no place for them.
    """

    name = "vectors"
    seeded = True
    attaches = "soft_prompt"
    presets = PRESETS

    length: int = field(default=10, metadata=whole(least=1, most=65_536))
    """Number of vectors."""
    init: Init = "vocabulary"
    """Where the vectors start."""
    init_std: float | Literal["auto"] = field(
        default=AUTO, metadata=only_with("init", "normal", later=False) | number(above=0, most=1000, words=(AUTO,))
    )
    """Standard deviation of `init: normal`; `auto`: the root mean square of the embeddings of frequent tokens."""
    init_range: float = field(default=0.5, metadata=only_with("init", "uniform") | number(above=0, most=1000))
    """Range of `init: uniform`, from minus this to this. 0.5 is that of Lester et al."""
    init_tokens: int = field(
        default=5000, metadata=only_with("init", "vocabulary", "answers") | whole(least=1, most=10_000_000)
    )
    """How many of the most frequent tokens to draw from. Frequency is the order of token ids: a lower id is an earlier
    merge."""
    init_text: str | None = field(default=None, metadata=only_with("init", "text") | text(100_000, empty=True))
    """The text of `init: text`."""
    init_from: str | None = field(
        default=None,
        metadata={**TASK, "words": (PREVIOUS,), **only_with("init", "soft_prompt"), **path(empty=True)},
    )
    """The source of `init: soft_prompt`: a task, on which a soft prompt with the same settings and seed is trained first, from
    `init: vocabulary`. Or a .safetensors file of spt-fast, or the folder of a PEFT adapter, with `length` vectors. Or
    `previous`: the soft prompt of the nearest earlier checkpoint of the same series, with the same task, settings and seed,
    whose vectors are in the run folder; where there is none, one that is trained on the model itself (`cold_steps`)."""
    position: Place = AUTO
    """`front`: in front of everything, BOS included; `after_bos`: behind BOS; `end`: at the end of the prompt, in front of the
    answer; `auto`: behind BOS where there is one, else in front."""

    carries: ClassVar[bool] = False
    """Whether what it learns can be carried along a series of checkpoints (`init_from: previous`)."""
    carries_not: ClassVar[str] = "learns nothing that could be carried along; soft_prompt and shuffled_labels do"
    """Why not, behind its name."""

    def __post_init__(self) -> None:
        if self.carried:
            if not self.carries:
                raise ConfigError(f"{self.name}.init_from: {PREVIOUS}: {self.name} {self.carries_not}")
            if self.init == "vocabulary":  # which is the default
                object.__setattr__(self, "init", "soft_prompt")
        super().__post_init__()
        for init, name in STARTS_FROM.items():
            if self.init == init and not (getattr(self, name) or "").strip():
                raise ConfigError(f"{self.name}.{name}: is missing; init: {init} starts from it")

    @property
    def soft_length(self) -> int:
        """Soft positions in front of each prompt, `P`."""
        return self.length

    @property
    def starts_from(self) -> str | None:
        """The task, or the file of a soft prompt, whose vectors it starts from; None: it needs none."""
        return None if self.carried else self.init_from

    @property
    def carried(self) -> bool:
        """Whether its vectors start from those of the checkpoint before."""
        return self.init_from == PREVIOUS

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps whose vectors are kept and evaluated, in order; 0 is before training."""
        return (0,)

    def first(self) -> Protocol:
        """What learns the vectors that it starts from: a soft prompt with the same settings, from `init: vocabulary`."""
        shared = {f.name for f in fields(self)} & {f.name for f in fields(SoftPromptConfig)}
        own = {name: getattr(self, name) for name in shared}
        return SoftPromptConfig(**{**own, "init": "vocabulary", "init_from": None, "evaluate_at": ()})

    def first_vectors(self, vocabulary: Vocabulary, hidden_size: int, seed: int) -> npt.NDArray[np.float32] | None:
        """The vectors before the first step, `[P, H]`, a function of the arguments alone; None: those of `init`."""
        return None


@dataclass(frozen=True, kw_only=True)
class RandomVectors(Vectors):
    """A control: zero-shot behind vectors that were not trained. What these change was not learnt."""

    name = "random_vectors"
    in_words = "behind vectors that nothing was learnt into"
    is_control = True


@dataclass(frozen=True, kw_only=True)
class SoftPromptConfig(Learning, Vectors):
    """Train `length` vectors on the training rows, with the model frozen; then prompt zero-shot behind them.

    Length, steps and batches are those of arXiv 2606.12117. Start, position and rate are in units of the model, because the
    paper's (`preset: paper`) do not train models whose embeddings are large.
    """

    name = "soft_prompt"
    in_words = "with a learnt soft prompt"
    is_treatment = True
    carries = True

    cold_steps: int = field(default=COLD_STEPS, metadata=only_with("init_from", PREVIOUS) | whole(least=1, most=10_000_000))
    """Updates of the soft prompt that `init_from: previous` starts from where no earlier checkpoint has one: with the same
    settings and seed, from `init: vocabulary`, on the model itself. `steps` come after them, as for all others."""
    encoder: Encoder | None = field(default=None, metadata=LATER)
    """Train a small network that makes the vectors (P-tuning), together with its input, which `init` gives: `mlp`, as in
    PEFT, or `lstm`. It is discarded afterwards. PEFT's input is N(0, 1): `init_std: 1`."""
    encoder_hidden: int | None = field(default=None, metadata=only_with("encoder") | whole(least=1, most=65_536))
    """Hidden size of the encoder; null: that of the model."""
    patience: int | None = field(default=None, metadata={**LATER, **whole(least=1, most=10_000_000)})
    """Early stop: after so many updates without a lower loss on held-out rows; null: all steps. The result is the vectors
    with the lowest loss."""
    patience_on: PatienceOn = field(default="loss", metadata=only_with("patience"))
    """What early stop goes by: the `loss`, or the number of held-out rows whose greedy answer has the `format` asked for (as
    long as not all have it, a lower loss counts too). The result is the vectors with the most such answers."""
    held_out: int = field(default=32, metadata=only_with("patience") | whole(least=1, most=1_000_000))
    """Number of training rows to hold out for early stop, drawn by seed."""
    check_every: int = field(default=5, metadata=only_with("patience") | whole(least=1, most=10_000_000))
    """Updates between two evaluations of the held-out rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.carried:
            return
        if self.encoder is not None:
            raise ConfigError(
                f"{self.name}.encoder: goes not with init_from: {PREVIOUS}: its network is made anew for each checkpoint, so "
                "that the vectors before do not come through it; leave one of the two out"
            )
        try:
            self.first()
        except ConfigError as e:
            raise ConfigError(
                f"{self.name}.cold_steps: a training of {self.cold_steps} steps is not to be had: {e.sentences[0]}"
            ) from None

    def first(self) -> Protocol:
        """What learns the vectors that it starts from."""
        if not self.carried:
            return super().first()
        # The same protocol: shuffled answers teach a control nothing, and those that it starts from must not either.
        return replace(self, init="vocabulary", init_from=None, steps=self.cold_steps, cold_steps=COLD_STEPS, evaluate_at=())

    def carried_along(self, steps: int, **more: Any) -> Self:
        """The same settings with the start of `init_from: previous`, for so many steps; of its own start nothing is left."""
        start = {"init", "init_std", "init_range", "init_tokens", "init_text", "evaluate_at"}
        kept = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in start}
        return type(self)(**{**kept, "init_from": PREVIOUS, "steps": steps, **more})

    def too_few(self, rows: int) -> str:
        """Why so many tuning rows are too few, for its own steps or for a cold start, and what to do about it."""
        said = super().too_few(rows)
        if said or not self.carried:
            return said
        cold = self.first().too_few(rows).replace("lower steps", "lower cold_steps")
        return f"where it starts cold, {cold}" if cold else ""

    @classmethod
    def paper(cls, **more: Any) -> Self:
        """The paper's setting (`PAPER`), with other settings beside it or in its place."""
        return cls(**with_preset("paper", more))

    @property
    def looks_ahead(self) -> bool:
        """Whether vectors depend on how many steps are still to come: the first 80 of 120 are then not those of 80."""
        return super().looks_ahead or self.patience is not None

    @property
    def rows_needed(self) -> int:
        """Tuning rows that it takes, each of them once."""
        return super().rows_needed + (self.held_out if self.patience is not None else 0)


@dataclass(frozen=True, kw_only=True)
class Ensemble(SoftPromptConfig):
    """Majority vote of several soft prompts of a task (Lester et al., arXiv 2104.08691, section 6).

    The members of seed s are the soft prompts with the same settings and the seeds members * s, ..., members * s + members - 1,
    so no two ensembles share one. Each is a cell of its own, and one that the grid has anyway (`soft_prompt`) is computed once
    for both.
    """

    name = "ensemble"
    in_words = "with several soft prompts that vote"
    is_treatment = False
    carries = False
    carries_not = "has members of several seeds, each of which is a soft_prompt; carry that one along, with as many seeds"

    members: int = field(default=5, metadata=whole(least=2, most=1000))
    """Number of soft prompts in an ensemble."""

    def parts(self, seed: int) -> tuple[tuple[Protocol, int], ...]:
        """The protocols and seeds of the cells that answer together for this one."""
        one = SoftPromptConfig(**{f.name: getattr(self, f.name) for f in fields(SoftPromptConfig)})
        return tuple((one, each) for each in range(self.members * seed, self.members * (seed + 1)))


@dataclass(frozen=True, kw_only=True)
class ShuffledLabels(SoftPromptConfig):
    """A control: a soft prompt trained on rows with the answers of other rows (closed-ended: any of the options).

    It is trained on the form as before, and on nothing about what is right: knowledge beyond it was in the model.
    """

    name = "shuffled_labels"
    in_words = "behind vectors learnt on shuffled answers"
    is_treatment = False
    is_control = True
    shuffles = True

    def learns_from(self, examples: Sequence[Example], seed: int) -> tuple[Example, ...]:
        """Examples whose targets have the form and tell nothing.

        Closed-ended: any of a row's own options, the right one as likely as the others, so that it cannot even be learnt to
        avoid. Open-ended: the target of another row; the same ones in all, each somewhere else.

        Raises:
            DataError: a single open-ended row, which has no other to take a target from.
        """
        drawn = random.Random(f"shuffled labels {seed}")
        if all(example.options for example in examples):
            return tuple(replace(example, target=drawn.choice(example.options)) for example in examples)
        if len(examples) == 1:
            raise DataError(f"{self.name} needs at least two tuning rows")
        # Along one random cycle, nobody keeps their own.
        order = list(range(len(examples)))
        drawn.shuffle(order)
        moved = list(examples)
        for here, there in zip(order, [*order[1:], order[0]], strict=True):
            moved[here] = replace(examples[here], target=examples[there].target)
        return tuple(moved)


@dataclass(frozen=True, kw_only=True)
class Transfer(SoftPromptConfig):
    """A control: vectors trained on another task (the domain shift of Lester et al., arXiv 2104.08691, section 5)."""

    name = "transfer"
    in_words = "behind vectors learnt on another task"
    is_treatment = False
    is_control = True
    transfers = True

    from_task: str = field(metadata={"key": "from", "in_label": True, "words": ("all",), **TASK, **path()})
    """The task to train on: a name, the path of a task file, or a list of these. `all`: every other task of the grid whose
    answers have the same form: both closed-ended with options written alike, or both open-ended with the same regular
    expression."""

    ALL: ClassVar[str] = "all"
    """Of `from_task`."""

    @property
    def source(self) -> str | None:
        """The task that it learns on, by name or path."""
        return self.from_task

    def on(self, source: str) -> Self:
        """The same, learning on this task."""
        return replace(self, from_task=source)
