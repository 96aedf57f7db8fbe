"""`status DIR`: where a run stands, also from another terminal while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from spt_fast.cli.progress import DOING, counted, spoken
from spt_fast.config import PriceConfig
from spt_fast.config.output import Location
from spt_fast.errors import DamagedError
from spt_fast.report.costs import money, price_of, sessions, unit
from spt_fast.store import Store, broken


def status_of(folder: Location) -> str:
    """Cells done, failed and left, what is being done now, and why cells failed.

    Raises:
        ConfigError: the folder is not a run folder.
    """
    store = Store(folder)
    resolved = store.resolved()
    names = ("model", "task", "protocol", "seed")
    cells = {
        key: " · ".join(str(cell[name]) for name in names if cell[name] is not None) for key, cell in resolved["cells"].items()
    }
    done, failures = store.done() & set(cells), store.failed()
    stopped = store.stopped.among(done) & set(cells)
    damaged = _damaged(store, [key for key in cells if key in done])
    why = {
        key: of
        for key, cell in resolved["cells"].items()
        if key not in done | stopped and (of := broken(key, cell, failures)) is not None
    }
    failed, done = set(why) | set(damaged), done - set(damaged)
    stopped -= failed
    left = len(cells) - len(done) - len(stopped) - len(failed)
    enough = f"{len(stopped)} stopped, " if stopped else ""
    lines = [f"{resolved['name']}: {len(cells)} cells: {len(done)} done, {enough}{len(failed)} failed, {left} left"]
    events, running = store.events(), store.in_use
    lines.append(_now(events, running=running, left=left, failed=len(failed)))
    lines += _engines(events)
    lines += [] if running else _became(events, price_of(resolved))
    reasons = damaged | {key: store.failure(of).reason for key, of in why.items()}
    lines += [f"FAILED  {cells[key]}: {reasons[key]}" for key in cells if key in failed]
    return "\n".join(line for line in lines if line)


def _damaged(store: Store, done: Sequence[str], most: int = 500) -> dict[str, str]:
    """What is wrong with done cells whose result.json is damaged or was changed, by key; of so many that it takes no time."""
    found: dict[str, str] = {}
    if len(done) <= most:
        for key, result in zip(done, store.results_or_damage(done), strict=True):
            if isinstance(result, DamagedError):
                found[key] = str(result)
    return found


def _now(events: list[dict[str, Any]], *, running: bool, left: int, failed: int) -> str:
    runs = [i for i, event in enumerate(events) if event["event"] == "run"]
    if not runs:
        return ""
    this = events[runs[-1] :]
    if not running:
        ended = {"end": "ended", "interrupted": "was interrupted"}.get(this[-1]["event"], "was killed")
        ago = spoken(max(0.0, time.time() - this[-1]["time"]))
        fix = "; run the grid again to go on" if left or failed else ""
        return f"the last run {ended} {ago} ago{fix}"
    took = time.time() - this[0]["time"]
    finished = sum(event["event"] in ("done", "stopped", "failed") for event in this)
    doing = "; ".join(_doing(this)) or "starting"
    pulse: dict[str, Any] = next((event for event in reversed(this) if event["event"] == "pulse"), {})
    in_flight = f", {pulse['running']} in flight" if pulse.get("running") else ""
    rest = f"{finished} of {this[0]['todo']} cells in this run{in_flight}{_left(this, pulse, took, finished)}"
    return "; ".join([f"running for {spoken(took)}", *_workers(this, pulse), doing, rest])


def _became(events: list[dict[str, Any]], price: PriceConfig | None) -> list[str]:
    """What the last run took, beside what it was expected to."""
    *_, last = (None, *sessions(events))
    if last is None:
        return []
    took = f"it took {_price_too(last.seconds, last.gpu_seconds, last.on_gpus, price)}"
    if last.expected is None:
        return [took]
    foreseen = _price_too(last.expected.seconds, last.expected.gpu_seconds, last.on_gpus, price)
    return [f"{took}; expected were {foreseen} ({last.expected.basis})"]


def _price_too(seconds: float, gpu_seconds: float, on_gpus: bool, price: PriceConfig | None) -> str:
    paid = "" if price is None else f", {money(price, gpu_seconds)}"
    return f"{spoken(seconds)}, {gpu_seconds / 3600:.2g} {unit(on_gpus)}-hours{paid}"


def _left(this: list[dict[str, Any]], pulse: dict[str, Any], took: float, finished: int) -> str:
    if "seconds_left" in pulse:
        return f", about {spoken(max(0.0, pulse['seconds_left'] - (time.time() - pulse['time'])))} left"
    return f", about {spoken(took / finished * (this[0]['todo'] - finished))} left" if finished else ""


def _workers(events: list[dict[str, Any]], pulse: dict[str, Any]) -> list[str]:
    """How many there are, on how many GPUs, and how fast they answer."""
    there: dict[tuple[str, int], float] = {}
    for event in events:
        if event["event"] == "worker":
            there[event["model"], event["worker"]] = event["gpus"]
        elif event["event"] == "ended":
            there.pop((event["model"], event["worker"]), None)
    gpus = sum(there.values())
    found = [f"{len(there)} worker{'s' * (len(there) != 1)}{f' on {counted(gpus)}' if gpus else ''}"]
    return [*found, f"{pulse['requests_per_s']:.0f} requests/s"] if pulse.get("requests_per_s") else found


def _engines(events: list[dict[str, Any]], most: int = 4) -> list[str]:
    """How the engines of the last run went about it, and how that proved right, model by model."""
    runs = [i for i, event in enumerate(events) if event["event"] == "run"]
    told = {
        event["model"]: f"{event['model']}: {event['note']}"
        for event in events[runs[-1] if runs else 0 :]
        if event["event"] == "phase" and event["phase"] in ("evaluate", "judge", "rerun") and event.get("note")
    }
    return list(told.values())[-most:]


def _doing(events: list[dict[str, Any]], most: int = 4) -> list[str]:
    """What each model is at; several are on a cluster."""
    phases: dict[tuple[str, int], str] = {}
    for event in events:
        if event["event"] == "phase":
            phases[event["model"], event.get("worker", 0)] = event["phase"]
        elif event["event"] == "worker":
            phases.pop((event["model"], 0), None)  # it waits no longer
        elif event["event"] == "ended":
            phases.pop((event["model"], event.get("worker", 0)), None)
    shown = list(dict.fromkeys(f"{model}: {DOING.get(phase, phase)}" for (model, _), phase in phases.items()))
    return [*shown[:most], *([f"{len(shown) - most} more"] if len(shown) > most else [])]
