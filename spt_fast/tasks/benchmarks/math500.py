r"""MATH-500 (arXiv 2103.03874, 2305.20050): competition mathematics, worked out and ended by "Answer: \boxed{X}"."""

from __future__ import annotations

from spt_fast.tasks.answers.latex import BOXED_FORM, BOXED_FORMAT, accepts, all_boxed, math_answer, unboxed
from spt_fast.tasks.base import HubSource, LeftOut, Row, Task, row_key
from spt_fast.tasks.columns import NO_ANSWER, as_text, group_of, is_missing, one_line, question_in, text
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    r"""`problem`, `solution`; of MATH-500 `answer` and `subject`; of MATH, whose answer is in a `\boxed{}`, `type`.

    Left out: rows without `answer` whose solution has no box, or several that differ: results on the way, or answers in parts.
    """
    problem, solution = question_in(row, "problem"), text(row, "solution")
    answers = all_boxed(solution) if is_missing(row.get("answer")) else (one_line(as_text(row["answer"], "answer")),)
    if len(answers) > 1:
        raise LeftOut("with several boxes that differ", column="solution")
    if not answers or not answers[0]:
        raise LeftOut(NO_ANSWER, column="answer" if "answer" in row else "solution")
    target = f"{unboxed(solution)}\nAnswer: \\boxed{{{answers[0]}}}"
    return Example(
        key=row_key({"problem": problem, "solution": solution, "answer": answers[0]}),
        question=problem,
        target=target,
        answers=answers,
        group=group_of(row, "subject", "type"),
    )


_MATH = HubSource(
    id="EleutherAI/hendrycks_math",
    config=(
        "algebra",
        "counting_and_probability",
        "geometry",
        "intermediate_algebra",
        "number_theory",
        "prealgebra",
        "precalculus",
    ),
    revision="21a5633873b6a120296cce3e2df9d5550074f4a3",
    splits={"tuning": "train", "few_shot": "train"},
    sizes={"tuning": 7500},
)

TASK = Task(
    name="math500",
    version=2,
    summary="competition mathematics; a working that ends in a boxed answer",
    source=HubSource(
        id="HuggingFaceH4/MATH-500",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        splits={"test": "test"},
        elsewhere={"tuning": _MATH, "few_shot": _MATH},
        sizes={"test": 500},
    ),
    read_row=read_row,
    sample={
        "problem": "What is the sum of the two solutions of $x^2 - 5x + 6 = 0$?",
        "solution": "The left side is $(x - 2)(x - 3)$, so it is zero at $2$ and $3$.\n\nTheir sum is $2 + 3 = \\boxed{5}$.",
        "answer": "5",
        "subject": "Algebra",
        "level": 1,
        "unique_id": "test/algebra/0.json",
    },
    template=Template(
        instruction="Solve each problem step by step. End with a line that has the answer in a box, as in: Answer: \\boxed{42}",
        item="Problem: {question}\nAnswer:",
    ),
    format=BOXED_FORMAT,
    form=BOXED_FORM,
    extract=math_answer,
    equal=accepts,
    sampling=Sampling(max_tokens=2048, stop=("\nProblem:",)),
    random_baseline=0.0,
    licence="MIT",
    notes="MATH-500 has test rows only: tuning rows, and a fixed cut of them for shots, are MATH's train split, of which "
    "MATH-500 has no problem (rows that do overlap are dropped). A target is the published solution with its boxes opened, and "
    "the answer in a box on a line of its own. Rows of MATH with several boxes that differ are left out (1 in 140).",
)
