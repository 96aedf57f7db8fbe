"""Starts x positions x rates: what does a soft prompt learn in 80 steps, in the units of each model?

    python benchmarks/tuning/starts.py --models DIR,DIR --tasks triviaqa,arc_easy --data DIR [--lines FILE.jsonl] [--save]
        [--starts normal,vocabulary] [--positions front,after_bos] [--rates 0.03,0.1,0.3] [--schedules constant,linear]
        [--seeds 0,1] [--steps 80] [--batch-size 8] [--figure FILE.svg]

A rate is given in root mean squares of what enters the model for a frequent token, as `lr: auto` is (`RATE`), and `normal` has
that spread. The measure is the loss on test rows, which nothing is tuned on; with `--ask` the form of greedy answers too.
DIR of `--data` has a folder a task; the zoo's tasks need none. A model `random/FAMILY` (llama, qwen3, gemma3, gpt_neox, olmo2)
is a tiny one of random weights: it knows nothing, and shows what shapes and scales alone do. What `--lines` holds already is
not done again, so a study may be run in parts; the result has all that it holds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Benchmark, draw
from benchmarks.random_models import save_family
from spt_fast import tasks
from spt_fast.config import PAPER, ModelConfig, SoftPromptConfig
from spt_fast.config.protocols.learning import Schedule
from spt_fast.models.identity import require_resolved, resolve
from spt_fast.models.tokenizer import load_tokenizer
from spt_fast.prompts.initialize import initialize, root_mean_square
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import Generate, Position, TrainingStep

LENGTH = 10
WAY = ("start", "position", "rate", "schedule")
RANDOM = "random/"
"""What the name of a tiny random model begins with."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One training of the study."""

    model: str
    task: str
    start: str
    position: Position
    rate: float
    """In root mean squares; of the start `paper` as it is."""
    seed: int
    steps: int
    schedule: Schedule = "constant"
    batch_size: int = 8


class Study:
    """A loaded model, and what is learnt for it."""

    def __init__(self, model: str, data: str | None, *, rows: int, ask: bool) -> None:
        """Load a model once for all its settings."""
        from spt_fast.models.frozen_model import FrozenModel
        from spt_fast.training.vocabulary import ModelVocabulary

        with _folder(model) as folder:
            resolved = require_resolved(resolve(ModelConfig(id=folder))[0])
            self.tokenizer = load_tokenizer(resolved)
            self.model = FrozenModel.load(resolved.source)
        self.vocabulary = ModelVocabulary(self.model, self.tokenizer)
        self.unit = root_mean_square(self.vocabulary)
        self._data, self._most, self._ask = data, rows, ask
        self._rows: dict[str, Rows] = {}

    def rows(self, task: str) -> Rows:
        """Of a task, read once."""
        if task not in self._rows:
            files = None if task.startswith("zoo-") else f"{self._data}/{task}"
            self._rows[task] = load_rows(tasks.get(task), data_files=files, limit=self._most)
        return self._rows[task]

    def start(self, setting: Setting) -> npt.NDArray[np.float32]:
        """`[P, H]`."""
        starts = {
            "paper": SoftPromptConfig.paper(),
            "normal": SoftPromptConfig(init="normal"),
            "vocabulary": SoftPromptConfig(),
            "instruction": SoftPromptConfig(init="text", init_text=tasks.get(setting.task).template.instruction),
        }
        return initialize(starts[setting.start], self.model.hidden_size, setting.seed, self.vocabulary)

    def run(self, setting: Setting) -> dict[str, Any]:
        """Learn, and look at test rows at some steps."""
        from spt_fast.training.rows import tuning_row
        from spt_fast.training.run import TuningJob
        from spt_fast.training.trainer import learn_job, mean_loss

        task, rows = tasks.get(setting.task), self.rows(setting.task)

        def worked(examples: Sequence[Any]) -> list[Any]:
            texts = [self.tokenizer.render(task.template.prompt(example), chat=False) for example in examples]
            return [
                tuning_row(self.tokenizer, text, example.target, chat=False)
                for text, example in zip(texts, examples, strict=True)
            ]

        rate = setting.rate if setting.start == "paper" else setting.rate * self.unit
        points = tuple(step for step in (0, 20, 40) if step < setting.steps)
        config = SoftPromptConfig(
            lr=rate,
            schedule=setting.schedule,
            position=setting.position,
            steps=setting.steps,
            batch_size=setting.batch_size,
            evaluate_at=points,
            length=LENGTH,
            repeat_rows=True,
        )
        curve: list[TrainingStep] = []
        began = time.perf_counter()
        job = TuningJob(
            rows=worked(rows.tuning), config=config, seed=setting.seed, start=self.start(setting), on_step=curve.append
        )
        learnt = learn_job(self.model, job, pad_id=self.tokenizer.pad_token_id)
        seconds = time.perf_counter() - began
        test = worked(rows.test)
        torch_vectors = {step: self._tensor(prompt.vectors) for step, prompt in learnt.items()}
        losses = {
            str(step): mean_loss(self.model, vectors, test, 8, setting.position, pad_id=self.tokenizer.pad_token_id)
            for step, vectors in torch_vectors.items()
        }
        last = learnt[max(learnt)]
        return {
            "lr": rate,
            "rms": self.unit,
            "train_s": seconds,
            "held_out_loss": losses,
            "curve": [round(point.loss, 4) for point in curve],
            "rms_end": float(np.sqrt(np.square(last.vectors).mean())),
            **(self._asked(task, rows, last, setting) if self._ask else {}),
        }

    def _tensor(self, vectors: npt.NDArray[np.float32]) -> Any:
        import torch

        return torch.tensor(vectors, device=self.model.device)

    def _asked(self, task: Any, rows: Rows, prompt: Any, setting: Setting) -> dict[str, float]:
        from spt_fast.engine.transformers import TransformersEngine
        from spt_fast.scoring.score import follows_format

        engine = TransformersEngine.around(self.model, self.tokenizer, batch_size=16)
        key = engine.add(prompt)
        longest = 2 * max(len(self.tokenizer.text_ids(example.target)) for example in rows.tuning)
        sampling = replace(task.sampling, max_tokens=min(task.sampling.max_tokens, longest))
        ids = [self.tokenizer.prompt_ids(self.tokenizer.render(task.template.prompt(each), chat=False)) for each in rows.test]
        written = engine.generate(
            [Generate(token_ids=each, sampling=sampling, soft_prompt=key, position=setting.position) for each in ids]
        )
        following = [follows_format(task, example, text) for example, text in zip(rows.test, written, strict=True)]
        return {"format_following": sum(following) / len(following)}


