"""Reports say what the numbers say, to people and to programs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.analysis.cells import RunCell, disagreements, verdicts
from spt_fast.config import PAPER, SoftPromptConfig
from spt_fast.report import CSV_COLUMNS, Disagreement, Verdict, results_csv, results_json, summary
from spt_fast.report.cells import over_seeds
from spt_fast.report.markdown import code
from spt_fast.scoring.statistics import proportion
from spt_fast.types import Metric
from tests.helpers.packages import install, on_the_path
from tests.helpers.reports import markdown, terminal

N = 100


def point(follows: int, knows: int) -> tuple[Metric, ...]:
    """Metrics of 100 examples, `follows` of which have the form and `knows` the knowledge."""
    return (
        proportion("format_following", [i < follows for i in range(N)]),
        proportion("knowledge", [i < knows for i in range(N)]),
        proportion("exact_match_given_format", [i < knows for i in range(follows)]),
    )


def cell(model: str, task: str, protocol: str, *points: tuple[int, int], seed: int | None = None, **more: Any) -> RunCell:
    """A done cell; several points are steps 0, 20, 40, ..."""
    follows, knows = points[-1]
    metrics: Mapping[int | None, tuple[Metric, ...]] = (
        {None: point(*points[0])} if len(points) == 1 else {20 * i: point(*p) for i, p in enumerate(points)}
    )
    judged = {str(i): Verdict(format_ok=i < follows, knows=i < knows) for i in range(N)}
    details = {"metrics": metrics, "verdicts": judged, "closed_ended": True, "key": "k", **more}
    return RunCell(model=model, task=task, protocol=protocol, seed=seed, **details)


def failed(model: str, task: str, protocol: str, reason: str) -> RunCell:
    return RunCell(model=model, task=task, protocol=protocol, status="failed", kind="EngineError", reason=reason)


FINDING = [
    cell("base", "mcq", "zero_shot", (2, 70)),
    cell("base", "mcq", "few_shot", (30, 70), seed=0),
    cell("base", "mcq", "soft_prompt", (1, 70), (60, 70), (99, 71), (100, 71), seed=0),
    cell("chat", "mcq", "zero_shot", (90, 71), partner_of="base"),
    failed("chat", "short", "zero_shot", "the engine died: \x1b[31m[bold]no\nmemory|`x`<b>@you"),
]


# for programs


def test_the_csv_has_its_columns_and_empty_fields_for_what_is_not_there() -> None:
    rows = list(csv.DictReader(io.StringIO(results_csv(FINDING))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert CSV_COLUMNS == (
        "model", "task", "protocol", "seed", "step", "metric", "value", "stderr", "ci_low", "ci_high", "n",
    )  # fmt: skip
    first = rows[0]
    assert (first["model"], first["protocol"], first["seed"], first["step"]) == ("base", "zero_shot", "", "")
    assert (first["metric"], float(first["value"]), first["n"]) == ("format_following", 0.02, "100")
    assert [row["step"] for row in rows if row["protocol"] == "soft_prompt"] == ["0"] * 3 + ["20"] * 3 + ["40"] * 3 + ["60"] * 3
    assert not any(row["task"] == "short" for row in rows)


def test_nan_is_an_empty_field_in_csv_and_null_in_json() -> None:
    cells = [cell("m", "t", "zero_shot", (0, 50))]
    row = next(r for r in csv.DictReader(io.StringIO(results_csv(cells))) if r["metric"] == "exact_match_given_format")
    assert (row["value"], row["stderr"], row["ci_low"], row["ci_high"], row["n"]) == ("", "", "", "", "0")
    found = results_json(cells, name="g")["cells"][0]["metrics"][2]
    assert found["value"] is None
    json.dumps(results_json(cells, name="g"), allow_nan=False)


def test_json_holds_the_numbers_of_the_csv_with_costs_provenance_and_failures() -> None:
    cells = [cell("m", "t", "zero_shot", (1, 2), costs={"load_s": 1.5}, provenance={"torch": "2"}), FINDING[-1]]
    found = results_json(cells, name="g", provenance={"commit": "c"})
    assert (found["name"], found["provenance"]) == ("g", {"commit": "c"})
    assert found["cells"][0]["costs"] == {"load_s": 1.5}
    assert found["cells"][0]["provenance"] == {"torch": "2"}
    assert len(found["cells"][0]["metrics"]) == len(results_csv(cells).splitlines()) - 1
    assert found["failures"][0]["kind"] == "EngineError"
    assert found["failures"][0]["reason"] == FINDING[-1].reason


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_name_that_begins_as_a_formula_does_is_text_to_a_spreadsheet(name: str) -> None:
    metric = Metric(name="x", value=-0.5, n=3, stderr=0.1, ci_low=0.0, ci_high=1.0)
    text = results_csv([RunCell(model=name, task="t\x1b[31m", protocol="p", metrics={None: [metric]})])
    row = next(csv.DictReader(io.StringIO(text)))
    assert row["model"] == f"'{name}"
    assert row["task"] == "t\\u001b[31m"
    assert row["value"] == "-0.5", "a number is none"


def test_every_float_of_the_csv_reads_back_exactly() -> None:
    metric = Metric(name="x", value=1 / 3, n=3, stderr=0.1 + 0.2, ci_low=1e-17, ci_high=2 / 3)
    text = results_csv([RunCell(model="a,b\n", task="t", protocol="p", metrics={7: [metric]})])
    row = next(csv.DictReader(io.StringIO(text)))
    assert [float(row[k]) for k in ("value", "stderr", "ci_low", "ci_high")] == [1 / 3, 0.1 + 0.2, 1e-17, 2 / 3]
    assert row["model"] == "a,b\n"


def test_verdicts_of_a_step_are_taken_from_stored_samples() -> None:
    rows = [{"example": "a", "step": step, "format_ok": step == 80, "knows": True} for step in (0, 80)]
    assert verdicts(rows, 80) == {"a": Verdict(format_ok=True, knows=True)}


# for people

GOLDEN_80 = """\
base
      zero_shot             few_shot             soft_prompt
