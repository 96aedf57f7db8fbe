"""Protocols: the ways of asking that a grid can name. Frozen values, checked when built; no torch, nothing heavy.

A field's docstring is its help; beside it stand the values that it may have (`ranges`), which are checked whoever builds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from spt_fast.config import ranges
from spt_fast.config.ranges import number, path, text, whole
from spt_fast.errors import ConfigError

Init: TypeAlias = Literal["normal", "uniform", "vocabulary", "answers", "text", "soft_prompt"]
"""`vocabulary`: embeddings of tokens drawn from the most frequent ones. `normal`: N(0, init_std²). `uniform`: U(-init_range,
init_range). `answers`: embeddings of the task's answer words, then of drawn tokens. (`uniform`, `vocabulary` and `answers` are
those of Lester et al., arXiv 2104.08691.) `text`: embeddings of `init_text`, repeated up to `length`, as in PEFT.
`soft_prompt`: the vectors of another soft prompt, `init_from` (arXiv 2110.07904)."""
Place: TypeAlias = Literal["auto", "front", "after_bos"]
"""Where vectors are to stand: `auto` is behind BOS where the model's prompts begin with one, else in front."""
AUTO: Final = "auto"
STARTS_FROM: Mapping[str, str] = {"text": "init_text", "soft_prompt": "init_from"}
"""Starts that need another setting, which says what they start from."""
Optimizer: TypeAlias = Literal["adamw", "adafactor"]
Schedule: TypeAlias = Literal["constant", "linear", "cosine"]
Encoder: TypeAlias = Literal["mlp", "lstm"]
PatienceOn: TypeAlias = Literal["loss", "format"]
RATE = 0.1
"""Of `lr: auto`, in root mean squares of what enters the model: the middle of the plateau of benchmarks/tuning/starts.py."""

ENCODER_RATE = 0.001
"""Of `lr: auto` with an `encoder`: what is learnt are weights of a network of ours, whatever the model's embeddings are."""

PAPER: Mapping[str, Any] = {"init": "normal", "init_std": 0.02, "lr": 0.001, "position": "front"}
"""The setting of arXiv 2606.12117, section 3 of its protocol, which a grid has by `soft_prompt: paper`."""


PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": PAPER}
"""What `preset` stands for."""


def with_preset(name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a preset, with others beside them or in their place."""
    left = {key: value for key, value in PRESETS[name].items() if key != "init_std" or more.get("init", "normal") == "normal"}
    return {**left, **more}


LATER: Mapping[str, Any] = {"later": True}
"""Metadata of a field that grids did not always have. At its default it is no part of a cell's key: keys stay as they were."""


def _with(name: str, *values: Any, later: bool = True) -> dict[str, Any]:
    """Metadata of a field that means something only where the field `name` has one of `values` (none: where it is not null)."""
    return {"goes_with": (name, values), "later": later}


def is_unused(settings: Mapping[str, Any], f: Field[Any]) -> bool:
    """Whether a field means nothing beside these settings (by field name): the betas of Adafactor, the text of `normal`."""
    if not f.metadata.get("goes_with"):
        return False
    name, values = f.metadata["goes_with"]
    return settings[name] not in values if values else settings[name] is None


def _refuse_unused(protocol: Vectors | Learning) -> None:
    settings = {f.name: getattr(protocol, f.name) for f in fields(protocol)}
    for f in fields(protocol):
        if settings[f.name] != f.default and is_unused(settings, f):
            name, values = f.metadata["goes_with"]
            wanted = f"{name}: {' or '.join(values)}" if values else name
            now = "null" if settings[name] is None else settings[name]
            raise ConfigError(f"{protocol.name}.{f.name}: goes with {wanted}, and {name} is {now}; set that, or leave it out")


Attached: TypeAlias = Literal["nothing", "soft_prompt", "adapter"]
"""What is put to the frozen model before it is asked: vectors in front of the prompt, low-rank changes of its weights."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is asked: its settings are the fields, and what the rest of spt-fast must know of it are these traits.

    Nothing outside decides by a protocol's class or name: it asks a trait.
    """

    name: ClassVar[str] = "protocol"
    """As grid.yaml and tables have it."""
    in_words: ClassVar[str] = ""
    """As a sentence has it, behind the model's name: "Gemma, <asked plainly>". Empty: "with <name>" (`said`)."""
    is_control: ClassVar[bool] = False
    """Whether it is there to be compared with, not to be used."""
    is_treatment: ClassVar[bool] = False
    """Whether it is what a study is about: reports, `rank` and `compare` hold it against the others."""
    is_baseline: ClassVar[bool] = False
    """Whether it is the model by itself, which other protocols are held against: the bare question."""
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
    def checkpoints(self) -> tuple[int | None, ...]:
        """Steps whose vectors or adapter are kept and evaluated, in order; the one None where nothing is attached."""
        return (None,)

    @property
    def rows_needed(self) -> int:
        """Tuning rows that it takes, each of them once."""
        return 0

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

    @classmethod
    def said(cls) -> str:
        """As a sentence has it, behind the model's name."""
        return cls.in_words or f"with {cls.name.replace('_', ' ')}"


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Protocol):
    """The instruction and the question, nothing else."""

    name = "zero_shot"
    in_words = "asked plainly"
    is_baseline = True


