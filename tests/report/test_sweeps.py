"""Each figure of a sweep changes one setting and marks the paper's; what is known of soft prompts is shown as it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from spt_fast.analysis.cells import RunCell
from spt_fast.config import SoftPromptConfig
from spt_fast.prompts.meaning import Placed
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.report import Recorded, sections
from spt_fast.report.grid import Grid
from spt_fast.report.html import html, pack
from spt_fast.report.html.figures import draw
from spt_fast.report.parts import Figures
from spt_fast.report.recorded import Known
from spt_fast.report.sections.sweeps import Sweep, section, swept
from spt_fast.types import Metric
from tests.helpers.hostile import HOSTILE
from tests.helpers.meanings import MEANING, PROBE


def cells_of(protocols: Iterable[Mapping[str, Any]], seeds: Iterable[int] = (0, 1)) -> list[RunCell]:
    """Cells with these settings: more vectors follow the format more."""
    found = []
    for given in protocols:
        protocol = SoftPromptConfig(**given)
        settings = {each.name: getattr(protocol, each.name) for each in fields(protocol)}
        label = f"soft_prompt[{','.join(f'{name}={value}' for name, value in given.items())}]"
        for seed in seeds:
            form = min(1.0, 0.05 * protocol.length + 0.01 * seed)
            metrics = [
                Metric(name=name, value=value, n=50, stderr=0.05, ci_low=max(0.0, value - 0.1), ci_high=min(1.0, value + 0.1))
                for name, value in (("format_following", form), ("knowledge", 0.6))
            ]
            found.append(
                RunCell(
                    model="m",
                    task="t",
                    protocol=label,
                    seed=seed,
                    metrics={protocol.steps: metrics},
                    settings=settings,
                    key=label,
                )
            )
    return found


ONE = cells_of([{}], seeds=[0])


def found_in(cells: list[RunCell]) -> list[Sweep]:
    return swept(Grid(cells=cells, resolved={}), "t", "m")


def said(sweep: Sweep) -> tuple[str, str, list[str]]:
    return sweep.setting, sweep.beside, [point.name + "*" * point.paper for point in sweep.points]


def test_one_setting_changes_at_a_time_and_the_default_comes_first() -> None:
    product = [{"length": length, "init": init} for init in ("vocabulary", "normal") for length in (20, 1, 10)]
    found = [said(sweep) for sweep in found_in(cells_of([*product, {"lr": 0.1}, {"lr": 0.1, "steps": 40}]))]
    assert found == [
        ("length", "init=vocabulary", ["1", "10*", "20"]),
        ("length", "init=normal", ["1", "10*", "20"]),
        ("init", "length=10", ["vocabulary", "normal*"]),
        ("init", "length=20", ["vocabulary", "normal*"]),
        ("init", "length=1", ["vocabulary", "normal*"]),
        ("steps", "", ["40", "80*"]),
        ("lr", "", ["auto", "0.1"]),
    ]


def test_what_goes_with_a_setting_is_no_sweep_of_its_own() -> None:
    starts: list[dict[str, Any]] = [
        {"init": "normal"},
        {"init": "vocabulary", "init_tokens": 500},
        {"init": "text", "init_text": "a"},
        {"init": "text", "init_text": "b"},
    ]
    found = [said(sweep) for sweep in found_in(cells_of(starts))]
    assert found == [
        ("init", "", ["normal*", "vocabulary", "text (init_text=a)", "text (init_text=b)"]),
        ("init_text", "", ["a", "b"]),
    ]


def test_other_protocols_are_swept_too_and_have_no_setting_of_the_paper() -> None:
    cells = [
        replace(cell, protocol=f"few_shot[shots={shots}]", settings={"shots": shots}) for shots in (1, 5, 20) for cell in ONE
    ]
    (sweep,) = found_in(cells)
    assert (sweep.protocol, *said(sweep)) == ("few_shot", "shots", "", ["1", "5", "20"])
    found = section(Recorded(name="g", cells=cells))
    assert found is not None
    (figures,) = (part for part in found.parts if isinstance(part, Figures) and part.figures)
    assert figures.title == "t: shots of few_shot"
    assert "paper" not in draw(figures.figures[0])


def test_nothing_is_swept_where_settings_only_change_together() -> None:
    cells = cells_of([{}, {"optimizer": "adafactor", "lr": 0.3, "weight_decay": 1e-5}])
    assert section(Recorded(name="g", cells=cells)) is None


def test_a_sweep_is_drawn_with_its_seeds_its_intervals_and_the_setting_of_the_paper() -> None:
    cells = cells_of([{"length": length, "init": init} for length in (1, 10, 50) for init in ("normal", "uniform")])
    text = html("g", sections(Recorded(name="g", cells=cells, grid={})), lambda room: pack([], [], [], room=room))
    (drawn,) = re.findall(r'<section id="sweeps".*?</section>', text, re.S)
    assert 'data-tip="length (vectors) 1: format following 0.055, 95% interval 0.000 to 0.160, n = 50, mean of 2 seeds' in drawn
    assert 'data-tip="length (vectors) 1: format following 0.060, seed 1"' in drawn
    assert drawn.count('data-tip="the paper\'s setting: length (vectors) 10"') == 2, "a line in each figure of a length"
    assert "normal (paper)" in drawn
    assert re.findall(r"<caption>(.*?)</caption>", drawn) == ["t: length (vectors)", "t: start"]
    row = re.search(r'<th scope="row">format following</th>(.*?)</tr>', drawn, re.S)
    assert row is not None
    assert re.findall(r">(\d\.\d\d) <small>", row[1]) == ["0.06", "0.51", "1.00"]
    assert re.findall(r'<th scope="col">(.*?)</th>', drawn)[:3] == ["1", "10 (paper)", "50"]


def test_a_rate_is_drawn_over_decades_and_a_paper_outside_is_told() -> None:
    cells = cells_of([{"lr": 0.01}, {"lr": 0.02}, {"lr": 0.5}])
    found = section(Recorded(name="g", cells=cells))
    assert found is not None
    (figure,) = (figure for part in found.parts if isinstance(part, Figures) for figure in part.figures)
    assert figure.note == "the paper's is 0.001"
    places = [
        float(x) for x in re.findall(r'transform="translate\(([\d.]+),[\d.]+\)"[^>]*data-tip="learning rate', draw(figure))
    ]
    first, second, third = sorted(set(places))
    assert (second - first) / (third - first) == pytest.approx(np.log(0.02 / 0.01) / np.log(0.5 / 0.01), abs=0.01)


def test_what_is_known_of_soft_prompts_is_shown_and_nothing_of_a_token_becomes_markup() -> None:
    cells = cells_of([{}])
    hostile = MEANING.vectors[0].by_cosine[0]._replace(token=HOSTILE)
    meaning = replace(MEANING, vectors=(replace(MEANING.vectors[0], by_cosine=(hostile,), moved=2.5),))
    (variant,) = PROBE.variants
    both = {"metrics": (*variant.metrics, replace(variant.metrics[0], name="knowledge"))}
    changes = {**variant.changes, "knowledge": variant.changes["format_following"]}
    probe = replace(
        PROBE,
        tokens=(HOSTILE,),
        variants=tuple(
            replace(variant, name=name, changes=changes, **both) for name in ("zero_shot", "soft_prompt", "without")
        ),
    )
    learnt = [
        Placed("m", "t", cells[0].protocol, seed, SoftPrompt(vectors=np.float32([[1, seed, 0], [0, 1, 1]]))) for seed in (0, 1)
    ]
    known = [Known(placed=learnt[0], meaning=meaning, probe=probe), Known(placed=learnt[1])]
    recorded = Recorded(name="g", cells=cells, grid={}, learnt=known, learnt_left_out=3)
    text = html("g", sections(recorded), lambda room: pack([], [], [], room=room))
    (section,) = re.findall(r'<section id="meaning".*?</section>', text, re.S)
    assert "The first 2 soft prompts of 5 are shown here" in section
    assert "How alike soft prompts are" in section
    assert ">0.85 <small>" in section, "two seeds: cosines 0.71 and 1"
    assert "without vector 0" in section
    assert "-50.0 <small>-75.0 to 25.0</small>" in section
    assert "onerror" not in section.replace("onerror=&#34;", "")
    assert "<img" not in section
