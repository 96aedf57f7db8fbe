"""One checkpoint: evaluated as the next of its series, held against the last accepted one, and what is said of it."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spt_fast.analysis.faults import Told, tell_series
from spt_fast.analysis.gate import Check, Gate, Policy, gate_runs
from spt_fast.analysis.plain import plain_values
from spt_fast.analysis.runs import read_run
from spt_fast.config import GridConfig
from spt_fast.config.output import joined
from spt_fast.config.protocols import protocol_of
from spt_fast.driver.result import GridResult
from spt_fast.errors import ConfigError
from spt_fast.models.hub import natural
from spt_fast.models.identity import Model, fingerprint, resolve
from spt_fast.models.whole import signature
from spt_fast.scoring.metrics import FORMAT, KNOWLEDGE
from spt_fast.store import Store
from spt_fast.store.layout import VERDICTS
from spt_fast.watch.checkpoints import Pattern
from spt_fast.watch.verdict import Kind, Verdict, digest, id_of, verdict_of

Evaluate = Callable[[GridConfig, str, str | None], GridResult]
"""A grid, the series that its model is the next of, what it is held against -> where it stands."""
ALLOWED = 0.02
"""The drop that is allowed where no policy says another: two points."""


def default_policy(labels: Sequence[str]) -> Policy:
    """What holds where there is no policy: neither knowledge nor the form may drop by two points in the mean over tasks.

    Behind soft prompts, where a grid has them: plainly asked, the form of a base model comes and goes.

    Args:
        labels: of the grid's protocols.
    """
    treatments = tuple(label for label in labels if protocol_of(label).is_treatment)
    checks = (
        Check(
            metric=metric,
            largest_drop=ALLOWED,
            over="mean",
            protocols=tuple(glob.escape(each) for each in treatments) or ("*",),
        )
        for metric in (KNOWLEDGE, FORMAT)
    )
    return Policy(checks=tuple(checks))


@dataclass(frozen=True, kw_only=True)
class Night:
    """What checkpoints are evaluated on, and held to."""

    config: GridConfig
    """With one model, whose settings are those of all checkpoints."""
    pattern: Pattern
    policy: Policy
    store: Store
    evaluate: Evaluate
    say: Callable[[str], None]
    accept_undecided: bool = False

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Of this series, by the folder of the checkpoint: of each the last one.

        Raises:
            StoreError: one is damaged.
        """
        found = map(verdict_of, self.store.verdicts.read())
        return {each.folder: each for each in found if each.series == self.pattern.series}

    def is_judged(self, verdict: Verdict) -> bool:
        """Whether what was said of a checkpoint stays, as long as its weights are the same."""
        return not verdict.is_outdated(digest(self.policy))

    def changed_policy(self) -> str | None:
        """What is to be said where earlier verdicts were reached by another policy, and none by this one yet.

        Raises:
            StoreError: a verdict is damaged.
        """
        reached = [
            (verdict_of(each), each["number"])
            for each in self.store.verdicts.read()
            if each.get("series") == self.pattern.series
        ]
        reached = [(verdict, number) for verdict, number in reached if verdict.is_of_policy and verdict.policy]
        if not reached or reached[-1][0].policy == digest(self.policy):
            return None
        file = joined(self.store.root, f"{VERDICTS}/{reached[-1][1]:05d}.json")
        stay = "the policy has changed: earlier verdicts stay as they were reached"
        return f"{stay}; to have one reached anew, remove its file, as {file}"

    def judge(self, folder: Path) -> Verdict | None:
        """Evaluate a whole checkpoint, and say what is to be said of it; None: it went away, or is still being written.

        Raises:
            SptError: what is no fault of the checkpoint.
            Interrupted: Ctrl-C.
        """
        seen, model, before = self._seen(folder), self._model(folder), self.verdicts
        if seen is None:
            return None
        if model.unresolved is not None:
            return self._said(model, folder, seen, verdict="broken", why=model.unresolved)
        others = (each for each in before.values() if each.is_evaluated and each.folder != str(folder))
        twin = next((each for each in others if each.fingerprint == model.fingerprint), None)
        if twin is not None:
            why = f"it has the weights of {twin.checkpoint}, which was judged: {twin.verdict}."
            return self._said(model, folder, seen, verdict="same", why=why, baseline=twin.checkpoint, twin=twin.verdict)
        baseline = self._baseline(model, before)
        result = self._evaluate(folder, baseline)
        if not self._is_as_before(folder, model):
            self.say(f"{model.name}: was written to while it was evaluated, so it is evaluated again")
            return None
        return self._judged(model, folder, seen, result, baseline)

    def not_whole(self, folder: Path, why: str, later: str) -> Verdict | None:
        """What is said of a checkpoint that is not whole although a later one has been judged already."""
        seen = self._seen(folder)
        if seen is None:
            return None
        model = Model(name=f"{folder.parent.name}/{folder.name}", source=str(folder), fingerprint=f"not whole:{seen}")
        told = f"{why}, and {later} has been judged already; it is judged when it is whole."
        return self._said(model, folder, seen, verdict="broken", why=told)

    def _evaluate(self, folder: Path, against: str | None) -> GridResult:
        """Ask a checkpoint no further than until its policy is decided, where the grid has `stop`; the first one whole."""
        config = self._grid(folder)
        return self.evaluate(config if against is not None else replace(config, stop=None), self.pattern.series, against)

    def _seen(self, folder: Path) -> str | None:
        try:
            return signature(folder)
        except OSError:
            return None

    def _grid(self, folder: Path) -> GridConfig:
        entry = replace(
            self.config.models[0],
            id=str(self.pattern.base),
            checkpoints=glob.escape(self.pattern.name(folder)),
            revision=None,
        )
        return replace(self.config, models=(entry,))

    def _model(self, folder: Path) -> Model:
        return resolve(self._grid(folder).models[0])[0]

    def _is_as_before(self, folder: Path, model: Model) -> bool:
        """Whether its weights are those that were evaluated; a checkpoint that was removed meanwhile has been evaluated."""
        try:
            return fingerprint(folder) == model.fingerprint
        except (ConfigError, OSError):
            return not folder.exists()

    def _baseline(self, model: Model, before: Mapping[str, Verdict]) -> str | None:
        """The last accepted checkpoint before it."""
        own = natural(model.name)
        accepted = [each.checkpoint for each in before.values() if each.accepted and natural(each.checkpoint) < own]
        return max(accepted, key=natural, default=None)

    def _judged(self, model: Model, folder: Path, seen: str, result: GridResult, baseline: str | None) -> Verdict:
        said = self._series_said()
        reason = next((failure.reason for failure in result.failures.values()), "")
        if result.failures and (baseline is None or len(result.failures) == len(result.cells)):
            why = f"{len(result.failures)} of {len(result.cells)} cells failed: {reason}"
            return self._said(model, folder, seen, verdict="broken", why=why)
        if baseline is None:
            why = "it is the first, and the next are held against it."
            return self._said(model, folder, seen, verdict="first", why=why, accepted=True, told=said)
        try:
            answer = self._gate(model.name, baseline)
            if answer.verdict == "undecided" and self._ask_rest(baseline):
                self._evaluate(folder, baseline)
                answer = self._gate(model.name, baseline)
        except ConfigError as e:  # a policy that fits no run: as long as it is not mended, nothing can be decided
            why = f"the policy cannot be applied: {e}"
            return self._said(model, folder, seen, verdict="undecided", why=why, baseline=baseline, told=said)
        return self._said(
            model,
            folder,
            seen,
            verdict=answer.verdict,
            why=_why(answer),
            accepted=answer.verdict == "pass" or (answer.verdict == "undecided" and self.accept_undecided),
            baseline=baseline,
            findings=plain_values(answer.findings),
            told=said,
        )

    def _gate(self, model: str, baseline: str) -> Gate:
        run = read_run(self.store.root)
        return gate_runs(run, run, self.policy, a_model=baseline, b_model=model)

    def _ask_rest(self, baseline: str) -> bool:
        """Ask the rest of an accepted checkpoint that was itself asked no further than needed; whether there was any, and its
        weights are still there."""
        folder = next(Path(each.folder) for each in self.verdicts.values() if each.checkpoint == baseline and each.accepted)
        model = self._model(folder)
        known = {each.fingerprint for each in self.verdicts.values() if each.checkpoint == baseline}
        if baseline not in {place.model for place in read_run(self.store.root).stopped} or model.fingerprint not in known:
            return False
        self.say(f"{baseline}: the rest of its rows is asked, because the next checkpoint is undecided on those that were")
        self._evaluate(folder, None)
        return True

    def _series_said(self) -> Told | None:
        found = tell_series(read_run(self.store.root)) if self.store.done() else []
        return next((told for told in found if told.series.name == self.pattern.series), None)

    def _said(
        self, model: Model, folder: Path, seen: str, *, verdict: Kind, why: str, told: Told | None = None, **more: Any
    ) -> Verdict:
        series, report = self.pattern.series, joined(self.store.root, "report.html")
        policy = digest(self.policy)
        about = {"fault": told.fault, "onset": told.onset_name, "sentence": told.sentence} if told is not None else {}
        baseline = more.get("baseline")
        against = f" against {baseline}" if baseline and verdict != "same" else ""
        text = f"{model.name}: {verdict.upper()}{against}: {why}"
        return Verdict(
            id=id_of(series, model.name, model.fingerprint, policy),
            checkpoint=model.name,
            verdict=verdict,
            why=why,
            text=f"{text} {told.sentence}" if told is not None and not told.is_unknown else text,
            series=series,
            folder=str(folder),
            run=str(self.store.root),
            report=report,
            steps=model.trained.get("steps"),
            tokens=model.trained.get("tokens"),
            fingerprint=model.fingerprint,
            signature=seen,
            policy=policy,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            **{"accepted": False, **about, **more},
        )


def _why(answer: Gate) -> str:
    """What decided, in a sentence."""
    deciding = [each for each in answer.findings if each.verdict == answer.verdict]
    if answer.verdict == "pass":  # the one that came nearest to what is allowed
        deciding.sort(key=lambda each: each.bounds.high / each.largest_drop, reverse=True)
    said = [f"{each.metric} ({each.protocol}, {each.task}): {each.why.rstrip('.')}" for each in deciding]
    more = f"; and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
    passed = f"{_ALL.get(len(said), f'all {len(said)} checks pass')}: " if answer.verdict == "pass" else ""
    return f"{passed}{'; '.join(said[:_MOST_SAID])}{more}."


_MOST_SAID = 1
"""Checks that a sentence names."""
_ALL = {1: "the check passes", 2: "both checks pass"}