@dataclass(frozen=True, kw_only=True)
class FewShot(Protocol):
    """Worked examples in front of the question, drawn from the few-shot rows by seed."""

    name = "few_shot"
    in_words = "with worked examples in front"
    seeded = True

    shots: int = field(default=5, metadata=whole(least=1, most=10_000))
    """Number of examples in front of each question."""

    def __post_init__(self) -> None:
        ranges.check(self, f"{self.name}.")


@dataclass(frozen=True, kw_only=True)
class Vectors(Protocol):
    """What every protocol has that puts vectors in front of the prompt.

    They enter at the input and nowhere else: there is no `depth`. Per-layer prefixes (prefix tuning, P-tuning v2) are
    vectors among the keys and values of every layer, where vLLM has no place for them.
    """

    name = "vectors"
    seeded = True
    attaches = "soft_prompt"

    length: int = field(default=10, metadata=whole(least=1, most=65_536))
    """Number of vectors."""
    init: Init = "vocabulary"
    """Where the vectors start."""
    init_std: float | Literal["auto"] = field(
        default=AUTO, metadata=_with("init", "normal", later=False) | number(above=0, most=1000, words=(AUTO,))
    )
    """Standard deviation of `init: normal`; `auto`: the root mean square of the embeddings of frequent tokens."""
    init_range: float = field(default=0.5, metadata=_with("init", "uniform") | number(above=0, most=1000))
    """Range of `init: uniform`, from minus this to this. 0.5 is that of Lester et al."""
    init_tokens: int = field(default=5000, metadata=_with("init", "vocabulary", "answers") | whole(least=1, most=10_000_000))
    """How many of the most frequent tokens to draw from. Frequency is the order of token ids: a lower id is an earlier
    merge."""
    init_text: str | None = field(default=None, metadata=_with("init", "text") | text(100_000, empty=True))
    """The text of `init: text`."""
    init_from: str | None = field(default=None, metadata=_with("init", "soft_prompt") | path(empty=True))
    """The source of `init: soft_prompt`: a task, on which a soft prompt with the same settings and seed is trained first, from
    `init: vocabulary`. Or a .safetensors file of spt-fast, or the folder of a PEFT adapter, with `length` vectors."""
    position: Place = AUTO
    """`front`: in front of everything, BOS included; `after_bos`: behind BOS; `auto`: behind BOS where there is one."""

    def __post_init__(self) -> None:
        ranges.check(self, f"{self.name}.")
        for init, name in STARTS_FROM.items():
            if self.init == init and not (getattr(self, name) or "").strip():
                raise ConfigError(f"{self.name}.{name}: is missing; init: {init} starts from it")
        _refuse_unused(self)

    @property
    def soft_length(self) -> int:
        """Soft positions in front of each prompt, `P`."""
        return self.length

    @property
    def starts_from(self) -> str | None:
        """The task, or the file of a soft prompt, whose vectors it starts from; None: it needs none."""
        return self.init_from

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps whose vectors are kept and evaluated, in order; 0 is before training."""
        return (0,)


@dataclass(frozen=True, kw_only=True)
class RandomVectors(Vectors):
    """A control: zero-shot behind vectors that were not trained. What these change was not learnt."""

    name = "random_vectors"
    in_words = "behind vectors that nothing was learnt into"
    is_control = True


@dataclass(frozen=True, kw_only=True)
class Learning(Protocol):
    """What every protocol has that learns something on the tuning rows.

    Two of them with the same batches see the same rows in the same order, by seed. AdamW at a constant rate, as in
    arXiv 2606.12117, section 3 of its protocol.
    """

    name = "learning"
    seeded = True
    learns = True

    steps: int = field(default=80, metadata=whole(least=1, most=10_000_000))
    """Number of updates."""
    batch_size: int = field(default=8, metadata=whole(least=1, most=1_000_000))
    """Examples an update."""
    optimizer: Optimizer = field(default="adamw", metadata=LATER)
    """`adafactor` is without momentum and without parameter scaling, as in Lester et al., who use `lr: 0.3` and
    `weight_decay: 1e-5` with it."""
    lr: float | Literal["auto"] = field(default=AUTO, metadata=number(above=0, most=1000, words=(AUTO,)))
    """Peak learning rate. `auto`: 0.1 times the root mean square of the embeddings of frequent tokens, which differs by a
    factor of 60 between models; with an `encoder`, 0.001."""
    schedule: Schedule = field(default="constant", metadata=LATER)
    """Learning-rate schedule after the warm-up: constant, or `linear` or `cosine` to 0 at the last step."""
    warmup: int = field(default=0, metadata={**LATER, **whole(least=0, most=10_000_000)})
    """Updates in which the rate rises linearly to `lr`."""
    weight_decay: float = field(default=0.0, metadata=number(least=0, most=1000))
    """Decoupled weight decay, times the learning rate, in both optimisers."""
    betas: tuple[float, float] = field(
        default=(0.9, 0.999), metadata=_with("optimizer", "adamw", later=False) | number(least=0, below=1)
    )
    """Betas of AdamW."""
    max_grad_norm: float | None = field(default=None, metadata=number(above=0, most=1e9))
    """Clip the gradient to this L2 norm; null: no clipping."""
    repeat_rows: bool = False
    """Repeat the training rows where there are fewer than steps x batch_size. Without it, such a cell fails."""
    evaluate_at: tuple[int, ...] = field(default=(), metadata=whole(least=0, most=10_000_000))
    """Steps at which to evaluate; 0 is before training. The last step is always evaluated."""

    def __post_init__(self) -> None:
        ranges.check(self, f"{self.name}.")
        if self.warmup >= self.steps and self.schedule != "constant":
            raise ConfigError(
                f"{self.name}.warmup: must be below steps ({self.steps}), not {self.warmup}: the rate decays after it"
            )
        for step in self.evaluate_at:
            if step > self.steps:
                raise ConfigError(f"{self.name}.evaluate_at: step {step} is outside 0..{self.steps} (steps: {self.steps})")
        if len(set(self.evaluate_at)) != len(self.evaluate_at):
            raise ConfigError(f"{self.name}.evaluate_at: a step appears twice")
        _refuse_unused(self)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps at which what is learnt is kept and evaluated, in order, the last step included."""
        return tuple(sorted({*self.evaluate_at, self.steps}))

    @property
    def rate(self) -> float:
        """`lr` as a number; `tuning.settled` puts one in the place of `auto`."""
        assert self.lr != AUTO, "lr: auto was not settled"
        return self.lr

    @property
    def looks_ahead(self) -> bool:
        """Whether a step depends on how many are still to come: the first 80 of 120 are then not those of 80."""
        return self.schedule != "constant"

    @property
    def rows_needed(self) -> int:
        """Tuning rows that it takes, each of them once."""
        return self.steps * self.batch_size


