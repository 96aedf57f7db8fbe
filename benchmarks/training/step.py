"""Seconds and peak memory of a tuning step: spt-fast's trainer against PEFT's prompt tuning, side by side in one run.

    python benchmarks/training/step.py [--smoke] [--save] [--case NAME ...] [--output FILE]
    python benchmarks/training/step.py --model DIR --tasks gsm8k,triviaqa --data DIR [--save]

Random Llama-shaped weights; every step sees the same 8 rows of 128 tokens, 6 of them targets, behind 10 vectors that start
alike and are learnt in fp32 by AdamW. PEFT runs in a plain loop and in the Trainer of Transformers. Each side is a process of
its own, so that its peak memory is its own, and the sides take turns, a step each. The losses of all steps are compared, and
PEFT's `generate` is seen to depend on its vectors, before anything is reported. `together` is a step of several soft prompts
in one pass. With CUDA the shapes are Llama's of 1 and 8 B parameters in bf16. What share of the machine's matrix rate a step
has is said beside.

With `--model` the weights are a real model's, and the rows the first 8 of each task, of the lengths that they have; DIR of
`--data` has a folder a task. Then there are two sides, spt-fast and the plain loop, in fp32: in bf16 a model
whose embeddings are fifty times the vectors' start makes tenths of nats of what is rounded otherwise, so that losses cannot be
compared. The result is kept in training-real.json.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Ratio, Timing
from spt_fast.models import random_model
from spt_fast.models.random_model import LLAMA_1B, LLAMA_8B, TINY, Shape
from spt_fast.qualify.kernels import product_rate
from spt_fast.qualify.training import BATCH, ENDLESS, LENGTH, LR, operations, random_rows, settings, until_stopped


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model whose step is measured."""

    name: str
    shape: Shape
    dtype: str
    reason: str
    together: int
    """Soft prompts of the side `together`."""
    alone: bool = False
    """Against PEFT in a plain loop, and no other side."""
    model: str = ""
    """A folder with real weights; empty: random ones."""
    task: str = ""
    """Whose rows are learnt on; empty: random ones, all of one length."""
    data: str = ""
    """The folder that its rows are in."""
    at_least: float | None = None
    """Wanted: times as many examples a second as PEFT in a plain loop."""
    together_at_least: float | None = None
    """Wanted: times as fast as one by one."""
    rate_at_least: float | None = None
    """Wanted: share of the measured matrix rate."""
    memory_at_most: float | None = None
    """Wanted: share of PEFT's peak memory above the weights."""

    @property
    def flops(self) -> int:
        """Of a step."""
        return operations(self.shape, make_rows(self))

    @property
    def sides(self) -> tuple[str, ...]:
        """Those that are run."""
        return ("spt_fast", "peft_loop") if self.alone else tuple(SIDES)


def _small(name: str, *, vocab: int, hidden: int, dtype: str, reason: str, **wanted: float) -> Case:
    heads = hidden // 64
    shape = Shape(vocab=vocab, hidden=hidden, layers=8, inner=4 * hidden, heads=heads, kv_heads=heads)
    return Case(name=name, shape=shape, dtype=dtype, reason=reason, together=4, **wanted)  # type: ignore[arg-type]


CPU = (
    _small("V = 32k", vocab=32_000, hidden=512, dtype="float32", reason="the body dominates", at_least=2.0),
    _small(
        "V = 128k", vocab=128_000, hidden=512, dtype="float32", reason="the head dominates", at_least=3.5, memory_at_most=0.4
    ),
    _small("V = 128k, bf16", vocab=128_000, hidden=1024, dtype="bfloat16", reason="the dtype of real checkpoints"),
)
CUDA = (
    Case(
        name="1B",
        shape=LLAMA_1B,
        dtype="bfloat16",
        reason="Llama 3.2 1B",
        together=12,
        at_least=2.0,
        together_at_least=1.5,
    ),
    Case(
        name="8B",
        shape=LLAMA_8B,
        dtype="bfloat16",
        reason="Llama 3.1 8B",
        together=4,
        at_least=2.0,
        rate_at_least=0.5,
        memory_at_most=0.4,
    ),
)
SMOKE = Case(
    name="smoke",
    shape=TINY,
    dtype="float32",
    reason="seconds",
    together=3,
)

IMPORTED = ["peft", "spt_fast.training.trainer", "transformers.trainer", "transformers.models.llama.modeling_llama"]
"""Once for all sides: half of a smoke test's time."""

LARGE = 200_000
"""Tokens of a vocabulary from which on its logits are most of what PEFT does."""

SAME_LOSS = {"float32": 1e-3, "bfloat16": 3e-2}
"""Nats by which losses of the same step may differ: sums in another order, over all steps so far."""

