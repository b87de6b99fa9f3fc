"""error_map_records: maps of errors as plain data, with the words that say what they show."""

from typing import TypedDict

from harness.diagnosis.error_map import ErrorMap, ErrorMapAxis, ErrorMaps
from harness.report.wording import counted
from harness.space.config import PREACTIVATION, RNNConfig


class AxisRecord(TypedDict):
    """An axis of a map of errors."""

    name: str
    labels: list[str]
    size: int


class ErrorMapRecord(TypedDict):
    """A map of errors as data."""

    text: str
    columns: AxisRecord
    rows: AxisRecord
    first: tuple[int, int]
    errors: list[list[float]]


class MapsRecord(TypedDict):
    """The maps of a finding's errors as data."""

    text: str
    maps: list[ErrorMapRecord]


def maps_record(maps: ErrorMaps) -> MapsRecord:
    """Return maps of errors, which are multiples of tolerances with three digits: more than 1 is wrong."""
    config, more = maps.config, maps.arrays_not_shown
    sizes = f"T={config.T}, N={config.N}, input_size={config.input_size}, hidden_size={config.hidden_size}"
    whose = "made at each step from your own state before it" if maps.local else "of the whole run"
    text = f"Errors over tolerance, {whose}, in a case of {sizes}. More than 1 is wrong."
    if more:
        text += f" {counted(more, 'more array')} {'is' if more == 1 else 'are'} wrong."
    return {"text": text, "maps": [_map(grid, config) for grid in maps.maps]}


def _map(grid: ErrorMap, config: RNNConfig) -> ErrorMapRecord:
    what = {"output": "states", PREACTIVATION: "gradients by preactivations"}.get(grid.array, grid.array)
    parts = [what] + ([f"layer {grid.layer}"] if grid.layer is not None and config.num_layers > 1 else [])
    parts += [grid.direction] if grid.direction is not None else []
    parts += [f"sequence n={grid.sequence}"] if grid.sequence is not None and config.N > 1 else []
    place = ", ".join(f"{name}={index}" for name, index in grid.place.items())
    cut = "".join(
        f"; {axis.name} {axis.labels[0]} to {axis.labels[-1]} of {axis.size}"
        for axis in (grid.columns, grid.rows)
        if len(axis.labels) < axis.size
    )
    return {
        "text": f"{', '.join(parts)}: first wrong at {place}{cut}",
        "columns": _axis(grid.columns),
        "rows": _axis(grid.rows),
        "first": grid.first,
        "errors": [[float(f"{error:.3g}") for error in column] for column in grid.errors.tolist()],
    }


def _axis(axis: ErrorMapAxis) -> AxisRecord:
    return {"name": axis.name, "labels": [*axis.labels], "size": axis.size}
