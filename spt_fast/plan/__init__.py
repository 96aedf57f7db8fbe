"""Grid -> cells -> stages: what there is to do, grouped by model, less what the run folder holds.

Decisions:

* Engine settings are part of a cell's cache key, but for those that only change speed (`cell.SPEED_ONLY`). Library versions
  are recorded with each result and are not: an upgrade does not throw results away; `--fresh` does.
* `tensor_parallel`, `pipeline_parallel`, `gpus`, `weight_bytes`, `parameters` and `series` of a model are in no key: where
  it runs changes no result. Settings that grids did not always have are in no key at their default.
* A judged cell rests on its unjudged twin (`Cell.unjudged`), so models are not asked again because a judge came or changed.
* An ensemble rests on its members (`Cell.members`), soft-prompt cells of their own. The vote is counted in the driver, so
  more members later cost only themselves. Members without a readable answer abstain; equal votes go to the lowest member.
* Vectors are trained once for all cells that need them (`Cell.tuning_key`): a transfer shares with its source, and 80 steps
  with 120 where the rate does not depend on the end (`looks_ahead`: a schedule or an early stop does).
* What is carried along a series (`init_from: previous`) is "so many steps from a start": its key has these words and the
  settings, and not what the start was, so that nothing is done again when an early checkpoint is deleted. The cells of a
  series that hand it on are a thread (`Cell.thread`); what each really started from stands with its vectors.
* Zero-shot has no seed: greedy answers to the same prompts are the same.
* A rerun is a stage of its own, of cells that are done (`Stage.rerun`), in an engine started anew: what flips an answer is
  what shares its batch. Only rerun.json comes of it.
"""

from spt_fast.plan import series
from spt_fast.plan.expansion import as_series, expand, form_of, require_usable, select, wrong_entries
from spt_fast.plan.grouping import MOST_DEATHS, MOST_JUDGED, UNLIMITED, judging, one_by_one, rerunning, stages, voting
from spt_fast.plan.labels import settings_in_use
from spt_fast.plan.stage import Stage

__all__ = [
    "MOST_DEATHS",
    "MOST_JUDGED",
    "UNLIMITED",
    "Stage",
    "as_series",
    "expand",
    "form_of",
    "judging",
    "one_by_one",
    "require_usable",
    "rerunning",
    "select",
    "series",
    "settings_in_use",
    "stages",
    "voting",
    "wrong_entries",
]
