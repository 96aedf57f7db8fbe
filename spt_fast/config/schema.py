"""The JSON Schema of grid.yaml, for editors: completion, help and errors while a grid is written.

Made of the config classes that the reader checks with. It accepts every grid that the reader accepts, and refuses what a
schema can express. Numbers that depend on each other (`evaluate_at` beyond `steps`) and names (an unknown task) are left to
`spt-fast check`.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from spt_fast.config import (
    PRESETS,
    PREVIOUS,
    PROTOCOLS,
    STARTS_FROM,
    GridConfig,
    JudgeConfig,
    ModelConfig,
    PriceConfig,
    Protocol,
    SoftPromptConfig,
    StopConfig,
    TaskConfig,
)
from spt_fast.config.described import Key, keys
from spt_fast.config.engines import ENGINE_CHOICES, ENGINE_NUMBERS, ENGINE_OURS, ENGINES
from spt_fast.config.ranges import PART, SCORE, Allowed, Choice, Range, Text
from spt_fast.config.reader import PRESET
from spt_fast.config.strict import is_list

Schema: TypeAlias = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest one that all editors read."""

_SCIENTIFIC: Schema = {"type": "string", "pattern": r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][+-]?[0-9]+$"}
"""1e-3 is text to YAML 1.1, and a number to the reader."""
_SHARE: Schema = {"type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*%?\s*$"}
_NULL: Schema = {"type": "null"}
_NAME: Schema = {"type": "string", "pattern": "^[^\\x00-*,/:-@\\[-^`{-\\x7f]+$", "not": {"pattern": r"^\.+$"}}
"""Letters of any alphabet, digits and . _ + -"""
_CURRENCY: Schema = {"type": "string", "pattern": "^[^\\x00-/:-@\\[-^`{-\\x7f]{0,12}$"}
_OUTPUT: Schema = {"type": "string", "allOf": [{"pattern": r"\S"}, {"pattern": r"^([^{}]|\{date\}|\{name\})*$"}]}
_DAY: Schema = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
_REVISION: Schema = {"type": "string", "pattern": r"\S", "not": {"pattern": r"\.\.|//|^[/-]|[/.]$|[\s~^:\\]|@\{"}}


def grid_schema(tasks: Iterable[str] = ()) -> Schema:
    """The schema of a grid, as plain values for `json.dumps`.

    Args:
        tasks: names to propose; any other may be the path of a task file.
    """
    names = [{"enum": list(tasks)}] if tasks else []
    shared: dict[str, Schema] = {}
    return {
        "$schema": DIALECT,
        "title": "A grid of spt-fast",
        "description": "Models x tasks x protocols x seeds. Run it with: spt-fast run FILE",
        **_mapping(GridConfig, _GRID),
        "definitions": {
            "model": {"anyOf": [_PATH, {**_mapping(ModelConfig, _MODEL), "allOf": _GPUS}]},
            "task": {"anyOf": [*names, _PATH, _mapping(TaskConfig, {**_TASK, "task": {"anyOf": [*names, _PATH]}})]},
            "judge": {"anyOf": [_NULL, _PATH, {**_mapping(JudgeConfig, _JUDGE), "allOf": _GPUS}]},
            "engine": _engine(),
            **{name: _settings(cls, shared) for name, cls in PROTOCOLS.items()},
            **shared,
        },
    }


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _protocol() -> Schema:
    """A name, or {name: settings}."""
    names = [name for name, cls in PROTOCOLS.items() if not any(key.needed for key in keys(cls))]
    settings = {name: _ref(name) for name in PROTOCOLS}
    one = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False, "properties": settings}
    return {"anyOf": [{"enum": names}, one]}


def _once(shared: dict[str, Schema], name: str, schema: Schema) -> Schema:
    """A reference to a part that several protocols have alike; the part itself where it differs from theirs."""
    return _ref(name) if shared.setdefault(name, schema) == schema else schema


def _settings(cls: type[Protocol], shared: dict[str, Schema]) -> Schema:
    """The settings of a protocol: each may be a list of values, for a sweep."""
    own: dict[str, Schema] = {"from": {"anyOf": [_PATH, _list_of(_PATH)]}}
    found = keys(cls)
    properties = {key.name: {**_help(key), **own.get(key.name, _swept(key))} for key in found}
    for key in found:
        if key.kind == tuple[str, ...]:  # one text stands for a list of it
            properties[key.name]["anyOf"].append(_PATH)
    if cls.presets:
        properties[PRESET] = {
            "enum": [*cls.presets, None],
            "description": "Settings that go together, for those not given here.",
        }
    mapping: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _once(shared, f"setting_{name}", schema) for name, schema in properties.items()},
        "required": [key.name for key in found if key.needed],
    }
    if rules := _together(cls, found):
        mapping["allOf"] = [_once(shared, f"rule_{name}", rule) for name, rule in rules.items()]
    choices = [mapping]
    if PRESET in properties:
        choices.append({"enum": list(cls.presets)})
    if not mapping["required"]:
        choices.append(_NULL)
    return {"description": (cls.__doc__ or "").partition("\n\n")[0].replace("\n    ", " "), "anyOf": choices}


