"""The command line. Thin: each verb reads its arguments, calls one function, and says what came of it.

Progress goes to stderr, results to stdout. Exit codes: 0 all done; 1 some cells failed; 2 the request is wrong (a sentence on
stderr); 130 interrupted, and resumable. `gate` and `watch --once`: 0 pass; 1 fail; 3 undecided. Nothing heavy is
imported before a verb needs it.
"""

from __future__ import annotations

import spt_fast.cli.first  # noqa: F401  (for what it does)

# isort: split
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

import click

from spt_fast import terminal
from spt_fast.cli.commands import VERBS
from spt_fast.cli.outcomes import SOME_FAILED, WRONG_REQUEST, our_fault, say, sentence
from spt_fast.errors import MOST_TOLD, ConfigError, FolderGoneError, SptError
from spt_fast.signals import INTERRUPTED, interrupting


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
        _tell(e.sentences if isinstance(e, ConfigError) else [str(e)])
        return SOME_FAILED if isinstance(e, FolderGoneError) else WRONG_REQUEST
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.ctx.get_help())
        return WRONG_REQUEST
    except click.ClickException as e:
        command = e.ctx.command_path if isinstance(e, click.UsageError) and e.ctx else "spt-fast"
        say(f"{command}: {sentence(e.format_message())} See `{command} --help`.")
        return WRONG_REQUEST
    except (KeyboardInterrupt, click.Abort):
        say("spt-fast: interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # `spt-fast ... | head`
        sys.stderr.close()
        return 0
    except OSError as e:
        place = f"{os.fsdecode(e.filename)}: " if isinstance(e.filename, str | bytes) else ""
        say(f"spt-fast: {sentence(place + (e.strerror or str(e)))}")
        return WRONG_REQUEST
    except Exception as e:
        if os.environ.get("SPT_FAST_TRACEBACK"):
            raise
        say(f"spt-fast: {sentence(our_fault(e))}")
        return SOME_FAILED
    return code if isinstance(code, int) else 0


def _tell(wrong: Sequence[str]) -> None:
    """What is wrong with a request, a sentence on a line; of very much, the first will do."""
    for each in wrong[:MOST_TOLD]:
        say(f"spt-fast: {sentence(each)}")
    if len(wrong) > MOST_TOLD:
        say(f"spt-fast: and {len(wrong) - MOST_TOLD} more mistakes; mend these first")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("spt-fast"), prog_name="spt-fast")
def cli() -> None:
    """Measure what a base model knows, apart from whether it writes the answer in the form asked for.

    Start with: spt-fast init, spt-fast run grid.yaml
    """


for verb in VERBS:
    cli.add_command(verb)
