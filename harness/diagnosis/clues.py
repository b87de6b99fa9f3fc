"""clues: properties that wrong numbers have in common, whose cause is not known.

Every wrong number is compared with what is right, there and elsewhere. It may be a constant times the right number,
zero, cut off, or the right number of another place. A clue must hold on every case that was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.checks.agreement import Observation, expected_final
from harness.checks.result import Result
from harness.diagnosis.again import ByRegion
from harness.diagnosis.fresh import changed, fitting, wider
from harness.diagnosis.observations import Observations
from harness.oracle.compare import OF_VALUE, beyond
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.known import Floats, to_float64
from harness.oracle.setting import Setting
from harness.search.record import Finding
from harness.space.case import Case
from harness.space.config import RNNConfig, role_of
from harness.space.parts import SIZE_FACTORS
from harness.space.scope import Scope
from harness.space.values import draw

SETS: Final = 3
"""The number of sets of generic values that are looked at for each of three configs: a wider one, one twice as large,
and the failing one."""

ENOUGH: Final = 4
"""The number of wrong numbers, in all, that must have a clue in common. A clue that only two numbers share may be
chance."""


SLACK: Final = 64.0
"""The multiple of a right run's allowance by which a number may differ from what a clue says: errors may grow faster at
its other states (2.5 times was seen)."""


@dataclass(frozen=True)
class Clue:
    """A property that the wrong numbers of an array have in common."""

    role: str  # The array, in any layer and direction
    text: str  # The property, in words that read on from ``every wrong value``

    def holds(self, observation: Observation, result: Result) -> bool | None:
        """Tell whether all that is wrong on a case is in the same array, and the clue is true of it.

        ``None`` stands for numbers that are wrong by too little to tell.
        """
        if observation.unfit is not None or any(one.law or one.probed for one in result.mismatches):
            return False
        if {role_of(one.array) for one in result.mismatches} != {self.role}:
            return False
        wrong = list(_wrong(observation, self.role))
        if not wrong or any(one.hidden for one in wrong):
            return None
        return all(self.text in _said(one) for one in wrong)


class _Wrong(NamedTuple):
    """An array that is wrong somewhere: what it is, what it should be, how far off it may be, and where it is wrong."""

    config: RNNConfig
    axes: tuple[str, ...]
    actual: Floats
    expected: Floats
    close: Floats
    bad: NDArray[np.bool_]

    @property
    def hidden(self) -> bool:
        """True if every wrong number is as close to the right one as it would have to be to any other."""
        return not bool((self.bad & beyond(self.actual, self.expected, self.close)).any())

    def matches(self, other: Floats) -> bool:
        """Tell whether every wrong number is what another array has in its place."""
        return other.shape == self.actual.shape and not bool(beyond(self.actual, other, self.close)[self.bad].any())


def clue_of(observations: Observations, finding: Finding, scope: Scope) -> Clue | None:
    """Return a clue that all wrong numbers of the finding's first array share on generic values; ``None`` if none."""
    first = finding.result.mismatches[0] if finding.result.mismatches else None
    if first is None or first.sort not in OF_VALUE or first.law or first.probed or first.layer:
        return None
    role, common, count = role_of(first.array), set[str](), 0
    order: list[str] = []
    for case in _cases(finding.case.config, scope):
        observation = observations.of(case, with_probes=False)
        for wrong in _wrong(observation, role) if observation.unfit is None else ():
            said = list(dict.fromkeys(_said(wrong)))
            common = set(said) if not count else common & set(said)
            order, count = order or said, count + int(wrong.bad.sum())
            if not common:
                return None
    return Clue(role, next(text for text in order if text in common)) if count >= ENOUGH and common else None


def _cases(config: RNNConfig, scope: Scope) -> Iterator[Case]:
    sizes = {name: fitting(name, 2 * getattr(config, name), scope) for name in SIZE_FACTORS}
    tied = changed(config, sizes)  # sizes that are equal stay equal
    for one in dict.fromkeys((wider(config, scope), tied, config)):
        yield from (draw(one, "normal", seed) for seed in range(SETS))


