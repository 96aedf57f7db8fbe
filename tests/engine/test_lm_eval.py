"""Closed-ended scores beside those of lm-evaluation-harness: the same models, the same rows, item by item to 1e-3.

The harness goes its own public way: a task config of its own, rows read from JSON, `HFLM` on the CPU, `simple_evaluate`,
and the log-likelihoods and metrics of its logged samples. Ours go the way of a grid: `run_stage`, with Transformers and
with vLLM.

Its `acc_bytes` divides by the bytes of an option without the space in front, and that is our choice per byte; its
`acc_norm` divides by characters (0.4.13), which is the same thing where an option is plain ASCII.

Three differences are known, and no row here meets them:
* Behind a chat template whose cue does not end in white space (the zoo's "Assistant:") an answer of ours begins with a
  space; the harness puts nothing there under any chat template.
* With a tokenizer that appends EOS the harness counts that EOS as a token of the prompt, and its seam is off by one.
* Where a token reaches from the prompt into an option (`merging`, `sentencepiece`), the harness leaves out what that token
  holds of the option, and has nothing left of one that is all in it. Ours are scored whole, from the last token that the
  prompt shares with all options. There the harness is given these ids (`scored_whole`), and goes its own way from them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from spt_fast import tasks, zoo
from spt_fast.config import ZeroShot
from spt_fast.engine.base import EngineConfig
from spt_fast.engine.transformers import TransformersEngine
from spt_fast.models.identity import Model
from spt_fast.models.tokenizer import Tokenizer, continuation
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.tasks.base import GeneratedSource, Row, Task, row_key
from spt_fast.tasks.rows import content_hash, load_rows
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sample, Sampling, Score
from spt_fast.worker.events import CellDone, CellFailed, Event
from spt_fast.worker.stage import run_stage
from tests.helpers.tiny import BOS, CHAT_TEMPLATE, EOS, byte_tokenizer, tiny_model

pytestmark = pytest.mark.slow

TOLERANCE = 1e-3
REAL_ROWS = Path(__file__).parents[3] / "shared" / "data"
ROWS_EACH = {"mmlu": 12, "belebele": 6}

HAND_ROWS: tuple[Row, ...] = tuple(
    {"question": question, "options": list(options), "gold": gold}
    for question, options, gold in (
        ("What is the capital of France?", ("Rome", "Paris", "The city of Vienna, on the Danube", "Oslo"), 1),
        ("Which is the larger town?", ("New York", "New York City", "New", "New York City, N.Y."), 1),
        ("2 + 2 =", ("4", "44", "4.0", "four"), 0),
        ("Wo trinkt man einen Mokka?", ("im Café", "in der Küche", "auf dem Fußballplatz", "nirgends"), 0),
        ("富士山の高さは?", ("3776 m", "三千七百七十六メートル", "8848 m", "ゼロ"), 1),
        ("Which face is glad?", ("😀", "😢 (sad)", "the third one", "—"), 0),
        ("Is this\na question of two lines?", ("The first", "The second", "They both", "Neither of the two"), 3),
        ("Pick one. It may begin as others do:", ("the", "them", "there", "thereabouts"), 2),
        ("How is f(x) = x^2 written in C?", ("f(x)", "x * x", "pow(x,  2)", "\\x^2"), 1),
        ("Yes or no?", ("Yes", "No"), 0),
    )
)


def real_rows(name: str) -> list[Row]:
    """The first short rows of a benchmark; none where they are not beside the checkout."""
    file = REAL_ROWS / name / "test.jsonl"
    if not file.is_file():
        return []
    found = []
    for row in map(json.loads, file.read_text().splitlines()):
        if name == "mmlu":
            question, options, gold = row["question"], row["choices"], row["answer"]
        else:
            question = f"{row['flores_passage']}\n{row['question']}"
            options, gold = [row[f"mc_answer{i}"] for i in (1, 2, 3, 4)], int(row["correct_answer_num"]) - 1
        clean = [" ".join(option.split()) for option in options]
        if len(question) < 1000:
            found.append({"question": question.strip(), "options": clean, "gold": gold})
    return found[: ROWS_EACH[name]]


FORMS: Mapping[str, Callable[[str, str], str]] = {
    "letter": lambda letter, text: letter,
    "text": lambda letter, text: text,
    "letter_with_text": lambda letter, text: f"{letter}. {text}",
}
SOURCES: Mapping[str, Callable[[], Sequence[Row]]] = {
    "hand": lambda: HAND_ROWS,
    "mmlu": lambda: real_rows("mmlu"),
    "belebele": lambda: real_rows("belebele"),
}


def task_of(source: str, form: str) -> Task:
    """Rows whose answers are asked for in one of the forms; "text" lists no options, as cloze tasks do."""

    def read_row(row: Row) -> Example:
        lettered = tuple(zip("ABCD", row["options"], strict=False))
        options = tuple(FORMS[form](letter, text) for letter, text in lettered)
        return Example(
            key=row_key(row),
            question=row["question"],
            context="" if form == "text" else "".join(f"{letter}. {text}\n" for letter, text in lettered),
            target=options[row["gold"]],
            answers=(options[row["gold"]],),
            options=options,
            gold=row["gold"],
        )

    return Task(
        name=f"{source}:{form}",
        version=1,
        summary="for comparison",
        source=GeneratedSource(rows=lambda split: SOURCES[source]() if split == "test" else [], content=source),
        read_row=read_row,
        template=Template(instruction="Answer the question.", item="Question: {question}\n{context}Answer:"),
        sampling=Sampling(max_tokens=1),
        random_baseline=0.25,
        licence="none",
    )


TASKS = {task.name: task for task in (task_of(source, form) for source in SOURCES for form in FORMS)}


# In the byte-level alphabet a space is "Ġ". The cue's colon and the space before the answer are one token; often some of
# the answer is in it too.
MERGES = (": Ġ", ":Ġ T", ":ĠT h", ":Ġ N", "Ġ t", "Ġt h", "Ġth e")


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Unigram pieces over the whole text, the space a letter like any other, bytes for what has no piece, BOS in front.

    "er:" is a piece of the prompt by itself, and ":▁" one of prompt and answer together, which breaks "er:" up: the
    prompt then has fewer tokens by itself than in front of an answer.
    """
    letters = [chr(code) for code in range(33, 127)]
    scores = {"▁": -9.0, ":▁": -3.0, "er:": -5.0, "▁the": -4.0, "▁The": -4.0, ":▁The": -1.0, "ew▁York": -6.0}
    scores |= dict.fromkeys(letters, -10.0) | {"e": -2.0, "r": -2.0}
    pieces = [("<unk>", 0.0), (BOS, 0.0), (EOS, 0.0), *((f"<0x{byte:02X}>", -20.0) for byte in range(256)), *scores.items()]
    backend = Backend(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always", split=False)])
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", BOS, EOS)])
    backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 1)])
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token=BOS, eos_token=EOS)
    return cast(PreTrainedTokenizerFast, fast)


