"""tolerance: the bounds on the error of one step of a correct implementation, derived and never guessed.

Model. The subject computes in binary floating point with unit roundoff u. Each +, * (or fused multiply-add) returns its
exact result times (1 + d), |d| <= u. In the underflow range it returns something within ``underflow`` of the exact
result. Sums may be taken in any order and blocking. tanh is off by at most kappa * u, relatively.
``arithmetic_assumptions`` holds u and kappa.

Each term of a tolerance is derived where it is computed. ``step_tolerance`` puts them together. For tanh in float32
and float64, with exact operands and nothing accepted beyond that, the tolerance of y = tanh(s) is S + (kappa u + 4 u64)
(|y| + S) + eta, with e the error of s by ``_summed`` and ``_underflowed``, and S = tanh(e) (1 - |y| tanh(|s| - e)).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from harness.oracle.arithmetic_assumptions import U64, Arithmetic, Format
from harness.oracle.bounded_array import Count, Floats
from harness.oracle.element_equation import ElementEquation
from harness.oracle.pinned_numpy import np
from harness.space.declared_arithmetic import Grid, Grids

REFERENCE_TANH_ERROR: Final = 4.0
"""The relative error of the reference's own tanh, NumPy's in float64, in units of u64. It is 2.4 times the worst of
three million measured (``benchmarks/tanh_error.py``)."""

LAMBDA: Final = 8.0
"""The number of standard deviations in the soft tolerance. At 6, 13 of 9,581 correct cases, each summed in nine orders,
exceeded it; at 8, none did."""


class ErrorBound(NamedTuple):
    """The most that a correct result may be off by, and the sum of its terms' absolute values."""

    tolerance: Floats
    magnitude: Floats


class StepOperands(NamedTuple):
    """The exact operands of steps, one step a row: x (.., I), h (.., H) and the four parameters, all float64."""

    x: Floats
    h: Floats
    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats


class ParameterSizes(NamedTuple):
    """The sizes of parameters that the tolerances of all steps need: |W_ih|^T, |W_hh|^T, their sums over operands.

    ``biases`` is |b_ih| + |b_hh|. ``terms`` is m, the largest number of terms in a unit's sum, with the two biases.
    ``off`` is how far the two weights themselves may be off, and ``read`` is how large they may be then.
    """

    ih: Floats
    hh: Floats
    biases: Floats
    operands: Floats
    terms: int
    read: tuple[Floats, Floats]
    off: tuple[Floats, Floats] | None

    @classmethod
    def of(cls, ih: Floats, hh: Floats, b_ih: Floats, b_hh: Floats, grids: Grids | None) -> ParameterSizes:
        """Return the sizes of two weights, (H, I) and (H, H), which are read from ``grids``, and of two biases (H)."""
        W, V = np.abs(ih).T, np.abs(hh).T
        terms = (W != 0).sum(0) + (V != 0).sum(0)
        m = int(terms.max(initial=0)) + 2
        with np.errstate(over="ignore", invalid="ignore"):
            biases, operands = np.abs(b_ih) + np.abs(b_hh), W.sum(0) + V.sum(0)
            if grids is None:
                return cls(W, V, biases, operands, m, (W, V), None)
            off = (off_grid(ih, grids.weights).T, off_grid(hh, grids.weights).T)
            return cls(W, V, biases, operands, m, (W + off[0], V + off[1]), off)


