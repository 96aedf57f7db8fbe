"""What two engines are asked to be compared: a few texts, plain and behind soft prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spt_fast import tasks
from spt_fast.engine.base import check_request
from spt_fast.errors import EngineError
from spt_fast.models.identity import Model
from spt_fast.models.tokenizer import Tokenizer, continuation
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.tasks.rows import load_rows
from spt_fast.types import Generate, Position, Request, Sampling, Score

MAX_TOKENS = 24
SOFT_POSITIONS = 10
TEXTS = (
    (
        "The capital of France is",
        "Paris. It stands on the river Seine, and it has been the seat of the country's kings and of its governments for most "
        "of the last thousand years.",
    ),
    (
        "Question: What is 12 plus 30?\nAnswer:",
        "12 + 30 = 42, because 10 and 30 are 40, and 2 more are 42.\n\nQuestion: What is 7 times 8?\nAnswer: 7 * 8 = 56",
    ),
    ("A", "cat sat on the mat. The dog did not like it, and barked until the neighbours came to see what was wrong."),
    (
        "Once upon a time, in a village between two rivers, there lived a miller who had three sons. The eldest",
        "left home before the sun was up, with a loaf of bread and a knife, and was not seen again for seven years.",
    ),
    ("def add(a, b):\n", "    return a + b\n\n\ndef test_add():\n    assert add(2, 3) == 5\n    assert add(-1, 1) == 0\n"),
    (
        "Water boils at",
        "100 degrees Celsius at sea level. On a mountain of 3,000 metres it boils at about 90 degrees, since there is less air "
        "above it.",
    ),
)
"""Some 200 tokens to be scored: enough for a root mean square that a fault of a third of the noise moves."""
ZOO_TASKS = ("zoo-mcq", "zoo-short", "zoo-number", "zoo-json")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request and what people call it."""

    name: str
    request: Request
    group: str = "plain"
    """What people call the requests behind the same soft prompt in the same place."""


def given(requests: Sequence[Request]) -> Iterator[Asked]:
    """The requests of a user, plain."""
    for i, request in enumerate(requests):
        yield Asked(name=f"request {i}", request=replace(request, soft_prompt=None))


def ours(model: Model, tokenizer: Tokenizer) -> Iterator[Asked]:
    """Completions and log-likelihoods for a few texts, and for prompts of the zoo's tasks if it is a model of the zoo."""
    texts = [*TEXTS, *(_zoo_texts() if model.name.startswith("zoo/") else ())]
    for prompt, said in texts:
        name, answer = _short(prompt), _short(said)
        sampling = Sampling(max_tokens=MAX_TOKENS)
        yield Asked(name=f"completing {name}", request=Generate(token_ids=tokenizer.prompt_ids(prompt), sampling=sampling))
        ids, continued = tokenizer.pair(prompt, continuation(prompt, said))
        yield Asked(name=f"scoring {answer} behind {name}", request=Score(token_ids=ids, continuation=continued))


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _zoo_texts() -> Iterator[tuple[str, str]]:
    for name in ZOO_TASKS:
        task = tasks.get(name)
        example = load_rows(task, limit=1, need={"test"}).test[0]
        yield task.template.prompt(example, ()), example.target


def behind(plain: Sequence[Asked], prompts: dict[str, SoftPrompt]) -> Iterator[Asked]:
    """Everything plain, and with each soft prompt: in front, the first one behind BOS too, and where it was learnt to stand."""
    yield from plain
    for i, (name, soft_prompt) in enumerate(prompts.items()):
        positions: tuple[Position, ...] = ("front", "after_bos") if i == 0 else ("front",)
        for position in dict.fromkeys((*positions, soft_prompt.position)):
            where = {"front": "behind", "after_bos": "with, behind BOS,", "end": "with, at the end,"}[position]
            for asked in plain:
                request = replace(asked.request, soft_prompt=soft_prompt.key, position=position)
                yield Asked(name=f"{asked.name} {where} {name}", request=request, group=f"{where} {name}")


def fits(request: Request, prompts: dict[str, SoftPrompt], max_model_len: int) -> bool:
    """Whether a model of so few positions can be asked this."""
    length = max(prompt.length for prompt in prompts.values()) if request.soft_prompt is not None else 0
    more = request.sampling.max_tokens if isinstance(request, Generate) else 0
    try:
        check_request(request, soft_length=length + more, max_model_len=max_model_len)
    except EngineError:
        return False
    return True


def random_prompt(hidden_size: int) -> SoftPrompt:
    """A soft prompt about as long and as large as a learnt one."""
    vectors = np.random.default_rng(0).normal(scale=0.1, size=(SOFT_POSITIONS, hidden_size))
    return SoftPrompt(vectors=vectors.astype(np.float32))