def model_folder(name: str, folder: Path) -> Path:
    """One of MODELS, in fp32 but for the zoo's own."""
    zoo_folder = zoo.find("zoo/base-40")
    if name == "zoo":
        return zoo_folder
    tokenizer, special = {
        "plain": lambda: (PreTrainedTokenizerFast.from_pretrained(zoo_folder), (0, 1, 2)),
        "merging": lambda: (byte_tokenizer(bos=False, merges=MERGES), (None, 256, 257)),
        "sentencepiece": lambda: (sentencepiece_like(), (1, 2, None)),
        "chat": lambda: (byte_tokenizer(chat_template=CHAT_TEMPLATE), (256, 257, 258)),
    }[name]()
    ids = dict(zip(("bos_token_id", "eos_token_id", "pad_token_id"), special, strict=True))
    return tiny_model(folder, hidden_size=128, vocab=768, positions=2048, tokenizer=tokenizer, **ids)


MODELS = ("plain", "merging", "sentencepiece", "chat", "zoo")
"""`plain` and `zoo` never merge across the seam, `merging` and `sentencepiece` do, and a prompt of `chat` ends in white
space. All but `merging` put BOS in front."""


CROSSING = ("merging", "sentencepiece")


def scored_whole(harness: Any) -> Any:
    """The harness, but for where the options of a prompt begin: behind the last token that it shares with all of them."""

    class ScoredWhole(harness):  # type: ignore[misc]
        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> Any:
            pairs, shared = [request.args for request in requests], dict[str, int]()
            wholes = [self.tok_encode(context + continuation) for context, continuation in pairs]
            for (context, _), whole in zip(pairs, wholes, strict=True):
                alone = self.tok_encode(context.rstrip())
                common = len(os.path.commonprefix([alone, whole]))  # noqa: RUF071  (of lists)
                shared[context] = min(common, shared.get(context, common))
            parted = [
                (pair, whole[: shared[pair[0]]], whole[shared[pair[0]] :]) for pair, whole in zip(pairs, wholes, strict=True)
            ]
            return self._loglikelihood_tokens(parted, disable_tqdm=disable_tqdm)

    return ScoredWhole