def step_tolerance(
    step: StepOperands,
    s: Floats,
    y: Floats,
    nonlinearity: str,
    arithmetic: Arithmetic,
    *,
    x_error: Floats | None = None,
    h_error: Floats | None = None,
) -> ErrorBound:
    """Return the largest |actual - y| of a correct step, elementwise (.., H), whose x is the caller's own.

    y = phi(s) is what the reference gives. ``x_error`` and ``h_error`` bound how far the operands themselves may be
    off; without them, the operands are exact.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        bounds = StepBounds.of(step, s, y, nonlinearity, arithmetic, x_error=x_error)
        return ErrorBound(bounds.tolerance(h_error), bounds.magnitude)


class StepBounds(NamedTuple):
    """The bounds of steps, for any error of the states that they read: all that does not depend on it.

    Arrays are (.., H), or (.., 1) for the sums of a row. Whoever asks has to expect overflow and NaN.
    """

    step: StepOperands
    s: Floats
    y: Floats
    nonlinearity: str
    arithmetic: Arithmetic
    x_given: bool  # True if x is the caller's own, and no state of a layer below
    sizes: ParameterSizes
    products: Floats  # The sum of the absolute values of the products
    magnitude: Floats  # The same with the biases
    underflowed: Floats  # The cost of underflow
    carried: Floats | None  # The error that errors of x and of the weights make in s

    @classmethod
    def of(
        cls,
        step: StepOperands,
        s: Floats,
        y: Floats,
        nonlinearity: str,
        arithmetic: Arithmetic,
        *,
        x_error: Floats | None = None,
        x_given: bool = True,
        sizes: ParameterSizes | None = None,
    ) -> StepBounds:
        """Return the bounds of steps, as ``step_tolerance`` says; ``sizes`` saves their computation."""
        sizes = sizes or ParameterSizes.of(step.ih, step.hh, step.b_ih, step.b_hh, arithmetic.backend.grids)
        W, V, biases, of_weights, m, read, off = sizes
        size_x, size_h = np.abs(step.x), np.abs(step.h)
        products = size_x @ W + size_h @ V
        underflowed = _underflowed(m, of_weights + (row_sum(size_x) + row_sum(size_h)), arithmetic)
        carried = None if x_error is None else x_error @ read[0]
        if off is not None:
            moved = size_x @ off[0] + size_h @ off[1]
            carried = moved if carried is None else carried + moved
        magnitude = products + biases
        return cls(step, s, y, nonlinearity, arithmetic, x_given, sizes, products, magnitude, underflowed, carried)

    def at(self, t: int) -> StepBounds:
        """Return the bounds of one time step, of (T, N, ..)."""
        return self._replace(
            step=self.step._replace(x=self.step.x[t], h=self.step.h[t]),
            s=self.s[t],
            y=self.y[t],
            products=self.products[t],
            magnitude=self.magnitude[t],
            underflowed=self.underflowed[t],
            carried=None if self.carried is None else self.carried[t],
        )

    def tolerance(self, h_error: Floats | None = None) -> Floats:
        """Return the largest |actual - y| of correct steps, where the states that they read are off by so much."""
        arithmetic, m, eta = self.arithmetic, self.sizes.terms, self.underflowed
        carried = self.carried
        if h_error is not None:
            of_state = h_error @ self.sizes.read[1]
            carried = of_state if carried is None else carried + of_state
        if arithmetic.accepted.operand_u:
            read = self.products if carried is None else self.products + carried
            rounded = arithmetic.accepted.product_error * read
            carried = rounded if carried is None else carried + rounded
        reach = self.magnitude if carried is None else self.magnitude + carried
        e = _summed(m, reach, carried, arithmetic)
        if arithmetic.wide:
            e = e + _stored(self.step, self.s, e, arithmetic)
        e = e + eta
        tolerance = applied(self.s, self.y, e, self.nonlinearity, arithmetic) + eta  # phi itself may underflow, too
        if not (finite := reach + e < arithmetic.format.largest).all():
            tolerance = np.where(finite, tolerance, np.inf)
            if not np.isfinite(reach).all():
                tanh = self.nonlinearity == "tanh"
                tolerance = _settled(
                    tolerance,
                    self.step,
                    self.y,
                    arithmetic,
                    trusted=(self.x_given or tanh, tanh),
                    carried=0.0 if carried is None else carried,
                )
        return loosened(tolerance, self.y, arithmetic)

    def floor(self) -> Floats:
        """Return a quick lower limit of the differences that are suspicious."""
        return soft_floor(self.s, self.y, self.magnitude, self.nonlinearity, self.arithmetic)


def off_grid(values: Floats, grid: Grid, error: Floats | None = None) -> Floats:
    """Return how far the numbers of an array (.., N, K) may be off once each (N, K) of them was rounded to its grid.

    Before that, they may be off by ``error``, which the result includes.

    The quantizer computes k = round(v / a + z) for a step a and the whole number z of the place of 0. It keeps k on the
    grid, and (k - z) a is read. z is the place of 0 rounded, so that the grid ends within half a step of the array's
    least and greatest numbers, or beyond them: every number is within half a step of the grid. In float32, 1 / a, the
    product with it and the sum are off by a rounding each, of numbers up to 255. Together with the roundings of a
    itself, that is less than 1024 u = 2**-14 of a step. A number that leaves 0's place is no nearer to 0 than half a
    step less that much, so that none moves by more than itself and 2**-12 of it. In particular 0 stays 0. But an
    infinity or a NaN leaves nothing of the others.

    The products of the whole numbers and their sums are exact. What follows has four roundings: of a product of two
    steps, of the product with it, and of two additions. ``_summed`` counts as many, m + 1, for a single product.
    Whole numbers of 2**24 and more, which are rounded as well, come from a thousand products, for which it counts more.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        size, low, high = np.abs(values), values, values
        if error is not None:
            size, low, high = size + error, values - error, values + error
        if grid.symmetric:
            low, high = -size, size
        span = high.max((-2, -1), keepdims=True, initial=0.0) - low.min((-2, -1), keepdims=True, initial=0.0)
        half = (0.5 + 2.0**-14) * np.maximum(span / grid.steps, grid.least)
        off = np.where(np.isfinite(half), np.minimum(half, (1 + 2.0**-12) * size), np.inf)
        return np.asarray(off if error is None else off + error)


