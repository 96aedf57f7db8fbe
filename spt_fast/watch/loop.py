"""Look for checkpoints, judge those that are whole and not judged yet, tell of them; wait; look again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from spt_fast.config.output import Location
from spt_fast.errors import FolderGoneError, SptError
from spt_fast.models.hub import natural
from spt_fast.models.identity import fingerprint
from spt_fast.models.whole import lacking, signature
from spt_fast.report.folder import refresh
from spt_fast.watch.night import Night
from spt_fast.watch.notify import Target
from spt_fast.watch.verdict import Verdict

Wait = Callable[[], bool]
"""Waits for the time of the next look; False: there is none."""


def every(seconds: float) -> Wait:
    """Look so often. The one place that waits."""

    def wait() -> bool:
        time.sleep(seconds)
        return True

    return wait


def once() -> bool:
    """Look once."""
    return False


class Watch:
    """One watch over one series."""

    def __init__(
        self,
        night: Night,
        targets: Sequence[Target] = (),
        *,
        show: Callable[[Verdict], None],
        report: Callable[[Location], object] = refresh,
    ) -> None:
        """
        Args:
            night: judges a checkpoint.
            targets: who is told.
            show: is shown each verdict when it is kept.
            report: writes the report of the run folder.
        """
        self._report = report
        self._night = night
        self._targets = targets
        self._show = show
        self._known: dict[str, str] = {}
        """Folder -> signature under which it need not be looked at again, beside what verdicts say."""
        self._told: set[tuple[str, str]] = set()
        """What was said and need not be said again."""

    def run(self, wait: Wait) -> list[Verdict]:
        """Look until there is nothing to wait for; the verdicts.

        Raises:
            SptError: at the last look something failed that is no fault of a checkpoint.
            FolderGoneError: the run folder was removed.
            Interrupted: Ctrl-C during an evaluation.
        """
        found: list[Verdict] = []
        if self._night.store.verdicts.numbers():
            changed = self._night.changed_policy()
            if changed is not None:
                self._night.say(changed)
            self._write_report()  # a kill may have come between a verdict and its report
        self._tell()
        while True:
            error: SptError | None = None
            try:
                while new := self.look():
                    found += new
            except FolderGoneError:
                raise
            except SptError as e:
                error = e
                self._say_once("", f"{e}; it is tried again at the next look")
            if not wait():
                if error is not None:
                    raise error
                return found

    def look(self) -> list[Verdict]:
        """Judge the checkpoints that are whole and not judged yet, in natural order; their verdicts.

        Raises:
            SptError: something failed that is no fault of a checkpoint.
        """
        found = []
        verdicts = self._night.verdicts
        for folder in self._night.pattern.found():
            verdict = self._take(folder, verdicts)
            if verdict is not None:
                found.append(verdict)
                self._keep(verdict)
                verdicts = {**verdicts, verdict.folder: verdict}
        self._tell()
        return found

    def _take(self, folder: Path, verdicts: Mapping[str, Verdict]) -> Verdict | None:
        try:
            seen = signature(folder)
        except OSError:
            return None  # it went away
        known = verdicts.get(str(folder))
        if known is not None and not self._night.is_judged(known):
            known = None
        if seen == self._known.get(str(folder)) or (known is not None and known.signature == seen):
            return None
        why = lacking(folder)
        if why is not None:
            return self._wait_for(folder, why, verdicts)
        if known is not None and _fingerprint(folder) == known.fingerprint:  # copied, or touched
            self._known[str(folder)] = seen
            return None
        return self._night.judge(folder)

    def _wait_for(self, folder: Path, why: str, verdicts: Mapping[str, Verdict]) -> Verdict | None:
        """A checkpoint that is not whole: it is being written, unless a later one has been judged."""
        later = self._later(folder, verdicts)
        if later is None:
            self._say_once(str(folder), f"waiting for {self._night.pattern.name(folder)}: {why}")
        return None if later is None or str(folder) in verdicts else self._night.not_whole(folder, why, later)

    def _later(self, folder: Path, verdicts: Mapping[str, Verdict]) -> str | None:
        """A checkpoint behind this one that was evaluated."""
        own, name = natural(self._night.pattern.name(folder)), self._night.pattern.name
        evaluated = (each for each in verdicts.values() if each.is_evaluated)
        return next((each.checkpoint for each in evaluated if natural(name(Path(each.folder))) > own), None)

    def _keep(self, verdict: Verdict) -> None:
        self._night.store.verdicts.put(verdict.plain)
        self._show(verdict)
        self._write_report()
        self._tell()

    def _write_report(self) -> None:
        if self._night.store.done():
            self._report(self._night.store.root)

    def _tell(self) -> None:
        """Tell the verdicts that nobody was told of. What fails is tried again at the next look."""
        store = self._night.store
        waiting = set(store.verdicts.untold())
        failures = 0
        for verdict in store.verdicts.read() if waiting else ():
            number = verdict["number"]
            if number not in waiting or failures >= _MOST_FAILURES:
                continue
            reasons = [(target, why) for target in self._targets if (why := target.tell(verdict)) is not None]
            for target, why in reasons:
                self._say_once(target.given, f"--notify {target.name}: {why}; it is told again at the next look")
            if reasons:
                failures += 1
            else:
                self._told -= {told for told in self._told if told[0] in {target.given for target in self._targets}}
                store.verdicts.tell(number)

    def _say_once(self, about: str, said: str) -> None:
        if (about, said) not in self._told:
            if about:
                self._told = {told for told in self._told if told[0] != about}
            self._told.add((about, said))
            self._night.say(said)


_MOST_FAILURES = 2
"""Verdicts that could not be told after which the rest waits for the next look: each may take as long as a target has."""


def _fingerprint(folder: Path) -> str:
    try:
        return fingerprint(folder)
    except (SptError, OSError):
        return ""
