"""What values fields may have is declared beside them, and holds for whoever builds them."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.analysis.gate import Check, Policy
from spt_fast.config import (
    PROTOCOLS,
    FewShot,
    GridConfig,
    JudgeConfig,
    ModelConfig,
    PriceConfig,
    SoftPromptConfig,
    TaskConfig,
)
from spt_fast.config.ranges import Range, Text, in_words, range_of, require_plain
from spt_fast.config.reader import parse_grid
from spt_fast.config.strict import hints, scalar
from spt_fast.errors import ConfigError
from spt_fast.tasks.base import Cut
from spt_fast.tasks.custom.keys import AnswerKeys, TaskFile

GRID = "name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\n"
WRITTEN = (
    *PROTOCOLS.values(),
    GridConfig,
    ModelConfig,
    TaskConfig,
    JudgeConfig,
    PriceConfig,
    Check,
    Policy,
    TaskFile,
    AnswerKeys,
    Cut,
)


def _numeric(kind: Any) -> bool:
    return kind in (int, float) or (get_origin(kind) is not type and any(map(_numeric, get_args(kind))))


@pytest.mark.parametrize("cls", WRITTEN, ids=lambda cls: cls.__name__)
def test_every_number_that_a_person_can_write_has_a_range(cls: type[Any]) -> None:
    numbers = [f for f in fields(cls) if _numeric(hints(cls)[f.name]) and f.name != "truth"]  # each of those is a SCORE
    for f in numbers:
        allowed = range_of(f)
        assert isinstance(allowed, Range), f.name
        assert not allowed.has(math.nan)
        assert not allowed.has(math.inf)
        assert not allowed.has(10**400)
        assert not allowed.has(True)


WRONG = {
    "{weight_decay: .nan}": "weight_decay: must be a number from 0 to 1000, not nan",
    "{lr: .inf}": "lr: must be a number above 0 and at most 1000 or auto, not inf",
    "{lr: 1e400}": "lr: must be a number above 0 and at most 1000 or auto, not inf",
    f"{{lr: {10**399}}}": "lr: must be a number above 0 and at most 1000 or auto, not an integer of about 400 digits",
    "{lr: true}": "lr: must be a number or auto, not true or false",
    "{lr: -0.0}": "lr: must be a number above 0 and at most 1000 or auto, not -0.0",
    "{lr: [0.1, .nan]}": "lr: must be a number above 0",
    "{steps: 1e30}": "steps: must be a whole number, not text ('1e30')",
    "{steps: 3.0}": "steps: must be a whole number, not a number (3.0)",
    "{length: 1000000000000}": "length: must be a whole number from 1 to 65536",
    "{batch_size: 2147483648}": "batch_size: must be a whole number from 1 to 1000000, not 2147483648",
    "{max_grad_norm: .inf}": "max_grad_norm: must be a number above 0 and at most 1000000000, not inf",
    "{betas: [0.9, 1]}": "betas[1]: must be a number from 0 to below 1, not 1",
    "{evaluate_at: [-1]}": "evaluate_at[0]: must be a whole number from 0 to 10000000, not -1",
    f"{{init: text, init_text: {'a' * 200_000}}}": "init_text: must be text of at most 100000 characters",
    f"{{init: soft_prompt, init_from: {'a' * 300}}}": "init_from: must be a path",
}


@pytest.mark.parametrize(("settings", "said"), WRONG.items(), ids=[key[:30] for key in WRONG])
def test_a_value_out_of_its_range_is_named_with_the_range(settings: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_grid(f"{GRID}protocols: [zero_shot, {{soft_prompt: {settings}}}]\n")
    assert str(refused.value).startswith(f"protocols[1].soft_prompt.{said}")
    assert len(str(refused.value)) < 250


OF_THE_GRID = {
    f"seeds: [0, {'9' * 400}]": "seeds[1]: must be a whole number from -9007199254740991 to 9007199254740991, not an integer",
    "seeds: [true]": "seeds[0]: must be a whole number, not true or false",
    "limit: 1e30": "limit: must be a whole number",
    "limit: 2147483648": "limit: must be a whole number from 1 to 2147483647, not 2147483648",
    "rerun: .nan": "rerun: must be a share of the rows",
    "stop: {width: 3}": "stop.width: must be a share between 0 and 1, 2% or 0.02, not a whole number (3)",
    "stop: {check: rank, alpha: 0.7}": "stop.alpha: must be a number from 1e-09 to below 0.5, not 0.7",
    "price: .nan": "price: must be a number from 0 to 1000000000, not nan",
    f"price: {'9' * 400}": "price: must be a number from 0 to 1000000000, not an integer of about 401 digits",
    "truth: {zoo/base-40: .inf}": "truth.zoo/base-40: must be a number from -1e+15 to 1e+15, not inf",
    f"truth: {{zoo/base-40: -{'9' * 400}}}": "truth.zoo/base-40: must be a number",
    "engine: {window: 0}": "engine.window: must be a whole number from 1 to 1000000, not 0",
    "engine: {gpu_memory_utilization: 1.5}": "engine.gpu_memory_utilization: must be a number above 0 and at most 1",
    "engine: {x: {y: [.nan]}}": "engine.x.y[0]: must be a number",
    "output: ''": "output: must not be empty",
    'output: "a\\nb"': "output: must be a path of at most 4000 bytes",
    f"output: {'a/' * 2500}": "output: must be a path of at most 4000 bytes",
    f"output: {'a' * 256}": "output: must be a path",
    f"judge: {'a' * 256}": "judge.model: must be a path",
    "judge: {model: x/y, tensor_parallel: 5000}": "judge.tensor_parallel: must be a whole number from 1 to 1024",
    "judge: {model: x/y, chat_template_kwargs: {a: .inf}}": "judge.chat_template_kwargs.a: must be a number",
}


@pytest.mark.parametrize(("line", "said"), OF_THE_GRID.items(), ids=[key[:30] for key in OF_THE_GRID])
def test_numbers_names_and_paths_of_the_grid_have_ranges(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_grid(f"{GRID}{line}\n")
    assert str(refused.value).startswith(said)
    assert len(str(refused.value)) < 250


MODELS = {
    f"{{id: {'a' * 256}}}": "models[0].id: must be a path",
    f"{{id: x/y, tensor_parallel: {'9' * 400}}}": "models[0].tensor_parallel: must be a whole number from 1 to 1024",
    "{id: x/y, gpus: .nan}": "models[0].gpus: must be a number above 0",
    "{id: x/y, revision: ../../refs}": "models[0].revision: '../../refs' cannot be a branch, tag or commit",
    "{id: x/y, revision: ''}": "models[0].revision: must not be empty",
    "{id: x/y, chat_template_kwargs: {x: [.inf]}}": "models[0].chat_template_kwargs.x[0]: must be a number",
    "{id: x/y, soft_prompt: {lr: .nan}}": "models[0].soft_prompt.lr: must be a number above 0",
}


@pytest.mark.parametrize(("model", "said"), MODELS.items(), ids=[key[:30] for key in MODELS])
def test_numbers_names_and_paths_of_a_model_have_ranges(model: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_grid(f"name: g\nmodels: [{model}]\ntasks: [zoo-mcq]\n")
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("name", [".", "..", "a/b", "''", "a" * 300, "💥", '"a\\nb"'])
def test_the_name_of_a_grid_is_the_name_of_a_folder(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^name: "):
        parse_grid(GRID.replace("name: g", f"name: {name}"))


def test_there_is_one_zero() -> None:
    """A cell's key would know of two."""
    protocol = parse_grid(f"{GRID}protocols: [{{soft_prompt: {{weight_decay: -0.0}}}}]").protocols[0]
    assert isinstance(protocol, SoftPromptConfig)
    assert math.copysign(1, protocol.weight_decay) == 1