@dataclass(frozen=True, kw_only=True)
class SoftPromptConfig(Learning, Vectors):
    """Train `length` vectors on the training rows, with the model frozen; then prompt zero-shot behind them.

    Length, steps and batches are those of arXiv 2606.12117. Start, position and rate are in units of the model, because the
    paper's (`preset: paper`) do not train models whose embeddings are large.
    """

    name = "soft_prompt"
    in_words = "with a learnt soft prompt"
    is_treatment = True

    encoder: Encoder | None = field(default=None, metadata=LATER)
    """Train a small network that makes the vectors (P-tuning), together with its input, which `init` gives: `mlp`, as in
    PEFT, or `lstm`. It is discarded afterwards. PEFT's input is N(0, 1): `init_std: 1`."""
    encoder_hidden: int | None = field(default=None, metadata=_with("encoder") | whole(least=1, most=65_536))
    """Hidden size of the encoder; null: that of the model."""
    patience: int | None = field(default=None, metadata={**LATER, **whole(least=1, most=10_000_000)})
    """Early stop: after so many updates without a lower loss on held-out rows; null: all steps. The result is the vectors
    with the lowest loss."""
    patience_on: PatienceOn = field(default="loss", metadata=_with("patience"))
    """What early stop goes by: the `loss`, or the number of held-out rows whose greedy answer has the `format` asked for (as
    long as not all have it, a lower loss counts too). The result is the vectors with the most such answers."""
    held_out: int = field(default=32, metadata=_with("patience") | whole(least=1, most=1_000_000))
    """Number of training rows to hold out for early stop, drawn by seed."""
    check_every: int = field(default=5, metadata=_with("patience") | whole(least=1, most=10_000_000))
    """Updates between two evaluations of the held-out rows."""

    @classmethod
    def paper(cls, **more: Any) -> Self:
        """The paper's setting (`PAPER`), with other settings beside it or in its place."""
        return cls(**with_preset("paper", more))

    def __post_init__(self) -> None:
        Vectors.__post_init__(self)
        Learning.__post_init__(self)

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