def _summed(m: int, reach: Floats, carried: Floats | None, arithmetic: Arithmetic) -> Floats:
    """Return the error of s = W_ih x + b_ih + W_hh h + b_hh, a sum of m terms.

    They are the I + H + 2 of the formula but for those whose weight is 0, which are exact. A term meets at most one
    rounding of its product and m - 1 roundings of additions. So the computed s differs from s by at most gamma_m A,
    with gamma_n = (1 + u)**n - 1 (at most n u / (1 - n u), where that exists) and A = |W_ih||x| + |b_ih| + |W_hh||h| +
    |b_hh| (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sec. 3.1). The reference commits
    gamma_m(u64) A of its own. A itself is
    evaluated in float64, which costs a relative gamma_{m+4}(u64). One more u in the subject's gamma pays for it,
    because u > gamma_m(u) gamma_{m+4}(u64). Errors of the operands add what is ``carried``, and ``reach`` is A with it.
    """
    e: Floats = (gamma(m + 1, arithmetic.sum_u) + gamma(m, U64)) * reach
    return e if carried is None else e + carried * (1 + gamma(m, U64))


def _stored(step: StepOperands, s: Floats, e: Floats, arithmetic: Arithmetic) -> Floats:
    """Return the error of storing partial results in 16 bits, where sums are taken in float32; e is that of a sum.

    Four results are stored, with an error of u each: s1 = W_ih x + b_ih, s2 = W_hh h + b_hh, their sum, and phi of it.
    s1 and s2 carry errors e themselves, so that u (1 + 3u) (|s1| + |s2| + |s| + 3 e) covers the first three. The error
    of tanh includes that of storing phi. Where the products are stored before their biases are added,
    |W_ih x| + |W_hh h| + 2 e join the bracket.
    """
    p1, p2 = step.x @ step.ih.T, step.h @ step.hh.T
    parts = np.abs(p1 + step.b_ih) + np.abs(p2 + step.b_hh) + np.abs(s) + 3 * e
    if arithmetic.backend.stores_products:
        parts = parts + np.abs(p1) + np.abs(p2) + 2 * e
    u = arithmetic.format.u
    return np.asarray(u * (1 + 3 * u) * parts)


def _underflowed(m: int, operands: Floats, arithmetic: Arithmetic) -> Floats:
    """Return what underflow may cost a step; ``operands`` are the sums of the operands' absolute values.

    The m - 2 products and m - 1 additions are 2m - 3 operations. Each adds at most ``underflow``, and later additions
    enlarge that by a factor of at most 1 + gamma_m <= 2. The reference does no worse, and storage has five more such
    operations: 8 (m + 1) covers all of them. Hardware that flushes results may flush operands, too, and a subject that
    computes in a wider format returns states that underflow only when they are returned. Either puts every operand off
    by at most ``underflow``, which adds that times the operand on the other side of each product.
    """
    return np.asarray(arithmetic.underflow * (8 * (m + 1) + operands))


def applied(s: Floats, y: Floats, e: Floats, nonlinearity: str, arithmetic: Arithmetic) -> Floats:
    """Return the error of y = phi(s), where s is off by e.

    For relu it is at most max(0, min(e, s + e)). A user may accept an absolute error of tanh beside its relative one.
    It is added wherever kappa u |y| is, and does not depend on y. It comes anew with each step, and does not grow with
    the error of the state that the step reads.
    """
    if nonlinearity == "relu":
        return np.asarray(np.maximum(0, np.minimum(e, s + e)))
    spread = _tanh_spread(s, y, e)
    relative = arithmetic.tanh_error + REFERENCE_TANH_ERROR * U64
    return np.asarray(spread + relative * (np.abs(y) + spread) + arithmetic.tanh_absolute)


