"""The first departure of a subject in the order of its own computation, and how much of the rest only follows.

Every state is compared with one step from the subject's own previous state, so that an element is wrong where the
mistake is made. An element that is off end to end, but right by that measure, follows from what came before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.checks.agreement import Departure, Observation, departures
from harness.checks.result import Result
from harness.diagnosis.fresh_cases import wider
from harness.diagnosis.observation_cache import ObservationCache
from harness.oracle.array_layout import time_major, time_order
from harness.oracle.compare import MismatchKind, beyond
from harness.oracle.expectation import end_to_end_states
from harness.oracle.judge import Judgement, WrongSide, judge
from harness.oracle.setting import Setting
from harness.space.case import Case
from harness.space.config import DIRECTIONS, RNNConfig
from harness.space.scope import Scope
from harness.space.values import draw

PLACES_LISTED: Final = 3  # The number of places along an axis that are listed one by one

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class FirstDeparture:
    """The origin of what is wrong on a case, and its pattern."""

    case: Case
    array: str  # The name of the array: ``output``, or ``preactivation.grad`` on the way back
    layer: int
    # The place of the first wrong element in the order of computation: direction, t, n, unit.
    place: dict[str, int | str]
    # The places of the wrong elements of that layer, if that is less than everywhere: ``t: all but the first``.
    pattern: str
    wrong: int  # The number of elements that are wrong in themselves, in all layers
    follows: int  # The number of elements that are off end to end, but right in themselves; of states only
    total: int
    # The observation of the subject on the case.
    observation: Observation | None = field(default=None, compare=False, repr=False)


def locate(observations: ObservationCache, case: Case, scope: Scope) -> FirstDeparture | None:
    """Find the first departure of a subject, on a wider case than the minimal one, or else on that itself.

    The result is ``None`` where all of its states are right in themselves, or cannot be had.
    """
    for config in (wider(case.config, scope), case.config):
        for candidate in (draw(config, "normal", 1), *([case] if config == case.config else [])):
            if (departure := first_departure(observations.of(candidate))) is not None:
                return departure
    return None


def first_departure(observation: Observation) -> FirstDeparture | None:
    """Return the first departure in the order of computation: forward, layer by layer; then back, from the last."""
    layers = departures(observation)
    config = observation.case.config
    first = next((departure for departure in layers if departure.bad.any()), None)
    if first is None:
        return None
    bad = _by_direction(first.bad, config)
    direction, t, n, unit = next(_in_order(bad, config, back=first.array != "output"))
    place: dict[str, int | str] = {"direction": DIRECTIONS[direction]} if config.bidirectional else {}
    place |= {"t": t, "n": n, "unit": unit}
    states = [departure for departure in layers if departure.array == "output"]
    wrong = sum(int(departure.bad.sum()) for departure in states)
    total = sum(departure.bad.size for departure in states)
    if first.array != "output":
        own = [departure for departure in layers if departure.array == first.array]
        wrong, total = sum(int(d.bad.sum()) for d in own), sum(d.bad.size for d in own)
        follows = 0
    else:
        follows = _following(observation, states)
    pattern = _pattern(bad)
    return FirstDeparture(
        observation.case, first.array, first.layer, place, pattern, wrong, follows, total, observation
    )


def _by_direction(bad: Mask, config: RNNConfig) -> Mask:
    """Return a layer's mask (T, N, D*H) as (T, N, D, H)."""
    return bad.reshape(config.T, config.N, config.num_directions, config.h_size)


def _in_order(bad: Mask, config: RNNConfig, *, back: bool) -> Iterator[tuple[int, int, int, int]]:
    """Yield wrong elements as (direction, t, n, unit), in the order in which they are computed."""
    for direction in range(config.num_directions):
        order = time_order(config, direction)
        for t in reversed(order) if back else order:
            for n, unit in np.argwhere(bad[t, :, direction]):
                yield direction, t, int(n), int(unit)


def _following(observation: Observation, states: list[Departure]) -> int:
    """Return how many states are off end to end, though not wrong in themselves."""
    case = observation.case
    if observation.prefixes is None:
        return 0
    with np.errstate(all="ignore"):
        expected = end_to_end_states(Setting.of(case, observation.arithmetic))
    config = case.config
    outputs = [*observation.prefixes.values(), observation.outcome.arrays.get("output")]
    if len(outputs) != len(expected):
        return 0
    count = 0
    for own, state, departure in zip(outputs, expected, states, strict=True):
        if own is not None and state.error is not None:
            off = beyond(time_major(own, config), state.values, state.error)
            count += int((off & ~departure.bad).sum())
    return count


def _pattern(bad: Mask) -> str:
    """Return which places of each axis have a wrong element, where not all of them do."""
    axes = {"t": 0, "n": 1, "direction": 2, "unit": 3}
    parts = []
    for name, axis in axes.items():
        others = tuple(i for i in range(4) if i != axis)
        touched: Mask = np.asarray(bad.any(axis=others))
        if (text := _places(touched, name)) is not None:
            parts.append(text)
    return "; ".join(parts)


def _places(touched: NDArray[np.bool_], name: str) -> str | None:
    """Return the places as text, such as ``t: all but the first``; ``None`` where it is everywhere."""
    size, where = len(touched), [int(i) for i in np.flatnonzero(touched)]
    if len(where) == size:
        return None
    if name == "direction":
        return f"{DIRECTIONS[where[0]]} only"
    return f"{name}: {_run(where, size) or _listed(where, size)}"


def _run(where: list[int], size: int) -> str | None:
    """Return places in a row as text, by where they begin and end; ``None`` if they are better listed."""
    if len(where) < 2 or where != list(range(where[0], where[-1] + 1)):
        return None
    if where[-1] == size - 1:
        return "all but the first" if where[0] == 1 and size > 2 else f"from {where[0]} on"
    if where[0] == 0 and where[-1] == size - 2:
        return "all but the last"
    return f"{where[0]} to {where[-1]}" if len(where) > PLACES_LISTED else None


def _listed(where: list[int], size: int) -> str:
    return (
        ", ".join(map(str, where[:PLACES_LISTED])) + (", ..." if len(where) > PLACES_LISTED else "") + f" (of {size})"
    )


def judge_worst(result: Result) -> Judgement | None:
    """Judge the worst element of a finding; ``None`` if it has no exact equation, or the judge does not decide.

    The element is that of the first mismatch that has an equation for it. An element that is only suspicious is within
    the worst that is allowed, so that nobody is proved wrong about it.
    """
    for mismatch in (mismatch for mismatch in result.mismatches if mismatch.sort is not MismatchKind.SUSPICIOUS):
        site = mismatch.sites[0] if mismatch.sites else None
        if site is not None and site.equation is not None:
            judgement = judge(site.equation, site.actual, site.expected, site.tolerance)
            return None if judgement.ruling is WrongSide.UNDECIDED else judgement
    return None