def test_ranges_hold_without_yaml() -> None:
    with pytest.raises(ConfigError, match=r"soft_prompt\.lr: must be a number above 0"):
        SoftPromptConfig(lr=math.nan)
    with pytest.raises(ConfigError, match=r"few_shot\.shots: must be a whole number from 1"):
        FewShot(shots=True)
    with pytest.raises(ConfigError, match=r"alpha: must be a number from 1e-09 to below 0\.5, not nan"):
        Policy(checks=(), alpha=math.nan)


def test_a_range_may_have_words_beside_numbers() -> None:
    rate = Range(above=0, most=1000, words=("auto",))
    assert rate.has("auto")
    assert rate.has(0.5)
    assert not rate.has("automatic")
    assert str(rate) == "a number above 0 and at most 1000 or auto"


def test_paths_are_measured_in_bytes_from_slash_to_slash() -> None:
    path = Text(most=4000, path=True)
    assert path.has("ä" * 127)
    assert not path.has("ä" * 128)
    assert path.has("/".join(["a" * 255] * 10))
    assert not path.has("a\tb")
    assert not path.has(" ")


@given(st.floats() | st.integers())
def test_what_is_passed_on_is_finite_and_fits_an_integer(value: float) -> None:
    if math.isfinite(value) and -(2**63) <= value < 2**63:
        require_plain({"x": [value]}, "engine")
    else:
        with pytest.raises(ConfigError, match=r"engine\.x\[0\]: must be a number"):
            require_plain({"x": [value]}, "engine")


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (9_500, "9,500"),
        (10_000_000, "10 million"),
        (1_234_567_890, "1.2 billion"),
        (3 * 10**12, "3 trillion"),
        (10**40, "10^40"),
    ],
)
def test_a_count_is_said_as_people_say_it(count: int, said: str) -> None:
    assert in_words(count) == said


def test_a_product_of_lists_is_counted_and_not_built() -> None:
    values = list(range(1, 41))
    swept = ", ".join(f"{name}: {values}" for name in ("length", "steps", "batch_size", "held_out", "patience"))
    grid = f"{GRID}protocols: [zero_shot, {{soft_prompt: {{{swept}}}}}]\n"
    with pytest.raises(ConfigError, match=r"^this grid has 102\.4 million cells; at most 10 million: leave"):
        parse_grid(grid)
    with pytest.raises(ConfigError, match=r"^this grid has 1\.2 billion cells; at most 10 million"):
        parse_grid(grid + "seeds: [0,1,2,3,4,5,6,7,8,9,10,11]\n")
    with pytest.raises(ConfigError, match=r"^protocols: their lists of values make 64,000 protocols; at most 10,000"):
        parse_grid(f"{GRID}protocols: [{{soft_prompt: {{length: {values}, steps: {values}, batch_size: {values}}}}}]\n")


def test_a_hundred_thousand_seeds_are_read() -> None:
    seeds = list(range(100_000))
    assert parse_grid(f"{GRID}seeds: {seeds}\n").seeds == tuple(seeds)
    with pytest.raises(ConfigError, match=r"seeds\[100000\]: 7 appears twice"):
        parse_grid(f"{GRID}seeds: {[*seeds, 7]}\n")


@pytest.mark.parametrize("value", [10**309, -(10**400)])
def test_an_integer_that_is_no_float_is_refused_where_a_number_without_bounds_is_wanted(value: int) -> None:
    with pytest.raises(ConfigError, match=r"^x: must be a finite number, not an integer of about"):
        scalar(float, value, "x")
