"""Lists of values in a protocol: one protocol for each combination, and keys of older grids that stay as they were."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast import plan
from spt_fast.config import FewShot, Protocol, RandomVectors, ShuffledLabels, SoftPromptConfig, Transfer, ZeroShot
from spt_fast.config.reader import overridden, parse_grid
from spt_fast.errors import ConfigError
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, TaskRows


def protocols(written: str) -> tuple[Protocol, ...]:
    return parse_grid(f"name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols:\n  - {written}\n").protocols


def test_a_list_is_a_protocol_for_each_value() -> None:
    assert protocols("soft_prompt: {length: [1, 2, 10], lr: [0.001, 1e-2]}") == tuple(
        SoftPromptConfig(length=length, lr=lr) for length in (1, 2, 10) for lr in (0.001, 0.01)
    )
    assert protocols("few_shot: {shots: [1, 5]}") == (FewShot(shots=1), FewShot(shots=5))
    assert protocols("transfer: {from: [zoo-short, zoo-json]}") == (
        Transfer(from_task="zoo-short"),
        Transfer(from_task="zoo-json"),
    )
    assert protocols("soft_prompt: {max_grad_norm: [null, 1.0]}") == (SoftPromptConfig(), SoftPromptConfig(max_grad_norm=1.0))


@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=3, unique=True),
    steps=st.lists(st.integers(1, 200), min_size=1, max_size=3, unique=True),
    rates=st.lists(st.sampled_from([0.001, 0.01, 0.1]), min_size=1, max_size=3, unique=True),
)
def test_every_combination_is_there_once(lengths: list[int], steps: list[int], rates: list[float]) -> None:
    found = protocols(f"soft_prompt: {{length: {lengths}, steps: {steps}, lr: {rates}, evaluate_at: [0, 1]}}")
    assert len(set(found)) == len(found) == prod(map(len, (lengths, steps, rates)))
    assert {(p.length, p.steps, p.lr) for p in found if isinstance(p, SoftPromptConfig)} == {
        (length, step, rate) for length in lengths for step in steps for rate in rates
    }


def test_what_is_a_list_by_nature_stays_one_and_is_swept_as_a_list_of_lists() -> None:
    (one,) = protocols("soft_prompt: {evaluate_at: [0, 10], betas: [0.9, 0.95]}")
    assert one == SoftPromptConfig(evaluate_at=(0, 10), betas=(0.9, 0.95))
    assert protocols("soft_prompt: {betas: [[0.9, 0.999], [0.9, 0.95]]}") == (
        SoftPromptConfig(),
        SoftPromptConfig(betas=(0.9, 0.95)),
    )


def test_a_setting_of_one_value_of_a_swept_one_is_left_out_beside_the_others() -> None:
    found = protocols("soft_prompt: {init: [normal, text, vocabulary], init_text: Answer, init_tokens: [50, 500]}")
    assert found == (
        SoftPromptConfig(init="normal"),
        SoftPromptConfig(init="text", init_text="Answer"),
        SoftPromptConfig(init="vocabulary", init_tokens=50),
        SoftPromptConfig(init="vocabulary", init_tokens=500),
    )


def test_a_shorter_training_of_a_sweep_keeps_the_points_of_the_curve_as_far_as_it_goes() -> None:
    short, long = protocols("soft_prompt: {steps: [20, 80], evaluate_at: [0, 20, 40, 80]}")
    assert short == SoftPromptConfig(steps=20, evaluate_at=(0, 20))
    assert long == SoftPromptConfig(steps=80, evaluate_at=(0, 20, 40, 80))


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("soft_prompt: {length: []}", r"protocols\[0\]\.soft_prompt\.length: is empty; name at least one"),
        ("soft_prompt: {length: [1, 2, 1]}", r"protocols\[0\]\.soft_prompt\.length\[2\]: 1 appears twice; remove one"),
        ("soft_prompt: {length: [1, two]}", r"protocols\[0\]\.soft_prompt\.length: must be a whole number, not text \('two'\)"),
        (
            "soft_prompt: {lr: [0.1, -1]}",
            r"protocols\[0\]\.soft_prompt\.lr: must be a number above 0 and at most 1000 or auto, not -1",
        ),
        ("soft_prompt: {lenght: [1, 2]}", r"protocols\[0\]\.soft_prompt: unknown key 'lenght'; did you mean 'length'"),
        ("soft_prompt: {init: [normal, txt]}", r"protocols\[0\]\.soft_prompt\.init: must be normal or .* not 'txt'"),
        (
            "soft_prompt: {length: [1, 2], init_text: x}",
            r"\.init_text: goes with init: text, and init is vocabulary",
        ),
        ("soft_prompt: {length: [1, 10]}\n  - soft_prompt", r"protocols\[1\]: soft_prompt with these settings appears twice"),
        ("soft_prompt: {depth: 12}", r"protocols\[0\]\.soft_prompt\.depth: there are no per-layer prefixes: vLLM takes"),
        ("soft_prompt: {prefix: true}", r"protocols\[0\]\.soft_prompt\.prefix: there are no per-layer prefixes"),
    ],
)
def test_a_wrong_sweep_names_its_place(written: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        protocols(written)


def test_labels_name_what_is_swept_and_only_what_means_something() -> None:
    grid = parse_grid(
        "name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols:\n"
        "  - soft_prompt: {init: [normal, text, soft_prompt], init_text: Answer, init_from: zoo-json, length: [1, 10]}\n"
    )
    assert [cell.label for cell in plan.expand(grid)] == [
        f"soft_prompt[length={length},{init}]"
        for init in ("init=normal", "init=text", "init=soft_prompt")
        for length in (1, 10)
    ]


def test_labels_of_protocols_that_differ_in_much_leave_defaults_out() -> None:
    grid = parse_grid(
        "name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols:\n"
        "  - soft_prompt\n  - soft_prompt: {length: 1}\n  - soft_prompt: {lr: 0.1, schedule: [linear, cosine]}\n"
        "  - soft_prompt: {encoder: mlp}\n"
    )
    assert [cell.label for cell in plan.expand(grid)] == [
        "soft_prompt",
        "soft_prompt[length=1]",
        "soft_prompt[lr=0.1,schedule=linear]",
        "soft_prompt[lr=0.1,schedule=cosine]",
        "soft_prompt[encoder=mlp]",
    ]


def test_a_models_override_that_means_nothing_beside_a_start_is_left_out() -> None:
    uniform = SoftPromptConfig(init="uniform")
    assert overridden(uniform, {"init_std": 0.5, "lr": 0.02}, "here") == SoftPromptConfig(init="uniform", lr=0.02)
    assert overridden(SoftPromptConfig.paper(), {"init_std": 0.5}, "here") == SoftPromptConfig.paper(init_std=0.5)


# Keys


def cell(protocol: Protocol, **more: object) -> Cell:
    model = Model(name="m", source="/m", fingerprint="sha256:0")
    rows = TaskRows(name="t", version=1, content="rows")
    return Cell(**{"model": model, "task": rows, "protocol": protocol, "seed": 0, "label": "x", **more})  # type: ignore[arg-type]


OLD = SoftPromptConfig.paper(
    length=5, steps=120, lr=0.02, init_std=0.5, betas=(0.9, 0.95), max_grad_norm=1.0, evaluate_at=(0, 10)
)
OTHERS = TaskRows(name="u", version=1, content="others")


@pytest.mark.parametrize(
    ("protocol", "more", "key", "tuning_key"),
    [
        (ZeroShot(), {}, "a62e737c14daed19", "cae05e878d7fc7cb"),
        (FewShot(shots=3), {}, "6be43d01dea944e2", "2e861a5e59b285bc"),
        (SoftPromptConfig(), {}, "aa3c83bc1907d9d3", "126b24c00e5591be"),
        (OLD, {}, "f6e79ce7c0239b0f", "92403e8e8e1e0c6a"),
        (ShuffledLabels(), {}, "1c9bbdeba5cd6aee", "712adcc184467392"),
        (RandomVectors(length=3), {}, "776f12ee0c5e1d97", "2920b27e7f503f18"),
        (Transfer(from_task="u", lr=0.02), {"learnt_on": OTHERS}, "b69fda814536e895", "d1dd1528559a6e54"),
    ],
)
def test_keys_of_what_there_was_before_are_what_they_were(
    protocol: Protocol, more: dict[str, object], key: str, tuning_key: str
) -> None:
    """Written down at results version 3: others would do every stored cell again."""
    found = cell(protocol, **more)
    assert (found.key, found.tuning_key) == (key, tuning_key)


@pytest.mark.parametrize(
    "other",
    [
        cell(SoftPromptConfig(init="uniform")),
        cell(SoftPromptConfig(init="uniform", init_range=0.1)),
        cell(SoftPromptConfig(init="vocabulary", init_tokens=50)),
        cell(SoftPromptConfig(init="text", init_text="a")),
        cell(SoftPromptConfig(init="text", init_text="b")),
        cell(SoftPromptConfig(init="soft_prompt", init_from="a.safetensors"), starts_with="1"),
        cell(SoftPromptConfig(init="soft_prompt", init_from="a.safetensors"), starts_with="2"),
        cell(SoftPromptConfig(init="soft_prompt", init_from="u"), starts_on=OTHERS),
        cell(SoftPromptConfig(optimizer="adafactor")),
        cell(SoftPromptConfig(schedule="cosine")),
        cell(SoftPromptConfig(warmup=3)),
        cell(SoftPromptConfig(encoder="mlp")),
        cell(SoftPromptConfig(encoder="mlp", encoder_hidden=8)),
        cell(SoftPromptConfig(patience=5)),
        cell(SoftPromptConfig(patience=5, held_out=8)),
        cell(SoftPromptConfig(patience=5, check_every=8)),
    ],
)
def test_every_new_setting_changes_both_keys(other: Cell) -> None:
    plain = cell(SoftPromptConfig())
    assert other.key != plain.key
    assert other.tuning_key != plain.tuning_key


def test_how_a_soft_prompt_to_start_from_is_called_changes_no_key() -> None:
    keys = {
        (each.key, each.tuning_key)
        for each in (
            cell(SoftPromptConfig(init="soft_prompt", init_from=path), starts_with="1")
            for path in ("a.safetensors", "elsewhere/b.safetensors")
        )
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("settings", "shared"),
    [
        ({}, True),
        ({"warmup": 5}, True),
        ({"schedule": "linear"}, False),
        ({"schedule": "cosine"}, False),
        ({"patience": 9}, False),
    ],
)
def test_80_steps_are_the_first_of_120_only_where_the_rate_does_not_know_the_end(
    settings: dict[str, object], shared: bool
) -> None:
    short, long = (cell(SoftPromptConfig(steps=steps, **settings)) for steps in (80, 120))  # type: ignore[arg-type]
    assert (short.tuning_key == long.tuning_key) is shared
