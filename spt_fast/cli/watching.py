"""`watch CHECKPOINTS GRID.yaml`: what stands behind the verb, and what it says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click

from spt_fast import plan
from spt_fast.analysis.gate import Policy, allowed
from spt_fast.cli import progress
from spt_fast.cli.arguments import Named, grid_of
from spt_fast.cli.comparing import EXIT_CODES
from spt_fast.cli.outcomes import SOME_FAILED, say, sentence
from spt_fast.config import GridConfig
from spt_fast.config.grid import ACCEPTED
from spt_fast.config.output import DATE, Location, joined
from spt_fast.driver.options import with_options
from spt_fast.driver.policy import policy_for
from spt_fast.driver.result import GridResult, Interrupted
from spt_fast.driver.run import run_cells
from spt_fast.driver.stopping import GridStopping
from spt_fast.errors import ConfigError, StoreError
from spt_fast.plan.cell import Cell
from spt_fast.signals import INTERRUPTED
from spt_fast.storage import open_storage
from spt_fast.store import Store
from spt_fast.store.layout import VERDICTS
from spt_fast.watch.checkpoints import Pattern, pattern_of
from spt_fast.watch.loop import Watch, every, once
from spt_fast.watch.night import Night, default_policy
from spt_fast.watch.notify import target_of
from spt_fast.watch.verdict import Verdict


def watch_checkpoints(
    checkpoints: str,
    grid: Path,
    *,
    policy: Path | None,
    notify: Sequence[str],
    once: bool,
    every: float,
    output: Location | None,
    accept_undecided: bool,
    address: str,
) -> int:
    """Watch until it is interrupted, or look once; the exit code.

    Args:
        checkpoints: a pattern, or the folder that they are in.
        grid: file.
        policy: file; None: the default.
        notify: commands and URLs.
        once: look once.
        every: seconds between two looks.
        output: run folder, instead of the grid's.
        accept_undecided: undecided checkpoints are accepted.
        address: of a cluster.

    Raises:
        ConfigError: the request is wrong.
        StoreError: the run folder cannot be used, or another watch is at work in it.
    """
    pattern = pattern_of(checkpoints)
    targets = [target_of(each) for each in notify]
    with Named(grid):
        config = watched(grid_of(grid, models=[{"id": str(pattern.base)}]), pattern, output)
        cells = plan.expand(_without_checkpoints(config))
        rules = _policy(policy, cells, config)
        config = _held(config, policy, cells)

    def evaluate(asked: GridConfig, series: str, against: str | None) -> GridResult:
        return run_cells(asked, watch=progress.watch, say=say, address=address, series=series, against=against)

    night = Night(
        config=config,
        pattern=pattern,
        policy=rules,
        store=Store(config.folder),
        evaluate=evaluate,
        say=lambda said: say(sentence(said)),
        accept_undecided=accept_undecided,
    )
    if once and not pattern.base.is_dir():
        raise ConfigError(
            f"{checkpoints}: there is no folder {pattern.base}; correct it, or watch without --once to wait for it"
        )
    say(_begins(pattern, config, rules, by=_by(policy, config), seconds=None if once else every))
    return _watched(Watch(night, targets, show=_show), config, seconds=None if once else every)


def watched(config: GridConfig, pattern: Pattern, output: Location | None) -> GridConfig:
    """A grid whose models are the checkpoints.

    Raises:
        ConfigError: it has more than one model, or a run folder a day.
    """
    if len(config.models) != 1 or config.models[0].post_trained is not None:
        raise ConfigError(
            "models: a watch evaluates the checkpoints that it waits for; leave models out, or keep one, without post_trained, "
            "for its settings"
        )
    entry = replace(config.models[0], id=str(pattern.base), checkpoints=pattern.pattern, revision=None)
    config = with_options(replace(config, models=(entry,)), output=output)
    if DATE in str(config.output or ""):
        raise ConfigError(f"output: {config.output} is another folder each day, and a watch has one; give it by --output DIR")
    return config


def _without_checkpoints(config: GridConfig) -> GridConfig:
    """The same on no checkpoint: what is wrong with the rest of a grid is said at once."""
    return replace(config, models=(replace(config.models[0], checkpoints=_NONE),))


_NONE = ".none-yet"


def _held(config: GridConfig, policy: Path | None, cells: Sequence[Cell]) -> GridConfig:
    """A grid whose `stop`, where it has one by a policy, is by that of the watch.

    Raises:
        ConfigError: what is wrong with `stop`.
    """
    if config.stop is None:
        return config
    if config.stop.by_policy:
        check = config.stop.check if policy is None else str(policy)
        config = replace(config, stop=replace(config.stop, check=check, against=ACCEPTED))
    GridStopping(config, plan.as_series(cells, "checkpoints"), None)
    return config


def _by(file: Path | None, config: GridConfig) -> str:
    """Whose policy holds: that of the command, else that of `stop`, else the default."""
    if file is None and config.stop is not None and config.stop.by_policy:
        return f"by {config.stop.check}, the policy of stop"
    return "without --policy" if file is None else f"by {file}"


def _policy(file: Path | None, cells: Sequence[Cell], config: GridConfig) -> Policy:
    """That of the command, else that of `stop`, else the default.

    Raises:
        ConfigError: it is wrong, or one of its checks can never be made in the grid.
    """
    if file is not None:
        return policy_for(cells, file, place="--policy")
    if config.stop is not None and config.stop.by_policy and config.stop.check is not None:
        return policy_for(cells, config.stop.check, place="stop.check")
    return default_policy(list(dict.fromkeys(cell.label for cell in cells)))


def _begins(pattern: Pattern, config: GridConfig, policy: Policy, *, by: str, seconds: float | None) -> str:
    checks = "; ".join(map(allowed, policy.checks))
    how = "looking once" if seconds is None else f"looking every {seconds:g} seconds, until Ctrl-C"
    there = "" if pattern.base.is_dir() else "; that folder is not there yet"
    return f"watch: {pattern.series} into {config.folder}, {how}{there}\nwatch: accepted is ({by}) what shows that {checks}"


def _watched(watch: Watch, config: GridConfig, *, seconds: float | None) -> int:
    lock = open_storage(joined(config.folder, VERDICTS))
    if lock.in_use:
        raise StoreError(f"{config.folder}: another `spt-fast watch` is at work here; end it, or choose another --output")
    lock.lock()
    with closing(lock):
        try:
            return exit_code(watch.run(once if seconds is None else every(seconds)))
        except KeyboardInterrupt as e:
            why = f" ({sentence(e.why)})" if isinstance(e, Interrupted) and e.why else ""
            command = " ".join(["spt-fast", *(sys.argv[1:] if os.path.basename(sys.argv[0]).startswith("spt-fast") else [])])
            say(f"interrupted{why}: what was judged is kept in {config.folder}; go on with: {command}")
            return INTERRUPTED


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Of a watch that has looked once; a copy has that of its twin."""
    found = {each.twin or each.verdict for each in verdicts}
    if found & {"fail", "broken"}:
        return SOME_FAILED
    return EXIT_CODES["undecided"] if "undecided" in found else 0


def _show(verdict: Verdict) -> None:
    click.echo(sentence(verdict.text))
