"""What travels between the layers. Frozen, light (no torch), and picklable, because it crosses processes.

Letters used in every docstring: `B` batch, `T` tokens, `P` soft positions, `H` hidden size, `V` vocabulary, `K` options,
`N` examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Position: TypeAlias = Literal["front", "after_bos", "end"]
"""Where the soft prompt stands: in front of everything, BOS included (as PEFT and the paper have it), behind BOS, or at the
end of the prompt, right in front of the answer."""

FinishReason: TypeAlias = Literal["stop", "length"]
"""`stop`: an end-of-sequence token or a stop string; `length`: cut off by the token limit."""


def before_soft(position: Position, T: int) -> int:
    """How many of a prompt's `T` tokens stand in front of the soft positions."""
    return {"front": 0, "after_bos": 1, "end": T}[position]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One row of a task, ready for its template."""

    key: str
    """Content hash of the row (16 hexadecimal digits): what disjointness and paired comparisons go by."""
    question: str
    target: str
    """What the model should write, without outer white space: "B. Paris", "3 + 4 = 7\\n#### 7"."""
    answers: tuple[str, ...]
    """Every value that counts as right, before the task's normalisation."""
    context: str = ""
    options: tuple[str, ...] = ()
    """Closed-ended tasks: what may be written ("A. Rome", "B. Paris", ...), `K` of them; else empty."""
    listing: tuple[str, ...] = ()
    """The options as the prompt lists them, where that is not what may be written: "A. Rome" for the answer "A"."""
    texts: tuple[str, ...] = ()
    """The options' texts without letters, as published, `K` of them: what cloze scores. Empty: those of `options`."""
    gold: int | None = None
    """Closed-ended tasks: the index of the right option."""
    group: str = ""
    """Rows that share a passage or subject share a group (for clustered errors); empty where there is none."""
    row: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """Tasks of another library: the row as it has prepared it."""
    place: int = field(default=0, compare=False)
    """Tasks of another library: its number among the rows of its split, as published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extraction:
    """A value found in a completion, with the rule that found it and where it stands."""

    value: str
    rule: str
    span: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How a completion is decoded. Greedy by default."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    """A completion ends in front of the first of these strings; the string itself is not part of the text."""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    choices: tuple[str, ...] = ()
    """The completion is one of these texts, none of which begins another: the engine lets no other token through."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """A request for a completion."""

    token_ids: tuple[int, ...]
    """`[T]` the prompt, BOS included, without the soft positions."""
    sampling: Sampling
    soft_prompt: str | None = None
    """Content hash of a soft prompt the engine holds (`Engine.add`); None: no soft prompt."""
    position: Position = "front"
    adapter: str | None = None
    """Content hash of a LoRA adapter the engine holds (`Engine.add_adapter`); None: the model as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A request for the log-likelihood of a continuation given a prompt."""

    token_ids: tuple[int, ...]
    """`[T]` the prompt, BOS included, without the soft positions."""
    continuation: tuple[int, ...]
    """Token ids whose log-probabilities are wanted; at least one."""
    soft_prompt: str | None = None
    position: Position = "front"
    adapter: str | None = None


Request: TypeAlias = Generate | Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What the engine answers to `Generate`."""

    text: str
    token_ids: tuple[int, ...]
    """Generated ids, the end-of-sequence token included where it was generated."""
    finish_reason: FinishReason
    finite: bool = True
    """Whether no logits that a token was chosen from were NaN or infinite; then it says nothing of the model."""
    cached: int | None = field(default=None, compare=False)
    """Positions of the prompt, soft ones included, that were read before and not again; None: the engine does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLikelihood:
    """What the engine answers to `Score`: natural logarithms, one for each token of the continuation."""

    token_logprobs: tuple[float, ...]
    cached: int | None = field(default=None, compare=False)
    """As in `Completion`."""

    @property
    def total(self) -> float:
        """Log-likelihood of the continuation: the sum over its tokens."""
        return sum(self.token_logprobs)

    @property
    def finite(self) -> bool:
        """Whether every log-probability is a number. NaN among the logits, or plus infinity, makes NaN of all of them."""
        return all(map(math.isfinite, self.token_logprobs))


Answer: TypeAlias = Completion | LogLikelihood


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingStep:
    """One step of tuning."""

    step: int
    """1 for the first update."""
    loss: float
    """Mean negative log-likelihood of the batch's target tokens, in nats, before the update."""
    grad_norm: float
    """L2 norm of the gradient of the vectors `[P, H]`."""
    positions: int = 0
    """That the model read for it, soft ones among them, padding not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A number with its uncertainty."""

    name: str
    """As `format_following`."""
    value: float
    """NaN where it is undefined: exact match given format, when no completion had the format."""
    n: int
    """Rows that it is of."""
    stderr: float
    """Standard error; rows that share a passage are clustered."""
    ci_low: float
    """Lower end of the 95 % confidence interval."""
    ci_high: float
    """Upper end of it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One example under one protocol, with everything that its verdicts rest on: a row of samples.parquet."""

    example: str
    """`Example.key`."""
    step: int | None
    """Of the soft prompt; None for other protocols."""
    prompt: str
    """What the model read, without the soft positions."""
    completion: str
    """What it wrote."""
    finish_reason: FinishReason
    """`stop`: an end-of-sequence token or a stop string; `length`: cut off by the token limit."""
    target: str
    """What it should write."""
    extracted: str | None
    """Open-ended tasks: the value that was found in the completion; None: none was."""
    rule: str | None
    """The rule that found it."""
    format_ok: bool
    """`format_following`: whether the completion has the form asked for."""
    knows: bool
    """`knowledge`. Closed-ended tasks: by the options as the prompt lists them."""
    correct: bool
    """Exact match: right and in the form asked for. By rules, judge or not."""
    answers: tuple[str, ...] = ()
    """What counts as right."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """The task's further scores of this example (`f1`), 0 to 1."""
    option_logprobs: tuple[float, ...] = ()
    """Closed-ended tasks: log-likelihood of each option behind the prompt that lists them, `[K]`."""
    chosen: int | None = None
    """Closed-ended tasks: index of the likeliest option."""
    chosen_per_byte: int | None = None
    """Closed-ended tasks: index of the option likeliest per byte of its text."""
    knows_per_byte: bool | None = None
    """Closed-ended tasks: whether that is the right one."""
    format_by_rule: bool | None = None
    """Where a judge has decided `format_ok`: what the task's regular expression says."""
    knows_by_rule: bool | None = None
    """Where a judge has decided `knows`: what the task's extractor says."""
    group: str = ""
    """`Example.group`; empty where rows share nothing."""
    options: tuple[str, ...] = ()
    """Closed-ended tasks: what may be written, `[K]`."""
    span: tuple[int, int] | None = None
    """Where in the completion the extracted value stands; None: nothing was extracted."""
    bound: bool | None = None
    """Options with letters, in form: whether the text is that of the letter in front of it. None else."""
    gold: int | None = None
    """Closed-ended tasks: the index of the right option."""
    option_priors: tuple[float, ...] = ()
    """What debiasing takes off the log-likelihood of each option, `[K]`; empty where it cannot be told."""
    cloze_texts: tuple[str, ...] = ()
    """The options without letters, as cloze scores them, `[K]`; this and the next two are empty where it was not asked."""
    cloze_logprobs: tuple[float, ...] = ()
    """Log-likelihood of each text behind the question without options, `[K]`."""
    unconditional_logprobs: tuple[float, ...] = ()
    """Log-likelihood of each text behind the bare cue, `[K]`."""
    chosen_debiased: int | None = None
    """Index of the option chosen by the listed options, less the prior of each place."""
    chosen_cloze: int | None = None
    """By cloze."""
    chosen_cloze_per_byte: int | None = None
    """By cloze, per byte of the text."""
    chosen_cloze_pmi: int | None = None
    """By cloze, less the text's unconditional log-likelihood."""
    knows_debiased: bool | None = None
    """`knowledge_debiased`: whether that option is the right one; the next three alike."""
    knows_cloze: bool | None = None
    """`knowledge_cloze`."""
    knows_cloze_per_byte: bool | None = None
    """`knowledge_cloze_per_byte`."""
    knows_cloze_pmi: bool | None = None
    """`knowledge_cloze_pmi`."""
    knows_best: bool | None = None
    """`knowledge_best`: by the scoring method that is best on tuning rows. None: open-ended tasks, which have `knows` alone."""
    answer_texts: tuple[str, ...] = ()
    """The gold answers whose likelihood was asked, `[A]`; empty: none was."""
    answer_logprobs: tuple[float, ...] = ()
    """Log-likelihood of each, `[A]`."""
    answer_bits_per_byte: float | None = None
    """`answer_bits_per_byte`: of the likeliest of them."""
    answer_logprob_margin: float | None = None
    """Closed-ended tasks: by how many nats the right option is likelier than the likeliest other one."""


