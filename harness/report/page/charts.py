"""The charts of the HTML report: numbers in, SVG out, drawn by Vega-Lite without a network.

Colours are variables of the page's style sheet, so that one drawing serves light and dark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

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


def heat_map(table: Sequence[Sequence[float]], one: Mapping[str, Any], n: int, length: int | None) -> Markup:
    """Draw errors over allowances, (columns, rows) of the map ``one``, in which its first wrong element is outlined.

    ``n`` is the sequence among those shown, ``length`` the number of steps before its padding.
    """
    columns, rows, first = one["columns"], one["rows"], one["first"]
    values = [
        {"x": column, "y": row, "said": said, "level": level, "first": first == [i, n, j]}
        for i, (column, errors) in enumerate(zip(columns["names"], table, strict=True))
        for j, (row, error) in enumerate(zip(rows["names"], errors, strict=True))
        for said, level in [_cell(error, padded=length is not None and int(column) >= length)]
    ]
    return _cells(values, x=("x", columns["means"]), y=("y", rows["means"]), marked="first")


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
    series = {name: errors for name, errors in (("made at the step", local), ("accumulated", whole)) if errors}
    most = max((e for errors in series.values() for e in errors if math.isfinite(e)), default=1.0)
    values: Values = [
        {"t": start + i, "error": min(max(error, FLOOR), 10 * max(most, 1.0)), "of": name}
        for name, errors in series.items()
        for i, error in enumerate(errors)
    ]
    looks = {"made at the step": ("1", "circle", [1, 0]), "accumulated": ("2", "square", [6, 4])}
    inks, shapes, dashes = zip(*(looks[name] for name in series), strict=True)
    color = {
        "field": "of",
        "type": "nominal",
        "scale": {"domain": list(series), "range": [f"var(--series-{ink})" for ink in inks]},
        "legend": {"title": None, "orient": "top", "symbolStrokeWidth": 2},
    }
    x = {"field": "t", "type": "ordinal", "title": "step t"}
    powers = _powers([1.0, *(float(one["error"]) for one in values)])
    y = {
        "field": "error",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [powers[0], powers[-1]], "nice": False},
        "title": "error / allowance",
        "axis": {"values": powers, "labelExpr": "datum.value < 1e4 ? '' + datum.value : format(datum.value, '.0e')"},
    }
    shape = {"field": "of", "type": "nominal", "scale": {"domain": list(series), "range": list(shapes)}}
    dash = {"field": "of", "type": "nominal", "scale": {"domain": list(series), "range": list(dashes)}}
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
    return _svg({"data": {"values": values}, "width": 270, "height": 170, "layer": layers})


def margin_bars(subjects: Sequence[Mapping[str, Any]], labels: Sequence[Sequence[str]]) -> Markup:
    """Draw the share of passing cases by how near they came to their allowance, by powers of two.

    The subjects are below each other on the same scales, each under its label, which may have several lines.
    """
    values = [
        {"subject": number, "error": _power(bar["power"], i), "share": bar["share"], "i": i}
        for number, subject in enumerate(subjects)
        for i, bar in enumerate(subject["bars"])
    ]
    header = {
        "labelExpr": f"{json.dumps(list(labels))}[datum.value]",
        "title": None,
        "labelOrient": "top",
        "labelAnchor": "start",
        "labelAngle": 0,
        "labelAlign": "left",
        "labelFontSize": 12,
        "labelColor": "var(--ink)",
        "labelLimit": 0,
    }
    return _svg(
        {
            "data": {"values": values},
            "facet": {"row": {"field": "subject", "type": "ordinal", "header": header}},
            "spacing": 14,
            "spec": {
                "width": 260,
                "height": 64,
                "mark": {"type": "bar", "fill": "var(--series-1)"},
                "encoding": {
                    "x": {
                        "field": "error",
                        "type": "ordinal",
                        "sort": {"field": "i"},
                        "title": "largest error / allowance, up to",
                        "axis": {"labelOverlap": True},
                    },
                    "y": {
                        "field": "share",
                        "type": "quantitative",
                        "title": "cases",
                        "axis": {"tickCount": 3, "format": "%"},
                    },
                },
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
                    "legend": {"title": "pairs met", "orient": "top", "columns": 2, "symbolStrokeColor": "var(--line)"},
                },
            },
        }
    )


NODE: Final = 17
"""The radius of a node of the network; its neighbours are 1 by 1 apart, in units of ``STEP`` pixels."""
STEP: Final = {"x": 84, "y": 70}
MARGIN: Final = 1.6
"""The space for the names of the rows, to the left of the first step, in the same units as a step."""
ASIDE: Final = 0.42
"""The distance by which nodes of the reverse direction are to the right, so that arrows pass beside nodes."""
FINAL: Final = 0.9
"""The distance of h_n from the last state of a direction."""


class _Drawing(NamedTuple):
    """A drawing of the unrolled network: what stands where, and the rectangle around it."""

    nodes: Values
    edges: Values
    labels: Values
    left: float
    right: float
    bottom: float
    top: float


def unrolled(network: Mapping[str, Any], call: str | None = None) -> Markup:
    """Draw the unrolled network: a column for each step, the input at the bottom, each layer and direction above.

    Above these is the readout, and h_n at the end of each direction that has a wrong final state. If the whole call
    failed, a frame around all of it has the words ``call``.
    """
    drawing = _drawn(network, call)
    place = {"x": _axis("x", drawing.left, drawing.right), "y": _axis("y", drawing.bottom, drawing.top)}
    line = {**place, "x2": {"field": "x2"}, "y2": {"field": "y2"}}
    arrow = {"x": place["x"] | {"field": "x2"}, "y": place["y"] | {"field": "y2"}}
    fills = {"input": "var(--panel)", "ok": "var(--h0)", "bad": "var(--bad)"}
    inks = {"input": "var(--ink)", "ok": "var(--h0-ink)", "bad": "var(--bad-ink)"}
    layers = [
        {
            "data": {"values": drawing.edges},
            "mark": {"type": "rule", "stroke": "var(--line)", "strokeWidth": 1.5},
            "encoding": line,
        },
        {
            "data": {"values": drawing.edges},
            "mark": {"type": "point", "shape": "triangle-right", "filled": True, "size": 60, "opacity": 1}
            | {"fill": "var(--line)"},
            "encoding": {**arrow, "angle": {"field": "angle", "type": "quantitative", "scale": None}},
        },
        {
            "data": {"values": drawing.nodes},
            "mark": {"type": "point", "filled": True, "size": math.pi * NODE**2, "opacity": 1}
            | {"stroke": "var(--line)", "strokeWidth": 1.5},
            "encoding": {**place, "fill": _by_level(fills)},
        },
        {
            "data": {"values": drawing.nodes},
            "mark": {"type": "text", "fontSize": 13},
            "encoding": {**place, "text": {"field": "said"}, "color": _by_level(inks)},
        },
        {
            "data": {"values": drawing.labels},
            "mark": {"type": "text", "fontSize": 12, "align": "left", "fill": "var(--ink)"},
            "encoding": {**place, "text": {"field": "said"}},
        },
    ]
    return _svg(
        {
            "width": (drawing.right - drawing.left) * STEP["x"],
            "height": (drawing.top - drawing.bottom) * STEP["y"],
            "layer": layers if call is None else [_frame(drawing, line), *layers],
            "resolve": {"scale": {"color": "independent", "fill": "independent"}},
        }
    )


def _drawn(network: Mapping[str, Any], call: str | None) -> _Drawing:
    """Place the nodes, the edges and the words of the unrolled network."""
    steps = range(network["steps"]["start"], network["steps"]["stop"])
    rows = [(layer, d) for layer in range(network["layers"]) for d in network["directions"]]
    heights = {row: 1 + i for i, row in enumerate(rows)}
    top = len(rows) + bool(network["readout"])
    wrong = {(one["layer"], one["direction"], one["t"]) for one in network["wrong_states"]}
    nodes: Values = [_node(t, 0, "x", "input", bad=t in network["wrong_inputs"]) for t in steps]
    nodes += [
        _node(t + ASIDE * (row[1] == "reverse"), y, "h", "ok", bad=(*row, t) in wrong)
        for row, y in heights.items()
        for t in steps
    ]
    if network["readout"]:
        nodes += [_node(t, top, "y", "input", bad=t in network["wrong_readouts"]) for t in steps]
    edges, labels = list(_edges(network, steps, heights)), list[dict[str, Any]]()
    finals = [row for one in network["wrong_finals"] if (row := (one["layer"], one["direction"])) in heights]
    right = steps.stop - 0.5 + ASIDE * (len(network["directions"]) > 1)
    for row in finals:
        back = row[1] == "reverse"
        last = steps.start + ASIDE if back else float(steps.stop - 1)
        at = last - FINAL if back else max(last + FINAL, right + 0.1)
        nodes.append(_node(at, heights[row], "h_n", "ok", bad=True))
        edges.append(_edge(last, heights[row], at, heights[row]))
        labels.append({"x": at - 0.14, "y": heights[row] - 0.42, "said": "h_n"})
    left = steps.start - MARGIN - 0.9 * any(direction == "reverse" for _, direction in finals)
    right += 1.0 * any(direction == "forward" for _, direction in finals)
    labels += [{"x": left + 0.1, "y": y, "said": _row_label(row, network)} for row, y in heights.items()]
    labels.append({"x": left + 0.1, "y": 0, "said": "input"})
    labels += [{"x": left + 0.1, "y": top, "said": "readout"}] if network["readout"] else []
    labels += [{"x": t - 0.16, "y": -0.55, "said": f"t={t}"} for t in steps]
    roof = top + 0.05 + (0.4 if call is None else 0.55)
    if call is not None:  # its words need some room
        right = max(right, left + 0.3 + len(call) * 7 / STEP["x"])
        labels.append({"x": left + 0.1, "y": roof - 0.2, "said": f"✗ {call}"})
    return _Drawing(nodes, edges, labels, left, right, -0.75, roof)


def _axis(name: str, start: float, stop: float) -> dict[str, Any]:
    """Return the encoding of a place along an axis that is not drawn."""
    scale = {"domain": [start, stop], "nice": False}
    return {"field": name, "type": "quantitative", "axis": None, "scale": scale}


def _by_level(colors: Mapping[str, str]) -> dict[str, Any]:
    """Return the encoding of a node's level by a colour."""
    scale = {"domain": list(colors), "range": list(colors.values())}
    return {"field": "level", "type": "nominal", "scale": scale, "legend": None}


