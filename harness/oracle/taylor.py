"""taylor: a test in float64 of a derivative of gradients, by the rate at which Taylor's remainder shrinks.

For gradients g and a derivative D of them along v, the remainder is R(e) = g(theta + e v) - g(theta) - e D. It is
C e**2 + ... if D is right, and e W + C e**2 + ... if D is off by W, until rounding drowns either. No single step e is
right for every case. If it is too long, the terms of higher order count; if it is too short, rounding hides the rest.
So the steps are 2**-8, 2**-12, ..., and the test looks at the rate, the mean of log2 R(e) / R(e / 2) between two of
them. It is 2 if D is right, 1 if D is wrong, and 0 where rounding dominates. D is suspected where the rate of an
array's largest remainder is nearer to 1 than to either of the others, twice in a row, at the last three steps that
rounding does not explain, and where these are short enough for Taylor's series at all.

Range. Where e is too long, as it soon is in chaos, g is anywhere, and R is about e D, at a rate of 1 whatever D is. The
gradients themselves show this: S(e) = |g(theta + e v) - g(theta) - 16 (g(theta + e v / 16) - g(theta))| does not depend
on D. It is 15/16 C e**2 + ... where the series holds, at a rate of 2, but stays as large as 16 g where g is anywhere.
So over the three steps S must have a rate above 1.5, or be within its rounding, 17 times that of R, which is taken as
2 F. And 34 F must be no more than g itself, or S could not tell.

Floor. Both g are within their allowance A of the exact gradients (``gradient_expectation``, end to end): A(theta) and
A(theta + e v). The nudged theta is rounded, which moves each operand of a product by a relative u64. D has rounded
products itself: each is one of g's with one operand replaced by its tangent, and e |v| <= |theta| + |theta + e v|.
Either costs about as much as roundings that A already holds. So F = A(theta) + 2 max(A(theta), A(theta + e v)) is taken
to pay for all of them. If R > 2 F at both of two steps, C e**2 is more than F at the shorter one, so that the ratio of
the two remainders is at least (256 F - F) / (F + F) > 2**6 if D is right: its rate stays above 1.5.

relu. Between kinks the gradients are polynomials in e, and all of the above holds. Across a kink they jump. So a case
says nothing unless every unit is surely on one side of its kink, the same at theta as at the three steps in question,
by the end-to-end errors of the states. Numbers that are not finite say nothing, either.

The result is a suspicion and no proof, because nothing bounds the next term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final, NamedTuple

from harness.oracle.bound import np
from harness.oracle.compare import Mismatch, Sort, compare
from harness.oracle.expectation import Expected, Setting, end_to_end_states
from harness.oracle.gradient_expectation import expect_gradients
from harness.oracle.known import Floats, Known
from harness.space.case import Array, Case
from harness.space.config import TANGENT

BITS: Final = 4
"""The ratio of each step to the next, as an exponent of two."""

STEPS: Final = tuple(2.0 ** -(BITS * j) for j in range(2, 11))
"""The steps, from those at which tanh bends down to those at which C e**2 is 2**-80 C, which is below every floor
unless C is huge."""

WINDOW: Final = 3
"""The number of steps in a row whose rates must say the same."""


class Point(NamedTuple):
    """A case, and the subject's own gradients there."""

    case: Case
    gradients: Mapping[str, Array]


class _Known(NamedTuple):
    """The exact gradients at a point, as far as they are known: their allowances, and which units of relu are on."""

    allowances: dict[str, float]
    """The largest allowance of each array."""
    active: list[Array] | None
    """The masks of the units that are on, by layer; ``None`` where a unit may be on either side of its kink."""


def nudged(case: Case, tangents: Mapping[str, Array], step: float) -> Case:
    """Return the case with every input and parameter moved by ``step`` times its tangent; the loss stays the same."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = {name: case.arrays[name] + step * tangent for name, tangent in tangents.items()}
    return Case.from_arrays(case.config, {**case.arrays, **moved})


def suspect_rates(
    setting: Setting, derivative: Mapping[str, Array], at: Mapping[str, Array], points: Sequence[Point]
) -> list[Mismatch]:
    """Return a mismatch for every gradient whose ``derivative`` is suspected to be wrong.

    ``at`` holds the gradients at the case, and ``points`` those at points that are STEPS away.
    """
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
        if not ends:  # no floor changes that
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
    """Tell whether Taylor's series describes how the gradients change over the three steps of a window."""
    longer, shorter = (_largest(a - 2.0**BITS * b) for a, b in pairwise(changes))
    return shorter <= 34 * floor or longer > 2.0 ** (1.5 * BITS) * shorter


def _linear(sizes: Floats) -> set[int]:
    """Return the last steps of all windows in which remainders shrink like the step: at rates from 0.5 to 1.5."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sizes[:-1] / sizes[1:]
    alike = (ratios > 2.0 ** (BITS * 0.5)) & (ratios < 2.0 ** (BITS * 1.5))
    pairs = WINDOW - 1
    return {end + pairs for end in range(len(alike) - pairs + 1) if alike[end : end + pairs].all()}


def _known(setting: Setting) -> _Known:
    states, active = end_to_end_states(setting), None
    config = setting.case.config
    if any(setting.reference.nonlinearity(config, layer) == "relu" for layer in range(config.num_layers)):
        active = _active(setting, states)
        if active is None:
            return _Known(dict.fromkeys(setting.case.config.gradients, np.inf), None)
        # A unit that is surely off is exactly 0, and so is its slope. An error just below 0 says so, and adds nothing.
        pairs = zip(states, active, strict=True)
        states = [Known(h, np.where(on, error, -(2.0**-1074))) for (h, error), on in pairs if error is not None]
    expected = expect_gradients(setting, states).arrays
    allowances = {name: float(one.allowance.max(initial=0)) for name, one in expected.items()}
    return _Known(allowances, active or [])


def _active(setting: Setting, states: Sequence[Known]) -> list[Array] | None:
    """Return masks of the relu units that are surely on, by layer; ``None`` if one may be on either side of its kink.

    A unit is surely on where its state is larger than its error. It is surely off where s < 0 and no error reaches over
    the kink: what is left of the state's error is then underflow's, which is below the root of ``underflow`` unless
    sums exceed 2**511.
    """
    reference, (_, case, arithmetic) = setting.elman, setting
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
    """Tell whether every unit is surely on the same side of its kink at all points."""
    if here.active is None:
        return False
    return all(
        known.active is not None
        and all(np.array_equal(one, other) for one, other in zip(known.active, here.active, strict=True))
        for known in there
    )
