"""A night on a cluster in a few seconds: the scheduler with time, nodes and workers made up.

What `--dry-run` goes by, and what shows how good the scheduler is.

    world      nodes, and what workers have of them
    worker     what a worker does: load, train the vectors of all its cells, start an engine, evaluate
    troubles   what goes wrong, and how often
    outcome    what a simulated run came to, and what no schedule can beat
    run        the run: what workers tell comes a little later, and not at all if they are lost by then
"""

from spt_fast.scheduling.simulation.outcome import Outcome, lower_bound
from spt_fast.scheduling.simulation.run import simulate
from spt_fast.scheduling.simulation.troubles import Troubles, realised

__all__ = ["Outcome", "Troubles", "lower_bound", "realised", "simulate"]
