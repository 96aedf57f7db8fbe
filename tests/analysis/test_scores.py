"""Tables of scores: what people have, read as it is meant, and refused in a sentence where it is not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from spt_fast.analysis.scores import only, read_partners, read_scores, read_truth
from spt_fast.errors import ConfigError


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_csv_of_three_columns_is_enough(tmp_path: Path) -> None:
    table = read_scores(written(tmp_path, "s.csv", "benchmark,model,score\nb,m1,0.5\nb,m2,\nb,m3,7e-1\n"))
    assert [(s.model, s.task, s.value) for s in table.scores] == [("m1", "b", 0.5), ("m3", "b", 0.7)]
    assert table.protocols == ("score",)


def test_our_own_results_are_read_at_the_last_step_of_the_metric_asked_for(tmp_path: Path) -> None:
    head = "model,task,protocol,seed,step,metric,value,stderr,ci_low,ci_high,n\n"
    rows = [
        "m,t,soft_prompt,0,0,exact_match,0.1,0.01,0,1,9",
        "m,t,soft_prompt,0,80,exact_match,0.6,0.01,0,1,9",
        "m,t,soft_prompt,0,80,knowledge,0.7,0.01,0,1,9",
        "m,t,zero_shot,,,exact_match,0.2,,0,1,9",
    ]
    path = written(tmp_path, "results.csv", head + "\n".join(rows) + "\n")
    found = {(s.protocol, s.seed): s.value for s in read_scores(path).scores}
    assert found == {("soft_prompt", "0"): 0.6, ("zero_shot", ""): 0.2}
    assert [s.value for s in read_scores(path, metric="knowledge").scores] == [0.7]
    with pytest.raises(ConfigError, match="no metric 'f1'; choose from exact_match, knowledge"):
        read_scores(path, metric="f1")


def test_results_json_tells_whose_partner_a_model_is(tmp_path: Path) -> None:
    metric = {"step": None, "metric": "exact_match", "value": 0.5, "stderr": 0.1}
    cells = [
        {"model": "b", "task": "t", "protocol": "zero_shot", "seed": None, "partner_of": None, "metrics": [metric]},
        {"model": "c", "task": "t", "protocol": "zero_shot", "seed": None, "partner_of": "b", "metrics": [metric]},
    ]
    table = read_scores(written(tmp_path, "results.json", {"name": "g", "cells": cells}))
    assert table.partners == {"b": "c"}
    assert table.metric == "exact_match"


def test_nested_json_may_have_protocols_and_errors(tmp_path: Path) -> None:
    nested = {"plain": {"t": {"m": 0.5, "n": None}}, "plain_stderr": {"t": {"m": 0.1}}, "tuned": {"t": {"m": 0.7, "n": 1}}}
    table = read_scores(written(tmp_path, "s.json", nested))
    assert [(s.protocol, s.model, s.value) for s in table.scores] == [
        ("plain", "m", 0.5),
        ("tuned", "m", 0.7),
        ("tuned", "n", 1.0),
    ]
    assert table.scores[0].stderr == 0.1
    assert math.isnan(table.scores[1].stderr)
    flat = read_scores(written(tmp_path, "f.json", {"t": {"m": 0.5}}))
    assert flat.protocols == ("score",)
    lines = read_scores(written(tmp_path, "s.jsonl", '{"model": "m", "task": "t", "value": 1}\n'))
    assert lines.models == ("m",)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("s.csv", "model,tsk,value\nm,t,1\n", "there is no column task or benchmark; did you mean 'tsk'"),
        ("s.csv", "model,task,value\nm,t,high\n", r"line 2: value: must be a number, not text \('high'\)"),
        ("s.csv", "model,task,value\nm,t,inf\n", "line 2: value: must be a number from -1e\\+15 to 1e\\+15, not inf"),
        ("s.csv", "model,task,value\nm,t\n", "line 2: has another number of fields than the 3 of the first line"),
        ("s.csv", "model,task,value\n,t,1\n", "line 2: model is empty"),
        ("s.csv", "model,task,value\nm,t,1\nm,t,2\n", "m on t appears twice"),
        ("s.csv", "model,task,value,metric\nm,t,1,a\nm,t,2,b\n", "choose one with --metric: a, b"),
        ("s.csv", "model,task,value\n", "has no scores"),
        ("s.json", "{", "not JSON"),
        ("s.json", "3", "must be {task: {model: value}}"),
        ("s.json", '{"t": 3}', "t: must be {name: value}"),
        ("s.json", '[{"model": "m", "task": "t"}]', r"\[0\]: value is missing"),
        ("s.json", "[3]", r"\[0\]: must be an object"),
        ("s.json", '{"t": {"m": true}}', "score.t.m: must be a number, not true or false"),
    ],
)
def test_what_is_no_table_of_scores_is_a_sentence(name: str, content: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_scores(written(tmp_path, name, content))


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    for read in (read_scores, read_partners, read_truth):
        with pytest.raises(ConfigError, match="no such file"):
            read(tmp_path / "x.csv")


def test_partners_and_truth_are_mappings(tmp_path: Path) -> None:
    assert read_partners(written(tmp_path, "p.yaml", "a/base: a/chat\n")) == {"a/base": "a/chat"}
    assert read_truth(written(tmp_path, "t.yaml", "m1: 0.4\nm2: 1\n")) == {"": {"m1": 0.4, "m2": 1.0}}
    assert read_truth(written(tmp_path, "u.yaml", "t: {m1: 0.4}\n")) == {"t": {"m1": 0.4}}
    with pytest.raises(ConfigError, match="a: must be the name of a model"):
        read_partners(written(tmp_path, "q.yaml", "a: 3\n"))
    with pytest.raises(ConfigError, match="must be"):
        read_truth(written(tmp_path, "v.yaml", "- 1\n"))
    with pytest.raises(ConfigError, match="line 2, column 1: not YAML"):
        read_truth(written(tmp_path, "w.yaml", "a: [\n"))


def test_only_some_tasks_or_models_are_kept(tmp_path: Path) -> None:
    table = read_scores(written(tmp_path, "s.json", {"t": {"m": 0.5, "n": 0.1}, "u": {"m": 0.2}}))
    assert only(table, tasks=["t"], models=["m"]).scores == table.scores[:1]
    assert only(table) == table
