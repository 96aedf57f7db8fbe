"""report.html says what report.md says, holds what it promises in the room that it has, and lets nothing of a model's run."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import open_run
from spt_fast.cli import main
from spt_fast.report import Recorded, sections
from spt_fast.report import grid as grid_of_page
from spt_fast.report.costs import spent, spent_judging
from spt_fast.report.folder import write_tables
from spt_fast.report.html import MOST_BYTES, CellVerdicts, SampleCell, Samples, build, chosen, html, pack
from spt_fast.report.html.build import page
from spt_fast.report.html.figures import draw
from spt_fast.report.html.page import matrix
from spt_fast.report.parts import Figure, Scores
from spt_fast.report.words import short_names, visible
from spt_fast.scoring.metrics import HEADLINE, spec
from spt_fast.types import Metric
from tests.helpers.hostile import HOSTILE
from tests.helpers.recorded import write_run

BASES, CHATS = ("o/base-a", "o/base-b", "o/base-c"), ("o/chat-a", "o/chat-b", "o/chat-c")


def run_folder(folder: Path, rows: int = 40, **more: Any) -> Path:
    """Three base models with partners, two tasks, three protocols, two seeds; better models know more."""
    verdicts = {
        (model, task, protocol, seed): [(7 * i) % rows < share * rows for i in range(rows)]
        for models, plus in ((BASES, 0.0), (CHATS, 0.2))
        for share, model in zip((0.3 + plus, 0.5 + plus, 0.7 + plus), models, strict=True)
        for task in ("t1", "t2")
        for protocol, seeds in (("zero_shot", (None,)), ("few_shot", (0, 1)), ("soft_prompt", (0, 1)))
        for seed in seeds
    }
    partners = dict(zip(BASES, CHATS, strict=True))
    return write_run(folder, verdicts, partners=partners, **more)


def page_of(folder: Path, **more: Any) -> str:
    """The text of its report.html."""
    run = open_run(folder)
    return page(run, list(run.cells()), **more)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("html") / "run", completion=lambda model, i: f"{HOSTILE} {model} {i}")


@pytest.fixture(scope="module")
def text(recorded: Path) -> str:
    return page_of(recorded)


def test_a_grid_that_knows_what_models_score_has_a_ranking_without_partners(tmp_path: Path) -> None:
    verdicts = {(model, "t1", "zero_shot", None): [i < 10 * n for i in range(40)] for n, model in enumerate(BASES, start=1)}
    assert "has no reference scores (truth:)" in page_of(write_run(tmp_path / "none", verdicts))
    known = {"": dict(zip(BASES, (0.3, 0.5, 0.7), strict=True))}
    text = page_of(write_run(tmp_path / "known", verdicts, truth=known))
    assert "in that of their reference scores (truth:)" in text
    assert "given, truth: base-c, place 1 of 3, 0.700" in text
    assert "Agreement with the order of the reference scores" in text


class Elements(HTMLParser):
    """Every element of a page, with its attributes, and the text inside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def unpacked(text: str) -> tuple[dict[str, Any], list[list[Any]]]:
    """Cells and beginnings of prompts, and the rows that a page carries."""
    blocks = re.findall(r'<script type="text/plain" class="block">([^<]*)</script>', text)
    first, *rest = (json.loads(gzip.decompress(base64.b64decode(block))) for block in blocks)
    return first, [row for block in rest for row in block]


# what is on the page


def test_every_number_of_report_md_is_on_the_page(recorded: Path, text: str) -> None:
    write_tables(recorded)
    numbers = re.findall(r"\| (0\.\d\d) \(\.\d\d-", (recorded / "report.md").read_text())
    assert len(numbers) > 50
    shown = Counter(re.findall(r">(\d\.\d\d)<? ?<small>", text))
    assert not Counter(numbers) - shown


def test_every_share_has_its_n_and_its_interval_on_hover(text: str) -> None:
    elements = Elements(text)
    tips = [attrs["data-tip"] or "" for _, attrs in elements.found if "data-tip" in attrs]
    shares = [tip for tip in tips if re.search(r"(format following|knowledge) \d\.\d{3}", tip)]
    assert len(shares) > 100
    assert all("95% interval" in tip and re.search(r"n = 40|mean of 2 tasks", tip) for tip in shares)


