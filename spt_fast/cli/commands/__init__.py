"""The verbs, a module a subject. Each reads its arguments, calls one function, and says what came of it.

Nothing heavy is imported before a verb needs it: what a verb calls is imported inside of it.
"""

from __future__ import annotations

from spt_fast.cli.commands import export, grids, lm_eval, machine, models, scores, tasks, watching, zoo

VERBS = (
    *(grids.run, grids.init, grids.schema, grids.check, watching.watch),
    *(scores.status, scores.report, scores.rank, scores.compare, scores.gate, export.export),
    *(models.tune, models.inspect, tasks.tasks, lm_eval.lm_eval, zoo.zoo, models.verify, machine.doctor),
)
"""In the order of the reference."""
