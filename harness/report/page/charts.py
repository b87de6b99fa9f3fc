"""The charts of the HTML report: numbers in, SVG out, drawn by Vega-Lite without a network.

Colours are variables of the page's style sheet, so that one drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from markupsafe import Markup

CELL: Final = {"width": 46, "height": 24}
"""The size of a cell of a heat map, in pixels, which holds a number of six characters."""

LEVELS: Final = ((1.0, "0"), (10.0, "1"), (1e3, "2"), (math.inf, "3"))
"""The errors over allowances up to which each colour goes."""

PADDED: Final = "padded"

FLOOR: Final = 1e-3
"""The smallest error over allowance that a chart by step tells apart."""

_CONFIG: Final = {
    "aria": False,
    "background": None,
    "view": {"stroke": None},
    "font": "inherit",
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--grid)",
        "labelAngle": 0,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "text": {"fontSize": 11},
}

Values = list[dict[str, Any]]


def heat_map(rows: Sequence[Sequence[float]], *, at: Mapping[str, int], first: Any, length: int | None) -> Markup:
    """Draw errors over allowances, a column for each step and a row for each unit.

    ``at`` has the index of the first step and unit, ``first`` the step and unit of the first departure if it is in the
    map, ``length`` the number of steps before padding.
    """
    values = [
        {"t": at["t"] + i, "unit": at["unit"] + j, "said": said, "level": level, "first": first == (i, j)}
        for i, row in enumerate(rows)
        for j, error in enumerate(row)
        for said, level in [_cell(error, padded=length is not None and at["t"] + i >= length)]
    ]
    return _cells(values, x=("t", "step t"), y=("unit", "unit"), marked="first")


def match_matrix(rows: Sequence[Sequence[float]], units: Sequence[str]) -> Markup:
    """Draw the errors over allowances of every unit held against every expected unit; those that match are marked."""
    values = [
        {"expected": units[j], "actual": units[i], "said": said, "level": level, "match": error <= 1}
        for i, row in enumerate(rows)
        for j, error in enumerate(row)
        for said, level in [_cell(error, padded=False)]
    ]
    return _cells(values, x=("expected", "expected unit"), y=("actual", "actual unit"), marked="match")


def by_step(local: Sequence[float] | None, whole: Sequence[float] | None, *, start: int, first: int | None) -> Markup:
    """Draw the largest error of each step over its allowance: made at the step, beside accumulated up to it."""
    series = {"made at the step": local, "accumulated": whole}
    most = max((e for errors in series.values() for e in errors or () if math.isfinite(e)), default=1.0)
    values = [
        {"t": start + i, "error": min(max(error, FLOOR), 10 * max(most, 1.0)), "of": name}
        for name, errors in series.items()
        for i, error in enumerate(errors or ())
    ]
    color = {
        "field": "of",
        "type": "nominal",
        "scale": {"domain": list(series), "range": ["var(--series-1)", "var(--series-2)"]},
        "legend": {"title": None, "orient": "top", "symbolStrokeWidth": 2},
    }
    x = {"field": "t", "type": "ordinal", "title": "step t"}
    y = {
        "field": "error",
        "type": "quantitative",
        "scale": {"type": "log"},
        "title": "error / allowance",
        "axis": {"format": ".0e", "tickCount": 5},
    }
    shape = {"field": "of", "type": "nominal", "scale": {"domain": list(series), "range": ["circle", "square"]}}
    dash = {"field": "of", "type": "nominal", "scale": {"domain": list(series), "range": [[1, 0], [6, 4]]}}
    lines = {"mark": "line", "encoding": {"x": x, "y": y, "color": color, "strokeDash": dash | {"legend": None}}}
    points = {
        "mark": {"type": "point", "filled": True, "size": 60},
        "encoding": {"x": x, "y": y, "color": color, "shape": shape | {"legend": None}},
    }
    allowed = {
        "data": {"values": [{"error": 1.0}]},
        "mark": {"type": "rule", "stroke": "var(--ink)", "strokeDash": [2, 3]},
        "encoding": {"y": y},
    }
    layers: list[dict[str, Any]] = [lines, points, allowed]
    if first is not None:
        layers.append(
            {
                "data": {"values": [{"t": first, "said": "first departure"}]},
                "mark": {"type": "rule", "stroke": "var(--bad)", "strokeWidth": 2},
                "encoding": {"x": x},
            }
        )
    return _svg({"data": {"values": values}, "width": 320, "height": 170, "layer": layers})


def margin_bars(bars: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw how many cases of a dtype came how near to their allowance, by powers of two."""
    values = [{"share": _power(bar["power"], i), "cases": bar["cases"], "i": i} for i, bar in enumerate(bars)]
    return _svg(
        {
            "data": {"values": values},
            "width": 340,
            "height": 110,
            "mark": {"type": "bar", "fill": "var(--series-1)"},
            "encoding": {
                "x": {
                    "field": "share",
                    "type": "ordinal",
                    "sort": {"field": "i"},
                    "title": "largest error / allowance, up to",
                    "axis": {"labelOverlap": True},
                },
                "y": {"field": "cases", "type": "quantitative", "title": "cases", "axis": {"tickCount": 3}},
            },
        }
    )