def test_the_page_has_landmarks_one_heading_and_headers_for_rows_and_columns(text: str) -> None:
    elements = Elements(text)
    tags = Counter(tag for tag, _ in elements.found)
    assert (tags["h1"], tags["main"], tags["header"], tags["footer"]) == (1, 1, 1, 1)
    sections = [attrs["id"] for tag, attrs in elements.found if tag == "section"]
    assert sections == ["overview", "map", "ranking", "tests", "cost", "samples"]
    assert tags["caption"] == tags["table"] > 5
    assert {attrs.get("scope") for tag, attrs in elements.found if tag == "th"} == {"col", "row", "rowgroup", "colgroup", None}
    unscoped = [attrs for tag, attrs in elements.found if tag == "th" and "scope" not in attrs]
    assert all(attrs.keys() == {"colspan"} for attrs in unscoped), "only what spans columns without a title has no scope"
    assert all(attrs.get("aria-label") for tag, attrs in elements.found if tag == "svg")


@pytest.mark.parametrize(("tasks", "heads"), [(4, ["format", "knowledge", "exact match"]), (5, ["format", "knowledge"])])
def test_exact_match_stands_beside_the_claim_where_columns_are_few(tasks: int, heads: list[str]) -> None:
    names = [f"t{i}" for i in range(tasks)]
    scores = Scores(caption="c", models=[], fit=0, tasks=names, protocols=[], metrics=[spec(name) for name in HEADLINE], at={})
    assert list(matrix(scores).head) == ["protocol", *heads * tasks]


def test_what_failed_and_what_waits_is_on_the_first_screen() -> None:
    cells = [
        RunCell(model="m", task="t", protocol="zero_shot", status="failed", kind="EngineError", reason=f"died: {HOSTILE}"),
        RunCell(model="m", task="t", protocol="few_shot", seed=0, status="waiting"),
    ]
    text = html("g", sections(Recorded(name="g", cells=cells, grid={})), lambda room: pack([], [], [], room=room))
    assert "0 of 2 cells done, 1 failed, 1 still to be done" in text
    assert "died: &lt;/script&gt;" in text
    assert [attrs["id"] for tag, attrs in Elements(text).found if tag == "section"] == ["overview"]


def test_the_page_says_each_task_s_form_in_words_where_the_run_tells() -> None:
    metric = Metric(name="format_following", value=0.5, n=2, stderr=0.4, ci_low=0.1, ci_high=0.9)
    cells = [RunCell(model="m", task="t", protocol="zero_shot", metrics={None: [metric]})]
    for form, there in (("one line of <b>", True), ("", False)):
        grid = {"tasks": [{"task": "t", "form": form}]}
        text = html("g", sections(Recorded(name="g", cells=cells, grid=grid)), lambda room: pack([], [], [], room=room))
        assert ("one line of &lt;b&gt;" in text) is there


def test_a_curve_says_where_format_following_settles_and_has_its_numbers_behind_it() -> None:
    def point(value: float) -> Metric:
        return Metric(name="format_following", value=value, n=50, stderr=0.0, ci_low=max(0.0, value - 0.1), ci_high=value)

    metrics = {step: [point(value)] for step, value in ((0, 0.0), (10, 0.4), (20, 0.95), (40, 1.0))}
    cells = [RunCell(model="m", task="t", protocol="soft_prompt", seed=0, metrics=metrics)]
    text = html("g", sections(Recorded(name="g", cells=cells, grid={})), lambda room: pack([], [], [], room=room))
    assert "settled by step 20" in text
    assert 'data-tip="step 10: format following 0.400, 95% interval 0.300 to 0.400, n = 50"' in text
    row = re.search(r'<th scope="row">format following</th>(.*?)</tr>', text, re.S)
    assert row is not None
    assert re.findall(r">(\d\.\d\d) <small>", row[1]) == ["0.00", "0.40", "0.95", "1.00"]
    assert row[1].endswith("<td>20</td>")