def _swept(key: Key) -> Schema:
    one = _value(key.kind, key.allowed)
    if not is_list(key.kind):
        return {"anyOf": [one, _list_of(one)]}
    return {"anyOf": [one, {**_list_of(one), "contains": {"type": "array"}}]}


def _together(cls: type[Protocol], found: tuple[Key, ...]) -> dict[str, Schema]:
    """What must stand beside what, by the key: `init_text` goes with `init: text`, and the other way round."""
    by_field = {key.field: key for key in found}
    rules = {key.name: _goes_with(key, by_field[key.goes_with[0]]) for key in found if key.goes_with}
    if cls.attaches == "soft_prompt":
        for start, field in STARTS_FROM.items():
            is_start = {"required": ["init"], "properties": {"init": _some({"const": start})}}
            rules[f"start_{start}"] = {"if": is_start, "then": {"required": [field], "properties": {field: {"not": _NULL}}}}
    return rules


def _goes_with(key: Key, other: Key) -> Schema:
    """Where a key is given, and not as its default, another one has one of some values."""
    assert key.goes_with is not None
    values = key.goes_with[1]
    fits = _some({"enum": list(values)} if values else {"not": _NULL})
    given = {"required": [key.name], "properties": {key.name: {"not": {"const": _plain(key.default)}}}}
    allowed: list[Schema] = [{"required": [other.name], "properties": {other.name: fits}}]
    if other.default in values:
        allowed.append({"not": {"anyOf": [{"required": [other.name]}, {"required": [PRESET]}]}})
    for preset, settings in PRESETS.items():
        if settings.get(other.name, other.default) in values:
            stands = {"required": [PRESET], "properties": {PRESET: {"const": preset}}}
            allowed.append({**stands, "not": {"required": [other.name]}})
    if key.name == "init_from":  # which says by itself what the start is
        allowed.append({"properties": {key.name: _some({"const": PREVIOUS})}})
    return {"if": given, "then": {"anyOf": allowed}}


def _some(schema: Schema) -> Schema:
    """A value, or a list that has one in it."""
    return {"anyOf": [schema, {"type": "array", "contains": schema}]}


def _mapping(cls: type[Any], own: Mapping[str, Schema]) -> Schema:
    """A mapping with the keys of a class; `own` are those that its types do not tell all about."""
    found = keys(cls)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [key.name for key in found if key.needed],
        "properties": {
            key.name: {**_help(key), **(own[key.name] if key.name in own else _value(key.kind, key.allowed))} for key in found
        },
    }


def _help(key: Key) -> Schema:
    default = {} if key.default in (MISSING, None, {}, "", ()) else {"default": _plain(key.default)}
    return {"description": key.meaning, **default}


def _plain(value: Any) -> Any:
    """A default as JSON has it; of protocols their names."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return getattr(value, "name", value)


def _value(kind: Any, allowed: Allowed | None) -> Schema:
    """What a field of this type and range takes."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _any_of(
            [_value(each, allowed) for each in args if not (get_origin(each) is Literal and isinstance(allowed, Range))]
        )
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        length = {} if args[-1] is Ellipsis else {"minItems": len(args), "maxItems": len(args)}
        return {"type": "array", "items": _value(args[0], allowed), **length}
    if kind is type(None):
        return _NULL
    if kind is bool:
        return {"type": "boolean"}
    if kind in (int, float):
        return _number(allowed if isinstance(allowed, Range) else Range(whole=kind is int))
    if kind is str:
        return {"enum": list(allowed.words)} if isinstance(allowed, Choice) else _text(allowed)
    return {"type": "object"} if isinstance(origin, type) and issubclass(origin, Mapping) else {}


def _any_of(schemas: list[Schema]) -> Schema:
    flat = [inner for schema in schemas for inner in schema.get("anyOf", [schema])]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def _number(allowed: Range) -> Schema:
    bounds = {
        "minimum": allowed.least,
        "exclusiveMinimum": allowed.above,
        "maximum": allowed.most,
        "exclusiveMaximum": allowed.below,
    }
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    number = {"type": "integer" if allowed.whole else "number", **given}
    words: list[Schema] = [{"enum": list(allowed.words)}] if allowed.words else []
    return _any_of([number, *([] if allowed.whole else [_SCIENTIFIC]), *words])


