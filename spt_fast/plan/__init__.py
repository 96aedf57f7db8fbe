"""Grid -> cells -> stages: what there is to do, grouped by model, less what the run folder holds."""

from spt_fast.plan.expansion import expand, form_of, require_usable, select
from spt_fast.plan.labels import settings_in_use
from spt_fast.plan.stage import MOST_DEATHS, MOST_JUDGED, UNLIMITED, Stage, judging, one_by_one, rerunning, stages, voting

__all__ = [
    "MOST_DEATHS",
    "MOST_JUDGED",
    "UNLIMITED",
    "Stage",
    "expand",
    "form_of",
    "judging",
    "one_by_one",
    "require_usable",
    "rerunning",
    "select",
    "settings_in_use",
    "stages",
    "voting",
]
