"""What computes with one model, in this process: `tune`, `inspect`, `verify`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import click

from spt_fast import terminal
from spt_fast.cli.arguments import parse_only
from spt_fast.cli.folders import RunFile
from spt_fast.cli.outcomes import SOME_FAILED, say
from spt_fast.config.output import Location
from spt_fast.config.protocols import Place


@click.command()
@click.argument("model")
@click.argument("task")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File to save it in [default: TASK.safetensors].")
@click.option("--length", type=int, default=10, show_default=True, help="Number of vectors.")
@click.option("--steps", type=int, default=80, show_default=True, help="Number of updates.")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Examples an update.")
@click.option("--lr", type=float, help="Learning rate [default: in the scale of the model's embeddings].")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option("--position", type=click.Choice(get_args(Place)), default="auto", show_default=True)
@click.option("--data-files", help="Local rows: a folder with one file a split.")
def tune(model: str, task: str, output: Path | None, seed: int, data_files: str | None, **settings: Any) -> int:
    """Train one soft prompt for MODEL on TASK, and save it."""
    _settle_threads()
    from spt_fast.config import SoftPromptConfig
    from spt_fast.prompts.soft_prompt import save_steps
    from spt_fast.training.task import tune as learn
    from spt_fast.types import TrainingStep

    config = SoftPromptConfig(**{name: value for name, value in settings.items() if value is not None})
    told = max(1, config.steps // 10)

    def on_step(step: TrainingStep) -> None:
        if step.step % told == 0 or step.step in (1, config.steps):
            say(f"step {step.step:4d}/{config.steps}  loss {step.loss:.4f}  gradient {step.grad_norm:.3g}")

    prompts = learn(model, task, config, seed=seed, data_files=data_files, on_step=on_step)
    path = output or Path(f"{task}.safetensors")
    save_steps(prompts, path)
    prompt = prompts[config.steps]
    click.echo(f"{path}: {prompt.length} vectors of {prompt.hidden_size} numbers, key {prompt.key}")
    return 0


@click.command()
@click.argument("prompt", type=RunFile())
@click.option("--model", help="The model it is for, where the name in the file does not resolve.")
@click.option("--task", help="Task to evaluate on, where the file does not name its own.")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Nearest tokens to show for each vector.")
@click.option("--only", metavar="KEY=PATTERN[,...]", help="Of a run folder: only these, as in task=zoo-mcq,seed=0.")
@click.option("--leave-one-out", is_flag=True, help="Evaluate without each vector in turn.")
@click.option("--as-text", is_flag=True, help="Evaluate with the nearest tokens in place of the vectors.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Maximum number of test rows for these evaluations.",
)
@click.option(
    "--engine",
    type=click.Choice(["vllm", "transformers", "echo"]),
    help="Engine for these evaluations [default: the grid's, or vllm].",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(prompt: Location, only: str | None, as_json: bool, **options: Any) -> int:
    """Show soft prompts. Provenance, nearest tokens, norms, and with options what each vector does.

    PROMPT is a file, a PEFT adapter, the folder of a cell, or a run folder for all its soft prompts. Evaluations of a run
    folder are kept there, and report.html shows them.
    """
    _settle_threads()
    from spt_fast.cli.inspecting import inspect as inspected
    from spt_fast.inspection.inspected import Wanted

    terminal.show(inspected(prompt, Wanted(only=parse_only(only), **options), as_json=as_json, say=say))
    return 0


@click.command()
@click.argument("model")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), default="auto", show_default=True)
@click.option("--prompt", type=RunFile(), help="Verify with this soft prompt too.")
def verify(model: str, dtype: str, prompt: Location | None) -> int:
    """Compare vLLM with Transformers on a model. Says that they are equal, or the first difference."""
    _settle_threads()
    from spt_fast.inspection.verify import verify as compare

    outcome = compare(model, dtype=dtype, prompt=prompt)
    click.echo(outcome.text())
    return 0 if outcome.passed else SOME_FAILED


def _settle_threads() -> None:
    """Give a verb that computes in this process what workers get in theirs; before torch is imported."""
    from spt_fast.executors.worker_process import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