def _tanh_spread(s: Floats, y: Floats, e: Floats) -> Floats:
    """Return how far tanh(s + d) may be from y = tanh(s) for |d| <= e.

    It is largest towards zero. There it is tanh|s| - tanh(|s| - e), which is tanh(e) (1 - tanh|s| tanh(|s| - e)).
    The bracket is computed with two tanh at 4 u64 each, |s| - e, a product and a difference: 11 u64 pay for its own
    error in float64.
    """
    return np.asarray(np.tanh(e) * (1 - np.abs(y) * np.tanh(np.abs(s) - e) + 11 * U64))


def error_growth(ih: Floats, hh: Floats, arithmetic: Arithmetic) -> tuple[Floats, float]:
    """Return the most that the norm of a state's error may grow by in one step: into each unit, and into a norm again.

    These are the norms of W_hh's rows, and its largest singular value, which LAPACK gives to some H u64. phi does not
    enlarge an error. Errors also change the roundings themselves, of which ``step_tolerance`` has at most as many as
    are counted here. That change is relative to |W_hh||e|, whose norm grows by the largest singular value of |W_hh|.
    """
    H, m = len(hh), ih.shape[1] + len(hh) + 2
    if arithmetic.backend.grids is not None:  # an error of one state may move the grid of all states
        return np.full(H, np.inf), np.inf
    if not np.isfinite(hh).all():
        return np.full(H, np.inf), np.inf
    each = [2 * gamma(m + 1, arithmetic.sum_u), 8 * arithmetic.format.u, arithmetic.tanh_error]
    relative = (
        math.prod(1 + error for error in [*each, arithmetic.accepted.product_error, arithmetic.accepted.rtol]) - 1
    )
    with np.errstate(over="ignore"):
        signed, unsigned = (float(np.linalg.norm(matrix, 2)) * (1 + 16 * H * U64) for matrix in (hh, np.abs(hh)))
        return norms(hh)[:, 0] * (1 + relative), signed + relative * unsigned


def norms(rows: Floats) -> Floats:
    """Return the norm of each row, scaled so that no square underflows."""
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0)
    scale = np.where((largest > 0) & (largest < np.inf), largest, 1.0)
    return np.asarray(scale * np.linalg.norm(rows / scale, axis=-1, keepdims=True))


def linear_tolerance(
    x: Floats, weight: Floats, bias: Floats, arithmetic: Arithmetic, *, x_error: Floats | None = None
) -> ErrorBound:
    """Return the largest |actual - y| of a correct y = W x + b, elementwise (.., O), for rows x (.., K)."""
    W = np.abs(weight).T
    with np.errstate(over="ignore", invalid="ignore"):
        size_x = np.abs(x)
        magnitude = size_x @ W + np.abs(bias)
        carried = 0.0 if x_error is None else x_error @ W
        products = DotProductFigures(magnitude, weight.shape[1] + 1, carried, W.sum(0) + row_sum(size_x))
        tolerance = sum_tolerance(products, arithmetic)
        return ErrorBound(loosened(tolerance, x @ weight.T + bias, arithmetic), magnitude)


class DotProductFigures(NamedTuple):
    """The figures of a sum of m products on which its error depends, elementwise."""

    magnitude: Floats  # The sum of the absolute values of the products
    m: Count
    carried: Floats | float = 0.0  # The error that errors of the operands make in the sum
    operands: Floats | float = 0.0  # The sum of the operands' own absolute values, which underflow multiplies
    stored: int = 2  # The number of times that a partial result is rounded to 16 bits