task     format  knowledge    format  knowledge       format  knowledge
───────────────────────────────────────────────────────────────────────
mcq    0.02±.05   0.70±.10  0.30±.10   0.70±.10     1.00±.04   0.71±.10

chat (post-trained counterpart of base)
       zero_shot
task      format  knowledge
───────────────────────────
mcq     0.90±.07   0.71±.10
short     failed

Shares at the last step, with 95% intervals; over several seeds the mean, and
the widest span of the intervals. Knowledge of closed-ended tasks is by the
scoring method that is best on tuning rows (knowledge_best).

FAILED chat · short · zero_shot: the engine died: [bold]no memory|`x`<b>@you

Asked plainly, 1 base model on 1 task wrote the answer in the form asked for 2%
of the time; knowledge was 70%. With worked examples in front, format following
was 30%. With a learnt soft prompt, format following was 100%, reached by step
40; it rose. Knowledge by likelihood did not move significantly (paired McNemar
tests against zero-shot, smallest p = 1). In short: format following rose with
no shown change of knowledge in the one cell. The post-trained counterparts,
asked plainly, followed the form 90% of the time; knowledge was 71%. Failed, and
not in these numbers: 1 of 5 cells.
"""


def test_the_terminal_report_at_80_columns() -> None:
    assert terminal(FINDING, width=80) == GOLDEN_80


GOLDEN_120 = """\
base
           zero_shot                        few_shot                     soft_prompt
task          format       knowledge          format       knowledge          format       knowledge
────────────────────────────────────────────────────────────────────────────────────────────────────
mcq   0.02 (.01-.07)  0.70 (.60-.78)  0.30 (.22-.40)  0.70 (.60-.78)  1.00 (.96-1.0)  0.71 (.61-.79)
"""


def test_the_terminal_report_at_120_columns_writes_intervals_out() -> None:
    assert terminal(FINDING, width=120).startswith(GOLDEN_120)


GOLDEN_EXACT = """\
m
      zero_shot                          soft_prompt
