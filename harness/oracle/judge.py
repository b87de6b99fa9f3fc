"""judge: a proof of which side is wrong about one number: its exact value in a ball, and both sides held against it.

A ball (F. Johansson, "Arb", IEEE Trans. Computers 66, 2017) is a midpoint and a radius that holds every rounding made.
So the exact value is in it, at any precision. A side is wrong if all of the ball is farther off than its bound, and
right if none of it is. The subject's bound is given. The reference's bound is that of float64, as ``tolerance`` models
it; u is U64, and tiny is TINY.

Sum. e = gamma_m A + tiny (4 m + S), with A = sum |a_k b_k|. S = sum |a_k| + |b_k| pays for flushed operands, and one
more u in gamma pays for gamma itself.

Function. Its slope is 1 at most, so y is off by at most E = e + kappa u (|y| + e) + tiny. kappa is REFERENCE_TANH_ERROR
(measured, not proved) for tanh, else 0.

Slope. h h is off by at most p = u h^2 + tiny. So q = 1 - h h is off by d = p + u (|q| + p), and the product of y and q
by E |q| + (|y| + E) (d + u (|q| + d)) + tiny. For relu, h^2 is taken as 0.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

import flint
from flint import arb

from harness.oracle.arithmetic_assumptions import U64
from harness.oracle.element_equation import ElementEquation
from harness.oracle.pinned_numpy import np
from harness.oracle.tolerance import REFERENCE_TANH_ERROR, gamma

PRECISIONS: Final = tuple(128 << doublings for doublings in range(8))
"""The precisions, in bits, that are tried in turn until both sides are decided. The last ones hold any sum of products
of float64 numbers exactly."""

LEAST_NORMAL: Final = sys.float_info.min
EXACT_FUNCTIONS: Final[dict[str, Callable[[arb], arb]]] = {
    "identity": arb,
    "tanh": arb.tanh,
    "relu": lambda s: s.max(0),
}
EXACT_SLOPES: Final[dict[str, Callable[[float], arb]]] = {
    "tanh": lambda h: 1 - arb(h) * h,
    "relu": lambda h: arb(int(h > 0)),
}


class WrongSide(Enum):
    """The side that is wrong, if either is."""

    SUBJECT = "subject wrong, proved"
    REFERENCE = "reference wrong, proved"
    BOTH = "both wrong, proved"
    NEITHER = "both within rounding"
    UNDECIDED = "not decided"


@dataclass(frozen=True)
class Judgement:
    """A ruling and its figures; the last three are rounded down, and so never claim more than is proved."""

    ruling: WrongSide
    exact: float  # The midpoint of the ball, to the nearest float64; NaN where there is no ball
    subject: float  # A lower bound on the subject's error, as a multiple of its tolerance: more than 1 is wrong
    reference: float  # A lower bound on the reference's error, as a multiple of its own bound
    off_by: float  # A lower bound on the subject's error


class _Side(NamedTuple):
    wrong: bool | None
    ratio: float
    off: float


def judge(equation: ElementEquation, actual: float, expected: float, tolerance: float) -> Judgement:
    """Decide who is wrong about one number, the subject or the reference.

    ``actual`` is the subject's number, which is off by at most ``tolerance`` if it is correct; ``expected`` is the
    reference's.
    """
    if not (_is_finite(equation) and tolerance >= 0):
        return Judgement(WrongSide.UNDECIDED, math.nan, 0.0, 0.0, 0.0)
    before, flint.ctx.prec = flint.ctx.prec, PRECISIONS[-1]
    try:
        total, magnitude, operands = _sums(equation)
        slope = arb(1) if equation.state is None else EXACT_SLOPES[equation.nonlinearity](equation.state)
        for bits in PRECISIONS:
            flint.ctx.prec = bits
            y = EXACT_FUNCTIONS[equation.function](total)
            bound = _reference_bound(equation, magnitude, operands, abs(y), abs(slope))
            subject, reference = _held(y * slope, actual, arb(tolerance)), _held(y * slope, expected, bound)
            if None not in {subject.wrong, reference.wrong}:
                break
        ruling = _ruling(subject.wrong, reference.wrong)
        return Judgement(ruling, float(y * slope), subject.ratio, reference.ratio, subject.off)
    finally:
        flint.ctx.prec = before


def _is_finite(equation: ElementEquation) -> bool:
    return bool(np.isfinite([*equation.a, *equation.b, equation.state or 0.0]).all())


def _sums(equation: ElementEquation) -> tuple[arb, arb, arb]:
    total = magnitude = operands = arb(0)
    for a, b in zip(equation.a.tolist(), equation.b.tolist(), strict=True):
        term = arb(a) * b
        total, magnitude, operands = total + term, magnitude + abs(term), operands + abs(a) + abs(b)
    return total, magnitude, operands


def _reference_bound(equation: ElementEquation, magnitude: arb, operands: arb, y: arb, q: arb) -> arb:
    """Return the most that a correct float64 reference is off, given |y| and |q|; infinite where it may overflow."""
    m = len(equation.a)
    e = gamma(m + 1, U64) * magnitude + LEAST_NORMAL * (4 * m + operands)
    kappa = REFERENCE_TANH_ERROR if equation.function == "tanh" else 0.0
    bound = e + kappa * U64 * (y + e) + LEAST_NORMAL
    reach = magnitude + e
    if equation.state is not None:
        square = arb(equation.state) * equation.state if equation.nonlinearity == "tanh" else arb(0)
        p = U64 * square + LEAST_NORMAL
        d = p + U64 * (q + p)
        reach += square + p + (y + bound) * (q + d)
        bound = bound * q + (y + bound) * (d + U64 * (q + d)) + LEAST_NORMAL
    return bound.upper() if reach < sys.float_info.max else arb(math.inf)


def _held(value: arb, number: float, bound: arb) -> _Side:
    """Hold one side against the exact value."""
    if not math.isfinite(number):
        return _Side(bound.is_finite(), math.inf if bound.is_finite() else 0.0, math.inf)
    low, high = (value - number).abs_lower(), (value - number).abs_upper()
    wrong = True if low > bound else False if high <= bound else None
    if bound == 0:
        return _Side(wrong, math.inf if wrong else 0.0, _rounded_down(low))
    return _Side(wrong, _rounded_down((low / bound).lower()), _rounded_down(low))


def _rounded_down(number: arb) -> float:
    """Return the largest float64 that is no larger than an exact number, which is not negative."""
    nearest = float(number)
    return nearest if number >= nearest else math.nextafter(nearest, 0.0)


def _ruling(subject: bool | None, reference: bool | None) -> WrongSide:
    """Return the ruling: a side that is proved wrong stays wrong, whether or not the other is decided."""
    if subject or reference:
        return WrongSide.BOTH if subject and reference else WrongSide.SUBJECT if subject else WrongSide.REFERENCE
    return WrongSide.UNDECIDED if None in {subject, reference} else WrongSide.NEITHER
