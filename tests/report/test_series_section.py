"""The section on a series: metrics along tokens or steps, the gate's verdicts, the fault's onset and the sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from spt_fast.cli.tables import tell
from spt_fast.report.folder import kept_tables, write_tables
from spt_fast.report.markdown import markdown
from spt_fast.report.parts import Prose, Section
from spt_fast.store import Store
from spt_fast.watch.verdict import Kind, Verdict
from tests.helpers.series import SERIES, Plan, step, write_series

ROWS = 300
TOKENS = {f"step-{i}": {"steps": i, "tokens": i * 10**9} for i in range(1, 9)}


def plant(folder: Path, *, checkpoints: int = 8, fall: float = 0.3) -> Path:
    """Knowledge falls from the fifth checkpoint on, under two protocols and on two tasks."""
    rng = np.random.default_rng(0)
    verdicts = {}
    for task in ("zoo-mcq", "zoo-short"):
        known = Plan(means=step(5, of=checkpoints, by=fall)).draw(rng, ROWS)
        for protocol in ("zero_shot", "soft_prompt"):
            verdicts[task, protocol] = (Plan(means=step(1, of=checkpoints, level=0.9)).draw(rng, ROWS), known)
    return write_series(folder, verdicts, closed_ended=["zoo-mcq"], trained=TOKENS)


def verdict(i: int, said: Kind, why: str = "the check passes.") -> Verdict:
    return Verdict(
        id=str(i),
        checkpoint=f"run7/step-{i}",
        verdict=said,
        accepted=said == "pass",
        why=why,
        series=SERIES,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = plant(tmp_path_factory.mktemp("series") / "run")
    store = Store(folder)
    for each in (verdict(4, "pass"), verdict(5, "fail", "it <b>dropped</b> \x1b[31m by 30 points"), verdict(6, "undecided")):
        store.verdicts.put(each.plain)
    store.verdicts.put(verdict(9, "broken", "has no tokenizer").plain)
    write_tables(folder)
    return folder


def test_the_page_draws_each_metric_along_tokens_with_the_onset_and_the_verdicts(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="series"')[2].partition("</section>")[0]
    assert "Knowledge fell and the form stayed: from step-5 on, knowledge fell by" in section
    assert section.count("<figure>") == 2 * 3
    assert section.count('data-tip="the fault begins: from step-5 on"') == 1, (
        "knowledge fell, and is followed behind soft prompts"
    )
    assert section.count("from step-5 on</p>") == 1
    assert 'aria-label="format following, soft_prompt along tokens"' in section
    assert '<p class="prose">run7/step-*: Knowledge fell' in section
    assert '<span class="k0" aria-hidden="true">\u271a</span> failed the gate' in section
    marks = [mark for mark in re.findall(r"<path[^>]*>", section) if '; fail"' in mark]
    assert len(marks) == 2 * 3
    assert all("var(--bad)" in mark for mark in marks), "as the legend has it"
    assert re.search(r'data-tip="step-5: knowledge 0\.\d+, 95% interval [^"]*, mean of 2 tasks; fail"', section)
    assert "failed the gate" in section
    assert ">8B<" in section
    assert "&lt;b&gt;dropped&lt;/b&gt;" in section
    assert "\x1b" not in section


def test_results_json_has_the_onset(run: Path) -> None:
    (found,) = json.loads((run / "results.json").read_text(encoding="utf-8"))["series"]
    assert (found["name"], found["fault"], found["onset"]) == (SERIES, "knowledge", "step-5")
    assert found["sentence"].startswith("Knowledge fell and the form stayed: ")


def test_markdown_has_the_sentence_the_verdicts_and_the_numbers(run: Path) -> None:
    text = (run / "report.md").read_text(encoding="utf-8")
    section = text.partition("\n## Series")[2].partition("\n## ")[0]
    sentence = next(line for line in section.splitlines() if "from step-5 on, knowledge fell by" in line)
    assert sentence.startswith("run7/step-*: Knowledge fell and the form stayed: ")
    assert re.search(r"\(soft_prompt: -\S+ \[-[\d.]+, -[\d.]+\]\), against step-4; the form stayed \(zero_shot: ", sentence)
    assert "&#" not in sentence
    assert "| `run7/step-9` | broken | `\u2013` | no |" in section
    assert re.search(r"\| `soft_prompt` \| `step-8` \| 8,000,000,000 \| 0\.\d\d \(", section)


def test_the_terminal_has_the_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(run, as_json=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "run7/step-*: Knowledge fell and the form stayed: from step-5 on, knowledge fell by" in said


def test_a_further_verdict_makes_the_tables_anew(run: Path) -> None:
    store = Store(run)
    assert kept_tables(store) is not None
    store.verdicts.put(verdict(8, "fail").plain)
    assert kept_tables(store) is None


def test_a_series_of_two_checkpoints_has_no_section(tmp_path: Path) -> None:
    write_tables(plant(tmp_path / "run", checkpoints=2, fall=0.0))
    assert "## Series" not in (tmp_path / "run/report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("run7/step-*: it fell (zero_shot: -77.8 [-83.6, -69.8]).", None),
        ("0.0 [-8.0, +8.0]", None),
        ("[1, 2](http://x)", "&#91;1, 2&#93;(http&#58;//x)"),
        ("[1, 2]: http://x", "&#91;1, 2&#93;: http&#58;//x"),
        ("[1, 2][a]", "&#91;1, 2&#93;&#91;a&#93;"),
        ("[step-1, 2]", "&#91;step-1, 2&#93;"),
        ("*it* broke", "&#42;it&#42; broke"),
        ("* it broke", "&#42; it broke"),
        ("\ue000x\ue001(http://x) \ue002", "x(http&#58;//x)"),
    ],
)
def test_a_sentence_in_markdown_is_escaped_where_something_would_be_markup(said: str, shown: str | None) -> None:
    page = markdown("w", [Section(id="series", title="Series", parts=[Prose(text=said)])])
    assert page.rstrip("\n").rpartition("\n")[2] == (said if shown is None else shown)


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series of which two checkpoints were stopped early."""
    rng = np.random.default_rng(1)
    verdicts = {}
    for task in ("zoo-mcq", "zoo-short"):
        known = Plan(means=step(5, of=5, by=0.3)).draw(rng, ROWS)
        verdicts[task, "soft_prompt"] = (Plan(means=step(1, of=5, level=0.9)).draw(rng, ROWS), known)
    folder = tmp_path_factory.mktemp("early") / "run"
    write_series(folder, verdicts, closed_ended=["zoo-mcq"], stopped={"step-3": 120, "step-5": 60})
    Store(folder).verdicts.put(verdict(5, "fail").plain)
    write_tables(folder)
    return folder


