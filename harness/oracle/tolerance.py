"""tolerance: how far a correct implementation may be from the exact result of one step, derived and never guessed.

Model. The subject computes in binary floating point with unit roundoff u: each +, * (or fused multiply-add) returns
its exact result times (1 + d), |d| <= u, or, in the underflow range, something within ``underflow`` of it. Sums may be
taken in any order and blocking. tanh is off by at most kappa * u, relatively. ``arithmetic`` holds u and kappa.

Preactivation. s = W_ih x + b_ih + W_hh h + b_hh sums m = I + H + 2 terms; those whose weight is 0 are exact, and do not
count. A term meets at most one rounding of its product and m - 1 of additions, so the computed s differs from s by at
most gamma_m A, with gamma_n = (1 + u)**n - 1 (at most n u / (1 - n u), where that exists) and A = |W_ih||x| + |b_ih| +
|W_hh||h| + |b_hh| (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sec. 3.1). The reference
commits gamma_m(u64) A of its own. A itself is evaluated in float64, which costs a relative gamma_{m+4}(u64): one more u
in the subject's gamma pays for it, as u > gamma_m(u) gamma_{m+4}(u64).

Storage. A 16-bit result may be summed in float32, whose gamma_m is then the one above, and rounded when it is stored:
s1 = W_ih x + b_ih, s2 = W_hh h + b_hh, their sum, and phi of it, u each; s1 and s2 carry errors e0 themselves, so that
u (1 + 3u) (|s1| + |s2| + |s| + 3 e0) holds all three. Where the products are stored before their biases are added,
|W_ih x| + |W_hh h| + 2 e0 join the bracket.

Underflow. 2m - 3 operations each add at most ``underflow``, grown by later additions by at most 1 + gamma_m <= 2; the
reference does no worse, and storage has five more: 8 (m + 1) of them. Hardware that flushes results may flush operands,
too, and a subject that computes in a wider format returns states that underflowed on their way out: either puts every
operand off by at most ``underflow``, which adds that times the operand on the other side of each product. eta is the
sum of both.

Nonlinearity. For |d| <= e, |tanh(s + d) - tanh(s)| is largest towards zero, tanh|s| - tanh(|s| - e), which is
tanh(e) (1 - tanh|s| tanh(|s| - e)). For relu it is max(0, min(e, s + e)). For anything else, such as a fault's phi of
slope 1 at most, it is e, and the function is taken to be as accurate as tanh. What a user accepts of tanh beside its
relative error, an absolute one, is off by as much wherever kappa u |y| is, whatever y: it is added there. In a state
that an infinite preactivation decides |y| is 1, and in relu's it is 0. It comes anew with each step, and does not grow
with the error of the state that the step reads.

Overflow. Where a partial sum may reach the largest number, anything may come out (inf, or NaN from inf - inf): there
the allowance is infinite. No result is larger than its partial sums' reach.

Complex numbers. Everything above is meant in modulus, u being that of the parts. Each part of a sum of m products is a
sum of 2 m real ones, in any order, one rounding of a product and 2 m - 1 of additions on the way of each; the sums of
their absolute values are, as a vector, at most sqrt 2 A. So s is off by at most sqrt 2 gamma_2m A <= gamma_3m A
((1 + u)**n - 1 is convex in n, and 2 sqrt 2 < 3). That holds for whole complex operations, too, of which a product is
off by at most sqrt 2 gamma_2 and a sum by u (Higham, Lemma 3.5), and for kernels that keep the parts apart or add up
their real products one by one; not for those that save one of four multiplications. ``underflow`` is that of a complex
operation. tanh(s + d) - tanh(s) = (1 - y**2) t / (1 + y t) for t = tanh d, |t| <= tan e: at most |1 - y**2| tan e /
(1 - |y| tan e), as long as |y| tan e <= 1/2 and e <= 1/2; else s is too near to a pole, and is exempt, unless it is far
out: tanh is within 2 / (exp(2r) - 1) of 1 or -1 where |Re| >= r, so that two are at most twice as far apart. phi' = 1 -
y**2 may be large; it is off as ``slope_error`` says. What reads an infinity or a NaN is exempt, for complex
products make of them what they like; and the soft model and the judge say nothing.

Infinities and NaN that are read, of real numbers. A NaN makes every unit of its row NaN, in any order. Without one,
terms that are infinite decide alone, again in any order, as long as the finite ones cannot overflow: 0 times inf, or
both signs, give NaN, one sign gives itself. So the reference's own result is the only right one; but a weight that is
subnormal may count as 0, and then nothing is settled. Weights that are not finite settle nothing, either, nor does an
infinite state of relu: in a subject that computes in a wider format it was a finite one, until it was returned.

Soft. The above holds for the worst order and the worst roundings. If the roundings of a sum are independent, uniform
in [-u, u], the variance of its error is u**2 / 3 times the sum of the squared partial results (N. J. Higham and T.
Mary, SIAM J. Sci. Comput. 41(5), 2019, argue for such models). ``soft_allowance`` is LAMBDA standard deviations, by the
worst of four orders: a model and no proof. ``benchmarks/false_alarms.py`` counts how often correct code exceeds it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from harness.oracle.arithmetic import U64, Arithmetic, Format
from harness.oracle.equation import Equation, Floats

REFERENCE_TANH_ERROR: Final = 4.0
"""Relative error of the reference's own tanh, NumPy's in float64, in units of u64: 2.4 times the worst of three million
measured (``benchmarks/tanh_error.py``)."""

REFERENCE_COMPLEX_TANH_ERROR: Final = 12.0
"""Likewise of its complex tanh, in modulus: 2.3 times the worst of 280,000 measured."""

LAMBDA: Final = 8.0
"""Standard deviations of the soft allowance. At 6, 13 correct cases of 9,581, each summed in nine orders, exceeded it;
at 8 none."""


class Bound(NamedTuple):
    """What a correct result may be off by, and the sum of its terms' absolute values."""

    allowance: Floats
    magnitude: Floats