def test_orders_agree_as_rank_says(recorded: Path, text: str) -> None:
    assert "tau-b 1.00, 95% interval" in text
    assert "n = 3 models" in text
    assert re.search(r"base, zero_shot: base-c, place 1 of 3, 0\.\d{3}, standard error", text)


def test_a_grid_too_large_for_a_page_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_of_page, "MOST_PLACES", 6)
    metric = Metric(name="format_following", value=0.5, n=10, stderr=0.1, ci_low=0.2, ci_high=0.8)
    places = [(f"m{i}", f"t{j}") for i in range(9) for j in range(2)]
    cells = [RunCell(model=model, task=task, protocol="zero_shot", metrics={None: [metric]}) for model, task in places]
    text = html("g", sections(Recorded(name="g", cells=cells, grid={})), lambda room: pack([], [], [], room=room))
    assert "The first 3 of 9 models are shown here" in text
    assert "m2" in text
    assert "m3" not in text


def test_models_are_called_by_what_tells_them_apart() -> None:
    assert short_names(["a/x", "b/y"]) == {"a/x": "x", "b/y": "y"}
    assert short_names(["a/x", "b/x"]) == {"a/x": "a/x", "b/x": "b/x"}


def test_what_workers_of_a_model_share_is_counted_once() -> None:
    metric = Metric(name="format_following", value=0.5, n=10, stderr=0.1, ci_low=0.2, ci_high=0.8)
    costs: list[Mapping[str, float]] = [
        {"load_s": 3.0, "engine_start_s": 5.0, "answer_s": 1.0, "judge_engine_start_s": 4.0, "judge_s": 1.0},
        {"load_s": 3.0, "engine_start_s": 5.0, "answer_s": 2.0, "judge_engine_start_s": 4.0, "judge_s": 6.0},
        {"load_s": 7.0, "engine_start_s": 5.5, "answer_s": 4.0, "peak_rss_bytes": 2.0**30},  # another worker
    ]
    cells = [RunCell(model="m", task="t", protocol="p", metrics={None: [metric]}, costs=each) for each in costs]
    found, judging = spent(cells), spent_judging(cells)
    assert {name: value for name, value in found.phases.items() if value} == {
        "load_s": 10,
        "engine_start_s": 10.5,
        "answer_s": 7,
    }
    assert (found.cells, found.rows, found.host_bytes) == (3, 30, 2**30)
    assert (judging.phases["judge_engine_start_s"], judging.phases["judge_s"], judging.cells) == (4, 6, 2)


# hostile text


def test_nothing_of_a_model_becomes_markup(text: str) -> None:
    elements = Elements(text)
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") or name == "style" for name in attrs)]
    assert not [tag for tag, _ in elements.found if tag in ("img", "iframe", "object", "embed", "base", "link", "form[action]")]
    kinds = Counter(attrs.get("type") for tag, attrs in elements.found if tag == "script")
    assert kinds.pop(None) == 1, "the page's own"
    assert set(kinds) == {"text/plain"}
    assert "onerror" not in text