@dataclass(frozen=True, kw_only=True)
class Transfer(SoftPromptConfig):
    """A control: vectors trained on another task (the domain shift of Lester et al., arXiv 2104.08691, section 5)."""

    name = "transfer"
    in_words = "behind vectors learnt on another task"
    is_treatment = False
    is_control = True
    transfers = True

    from_task: str = field(metadata={"key": "from", **path()})
    """The task to train on: a name, the path of a task file, or a list of these. `all`: every other task of the grid whose
    answers have the same form: both closed-ended with options written alike, or both open-ended with the same regular
    expression."""

    ALL: ClassVar[str] = "all"
    """Of `from_task`."""

    @property
    def source(self) -> str | None:
        """The task that it learns on, by name or path."""
        return self.from_task


@dataclass(frozen=True, kw_only=True)
class Lora(Learning):
    """A control: a LoRA adapter (Hu et al., arXiv 2106.09685), trained on the rows of the soft prompt of the same seed, in the
    same order. It shows what many more parameters add: the form, or knowledge.

    Needs PEFT (`pip install spt-fast[lora]`).
    """

    name = "lora"
    in_words = "with low-rank changes of its weights"
    attaches = "adapter"

    lr: float | Literal["auto"] = field(default=0.0002, metadata=number(above=0, most=1000))
    """Peak learning rate."""
    rank: int = field(default=8, metadata=whole(least=1, most=4096))
    """Rank of the adapter."""
    alpha: float = field(default=16, metadata=number(above=0, most=1e6))
    """Scale of the adapter: alpha / rank."""
    targets: tuple[str, ...] = field(default=("attention",), metadata=text(200, empty=True))
    """Layers to adapt: `attention` (its linear layers), `linear` (all linear layers of the body), or names of layers
    (`q_proj`)."""
    dropout: float = field(default=0.0, metadata=number(least=0, below=1))
    """Dropout on the adapter's input, in training."""

    def __post_init__(self) -> None:
        if self.lr == AUTO:
            raise ConfigError(f"{self.name}.lr: must be a number; auto is measured for soft prompts alone")
        super().__post_init__()
        if not self.targets or not all(target.strip() for target in self.targets):
            raise ConfigError(f"{self.name}.targets: is empty; leave it out for attention, or name layers")


PROTOCOLS: Mapping[str, type[Protocol]] = {
    p.name: p for p in (ZeroShot, FewShot, SoftPromptConfig, Ensemble, ShuffledLabels, RandomVectors, Transfer, Lora)
}
"""By name, in the order in which they are listed."""


def protocol_of(label: str) -> type[Protocol]:
    """The protocol of a label, for its traits: `soft_prompt[length=5]` is of `SoftPromptConfig`.

    A run folder may name one that is not installed here; it is then one without traits.
    """
    name = label.partition("[")[0]
    return PROTOCOLS.get(name) or type("Unknown", (Protocol,), {"name": name})
