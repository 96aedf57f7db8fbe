"""What the scores say: orders of models, paired differences, and whether a new run may replace an old one.

    from spt_fast.analysis import compare_runs, gate_runs, load_policy, rank_run, read_run, tell_series

    before, after = read_run("runs/monday"), read_run("runs/tuesday")
    for each in rank_run(after).agreements:
        print(each.task, each.protocol, each.truth, each.agreement.tau_b, each.intervals["tau_b"]["all"])
    for each in compare_runs(before, after).moved:
        print(each.pair, each.metric, each.difference.change, each.difference.interval, each.p_holm)
    print(gate_runs(before, after, load_policy("policy.yaml")).verdict)
    for told in tell_series(after):
        print(told.fault, told.onset_name, told.sentence)

From the bottom up: `resampling`, `agreement` (two orders), `variance` (rows and seeds, apart), `paired` (the same rows twice);
`runs` and `scores` (run folders, plain tables); `draws` (scores with other rows and seeds) and `ranking`; `pairs` (what is held
against what), `likeness` (what else differs) and `compare`; `pooled` (several tasks as one), `watched` (rows that were asked
until it was decided) and `gate`; `onset` (when a metric fell), `checkpoint_noise` (what checkpoints differ by beside their
rows), `aligned` (their rows side by side), `series` (what is followed of a training run), `levels` (where stopped checkpoints
stand) and `faults` (the sentence). What they answer is in `ranking_types` and `compare_types`. Arrays are numpy's: `N` rows,
`S` seeds, `R` resamples, `n` models. `plain_values` makes JSON of any answer.

Decisions: a drop is allowed only where it is ruled out (`gate` tests non-inferiority; what cannot be compared is undecided,
never a pass). Paired differences have one interval, Tango's, with the design effect of passages and seeds, because it holds
its level where nothing flipped.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spt_fast.analysis.agreement import Agreement, Chance, agree, chance, swap_distribution
    from spt_fast.analysis.compare import compare_protocols, compare_runs, flips
    from spt_fast.analysis.compare_types import Compared, Comparison
    from spt_fast.analysis.faults import Told, tell_series
    from spt_fast.analysis.gate import Check, Gate, Policy, decide, gate_runs, load_policy
    from spt_fast.analysis.paired import PairedDifference, paired_difference
    from spt_fast.analysis.plain import plain_values
    from spt_fast.analysis.ranking import rank_run, rank_scores
    from spt_fast.analysis.ranking_types import Ranking
    from spt_fast.analysis.resampling import Interval
    from spt_fast.analysis.runs import Run, read_run
    from spt_fast.analysis.scores import ScoreTable, read_scores
    from spt_fast.analysis.series import Series, series_of
    from spt_fast.analysis.variance import ScoreError, SignalToNoise, clustered_stderr, detectable, score_error, signal_to_noise

_HOME = {
    "Agreement": "agreement",
    "Chance": "agreement",
    "Check": "gate",
    "Compared": "compare_types",
    "Comparison": "compare_types",
    "Gate": "gate",
    "Interval": "resampling",
    "PairedDifference": "paired",
    "Policy": "gate",
    "Ranking": "ranking_types",
    "Run": "runs",
    "ScoreError": "variance",
    "ScoreTable": "scores",
    "Series": "series",
    "SignalToNoise": "variance",
    "Told": "faults",
    "agree": "agreement",
    "chance": "agreement",
    "clustered_stderr": "variance",
    "compare_protocols": "compare",
    "compare_runs": "compare",
    "decide": "gate",
    "detectable": "variance",
    "flips": "compare",
    "gate_runs": "gate",
    "load_policy": "gate",
    "paired_difference": "paired",
    "plain_values": "plain",
    "rank_run": "ranking",
    "rank_scores": "ranking",
    "read_run": "runs",
    "read_scores": "scores",
    "score_error": "variance",
    "series_of": "series",
    "signal_to_noise": "variance",
    "swap_distribution": "agreement",
    "tell_series": "faults",
}
"""Where each name is: looked up when it is used, for who reads a run folder needs no scipy."""

__all__ = [
    "Agreement",
    "Chance",
    "Check",
    "Compared",
    "Comparison",
    "Gate",
    "Interval",
    "PairedDifference",
    "Policy",
    "Ranking",
    "Run",
    "ScoreError",
    "ScoreTable",
    "Series",
    "SignalToNoise",
    "Told",
    "agree",
    "chance",
    "clustered_stderr",
    "compare_protocols",
    "compare_runs",
    "decide",
    "detectable",
    "flips",
    "gate_runs",
    "load_policy",
    "paired_difference",
    "plain_values",
    "rank_run",
    "rank_scores",
    "read_run",
    "read_scores",
    "score_error",
    "series_of",
    "signal_to_noise",
    "swap_distribution",
    "tell_series",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
