"""How soft prompts vote, on ballots made up for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spt_fast import tasks
from spt_fast.errors import ScoringError
from spt_fast.scoring.ensemble import beside, ensemble_metrics, majority_vote
from spt_fast.scoring.score import score
from spt_fast.tasks.base import Task
from spt_fast.types import Completion, Example, Sample

SQUAD, MATH = tasks.get("squad"), tasks.get("math500")
OPEN = Example(key="1", question="Where?", target="the old town", answers=("the old town",), context="In the old town.")
CLOSED = Example(key="1", question="?", target="B. y", answers=("B. y",), options=("A. x", "B. y", "C. zzzzzzzzzzzz"), gold=1)
MMLU = tasks.get("mmlu")


def ballots(task: Task, example: Example, *written: str, logprobs: list[tuple[float, ...]] | None = None) -> list[Sample]:
    """What members would come to that write this."""
    found = []
    for i, text in enumerate(written):
        done = Completion(
            text=text.removesuffix("..."), token_ids=(1,), finish_reason="length" if text.endswith("...") else "stop"
        )
        scored = [logprobs[i] if logprobs else (-1.0,) * len(example.options)] if task.closed_ended else None
        found += score(task, [example], [done], scored, prompts=["p"], step=80)
    return found


def test_most_votes_win() -> None:
    won = majority_vote(SQUAD, OPEN, ballots(SQUAD, OPEN, "the harbour", "the old town", "the old town"))
    assert (won.completion, won.correct, won.step) == ("the old town", True, 80)


def test_what_the_task_takes_for_the_same_answer_is_one_candidate() -> None:
    """Articles and capitals are nothing to SQuAD, and a half is 0.5 to MATH."""
    won = majority_vote(SQUAD, OPEN, ballots(SQUAD, OPEN, "harbour", "harbour", "the Old Town", "old town", "The old town"))
    assert (won.completion, won.knows) == ("the Old Town", True)
    half = Example(key="2", question="?", target=r"\boxed{\frac{1}{2}}", answers=(r"\frac{1}{2}",))
    written = [f"So it is.\nAnswer: \\boxed{{{value}}}" for value in ("3", "3", "0.5", r"\frac{1}{2}", r"\tfrac12")]
    assert majority_vote(MATH, half, ballots(MATH, half, *written)).knows


def test_of_equal_votes_the_lowest_member_wins() -> None:
    won = majority_vote(SQUAD, OPEN, ballots(SQUAD, OPEN, "harbour", "old town", "old town", "harbour"))
    assert won.completion == "harbour"


def test_a_member_without_a_readable_answer_abstains() -> None:
    number = tasks.get("gsm8k")
    example = Example(key="3", question="?", target="#### 4", answers=("4",))
    won = majority_vote(number, example, ballots(number, example, "no idea", "no idea", "So.\n#### 4"))
    assert (won.extracted, won.knows) == ("4", True)
    nobody = majority_vote(number, example, ballots(number, example, "well", "no idea", "no idea"))
    assert (nobody.completion, nobody.extracted, nobody.format_ok) == ("no idea", None, False)


def test_the_form_is_that_of_most_who_gave_the_answer() -> None:
    number = tasks.get("gsm8k")
    example = Example(key="3", question="?", target="2 + 2 = 4\n#### 4", answers=("4",))
    formed, bare = "2 + 2 = 4\n#### 4", "The answer is 4."
    # What is to be compared is one value in two forms.
    assert [(b.extracted, b.format_ok) for b in ballots(number, example, formed, bare)] == [("4", True), ("4", False)]
    most = ballots(number, example, bare, formed, "#### 5", "2 + 2 is 4\n#### 4")
    assert majority_vote(number, example, most).completion == formed
    assert majority_vote(number, example, ballots(number, example, bare, formed)).completion == bare


def test_an_option_is_chosen_by_the_mean_likelihood_and_written_by_vote() -> None:
    logprobs = [(-1.0, -2.0, -9.0), (-1.0, -2.0, -9.0), (-9.0, -2.0, -9.0)]
    cast = ballots(MMLU, CLOSED, "A. x", "I say B. y", "A. x", logprobs=logprobs)
    assert [b.knows for b in cast] == [False, False, True]
    won = majority_vote(MMLU, CLOSED, cast)
    assert won.option_logprobs == pytest.approx((-11 / 3, -2.0, -9.0))
    assert (won.chosen, won.knows) == (1, True)
    assert won.chosen_per_byte == 1  # -2 / 4 bytes against -9 / 15 bytes
    assert (won.completion, won.format_ok, won.correct) == ("A. x", True, False)


def test_a_task_whose_rules_fail_says_so() -> None:
    def broken(value: str, example: Example) -> bool:
        raise RuntimeError("boom")

    with pytest.raises(ScoringError, match="squad: the answers to example 1 cannot be counted"):
        majority_vote(replace(SQUAD, equal=broken), OPEN, [replace(b, knows=False) for b in ballots(SQUAD, OPEN, "a", "b")])


def test_members_stand_beside_as_their_mean_and_the_best_of_them() -> None:
    town, harbour = ballots(SQUAD, OPEN, "old town", "harbour")
    first, second = [town, town, harbour, harbour], [town, harbour, harbour, harbour]
    found = {metric.name: metric for metric in beside([second, first])}
    assert found["exact_match_member_mean"].value == pytest.approx(3 / 8)
    assert found["exact_match_member_mean"].n == 4
    assert found["exact_match_member_best"].value == 0.5
    assert found["f1_member_best"].value == 0.5
    together = ensemble_metrics([town, town, town, harbour], [second, first])
    assert {m.name: m.value for m in together}["exact_match"] == 0.75
    assert len({m.name for m in together}) == len(together)