class Workshop:
    """What each side says of each model, asked once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = cache(self._model)
        self.lm = cache(self._lm)
        self.theirs = cache(self._theirs)
        self.ours = cache(self._ours)

    def _model(self, name: str) -> Path:
        return model_folder(name, self.folder / name)

    def _lm(self, name: str) -> Any:
        from lm_eval.models.huggingface import HFLM

        return (scored_whole(HFLM) if name in CROSSING else HFLM)(
            pretrained=str(self.model(name)), backend="causal", device="cpu", dtype="float32", batch_size=4
        )

    def _theirs(self, name: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Task -> example -> the harness's logged sample."""
        import lm_eval
        from lm_eval.tasks import TaskManager

        configs = []
        for task in TASKS.values():
            docs = [
                {"key": e.key, "text": task.template.prompt(e), "choices": list(e.options), "gold": e.gold}
                for e in load_rows(task, need=set()).test
            ]
            if not docs:
                continue
            file = self.folder / f"{task.name.replace(':', '-')}.jsonl"
            file.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
            configs.append(
                {
                    "task": task.name,
                    "dataset_path": "json",
                    "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(self.folder / "cache")},
                    "test_split": "test",
                    "output_type": "multiple_choice",
                    "doc_to_text": "text",
                    "doc_to_choice": "choices",
                    "doc_to_target": "gold",
                    "target_delimiter": " ",
                    "metric_list": [
                        {"metric": metric, "aggregation": "mean", "higher_is_better": True}
                        for metric in ("acc", "acc_norm", "acc_bytes")
                    ],
                }
            )
        found = lm_eval.simple_evaluate(
            model=self.lm(name),
            tasks=configs,
            task_manager=TaskManager(include_defaults=False),
            apply_chat_template=name == "chat",
            log_samples=True,
            bootstrap_iters=0,
            # Leave the seeds of this process alone.
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
            fewshot_random_seed=None,
        )
        return {task: {row["doc"]["key"]: row for row in rows} for task, rows in found["samples"].items()}

    def _ours(self, name: str, kind: str) -> dict[str, dict[str, Sample]]:
        """Task -> example -> our sample."""
        model = Model(
            name=name,
            source=str(self.model(name)),
            fingerprint=f"test:{name}",
            dtype="float32",
            chat_template="always" if name == "chat" else "never",
        )
        settings = {"kind": kind, **({"device": "cpu"} if kind == "transformers" else {"max_num_seqs": 4})}
        cells = [
            Cell(
                model=model,
                task=TaskRows(name=task.name, version=task.version, content=content_hash(task)),
                protocol=ZeroShot(),
                seed=None,
                label="zero_shot",
                engine=settings,
            )
            for task in TASKS.values()
            if load_rows(task, need=set()).test
        ]
        events: list[Event] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tasks, "get", TASKS.__getitem__)
            run_stage(Stage(model=model, cells=tuple(cells)), {}, events.append)
        assert not [event.reason for event in events if isinstance(event, CellFailed)]
        done = {event.key: event.result.samples for event in events if isinstance(event, CellDone)}
        return {cell.task.name: {sample.example: sample for sample in done[cell.key]} for cell in cells}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("lm_eval"))


def compare(theirs: Mapping[str, Mapping[str, Any]], ours: Mapping[str, Sample]) -> float:
    """Assert that both sides say the same of each example, and return the largest difference of a log-likelihood."""
    assert theirs.keys() == ours.keys()
    largest, near_ties = 0.0, 0
    for key, row in theirs.items():
        sample, choices, gold = ours[key], row["doc"]["choices"], row["doc"]["gold"]
        logprobs = [logprob for logprob, _ in row["filtered_resps"]]
        assert sample.option_logprobs == pytest.approx(logprobs, abs=TOLERANCE, rel=0)
        largest = max(largest, *(abs(a - b) for a, b in zip(sample.option_logprobs, logprobs, strict=True)))

        # Where two options are closer together than twice what each may be off, either may come first.
        if lead(logprobs) > 2 * TOLERANCE:
            assert sample.chosen == logprobs.index(max(logprobs))
            assert float(sample.knows) == row["acc"]
        else:
            near_ties += 1
        lengths = [len(choice.encode()) for choice in choices]
        if lead([logprob / n for logprob, n in zip(logprobs, lengths, strict=True)]) > 2 * TOLERANCE / min(lengths):
            knows_per_byte = float(sample.chosen_per_byte == gold)
            assert knows_per_byte == row["acc_bytes"]
            if all(choice.isascii() for choice in choices):
                assert knows_per_byte == row["acc_norm"]
        else:
            near_ties += 1
    assert near_ties <= 2, "so many near ties that the comparison says little"
    return largest


