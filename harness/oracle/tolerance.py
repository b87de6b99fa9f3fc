"""tolerance: how far a correct implementation may be from the exact result of one step, derived and never guessed.

Model. The subject computes in binary floating point with unit roundoff u: each +, * (or fused multiply-add) returns
its exact result times (1 + d), |d| <= u, or, in the underflow range, something within ``tiny`` (the smallest normal
number) of it. Sums may be taken in any order and blocking. tanh is off by at most kappa * u, relatively.

Preactivation. s = W_ih x + b_ih + W_hh h + b_hh sums m = I + H + 2 terms. A term meets at most one rounding of its
product and m - 1 of additions, so the computed s differs from s by at most gamma_m A, with gamma_n = n u / (1 - n u)
and A = |W_ih||x| + |b_ih| + |W_hh||h| + |b_hh| (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
sec. 3.1). The reference commits gamma_m(u64) A of its own. A itself is evaluated in float64, which costs a relative
gamma_{m+4}(u64): one more u in the subject's gamma pays for it, as u > gamma_m(u) gamma_{m+4}(u64).

Underflow. 2m - 3 operations each add at most ``tiny``, grown by later additions by at most 1 + gamma_m <= 2; the
reference does no worse: 8 m tiny. Hardware that flushes results may flush operands, too, and a subject that computes
in a wider format returns states that underflowed on their way out: either puts every operand off by at most ``tiny``,
which adds ``tiny`` times the operand on the other side of each product. eta is the sum of both.

Nonlinearity. For |d| <= e, |tanh(s + d) - tanh(s)| is largest towards zero, tanh|s| - tanh(|s| - e), which is
tanh(e) (1 - tanh|s| tanh(|s| - e)). For relu it is max(0, min(e, s + e)). For anything else, such as a fault's phi of
slope 1 at most, it is e, and the function is taken to be as accurate as tanh.

Overflow. Where a partial sum may reach the largest number, anything may come out (inf, or NaN from inf - inf): there
the allowance is infinite, as it is wherever an operand is not finite. No result is larger than its partial sums' reach.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Arithmetic(NamedTuple):
    """A floating-point format: unit roundoff, smallest normal and largest number."""

    u: float
    tiny: float
    largest: float


ARITHMETIC: Final = {
    "float32": Arithmetic(2.0**-24, 2.0**-126, float(np.finfo(np.float32).max)),
    "float64": Arithmetic(2.0**-53, 2.0**-1022, float(np.finfo(np.float64).max)),
}

U64: Final = ARITHMETIC["float64"].u

TANH_ERROR: Final = 2.0
"""kappa, the relative error of the subject's tanh in units of u, i.e. one unit in the last place.

Measured against float64 over every float32 from 2**-20 to 9.5: NumPy 2.4 at most 1.83, torch 2.13 on CPU 1.01. Against
80-bit tanh on three million float64 numbers: NumPy 1.63, torch 1.26 (``benchmarks/tanh_error.py``). No other backend
has been measured: one whose tanh is looser than this is reported, and rightly so until its figure stands here.
"""

REFERENCE_TANH_ERROR: Final = 4.0
"""The same for the reference's own float64 tanh, NumPy's: 2.4 times the worst of the three million measured."""


class Step(NamedTuple):
    """The exact operands of steps, one a row: x (.., I), h (.., H) and the four parameters, all float64."""

    x: Floats
    h: Floats
    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats


def step_allowance(
    step: Step,
    s: Floats,
    y: Floats,
    nonlinearity: str,
    dtype: str,
    *,
    x_error: Floats | None = None,
    h_error: Floats | None = None,
) -> Floats:
    """The largest |actual - y| of a correct step, elementwise (.., H), where y = phi(s) is what the reference gives.

    ``x_error`` and ``h_error`` bound how far the operands themselves may be off; without them, they are exact.
    """
    form = ARITHMETIC[dtype]
    W, V = np.abs(step.ih).T, np.abs(step.hh).T
    m = step.ih.shape[1] + step.hh.shape[1] + 2
    with np.errstate(over="ignore", invalid="ignore"):
        size_x, size_h = np.abs(step.x), np.abs(step.h)
        magnitude = size_x @ W + size_h @ V + (np.abs(step.b_ih) + np.abs(step.b_hh))
        eta = form.tiny * (8 * m + W.sum(0) + V.sum(0) + _row_sum(size_x) + _row_sum(size_h))
        carried: Floats | float = 0.0
        if x_error is not None:
            carried = carried + x_error @ W
        if h_error is not None:
            carried = carried + h_error @ V
        reach = magnitude + carried
        e = (gamma(m + 1, form.u) + gamma(m, U64)) * reach + eta + carried * (1 + gamma(m, U64))
        rounding = TANH_ERROR * form.u + REFERENCE_TANH_ERROR * U64
        if nonlinearity == "tanh":
            # Two tanh at 4 u64 each, |s| - e, a product and a difference: 11 u64 pay for the bracket in float64.
            spread = np.tanh(e) * (1 - np.abs(y) * np.tanh(np.abs(s) - e) + 11 * U64)
        elif nonlinearity == "relu":
            spread = np.maximum(0, np.minimum(e, s + e))
            rounding = 0.0
        else:
            spread = e
        allowance = spread + rounding * (np.abs(y) + spread) + eta
        return _unless_overflow(allowance, reach + e, form)


def linear_allowance(x: Floats, weight: Floats, bias: Floats, dtype: str, *, x_error: Floats | None = None) -> Floats:
    """The largest |actual - y| of a correct y = W x + b, elementwise (.., O), for rows x (.., K)."""
    form = ARITHMETIC[dtype]
    W = np.abs(weight).T
    m = weight.shape[1] + 1
    with np.errstate(over="ignore", invalid="ignore"):
        size_x = np.abs(x)
        magnitude = size_x @ W + np.abs(bias)
        carried: Floats | float = 0.0 if x_error is None else x_error @ W
        reach = magnitude + carried
        eta = form.tiny * (8 * m + W.sum(0) + _row_sum(size_x))
        allowance = (gamma(m + 1, form.u) + gamma(m, U64)) * reach + eta + carried * (1 + gamma(m, U64))
        return _unless_overflow(allowance, reach + allowance, form)


def gamma(n: int, u: float) -> float:
    """gamma_n = n u / (1 - n u), which bounds the product of n factors (1 + d), |d| <= u; needs n u < 1."""
    return n * u / (1 - n * u)


def _row_sum(array: Floats) -> Floats:
    return np.asarray(array.sum(-1, keepdims=True))


def _unless_overflow(allowance: Floats, reach: Floats, form: Arithmetic) -> Floats:
    """The allowance, but infinite where a partial sum may reach the largest number; NaN fails the test."""
    return np.where(reach < form.largest, allowance, np.inf)