@contextmanager
def _folder(model: str) -> Iterator[str]:
    """The model as it is named, or a folder of random weights of its family that is thrown away."""
    if not model.startswith(RANDOM):
        yield model
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield str(save_family(Path(scratch), model.removeprefix(RANDOM)))


def name_of(model: str) -> str:
    """What the study calls it."""
    return model if model.startswith(RANDOM) else Path(model).name


def settings(arguments: argparse.Namespace, model: str) -> Iterator[Setting]:
    """All of a model; the paper's start has the paper's rate and place."""
    names = [text.split(",") for text in (arguments.seeds, arguments.tasks, arguments.starts)]
    for seed, task, start in product(*names):
        places = [PAPER["position"]] if start == "paper" else arguments.positions.split(",")
        rates = [PAPER["lr"]] if start == "paper" else [float(rate) for rate in arguments.rates.split(",")]
        for position, rate, schedule in product(places, rates, arguments.schedules.split(",")):
            yield Setting(
                model=name_of(model),
                task=task,
                start=start,
                position=position,
                rate=rate,
                seed=int(seed),
                steps=arguments.steps,
                schedule=schedule,
                batch_size=arguments.batch_size,
            )


def plateau(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each start, place, rate and schedule: nats a token above the best it is held against; mean and worst."""
    best: dict[tuple[object, ...], float] = {}
    for run in runs:
        place = _compared(run)
        best[place] = min(best.get(place, float("inf")), _last(run))
    above: dict[tuple[str, str, float, str], list[float]] = {}
    for run in runs:
        way = (run["start"], run["position"], run["rate"], run["schedule"])
        above.setdefault(way, []).append(_last(run) - best[_compared(run)])
    return [
        {**dict(zip(WAY, way, strict=True)), "runs": len(v), "mean": float(np.mean(v)), "worst": max(v)}
        for way, v in sorted(above.items())
    ]


def _compared(run: Mapping[str, Any]) -> tuple[object, ...]:
    """What runs have in common that are held against each other."""
    return tuple(run[name] for name in ("model", "task", "steps", "batch_size"))


def _last(run: Mapping[str, Any]) -> float:
    losses = run["held_out_loss"]
    return float(losses[max(losses, key=int)])


def figure(runs: Sequence[Mapping[str, Any]]) -> str:
    """Loss on test rows by rate, a panel a model and task, a line a start and place; the default's rate is the dashed line."""
    from spt_fast.config import RATE

    rows = [{**run, "loss": _last(run), "way": f"{run['start']}, {run['position']}"} for run in runs if run["start"] != "paper"]
    rows = [row for row in rows if row["schedule"] == "constant" and row["batch_size"] == Setting.batch_size]
    for row in rows:
        row["panel"] = f"{row['model']}: {row['task']}"
        del row["curve"], row["held_out_loss"]
    rates = {panel: {row["rate"] for row in rows if row["panel"] == panel} for panel in {row["panel"] for row in rows}}
    rows = [row for row in rows if len(rates[row["panel"]]) > 1]
    spec = {
        "data": {"values": rows},
        "facet": {"field": "panel", "type": "nominal", "columns": 3, "title": None},
        "columns": 3,
        "resolve": {"scale": {"y": "independent"}},
        "spec": {
            "width": 190,
            "height": 130,
            "layer": [
                {
                    "mark": {"type": "line", "point": True},
                    "encoding": {
                        "x": {
                            "field": "rate",
                            "type": "quantitative",
                            "scale": {"type": "log"},
                            "title": "rate, in root mean squares",
                            "axis": {"values": sorted({row["rate"] for row in rows}), "grid": False},
                        },
                        "y": {
                            "aggregate": "mean",
                            "field": "loss",
                            "type": "quantitative",
                            "scale": {"zero": False},
                            "title": "loss on test rows",
                        },
                        "color": {"field": "way", "type": "nominal", "title": "start, place"},
                    },
                },
                {"mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {"x": {"datum": RATE}}},
            ],
        },
    }
    return draw(spec)


def main() -> None:
    """Run what is left of the study and tell all of it."""
    benchmark = Benchmark("starts", __doc__, smoke="two settings of two steps, a zoo model", packages=("torch", "transformers"))
    add = benchmark.parser.add_argument
    add("--models", default="zoo/base-40", help="folders or ids, by commas [zoo/base-40]")
    add("--tasks", default="zoo-json", help="[zoo-json]")
    add("--data", help="a folder with a folder a task")
    add(
        "--starts",
        default="normal,vocabulary,paper",
        help="of normal, vocabulary, instruction, paper [normal,vocabulary,paper]",
    )
    add("--positions", default="front,after_bos", help="[front,after_bos]")
    add("--rates", default="0.01,0.03,0.1,0.3,1", help="[0.01,0.03,0.1,0.3,1]")
    add("--schedules", default="constant", help="of constant, linear, cosine [constant]")
    add("--seeds", default="0", help="[0]")
    add("--steps", type=int, default=80, help="[80]")
    add("--batch-size", type=int, default=8, help="rows a step [8]")
    add("--rows", type=int, default=48, help="test rows [48]")
    add("--ask", action="store_true", help="have test rows answered too")
    add("--lines", type=Path, help="keep each run here, and do none that is here")
    add("--figure", type=Path, help="write the figure here")
    arguments = benchmark.start()
    if arguments.smoke:
        arguments.starts, arguments.positions, arguments.rates, arguments.steps = "vocabulary", "front,after_bos", "0.1", 2
        arguments.rows = 4
    with tempfile.TemporaryDirectory() as scratch:
        lines = arguments.lines or Path(scratch) / "lines.jsonl"
        runs = _all(arguments, lines)
    if arguments.figure is not None:
        arguments.figure.write_text(figure(runs), encoding="utf-8")
    benchmark.end({"runs": runs, "above_the_best": plateau(runs)})


def _all(arguments: argparse.Namespace, lines: Path) -> list[dict[str, Any]]:
    kept = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    runs = [{"schedule": Setting.schedule, "batch_size": Setting.batch_size, **run} for run in kept]
    done = {tuple(run[name] for name in Setting.__dataclass_fields__) for run in runs}
    for model in arguments.models.split(","):
        left = [setting for setting in settings(arguments, model) if tuple(asdict(setting).values()) not in done]
        if not left:
            continue
        study = Study(model, arguments.data, rows=arguments.rows, ask=arguments.ask)
        for setting in left:
            if setting.position == "after_bos" and study.tokenizer.bos_token_id is None:
                continue
            runs.append({**asdict(setting), **study.run(setting)})
            with lines.open("a") as file:
                file.write(json.dumps(runs[-1]) + "\n")
    return runs


if __name__ == "__main__":
    main()
