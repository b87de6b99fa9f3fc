"""Pictures of failures as plain data, each with the words that say what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.diagnosis.picture import Map, Network, Picture, Side
from harness.oracle.known import Floats
from harness.report.wording import counted
from harness.space.config import DIRECTIONS, PREACTIVATION, RNNConfig


def picture_record(picture: Picture) -> dict[str, Any]:
    """Return a picture as data. Errors over allowances have three digits; more than 1 is wrong."""
    config, shown = picture.config, picture.shown
    return {
        "config": repr(config),
        "first": dict(picture.first),
        "lengths": None if config.lengths is None else list(config.lengths),
        "shown": {axis: {"start": start, "stop": stop, "of": of} for axis, (start, stop, of) in shown.items()},
        "maps": [_map(one, picture) for one in picture.maps],
        "permuted": None if picture.permuted is None else _rounded(picture.permuted),
        "units": None if picture.permuted is None else _units(picture),
        "text": _picture_text(picture),
    }


def network_record(network: Network) -> dict[str, Any]:
    """Return a network with its wrong places as data."""
    config, (start, stop, of) = network.config, network.steps
    return {
        "layers": config.num_layers,
        "directions": list(DIRECTIONS[: config.num_directions]),
        "steps": {"start": start, "stop": stop, "of": of},
        "wrong_states": [
            {"layer": layer, "direction": DIRECTIONS[direction], "t": t} for layer, direction, t in network.states
        ],
        "readout": config.output_size is not None,
        "wrong_finals": [{"layer": layer, "direction": DIRECTIONS[direction]} for layer, direction in network.finals],
        "wrong_readouts": list(network.readouts),
        "wrong_inputs": list(network.inputs),
        "wrong_arrays": list(network.arrays),
        "text": _network_text(network),
    }


def shapes_rows(config: RNNConfig) -> list[dict[str, Any]]:
    """Return name, axes and shape of every array of a config, inputs first."""
    every = {**config.inputs, **config.weights, **config.outputs}
    return [
        {"name": name, "axes": f"({', '.join(spec.axes)})", "shape": str(tuple(spec.shape))}
        for name, spec in every.items()
    ]


def _map(one: Map, picture: Picture) -> dict[str, Any]:
    t, unit = (picture.shown[axis][0] for axis in ("t", "unit"))
    steps, _, units = next(over.shape for over in (one.local, one.whole) if over is not None)
    columns = one.columns or Side("step t", tuple(str(t + i) for i in range(steps)), picture.shown["t"][2])
    rows = one.rows or Side("unit", tuple(str(unit + i) for i in range(units)), picture.shown["unit"][2])
    return {
        "array": one.array,
        "layer": one.layer,
        "direction": one.direction,
        "label": _label(one.array, one.layer, one.direction, picture.config),
        "columns": columns._asdict(),
        "rows": rows._asdict(),
        "first": None if one.first is None else list(one.first),
        "local": None if one.local is None else _rounded(one.local),
        "whole": None if one.whole is None else _rounded(one.whole),
        "local_steps": None if one.local_steps is None else _rounded(one.local_steps),
        "whole_steps": None if one.whole_steps is None else _rounded(one.whole_steps),
    }


def _rounded(array: Floats) -> Any:
    """Return an array as nested lists of numbers with three digits."""
    if array.ndim:
        return [_rounded(part) for part in array]
    return float(f"{array.item():.3g}")


def _label(array: str, layer: Any, direction: Any, config: RNNConfig) -> str:
    what = {"output": "states", PREACTIVATION: "gradients by preactivations"}.get(array, array)
    if array not in {"output", PREACTIVATION}:
        return what
    parts = [what] + ([f"layer {layer}"] if layer is not None and config.num_layers > 1 else [])
    return ", ".join([*parts, *([str(direction)] if direction is not None else [])])


def _units(picture: Picture) -> list[str]:
    assert picture.permuted is not None
    H, single = picture.config.hidden_size, picture.first["direction"] is None
    return [str(i) if single else f"{DIRECTIONS[i // H][:3]} {i % H}" for i in range(len(picture.permuted))]


def _picture_text(picture: Picture) -> str:
    """Return what is seen in a picture: where it begins, and how much of each axis is shown."""
    first, config = picture.first, picture.config
    sizes = f"T={config.T}, N={config.N}, input_size={config.input_size}, hidden_size={config.hidden_size}"
    label = _label(str(first["array"]), first["layer"], first["direction"], config)
    label = f"the {label}" if label != first["array"] or label == "readout" else label
    begins = ", ".join(f"{axis}={i}" for axis, i in picture.place.items())
    said = f"In a case of {sizes}, the first error beyond its allowance is of {label}, at {begins}."
    if picture.more:
        said += f" {counted(picture.more, 'more array')} {'is' if picture.more == 1 else 'are'} wrong, and not shown."
    cut = [
        f"{axis} {start} to {stop - 1} of {of}"
        for axis, (start, stop, of) in picture.shown.items()
        if stop - start < of
    ]
    return said + (f" Shown are {', '.join(cut)}." if cut else "")


def _network_text(network: Network) -> str:
    config, (start, stop, of) = network.config, network.steps
    steps = counted(of, "step") if stop - start == of else f"steps {start} to {stop - 1} of {of}"
    layers = counted(config.num_layers, "layer") + (" in two directions" if config.bidirectional else "")
    wrong = list(_wrong(network))
    said = f"Wrong: {'; '.join(wrong)}." if wrong else "No single state is known to be wrong."
    more = " More may be wrong: these are the worst and the first." if network.more else ""
    return f"The network of the case, unrolled: {layers}, {steps}. {said}{more}"


def _wrong(network: Network) -> Iterator[str]:
    config = network.config
    for layer, direction, t in network.states:
        of = [f"layer {layer}"] * (config.num_layers > 1) + [DIRECTIONS[direction]] * config.bidirectional
        yield ", ".join([f"the state at t={t}", *of])
    for layer, direction in network.finals:
        of = [f"layer {layer}"] * (config.num_layers > 1) + [DIRECTIONS[direction]] * config.bidirectional
        yield ", ".join(["the final state in h_n", *of])
    yield from (f"the readout at t={t}" for t in network.readouts)
    yield from (f"the gradient by the input at t={t}" for t in network.inputs)
    yield from network.arrays


def as_numbers(record: Mapping[str, Any] | Sequence[Any] | Any) -> Any:
    """Return data that was read from JSON with infinities and NaN as numbers again."""
    if isinstance(record, Mapping):
        return {name: as_numbers(value) for name, value in record.items()}
    if isinstance(record, list):
        return [as_numbers(value) for value in record]
    return float(record) if record in ("inf", "-inf", "nan") else record