def _wrong(observation: Observation, role: str) -> Iterator[_Wrong]:
    """Yield the arrays of a role that are wrong somewhere, of those returned."""
    case = observation.case
    names = [name for name in case.config.returned if role_of(name) == role and name in observation.outcome.arrays]
    if not names:
        return
    with np.errstate(all="ignore"):
        final = expected_final(observation) if role == "h_n" else None  # a copy: it need not be run again to be known
        expected = {"h_n": final} if final else expect_whole_run(Setting.of(case, observation.arithmetic))
    for name in names:
        actual, right = to_float64(observation.outcome.arrays[name]), expected[name]
        bad = beyond(actual, right.values, right.allowance)
        if bad.any():
            close = np.broadcast_to(SLACK * right.allowance.max(), actual.shape)
            yield _Wrong(case.config, _axes(case.config, name), actual, right.values, close, bad)


def _axes(config: RNNConfig, name: str) -> tuple[str, ...]:
    """Return the names of an array's axes in reports; one that stands for two has its name in the shape."""
    axes = config.returned[name].axes
    called = tuple(config.locate(name, (0,) * len(axes)))
    return called if len(called) == len(axes) else (axes[0], *called[len(called) - len(axes) + 1 :])


def _said(wrong: _Wrong) -> Iterator[str]:
    """Yield all that is true of an array's wrong numbers, what says most first.

    Nothing is said of numbers that are not finite, or wrong by too little.
    """
    if wrong.hidden or not all(np.isfinite(array).all() for array in (wrong.actual, wrong.expected, wrong.close)):
        return
    for find in (_zero, _ratio, _cut_off, _moved, _the_same, _elsewhere):
        yield from find(wrong)


def _zero(wrong: _Wrong) -> Iterator[str]:
    if not wrong.actual[wrong.bad].any():
        yield "is 0"


def _ratio(wrong: _Wrong) -> Iterator[str]:
    config = wrong.config
    sizes = {name: getattr(config, name) for name in ("N", "T", "hidden_size", "input_size")}
    factors = {"2": 2.0, "-1": -1.0, "1/2": 0.5, "3": 3.0, "4": 4.0}
    factors |= {name: float(size) for name, size in sizes.items()}
    factors |= {f"1/{name}": 1 / size for name, size in sizes.items() if size}
    for words, factor in factors.items():
        if wrong.matches(wrong.expected * factor):
            yield f"is {words} times the right one" if words != "-1" else "is the right one with the other sign"


def _cut_off(wrong: _Wrong) -> Iterator[str]:
    sizes = np.abs(wrong.actual[wrong.bad])
    limit = float(sizes.max(initial=0))
    if limit and bool((sizes == limit).all()) and bool((np.abs(wrong.expected[wrong.bad]) > limit).all()):
        yield f"is {limit:.4g} or -{limit:.4g}, and the right one is larger"


def _moved(wrong: _Wrong) -> Iterator[str]:
    right, axes = wrong.expected, wrong.axes
    if right.ndim > 1 and wrong.matches(right.swapaxes(0, 1).reshape(right.shape)):
        yield f"is the right one with {axes[0]} and {axes[1]} exchanged"
    for axis, name in enumerate(axes):
        if right.shape[axis] < 2:
            continue
        if wrong.matches(np.flip(right, axis)):
            yield f"is the right one counted from the other end of {name}"
        for step, word in ((1, "before"), (-1, "after")):
            if wrong.matches(np.roll(right, step, axis)):
                yield f"is the right one of the place {word} it along {name}"


def _the_same(wrong: _Wrong) -> Iterator[str]:
    for axis, name in enumerate(wrong.axes):
        if (
            wrong.actual.shape[axis] > 1
            and wrong.bad.all(axis=axis).any()
            and not np.ptp(wrong.actual, axis=axis).any()
        ):
            yield f"is the same all along {name}"


def _elsewhere(wrong: _Wrong) -> Iterator[str]:
    values = np.unique(wrong.expected)
    apart = np.diff(values)
    close = wrong.close.flat[0]
    if values.size > ENOUGH and (apart > 4 * close).all():
        nearest = np.abs(wrong.actual[wrong.bad][:, None] - values[None, :]).min(axis=1)
        if bool((nearest <= close).all()):
            yield "is the right one of another place"


@dataclass(frozen=True)
class ByClue:
    """An excuse for failures in which the clue of a finding holds of all that is wrong."""

    name: str
    clue: Clue
    # The configs on which the finding shows; they decide where the numbers are wrong by too little to tell.
    region: ByRegion

    def excuses(self, observation: Observation, result: Result) -> bool:
        """Tell whether everything that is wrong there follows the clue."""
        holds = self.clue.holds(observation, result)
        return self.region.excuses(observation, result) if holds is None else holds