def _frame(drawing: _Drawing, line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a frame around a call that fails, two pixels inside the picture."""
    inset = {"x": 2 / STEP["x"], "y": 2 / STEP["y"]}
    corners = {"x": drawing.left + inset["x"], "y": drawing.bottom + inset["y"]}
    corners |= {"x2": drawing.right - inset["x"], "y2": drawing.top - inset["y"]}
    return {
        "data": {"values": [corners]},
        "mark": {"type": "rect", "filled": False, "stroke": "var(--bad)", "strokeWidth": 2, "strokeDash": [6, 4]},
        "encoding": dict(line),
    }


def _node(x: float, y: float, said: str, level: str, *, bad: bool) -> dict[str, Any]:
    """Return a node; a wrong one has a cross."""
    return {"x": x, "y": y, "said": "✗" if bad else said, "level": "bad" if bad else level}


def _edges(
    network: Mapping[str, Any], steps: range, heights: Mapping[tuple[int, str], int]
) -> Iterator[dict[str, float]]:
    aside = {direction: ASIDE * (direction == "reverse") for direction in network["directions"]}
    for (layer, direction), y in heights.items():
        x = aside[direction]
        below = [(0.0, 0)] if layer == 0 else [(aside[d], heights[layer - 1, d]) for d in network["directions"]]
        for t in steps:
            yield from (_edge(t + left, low, t + x, y) for left, low in below)
            before = t + 1 if direction == "reverse" else t - 1
            if before in steps:
                yield _edge(before + x, y, t + x, y)
    if network["readout"]:
        above, layer = len(heights) + 1, network["layers"] - 1
        for t in steps:
            yield from (_edge(t + aside[d], heights[layer, d], t, above) for d in network["directions"])


def _edge(x: float, y: float, x2: float, y2: float) -> dict[str, float]:
    """Return an arrow from the rim of one node to the rim of another."""
    dx, dy = (x2 - x) * STEP["x"], (y2 - y) * STEP["y"]
    length = math.hypot(dx, dy)
    start, end = (NODE + 1) / length, 1 - (NODE + 5) / length
    at = {"x": x + start * (x2 - x), "y": y + start * (y2 - y)}
    return at | {"x2": x + end * (x2 - x), "y2": y + end * (y2 - y), "angle": -math.degrees(math.atan2(dy, dx))}


def _row_label(row: tuple[int, str], network: Mapping[str, Any]) -> str:
    layer, direction = row
    return f"layer {layer}" + (f" {direction}" if len(network["directions"]) > 1 else "")


def _powers(values: Sequence[float]) -> list[float]:
    """Return some powers of ten, so that all values are between the first and the last."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    stride = max(1, math.ceil((high - low) / 5))
    low = stride * math.floor(low / stride)  # 1 is one of them
    return [10.0**power for power in range(low, max(high, low + 1) + stride, stride)]


def _cell(error: float, *, padded: bool) -> tuple[str, str]:
    """Return the text and the level of a cell."""
    if padded:
        return "pad", PADDED
    said = f"{error:.2g}" if error < 99 else f"{error:.0e}".replace("e+0", "e")
    if math.isinf(error) or 0 < error < 0.01:
        said = "∞" if error > 1 else "<0.01"
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
