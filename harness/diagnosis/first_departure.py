"""The first departure of a subject in the order of its own computation, and how much of the rest only follows.

Every state is compared with one step from the subject's own previous state, so that an element is wrong where the
mistake is made. An element that is off end to end, but right by that measure, follows from what came before.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.checks.agreement import Departure, Observation, departures
from harness.checks.result import Result
from harness.diagnosis.error_map import wrong_at_steps
from harness.diagnosis.fresh_cases import wider
from harness.diagnosis.observation_cache import ObservationCache
from harness.oracle.array_layout import time_major
from harness.oracle.compare import MismatchKind, beyond
from harness.oracle.expectation import end_to_end_states
from harness.oracle.judge import Judgement, WrongSide, judge
from harness.oracle.setting import Setting
from harness.space.case import Case
from harness.space.config import DIRECTIONS
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
    layers, config = departures(observation), observation.case.config
    first = next(wrong_at_steps(layers, config), None)
    if first is None:
        return None
    t, n, unit = first.first
    place: dict[str, int | str] = {} if first.direction is None else {"direction": DIRECTIONS[first.direction]}
    alike = [departure for departure in layers if departure.array == first.array]
    here = next(departure for departure in alike if departure.layer == first.layer)
    return FirstDeparture(
        observation.case,
        here.array,
        here.layer,
        place | {"t": t, "n": n, "unit": unit},
        _pattern(here.bad.reshape(config.T, config.N, config.num_directions, config.h_size)),
        wrong=sum(int(departure.bad.sum()) for departure in alike),
        follows=_following(observation, alike) if here.array == "output" else 0,
        total=sum(departure.bad.size for departure in alike),
        observation=observation,
    )


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
    """Return which places of each axis have a wrong element, such as ``t: all but the first``, where not all do."""
    parts = []
    for axis, (name, size) in enumerate(zip(("t", "n", "direction", "unit"), bad.shape, strict=True)):
        where = np.unique(np.argwhere(bad)[:, axis]).tolist()
        if len(where) < size:
            only = name == "direction"
            parts.append(
                f"{DIRECTIONS[where[0]]} only" if only else f"{name}: {_run(where, size) or _listed(where, size)}"
            )
    return "; ".join(parts)


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