def pair_matrix(pairs: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw the share of the pairs of values that were met, for every two factors."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair["factors"]))
    values = [
        {"f": pair["factors"][0], "g": pair["factors"][1], "level": _covered(pair["met"], pair["of"])} for pair in pairs
    ]
    levels = {"all": "var(--met-3)", "half or more": "var(--met-2)", "less": "var(--met-1)", "none": "var(--met-0)"}
    axis = {"labelAngle": -60, "title": None, "ticks": False, "domain": False}
    return _svg(
        {
            "data": {"values": values},
            "width": {"step": 20},
            "height": {"step": 20},
            "mark": {"type": "rect", "stroke": "var(--paper)"},
            "encoding": {
                "x": {"field": "f", "type": "nominal", "sort": names, "axis": axis},
                "y": {"field": "g", "type": "nominal", "sort": names, "axis": axis | {"labelAngle": 0}},
                "fill": {
                    "field": "level",
                    "type": "nominal",
                    "scale": {"domain": list(levels), "range": list(levels.values())},
                    "legend": {"title": "pairs met", "orient": "top", "symbolStrokeColor": "var(--line)"},
                },
            },
        }
    )


NODE: Final = 17
"""The radius of a node of the network; its neighbours are 1 by 1 apart, in units of ``STEP`` pixels."""
STEP: Final = {"x": 84, "y": 70}
MARGIN: Final = 1.6
"""The space for the names of the rows, to the left of the first step, in the same units as a step."""


def unrolled(network: Mapping[str, Any]) -> Markup:
    """Draw the unrolled network: a column for each step, the input at the bottom, each layer and direction above."""
    steps = range(network["steps"]["start"], network["steps"]["stop"])
    rows = [(layer, d) for layer in range(network["layers"]) for d in network["directions"]]
    heights = {row: 1 + i for i, row in enumerate(rows)}
    wrong = {(one["layer"], one["direction"], one["t"]) for one in network["wrong_states"]}
    nodes: Values = [
        {"x": t, "y": 0, "said": f"x{t}", "level": "bad" if t in network["wrong_inputs"] else "input"} for t in steps
    ]
    nodes += [
        {"x": t, "y": y, "said": "✗" if (*row, t) in wrong else f"h{t}", "level": "bad" if (*row, t) in wrong else "ok"}
        for row, y in heights.items()
        for t in steps
    ]
    edges = list(_edges(network, steps, heights))
    ends = {"x": {"field": "x2"}, "y": {"field": "y2"}}
    left = steps.start - MARGIN
    labels = [{"x": left, "y": y, "said": _row_label(row, network)} for row, y in heights.items()]
    labels.append({"x": left, "y": 0, "said": "input"})
    place = {
        "x": {
            "field": "x",
            "type": "quantitative",
            "axis": None,
            "scale": {"domain": [left, steps.stop - 0.5], "nice": False},
        },
        "y": {
            "field": "y",
            "type": "quantitative",
            "axis": None,
            "scale": {"domain": [-0.4, len(rows) + 0.4], "nice": False},
        },
    }
    fills = {"input": "var(--panel)", "ok": "var(--h0)", "bad": "var(--bad)"}
    inks = {"input": "var(--ink)", "ok": "var(--h0-ink)", "bad": "var(--bad-ink)"}

    def by_level(colors: Mapping[str, str]) -> dict[str, Any]:
        scale = {"domain": list(colors), "range": list(colors.values())}
        return {"field": "level", "type": "nominal", "scale": scale, "legend": None}

    return _svg(
        {
            "width": (len(steps) + MARGIN - 0.5) * STEP["x"],
            "height": (len(rows) + 0.8) * STEP["y"],
            "layer": [
                {
                    "data": {"values": edges},
                    "mark": {"type": "rule", "stroke": "var(--line)", "strokeWidth": 1.5},
                    "encoding": {**place, "x2": {"field": "x2"}, "y2": {"field": "y2"}},
                },
                {
                    "data": {"values": edges},
                    "mark": {"type": "point", "shape": "triangle-right", "filled": True, "size": 60, "opacity": 1}
                    | {"fill": "var(--line)"},
                    "encoding": {
                        "x": place["x"] | ends["x"],
                        "y": place["y"] | ends["y"],
                        "angle": {"field": "angle", "type": "quantitative", "scale": None},
                    },
                },
                {
                    "data": {"values": nodes},
                    "mark": {"type": "point", "filled": True, "size": math.pi * NODE**2, "opacity": 1}
                    | {"stroke": "var(--line)", "strokeWidth": 1.5},
                    "encoding": {**place, "fill": by_level(fills)},
                },
                {
                    "data": {"values": nodes},
                    "mark": {"type": "text", "fontSize": 13},
                    "encoding": {**place, "text": {"field": "said"}, "color": by_level(inks)},
                },
                {
                    "data": {"values": labels},
                    "mark": {"type": "text", "fontSize": 12, "align": "left", "fill": "var(--ink)"},
                    "encoding": {**place, "text": {"field": "said"}},
                },
            ],
            "resolve": {"scale": {"color": "independent", "fill": "independent"}},
        }
    )


def _edges(
    network: Mapping[str, Any], steps: range, heights: Mapping[tuple[int, str], int]
) -> Iterator[dict[str, float]]:
    for (layer, direction), y in heights.items():
        below = [0] if layer == 0 else [heights[layer - 1, d] for d in network["directions"]]
        for t in steps:
            yield from (_edge(t, low, t, y) for low in below if y - low == 1 or low == 0 or layer > 0)
            before = t + 1 if direction == "reverse" else t - 1
            if before in steps:
                yield _edge(before, y, t, y)


def _edge(x: float, y: float, x2: float, y2: float) -> dict[str, float]:
    """Return an arrow from the rim of one node to the rim of another; long vertical ones pass beside nodes."""
    dx, dy = (x2 - x) * STEP["x"], (y2 - y) * STEP["y"]
    length = math.hypot(dx, dy)
    aside = 0.12 if dx == 0 and y2 - y > 1 else 0.0
    start, end = (NODE + 1) / length, 1 - (NODE + 5) / length
    at = {"x": x + aside + start * (x2 - x), "y": y + start * (y2 - y)}
    return at | {"x2": x + aside + end * (x2 - x), "y2": y + end * (y2 - y), "angle": -math.degrees(math.atan2(dy, dx))}


def _row_label(row: tuple[int, str], network: Mapping[str, Any]) -> str:
    layer, direction = row
    return f"layer {layer}" + (f" {direction}" if len(network["directions"]) > 1 else "")


def _cell(error: float, *, padded: bool) -> tuple[str, str]:
    """Return the text and the level of a cell."""
    if padded:
        return "pad", PADDED
    said = "∞" if math.isinf(error) else f"{error:.2g}" if error < 99 else f"{error:.0e}".replace("e+0", "e")
    return said, next((level for most, level in LEVELS if error <= most), LEVELS[-1][1])


def _cells(values: Values, *, x: tuple[str, str], y: tuple[str, str], marked: str) -> Markup:
    levels = [*(level for _, level in LEVELS), PADDED]
    place = {
        "x": {"field": x[0], "type": "ordinal", "title": x[1], "sort": None, "axis": {"orient": "top"}},
        "y": {"field": y[0], "type": "ordinal", "title": y[1], "sort": None},
    }

    def by_level(what: str) -> dict[str, Any]:
        scale = {"domain": levels, "range": [f"var(--h{level}{what})" for level in levels]}
        return {"field": "level", "type": "nominal", "scale": scale, "legend": None}

    outlined = {"mark": {"type": "rect", "filled": False, "stroke": "var(--ink)", "strokeWidth": 3}, "encoding": place}
    return _svg(
        {
            "data": {"values": values},
            "width": {"step": CELL["width"]},
            "height": {"step": CELL["height"]},
            "layer": [
                {"mark": {"type": "rect", "stroke": "var(--paper)"}, "encoding": {**place, "fill": by_level("")}},
                {"mark": "text", "encoding": {**place, "text": {"field": "said"}, "color": by_level("-ink")}},
                {"transform": [{"filter": f"datum.{marked}"}], **outlined},
            ],
            "resolve": {"scale": {"color": "independent", "fill": "independent"}},
        }
    )


def _covered(met: int, of: int) -> str:
    return "all" if met == of else "half or more" if 2 * met >= of else "less" if met else "none"


def _power(power: int, index: int) -> str:
    value = 2.0**power
    return f"≤ {value:.0e}" if index == 0 else f"{value:.2g}"


@cache
def _library() -> Any:
    import vl_convert

    return vl_convert


def _svg(spec: Mapping[str, Any]) -> Markup:
    """Draw a Vega-Lite specification. The drawing's own text is escaped by the library."""
    schema = "https://vega.github.io/schema/vega-lite/v5.json"  # a name; nothing is fetched
    drawn: str = _library().vegalite_to_svg(
        {"$schema": schema, "config": _CONFIG, **spec}, vl_version="5.20", allowed_base_urls=[]
    )
    return Markup(drawn)  # noqa: S704 - drawn by the library from numbers, and escaped by it