class Step(NamedTuple):
    """The exact operands of steps, one a row: x (.., I), h (.., H) and the four parameters, all float64."""

    x: Floats
    h: Floats
    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats


class Sizes(NamedTuple):
    """What the allowances of all steps need of the parameters: |W_ih|^T, |W_hh|^T, and their sums over operands.

    ``terms`` is m: the most terms that a unit's sum has, the two biases among them.
    """

    ih: Floats
    hh: Floats
    operands: Floats
    terms: int

    @classmethod
    def of(cls, ih: Floats, hh: Floats) -> Sizes:
        """Those of two weights, (H, I) and (H, H)."""
        W, V = np.abs(ih).T, np.abs(hh).T
        terms = np.count_nonzero(W, axis=0) + np.count_nonzero(V, axis=0)
        with np.errstate(over="ignore"):
            return cls(W, V, W.sum(0) + V.sum(0), int(terms.max(initial=0)) + 2)


def step_allowance(
    step: Step,
    s: Floats,
    y: Floats,
    nonlinearity: str,
    arithmetic: Arithmetic,
    *,
    x_error: Floats | None = None,
    h_error: Floats | None = None,
    x_given: bool = True,
    sizes: Sizes | None = None,
) -> Bound:
    """The largest |actual - y| of a correct step, elementwise (.., H), where y = phi(s) is what the reference gives.

    ``x_error`` and ``h_error`` bound how far the operands themselves may be off; without them, they are exact.
    ``x_given`` says that x is the caller's own, and no state of a layer below; ``sizes`` spares their computation.
    """
    W, V, of_weights, m = sizes or Sizes.of(step.ih, step.hh)
    form, accepted, n = arithmetic.format, arithmetic.accepted, arithmetic.roundings(m)
    with np.errstate(over="ignore", invalid="ignore"):
        size_x, size_h = np.abs(step.x), np.abs(step.h)
        products = size_x @ W + size_h @ V
        magnitude = products + (np.abs(step.b_ih) + np.abs(step.b_hh))
        eta = arithmetic.underflow * (8 * (m + 1) + of_weights + (row_sum(size_x) + row_sum(size_h)))
        carried: Floats | float = 0.0
        if x_error is not None:
            carried = carried + x_error @ W
        if h_error is not None:
            carried = carried + h_error @ V
        if accepted.operand_u:
            carried = carried + accepted.product_error * (products + carried)
        reach = magnitude + carried
        e = (gamma(n + 1, arithmetic.sum_u) + gamma(n, U64)) * reach + carried * (1 + gamma(n, U64))
        if arithmetic.wide:
            parts = _stored(step, s, e, stores_products=arithmetic.backend.stores_products)
            e = e + form.u * (1 + 3 * form.u) * parts
        e = e + eta
        if arithmetic.is_complex:
            spread = _complex_tanh_spread(s, y, e) if nonlinearity == "tanh" else e
            own = arithmetic.tanh_error + REFERENCE_COMPLEX_TANH_ERROR * U64
            allowance = spread + own * (np.abs(y) + spread) + arithmetic.tanh_absolute + eta
        elif nonlinearity == "relu":
            spread = np.maximum(0, np.minimum(e, s + e))
            allowance = spread + eta
        else:
            spread = _tanh_spread(s, y, e) if nonlinearity == "tanh" else e
            relative = arithmetic.tanh_error + REFERENCE_TANH_ERROR * U64
            allowance = spread + relative * (np.abs(y) + spread) + arithmetic.tanh_absolute + eta
        allowance = unless_overflow(allowance, reach + e, form)
    if not arithmetic.is_complex and not np.isfinite(reach).all():
        tanh = nonlinearity == "tanh"
        allowance = _settled(allowance, step, y, arithmetic, trusted=(x_given or tanh, tanh), carried=carried)
    return Bound(loosened(allowance, y, arithmetic), magnitude)


