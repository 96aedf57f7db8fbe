"""The command line. Thin: each verb reads its arguments, calls one function, and says what came of it.

Progress goes to stderr, results to stdout. Exit codes: 0 all done; 1 some cells failed; 2 the request is wrong (one sentence on
stderr); 130 interrupted, and resumable. `gate`: 0 pass; 1 fail; 3 undecided. Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import spt_fast.cli.first  # noqa: F401  (for what it does)

# isort: split
import json
import os
import sys
import traceback
from importlib import metadata, resources
from pathlib import Path
from typing import Any, NoReturn

import click

from spt_fast import terminal
from spt_fast.cli.folders import RunFile, RunFolder
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError, FolderGoneError, SptError, first_line
from spt_fast.export import EXPORTS, formats
from spt_fast.signals import INTERRUPTED, interrupting

SOME_FAILED = 1
WRONG_REQUEST = 2
MOST_NAMED = 8
"""Names that a sentence lists; of more, how many there are."""
SCHEMA = "spt-fast.schema.json"
"""What `init` writes beside a grid: the first line of the grid names it."""
MOST_OF_A_WORD, MOST_OF_A_SENTENCE = 300, 3000
"""Characters that are told of what is wrong."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of `spt-fast`."""
    with terminal.doors(), interrupting():
        try:
            code = _main(arguments)
        except KeyboardInterrupt:  # while the first one was being told of
            code = INTERRUPTED
    sys.exit(code)


def _main(arguments: list[str] | None) -> int:
    """Run a verb; whatever becomes of it, it ends in an exit code, and what is wrong in one sentence."""
    try:
        code = cli.main(args=arguments, prog_name="spt-fast", standalone_mode=False)
    except SptError as e:
        _say(f"spt-fast: {_sentence(str(e))}")
        return SOME_FAILED if isinstance(e, FolderGoneError) else WRONG_REQUEST
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.ctx.get_help())
        return WRONG_REQUEST
    except click.ClickException as e:
        command = e.ctx.command_path if isinstance(e, click.UsageError) and e.ctx else "spt-fast"
        _say(f"{command}: {_sentence(e.format_message())} See `{command} --help`.")
        return WRONG_REQUEST
    except (KeyboardInterrupt, click.Abort):
        _say("spt-fast: interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # `spt-fast ... | head`
        sys.stderr.close()
        return 0
    except OSError as e:
        place = f"{os.fsdecode(e.filename)}: " if isinstance(e.filename, str | bytes) else ""
        _say(f"spt-fast: {_sentence(place + (e.strerror or str(e)))}")
        return WRONG_REQUEST
    except Exception as e:
        if os.environ.get("SPT_FAST_TRACEBACK"):
            raise
        _say(f"spt-fast: {_sentence(_our_fault(e))}")
        return SOME_FAILED
    return code if isinstance(code, int) else 0


def _our_fault(error: Exception) -> str:
    """What nobody has foreseen, and where it was."""
    *_, last = [frame for frame in traceback.extract_tb(error.__traceback__) if "spt_fast" in frame.filename]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    told = f"{type(error).__name__}: {first_line(error)}".rstrip(": ")
    return f"a bug in spt-fast ({told}; {place}); please report it, with what SPT_FAST_TRACEBACK=1 shows"


def _sentence(text: str) -> str:
    """One line; of what is too long, the beginning and the end."""
    half = MOST_OF_A_WORD // 2
    words = (word if len(word) <= MOST_OF_A_WORD else f"{word[:half]}...{word[-half:]}" for word in text.split())
    line = " ".join(words)
    half = MOST_OF_A_SENTENCE // 2
    return line if len(line) <= MOST_OF_A_SENTENCE else f"{line[:half]} ... {line[-half:]}"


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("spt-fast"), prog_name="spt-fast")
def cli() -> None:
    """Measure what a base model knows, apart from whether it writes the answer in the form asked for.

    Start with: spt-fast init, spt-fast run grid.yaml
    """


# The main job


