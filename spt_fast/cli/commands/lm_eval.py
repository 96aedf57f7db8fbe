"""`lm-eval`: lm-evaluation-harness behind our soft prompts."""

from __future__ import annotations

import click


@click.command("lm-eval", context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lm_eval(arguments: tuple[str, ...]) -> int:
    """Run lm_eval behind the soft prompts of a run. Takes the command line of lm_eval, with the model spt_fast.

    spt-fast lm-eval run --model spt_fast --model_args pretrained=zoo/base-40,soft_prompts=runs/x --tasks arc_easy
    """
    from spt_fast.harness.command import run_lm_eval

    return run_lm_eval(arguments)