def _tanh_spread(s: Floats, y: Floats, e: Floats) -> Floats:
    """How far tanh(s + d) may be from y = tanh(s) for |d| <= e.

    Two tanh at 4 u64 each, |s| - e, a product and a difference: 11 u64 pay for the bracket in float64.
    """
    return np.asarray(np.tanh(e) * (1 - np.abs(y) * np.tanh(np.abs(s) - e) + 11 * U64))


def _complex_tanh_spread(s: Floats, y: Floats, e: Floats) -> Floats:
    """The same of complex numbers; infinite where they are too near to a pole.

    The reference's tanh at 12 u64, its square, and some ten more operations: 64 u64 pay for the bracket in float64.
    """
    far = np.abs(s.real) * (1 - 4 * U64) - e
    with np.errstate(divide="ignore"):
        apart = np.where(far > 0, 4 * (1 + 8 * U64) / np.expm1(2 * np.maximum(far, 0)), np.inf)
    size, t = np.abs(y), np.tan(np.minimum(e, 0.5))
    bracket = np.abs(1 - y * y) + 64 * U64 * (1 + size * size)
    near = np.where((e <= 0.5) & (size * t <= 0.5), t * bracket / (1 - np.minimum(size * t, 0.5)), np.inf)
    return np.fmin(near, apart)


def linear_allowance(
    x: Floats, weight: Floats, bias: Floats, arithmetic: Arithmetic, *, x_error: Floats | None = None
) -> Bound:
    """The largest |actual - y| of a correct y = W x + b, elementwise (.., O), for rows x (.., K)."""
    W = np.abs(weight).T
    with np.errstate(over="ignore", invalid="ignore"):
        size_x = np.abs(x)
        magnitude = size_x @ W + np.abs(bias)
        carried = 0.0 if x_error is None else x_error @ W
        products = Products(magnitude, weight.shape[1] + 1, carried, W.sum(0) + row_sum(size_x))
        allowance = sum_allowance(products, arithmetic)
        return Bound(loosened(allowance, x @ weight.T + bias, arithmetic), magnitude)