@cli.command()
@click.argument("grid", metavar="GRID.yaml", type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of test rows a task.")
@click.option("--only", metavar="KEY=PATTERN[,...]", help="Only these cells, as in model=zoo/*,task=zoo-mcq,seed=0.")
@click.option("--output", metavar="DIR", type=RunFolder(), help="Run folder or URL, instead of the grid's.")
@click.option(
    "--address",
    default="local",
    show_default=True,
    help="local (this machine), a Ray cluster (auto, HOST:PORT), or a package's executor.",
)
@click.option("--fresh", is_flag=True, help="Compute these cells again, even those that are done.")
@click.option("--rerun", metavar="SHARE", help="Ask this share of the rows (2%) again, to see which answers flip.")
@click.option("--dry-run", is_flag=True, help="Show the cells and how long they would take; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of tables.")
def run(
    grid: Path,
    limit: int | None,
    only: str | None,
    output: Location | None,
    address: str,
    fresh: bool,
    rerun: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a grid, or what is left of it. The same command again continues where it stopped."""
    from spt_fast.cli import progress
    from spt_fast.config.reader import load_grid, share_of
    from spt_fast.driver.options import with_options
    from spt_fast.driver.result import Interrupted
    from spt_fast.driver.run import run_cells

    again = None if rerun is None else share_of(rerun, "--rerun")
    config = with_options(load_grid(grid), limit=limit, output=output, rerun=again)
    patterns = _only(only)
    if dry_run:
        from spt_fast.cli.dry_run import dry_run as plan_only

        with _Named(grid):
            click.echo(plan_only(config, patterns, fresh=fresh, address=address))
        return 0
    try:
        with _Named(grid):
            result = run_cells(config, only=patterns, fresh=fresh, watch=progress.watch, say=_say, address=address)
    except Interrupted as e:
        from spt_fast.report.folder import refresh

        refresh(e.result.folder)
        why = f" ({_sentence(e.why)})" if e.why else ""
        command = " ".join(["spt-fast", *sys.argv[1:]]).replace(" --fresh", "")
        _say(
            f"interrupted{why}: {len(e.result.results)} of {len(e.result.cells)} cells are done and kept in "
            f"{e.result.folder}; resume with: {command}"
        )
        return INTERRUPTED
    code = _tell(result.folder, as_json=as_json)
    for reason in dict.fromkeys(result.not_rerun.values()):
        cells = sum(why == reason for why in result.not_rerun.values())
        _say(f"{cells} cell{'s' * (cells > 1)} could not be rerun: {reason}")
    return code or (SOME_FAILED if result.not_rerun else 0)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("grid.yaml"))
def init(file: Path) -> int:
    """Write a commented grid to start from. A JSON Schema for editors is written beside it."""
    if file.exists():
        raise ConfigError(f"{file}: already exists; choose another name")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.parent}")
    text = resources.files("spt_fast.cli").joinpath("starter.yaml").read_text(encoding="utf-8")
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in file.stem) or "grid"
    beside = file.with_name(SCHEMA)
    beside.write_text(_schema(), encoding="utf-8")
    file.write_text(text.format(file=file, name=name, schema=SCHEMA), encoding="utf-8")
    click.echo(f"wrote {file}, and {beside} for editors; run it with: spt-fast run {file}")
    return 0


@cli.command()
def schema() -> int:
    """Print the JSON Schema of grid.yaml. With it, editors complete and check a grid."""
    click.echo(_schema(), nl=False)
    return 0


@cli.command()
@click.argument("grid", metavar="GRID.yaml", type=click.Path(path_type=Path))
def check(grid: Path) -> int:
    """Find mistakes in a grid without loading a model. Looks at keys, values, rows, tokenizers and headers of weights."""
    from spt_fast.cli.checking import check_grid
    from spt_fast.config.reader import load_grid

    with _Named(grid):
        checked = check_grid(load_grid(grid))
    for sentence in checked.wrong:
        click.echo(f"{grid}: {sentence}")
    for sentence in (*checked.series, *checked.notes):
        click.echo(f"{grid}: {sentence}")
    if checked.unseen:
        some = ", ".join(checked.unseen[:MOST_NAMED])
        more = len(checked.unseen) - MOST_NAMED
        names = f"{some} and {more:,} more" if more > 0 else some
        click.echo(f"{grid}: not looked at, because the Hub cannot be reached from here: {names}")
    if checked.wrong:
        return WRONG_REQUEST
    click.echo(f"{grid}: good; {checked.cells:,} cell{'' if checked.cells == 1 else 's'}")
    return 0


@cli.command()
@click.argument("folder", metavar="DIR", type=RunFolder())
def status(folder: Location) -> int:
    """Show the state of a run, also while it runs."""
    from spt_fast.cli.status import status_of

    click.echo(status_of(folder))
    return 0


@cli.command()
@click.argument("folder", metavar="DIR", type=RunFolder())
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of tables.")
@click.option("--samples", metavar="all|N", help="Write report-samples.html too, with all or N samples.")
@click.option(
    "--against",
    metavar="DIR",
    type=RunFolder(),
    help="Write report-against.html too: samples that another run judges differently.",
)
def report(folder: Location, as_json: bool, samples: str | None, against: Location | None) -> int:
    """Print and write the report of a run folder. Writes results.csv, results.json, report.md and report.html."""
    most = _samples(samples)
    code = _tell(folder, as_json=as_json)
    if samples is not None or against is not None:
        from spt_fast.report.folder import write_page

        _say(write_page(folder, samples=most, limited=samples is None, against=against))
    return code


# What the scores say


@cli.command()
@click.argument("source", metavar="DIR|FILE", type=RunFolder())
@click.option(
    "--metric",
    help="Metric to rank by [default: knowledge_best on closed-ended tasks of a run folder, else exact_match].",
)
@click.option("--tasks", metavar="PATTERN,...", help="Only these tasks.")
@click.option("--models", metavar="PATTERN,...", help="For a table: only these models.")
@click.option("--partners", metavar="FILE", type=click.Path(path_type=Path), help="For a table: YAML {base: post-trained}.")
@click.option("--truth", metavar="FILE", type=click.Path(path_type=Path), help="Reference scores: YAML {model: score}.")
@click.option("--lower-is-better", metavar="PATTERN,...", help="For a table: tasks where lower is better.")
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Bootstrap resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def rank(source: Location, tasks: str | None, models: str | None, lower_is_better: str | None, **options: Any) -> int:
    """Rank models, and say how sure the order is. Takes a run folder, or a CSV or JSON table of scores."""
    from spt_fast.cli.ranking import rank as ranked

    down = _listed(lower_is_better)
    terminal.show(ranked(source, tasks=_listed(tasks), models=_listed(models), lower_is_better=down, **options))
    return 0


@cli.command()
@click.argument("a", metavar="A", type=RunFolder())
@click.argument("b", metavar="B", type=RunFolder())
@click.option("--metric", "metrics", multiple=True, help="Metric; may be repeated [default: exact match, knowledge, format].")
@click.option("--tasks", metavar="PATTERN,...", help="Only these tasks.")
@click.option("--a-model", help="Model of A to compare, where the two runs have different names.")
@click.option("--b-model", help="Model of B to compare it with.")
@click.option("--a-protocol", help="Protocol of A to compare.")
@click.option("--b-protocol", help="Protocol of B to compare it with.")
@click.option("--flips", "shown_flips", type=click.IntRange(min=0), default=0, help="Show N rows whose verdict flipped.")
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Bootstrap resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def compare(a: Location, b: Location, tasks: str | None, **options: Any) -> int:
    """Compare two run folders row by row. Shows changes with intervals and p-values, and the rows that flipped."""
    from spt_fast.cli.comparing import compare as compared

    terminal.show(compared(a, b, tasks=_listed(tasks), **options))
    return 0


@cli.command()
@click.argument("a", metavar="A", type=RunFolder())
@click.argument("b", metavar="B", type=RunFolder())
@click.option("--policy", required=True, metavar="P.yaml", type=click.Path(path_type=Path), help="Policy: what must not drop.")
@click.option("--a-model", help="Model of A to compare, where the two runs have different names.")
@click.option("--b-model", help="Model of B to compare it with.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def gate(a: Location, b: Location, policy: Path, **options: Any) -> int:
    """Decide whether run B may replace run A. Exit codes: 0 pass, 1 fail, 3 undecided."""
    from spt_fast.cli.comparing import gated

    text, code = gated(a, b, policy, **options)
    terminal.show(text)
    return code


class _Format(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A format to export to; which there are depends on what is installed, and is looked up only here."""

    name = "format"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in EXPORTS:
            self.fail(f"{value!r} is not one of {', '.join(EXPORTS)}", param, ctx)
        return value


class _Export(click.Command):
    """Its help ends with the formats."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.epilog = "\b\nFORMAT is one of\n" + "\n".join(f"  {name:12} {what}" for name, what in formats().items())
        super().format_epilog(ctx, formatter)


@cli.command(cls=_Export)
@click.argument("source", metavar="DIR", type=RunFolder())
@click.option("--format", "-f", "kind", metavar="FORMAT", type=_Format(), required=True)
@click.option(
    "--to", type=RunFolder(), help="Where to write [default: export-FORMAT in DIR]; for mlflow also the URI of a server."
)
def export(source: Location, kind: str, to: Location | None) -> int:
    """Export a run folder to other tools. Soft prompts go to PEFT and back."""
    from spt_fast.cli.exporting import export_told

    said, left = export_told(source, kind, to)
    click.echo(said)
    if left:
        _say(left)
    return 0


# One soft prompt


@cli.command()
@click.argument("model")
@click.argument("task")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File to save it in [default: TASK.safetensors].")
@click.option("--length", type=int, default=10, show_default=True, help="Number of vectors.")
@click.option("--steps", type=int, default=80, show_default=True, help="Number of updates.")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Examples an update.")
@click.option("--lr", type=float, help="Learning rate [default: in the scale of the model's embeddings].")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option("--position", type=click.Choice(["auto", "front", "after_bos"]), default="auto", show_default=True)
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
            _say(f"step {step.step:4d}/{config.steps}  loss {step.loss:.4f}  gradient {step.grad_norm:.3g}")

    prompts = learn(model, task, config, seed=seed, data_files=data_files, on_step=on_step)
    path = output or Path(f"{task}.safetensors")
    save_steps(prompts, path)
    prompt = prompts[config.steps]
    click.echo(f"{path}: {prompt.length} vectors of {prompt.hidden_size} numbers, key {prompt.key}")
    return 0


@cli.command()
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

    terminal.show(inspected(prompt, Wanted(only=_only(only), **options), as_json=as_json, say=_say))
    return 0


# Tasks


@cli.group()
def tasks() -> None:
    """The tasks that come with the package."""


@tasks.command("list")
@click.argument("what", default="")
@click.option("--include-path", default="", help="Of lm-eval: a folder of YAML files that goes before its own tasks.")
def tasks_list(what: str, include_path: str) -> int:
    """List the tasks; WHAT: lm-eval, for what can be done with its tasks, or 'lm-eval:mmlu*' for those of such names."""
    from spt_fast import tasks as registry

    if what:
        click.echo(registry.listing(what, include_path))
        return 0
    names = registry.names()
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name:{width}}  {registry.get(name).summary}")
    return 0


@tasks.command("show")
@click.argument("task")
@click.option("--model", help="Show the tokens of this model too.")
@click.option("--shots", type=click.IntRange(min=0), default=0, help="Number of worked examples.")
@click.option("--data-files", help="Local rows: a folder with one file a split.")
@click.option("--regex", is_flag=True, help="Show the regular expression of the format too.")
def tasks_show(task: str, model: str | None, shots: int, data_files: str | None, regex: bool) -> int:
    """Show the prompt, target, tokens, stops, format and splits of a task."""
    from spt_fast.cli.showing import show_task

    click.echo(show_task(task, model=model, shots=shots, data_files=data_files, regex=regex))
    return 0


# lm-evaluation-harness


@cli.command("lm-eval", context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lm_eval(arguments: tuple[str, ...]) -> int:
    """Run lm_eval behind the soft prompts of a run. Takes the command line of lm_eval, with the model spt_fast.

    spt-fast lm-eval run --model spt_fast --model_args pretrained=zoo/base-40,soft_prompts=runs/x --tasks arc_easy
    """
    from spt_fast.harness.command import run_lm_eval

    return run_lm_eval(arguments)


# The zoo


@cli.group()
def zoo() -> None:
    """Tiny models whose knowledge is known."""


@zoo.command("list")
def zoo_list() -> int:
    """List the zoo's models, and what each knows."""
    from spt_fast import zoo as models

    entries = models.catalogue()
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        size = f"{entry.parameters / 1e6:.1f} M" if entry.parameters else "-"
        state = "there" if entry.built else "not built"
        click.echo(f"{entry.name:{width}}  knows {entry.share:4.0%}  {size:>6}  {state:9}  {entry.summary}")
    return 0


@zoo.command("build")
@click.argument("names", nargs=-1)
@click.option("--into", type=click.Path(path_type=Path), help="Folder to build in [default: the cache].")
@click.option("--force", is_flag=True, help="Build again what is there.")
def zoo_build(names: tuple[str, ...], into: Path | None, force: bool) -> int:
    """Pre-train models of the zoo (all that are missing, or NAMES) into the cache."""
    from spt_fast.cli.zoo import build_with_progress

    for folder in build_with_progress(names, into=into, force=force):
        click.echo(str(folder))
    return 0


# The machine


@cli.command()
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


@cli.command()
def doctor() -> int:
    """Show what this machine can run, and what is missing."""
    from spt_fast.cli.doctor import examine

    findings = examine()
    width = max(len(finding.what) for finding in findings)
    signs = {"good": "ok  ", "note": "note", "bad": "BAD "}
    for finding in findings:
        click.echo(f"{signs[finding.state]}  {finding.what:{width}}  {finding.said}")
    return SOME_FAILED if any(finding.state == "bad" for finding in findings) else 0


# Shared


def _schema() -> str:
    from spt_fast import tasks
    from spt_fast.config.schema import grid_schema

    return json.dumps(grid_schema(tasks.names()), indent=1) + "\n"


def _only(text: str | None) -> dict[str, str]:
    """model=zoo/*,task=zoo-mcq -> {"model": "zoo/*", "task": "zoo-mcq"}"""
    patterns: dict[str, str] = {}
    for part in (text or "").split(","):
        if part.strip():
            key, equals, pattern = part.partition("=")
            if not equals or not pattern.strip():
                raise ConfigError(f"--only: {part.strip()!r} must be KEY=PATTERN, like task=zoo-mcq")
            patterns[key.strip()] = pattern.strip()
    return patterns


def _samples(text: str | None) -> int | None:
    """all -> None, 500 -> 500"""
    if text in (None, "all"):
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--samples: {text!r} must be a number of rows, or all")
    return int(text)


def _listed(text: str | None) -> list[str]:
    """a,b -> ["a", "b"]"""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


class _Named:
    """Put the grid's file in front of what is wrong with the grid."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConfigError) and not str(error).startswith(("--", f"{self.file}:")):
            raise ConfigError(f"{self.file}: {error}") from None


def _settle_threads() -> None:
    """Give a verb that computes in this process what workers get in theirs; before torch is imported."""
    from spt_fast.executors.worker_process import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _tell(folder: Location, *, as_json: bool) -> int:
    """Print what a run folder holds; the exit code."""
    from spt_fast.cli.tables import tell

    return SOME_FAILED if any(cell.status == "failed" for cell in tell(folder, as_json=as_json)) else 0


if __name__ == "__main__":
    main()
