"""What a 7B checkpoint with twelve tasks costs on one H200, reckoned: the tables of docs/three-minutes.md.

    python benchmarks/budget/budget.py

Nothing here was measured on a GPU. Counts are of real rows on a CPU, which a GPU does not change; rates are published ones, or
shares of what the device is said to have, and each says where it is from. A test holds the page equal to what this prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.harness import ROOT

PAGE = ROOT / "docs" / "three-minutes.md"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a task asks of an engine, counted on 60 test rows and, of closed-ended tasks, 60 rows to choose by.

    gemma-3-270m behind a soft prompt of 80 updates (docs/real.md), from the costs of its cells.
    """

    options: int
    """0: open-ended."""
    requests: int
    read: int
    """Prompt tokens and soft positions that were not in the cache."""
    scored: int
    """Tokens of options."""
    written: int
    taught: int
    """Positions of 80 updates: prompts, answers and vectors of 640 tuning rows."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The same of so many rows."""

    requests: float = 0.0
    read: float = 0.0
    forced: float = 0.0
    """Tokens that are written, or that the engine is made to write."""

    def __add__(self, other: Asked) -> Asked:
        return Asked(requests=self.requests + other.requests, read=self.read + other.read, forced=self.forced + other.forced)


ROWS = 60
UPDATES = 80
CHOOSING = 64
"""Most rows to choose by (`spt_fast.tasks.rows.CHOOSING_ROWS`)."""
COUNTED = {
    "arc_easy": Counted(options=4, requests=1483, read=29_246, scored=6_987, written=424, taught=64_565),
    "mmlu": Counted(options=4, requests=1468, read=41_013, scored=12_551, written=762, taught=102_396),
    "piqa": Counted(options=2, requests=708, read=19_102, scored=14_769, written=1_612, taught=87_203),
    "boolq": Counted(options=2, requests=494, read=32_162, scored=434, written=120, taught=115_196),
    "squad": Counted(options=0, requests=60, read=6_425, scored=0, written=229, taught=126_470),
    "triviaqa": Counted(options=0, requests=60, read=2_148, scored=0, written=335, taught=45_605),
    "gsm8k": Counted(options=0, requests=60, read=4_186, scored=0, written=14_192, taught=126_188),
}
TASKS = {
    **{name: name for name in COUNTED},
    "arc_challenge": "arc_easy",
    "openbookqa": "arc_easy",
    "hellaswag": "mmlu",
    "nq_open": "triviaqa",
    "drop": "squad",
}
"""Twelve tasks; five that were not counted are taken as like one that was."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the machine does. `SOURCES` says where each is from."""

    parameters: float = 7.3e9
    read_gb_s: float = 4.0
    engine_s: float = 34.0
    proofs_s: float = 2.0
    operations_s: float = 989e12
    train_share: float = 0.4
    update_s: float = 0.05
    prefill_share: float = 0.4
    written_s: float = 12_500.0
    request_s: float = 0.0015

    @property
    def weights_gb(self) -> float:
        """In bf16."""
        return 2 * self.parameters / 1e9


SOURCES = {
    "parameters": ("7.3 billion, 14.6 GB in bf16", "OLMo 2 7B's model card"),
    "read_gb_s": ("4 GB/s of weights from the page cache to the GPU", "vllm-project/vllm#20264: 3.4 GiB in 0.7 to 0.9 s"),
    "engine_s": (
        "34 s of engine start beside its weights, with compiled graphs at hand",
        "the same: 7.5 s of tracing, 17 s of CUDA graphs",
    ),
    "proofs_s": ("2 s of proving the fast ways equal, at each start", "a guess from the CPU's"),
    "operations_s": ("989 TFLOP/s dense in bf16", "NVIDIA's H200 data sheet"),
    "train_share": ("0.4 of it in training", "0.72 of a matrix product measured on a CPU; `doctor --gpu` wants 0.5"),
    "update_s": ("0.05 s at least an update", "`spt_fast/scheduling/estimates.py`"),
    "prefill_share": ("0.4 of it in reading prompts", "a guess"),
    "written_s": (
        "12,500 tokens/s written",
        "Llama 3.1 8B on one H100; a weak source, and an H200 has 1.4 times its bandwidth",
    ),
    "request_s": ("1.5 ms of the host a request", "measured with the zoo's models on 2 CPU cores, model included"),
}
"""Rate -> in words, and where it is from."""