task     format  knowledge  exact match       format  knowledge  exact match
────────────────────────────────────────────────────────────────────────────
mcq    0.02±.05   0.70±.10     0.02±.05     1.00±.04   0.71±.10     0.71±.10
"""


def test_exact_match_is_in_the_table_where_there_is_room_else_it_is_said_where_it_is() -> None:
    found = []
    for protocol, follows, knows in (("zero_shot", 2, 70), ("soft_prompt", 100, 71), ("few_shot", 30, 70)):
        exact = proportion("exact_match", [i < min(follows, knows) for i in range(N)])
        found.append(cell("m", "mcq", protocol, (follows, knows)))
        found[-1] = replace(found[-1], metrics={None: (*found[-1].metrics[None], exact)})
    shown = terminal(found[:2], width=80)
    assert shown.startswith(GOLDEN_EXACT)
    assert "report.md" not in shown
    assert terminal(found, width=120).splitlines()[2].split().count("match") == 3
    shown = terminal(found, width=80)
    assert "exact match" not in shown.splitlines()[2]
    assert "Exact match needs a wider terminal, and is in report.md." in " ".join(shown.split())


@given(st.integers(40, 160), st.integers(1, 6), st.integers(1, 12))
def test_no_line_is_longer_than_the_terminal(width: int, protocols: int, length: int) -> None:
    labels = ["zero_shot", *(f"soft_prompt[length={i}]" for i in range(protocols))]
    cells = [cell("m" * length, "t" * length, label, (50, 50)) for label in labels]
    text = terminal(cells, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(f"length={i}" in text for i in range(protocols))


def test_a_pipe_gets_no_colours_and_a_terminal_does() -> None:
    assert "\x1b" not in terminal(FINDING)
    assert "\x1b[1m" in terminal(FINDING, colour=True)


def test_names_with_brackets_are_no_markup() -> None:
    text = terminal([cell("[red]m[/red]", "[b]t", "zero_shot", (1, 1))])
    assert "[red]m[/red]" in text
    assert "[b]t" in text


def test_seeds_are_shown_by_their_mean_and_their_widest_span() -> None:
    cells = [cell("m", "t", "soft_prompt", (90, 50), seed=0), cell("m", "t", "soft_prompt", (100, 50), seed=1)]
    assert "0.95 (.83-1.0)" in terminal(cells, width=120)


def test_cells_that_wait_are_said_to_wait() -> None:
    cells = [RunCell(model="m", task="t", protocol="zero_shot", status="waiting"), *FINDING]
    assert "waiting" in terminal(cells)
    assert "Still to be done: 1 of 6 cells." in summary(cells)


def test_the_markdown_report() -> None:
    text = markdown(FINDING)
    lines = text.splitlines()
    assert lines[0] == "# `g`"
    assert "| `mcq` | `few_shot` | 0.30 (.22-.40) | 0.70 (.60-.78) |  | 100 |" in lines
    (curve,) = [line for line in lines if line.startswith("| base \u00b7 soft_prompt | format following |")]
    assert re.findall(r"\| (\d\.\d\d) \(", curve) == ["0.01", "0.60", "0.99", "1.00"]
    assert curve.endswith("| 40 |")
    assert "* `chat · short · zero_shot`: ``the engine died: [bold]no memory|`x`<b>@you``" in lines


def test_the_report_says_what_an_early_stop_saved() -> None:
    stopped = cell("base", "mcq", "soft_prompt", (99, 70), seed=1, costs={"steps_taken": 25.0, "steps_saved": 55.0})
    text = markdown([stopped, *FINDING])
    assert "| `base` | `mcq` | `soft_prompt` | 1 | 25 | 55 (69%) |" in text
    assert "Stopped early" not in markdown(FINDING)


def test_hostile_names_stay_inside_their_code_spans() -> None:
    name = "a|b`c``d\n# <script>[x](y) @me \x1b[31m"
    assert code(name) == "```a|b`c``d # <script>[x](y) @me```"
    assert code(name, in_table=True) == "```a\\|b`c``d # <script>[x](y) @me```"
    assert code("`") == "`` ` ``"
    text = markdown([cell(name, name, "zero_shot", (1, 1)), failed(name, name, "few_shot", name)], name=name)
    table = [line for line in text.splitlines() if line.startswith("|")]
    spans = [re.sub(r"(`+) ?.*?\1(?!`)", "", line) for line in table]
    assert not [span for span in spans if re.search(r"[<>*\[\]#@`]", span)], "what is hostile is in code, or written out"


@given(st.text(max_size=40))
def test_a_code_span_is_one_line_and_longer_than_any_fence_in_it(text: str) -> None:
    span = code(text)
    assert "\n" not in span
    fence = span[: len(span) - len(span.lstrip("`"))]
    assert fence not in span[len(fence) : -len(fence)]


def test_names_in_the_summary_call_nobody() -> None:
    cells = [cell("@you", "*t*", "zero_shot", (90, 50)), cell("@you", "*t*", "soft_prompt", (90, 50), seed=0)]
    (paragraph,) = [each for each in markdown(cells).split("\n\n") if each.startswith("Asked plainly")]
    assert "@" not in paragraph
    assert "*" not in paragraph


# what was seen


def test_the_finding_is_told_when_it_is_there() -> None:
    text = summary(FINDING)
    assert "2% of the time" in text
    assert "100%, reached by step 40; it rose." in text
    assert "did not move significantly" in text
    assert "1 of 5 cells" in text


def test_a_form_that_was_not_learnt_is_told() -> None:
    cells = [
        cell("a", "mcq", "zero_shot", (50, 70)),
        cell("a", "mcq", "soft_prompt", (52, 70), seed=0),
        cell("b", "mcq", "zero_shot", (50, 70)),
        cell("b", "mcq", "soft_prompt", (20, 70), seed=0),
        cell("c", "mcq", "zero_shot", (50, 70)),
        cell("c", "mcq", "soft_prompt", (90, 70), seed=0),
    ]
    text = summary(cells)
    assert "20% to 90%; it rose in 1 of 3 cells, not for mcq on a, mcq on b, and fell in 1." in text
    assert "format following rose with no shown change of knowledge in 1 of 3 cells" in text


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({}, ""),
        ({"lr": 0.5}, "soft_prompt without lr in the grid: its default fits the model; "),
        ({"lr": 0.5, "position": "front"}, "soft_prompt without lr and position in the grid: their defaults fit the model; "),
        (dict(PAPER), "soft_prompt without paper, whose lr, init and position do not suit every model; "),
    ],
)
def test_a_soft_prompt_that_taught_nothing_is_told_with_what_the_grid_has_not_tried(
    settings: dict[str, Any], first: str
) -> None:
    defaults = {f.name: f.default for f in fields(SoftPromptConfig)}
    plainly = cell("a", "mcq", "zero_shot", (50, 70))
    soft = cell("a", "mcq", "soft_prompt", (52, 70), seed=0)
    text = summary([plainly, replace(soft, settings={**defaults, **settings})])
    assert (
        f"NO EFFECT in the one cell: format following did not rise above zero-shot (a on mcq). What to try: {first}a longer "
        "training, soft_prompt: {steps: 160} in place of 80; a look at its answers under Samples in report.html"
    ) in text
    few = summary([plainly, replace(soft, settings={**defaults, **settings, "steps": 4})])
    assert "soft_prompt: {steps: 80} in place of 4;" in few
    carried = {**defaults, "steps": 4, "init": "soft_prompt", "init_from": "previous"}
    said = summary([plainly, replace(soft, settings=carried)])
    assert "What to try: a longer training, soft_prompt: {steps: 8} in place of 4;" in said


def test_a_form_that_rose_was_learnt_whatever_the_loss_of_some_batches_says() -> None:
    plainly = cell("a", "mcq", "zero_shot", (0, 70))
    flat = {"loss_fall": 0.1, "loss_fall_stderr": 0.2}
    risen = replace(cell("a", "mcq", "soft_prompt", (70, 70), seed=0), costs=flat)
    assert "NO EFFECT" not in summary([plainly, risen])
    same = replace(cell("a", "mcq", "soft_prompt", (1, 70), seed=0), costs=flat)
    assert "NO EFFECT in the one cell: its loss did not fall" in summary([plainly, same])


@pytest.mark.parametrize(("knows", "word"), [(90, "rose"), (40, "fell")])
def test_knowledge_that_moved_is_told_with_its_direction(knows: int, word: str) -> None:
    cells = [cell("a", "mcq", "zero_shot", (0, 70)), cell("a", "mcq", "soft_prompt", (100, knows), seed=0)]
    text = summary(cells)
    assert f"Knowledge by likelihood moved significantly in the one cell: it {word} in 1 (mcq on a" in text
    assert "in no cell" in text


def test_a_form_that_stays_below_that_of_worked_examples_is_told_with_what_may_bring_it() -> None:
    plainly, few = cell("a", "mcq", "zero_shot", (0, 70)), cell("a", "mcq", "few_shot", (97, 70), seed=0)
    soft = [
        replace(cell("a", "mcq", "soft_prompt", (form, 70), seed=seed), settings={"steps": 80})
        for seed, form in ((0, 80), (1, 96))
    ]
    text = summary([plainly, few, cell("a", "mcq", "few_shot", (97, 70), seed=1), *soft])
    assert (
        "It stays below that of worked examples in 1 of 2 cells (mcq on a; p < 0.05 each), where a longer training may bring "
        "it: soft_prompt: {steps: 240} in place of 80."
    ) in text
    assert "stays below" not in summary([plainly, few, replace(soft[1], seed=0)])


@pytest.mark.parametrize(
    ("rows", "repeat", "told"),
    [(708, False, "steps: 240, repeat_rows: true"), (708, True, "steps: 240"), (1920, False, "steps: 240")],
)
def test_what_may_bring_the_form_can_be_run_with_the_rows_that_there_are(rows: int, repeat: bool, told: str) -> None:
    few = cell("a", "mcq", "few_shot", (97, 70), seed=0)
    soft = cell("a", "mcq", "soft_prompt", (80, 70), seed=0, provenance={"rows": f"tuning {rows}, few_shot 32, test 100"})
    settings = {"steps": 80, "batch_size": 8, "repeat_rows": repeat}
    text = summary([cell("a", "mcq", "zero_shot", (0, 70)), few, replace(soft, settings=settings)])
    assert f"it: soft_prompt: {{{told}}} in place of 80." in text


def test_a_form_that_rose_and_is_surely_not_all_there_is_told_too_without_worked_examples() -> None:
    plainly, worse = cell("a", "number", "zero_shot", (0, 10)), cell("a", "number", "few_shot", (20, 10), seed=0)
    soft = replace(cell("a", "number", "soft_prompt", (42, 10), seed=0), settings={"steps": 80})
    told = "It stays below 95% in the one cell (number on a; by its 95% interval), where a longer training may bring it"
    assert f"{told}: soft_prompt: {{steps: 240}} in place of 80." in summary([plainly, worse, soft])
    assert told in summary([plainly, soft])
    perhaps_there = cell("a", "number", "soft_prompt", (93, 10), seed=0)
    assert "stays below" not in summary([plainly, perhaps_there])


def test_what_is_below_worked_examples_is_not_told_again_as_below_95_percent() -> None:
    cells = [
        cell("a", "mcq", "zero_shot", (0, 70)),
        cell("a", "mcq", "few_shot", (97, 70), seed=0),
        replace(cell("a", "mcq", "soft_prompt", (70, 70), seed=0), settings={"steps": 80}),
        cell("a", "number", "zero_shot", (0, 10)),
        replace(cell("a", "number", "soft_prompt", (42, 10), seed=0), settings={"steps": 80}),
    ]
    assert (
        "It stays below that of worked examples in the one cell (mcq on a; p < 0.05 each), and below 95% in 1 of 2 cells "
        "(number on a; by its 95% interval), where a longer training"
    ) in summary(cells)


@pytest.mark.parametrize(("method", "knows", "told"), [("cloze_pmi", 40, True), ("listed", 40, False), ("cloze", 90, False)])
def test_a_fall_by_cloze_behind_vectors_is_no_loss_of_knowledge(method: str, knows: int, told: bool) -> None:
    plainly = cell("a", "mcq", "zero_shot", (0, 70))
    soft = replace(cell("a", "mcq", "soft_prompt", (100, knows), seed=0), provenance={"knowledge_best": method})
    text = summary([plainly, soft])
    assert "moved significantly" in text
    assert ("Where it fell by cloze (the one cell), nothing was forgotten, for the model is frozen" in text) is told


def test_likelihood_and_extraction_are_told_apart() -> None:
    cells = []
    for task, closed, knows in (("mcq", True, 70), ("short", False, 90)):
        cells += [
            cell("a", task, "zero_shot", (0, 70), closed_ended=closed),
            cell("a", task, "soft_prompt", (100, knows), seed=0, closed_ended=closed),
        ]
    text = summary(cells)
    assert "Knowledge by likelihood did not move" in text
    assert "Knowledge by extraction, which finds only what it can read, moved significantly in the one cell" in text


def test_without_verdicts_nothing_is_said_to_be_significant() -> None:
    cells = [
        cell("a", "mcq", "zero_shot", (0, 70), verdicts={}),
        cell("a", "mcq", "soft_prompt", (100, 40), seed=0, verdicts={}),
    ]
    text = summary(cells)
    assert "significant" not in text
    assert "it rose" in text
    assert "there are no verdicts to test it in pairs" in text


def test_soft_prompts_alone_are_not_said_to_have_changed_anything() -> None:
    text = summary([cell("a", "mcq", "soft_prompt", (100, 70), seed=0)])
    assert "no change can be measured" in text
    assert "rose" not in text


def test_only_plain_asking_is_told_alone() -> None:
    text = summary([cell("a", "mcq", "zero_shot", (1, 70)), cell("b", "mcq", "zero_shot", (3, 60))])
    assert text == (
        "Asked plainly, 2 base models on 1 task wrote the answer in the form asked for 1% to 3% of the time; "
        "knowledge was 60% to 70%."
    )


def test_several_soft_prompts_of_a_kind_are_told_one_by_one() -> None:
    cells = [
        cell("a", "mcq", "zero_shot", (0, 70)),
        cell("a", "mcq", "soft_prompt[length=1]", (10, 70), seed=0),
        cell("a", "mcq", "soft_prompt[length=10]", (100, 70), seed=0),
    ]
    text = summary(cells)
    assert "With a learnt soft prompt (soft_prompt[length=1]), format following was 10%" in text
    assert "With a learnt soft prompt (soft_prompt[length=10]), format following was 100%" in text


def test_failures_alone_say_that_nothing_was_measured() -> None:
    assert summary([FINDING[-1]]) == "Nothing was measured. The only cell failed."
    assert summary([FINDING[-1]] * 3) == "Nothing was measured. All 3 cells failed."
    assert summary([]) == "There are no cells, so nothing was measured."
    for cells in ([], [FINDING[-1]]):
        assert terminal(cells).endswith("\n")
        assert markdown(cells).startswith("# `g`")


def test_almost_none_and_almost_all_are_not_none_and_all() -> None:
    n = 1000
    metrics = (
        proportion("format_following", [i < 1 for i in range(n)]),
        proportion("knowledge", [i < n - 1 for i in range(n)]),
    )
    text = summary([RunCell(model="m", task="t", protocol="zero_shot", metrics={None: metrics})])
    assert "0.1% of the time" in text
    assert "knowledge was 99.9%" in text


@given(
    st.lists(
        st.builds(
            lambda model, task, protocol, follows, knows, status: cell(model, task, protocol, (follows, knows), status=status),
            st.sampled_from("ab"),
            st.sampled_from("tu"),
            st.sampled_from(["zero_shot", "few_shot", "soft_prompt", "soft_prompt[length=5]"]),
            st.integers(0, N),
            st.integers(0, N),
            st.sampled_from(["done", "failed", "waiting"]),
        ),
        max_size=8,
    )
)
def test_any_grid_has_a_report_without_nan_in_it(cells: list[RunCell]) -> None:
    for text in (summary(cells), terminal(cells), markdown(cells)):
        assert "nan" not in text.lower()
        assert "None" not in text
    assert not any(math.isnan(float(row["n"])) for row in csv.DictReader(io.StringIO(results_csv(cells))))


def test_cells_that_failed_of_the_same_are_named_together() -> None:
    cells = [RunCell(model="m", task=task, protocol="zero_shot", status="failed", reason="no memory") for task in ("a", "b")]
    text = terminal(cells)
    assert text.count("no memory") == 1
    assert "FAILED m · 2 cells: no memory" in text


# several seeds, a judge, controls, rows


def test_what_seeds_do_stands_beside_what_the_choice_of_rows_does() -> None:
    shares = (0.80, 0.90, 0.85)
    cells = [cell("base", "mcq", "soft_prompt", (round(100 * share), 70), seed=i) for i, share in enumerate(shares)]
    found = over_seeds(cells, "format_following")
    assert found is not None
    assert found.between == pytest.approx(np.std(shares, ddof=1))
    assert found.sampling == pytest.approx(np.sqrt(np.mean([p * (1 - p) / 100 for p in shares])))
    (line,) = [line for line in markdown(cells).splitlines() if "| format following | 3 |" in line]
    assert line.endswith("| 0.850 | 0.050 | 0.035 |")


def test_one_seed_says_nothing_of_seeds() -> None:
    found = over_seeds([cell("base", "mcq", "soft_prompt", (80, 70), seed=0)], "format_following")
    assert found is not None
    assert math.isnan(found.between)
    assert "Seeds and rows" not in markdown(FINDING)


def judged(*disagree: Disagreement) -> RunCell:
    agreement = tuple(proportion(f"judge_agrees_on_{what}", [True] * 97 + [False] * 3) for what in ("format", "knowledge"))
    plainly = cell("base", "short", "zero_shot", (50, 70), closed_ended=False)
    return replace(plainly, metrics={None: (*plainly.metrics[None], *agreement)}, disagreements=disagree)


def test_the_report_says_how_often_the_judge_agrees_and_shows_where_it_does_not() -> None:
    hostile = "yes `x` <b>|\n# not a heading"
    text = markdown([judged(Disagreement("k", "format", True, hostile))])
    assert re.search(r"\| `base` \| `short` \| `zero_shot` \| 0\.97 \(.*?\) \| 0\.97 \(.*?\) \| 100 \|", text)
    (quoted,) = [line for line in text.splitlines() if "| format | yes |" in line]
    assert quoted.endswith("``yes `x` <b>\\| # not a heading`` |")
    assert "## Judge" not in markdown(FINDING)


def test_disagreements_are_found_at_the_last_step_only() -> None:
    def row(step: int, *, format_ok: bool, format_by_rule: bool | None) -> dict[str, Any]:
        verdicts = {"format_ok": format_ok, "format_by_rule": format_by_rule, "knows": True, "knows_by_rule": True}
        return {"example": "k", "step": step, "completion": "c", **verdicts}

    rows = [row(0, format_ok=True, format_by_rule=False), row(80, format_ok=False, format_by_rule=True)]
    assert disagreements(rows, 80) == [Disagreement("k", "format", False, "c")]
    assert disagreements([row(80, format_ok=True, format_by_rule=None)], 80) == []


def test_the_summary_tells_controls_apart_from_soft_prompts() -> None:
    text = summary([*FINDING, cell("base", "mcq", "shuffled_labels", (98, 26), seed=0)])
    assert "As a control, behind vectors learnt on shuffled answers, format following was 98%, and knowledge 26%." in text
    assert "it rose." in text or "it rose;" in text


def test_scores_that_a_task_or_a_package_has_of_its_own_stand_in_a_table_of_their_task() -> None:
    own = {None: (*point(2, 70), proportion("f1", [True] * 3 + [False]), proportion("f1_member_mean", [True]))}
    told = markdown([cell("base", "squad", "zero_shot", (2, 70), metrics=own), cell("base", "mcq", "zero_shot", (2, 70))])
    assert "| model | protocol | `f1` |\n| --- | --- | --- |\n| `base` | `zero_shot` | 0.75 (0.30\u20130.95) |" in told
    assert told.count("further metrics") == 1
    assert "Further metrics" not in markdown(FINDING)


def test_a_sentence_keeps_the_capital_letters_of_a_protocol_s_words(tmp_path: Path) -> None:
    module = "from dataclasses import dataclass\nfrom spt_fast.config import Protocol\n"
    module += "@dataclass(frozen=True, kw_only=True)\n"
    module += "class French(Protocol):\n    name = 'french'\n    in_words = 'asked in French'\n"
    install(tmp_path, {"french": module}, {"spt_fast.protocols": {"french": "french:French"}})
    with on_the_path(tmp_path, {"french": ""}):
        said = summary([cell("base", "mcq", "zero_shot", (2, 70)), cell("base", "mcq", "french", (30, 70))])
    assert "Asked in French, format following was 30%." in said


def test_the_report_says_each_task_s_form_in_words_as_text() -> None:
    text = markdown(FINDING, grid={"tasks": [{"task": "mcq", "form": "one line | of *two* words\n# x"}]})
    assert "**The form of the answer that each task asks for**" in text
    assert "| `mcq` | `one line \\| of *two* words" in text
    assert "\n# x" not in text
    assert "form of the answer" not in markdown(FINDING)


def test_the_report_tells_what_the_rows_are_and_which_look_alike() -> None:
    rows = {
        "task": "gsm8k",
        "splits": {split: {"rows": n} for split, n in (("tuning", 700), ("few_shot", 32), ("test", 64))},
        "dropped": {"tuning rows that are test rows": 3},
        "near_duplicates": {"overlapping": {"tuning": 5, "few_shot": 1, "test": 4}},
    }
    text = markdown(FINDING, rows=[rows])
    assert "| `gsm8k` | 700 | 32 | 64 | 3 | 5 | 1 |" in text