class Products(NamedTuple):
    """A sum of m products, as far as its error depends on it, elementwise."""

    magnitude: Floats
    """The sum of the absolute values of the products."""
    m: int
    carried: Floats | float = 0.0
    """What errors of the operands amount to."""
    operands: Floats | float = 0.0
    """The sum of the operands' own absolute values, which underflow multiplies."""
    stored: int = 2
    """How often a partial result is rounded to 16 bits."""


def sum_allowance(products: Products, arithmetic: Arithmetic) -> Floats:
    """The largest error of a sum of products."""
    with np.errstate(over="ignore", invalid="ignore"):
        return unless_overflow(*_sum_error(products, arithmetic), arithmetic.format)


def sum_growth(products: Products, arithmetic: Arithmetic) -> tuple[float, Floats]:
    """How much ``sum_allowance`` grows with every unit more that is carried, and below how much more it stays finite.

    Both of ``_sum_error`` are affine in what is carried, so that they are had from one unit beside nothing.
    """
    nothing = Products(np.zeros(1), products.m, stored=products.stored)
    e, reach = (
        float((one - none)[0])
        for one, none in zip(
            _sum_error(nothing._replace(carried=1.0), arithmetic), _sum_error(nothing, arithmetic), strict=True
        )
    )
    with np.errstate(over="ignore", invalid="ignore"):
        return e, np.asarray((arithmetic.format.largest - _sum_error(products, arithmetic)[1]) / reach)


def _sum_error(products: Products, arithmetic: Arithmetic) -> tuple[Floats, Floats]:
    """The error of a sum, and what no partial sum is larger than, the error included."""
    magnitude, m, moved, operands, stored = products
    form, accepted = arithmetic.format, arithmetic.accepted
    if accepted.operand_u:
        moved = moved + accepted.product_error * (magnitude + moved)
    reach = magnitude + moved
    n = arithmetic.roundings(m)
    e = (gamma(n + 1, arithmetic.sum_u) + gamma(n, U64)) * reach
    if arithmetic.wide:
        e = e + gamma(stored, form.u) * (reach + e)
    e = e + moved * (1 + gamma(n, U64)) + arithmetic.underflow * (8 * (m + stored) + operands)
    return e, reach + e


def soft_allowance(equation: Equation, expected: float, arithmetic: Arithmetic, *, enough: float = math.inf) -> float:
    """LAMBDA standard deviations of the error of one correct element, by the variance model of the module's docstring.

    ``expected`` is the reference's result, around which the element may lie. The operands are taken to be
    exact, and the arithmetic to be the dtype's own throughout. Where some order of summation allows ``enough``, others
    are not tried: it is a lower limit then.
    """
    u = arithmetic.format.u
    with np.errstate(over="ignore", invalid="ignore"):
        terms = equation.a * equation.b
        m, value, scale = terms.size, terms.sum(), np.abs(terms).max()
        if not 0 < scale < np.inf:
            return np.inf
        terms /= scale  # so that no square overflows or vanishes
        own = gamma(m, U64) * scale * np.abs(terms).sum()
        under = arithmetic.underflow * (8 * (m + 1) + np.abs(equation.a).sum() + np.abs(equation.b).sum())
        rest = 4 * terms.sum() ** 2 + (m / 6 + 1) * (terms @ terms)
        energy, allowed = 0.0, 0.0
        for partial in _partial_sums(terms, equation.groups):
            energy = max(energy, float(partial @ partial))
            e = scale * LAMBDA * u * np.sqrt((energy + rest) / 3) + own + under
            allowed = _soft(equation, expected, arithmetic, (value, own), e)
            if allowed >= enough:
                break
        return allowed