def test_the_page_allows_its_own_script_and_style_and_nothing_else(text: str) -> None:
    (policy,) = (attrs["content"] for _, attrs in Elements(text).found if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_what_cannot_be_seen_is_written_out(text: str) -> None:
    shown = visible(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", shown)
    assert visible("a\u202eb\n") == "a\u27e8U+202E\u27e9b\u27e8U+000A\u27e9"


def test_a_figure_is_shapes_and_text_whatever_its_labels_are() -> None:
    row = {"model": HOSTILE[:30], "value": 1.0, "rank": 0, "colour": "var(--c1)", "tip": HOSTILE[:30]}
    root = ElementTree.fromstring(draw(Figure(drawing="cost", rows=[row], label=f'"{HOSTILE[:30]}"')))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "g", "path", "line", "rect", "text"}
    assert [e.get("data-tip") for e in root.iter() if "data-tip" in e.attrib] == [HOSTILE[:30]]
    assert not [name for element in root.iter() for name in element.attrib if name in ("style", "href", "class", "onload")]


# samples


def verdicts(rng: np.random.Generator, rows: int, *, form: float = 0.5, flips: bool = False) -> CellVerdicts:
    columns = {name: rng.random(rows) < form for name in ("format_ok", "knows", "correct")}
    examples = [f"{i:016x}" for i in rng.permutation(rows)]
    return CellVerdicts(examples=examples, flipped=rng.random(rows) < 0.1 if flips else None, **columns)


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_row_is_chosen_once_and_the_same_way_each_time(sizes: Sequence[int], seed: int, flips: bool) -> None:
    cells = [verdicts(np.random.default_rng(seed + i), n, flips=flips) for i, n in enumerate(sizes)]
    of_cell, of_row = chosen(cells)
    assert sorted(zip(of_cell.tolist(), of_row.tolist(), strict=True)) == [
        (i, j) for i, n in enumerate(sizes) for j in range(n)
    ]
    again = chosen(cells, 10)
    assert (of_cell[:10].tolist(), of_row[:10].tolist()) == (again[0].tolist(), again[1].tolist())


def test_half_of_what_is_chosen_failed_the_form_evenly_over_cells() -> None:
    cells = [verdicts(np.random.default_rng(i), 2000, form=0.9) for i in range(4)]
    of_cell, of_row = chosen(cells, 1024)
    failed = [not cells[i].format_ok[j] for i, j in zip(of_cell, of_row, strict=True)]
    assert sum(failed) == 512
    assert min(Counter(of_cell[failed].tolist()).values()) >= 127
    assert all(count > 100 for count in Counter(of_cell[~np.array(failed)].tolist()).values())


def test_the_same_rows_are_there_for_every_cell() -> None:
    rng = np.random.default_rng(0)
    columns = dict.fromkeys(("format_ok", "knows", "correct"), np.zeros(500, bool))
    cells = [CellVerdicts(examples=[f"{i:016x}" for i in rng.permutation(500)], **columns) for _ in range(3)]
    of_cell, of_row = chosen(cells, 60)
    by_cell = [{cells[k].examples[j] for i, j in zip(of_cell, of_row, strict=True) if i == k} for k in range(3)]
    assert by_cell[0] == by_cell[1] == by_cell[2] == {f"{i:016x}" for i in range(20)}


def test_rows_that_another_run_sees_differently_come_first() -> None:
    cells = [verdicts(np.random.default_rng(i), 300, flips=True) for i in range(2)]
    of_cell, of_row = chosen(cells)
    flipped = [bool(cells[i].flipped[j]) for i, j in zip(of_cell, of_row, strict=True)]  # type: ignore[index]
    assert flipped == sorted(flipped, reverse=True)
    assert 0 < sum(flipped) < 600


def sample(i: int, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("extracted", "rule", "scores", "chosen", "format_by_rule", "knows_by_rule"))
    row |= {"example": f"{i:016x}", "prompt": f"Answer so.\nExample one.\nQuestion {i}?", "completion": f"said {i}"}
    row |= {"format_ok": i % 2 == 0, "knows": True, "correct": False, "answers": ["A"], "target": "A", "option_logprobs": []}
    return {**row, "options": None, "span": None, "finish_reason": "stop", **more}


def packed(rows: Sequence[dict[str, Any]], room: int | None) -> Samples:
    cell = SampleCell(key="k", model="m", task="t", protocol="p", seed=None, closed_ended=False)
    columns = {name: np.array([row[name] for row in rows], bool) for name in ("format_ok", "knows", "correct")}
    known = CellVerdicts(examples=[row["example"] for row in rows], **columns)
    return pack([cell], [known], [(0, row) for row in rows], room=room)


def test_packed_rows_are_read_back_with_what_their_prompts_have_in_common_kept_once() -> None:
    found = packed([sample(i) for i in range(600)], None)
    about, rows = unpacked("".join(f'<script type="text/plain" class="block">{block}</script>' for block in found.blocks))
    assert about["heads"] == ["", "Answer so.\nExample one.\n"]
    assert {(row[1], about["heads"][row[2]] + row[3], row[4]) for row in rows} == {
        (f"{i:016x}", f"Answer so.\nExample one.\nQuestion {i}?", f"said {i}") for i in range(600)
    }
    assert {row[5] for row in rows} == {2, 3}
    assert found.told == "All 600 rows of the last step are in this file."


def test_a_row_carries_its_options_and_where_its_value_stands_and_the_page_what_rules_look_for() -> None:
    value = sample(0, completion="\U0001f600 #### 18", extracted="18", rule="hash_number", span=[7, 9])
    found = packed([value, sample(1, options=["A. x", "B. y"], option_logprobs=[-1.0, -2.0], chosen=0)], None)
    about, rows = unpacked("".join(f'<script type="text/plain" class="block">{block}</script>' for block in found.blocks))
    assert rows[0][14] == [8, 10], "as JavaScript counts: the smiley is two"
    assert rows[1][15] == ["A. x", "B. y"]
    assert about["rules"]["hash_number"].startswith('"#### 18", with nothing else on the line')


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    rng = np.random.default_rng(0)
    rows = [sample(i, completion=rng.bytes(200).hex()) for i in range(2000)]
    found = packed(rows, 100_000)
    assert 0 < found.size <= 100_000
    assert 0 < found.shown < 2000
    assert f"{found.shown:,} of 2,000 rows" in found.told
    assert f"{found.failures_shown:,} of the 1,000 whose form failed" in found.told


def test_a_text_of_a_megabyte_is_cut_in_a_page_that_has_little_room_and_nowhere_else() -> None:
    rows = [sample(0, completion="x" * 1_000_000)]
    for room, kept in (
        (3_000_000, "x" * 20_000 + "\n[980,000 more characters are in samples.parquet]"),
        (None, "x" * 1_000_000),
    ):
        blocks = (f'<script type="text/plain" class="block">{block}</script>' for block in packed(rows, room).blocks)
        ((*_, completion, _, _),) = (row[:7] for row in unpacked("".join(blocks))[1])
        assert completion == kept


# the files


def test_the_page_is_the_same_whenever_it_is_written_and_stays_under_its_size(recorded: Path, text: str) -> None:
    assert page_of(recorded) == text
    assert len(text.encode()) < MOST_BYTES
    _, rows = unpacked(text)
    assert len(rows) == 6 * 2 * 5 * 40


def report(*arguments: str | Path) -> int:
    """Run `spt-fast report`; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_report_writes_a_page_with_as_many_samples_as_are_asked_for(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(recorded, "--samples", "7") == 0
    assert capsys.readouterr().err.strip() == str(recorded / "report-samples.html")
    assert len(unpacked((recorded / "report-samples.html").read_text())[1]) == 7
    for wrong in ("0", "-1", "some"):
        assert report(recorded, "--samples", wrong) == 2
        assert f"--samples: '{wrong}' must be a number of rows, or all" in capsys.readouterr().err


def test_of_a_huge_grid_a_page_shows_some_cells_and_ranks_no_models(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MOST_SAMPLED", 5)
    monkeypatch.setattr(build, "MOST_RANKED", 59)
    text = page_of(recorded)
    assert "All 200 rows of the last step, of 5 of 60 cells, are in this file." in text
    assert len({row[0] for row in unpacked(text)[1]}) == 5
    assert "60 cells, too many to rank while a page is written" in text


def test_report_against_another_run_has_the_rows_that_the_two_disagree_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("m", "t", "soft_prompt", 0)
    before = write_run(tmp_path / "a", {place: [i < 60 for i in range(100)]}, completion=lambda model, i: f"before {i}")
    after = write_run(tmp_path / "b", {place: [i < 50 for i in range(100)]}, completion=lambda model, i: f"after {i}")
    assert report(after, "--against", before) == 0
    text = (after / "report-against.html").read_text()
    _, rows = unpacked(text)
    assert {(row[4], row[13][0]) for row in rows if len(row) > 13} == {(f"after {i}", f"before {i}") for i in range(50, 60)}
    assert "3 of 3 comparisons changed significantly" in text
    assert "points, 95% interval" in text
    assert report(after, "--against", tmp_path) == 2
    assert "is not a run folder" in capsys.readouterr().err
