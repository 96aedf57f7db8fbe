"""Vectors in front of the prompt: what they start from, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from spt_fast.config.protocols.base import TASK, Protocol, only_with
from spt_fast.config.ranges import number, path, text, whole
from spt_fast.errors import ConfigError
from spt_fast.types import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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

PAPER: Mapping[str, Any] = {"init": "normal", "init_std": 0.02, "lr": 0.001, "position": "front"}
"""The setting of arXiv 2606.12117, section 3 of its protocol, which a grid has by `soft_prompt: paper`."""


PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": PAPER}
"""What `preset` stands for."""


def with_preset(name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a preset, with others beside them or in their place."""
    left = {key: value for key, value in PRESETS[name].items() if key != "init_std" or more.get("init", "normal") == "normal"}
    return {**left, **more}


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
    init_from: str | None = field(default=None, metadata={**TASK, **only_with("init", "soft_prompt"), **path(empty=True)})
    """The source of `init: soft_prompt`: a task, on which a soft prompt with the same settings and seed is trained first, from
    `init: vocabulary`. Or a .safetensors file of spt-fast, or the folder of a PEFT adapter, with `length` vectors."""
    position: Place = AUTO
    """`front`: in front of everything, BOS included; `after_bos`: behind BOS; `auto`: behind BOS where there is one."""

    def __post_init__(self) -> None:
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
        return self.init_from

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps whose vectors are kept and evaluated, in order; 0 is before training."""
        return (0,)

    def first(self) -> Protocol:
        """What learns the vectors that it starts from: a soft prompt with the same settings, from `init: vocabulary`."""
        from spt_fast.config.protocols.soft_prompt import SoftPromptConfig

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