def _text(allowed: Allowed | None) -> Schema:
    if not isinstance(allowed, Text):
        return {"type": "string"}
    filled = [] if allowed.empty else [{"pattern": r"\S"}]
    parts = [{"pattern": f"^[^/]{{0,{PART}}}(/[^/]{{0,{PART}}})*$"}] if allowed.path else []
    return {"type": "string", "maxLength": allowed.most, **({"allOf": [*filled, *parts]} if filled or parts else {})}


def _engine() -> Schema:
    """spt-fast's own settings, those of vLLM whose numbers are known, and any other of vLLM's."""
    ours = {key.removesuffix("_size") for key in ENGINE_OURS if key.endswith("_size")}
    numbers = {
        key: _any_of([_number(allowed), _NULL, *([] if key == "window" else [{"type": "string"}])])
        for key, allowed in ENGINE_NUMBERS.items()
    }
    fixed = {
        key: {
            "not": {},
            "description": "Is set by spt-fast"
            + (f"; set `{key.removesuffix('_size')}` of the model." if key.removesuffix("_size") in ours else "."),
        }
        for key in ENGINE_OURS
    }
    choices = {key: {"enum": list(choices)} for key, choices in ENGINE_CHOICES.items()}
    kind = {"kind": {"enum": list(ENGINES), "default": "vllm"}}
    return {"anyOf": [_NULL, {"type": "object", "properties": {**kind, **choices, **numbers, **fixed}}]}


_PATH = _text(Text(most=4000, path=True))
_SCORES: Schema = {"type": "object", "additionalProperties": _number(SCORE)}
_SHARE_OR_NUMBER: Schema = {"anyOf": [_number(Range(least=0, most=1)), _SHARE]}
_WIDTH: Schema = {"anyOf": [_number(Range(above=0, below=1)), _SHARE]}
_STOP: Mapping[str, Schema] = {
    "check": {
        "anyOf": [
            _NULL,
            _PATH,
            {"type": "object", "additionalProperties": False, "required": ["width"], "properties": {"width": _WIDTH}},
        ]
    },
    "width": {"anyOf": [_NULL, *_WIDTH["anyOf"]]},
}
_GRID: Mapping[str, Schema] = {
    "name": _NAME,
    "models": _list_of(_ref("model")),
    "tasks": _list_of(_ref("task")),
    "protocols": _list_of(_protocol()),
    "seeds": _list_of({"type": "integer"}),
    "judge": _ref("judge"),
    "engine": _ref("engine"),
    "truth": {"anyOf": [_NULL, _SCORES, {"type": "object", "additionalProperties": _SCORES}]},
    "output": {"anyOf": [_NULL, _OUTPUT]},
    "rerun": {"anyOf": [_NULL, *_SHARE_OR_NUMBER["anyOf"]]},
    "stop": {"anyOf": [_NULL, {**_mapping(StopConfig, _STOP), "anyOf": [{"required": ["check"]}, {"required": ["width"]}]}]},
    "price": {
        "anyOf": [_NULL, *_number(Range(least=0, most=1e9))["anyOf"], _mapping(PriceConfig, {"currency": _CURRENCY})],
    },
}
_OVERRIDES = {
    **{key.name: {**_help(key), **_value(key.kind, key.allowed)} for key in keys(SoftPromptConfig)},
    PRESET: {"enum": [*PRESETS, None]},
}
_MODEL: Mapping[str, Schema] = {
    "id": _PATH,
    "revision": {"anyOf": [_NULL, _REVISION]},
    "chat_date": _DAY,
    "soft_prompt": {
        "anyOf": [{"enum": list(PRESETS)}, {"type": "object", "additionalProperties": False, "properties": _OVERRIDES}]
    },
    "engine": _ref("engine"),
}
_TASK: Mapping[str, Schema] = {
    "data_files": {"anyOf": [_NULL, _PATH, {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}]},
    "allow_left_out": _SHARE_OR_NUMBER,
}
_JUDGE: Mapping[str, Schema] = {
    "model": _PATH,
    "revision": {"anyOf": [_NULL, {"allOf": [_REVISION, {"not": {"pattern": r"[*?\[]"}}]}]},
    "chat_date": _DAY,
    "engine": _ref("engine"),
}
_SHARES = {"required": ["gpus"], "properties": {"gpus": {"type": "number", "exclusiveMaximum": 1}}}
_GPUS: list[Schema] = [
    # A share of one GPU, or whole ones; a share of one is not spread over several.
    {"properties": {"gpus": {"anyOf": [{"type": ["null", "string", "integer"]}, {"type": "number", "exclusiveMaximum": 1}]}}},
    {"if": _SHARES, "then": {"properties": {"tensor_parallel": {"const": 1}, "pipeline_parallel": {"const": 1}}}},
]
