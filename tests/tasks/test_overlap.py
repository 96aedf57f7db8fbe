"""Near-duplicates between tuning and test rows are found, whatever their case and punctuation, and nothing else is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spt_fast import tasks
from spt_fast.tasks import overlap
from spt_fast.tasks.overlap import LEAST, RUN, SHOWN, STOCK, near_duplicates, report, words_of
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import Example

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the checkout")

RIVER = (
    "The miller of the old town by the river has 12 sacks of flour and sells 5 of them on the first day of the market; "
    "how many sacks has he left at the end of the day?"
)


def example(question: str, *, key: str = "", context: str = "", options: Sequence[str] = ()) -> Example:
    target = options[0] if options else "x"
    return Example(
        key=key or question[:16],
        question=question,
        context=context,
        target=target,
        answers=(target,),
        options=tuple(options),
        gold=0 if options else None,
    )


def rows(*, tuning: Sequence[Example] = (), few_shot: Sequence[Example] = (), test: Sequence[Example] = ()) -> Rows:
    return Rows(tuning=tuple(tuning), few_shot=tuple(few_shot), test=tuple(test), content="c0ffee")


def made_up(drawn: random.Random, count: int) -> str:
    """Words that no other text has."""
    return " ".join("".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(count))


@pytest.mark.parametrize(
    "other",
    [
        RIVER,
        RIVER.upper(),
        RIVER.replace(" ", "\n \t"),
        RIVER.replace(";", " -- ").replace("?", "!!!").replace(" the ", ' "the" '),
        RIVER.replace("day?", "week?"),
        RIVER.replace("miller", "baker"),
        RIVER.replace("miller", "\uff4d\uff49\uff4c\uff4c\uff45\uff52"),
        f"It is said: {RIVER} He asks himself.",
    ],
)
def test_a_near_duplicate_is_found(other: str) -> None:
    found = near_duplicates(
        rows(tuning=[example("nothing of the kind"), example(RIVER, key="a")], test=[example(other, key="b")])
    )
    assert found.compared == {"tuning": 1, "few_shot": 0, "test": 1}
    assert found.overlapping == {"tuning": 1, "few_shot": 0, "test": 1}
    assert found.parts == {"question": 1, "options": 0, "whole": 0, "context": 0}
    (pair,) = found.pairs
    assert (pair.split, pair.row, pair.test, pair.part) == ("tuning", "a", "b", "question")
    assert " ".join(words_of(RIVER)).find(pair.words) >= 0
    assert len(pair.words.split()) >= RUN


def test_twelve_words_are_no_overlap_and_thirteen_are() -> None:
    drawn = random.Random(0)
    for shared, count in ((RUN - 1, 0), (RUN, 1)):
        words = made_up(drawn, shared)
        one, other = (f"{made_up(drawn, 9)} {words} {made_up(drawn, 9)}" for _ in range(2))
        found = near_duplicates(rows(tuning=[example(one)], test=[example(other)]))
        assert (len(found.pairs), found.overlapping["test"], found.overlapping["tuning"]) == (count, count, count)
        assert [pair.words for pair in found.pairs] == [words] * count


def test_unrelated_rows_do_not_overlap() -> None:
    drawn = random.Random(1)
    many = [example(made_up(drawn, drawn.randint(5, 40)), context=made_up(drawn, drawn.randint(0, 60))) for _ in range(60)]
    found = near_duplicates(rows(tuning=many[:30], few_shot=many[30:40], test=many[40:]))
    assert found.overlapping == {"tuning": 0, "few_shot": 0, "test": 0}
    assert found.compared == {"tuning": 30, "few_shot": 10, "test": 20}
    assert found.pairs == ()


ALPHABET = st.text(alphabet="abcdefgh\u00e9\u00df\u0438\u0915", min_size=1, max_size=6)


@settings(deadline=None)  # the first text that is not ASCII looks up what marks there are
@given(
    run=st.lists(ALPHABET, min_size=RUN, max_size=RUN + 5),
    around=st.lists(st.lists(ALPHABET, max_size=20), min_size=4, max_size=4),
    gaps=st.lists(st.sampled_from([" ", "  ", "\n", ", ", " - ", "; ", "_"]), min_size=RUN, max_size=RUN),
    field=st.sampled_from(["question", "context", "option"]),
    split=st.sampled_from(["tuning", "few_shot"]),
    others=st.integers(0, 5),
)
def test_a_run_that_is_copied_into_any_row_is_found(
    run: list[str], around: list[list[str]], gaps: list[str], field: str, split: str, others: int
) -> None:
    def row(text: str, key: str) -> Example:
        if field == "question":
            return example(text, key=key)
        if field == "context":
            return example("who?", key=key, context=text)
        return example("which?", key=key, options=["A. short", f"B. {text}"])

    copied = "".join(word.title() + gaps[i % len(gaps)] for i, word in enumerate(run))
    one = row(" ".join([*around[0], *run, *around[1]]), "one")
    other = row(" ".join([*around[2], copied, *around[3]]), "other")
    drawn = random.Random(2)
    fill = [example(made_up(drawn, 20)) for _ in range(2 * others)]
    found = near_duplicates(rows(**{split: [*fill[:others], one]}, test=[*fill[others:], other]))
    assert found.overlapping == {"tuning": 0, "few_shot": 0, "test": 1, **{split: 1}}
    assert [(pair.split, pair.row, pair.test) for pair in found.pairs] == [(split, "one", "other")]
    assert len(found.pairs[0].words.split()) >= RUN


# rows of fewer words


FRANCE = example("Capital of France?", options=["A. Rome", "B. Paris"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (example("Who was king in 1066?"), example("who WAS king, in 1066"), True),
        (example("Who was king in 1066?"), example("Who was king in 1067?"), False),
        (example("Who was it?"), example("Who was it?"), False),
        (FRANCE, example("capital of France", options=["A. Paris", "B. Rome"]), True),
        (FRANCE, example("Capital of France?", options=["A. Oslo", "B. Bern"]), False),
        (example("Who won?", context="Cup of 1930"), example("Who won?", context="cup of 1930!"), True),
        (example("Who won?", context="Cup of 1930"), example("Who won?", context="Cup of 1934"), False),
        (example("Who is the man in it?", context=RIVER), example("Who is the man in it?", context=RIVER[::-1]), False),
    ],
)
def test_a_short_row_is_compared_whole(one: Example, other: Example, same: bool) -> None:
    found = near_duplicates(rows(tuning=[one], test=[other]))
    assert found.overlapping == {"tuning": int(same), "few_shot": 0, "test": int(same)}
    assert [pair.part for pair in found.pairs] == ["whole"] * same
    words = len(words_of(" ".join([one.question, *(option[3:] for option in one.options), one.context])))
    assert found.compared["tuning"] == int(words >= LEAST)


def test_a_run_does_not_go_on_from_one_text_into_the_next() -> None:
    options = [f"A. {' '.join(RIVER.split()[10:20])}", "B. none of them"]
    one = example(" ".join(RIVER.split()[:10]), options=options)
    other = example(RIVER, options=["A. 7", "B. 8"])
    assert near_duplicates(rows(tuning=[one], test=[other])).pairs == ()


# passages, subjects and stock phrases


def test_a_passage_in_both_splits_counts_for_all_its_rows_and_is_told_from_a_question() -> None:
    tuning = [example(f"What of number {n}?", context=RIVER, key=f"a{n}") for n in range(3)]
    test = [example(f"How about {n} then?", context=RIVER.lower(), key=f"b{n}") for n in range(40)]
    found = near_duplicates(rows(tuning=tuning, test=[*test, example(RIVER, key="c")]))
    assert found.overlapping == {"tuning": 3, "few_shot": 0, "test": 41}
    assert found.parts == {"question": 1, "options": 0, "whole": 0, "context": 40}
    assert [(pair.test, pair.part) for pair in found.pairs] == [("c", "question"), ("b0", "context")]


def test_a_subject_that_rows_share_is_no_overlap() -> None:
    drawn = random.Random(3)
    subject = "high school government and politics of our times"
    one, other = (example(made_up(drawn, 20), context=subject) for _ in range(2))
    assert near_duplicates(rows(tuning=[one], test=[other])).pairs == ()


def test_a_stock_phrase_is_no_overlap_and_is_counted() -> None:
    drawn = random.Random(4)
    tuning = [example(f"{RIVER} {made_up(drawn, 5)}")]
    for count, overlapping in ((STOCK, STOCK), (STOCK + 1, 0)):
        test = [example(f"{RIVER} {made_up(drawn, 5)}", key=str(n)) for n in range(count)]
        found = near_duplicates(rows(tuning=tuning, test=test))
        assert found.overlapping["test"] == overlapping
        assert (found.stock_runs > 0) == (overlapping == 0)
        copy = near_duplicates(rows(tuning=[*tuning, test[0]], test=test))
        assert copy.overlapping["test"] == (overlapping or 1), "a row that is there as a whole is found nonetheless"


def test_the_instruction_and_the_target_do_not_count() -> None:
    one, other = (
        Example(key=key, question=f"{key * 5} is what in the end?", target=RIVER, answers=(RIVER,)) for key in ("ab", "cd")
    )
    assert near_duplicates(rows(tuning=[one], test=[other])).pairs == ()


def test_letters_of_options_are_left_out() -> None:
    options = [f"A. {RIVER}", "B. no"]
    found = near_duplicates(rows(tuning=[example("Which?", options=options)], test=[example("Why?", options=options[::-1])]))
    assert (found.parts["options"], found.pairs[0].words) == (1, " ".join(words_of(RIVER)))
    bare = example("How?", options=[RIVER, "no"])
    assert near_duplicates(rows(tuning=[bare], test=[example("Which?", options=options)])).parts["options"] == 1


# what there is of it


def test_without_rows_there_is_nothing() -> None:
    assert near_duplicates(rows()).overlapping == {"tuning": 0, "few_shot": 0, "test": 0}
    assert near_duplicates(rows(tuning=[example(RIVER)])).compared == {"tuning": 1, "few_shot": 0, "test": 0}


def test_only_the_first_pairs_are_listed_and_all_are_counted() -> None:
    drawn = random.Random(5)
    same = [made_up(drawn, 20) for _ in range(2 * SHOWN)]
    found = near_duplicates(rows(tuning=[example(q) for q in same], test=[example(q) for q in same]))
    assert len(found.pairs) == SHOWN
    assert found.overlapping == {"tuning": 2 * SHOWN, "few_shot": 0, "test": 2 * SHOWN}


def test_rows_that_do_not_fit_at_once_are_compared_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(6)
    same = [made_up(drawn, 20) for _ in range(30)]
    both = rows(tuning=[example(q, context=q[::-1]) for q in same], test=[example(q, context=q[::-1]) for q in same[::2]])
    whole = near_duplicates(both)
    monkeypatch.setattr(overlap, "_AT_ONCE", 1000)
    assert near_duplicates(both) == whole
    assert whole.overlapping == {"tuning": 15, "few_shot": 0, "test": 15}


def test_words_of_any_script_are_words() -> None:
    assert words_of("_It's_ 3.5 \ufb01sh; CAF\u00c9, cafe\u0301 \u2014 Stra\u00dfe") == (
        ["it", "s", "3", "5", "fish", "caf\u00e9", "caf\u00e9", "strasse"]
    )
    assert len(words_of("\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e")) == 2


def test_the_report_is_json_and_says_what_the_rows_are() -> None:
    task = tasks.get("zoo-mcq")
    one = load_rows(task)
    found = report(task, one)
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, sort_keys=True))
    assert (found["task"], found["version"], found["content"]) == ("zoo-mcq", 2, one.content)
    assert {split: part["rows"] for split, part in found["splits"].items()} == {
        split: len(getattr(one, split)) for split in ("tuning", "few_shot", "test")
    }
    assert found["near_duplicates"]["overlapping"] == {"tuning": 0, "few_shot": 0, "test": 0}
    fewer = report(task, load_rows(task, limit=10))
    assert fewer["splits"]["tuning"] == found["splits"]["tuning"]
    assert fewer["splits"]["test"]["content"] != found["splits"]["test"]["content"]


def test_the_report_is_the_same_in_every_process() -> None:
    code = (
        "import json; from spt_fast.tasks.overlap import report; from spt_fast import tasks\n"
        "from spt_fast.tasks.rows import load_rows\n"
        "task = tasks.get('zoo-short'); print(json.dumps(report(task, load_rows(task))))"
    )
    done = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert done[0] == done[1] != ""


# real rows


@needs_data
@pytest.mark.parametrize("name", ["gsm8k", "mmlu"])
def test_published_rows_are_disjoint_and_their_near_duplicates_are_few(name: str) -> None:
    task = tasks.get(name)
    real = load_rows(task, data_files=str(DATA / name))
    splits = [{e.key for e in examples} for examples in (real.tuning, real.few_shot, real.test)]
    assert sum(map(len, splits)) == len(set.union(*splits))
    found = near_duplicates(real)
    assert found.compared == {"tuning": len(real.tuning), "few_shot": len(real.few_shot), "test": len(real.test)}
    assert found.overlapping["test"] <= 0.01 * len(real.test)
    by_key = {e.key: e for examples in (real.tuning, real.few_shot, real.test) for e in examples}
    for pair in found.pairs:
        for key in (pair.row, pair.test):
            texts = [by_key[key].question, by_key[key].context, *(option[3:] for option in by_key[key].options)]
            assert any(pair.words in " ".join(words_of(text)) for text in texts)