def sum_tolerance(products: DotProductFigures, arithmetic: Arithmetic) -> Floats:
    """Return the largest error of a sum of products; infinite where the sum may overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        return unless_overflow(*_sum_error(products, arithmetic), arithmetic.format)


def sum_growth(products: DotProductFigures, arithmetic: Arithmetic) -> tuple[float, Floats]:
    """Return how much ``sum_tolerance`` grows with every unit carried, and the limit below which it stays finite.

    Both results of ``_sum_error`` are affine in what is carried. So their growth is the difference that one unit makes.
    The limit is for what is carried beyond ``products.carried``.
    """
    assert isinstance(products.m, int)
    e, reach = _unit_growth(products.m, products.stored, arithmetic)
    with np.errstate(over="ignore", invalid="ignore"):
        return e, np.asarray((arithmetic.format.largest - _sum_error(products, arithmetic)[1]) / reach)


@lru_cache(256)
def _unit_growth(m: int, stored: int, arithmetic: Arithmetic) -> tuple[float, float]:
    """Return how much both results of ``_sum_error`` grow with every unit carried."""
    nothing = DotProductFigures(np.zeros(1), m, stored=stored)
    without, of_one = (_sum_error(products, arithmetic) for products in (nothing, nothing._replace(carried=1.0)))
    e, reach = (float((grown - none)[0]) for grown, none in zip(of_one, without, strict=True))
    return e, reach


def _sum_error(products: DotProductFigures, arithmetic: Arithmetic) -> tuple[Floats, Floats]:
    """Return the error of a sum, and a bound on all of its partial sums, the error included."""
    magnitude, m, moved, operands, stored = products
    form, accepted = arithmetic.format, arithmetic.accepted
    if accepted.operand_u:
        moved = moved + accepted.product_error * (magnitude + moved)
    reach = magnitude + moved
    e = (gamma(m + 1, arithmetic.sum_u) + gamma(m, U64)) * reach
    if arithmetic.wide:
        e = e + gamma(stored, form.u) * (reach + e)
    e = e + moved * (1 + gamma(m, U64)) + arithmetic.underflow * (8 * (m + stored) + operands)
    return e, reach + e


def soft_tolerance(
    equation: ElementEquation, expected: float, arithmetic: Arithmetic, *, enough: float = math.inf
) -> float:
    """Return LAMBDA standard deviations of the error of one correct element. It is a model and no proof.

    If the roundings of a sum are independent and uniform in [-u, u], the variance of its error is u**2 / 3 times the
    sum of the squared partial results (N. J. Higham and T. Mary, SIAM J. Sci. Comput. 41(5), 2019, argue for such
    models). The worst of four orders counts. ``benchmarks/false_alarms.py`` counts how often correct code exceeds it.

    ``expected`` is the reference's result, around which the element may lie. The operands are taken to be exact, and
    the arithmetic to be the dtype's own throughout. Once some order of summation allows ``enough``, the other orders
    are not tried. The result is a lower limit then.
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
    """Yield the partial sums of each order that is considered: from either end, and of parts that are then added up."""
    yield np.cumsum(terms)
    yield np.cumsum(terms[::-1])
    if groups:
        parts = np.split(terms, np.cumsum(groups)[:-1])
        sums = np.cumsum([part.sum() for part in parts])
        yield np.concatenate([*(np.cumsum(part) for part in parts), sums])
        yield np.concatenate([*(np.cumsum(part[::-1]) for part in parts), sums])


def _soft(
    equation: ElementEquation, expected: float, arithmetic: Arithmetic, sums: tuple[float, float], e: float
) -> float:
    """Return the tolerance of an element whose sum may be off by e.

    ``sums`` holds the sum, and the error that it has here because it is computed in float64.
    """
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
    slope = 1 - equation.state**2
    under = 2 * arithmetic.underflow * (2 + abs(value))  # the underflow of state**2 and of the product itself
    roundings = float(slope_error(np.asarray(equation.state), np.asarray(slope), arithmetic))
    return float(slope * e + (abs(value) + e) * roundings * u + under)


def soft_floor(s: Floats, y: Floats, magnitude: Floats, nonlinearity: str, arithmetic: Arithmetic) -> Floats:
    """Return a quick lower limit of ``soft_tolerance``, elementwise: what is below it need not be looked at again.

    The energy holds s**2 four times, and once more as the last partial sum. By Cauchy and Schwarz, the m/6 squares of
    the terms are at least A**2 / 6, where A is their ``magnitude``. The spread of tanh for an error e is at least
    e phi'(s) where e <= 2 |s|, since all slopes between s and s - e are at least phi'(s). Where |s| is less, it is at
    least tanh(e), which is more than e / (1 + e).
    """
    e = LAMBDA * arithmetic.format.u * np.sqrt((5 * s * s + magnitude * magnitude / 6) / 3)
    if nonlinearity == "tanh":
        spread = np.fmin(e * (1 - y * y), e / (1 + e))  # where e is infinite, the second is NaN
        return np.asarray(spread + arithmetic.tanh_error * np.abs(y) + arithmetic.tanh_absolute)
    return np.asarray(np.where(s > 0, e, 0) if nonlinearity == "relu" else e)


