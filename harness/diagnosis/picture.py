"""picture: the numbers of a drawing of a failure: how far off each number is, and where the network goes wrong.

Every error is a multiple of its allowance, so that more than 1 is wrong. There are two of each state: by one step from
the subject's own previous state, which is the error made there, and in the whole run, which is the error carried along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.checks.agreement import REFERENCE, Departure, Observation, departures
from harness.diagnosis.where import Where
from harness.oracle.compare import OF_VALUE, Mismatch, over_allowance
from harness.oracle.expectation import Expected, Setting, end_to_end_states
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.known import Floats, to_float64
from harness.space.config import DIRECTIONS, PREACTIVATION, RNNConfig

SHOWN: Final = {"t": 16, "n": 3, "unit": 16}
"""The most steps, sequences and units that are shown; of more, those around the first wrong one."""

APART: Final = 4
"""The most arrays without steps, or gradients, that are shown; of more, the first."""

UNROLLED: Final = 6
"""The most steps of an unrolled network that are shown."""

Window = tuple[int, int, int]
"""The first index that is shown, the one after the last, and how many there are."""


class Side(NamedTuple):
    """The columns, or the rows, of a map: their meaning, the names of those that are shown, and how many there are."""

    means: str
    names: tuple[str, ...]
    of: int


@dataclass(frozen=True)
class Map:
    """The errors of an array, or of one layer and direction of it, over their allowances, as far as shown.

    Their axes are columns, sequences and rows; there is one sequence if the array has none.
    """

    array: str
    layer: int | None
    """The layer; ``None`` unless it is of the states of one layer."""
    direction: str | None
    local: Floats | None
    """The errors by one step; ``None`` where the states are not known."""
    whole: Floats | None
    """The errors of the whole run; ``None`` for gradients inside the network."""
    local_steps: Floats | None
    """The largest error of each step, over all sequences and units; ``None`` also where there are no steps."""
    whole_steps: Floats | None
    first: tuple[int, int, int] | None
    """The column, sequence and row of the first wrong element, as shown; ``None`` if it is in another map."""
    columns: Side | None = None
    """The columns; ``None`` if these are the steps."""
    rows: Side | None = None
    """The rows; ``None`` if these are units."""


@dataclass(frozen=True)
class Picture:
    """The errors of a subject on a case, array by array in the order of computation."""

    config: RNNConfig
    maps: tuple[Map, ...]
    shown: Mapping[str, Window]
    """The part that is shown, by axis: ``t``, ``n``, ``unit``."""
    first: Mapping[str, int | str | None]
    """The first wrong element: array, layer, direction, t, n, unit; ``None`` for what its array does not have."""
    place: Mapping[str, int | str]
    """The same without what is no axis of the array; a weight has rows and columns."""
    more: int = 0
    """The number of further wrong arrays, which are not shown."""
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
    finals: tuple[tuple[int, int], ...]
    """The layers and directions whose final state is wrong in h_n."""
    readouts: tuple[int, ...]
    """The steps whose readout is wrong."""
    inputs: tuple[int, ...]
    """The steps whose input has a wrong gradient."""
    arrays: tuple[str, ...]
    """The further wrong arrays, such as ``weight_hh_l0.grad``, and how they are wrong if it is not their numbers."""
    more: bool
    """True if more elements are wrong than the mismatches have sites for, so that other states may be wrong, too."""


def picture_of(observation: Observation, where: Where | None = None) -> Picture | None:
    """Return the picture of an observation, with the first departure if that is known; ``None`` if nothing is wrong.

    If every state and the readout are right, it shows h_n and the gradients that are wrong.
    """
    if observation.unfit is not None:
        return None
    config = observation.case.config
    with np.errstate(all="ignore"):
        expected = expect_whole_run(Setting(REFERENCE, observation.case, observation.arithmetic))
    whole = _whole_run(observation, expected)
    own = departures(observation)
    places: dict[tuple[str, int | None], tuple[Floats | None, Floats | None]] = {
        (one.array, one.layer): (one.over, whole.pop(("output", one.layer), None) if _is_state(one) else None)
        for one in own
    }
    places |= {place: (None, over) for place, over in whole.items()}
    if where is None and any(one.bad.any() for one in own):
        return None  # the first departure is known then
    first = _first(places, config) if where is None else _first_of(where)
    apart = () if first else tuple(_wrong_arrays(observation, expected))
    if apart:
        first = apart[0].first(config)
    if not first:
        return None
    sizes = _sizes(config, first)
    shown = {axis: _window(int(first[axis] or 0), size, SHOWN[axis]) for axis, size in sizes.items()}
    maps = [one for place, pair in places.items() for one in _maps(config, place, pair, shown, first)]
    maps += [one.map(shown["t"], marked=number == 0) for number, one in enumerate(apart[:APART])]
    place = apart[0].place(config) if apart else {axis: first[axis] or 0 for axis in SHOWN}
    permuted = None if apart else _permuted(observation, first, expected)
    return Picture(config, tuple(maps), shown, first, place, len(apart[APART:]), permuted)


def network_of(config: RNNConfig, mismatches: Sequence[Mismatch]) -> Network:
    """Return the network of a case with what is wrong in it, as far as the sites of mismatches tell."""
    states: list[tuple[int, int, int]] = []
    finals: list[tuple[int, int]] = []
    readouts: list[int] = []
    inputs: list[int] = []
    arrays: list[str] = []
    more = False
    for mismatch in mismatches:
        name = mismatch.array
        every = name in {"output", "readout"} and mismatch.count == mismatch.total
        places = [site.place for site in mismatch.sites]
        if not places:
            arrays.append(name if mismatch.sort in OF_VALUE else f"{name} ({mismatch.sort.value})")
        elif name == "x.grad":
            inputs += [int(place["t"]) for place in places if "t" in place]
        elif name == "readout":
            readouts += range(config.T) if every else [int(place["t"]) for place in places]
        elif name == "h_n":
            finals += [_final(place) for place in places]
            # With one step, the states of inner layers are known by h_n alone.
            states += [
                (*_final(place), 0) for place in places if config.T == 1 and _final(place)[0] + 1 < config.num_layers
            ]
        elif name in {"output", PREACTIVATION}:
            states += [_state(config, mismatch, place) for place in (_every_place(config) if every else places)]
        else:
            arrays.append(name)
        more = more or (name in _DRAWN and not every and mismatch.count > len(places) > 0)
    wrong = [t for _, _, t in states] + readouts + inputs
    steps = _window(min(wrong, default=_last(config, finals)), config.T, UNROLLED)
    drawn = (
        tuple(sorted(set(states))),
        tuple(sorted(set(finals))),
        tuple(sorted(set(readouts))),
        tuple(sorted(set(inputs))),
    )
    return Network(config, steps, *drawn, tuple(arrays), more)


_DRAWN: Final = frozenset({"output", "h_n", "readout", PREACTIVATION})
"""The arrays of which single wrong elements are drawn."""


def _final(place: Mapping[str, int | str]) -> tuple[int, int]:
    """Return layer and direction of an element of h_n."""
    return int(place["layer"]), DIRECTIONS.index(str(place["direction"])) if "direction" in place else 0


def _last(config: RNNConfig, finals: Sequence[tuple[int, int]]) -> int:
    """Return the step to show if only final states are wrong: the last, or for the reverse direction the first."""
    return config.T - 1 if finals and not finals[0][1] else 0


def _is_state(departure: Departure) -> bool:
    return departure.array == "output"


def _whole_run(observation: Observation, expected: Mapping[str, Expected]) -> dict[tuple[str, int | None], Floats]:
    """Return the errors of the whole run over their allowances, time first, of states and of the readout."""
    case = observation.case
    config, setting = case.config, Setting(REFERENCE, case, observation.arithmetic)
    found: dict[tuple[str, int | None], Floats] = {}
    with np.errstate(all="ignore"):
        states = end_to_end_states(setting) if observation.prefixes is not None else []
    known = list((observation.prefixes or {}).values())
    if observation.prefixes is not None and len(known) == len(states) - 1:
        for layer, (own, one) in enumerate(zip(known, states, strict=False)):
            if one.error is not None:
                found["output", layer] = over_allowance(REFERENCE.time_major(own, config), one.values, one.error)
    tops: dict[str, int | None] = {"output": config.num_layers - 1, "readout": None}
    for name, top in tops.items():
        if (over := _over(observation, expected, name)) is not None:
            found[name, top] = REFERENCE.time_major(over, config)
    return found


def _over(observation: Observation, expected: Mapping[str, Expected], name: str) -> Floats | None:
    """Return the errors of an array over their allowances; ``None`` if it was not returned in its shape."""
    array = observation.outcome.arrays.get(name)
    if array is None or array.shape != expected[name].values.shape:
        return None
    return over_allowance(to_float64(array), expected[name].values, expected[name].allowance + observation.rounded)


@dataclass(frozen=True)
class _Apart:
    """A wrong array that is no state and no readout."""

    name: str
    over: Floats
    """Its errors over their allowances: columns, sequences, rows."""
    columns: str | None
    """The meaning of the columns; ``None`` if they are steps."""
    rows: str | None
    """The meaning of the rows; ``None`` if they are units."""
    names: tuple[str, ...] = ()
    """The names of the columns, where these are more than their index."""

    @property
    def at(self) -> tuple[int, int, int]:
        """The column, sequence and row of the first wrong element."""
        column, n, row = (int(i) for i in np.argwhere(self.over > 1)[0])
        return column, n, row

    def place(self, config: RNNConfig) -> dict[str, int | str]:
        """Return the place of the first wrong element."""
        column, n, row = self.at
        if self.columns is None:
            return {"t": column, "n": n, "feature": row}
        axes = len(config.returned[self.name].axes)
        return config.locate(self.name, {3: (column, n, row), 2: (row, column), 1: (row,)}[axes])

    def first(self, config: RNNConfig) -> dict[str, int | str | None]:
        """Return the first wrong element as a picture has it."""
        place = self.place(config)
        return {"array": self.name, **{name: place.get(name) for name in ("layer", "direction", *SHOWN)}}

    def map(self, steps: Window, *, marked: bool) -> Map:
        """Return the part of it around its first wrong element; of steps, those that are shown."""
        sizes, at = self.over.shape, self.at
        most = (SHOWN["t"], SHOWN["n"], SHOWN["unit"])
        shown = [_window(*one) for one in zip(at, sizes, most, strict=True)]
        if self.columns is None:
            shown[0] = steps
        over = self.over[tuple(slice(*window[:2]) for window in shown)]
        names = self.names or tuple(map(str, range(sizes[0])))
        columns = None if self.columns is None else Side(self.columns, names[slice(*shown[0][:2])], sizes[0])
        rows = None if self.rows is None else Side(self.rows, tuple(map(str, range(*shown[2][:2]))), sizes[2])
        by_step = self.over.max(axis=(1, 2), initial=0.0)[slice(*steps[:2])] if self.columns is None else None
        first = (at[0] - shown[0][0], at[1] - shown[1][0], at[2] - shown[2][0])
        return Map(self.name, None, None, None, over, None, by_step, first if marked else None, columns, rows)


def _wrong_arrays(observation: Observation, expected: Mapping[str, Expected]) -> Iterator[_Apart]:
    """Yield h_n and the gradients that are wrong in the whole run, in this order."""
    config = observation.case.config
    for name, spec in config.returned.items():
        over = None if name in {"output", "readout"} else _over(observation, expected, name)
        if over is None or not (over > 1).any():
            continue
        if "T" in spec.axes:
            yield _Apart(name, REFERENCE.time_major(over, config), None, "feature")
        elif len(spec.axes) == 3:
            order = REFERENCE.h_n_order(config)
            names = tuple(f"{layer}{(' fwd', ' rev')[d] * config.bidirectional}" for layer, d in order)
            yield _Apart(name, over, "layer", None, names)
        elif len(spec.axes) == 2:
            yield _Apart(name, over.T[:, np.newaxis], "column", "row")
        else:
            yield _Apart(name, over[np.newaxis, np.newaxis], "", None, ("",))


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
    first: Mapping[str, int | str | None],
) -> Iterator[Map]:
    """Yield the map of each direction of an array, with the first wrong element if that is in it."""
    array, layer = place
    single = array == "readout" or not config.bidirectional
    for d, direction in enumerate([None] if single else DIRECTIONS):
        units = slice(None) if single else slice(d * config.hidden_size, (d + 1) * config.hidden_size)
        local, whole = (None if over is None else over[..., units] for over in pair)
        size = next(over.shape[-1] for over in (local, whole) if over is not None)
        window = shown["unit"] if size == shown["unit"][2] else _window(0, size, SHOWN["unit"])
        cut = tuple(slice(*one[:2]) for one in (shown["t"], shown["n"], window))
        rows = None if window == shown["unit"] else Side("unit", tuple(map(str, range(*window[:2]))), size)
        here = (first["array"], first["layer"], first["direction"]) == (array, layer, direction)
        t, n, unit = (int(first[axis] or 0) - shown[axis][0] for axis in SHOWN)
        yield Map(
            array,
            layer,
            direction,
            None if local is None else local[cut],
            None if whole is None else whole[cut],
            None if local is None else local.max(axis=(1, 2), initial=0.0)[cut[0]],
            None if whole is None else whole.max(axis=(1, 2), initial=0.0)[cut[0]],
            (t, n, unit) if here else None,
            rows=rows,
        )


def _permuted(
    observation: Observation, first: Mapping[str, int | str | None], every: Mapping[str, Expected]
) -> Floats | None:
    """Return the match of each unit with each expected one, if the wrong units are these in another order.

    Units are matched over all steps and sequences of the whole run of the last layer.
    """
    case, array = observation.case, observation.outcome.arrays.get(str(first["array"]))
    if array is None or first["layer"] not in {None, case.config.num_layers - 1}:
        return None
    expected = every[str(first["array"])]
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
    layer = config.num_layers - 1 if mismatch.layer is None else mismatch.layer
    return layer, direction, int(place["t"])
