"""picture: the numbers of a drawing of a failure: how far off each state is, and where the network goes wrong.

Every error is a multiple of its allowance, so that more than 1 is wrong. There are two of each state: by one step from
the subject's own previous state, which is the error made there, and in the whole run, which is the error carried along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.checks.agreement import REFERENCE, Departure, Observation, departures
from harness.diagnosis.where import Where
from harness.oracle.compare import Mismatch, over_allowance
from harness.oracle.expectation import Setting, end_to_end_states
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.known import Floats, to_float64
from harness.space.config import DIRECTIONS, PREACTIVATION, RNNConfig

SHOWN: Final = {"t": 16, "n": 3, "unit": 16}
"""The most steps, sequences and units that are shown; of more, those around the first wrong one."""

UNROLLED: Final = 6
"""The most steps of an unrolled network that are shown."""

Window = tuple[int, int, int]
"""The first index that is shown, the one after the last, and how many there are."""


@dataclass(frozen=True)
class Map:
    """The errors of one array of one layer and direction, over their allowances, (T, N, units) as far as shown."""

    array: str
    layer: int | None
    """The layer; ``None`` for the readout."""
    direction: str | None
    local: Floats | None
    """The errors by one step; ``None`` where the states are not known."""
    whole: Floats | None
    """The errors of the whole run; ``None`` for gradients inside the network."""
    local_steps: Floats | None
    """The largest error of each step, over all sequences and units."""
    whole_steps: Floats | None


@dataclass(frozen=True)
class Picture:
    """The errors of a subject on a case, array by array in the order of computation."""

    config: RNNConfig
    maps: tuple[Map, ...]
    shown: Mapping[str, Window]
    """The part that is shown, by axis: ``t``, ``n``, ``unit``."""
    first: Mapping[str, int | str | None]
    """The first wrong element: array, layer, direction, t, n, unit."""
    permuted: Floats | None = None
    """Row i has, of the first wrong array, the largest error of unit i over its allowance if it is held against each
    expected unit. ``None`` unless the wrong units are the expected ones in another order."""


@dataclass(frozen=True)
class Network:
    """A network unrolled in time, with the places at which a case fails."""

    config: RNNConfig
    steps: Window
    states: tuple[tuple[int, int, int], ...]
    """The wrong states: layer, direction, step."""
    inputs: tuple[int, ...]
    """The steps whose input has a wrong gradient."""
    arrays: tuple[str, ...]
    """The wrong arrays that are no states and no inputs, such as ``weight_hh_l0.grad``."""
    more: bool
    """True if more elements are wrong than the mismatches have sites for, so that other states may be wrong, too."""


def picture_of(observation: Observation, where: Where | None = None) -> Picture | None:
    """Return the picture of an observation, with the first departure if that is known; ``None`` if nothing is wrong."""
    if observation.unfit is not None:
        return None
    config, whole = observation.case.config, _whole_run(observation)
    own = departures(observation)
    places: dict[tuple[str, int | None], tuple[Floats | None, Floats | None]] = {
        (one.array, one.layer): (one.over, whole.pop(("output", one.layer), None) if _is_state(one) else None)
        for one in own
    }
    places |= {place: (None, over) for place, over in whole.items()}
    if where is None and any(one.bad.any() for one in own):
        return None  # the first departure is known then
    first = _first(places, config) if where is None else _first_of(where)
    if not first:
        return None
    shown = {axis: _window(int(str(first[axis])), size, SHOWN[axis]) for axis, size in _sizes(config, first).items()}
    maps = [one for place, pair in places.items() for one in _maps(config, place, pair, shown)]
    return Picture(config, tuple(maps), shown, first, _permuted(observation, first))


def network_of(config: RNNConfig, mismatches: Sequence[Mismatch]) -> Network:
    """Return the network of a case with what is wrong in it, as far as the sites of mismatches tell."""
    states: list[tuple[int, int, int]] = []
    inputs: list[int] = []
    arrays: list[str] = []
    more = False
    for mismatch in mismatches:
        name = mismatch.array
        if name == "x.grad":
            inputs += [int(site.place["t"]) for site in mismatch.sites if "t" in site.place]
        elif name in {"output", "h_n", PREACTIVATION} and mismatch.sites:
            every = name == "output" and mismatch.count == mismatch.total
            places = _every_place(config) if every else [site.place for site in mismatch.sites]
            states += [_state(config, mismatch, place) for place in places]
            more = more or (not every and mismatch.count > len(mismatch.sites))
        else:
            arrays.append(name)
    wrong = [t for _, _, t in states] + inputs
    steps = _window(min(wrong, default=0), config.T, UNROLLED)
    return Network(config, steps, tuple(sorted(set(states))), tuple(sorted(set(inputs))), tuple(arrays), more)


def _is_state(departure: Departure) -> bool:
    return departure.array == "output"


def _whole_run(observation: Observation) -> dict[tuple[str, int | None], Floats]:
    """Return the errors of the whole run over their allowances, time first, of states and of the readout."""
    case = observation.case
    config, setting = case.config, Setting(REFERENCE, case, observation.arithmetic)
    found: dict[tuple[str, int | None], Floats] = {}
    with np.errstate(all="ignore"):
        expected = expect_whole_run(setting)
        states = end_to_end_states(setting) if observation.prefixes is not None else []
    known = list((observation.prefixes or {}).values())
    if observation.prefixes is not None and len(known) == len(states) - 1:
        for layer, (own, one) in enumerate(zip(known, states, strict=False)):
            if one.error is not None:
                found["output", layer] = over_allowance(REFERENCE.time_major(own, config), one.values, one.error)
    tops: dict[str, int | None] = {"output": config.num_layers - 1, "readout": None}
    for name, top in tops.items():
        array = observation.outcome.arrays.get(name)
        if array is not None and array.shape == expected[name].values.shape:
            allowance = expected[name].allowance + observation.rounded
            over = over_allowance(to_float64(array), expected[name].values, allowance)
            found[name, top] = REFERENCE.time_major(over, config)
    return found


def _first_of(where: Where) -> dict[str, int | str | None]:
    config = where.case.config
    direction = where.place.get("direction", DIRECTIONS[0] if config.bidirectional else None)
    first: dict[str, int | str | None] = {"array": where.array, "layer": where.layer, "direction": direction}
    return {**first, **{axis: where.place[axis] for axis in SHOWN}}


def _first(
    places: Mapping[tuple[str, int | None], tuple[Floats | None, Floats | None]], config: RNNConfig
) -> dict[str, int | str | None]:
    """Return the first element that is beyond its allowance in the whole run; empty if none is."""
    for (array, layer), (_, over) in places.items():
        if over is not None and (over > 1).any():
            t, n, feature = (int(i) for i in np.argwhere(over > 1)[0])
            direction = None
            if array != "readout" and config.bidirectional:
                direction, feature = DIRECTIONS[feature // config.hidden_size], feature % config.hidden_size
            return {"array": array, "layer": layer, "direction": direction, "t": t, "n": n, "unit": feature}
    return {}


def _sizes(config: RNNConfig, first: Mapping[str, int | str | None]) -> dict[str, int]:
    units = config.output_size if first["array"] == "readout" and config.output_size else config.hidden_size
    return {"t": config.T, "n": config.N, "unit": units}


def _window(at: int, size: int, most: int) -> Window:
    """Return the part of an axis that is shown, with an index in it, a little after its beginning if it can be."""
    start = max(0, min(at - most // 4, size - most))
    return start, min(size, start + most), size


def _maps(
    config: RNNConfig,
    place: tuple[str, int | None],
    pair: tuple[Floats | None, Floats | None],
    shown: Mapping[str, Window],
) -> Iterator[Map]:
    """Yield the map of each direction of an array."""
    array, layer = place
    single = array == "readout" or not config.bidirectional
    for d, direction in enumerate([None] if single else DIRECTIONS):
        units = slice(None) if single else slice(d * config.hidden_size, (d + 1) * config.hidden_size)
        local, whole = (None if over is None else over[..., units] for over in pair)
        cut = tuple(slice(*shown[axis][:2]) for axis in ("t", "n", "unit"))
        yield Map(
            array,
            layer,
            direction,
            None if local is None else local[cut],
            None if whole is None else whole[cut],
            None if local is None else local.max(axis=(1, 2), initial=0.0)[cut[0]],
            None if whole is None else whole.max(axis=(1, 2), initial=0.0)[cut[0]],
        )


def _permuted(observation: Observation, first: Mapping[str, int | str | None]) -> Floats | None:
    """Return the match of each unit with each expected one, if the wrong units are these in another order.

    Units are matched over all steps and sequences of the whole run of the last layer.
    """
    case, array = observation.case, observation.outcome.arrays.get(str(first["array"]))
    if array is None or first["layer"] not in {None, case.config.num_layers - 1}:
        return None
    with np.errstate(all="ignore"):
        expected = expect_whole_run(Setting(REFERENCE, case, observation.arithmetic))[str(first["array"])]
    actual = to_float64(array)
    units = actual.shape[-1]
    if expected.values.shape != actual.shape or not 1 < units <= 2 * SHOWN["unit"]:
        return None
    columns: list[NDArray[np.float64]] = []
    for unit in range(units):
        values, allowance = (one[..., unit : unit + 1] for one in (expected.values, expected.allowance))
        over = over_allowance(actual, np.broadcast_to(values, actual.shape), np.broadcast_to(allowance, actual.shape))
        columns.append(over.reshape(-1, units).max(axis=0, initial=0.0))
    match = np.stack(columns, axis=1)
    fits = match <= 1
    one_to_one = (fits.sum(axis=0) == 1).all() and (fits.sum(axis=1) == 1).all()
    return match if one_to_one and not fits.diagonal().all() else None


def _every_place(config: RNNConfig) -> list[dict[str, int | str]]:
    """Return the place of a state of each direction and step."""
    directions = DIRECTIONS[: config.num_directions]
    return [{"direction": direction, "t": t} for direction in directions for t in range(config.T)]


def _state(config: RNNConfig, mismatch: Mismatch, place: Mapping[str, int | str]) -> tuple[int, int, int]:
    """Return layer, direction and step of a wrong state."""
    direction = DIRECTIONS.index(str(place["direction"])) if "direction" in place else 0
    if mismatch.array == "h_n":
        n = int(place.get("n", 0))
        last = (config.T if config.lengths is None else config.lengths[n]) - 1
        return int(place["layer"]), direction, 0 if direction else last
    layer = config.num_layers - 1 if mismatch.layer is None else mismatch.layer
    return layer, direction, int(place["t"])