def _partial_sums(terms: Floats, groups: Sequence[int]) -> Iterator[Floats]:
    """The partial sums of each order that is thought of: from either end, and of parts, which are then added up."""
    yield np.cumsum(terms)
    yield np.cumsum(terms[::-1])
    if groups:
        parts = np.split(terms, np.cumsum(groups)[:-1])
        sums = np.cumsum([part.sum() for part in parts])
        yield np.concatenate([*(np.cumsum(part) for part in parts), sums])
        yield np.concatenate([*(np.cumsum(part[::-1]) for part in parts), sums])


def _soft(equation: Equation, expected: float, arithmetic: Arithmetic, sums: tuple[float, float], e: float) -> float:
    """The allowance of an element whose sum may be off by e; ``sums``: it, and what float64 makes it off by here."""
    value, own = sums
    u = arithmetic.format.u
    if equation.function == "tanh":
        spread = _tanh_spread(np.asarray(value), np.asarray(expected), np.asarray(e))
        relative = arithmetic.tanh_error + REFERENCE_TANH_ERROR * U64
        return float(spread + relative * (abs(expected) + spread) + arithmetic.tanh_absolute)
    if equation.function == "relu":
        return float(max(0.0, min(e, value + own + e)))
    if equation.state is None:
        return float(e)
    if equation.nonlinearity == "relu":
        return float(e) if equation.state > 0 else 0.0
    slope = 1 - equation.state**2 if equation.nonlinearity == "tanh" else 1.0
    under = 2 * arithmetic.underflow * (2 + abs(value))  # of state**2 and of the product itself
    roundings = float(slope_error(np.asarray(equation.state), np.asarray(slope), arithmetic))
    return float(slope * e + (abs(value) + e) * roundings * u + under)


def soft_floor(s: Floats, y: Floats, magnitude: Floats, nonlinearity: str, arithmetic: Arithmetic) -> Floats:
    """A quick lower limit of ``soft_allowance``, elementwise: what is below it need not be looked at again.

    The energy holds s**2 four times and once more as the last partial sum, and by Cauchy and Schwarz the m/6 squares of
    the terms are at least A**2 / 6, where A is their ``magnitude``. And D(e) >= e phi'(s).
    """
    e = LAMBDA * arithmetic.format.u * np.sqrt((5 * s * s + magnitude * magnitude / 6) / 3)
    if nonlinearity == "tanh":
        return np.asarray(e * (1 - y * y) + arithmetic.tanh_error * np.abs(y) + arithmetic.tanh_absolute)
    return np.asarray(np.where(s > 0, e, 0) if nonlinearity == "relu" else e)


def slope_error(h: Floats, slope: Floats, arithmetic: Arithmetic) -> Floats:
    """How far a factor 1 - h**2 = ``slope``, and the product with it, may be off, in units of u of the sums.

    h h (1 + d1), subtracted from 1 (1 + d2), is off by u h**2 + u (1 - h**2) <= u at first order, and (1 - h)(1 + h)
    by 3 u slope; the product adds u slope, so that 1 + slope and 4 slope are needed. 2 + 2 slope is more than either,
    and by more than the orders of u**2 that were left out.

    A slope that is computed of the preactivation, as 1 / cosh(s)**2, knows nothing of the error that h has as a tanh,
    kappa u |h| + a: the two are 2 |h| as much apart. Its own roundings, of cosh twice, the square and the quotient,
    are 6 u slope at most, 4 more than above.
    """
    far = arithmetic.is_complex or bool((slope < 0).any())  # or a fault's, which takes it where phi is not tanh
    error = _complex_slope_error(h, slope) if far else 2 + 2 * slope
    if not arithmetic.backend.slopes_from_states:
        size = np.abs(h)
        apart = 2 * size * (arithmetic.tanh_error * size + arithmetic.tanh_absolute)
        error = error + 4 * np.abs(slope) + apart / arithmetic.sum_u
    return np.asarray(error)


def _complex_slope_error(h: Floats, slope: Floats) -> Floats:
    """The same for a complex h, in modulus.

    A product is off by at most 2 sqrt 2 u, and a difference by u: 1 - h h and the product with it by 2.83 |h|**2 +
    3.83 |slope|, and (1 - h)(1 + h) by 7.66 |slope|, at first order.
    """
    return np.asarray(3 * np.abs(h) ** 2 + 8 * np.abs(slope))


