"""Figures as inline SVG: Vega-Lite says what is drawn (figures/*.json), vl-convert draws it, without browser and network.

A specification is compiled once and drawn with other rows as often as it is wanted: a figure takes some 10 ms. Colours are
the page's CSS variables, so figures follow light, dark and print. What is drawn is read again as XML, and only shapes and text
are kept of it, because names of models and tasks are anybody's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any
from xml.etree import ElementTree

from spt_fast.report.parts import Figure

_SVG = "http://www.w3.org/2000/svg"
_SHAPES_AND_TEXT = frozenset({"svg", "g", "path", "line", "rect", "text", "tspan", "clipPath", "defs"})
_KEPT = frozenset(
    {"width", "height", "viewBox", "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "dx", "dy", "data-tip"}
    | {"fill", "fill-opacity", "opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-miterlimit", "stroke-opacity"}
    | {"text-anchor", "font-size", "font-weight", "id", "clip-path"}
)
_LONG_DECIMALS = re.compile(r"(\d\.\d\d)\d+")


def draw(figure: Figure) -> str:
    """An SVG element to stand in the page."""
    import vl_convert

    drawn = vl_convert.vega_to_svg(_with_rows(_compiled(figure.drawing, json.dumps(figure.x or {})), figure.rows))
    root = ElementTree.fromstring(drawn)
    _keep_shapes_and_text(root)
    root.set("role", "img")
    root.set("aria-label", figure.label)
    return ElementTree.tostring(root, encoding="unicode")


@lru_cache
def _compiled(figure: str, x: str) -> dict[str, Any]:
    """The Vega specification of a figure, without rows; `x` as JSON."""
    import vl_convert

    folder = resources.files("spt_fast.report.html").joinpath("figures")
    spec, config = (json.loads(folder.joinpath(f"{name}.json").read_text(encoding="utf-8")) for name in (figure, "look"))
    for part, changes in json.loads(x).items():
        spec["encoding"]["x"][part].update(changes)
    compiled: dict[str, Any] = vl_convert.vegalite_to_vega({**spec, "data": {"name": "rows", "values": []}, "config": config})
    return compiled


def _with_rows(spec: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    data = [{**each, "values": rows} if each["name"] == "rows" else each for each in spec["data"]]
    return {**spec, "data": data}


def _keep_shapes_and_text(root: ElementTree.Element) -> None:
    """No links, styles, scripts or images; a mark's description becomes its tip; no more digits than a screen can show."""
    ElementTree.register_namespace("", _SVG)
    for parent in list(root.iter()):
        for child in list(parent):
            nothing = child.get("display") == "none" or "background" in child.get("class", "")
            if child.tag.removeprefix(f"{{{_SVG}}}") not in _SHAPES_AND_TEXT or nothing:
                parent.remove(child)
    for element in root.iter():
        described = element.get("role") == "graphics-symbol" and element.tag != f"{{{_SVG}}}g"
        if described and "aria-label" in element.attrib:
            element.set("data-tip", element.attrib["aria-label"])
        for name in [name for name in element.attrib if name not in _KEPT]:
            del element.attrib[name]
        for name in ("d", "transform"):
            if name in element.attrib:
                element.set(name, _LONG_DECIMALS.sub(r"\1", element.attrib[name]))
