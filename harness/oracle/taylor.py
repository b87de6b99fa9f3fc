"""taylor: is that the derivative of these gradients? The rate at which Taylor's remainder shrinks tells, in float64.

For gradients g and a derivative D of them along v, R(e) = g(theta + e v) - g(theta) - e D is C e**2 + ... if D is
right, and e W + C e**2 + ... if it is off by W, until rounding drowns either. No one step e is right for every case:
too long a step bends, too short a one drowns. So the steps are 2**-8, 2**-12, ..., and what is asked is the rate, the
mean of log2 R(e) / R(e / 2) between two of them: 2 if D is right, 1 if it is wrong, 0 where rounding reigns. D is
suspected where the rate of an array's largest remainder is nearer to 1 than to either, twice in a row, at the last
three steps that rounding does not explain, and where these are short enough for Taylor's series at all.

Range. Where e is too long, as in chaos it soon is, g is anywhere, and R is about e D, at a rate of 1 whatever D is. The
gradients themselves tell: S(e) = |g(theta + e v) - g(theta) - 16 (g(theta + e v / 16) - g(theta))| does not know D. It
is 15/16 C e**2 + ... where the series holds, at a rate of 2, but stays as large as 16 g where g is anywhere. So of the
three steps S must have a rate above 1.5, or be within its rounding, 17 times that of R; and twice that must be no more
than g itself, or S could not tell.

Floor. Both g are within their allowance A of the exact gradients (``gradient_expectation``, end to end), A(theta) and
A(theta + e v). The nudged theta is rounded, which moves each operand of a product by a relative u64, and D has rounded
products itself: each is one of g's with one operand replaced by its tangent, and e |v| <= |theta| + |theta + e v|.
Either costs about as much as roundings that A already holds: F = A(theta) + 2 max(A(theta), A(theta + e v)) is taken
to pay for all. If R > 2 F at both of two steps, C e**2 is more than F at the shorter one, so that the ratio of both is
at least (256 F - F) / (F + F) > 2**6 if D is right: its rate stays above 1.5.

relu. Between kinks the gradients are polynomials in e, and all the above holds; across one they jump. So a case says
nothing unless every unit is surely on one side of its kink, the same at theta as at the three steps in question, by the
states' own end-to-end errors. What is not finite says nothing, either.

It is a suspicion and no proof: nothing bounds the next term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from harness.oracle.compare import Mismatch, Sort, compare
from harness.oracle.expectation import Expected, Layer, Setting, end_to_end_states
from harness.oracle.gradient_expectation import expect_gradients
from harness.oracle.reference import Floats
from harness.space.case import Array, Case
from harness.space.config import TANGENT

BITS: Final = 4
"""Between two steps, in powers of two."""

STEPS: Final = tuple(2.0 ** -(BITS * j) for j in range(2, 11))
"""From where tanh bends, down to where C e**2 is 2**-80 C: beneath every floor unless C is huge."""

WINDOW: Final = 3
"""Steps in a row whose rates must say the same."""


class Point(NamedTuple):
    """A case, and the subject's own gradients there."""

    case: Case
    gradients: Mapping[str, Array]


class _Known(NamedTuple):
    """What is known of the exact gradients at a point: their allowances, and which units of relu are on."""

    allowances: dict[str, float]
    """The largest of each array."""
    active: list[Array] | None
    """``None`` where one may be on either side of its kink."""


