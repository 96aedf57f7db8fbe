"""A model of lm-evaluation-harness that answers through one of our engines. Importing it registers `spt_fast` there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from spt_fast.config import ModelConfig
from spt_fast.config.engines import ENGINES
from spt_fast.engine import config_of, open_engine
from spt_fast.engine.base import Engine, check_request
from spt_fast.errors import ConfigError
from spt_fast.harness import prompts
from spt_fast.models.identity import require_resolved, resolve
from spt_fast.models.tokenizer import load_tokenizer
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Completion, Generate, LogLikelihood, Request, Sampling, Score

MAX_TOKENS = 256
"""Of a completion, where a task does not say; as lm-eval's own models have it."""
_OF_MODEL = ("revision", "dtype", "trust_remote_code", "chat_template_kwargs", "tensor_parallel", "pipeline_parallel")
_NOT_OURS = ("batch_size", "max_batch_size", "device")
"""What lm-eval gives every model: the engine batches by itself, on the device that there is."""


@dataclass(frozen=True)
class _Behind:
    key: str | None = None
    length: int = 0
    position: Any = "front"


@register_model("spt_fast", "spt-fast")
class SptFastLM(LM):  # type: ignore[misc]
    """`--model spt_fast --model_args pretrained=...,soft_prompts=runs/x`."""

    def __init__(
        self,
        pretrained: str = "",
        soft_prompts: str | None = None,
        protocol: str = "soft_prompt",
        seed: int = 0,
        engine: str = "vllm",
        greedy: str | bool = "auto",
        **settings: Any,
    ) -> None:
        """Start the engine.

        Args:
            pretrained: a Hub id, a folder, or zoo/<name>.
            soft_prompts: a run folder of spt-fast, whose soft prompt for each task is put in front; or a file of one, for all.
            protocol: of the run folder's cells.
            seed: of these.
            engine: vllm, transformers or echo.
            greedy: whether log-likelihoods come with the word that a greedy completion would be the same: `auto`, where a
                prompt has one continuation alone (lambada); options of multiple_choice tasks are scored without it.
            settings: of the model (`revision`, `dtype`) and of the engine (`max_model_len`).

        Raises:
            ConfigError, ModelError, EngineError: it cannot be started.
        """
        super().__init__()
        if not pretrained:
            raise ConfigError("model_args: pretrained is missing; name the model, as in pretrained=org/model")
        if engine not in ENGINES:
            raise ConfigError(f"engine: must be one of {', '.join(ENGINES)}, not {engine!r}")
        own = {key: settings.pop(key) for key in _OF_MODEL if key in settings}
        settings = {key: value for key, value in settings.items() if key not in _NOT_OURS}
        self._model = require_resolved(resolve(ModelConfig(id=str(pretrained), **own))[0])
        self._tokenizer = load_tokenizer(self._model)
        self._soft_prompts = prompts.read(soft_prompts, self._model, protocol=protocol, seed=int(seed))
        self._greedy = {"true": True, "false": False}.get(str(greedy).lower())
        self._engine: Engine = open_engine(config_of(self._model, {"kind": engine, **settings}))
        self._held: dict[str | None, _Behind] = {}

    @property
    def tokenizer_name(self) -> str:
        return self._model.source.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's source, for lm-eval's results."""
        return self._tokenizer.chat_template_source if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Turns as the model's chat template writes them."""
        return self._tokenizer.write_turns(chat_history, add_generation_prompt=add_generation_prompt)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of each continuation behind its context; options of one context are asked together, so that it is read once."""
        groups: dict[tuple[str, str | None, int | None], list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            groups[request.args[0], request.task_name, request.doc_id].append(i)
        asked: list[tuple[int, Request]] = []
        greedy: dict[int, list[int]] = {}
        for (context, task, _), members in groups.items():
            behind = self._behind(task)
            pairs = self._tokenizer.pairs(context, [requests[i].args[1] for i in members])
            asked += [(i, self._scored(pair, behind)) for i, pair in zip(members, pairs, strict=True)]
            if self._greedy or (self._greedy is None and len(members) == 1):
                longest = max(len(continuation) for _, continuation in pairs)
                greedy[len(requests) + len(greedy)] = members
                asked.append(
                    (len(requests) + len(greedy) - 1, self._written(pairs[0][0], Sampling(max_tokens=longest), behind))
                )
        continuations = {i: request.continuation for i, request in asked if isinstance(request, Score)}
        found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        written: dict[int, tuple[int, ...]] = {}
        for index, answer in self._engine.stream(request for _, request in asked):
            slot = asked[index][0]
            if isinstance(answer, LogLikelihood):
                found[slot] = (answer.total, False)
                if self._greedy is False or len(groups[self._group(requests[slot])]) > 1:
                    self._keep("loglikelihood", requests[slot], found[slot])
            else:
                written.update(dict.fromkeys(greedy[slot], answer.token_ids))
        for i, ids in written.items():
            found[i] = (found[i][0], ids[: len(continuations[i])] == continuations[i])
            self._keep("loglikelihood", requests[i], found[i])
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Perplexities of texts are not asked behind soft prompts.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "spt_fast: perplexities of whole texts (loglikelihood_rolling) are not asked; use lm-eval's own vllm or hf"
        )

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Completions, in front of the first stop string."""
        asked = []
        for request in requests:
            context, settings = request.args
            asked.append(
                self._written(self._tokenizer.prompt_ids(context), sampling(settings), self._behind(request.task_name))
            )
        found = [""] * len(requests)
        for index, answer in self._engine.stream(asked):
            assert isinstance(answer, Completion)
            found[index] = answer.text
            self._keep("generate_until", requests[index], answer.text)
        return found

    def _group(self, request: Any) -> tuple[str, str | None, int | None]:
        return request.args[0], request.task_name, request.doc_id

    def _keep(self, what: str, request: Any, answer: Any) -> None:
        """For `--use_cache`: what is answered is there when the command is started again."""
        self.cache_hook.add_partial(what, request.args, answer)

    def _behind(self, task: str | None) -> _Behind:
        if task not in self._held:
            soft_prompt = self._soft_prompts.of(task)
            self._held[task] = _Behind() if soft_prompt is None else self._added(soft_prompt)
        return self._held[task]

    def _added(self, soft_prompt: SoftPrompt) -> _Behind:
        return _Behind(self._engine.add(soft_prompt), soft_prompt.length, soft_prompt.position)

    def _scored(self, pair: tuple[tuple[int, ...], tuple[int, ...]], behind: _Behind) -> Score:
        request = Score(token_ids=pair[0], continuation=pair[1], soft_prompt=behind.key, position=behind.position)
        check_request(request, soft_length=behind.length, max_model_len=self._engine.max_model_len)
        return request

    def _written(self, ids: Sequence[int], wanted: Sampling, behind: _Behind) -> Generate:
        room = self._engine.max_model_len - behind.length - len(ids)
        most = Sampling(
            max_tokens=max(1, min(wanted.max_tokens, room)),
            stop=wanted.stop,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            seed=wanted.seed,
        )
        request = Generate(token_ids=tuple(ids), sampling=most, soft_prompt=behind.key, position=behind.position)
        check_request(request, soft_length=behind.length, max_model_len=self._engine.max_model_len)
        return request


def sampling(settings: Mapping[str, Any]) -> Sampling:
    """lm-eval's settings of a completion as ours."""
    wanted = normalize_gen_kwargs(dict(settings), MAX_TOKENS)
    stops = [stop for stop in handle_stop_sequences(wanted.get("until"), eos=None) if stop]
    drawn = bool(wanted.get("do_sample"))
    return Sampling(
        max_tokens=int(wanted["max_gen_toks"]),
        stop=tuple(dict.fromkeys(stops)),
        temperature=float(wanted.get("temperature", 0.0)) if drawn else 0.0,
        top_p=float(wanted.get("top_p", 1.0)) if drawn else 1.0,
        seed=0 if drawn else None,
    )