def gamma(n: int, u: float) -> float:
    """gamma_n = (1 + u)**n - 1, the most by which a product of n factors (1 + d), |d| <= u, differs from 1."""
    return math.expm1(n * math.log1p(u))


def row_sum(array: Floats) -> Floats:
    """The sum over the last axis, which stays."""
    return np.asarray(array.sum(-1, keepdims=True))


def unless_overflow(allowance: Floats, reach: Floats, form: Format) -> Floats:
    """The allowance, but infinite where a partial sum may reach the largest number; NaN fails the test."""
    return np.where(reach < form.largest, allowance, np.inf)


def loosened(allowance: Floats, values: Floats, arithmetic: Arithmetic) -> Floats:
    """The allowance, and beyond it what the user accepts of every result by rtol and atol."""
    accepted = arithmetic.accepted
    if not accepted.rtol and not accepted.atol:
        return allowance
    with np.errstate(invalid="ignore", over="ignore"):
        more = accepted.atol + accepted.rtol * (np.abs(values) + allowance)
        return np.where(np.isinf(allowance), np.inf, allowance + more)  # a value that is exempt may be NaN


def _stored(step: Step, s: Floats, e: Floats, *, stores_products: bool) -> Floats:
    """|s1| + |s2| + |s| + 3 e0, and with stored products |W_ih x| + |W_hh h| + 2 e0."""
    p1, p2 = step.x @ step.ih.T, step.h @ step.hh.T
    parts = np.abs(p1 + step.b_ih) + np.abs(p2 + step.b_hh) + np.abs(s) + 3 * e
    return parts + np.abs(p1) + np.abs(p2) + 2 * e if stores_products else parts


def _settled(
    allowance: Floats,
    step: Step,
    y: Floats,
    arithmetic: Arithmetic,
    *,
    trusted: tuple[bool, bool],
    carried: Floats | float,
) -> Floats:
    """The allowance of rows that read an infinity or a NaN: that of a sure result where there is one.

    ``trusted`` says of x, and of h, whether an infinite number in it is surely infinite.
    """
    parameters = (step.ih, step.hh, step.b_ih, step.b_hh)
    if not all(np.isfinite(array).all() for array in parameters):
        return allowance
    form, m = arithmetic.format, step.ih.shape[1] + step.hh.shape[1] + 2
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.abs(_finite(step.x)) @ np.abs(step.ih).T + np.abs(_finite(step.h)) @ np.abs(step.hh).T
        reach = (finite + np.abs(step.b_ih) + np.abs(step.b_hh)) * 2 * (1 + gamma(m + 1, arithmetic.sum_u))
        bounded = reach + carried < form.largest
        flushable = np.isinf(step.x) @ _subnormal(step.ih, form).T + np.isinf(step.h) @ _subnormal(step.hh, form).T
    nan = np.isnan(step.x).any(-1, keepdims=True) | np.isnan(step.h).any(-1, keepdims=True)
    both = [np.isinf(operand).any(-1, keepdims=True) for operand in (step.x, step.h)]
    doubtful = (both[0] & (not trusted[0])) | (both[1] & (not trusted[1]))
    infinite = (both[0] | both[1]) & ~doubtful
    sure = np.isfinite(carried) & (nan | (infinite & bounded & (flushable == 0)))
    certain = np.where(np.isfinite(y), (arithmetic.tanh_error + arithmetic.tanh_absolute) * np.abs(y), 0.0)
    return np.where(sure, np.minimum(allowance, certain), allowance)


def _finite(array: Floats) -> Floats:
    return np.where(np.isfinite(array), array, 0.0)


def _subnormal(weight: Floats, form: Format) -> Floats:
    size = np.abs(weight)
    return ((size > 0) & (size < form.underflow)).astype(np.float64)
