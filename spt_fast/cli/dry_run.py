"""`run --dry-run`: the cells, the GPUs and the time a grid would take, without doing any of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from spt_fast import plan
from spt_fast.cli.progress import counted, spoken
from spt_fast.config import GridConfig, PriceConfig, StopConfig
from spt_fast.driver.ahead import ahead_of
from spt_fast.driver.carried import foreseen
from spt_fast.driver.estimates import lengths_of, measured, stopped_share
from spt_fast.driver.stopping import GridStopping
from spt_fast.executors import LOCAL, open_executor
from spt_fast.executors.scheduled import runs_on
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.report.costs import money
from spt_fast.scheduling import checkpoint, outlook
from spt_fast.scheduling.estimates import Estimates, Seconds
from spt_fast.scheduling.messages import Resources
from spt_fast.store import Store
from spt_fast.store.reuse import reusable

LONG_S = 1800.0
"""A grid that takes longer than this on one machine is worth a cluster."""


def dry_run(config: GridConfig, only: Mapping[str, str], *, fresh: bool, address: str = LOCAL) -> str:
    """What `run` would do, as text.

    Raises:
        ConfigError: the request is wrong, or there is no cluster at `address`.
    """
    cells = plan.expand(config)
    chosen = plan.select(cells, only) if only else cells
    plan.require_usable(chosen)
    store = Store(config.folder)
    done = store.done()
    reused = [] if fresh else reusable(config, store, cells)
    kept = set() if fresh else done.union(*(each.done for each in reused))
    if config.stop is not None and not fresh:
        kept |= GridStopping(config, cells, store).enough(store)
    forgotten = {key for cell in chosen for key in cell.keys} if fresh else set()
    there_already = (cell for cell in cells if cell.key in kept)
    stages = foreseen(plan.stages(chosen, kept), store, there_already, forgotten=forgotten)
    missing = [cell for cell in chosen if cell.key not in kept]
    lines = [f"{len(chosen)} cells, {len(chosen) - len(missing)} done, {len(missing)} to do; run folder {store.root}"]
    lines += [f"{each.what} would be reused from {each.source.root}" for each in reused]
    there = {cell.key: cell for cell in cells}
    known = {store: done & there.keys(), **{each.source: each.done & there.keys() for each in reused}}
    with closing(open_executor(address, store.log, needs=[stage.model.gpus for stage in stages])) as executor:
        nodes, gpu = runs_on(executor)
    estimates = Estimates(measured(cells, known), gpu=gpu, lengths=lengths_of(missing, store))
    for stage in stages:
        adapters = len({cell.tuning_key for cell in stage.cells if cell.protocol.attaches == "adapter"})
        learn = len(estimates.trainings(stage)) - adapters
        beside = f", {adapters} LoRA adapters" if adapters else ""
        device = counted(stage.model.gpus) if gpu else "the CPU"
        seconds = estimates.stage(stage)
        takes = f"about {spoken(seconds.total_s)} on {device}"
        lines.append(f"\n{stage.model.name}: {len(stage.cells)} cells, {learn} soft prompts{beside} to train, {takes}")
        lines.append(f"  {_phases(seconds)}")
        if stage.model.unresolved:
            lines.append(f"  will fail: {stage.model.unresolved}")
        lines += [f"  {cell.key}  {cell.task.name} · {_how(cell)}" for cell in stage.cells]
    judge = next((cell.judge for cell in missing if cell.judge), None)
    if judge is not None:
        ruled = sum(cell.judge is not None for cell in missing)
        lines.append(f"\n{judge.model.name}: judges the completions of {ruled} cells")
    if (saved := plan.series.saved(stages)) is not None:
        cold = sum(sum(estimates.cold_trainings(stage).values()) for stage in stages)
        carried = sum(sum(estimates.trainings(stage, _carried(stage)).values()) for stage in stages)
        lines.append(f"\n{saved.in_words()}; training takes about {spoken(carried)}, against {spoken(cold)}")
    ahead = ahead_of(config, chosen, store, kept, forgotten=forgotten)
    if again := sum(len(stage.cells) for stage in ahead if stage.rerun):
        lines.append(f"\n{100 * config.rerun:g}% of the rows of {again} cells are rerun, to see which answers flip")
    if ahead:
        lines += _time(ahead, estimates, nodes, config.price, gpu=gpu, local=address == LOCAL)
    lines += _checkpoints(chosen, estimates, config.stop, None if fresh else stopped_share(cells, store))
    return "\n".join(lines)


def _checkpoints(
    cells: Sequence[Cell], estimates: Estimates, stop: StopConfig | None, stopped: tuple[float, int] | None
) -> list[str]:
    """What a checkpoint of each series takes from its beginning to its end: cold, carried, stopped."""
    least = None if stop is None else stop.least
    lines = []
    for series, stage in checkpoint.of_series(cells):
        if ways := checkpoint.reckoned(stage, estimates, least=least, stopped=stopped):
            lines.append(f"\na checkpoint of {series}, all {len(stage.cells)} cells:")
            lines += [f"  {way.how}: about {spoken(way.seconds.total_s)} ({_phases(way.seconds)})" for way in ways]
    return lines


def _carried(stage: Stage) -> list[Cell]:
    return [cell for cell in stage.cells if cell.key in stage.carried]


def _phases(seconds: Seconds) -> str:
    """Expected seconds by phase, in words."""
    phases = {"load": seconds.load_s, "train": seconds.train_s, "engine start": seconds.engine_s, "ask": seconds.answer_s}
    return ", ".join(f"{name} {spoken(found)}" for name, found in phases.items() if found)


def _how(cell: Cell) -> str:
    return cell.label if cell.seed is None else f"{cell.label} · seed {cell.seed}"


def _time(
    stages: Sequence[Stage],
    estimates: Estimates,
    nodes: Mapping[str, Resources] | None,
    price: PriceConfig | None,
    *,
    gpu: bool,
    local: bool,
) -> list[str]:
    """When it would be done, and what it would cost."""
    expected = outlook.expected(stages, estimates, nodes, gpu=gpu)
    where = _where(nodes, gpu=gpu, local=local)
    hours = f", {expected.gpu_hours:.1f} GPU-hours" if gpu else ""
    if price is not None:
        hours += f", {money(price, 3600 * (expected.gpu_hours if gpu else expected.worker_hours))}"
    lines = [f"\ntime: about {spoken(expected.seconds)} {where}{hours} ({estimates.basis})"]
    lines += [f"  cannot be run there: {sentence}" for sentence in expected.impossible]
    if gpu and local and expected.seconds > LONG_S:
        there = {n: outlook.on_cluster(stages, estimates, outlook.nodes_of_eight(n), gpu=True).seconds for n in (8, 64)}
        lines.append(f"  on a Ray cluster (--address): {', '.join(f'{n} GPUs {spoken(s)}' for n, s in there.items())}")
    return lines


def _where(nodes: Mapping[str, Resources] | None, *, gpu: bool, local: bool) -> str:
    """What it would be done on, in words."""
    if nodes is None:
        return "on this machine, one model after the other"
    gpus = sum(node.get("GPU", 0.0) for node in nodes.values())
    if local:
        return f"on the {gpus:g} GPUs of this machine"
    there = f"{len(nodes)} node{'s' * (len(nodes) != 1)}"
    return f"on {there} with {counted(gpus)}" if gpu and gpus else f"on {there}"