SAME_LOSS_REAL = 1e-2
"""Of a real model in fp32, whose loss is far more sensitive to the vectors: after 7 steps at the same rate the two sides were
0.002 of 6.15 nats apart in fp32, and after 3 steps 0.38 in bf16."""

Pause = Callable[[float | None], bool]
"""Given the loss of a step (None before the first) when it is done; says whether another one is wanted."""


def device() -> Any:
    """Where the sides run."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(case: Case) -> Any:
    """The model, the same for all sides."""
    import torch
    import transformers

    if case.model:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            case.model, dtype=getattr(torch, case.dtype), use_safetensors=True
        )
        return loaded.to(device()).eval()
    return random_model.build(case.shape, dtype=case.dtype, device=device().type)


def make_rows(case: Case, seed: int = 0) -> list[Any]:
    """A batch, the same for all sides and for every step."""
    return real_rows(case) if case.task else random_rows(case.shape.vocab, seed)


@cache
def real_rows(case: Case) -> list[Any]:
    """The first rows that a task has to learn on."""
    from spt_fast import tasks
    from spt_fast.models.tokenizer import Tokenizer
    from spt_fast.tasks.rows import load_rows
    from spt_fast.training.rows import tuning_row

    task, tokenizer = tasks.get(case.task), Tokenizer.load(case.model)
    rows = load_rows(task, data_files=f"{case.data}/{case.task}", need={"tuning"}).tuning[:BATCH]
    return [tuning_row(tokenizer, task.template.prompt(row), row.target) for row in rows]


def real_case(model: str, task: str, data: str, dtype: str) -> Case:
    """A task on a real model."""
    import transformers

    config: Any = transformers.AutoConfig.from_pretrained(model).get_text_config()
    return Case(
        name=f"{Path(model).name}, {task}",
        shape=Shape(
            vocab=config.vocab_size,
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            inner=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None),
        ),
        dtype=dtype,
        reason="a real model on real rows",
        together=1,
        alone=True,
        model=model,
        task=task,
        data=data,
        at_least=4.0 if config.vocab_size > LARGE else None,
        memory_at_most=1 / 3 if config.vocab_size > LARGE else None,
    )


def ours(case: Case, pause: Pause) -> None:
    """spt-fast's trainer, as a grid runs it."""
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.training.trainer import learn

    model = FrozenModel(build(case))
    until_stopped(pause, lambda on_step: learn(model, make_rows(case), settings(), seed=0, on_step=on_step))


def together(case: Case, pause: Pause) -> None:
    """The same with several soft prompts in one pass; the loss is the first one's, which all other sides learn too."""
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.training.run import TuningJob
    from spt_fast.training.trainer import learn_many

    model = FrozenModel(build(case))
    count = case.together

    def learn_them(on_step: Callable[[Any], None]) -> None:
        first: list[Any] = []
        # The last one is told of last: then the step is done.
        told = [first.append, *([None] * (count - 2)), lambda _: on_step(first[-1])]
        jobs = [
            TuningJob(rows=make_rows(case, seed), config=settings(), seed=seed, on_step=told[seed]) for seed in range(count)
        ]
        for tuned in learn_many(model, jobs, at_once=count):
            raise tuned.error or AssertionError("so many steps were never wanted")

    until_stopped(pause, learn_them)


def _peft(case: Case) -> Any:
    """The model behind PEFT's prompt tuning, which is seen to have an effect."""
    import peft
    import torch

    from spt_fast.prompts.initialize import initialize

    chosen = peft.PromptTuningConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        num_virtual_tokens=LENGTH,
        prompt_tuning_init=peft.PromptTuningInit.RANDOM,
    )
    model: Any = peft.get_peft_model(build(case), chosen).eval()
    vectors = model.prompt_encoder["default"].embedding.weight
    # In fp32, as ours: an update of 1e-3 would be lost on many bf16 numbers.
    vectors.data = torch.zeros_like(vectors, dtype=torch.float32)
    ids = torch.tensor([make_rows(case)[0].prompt_ids], device=vectors.device)
    scores = []
    for scale in (0.0, 1.0):
        vectors.data.fill_(scale)
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=2,
            min_new_tokens=2,
            do_sample=False,
            pad_token_id=0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        scores.append(torch.stack(written.scores).float())
    if torch.allclose(scores[0], scores[1], rtol=1e-3, atol=1e-3):
        raise SystemExit(f"{case.name}: PEFT's generate ignores the soft prompt, so nothing is measured against it")
    vectors.data.copy_(torch.from_numpy(initialize(settings(), case.shape.hidden, 0)))
    return model


def _labelled(case: Case) -> list[dict[str, Any]]:
    """The rows as PEFT is given them."""
    rows = make_rows(case)
    longest = max(map(len, rows))
    found = []
    for row in rows:
        ids, padding = [*row.prompt_ids, *row.target_ids], longest - len(row)
        labels = [-100] * len(row.prompt_ids) + [*row.target_ids, *[-100] * padding]
        mask = [1] * len(ids) + [0] * padding
        found.append({"input_ids": ids + [0] * padding, "attention_mask": mask, "labels": labels})
    return found