def nudged(case: Case, tangents: Mapping[str, Array], step: float) -> Case:
    """The case with every input and parameter moved by ``step`` times its tangent; the loss is the same."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = {name: case.arrays[name] + step * tangent for name, tangent in tangents.items()}
    return Case.from_arrays(case.config, {**case.arrays, **moved})


def suspect_rates(
    setting: Setting, derivative: Mapping[str, Array], at: Mapping[str, Array], points: Sequence[Point]
) -> list[Mismatch]:
    """Every gradient whose ``derivative`` is not right, by the gradients ``at`` the case and at points STEPS away."""
    known: dict[int, _Known] = {}

    def at_point(index: int) -> _Known:
        if index not in known:
            case = setting.case if index < 0 else points[index].case
            known[index] = _known(setting._replace(case=case))
        return known[index]

    found: list[Mismatch] = []
    for name, tangent in derivative.items():
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            changes = [point.gradients[name] - at[name] for point in points]
            rests = [change - step * tangent for change, step in zip(changes, STEPS, strict=True)]
            sizes = np.array([_largest(rest) for rest in rests])
        ends = _linear(sizes)
        if not ends:  # whatever the floor is
            continue
        here = at_point(-1)
        above = np.flatnonzero(sizes > 6 * here.allowances[name])
        if not above.size or above[-1] not in ends:
            continue
        window = range(above[-1] - WINDOW + 1, above[-1] + 1)
        there = [at_point(j) for j in window]
        floor = here.allowances[name] + 2 * max(known.allowances[name] for known in (here, *there))
        proper = 34 * floor <= _largest(at[name]) and _in_range([changes[j] for j in window], floor)
        if proper and _same_side(here, there) and sizes[above[-1]] > 2 * floor:
            quotient, step = changes[above[-1]] / STEPS[above[-1]], STEPS[above[-1]]
            expected = Expected(quotient, np.full(quotient.shape, 2 * floor / step))
            array = name + TANGENT
            found += compare(setting.case.config, {array: tangent}, {array: expected})
    return [replace(mismatch, sort=Sort.RATE) for mismatch in found]


def _largest(array: Array) -> float:
    return float(np.abs(array).max(initial=0))


def _in_range(changes: Sequence[Array], floor: float) -> bool:
    """Whether Taylor's series describes how the gradients change over the three steps of a window."""
    longer, shorter = (_largest(a - 2.0**BITS * b) for a, b in pairwise(changes))
    return shorter <= 34 * floor or longer > 2.0 ** (1.5 * BITS) * shorter


def _linear(sizes: Floats) -> set[int]:
    """The last steps of all windows in which remainders shrink like the step: at rates from 0.5 to 1.5."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sizes[:-1] / sizes[1:]
    alike = (ratios > 2.0 ** (BITS * 0.5)) & (ratios < 2.0 ** (BITS * 1.5))
    pairs = WINDOW - 1
    return {end + pairs for end in range(len(alike) - pairs + 1) if alike[end : end + pairs].all()}


def _known(setting: Setting) -> _Known:
    states, active = end_to_end_states(setting), None
    if setting.reference.nonlinearity(setting.case.config) == "relu":
        active = _active(setting, states)
        if active is None:
            return _Known(dict.fromkeys(setting.case.config.gradients, np.inf), None)
        # What is surely off is exactly 0, and so is its slope: an error just below 0 says so, and adds nothing.
        pairs = zip(states, active, strict=True)
        states = [Layer(h, np.where(on, error, -(2.0**-1074))) for (h, error), on in pairs if error is not None]
    expected = expect_gradients(setting, states).arrays
    allowances = {name: float(one.allowance.max(initial=0)) for name, one in expected.items()}
    return _Known(allowances, active or [])


def _active(setting: Setting, states: Sequence[Layer]) -> list[Array] | None:
    """Which units of relu are surely on, by layer; ``None`` where one may be on either side of its kink.

    One is surely on where its state is larger than its error, and surely off where s < 0 and no error reaches over the
    kink: then what is left of the state's error is underflow's, which is below its root unless sums exceed 2**511.
    """
    reference, case, arithmetic = setting
    below = reference.time_major(case.x, case.config)
    found: list[Array] = []
    for layer, (values, errors) in enumerate(states):
        assert errors is not None
        on = values > errors
        for d in range(case.config.num_directions):
            part = reference.features(case.config, d)
            previous = reference.previous_states(case, layer, d, values[..., part])
            with np.errstate(over="ignore", invalid="ignore"):
                s = reference.preactivation(below, previous, reference.step_weights(case, layer, d))
            off = (s < 0) & (errors[..., part] < arithmetic.underflow**0.5)
            if not (on[..., part] | off).all():
                return None
        found.append(on)
        below = values
    return found


def _same_side(here: _Known, there: Sequence[_Known]) -> bool:
    """Whether no unit is, or may be, on another side of its kink."""
    if here.active is None:
        return False
    return all(
        known.active is not None
        and all(np.array_equal(one, other) for one, other in zip(known.active, here.active, strict=True))
        for known in there
    )