class Kept(NamedTuple):
    """An answer as it is kept: what it is to, and what it is."""

    step: int | None
    what: str
    i: int
    k: int
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """That a cell was asked no further, because what was to be known is known (`stop` of a grid)."""

    n: int
    """Test rows that its numbers are of: the first ones in `scoring.sequential.asking_order`."""
    of: int
    """That the task has."""
    why: str
    """What is known, in words."""
    rule: str
    """Hash of what was to be known: `scoring.stopping.rule`."""
    looks: int
    """How often it was looked."""
    units: int
    """Groups of all its rows; as many as rows where none share a group."""
    largest: int
    """Rows of the largest of them."""
    questions: str = ""
    """Hash of all that was asked for: another one would be asked other things."""
    answers: tuple[Kept, ...] = field(default=(), repr=False)
    """All that was answered: what a run that goes on need not ask again."""


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What a cell came to: its metrics by step and what it cost. `samples` is stored beside, a row an example."""

    metrics: Mapping[int | None, tuple[Metric, ...]]
    """Step (None where the protocol has none) -> metrics."""
    samples: tuple[Sample, ...]
    costs: Mapping[str, float] = field(default_factory=dict)
    """Seconds by phase, tokens, peak memory in bytes where it is known, and how far the loss fell."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Versions and hashes that the numbers depend on but the key does not hold."""
    stopped: Stopped | None = None
    """The numbers are of some of the rows; None: of all."""


class Vocabulary(Protocol):
    """What a start takes from a model: its tokens, and what they are at its input."""

    def embed(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Token ids `[N]` -> what enters the model for them, `[N, H]`."""

    def frequent_ids(self, most: int) -> Sequence[int]:
        """Ids of the most frequent tokens, at most so many."""

    def text_ids(self, text: str) -> Sequence[int]:
        """Ids of a text by itself."""

    def answer_ids(self, answer: str) -> Sequence[int]:
        """Ids of an answer as it stands behind a prompt."""
