"""The one door to lm-evaluation-harness: its YAML is read, its tasks are built and its functions are called here alone."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from spt_fast.errors import ConfigError

Doc: TypeAlias = Mapping[str, Any]
Config: TypeAlias = dict[str, Any]
RANDOM_SEED, NUMPY_SEED, FEWSHOT_SEED = 0, 1234, 1234
"""What `lm_eval` seeds by default before it prepares rows, and its few-shot samplers with."""


@cache
def version() -> str:
    """Of the installed lm-evaluation-harness.

    Raises:
        ConfigError: there is none.
    """
    try:
        return metadata.version("lm-eval")
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "tasks of lm-eval need lm-evaluation-harness, which is not installed; pip install 'spt-fast[lm-eval]'"
        ) from None


def own_folder() -> Path:
    """Where its own tasks are."""
    version()
    with _quiet():
        import lm_eval.tasks
    return Path(lm_eval.tasks.__file__).parent


def scan(folder: Path) -> dict[str, Any]:
    """Its index of a folder of YAML: name -> `Entry` (`kind.name`, `yaml_path`, `cfg` with functions as text, `tags`)."""
    with _quiet():
        from lm_eval.tasks._index import TaskIndex

        return dict(TaskIndex.build([folder]))


def read_yaml(path: Path, *, functions: bool) -> Config:
    """A task's or group's config; with `functions` the Python that it names is imported.

    Raises:
        Exception: whatever the YAML and the Python raise.
    """
    with _quiet():
        from lm_eval.tasks._yaml_loader import load_yaml

        return deepcopy(load_yaml(path, resolve_func=functions))


class Ready:
    """One of its tasks with rows: what it makes of a row, and of the answers to it."""

    def __init__(self, config: Config, data: Mapping[str, Any]) -> None:
        """Build it.

        Args:
            config: of the task, with functions.
            data: split -> rows, as `datasets` or `Docs` have them.

        Raises:
            Exception: whatever it raises of a config or rows that it cannot do with.
        """
        config = {key: value for key, value in deepcopy(config).items() if key not in ("tag", "group", "task_list")}
        with _quiet(), _seeded():
            self.inner = _built(config, data)
            self.eval_docs: list[Doc] = list(self.inner.eval_docs)
            self.pool: list[Doc] = list(self.inner.sampler.df)

    def docs(self, what: str) -> list[Doc]:
        """Its `training` or `validation` rows."""
        with _quiet(), _seeded():
            return list(getattr(self.inner, f"{what}_docs")() or [])

    @property
    def output_type(self) -> str:
        return str(self.inner.OUTPUT_TYPE)

    def context(self, doc: Doc, shots: int = 0, chat: Callable[..., str] | None = None) -> str | list[str]:
        """The prompt; one for each option where these are different prompts."""
        found: str | list[str] = self.inner.fewshot_context(
            doc,
            num_fewshot=shots,
            apply_chat_template=chat is not None,
            fewshot_as_multiturn=chat is not None,
            chat_template=chat,
            gen_prefix=self.inner.doc_to_prefix(doc),
        )
        return found

    def requests(self, doc: Doc, context: str | list[str], *, chat: bool) -> list[tuple[Any, ...]]:
        """The arguments of its requests: (context, continuation) or (context, settings)."""
        found = self.inner.construct_requests(
            doc=doc, ctx=context, metadata=(None, 0, 1), apply_chat_template=chat, chat_template=None
        )
        return [each.args for each in (found if isinstance(found, list) else [found])]

    def choices(self, doc: Doc) -> list[str]:
        """The options of a row; none where the task has none."""
        return list(self.inner.doc_to_choice(doc)) if self.inner.config.doc_to_choice is not None else []

    def target(self, doc: Doc) -> Any:
        """What it takes for the right answer: a text, a list of texts, or the number of an option or several."""
        return self.inner.doc_to_text(doc) if self.inner.multiple_input else self.inner.doc_to_target(doc)

    @property
    def has_samples(self) -> bool:
        """Whether its worked examples are fixed ones, which its config holds."""
        return self.inner.fewshot_cfg.split is None and self.inner.fewshot_cfg.samples is not None

    def has_prefix(self, doc: Doc) -> bool:
        """Whether its answers are begun for the model."""
        return bool(self.inner.doc_to_prefix(doc))

    def answer(self, doc: Doc, target: str, *, plain: bool) -> str:
        """What stands behind the prompt where `target` is written, as in its worked examples."""
        config = self.inner.config
        if prefix := self.inner.doc_to_prefix(doc):
            seam = "" if prefix[-1:].isspace() or target[:1].isspace() else " "
            return f"{seam}{target}"
        return f"{config.target_delimiter if plain else ''}{target}"

    def draw(self, shots: int) -> None:
        """Let its sampler draw for a row that is not asked, as it would if it were."""
        same = self.inner.fewshot_cfg.split == self.inner.config.test_split
        self.inner.sampler.sample(n=shots, eval_doc={"": None} if same else None)

    def seed(self, seed: int) -> None:
        """Of its sampler."""
        self.inner.set_fewshot_seed(seed=seed)

    def show(self, pool: Sequence[Doc]) -> None:
        """Draw shots from these rows."""
        self.inner.sampler.replace_df(list(pool))

    def results(
        self, docs: Sequence[Doc], answers: Sequence[Sequence[Any]]
    ) -> dict[str, list[tuple[dict[str, Any], list[Any]]]]:
        """Filter -> of each row its metrics, and the answers as the filter leaves them."""
        from lm_eval.api.instance import Instance

        kind: Any = self.output_type
        of_doc = []
        for i, (doc, own) in enumerate(zip(docs, answers, strict=True)):
            of_doc.append([Instance(kind, dict(doc), (), k, (None, i, 1), resps=[answer]) for k, answer in enumerate(own)])
        with _quiet(), _seeded():
            self.inner._instances = [each for own in of_doc for each in own]
            self.inner.apply_filters()
            found: dict[str, list[tuple[dict[str, Any], list[Any]]]] = {}
            for key in of_doc[0][0].filtered_resps if of_doc else ():
                for own in of_doc:
                    filtered = [each.filtered_resps[key] for each in own]
                    found.setdefault(key, []).append((self.inner.process_results(own[0].doc, filtered), filtered))
            return found

    def aggregated(self, metric: str) -> Callable[[Sequence[Any]], float]:
        """How a metric of rows becomes one number."""
        from lm_eval.api.metrics import mean

        found: Callable[[Sequence[Any]], float] = self.inner.aggregation().get(metric, mean)
        return found

    def is_mean(self, metric: str) -> bool:
        """Whether that is the mean."""
        from lm_eval.api.metrics import mean

        return self.aggregated(metric) is mean

    def higher_is_better(self, metric: str) -> bool:
        """Whether more of a metric is better."""
        return bool(self.inner.higher_is_better().get(metric, True))


class Docs(list[Doc]):
    """Rows that are prepared already, as `datasets` would hand them over."""

    @property
    def features(self) -> dict[str, None]:
        """The names of the columns."""
        return dict.fromkeys(self[0]) if self else {}


def _built(config: Config, data: Mapping[str, Any]) -> Any:
    from lm_eval.api.task import ConfigurableTask

    class Given(ConfigurableTask):  # type: ignore[misc]
        def download(self, *_: Any, **__: Any) -> None:
            self.dataset = data

    return Given(config=config)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its log and progress bars: what is wrong is raised, or told by us."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "root")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


@contextmanager
def _seeded() -> Iterator[None]:
    """Some of its preprocessors shuffle: with the generators as `lm_eval` seeds them."""
    import numpy as np

    before, np_before = random.getstate(), np.random.get_state()
    random.seed(RANDOM_SEED)
    np.random.seed(NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(np_before)