def asked(task: Counted, rows: float, choosing: float) -> Asked:
    """What so many rows ask, from what 60 did.

    A completion a test row; each option listed, by cloze and behind the bare cue; of rows to choose by, no completion. Of an
    open-ended task the gold answer's likelihood, which was not counted yet: a request more, and its tokens as those written.
    """
    if not task.options:
        share = rows / ROWS
        return Asked(requests=2 * task.requests * share, read=task.read * share, forced=(task.written + 10 * ROWS) * share)
    share = (rows + choosing) / (2 * ROWS)
    return Asked(
        requests=rows + (task.requests - ROWS) * share,
        read=task.read * share,
        forced=task.scored * share + task.written * rows / ROWS,
    )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Seconds by phase."""

    load: float
    train: float
    engine: float
    ask: float

    @property
    def total(self) -> float:
        """One phase behind the other."""
        return self.load + self.train + self.engine + self.ask


def budget(rates: Rates, *, updates: int, rows: float) -> Budget:
    """Seconds of a checkpoint.

    Args:
        rates: of the machine.
        updates: of each soft prompt.
        rows: asked of each task.
    """
    kinds = [COUNTED[like] for like in TASKS.values()]
    lessons = sum(updates / UPDATES * kind.taught for kind in kinds)
    train = 4 * rates.parameters * lessons / (rates.train_share * rates.operations_s) + len(kinds) * updates * rates.update_s
    all_asked = sum((asked(kind, rows, min(CHOOSING, rows)) for kind in kinds), Asked())
    read = 2 * rates.parameters * all_asked.read / (rates.prefill_share * rates.operations_s)
    weights = rates.weights_gb / rates.read_gb_s
    return Budget(
        load=weights,
        train=train,
        engine=weights + rates.engine_s + rates.proofs_s,
        ask=read + all_asked.forced / rates.written_s + all_asked.requests * rates.request_s,
    )


STOPPED, EACH = 0.34, 0.94
"""Shares of the rows that are asked on a night without a change, by benchmarks/series/stopping.py with 2 points allowed: of a
mean over the tasks, as of 5,000 rows of which 10 % flip by chance; of each task by itself, as of 500 of which 4 % do."""
ROWS_OF_A_TASK = 500
WAYS: dict[str, tuple[int, float]] = {
    "cold, 80 updates, all rows": (80, ROWS_OF_A_TASK),
    "carried, 10 updates, all rows": (10, ROWS_OF_A_TASK),
    f"carried, stopped when each task is decided: {100 * EACH:.0f} % of the rows": (10, ROWS_OF_A_TASK * EACH),
    f"carried, stopped when the mean over tasks is decided: {100 * STOPPED:.0f} % of the rows": (10, ROWS_OF_A_TASK * STOPPED),
}
"""What a checkpoint is done like -> updates, and rows of each task."""
NETWORK = "weights from a network file system at 1 GB/s, the second time from the page cache"
BREAKS: dict[str, tuple[Rates, float]] = {
    "nothing": (Rates(), 1.0),
    NETWORK: (Rates(), 1.0),
    "an architecture that is compiled for the first time (25 s more, vllm-project/vllm#11005)": (Rates(engine_s=59.0), 1.0),
    "a host half as fast (3 ms a request)": (Rates(request_s=0.003), 1.0),
    "half the rates of training, reading and writing": (Rates(train_share=0.2, prefill_share=0.2, written_s=6_250.0), 1.0),
    "a host half as fast, and half these rates": (
        Rates(train_share=0.2, prefill_share=0.2, written_s=6_250.0, request_s=0.003),
        1.0,
    ),
    "each task is to be decided": (Rates(), EACH / STOPPED),
    "nothing stops": (Rates(), 1 / STOPPED),
}
"""What would break it -> the rates, and how many times the rows."""


def ways() -> str:
    """The table of ways to run."""
    lines = ["| a checkpoint | load | train | engine start | ask | all |", "|---|---|---|---|---|---|"]
    for name, (updates, rows) in WAYS.items():
        lines.append(_line(name, budget(Rates(), updates=updates, rows=rows)))
    return "\n".join(lines)


def breaks() -> str:
    """The table of what would break it, where the mean over tasks stops."""
    lines = ["| what is otherwise | load | train | engine start | ask | all |", "|---|---|---|---|---|---|"]
    for name, (rates, times) in BREAKS.items():
        found = budget(rates, updates=10, rows=STOPPED * ROWS_OF_A_TASK * times)
        if name == NETWORK:
            found = replace(found, load=rates.weights_gb / 1.0)
        lines.append(_line(name, found))
    return "\n".join(lines)


def most_rows(seconds: float) -> int:
    """Rows of each task that a carried checkpoint has time for, where nothing stops."""
    return max(rows for rows in range(1, 10_000) if budget(Rates(), updates=10, rows=rows).total <= seconds)


def rates() -> str:
    """The table of what it rests on."""
    lines = ["| rate | from |", "|---|---|"]
    return "\n".join([*lines, *(f"| {words} | {source} |" for words, source in SOURCES.values())])


def _line(name: str, found: Budget) -> str:
    cells = (found.load, found.train, found.engine, found.ask, found.total)
    return f"| {name} | {' | '.join(f'{seconds:.0f} s' for seconds in cells)} |"


def with_tables(text: str) -> str:
    """A page with these tables between its markers."""
    for name, made in (("ways", ways()), ("breaks", breaks()), ("rates", rates())):
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{made}\n{end}{rest.partition(end)[2]}"
    return text


def main(arguments: Sequence[str] = ()) -> None:
    """Write the tables into the page."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(ways(), breaks(), sep="\n\n")


if __name__ == "__main__":
    main()
