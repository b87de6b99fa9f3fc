"""error_map: how far off each number of a failing case is, as a multiple of its tolerance, to be drawn.

Each state is compared with one step from the subject's own previous state, where that is known, so a wrong element is
one where the mistake is made. If all states are right in themselves, arrays are compared end to end.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from harness.checks.agreement import Departure, Observation, departures
from harness.oracle.array_layout import h_n_order, time_major
from harness.oracle.bounded_array import Floats, to_float64
from harness.oracle.compare import over_tolerance
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.setting import Setting
from harness.space.config import DIRECTIONS, RNNConfig

MAPS_SHOWN: Final = 4  # maps of one case
MAP_SIDE: Final = 16  # columns, and rows, of a map; of more, those around the first wrong element


class ErrorMapAxis(NamedTuple):
    """The columns, or the rows, of a map."""

    name: str
    labels: tuple[str, ...]  # of those that are shown
    size: int  # of all


class ErrorMap(NamedTuple):
    """The errors of one sequence in an array, or in one layer and direction of it, over their tolerances."""

    array: str
    layer: int | None
    direction: str | None
    sequence: int | None  # None if the array has none
    columns: ErrorMapAxis
    rows: ErrorMapAxis
    errors: Floats  # (columns, rows); NaN after the end of the sequence
    first: tuple[int, int]  # the first wrong element, in the order of computation

    @property
    def place(self) -> dict[str, int | str]:
        """The place of the first wrong element."""
        place: dict[str, int | str] = {"n": self.sequence} if self.sequence is not None else {}
        for axis, index in zip((self.columns, self.rows), self.first, strict=True):
            if axis.name:
                place[axis.name] = axis.labels[index]
        return place


@dataclass(frozen=True)
class ErrorMaps:
    """The maps of all wrong arrays of a case, in the order of computation."""

    config: RNNConfig
    local: bool  # True if the errors are those made at each step, False if they are those of the whole run
    maps: tuple[ErrorMap, ...]
    arrays_not_shown: int  # wrong arrays that are not shown


def error_maps(observation: Observation) -> ErrorMaps | None:
    """Return the maps of an observation; ``None`` if no number is beyond its tolerance."""
    if observation.unfit is not None:
        return None
    wrong = list(wrong_at_steps(departures(observation), observation.case.config))
    local = bool(wrong)
    wrong = wrong or list(_of_whole_run(observation))
    if not wrong:
        return None
    maps = tuple(_shown(array, observation.case.config) for array in wrong[:MAPS_SHOWN])
    return ErrorMaps(observation.case.config, local, maps, len(wrong) - len(maps))


class WrongArray(NamedTuple):
    """An array, or one layer and direction of it, in which some elements are wrong."""

    array: str
    layer: int | None
    direction: int | None
    errors: Floats  # (columns, sequences, rows)
    columns: str
    rows: str
    labels: tuple[str, ...] = ()  # of the columns, if these are no numbers
    backward: bool = False  # True if later columns are computed first

    @property
    def first(self) -> tuple[int, int, int]:
        """The column, the sequence and the row of the first wrong element."""
        bad = np.argwhere(self.errors[::-1] > 1 if self.backward else self.errors > 1)
        column, n, row = (int(i) for i in bad[0])
        return len(self.errors) - 1 - column if self.backward else column, n, row


def wrong_at_steps(layers: Iterable[Departure], config: RNNConfig) -> Iterator[WrongArray]:
    """Yield the states, and the gradients inside the network, that one step gets wrong, in the order of computation."""
    for departure in layers:
        back = departure.array != "output"
        for direction, over in _wrong_directions(departure.over, config):
            backward = back != (direction == 1)
            yield WrongArray(departure.array, departure.layer, direction, over, "t", "unit", backward=backward)


def _of_whole_run(observation: Observation) -> Iterator[WrongArray]:
    config = observation.case.config
    with np.errstate(all="ignore"):
        expected = expect_whole_run(Setting.of(observation.case, observation.arithmetic))
    for name, spec in config.returned.items():
        array = observation.outcome.arrays.get(name)
        if array is None or array.shape != expected[name].values.shape:
            continue
        tolerance = expected[name].tolerance + observation.rounded
        over = over_tolerance(to_float64(array), expected[name].values, tolerance)
        if not (over > 1).any():
            continue
        if name == "output":
            for direction, part in _wrong_directions(time_major(over, config), config):
                yield WrongArray(name, config.num_layers - 1, direction, part, "t", "unit", backward=direction == 1)
        elif "T" in spec.axes:
            yield WrongArray(name, None, None, time_major(over, config), "t", "feature")
        elif over.ndim == 3:
            order = h_n_order(config)
            labels = tuple(f"{layer}{(' forward', ' reverse')[d] * config.bidirectional}" for layer, d in order)
            yield WrongArray(name, None, None, over, "layer", "unit", labels)
        elif over.ndim == 2:
            yield WrongArray(name, None, None, over.T[:, np.newaxis], "column", "row")
        else:
            yield WrongArray(name, None, None, over[np.newaxis, np.newaxis], "", "row", ("",))


def _wrong_directions(over: Floats, config: RNNConfig) -> Iterator[tuple[int | None, Floats]]:
    """Yield each direction in which something is wrong, if there are two, with its part of an array (T, N, D*H)."""
    for direction, part in enumerate(np.split(over, config.num_directions, axis=-1)):
        if (part > 1).any():
            yield direction if config.bidirectional else None, part


def _shown(wrong: WrongArray, config: RNNConfig) -> ErrorMap:
    """Return the map around the first wrong element."""
    errors, (column, n, row) = wrong.errors, wrong.first
    table = errors[:, n].copy()
    if wrong.columns == "t" and config.lengths is not None:
        table[config.lengths[n] :] = np.nan
    labels = wrong.labels or tuple(map(str, range(len(errors))))
    left, right = _window(column, len(errors))
    low, high = _window(row, errors.shape[2])
    return ErrorMap(
        wrong.array,
        wrong.layer,
        None if wrong.direction is None else DIRECTIONS[wrong.direction],
        n if wrong.columns in {"t", "layer"} else None,
        ErrorMapAxis(wrong.columns, labels[left:right], len(errors)),
        ErrorMapAxis(wrong.rows, tuple(map(str, range(low, high))), errors.shape[2]),
        table[left:right, low:high],
        (column - left, row - low),
    )


def _window(at: int, size: int) -> tuple[int, int]:
    """Return where the shown part of an axis begins and ends: it has the index, a little after its beginning."""
    start = max(0, min(at - MAP_SIDE // 4, size - MAP_SIDE))
    return start, min(size, start + MAP_SIDE)