def lead(values: Sequence[float]) -> float:
    """By how much the best is better than the second."""
    second, best = sorted(values)[-2:]
    return best - second


def rows_or_skip(answers: Mapping[str, Any], task: str) -> Any:
    if task not in answers:
        pytest.skip("there are no real rows beside this checkout (../shared/data)")
    return answers[task]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("form", FORMS)
def test_log_likelihoods_and_accuracies_equal_those_of_the_harness_item_by_item(
    workshop: Workshop, record_property: Callable[[str, object], None], model: str, source: str, form: str
) -> None:
    theirs = rows_or_skip(workshop.theirs(model), f"{source}:{form}")
    largest = compare(theirs, workshop.ours(model, "transformers")[f"{source}:{form}"])
    record_property("largest_difference", largest)


@pytest.mark.vllm
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("form", FORMS)
def test_vllm_gives_the_log_likelihoods_and_accuracies_of_the_harness_too(
    workshop: Workshop, record_property: Callable[[str, object], None], source: str, form: str
) -> None:
    theirs = rows_or_skip(workshop.theirs("plain"), f"{source}:{form}")
    largest = compare(theirs, workshop.ours("plain", "vllm")[f"{source}:{form}"])
    record_property("largest_difference", largest)


@pytest.mark.parametrize(("model", "merges"), [("plain", False), ("zoo", False), ("merging", True), ("sentencepiece", True)])
def test_the_tokenizers_merge_across_the_seam_or_do_not_as_they_are_meant_to(
    workshop: Workshop, model: str, merges: bool
) -> None:
    """Otherwise the comparison would not see whether prompt and option are read jointly."""
    tokenizer = Tokenizer.load(workshop.model(model))
    crossing = []
    for task in TASKS.values():
        for example in load_rows(task, need=set()).test:
            prompt = task.template.prompt(example)
            alone = tokenizer.prompt_ids(prompt)
            for option in example.options:
                together = tokenizer.prompt_ids(prompt + continuation(prompt, option))
                crossing.append(together[: len(alone)] != alone)
    assert len(crossing) >= 100
    # Unigram may find another way to cut a text: "er:" and "▁the" rather than "e", "r", ":▁" and the letters of "the".
    assert sum(crossing) / len(crossing) > 0.95 if merges else not any(crossing)


@pytest.mark.parametrize("model", MODELS)
def test_prompts_that_end_in_white_space_are_scored_as_the_harness_scores_them(workshop: Workshop, model: str) -> None:
    """The harness puts nothing between such a prompt and an option, as it does behind a chat template."""
    from lm_eval.api.instance import Instance

    prompts = ("Answer: ", "Answer:\n", "Answer:\n\n", "Answer: \t", "Antwort:\u00a0", "Q: why?\nAnswer:  \n ")
    options = ("A", "The end", "B. The end", "üben", "two  blanks")
    pairs = [(prompt, option) for prompt in prompts for option in options]
    assert all(continuation(prompt, option) == option for prompt, option in pairs)
    asked = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]
    theirs = [logprob for logprob, _ in workshop.lm(model).loglikelihood(asked)]

    folder = str(workshop.model(model))
    tokenizer = Tokenizer.load(folder)
    parted = [pair for prompt in prompts for pair in tokenizer.pairs(prompt, options)]
    requests = [Score(token_ids=ids, continuation=rest) for ids, rest in parted]
    config = EngineConfig(kind="transformers", model=folder, dtype="float32", options={"device": "cpu"})
    with TransformersEngine(config) as engine:
        ours = [answer.total for answer in engine.score(requests)]
    assert ours == pytest.approx(theirs, abs=TOLERANCE, rel=0)


def test_an_option_all_in_a_token_of_the_cue_is_scored_where_the_harness_has_nothing_left(workshop: Workshop) -> None:
    """With `merging`, ": N" is one token, and so is the colon of the prompt by itself."""
    from lm_eval.models.huggingface import HFLM

    tokenizer = Tokenizer.load(workshop.model("merging"))
    given, scored = tokenizer.pair("Answer:", " N")
    assert (tokenizer.decode(given), tokenizer.tokens(scored)) == ("Answer", [": N"])
    assert HFLM._encode_pair(workshop.lm("merging"), "Answer:", " N")[1] == []