def slope_error(h: Floats, slope: Floats, arithmetic: Arithmetic) -> Floats:
    """Return the error of a factor 1 - h**2 = ``slope`` and of the product with it, in units of u of the sums.

    1 - h h is computed as (1 - h h (1 + d1)) (1 + d2), which is off by u h**2 + u (1 - h**2) <= u at first order.
    (1 - h)(1 + h) is off by 3 u slope. The product adds u slope, so that 1 + slope and 4 slope are needed. 2 + 2 slope
    is more than either, and by more than the orders of u**2 that were left out.

    A slope that is computed from the preactivation, as 1 / cosh(s)**2, does not have the error of h as a tanh,
    kappa u |h| + a. So the two slopes are 2 |h| times that error apart. The roundings of that formula (of cosh twice,
    the square and the quotient) are 6 u slope at most, which is 4 u slope more than above.
    """
    error = 2 + 2 * slope
    if (slope < 0).any():  # a fault may take this slope where phi is not tanh, and |h| above 1
        error = 3 * h * h + 8 * np.abs(slope)
    if not arithmetic.backend.slopes_from_states:
        size = np.abs(h)
        apart = 2 * size * (arithmetic.tanh_error * size + arithmetic.tanh_absolute)
        error = error + 4 * np.abs(slope) + apart / arithmetic.sum_u
    return np.asarray(error)


def gamma(n: Count, u: float) -> Any:
    """Return gamma_n = (1 + u)**n - 1.

    It is the most by which a product of n factors (1 + d), |d| <= u, differs from 1. In float64 it overflows near
    exp(709.8): a sum of 200,000 terms in bfloat16 comes there. exp(709) stands for more, because either
    allows every number of 16 or 32 bits, unless the sum is 0.
    """
    if isinstance(n, int):
        return math.expm1(min(n * math.log1p(u), 709.0))
    return np.expm1(np.minimum(n * math.log1p(u), 709.0))


def row_sum(array: Floats) -> Floats:
    """Return the sum over the last axis, which stays with size 1."""
    return np.asarray(array.sum(-1, keepdims=True))


def unless_overflow(tolerance: Floats, reach: Floats, form: Format) -> Floats:
    """Return the tolerance, infinite where a partial sum may reach the largest number, or where ``reach`` is NaN.

    There anything may come out: inf, or NaN from inf - inf. No result is larger than the reach of its partial sums.
    """
    return np.where(reach < form.largest, tolerance, np.inf)


def loosened(tolerance: Floats, values: Floats, arithmetic: Arithmetic) -> Floats:
    """Return the tolerance, and beyond it what the user accepts of every result by rtol and atol."""
    accepted = arithmetic.accepted
    if not accepted.rtol and not accepted.atol:
        return tolerance
    with np.errstate(invalid="ignore", over="ignore"):
        more = accepted.atol + accepted.rtol * (np.abs(values) + tolerance)
        return np.where(np.isinf(tolerance), np.inf, tolerance + more)  # an exempt value may be NaN


def _settled(
    tolerance: Floats,
    step: StepOperands,
    y: Floats,
    arithmetic: Arithmetic,
    *,
    trusted: tuple[bool, bool],
    carried: Floats | float,
) -> Floats:
    """Return the tolerance of rows that read an infinity or a NaN: that of a certain result, where there is one.

    A NaN makes every unit of its row NaN, in any order of summation. Without a NaN, the infinite terms decide alone,
    again in any order, as long as the finite ones cannot overflow: 0 times inf, or infinities of both signs, give NaN,
    and infinities of one sign give that infinity. So the reference's own result is the only right one. |y| is 1 for
    tanh then and 0 for relu, so that both errors of tanh are taken times |y|. There are three cases in which nothing is
    settled. A weight that is subnormal may count as 0 beside an infinity. Weights may be infinite or NaN themselves.
    And in a subject that computes in a wider format, an infinite state of relu was finite until it was returned.

    ``trusted`` says of x, and of h, whether an infinite number in it is certainly infinite.
    """
    parameters = (step.ih, step.hh, step.b_ih, step.b_hh)
    if not all(np.isfinite(array).all() for array in parameters):
        return tolerance
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
    return np.where(sure, np.minimum(tolerance, certain), tolerance)


def _finite(array: Floats) -> Floats:
    return np.where(np.isfinite(array), array, 0.0)


def _subnormal(weight: Floats, form: Format) -> Floats:
    size = np.abs(weight)
    return ((size > 0) & (size < form.underflow)).astype(np.float64)