def test_checkpoints_that_were_stopped_early_have_hollow_points_and_say_so(early: Path) -> None:
    page = (early / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="series"')[2].partition("</section>")[0]
    assert "Stopped early (stop): run7/step-3, run7/step-5. Their points are hollow" in section
    assert '<span class="k1" aria-hidden="true">\u25cb</span> stopped early' in section
    hollow = [mark for mark in re.findall(r"<path[^>]*>", section) if "stopped after" in mark]
    assert len(hollow) == 2 * 3
    assert all('fill="var(--paper)"' in mark for mark in hollow)
    assert sum("stopped after 120 of 600 rows; fail" in mark and 'stroke="var(--bad)"' in mark for mark in hollow) == 3
    whole = [mark for mark in re.findall(r"<path[^>]*>", section) if "step-4: " in mark]
    assert len(whole) == 3
    assert not any("var(--paper)" in mark for mark in whole)


def test_tables_of_a_series_say_of_how_many_rows_a_number_is(early: Path) -> None:
    text = (early / "report.md").read_text(encoding="utf-8")
    section = text.partition("\n## Series")[2].partition("\n## ")[0]
    rows = re.findall(r"\| `soft_prompt` \| `step-(\d)` \| \d+ \| (all|\d+ of \d+) \| 0\.\d\d \(", section)
    assert rows[:5] == [("1", "all"), ("2", "all"), ("3", "240 of 600"), ("4", "all"), ("5", "120 of 600")]
    assert "2 of 5 checkpoints were stopped early (after 120 to 240 of 600 rows)" in section


def test_a_stopped_checkpoint_is_drawn_by_its_change_not_by_the_mean_of_its_few_rows(early: Path) -> None:
    """The mean of its own 60 rows a task may be far from that of all; nothing but the fall is to move the line."""
    text = (early / "report.md").read_text(encoding="utf-8")
    section = text.partition("\n## Series")[2].partition("\n## ")[0]
    lines = [line.split(" | ") for line in section.splitlines() if line.startswith("| `soft_prompt` | `step-")][:5]
    knowledge = [float(line[5].split(" ")[0]) for line in lines]
    assert knowledge[2] == pytest.approx(knowledge[1], abs=0.03)
    assert knowledge[4] == pytest.approx(knowledge[3] - 0.3, abs=0.09)