def peft_loop(case: Case, pause: Pause) -> None:
    """PEFT in a plain loop."""
    import torch

    model = _peft(case)
    optimizer = torch.optim.AdamW([model.prompt_encoder["default"].embedding.weight], lr=LR, weight_decay=0.0)
    rows = _labelled(case)
    loss = None
    while pause(loss):
        batch = {name: torch.tensor([row[name] for row in rows], device=device()) for name in rows[0]}
        out = model(**batch).loss
        optimizer.zero_grad()
        out.backward()
        optimizer.step()
        loss = float(out.item())


def peft_trainer(case: Case, pause: Pause) -> None:
    """PEFT in the Trainer of Transformers."""
    import torch
    import transformers

    losses: list[float] = []

    class Recording(transformers.Trainer):  # type: ignore[misc]
        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            found = super().compute_loss(*arguments, **named)
            losses.append((found[0] if isinstance(found, tuple) else found).detach())
            return found

    class Pausing(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = not pause(None)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = not pause(float(losses.pop()))

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=ENDLESS,
            learning_rate=LR,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=0.0,
            train_sampling_strategy="sequential",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        rows = [{name: torch.tensor(value) for name, value in row.items()} for row in _labelled(case)]
        Recording(model=_peft(case), args=arguments, train_dataset=rows, callbacks=[Pausing()]).train()


SIDES: dict[str, Callable[[Case, Pause], None]] = {
    "spt_fast": ours,
    "peft_loop": peft_loop,
    "peft_trainer": peft_trainer,
    "together": together,
}


def serve(side: str, case: Case, link: Connection) -> None:
    """One side, in its own process: a step when asked, answered by (loss, seconds); at the end its memory in bytes."""
    import torch

    from spt_fast.models import memory

    warnings.simplefilter("ignore")
    cuda = torch.cuda.is_available()
    began = idle = 0.0

    def pause(loss: float | None) -> bool:
        nonlocal began, idle
        if loss is not None:  # it was read, so the device is done
            link.send((loss, time.perf_counter() - began))
        else:
            memory.release()
            idle = _rest(cuda)
        wanted: bool = link.recv()
        began = time.perf_counter()
        return wanted

    SIDES[side](case, pause)
    peak = torch.cuda.max_memory_allocated() if cuda else _status("VmHWM")
    link.send((peak, peak - idle))


def _rest(cuda: bool) -> int:
    """Memory of the model alone, in bytes; the peak counts from here."""
    import torch

    if cuda:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    # Building the model took more than it holds now (Linux, "man 5 proc").
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


@contextmanager
def running(case: Case) -> Iterator[dict[str, Connection]]:
    """The sides of a case as processes, by the links to them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    links: dict[str, Connection] = {}
    processes = []
    try:
        for side in case.sides:
            links[side], theirs = context.Pipe()
            processes.append(context.Process(target=serve, args=(side, case, theirs), daemon=True))
            processes[-1].start()
            theirs.close()
        yield links
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.kill()


def measure(case: Case, steps: int, warm_up: int) -> dict[str, Any]:
    """All sides of one case, step by step in turn, so that all see the same noise.

    Raises:
        SystemExit: their losses differ, or a side has died.
    """
    losses: dict[str, list[float]] = {side: [] for side in case.sides}
    seconds: dict[str, list[float]] = {side: [] for side in case.sides}
    memory: dict[str, tuple[int, int]] = {}
    with running(case) as links:
        try:
            for i in range(warm_up + steps):
                for side, link in links.items():
                    link.send(True)
                    loss, took = link.recv()
                    losses[side].append(loss)
                    if i >= warm_up:
                        seconds[side].append(took)
                at_step = {side: each[-1] for side, each in losses.items()}
                if max(at_step.values()) - min(at_step.values()) > (SAME_LOSS_REAL if case.model else SAME_LOSS[case.dtype]):
                    raise SystemExit(f"{case.name}, step {i + 1}: the losses differ, so nothing is reported: {at_step}")
            for side, link in links.items():
                link.send(False)
                memory[side] = link.recv()
        except EOFError:
            raise SystemExit(f"{case.name}: a side has died; what it says stands above") from None
    return {"case": asdict(case), "losses": losses, "seconds": seconds, "memory": memory}


def matrix_rate(dtype: str, smoke: bool) -> float:
    """Floating-point operations a second of a matrix product of the sizes that models have."""
    kind = device().type
    return product_rate(kind, 256 if smoke else 8192 if kind == "cuda" else 1536, dtype)


def summary(case: Case, measured: dict[str, Any], rate: float) -> dict[str, Any]:
    """What a case came to."""
    medians = {side: statistics.median(each) for side, each in measured["seconds"].items()}
    above = {side: each[1] for side, each in measured["memory"].items()}
    others = {}
    if not case.alone:
        others["times_faster_than_peft_in_the_trainer"] = medians["peft_trainer"] / medians["spt_fast"]
        others["together_against_one_by_one"] = case.together * medians["spt_fast"] / medians["together"]
    return {
        "case": measured["case"],
        "last_loss": {side: each[-1] for side, each in measured["losses"].items()},
        "seconds_a_step": medians,
        "examples_a_second": {
            side: BATCH * (case.together if side == "together" else 1) / each for side, each in medians.items()
        },
        "peak_bytes_above_the_idle_model": above,
        "times_faster_than_peft": medians["peft_loop"] / medians["spt_fast"],
        "memory_against_peft": above["spt_fast"] / above["peft_loop"],
        **others,
        "flops_a_second": case.flops / medians["spt_fast"],
        "matrix_rate": rate,
        "share_of_matrix_rate": case.flops / medians["spt_fast"] / rate,
    }


def ratios(case: Case, found: dict[str, Any]) -> list[Ratio]:
    """The lines of the table in docs/speed.md."""
    name = f"training, {case.name}"
    peft = "PEFT prompt tuning in a plain loop"
    lines = [
        Ratio(what=f"{name}, examples/s", against=peft, value=found["times_faster_than_peft"], at_least=case.at_least),
        Ratio(
            what=f"{name}, peak memory above the weights",
            against=peft,
            value=found["memory_against_peft"],
            at_most=case.memory_at_most,
        ),
        Ratio(
            what=f"{name}, operations/s",
            against="a matrix product",
            value=found["share_of_matrix_rate"],
            at_least=case.rate_at_least,
        ),
    ]
    if case.alone:
        return lines
    in_trainer = Ratio(
        what=f"{name}, examples/s",
        against="PEFT prompt tuning in the Trainer",
        value=found["times_faster_than_peft_in_the_trainer"],
    )
    at_once = Ratio(
        what=f"{name}, {case.together} soft prompts in one pass, examples/s",
        against="one by one",
        value=found["together_against_one_by_one"],
        at_least=case.together_at_least,
    )
    return [lines[0], in_trainer, lines[1], at_once, lines[2]]


def main() -> None:
    """Run the cases that are asked for."""
    packages = ("torch", "transformers", "peft", "accelerate", "numpy")
    benchmark = Benchmark("training-step", __doc__, smoke="one tiny case, in seconds", packages=packages, on_gpu=True)
    benchmark.parser.add_argument("--case", nargs="*", help="which cases; all of this device")
    benchmark.parser.add_argument("--steps", type=int, default=5, help="timed steps a side")
    benchmark.parser.add_argument("--model", help="a folder with a real model, for --tasks and --data")
    benchmark.parser.add_argument("--tasks", default="gsm8k,triviaqa", help="by commas [gsm8k,triviaqa]")
    benchmark.parser.add_argument("--data", help="a folder with a folder a task")
    arguments = benchmark.start()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # an idle side must not spin on the cores of the one that is timed
    if (arguments.model is None) != (arguments.data is None):
        benchmark.parser.error("--model and --data: give both or none of them")
    usual: Sequence[Case] = [SMOKE] if arguments.smoke else CUDA if device().type == "cuda" else CPU
    if arguments.model is not None:
        benchmark.name = "training-real"
        usual = [real_case(arguments.model, task, arguments.data, "float32") for task in arguments.tasks.split(",")]
    cases = {case.name: case for case in usual}
    if unknown := set(arguments.case or cases) - set(cases):
        benchmark.parser.error(f"--case: there is no {sorted(unknown)[0]!r} here; choose from {', '.join(cases)}")
    results, timings, lines = [], [], []
    for name in arguments.case or cases:
        case = cases[name]
        measured = measure(case, steps=2 if arguments.smoke else arguments.steps, warm_up=2)
        results.append(summary(case, measured, matrix_rate(case.dtype, arguments.smoke)))
        timings += [Timing(case=name, side=side, values=each) for side, each in measured["seconds"].items()]
        lines += ratios(case, results[-1])
    made = [make_rows(cases[name]) for name in arguments.case or cases]
    tokens = [sum(len(row.prompt_ids) + len(row.target_ids) for row in rows) / len(rows) for rows in made]
    targets = [sum(len(row.target_ids) for row in rows) / len(rows) for rows in made]
    batch = {"rows": BATCH, "tokens": tokens, "targets": targets, "soft_positions": LENGTH}
    benchmark.end({"batch": batch, "results": results}, timings=timings, ratios=lines)


if __name__ == "__main__":
    main()
