"""How often is the onset of a fault right, and how often is one seen where there is none, when checkpoints are noisy?

Series of twelve checkpoints in a simulation: four tasks of 500 rows, of which 6 % flip by chance between any two checkpoints.
Beside that, what is true of a checkpoint moves by so many points (standard deviation), in each task by itself or in all
together: another order of the corpus, another start. Knowledge is followed at its share of the level, as in a report.

* no fault, the truth flat or rising: `alarms_at_the_end` is how often something is said to have fallen at the last checkpoint,
  `alarms_at_any` at any; wanted is at most 1 of 20 at the end;
* a fall of so many points from checkpoint `at` on: `right`, how often it is found there, and `found`, anywhere. The rest stays
  undecided, or is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Ratio
from spt_fast.analysis.onset import ALPHA, Trajectory, alarms, follow
from spt_fast.analysis.series import KNOWLEDGE_SHARE
from spt_fast.scoring.sequential import Floats

CHECKPOINTS, TASKS, ROWS, FLIPS = 12, 4, 500, 0.06
LEVEL, RISE = 0.5, 0.02
NOISE = ((0.0, 0.0), (0.01, 0.0), (0.02, 0.0), (0.0, 0.01))
"""Of each task by itself, and of all tasks together."""
FAULTS = ((0.03, 7), (0.05, 7), (0.03, 12), (0.05, 12))
WANTED = 0.05


def drawn(generator: np.random.Generator, means: Sequence[float]) -> Floats:
    """`[T, 1, N]` verdicts of the same rows, a mean a checkpoint."""
    hardness, found = generator.random(ROWS), []
    for mean in means:
        right = hardness < mean
        odds = np.where(right, FLIPS / 4 / max(mean, 0.02), FLIPS / 4 / max(1 - mean, 0.02))
        found.append(right ^ (generator.random(ROWS) < odds))
    return np.stack(found)[:, None].astype(float)


def series(generator: np.random.Generator, means: Floats, noise: tuple[float, float]) -> Trajectory:
    """One series whose true means are these, moved by noise."""
    alone, together = noise
    shared = generator.normal(0, together, CHECKPOINTS)
    moved = [np.clip(means + shared + generator.normal(0, alone, CHECKPOINTS), 0.01, 0.99) for _ in range(TASKS)]
    return Trajectory(
        values=[drawn(generator, each.tolist()) for each in moved], clusters=[np.arange(ROWS) for _ in range(TASKS)]
    )


def truth(*, rise: float = 0.0, fall: float = 0.0, at: int = 1) -> Floats:
    """What is true of each checkpoint: it rises until the sixth, and is lower from checkpoint `at` on."""
    numbers = np.arange(1, CHECKPOINTS + 1)
    means: Floats = LEVEL + rise * np.minimum(numbers - 1, 5) - fall * (numbers >= at)
    return means


def healthy(count: int, noise: tuple[float, float], rise: float) -> dict[str, Any]:
    """Series without a fault."""
    generator = np.random.default_rng((1, int(1000 * noise[0]), int(1000 * noise[1]), int(1000 * rise)))
    looks = [alarms(series(generator, truth(rise=rise), noise), alpha=ALPHA * KNOWLEDGE_SHARE) for _ in range(count)]
    at_end = float(np.mean([CHECKPOINTS - 1 in each for each in looks]))
    return {
        "rise_points": 100 * rise,
        "alarms_at_the_end": at_end,
        "alarms_at_any": float(np.mean([bool(each) for each in looks])),
    }


def faulty(count: int, noise: tuple[float, float], fall: float, at: int) -> dict[str, Any]:
    """Series with a fault."""
    generator = np.random.default_rng((2, int(1000 * noise[0]), int(1000 * noise[1]), int(1000 * fall), at))
    means = truth(rise=RISE, fall=fall, at=at)
    courses = [follow(series(generator, means, noise), alpha=ALPHA * KNOWLEDGE_SHARE) for _ in range(count)]
    fell = [each.first for each in courses if each.state == "fell"]
    return {"fall_points": 100 * fall, "at": at, "right": fell.count(at - 1) / count, "found": len(fell) / count}


def simulated(count: int, noises: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """A line for each kind of series."""
    found: list[dict[str, Any]] = []
    for noise in noises:
        about = {"noise_in_each_task_points": 100 * noise[0], "noise_in_all_points": 100 * noise[1], "series": count}
        found += [{**about, **healthy(count, noise, rise)} for rise in (0.0, RISE)]
        found += [{**about, **faulty(count, noise, *fault)} for fault in FAULTS]
    return found


def ratios(lines: Sequence[dict[str, Any]]) -> list[Ratio]:
    """False alarms by noise, at the worst."""
    worst: dict[str, float] = {}
    for line in lines:
        if "alarms_at_the_end" in line:
            alone, together = line["noise_in_each_task_points"], line["noise_in_all_points"]
            noise = f"{together:g} points in all tasks together" if together else f"{alone:g} points in each task"
            worst[noise] = max(worst.get(noise, 0.0), line["alarms_at_the_end"])
    return [
        Ratio(what=f"false alarms at the last checkpoint, noise of {noise}", against="all series", value=value, at_most=WANTED)
        for noise, value in worst.items()
    ]


def main() -> None:
    """Simulate the series."""
    benchmark = Benchmark("alarms", __doc__, smoke="two series of each kind, without noise", packages=("numpy", "scipy"))
    benchmark.parser.add_argument("--series", type=int, default=300)
    arguments = benchmark.start()
    lines = simulated(2, NOISE[:1]) if arguments.smoke else simulated(arguments.series, NOISE)
    shape = {"checkpoints": CHECKPOINTS, "tasks": TASKS, "rows": ROWS, "flips": FLIPS, "rise_points": 100 * RISE}
    benchmark.end({**shape, "series": lines}, ratios=ratios(lines))


if __name__ == "__main__":
    main()
