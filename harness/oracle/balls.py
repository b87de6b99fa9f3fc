"""balls: arithmetic on arrays that are known up to an error, which says how far off a correct subject may be.

An operation on balls bounds what any subject may give that applies the same operation, in its own arithmetic, to
numbers within the balls. It is what the steps of GRU and LSTM are written in. Errors are absolute, and infinite where
nothing is known, as after an overflow. The values are those of float64.

``tolerance`` has the model of a rounding. Below, u is that of the dtype, so that every result may be stored in it, v is
u + u64 because the reference rounds, too, and eta is what underflow may lose of a result or of an operand. Whoever
calls has to expect overflow and NaN.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from operator import mul
from typing import Final, NamedTuple

from harness.oracle.arithmetic_assumptions import U64, Arithmetic
from harness.oracle.bounded_array import BoundedArray, Floats
from harness.oracle.pinned_numpy import np
from harness.oracle.sums import Matrix, Sum
from harness.oracle.tolerance import applied, gamma, slope_error
from harness.space.cells import Polynomial

# The relative error of the reference's own sigmoid, in units of u64: one exp, one addition and one quotient.
REFERENCE_SIGMOID_ERROR: Final = 4.0

# The largest exponent that is taken: where an error is so much larger than s, a sigmoid may be anything from 0 to 1.
LARGEST_EXPONENT: Final = 600.0
OUTER_FACTOR: Final = "given"  # the name of what every product of a sum is multiplied by


class GateParameters(NamedTuple):
    """The parameters of some gates: W_ih^T and W_hh^T as matrices (I, K) and (H, K), and the biases (K)."""

    ih: Matrix
    hh: Matrix
    b_ih: Floats
    b_hh: Floats


class AffineMap(NamedTuple):
    """c -> slope c + start for arrays c, all that it needs: its parts, the error of a rounding, the largest number."""

    # The slope, what is added, |slope|, how the error grows with the largest |c|, the error at c = 0, and its size.
    parts: tuple[Floats, ...]
    rounding: float
    largest: float

    def at(self, t: int) -> AffineMap:
        """Return the line of one time step, of (T, N, H)."""
        return self._replace(parts=tuple(part[t] for part in self.parts))

    def of(self, c: BoundedArray) -> BoundedArray:
        """Return slope c + start."""
        slope, start, size, growth, least, start_size = self.parts
        off = _off(c)
        product = slope * c.values
        values = product + start
        error = size * off + growth * (np.abs(c.values) + off) + least
        error = error + self.rounding * (np.abs(values) + error)
        return BoundedArray(values, np.where(np.abs(product) + start_size + error < self.largest, error, np.inf))


class BallArithmetic(NamedTuple):
    """The operations in an arithmetic."""

    arithmetic: Arithmetic

    def product(self, *factors: BoundedArray) -> BoundedArray:
        """Return the product of all factors, which may be multiplied in any order.

        With n roundings, it is off by gamma_n(u) of itself, beside what the errors of the factors make of it. Each
        operation may lose eta of its result, and of each operand, which the others multiply. Some of the factors may
        overflow together, and others vanish.
        """
        values, error = factors[0].values, _off(factors[0])
        size = np.abs(values)
        reach = 1 + size + error
        for factor in factors[1:]:
            off, of_factor = _off(factor), np.abs(factor.values)
            error = size * off + of_factor * error + error * off
            values, size, reach = values * factor.values, size * of_factor, reach * (1 + of_factor + off)
        n, u = len(factors) - 1, self.arithmetic.format.u
        error = error + (gamma(n, u) + gamma(n, U64)) * (size + error) + n * self.arithmetic.underflow * reach
        return self._ball(values, error, reach)

    def total(self, *terms: BoundedArray) -> BoundedArray:
        """Return the sum of all terms, which may be added in any order.

        A sum of two has one rounding, of the result. In a longer one, a partial sum is at most the sum of all sizes.
        """
        values: Floats = np.asarray(sum(term.values for term in terms))
        error = sum(_off(term) for term in terms)
        size = sum(np.abs(term.values) for term in terms)
        n, u = len(terms) - 1, self.arithmetic.format.u
        rounded = np.abs(values) if n == 1 else size
        error = error + (gamma(n, u) + gamma(n, U64)) * (rounded + error) + 2 * n * self.arithmetic.underflow
        return self._ball(values, error, size)

    def polynomial(
        self,
        quantities: Mapping[str, BoundedArray],
        terms: Polynomial,
        outer: BoundedArray | None = None,
        mixed: Collection[str] = (),
    ) -> BoundedArray:
        """Return a sum of products of quantities, each of them times ``outer``, in any order and with common factors.

        A number goes through at most one rounding for each operation, of which there are fewer than factors, 1 in 1 - z
        included. Of a ``mixed`` quantity z, which may be taken as 1 - (1 - z), a product is as large as without z, and
        1 - z may be a sigmoid of its own. What the errors of the quantities make of the sum is, up to the products of
        two and more of them, the derivative by each times its error: (1 - z) n moves by 1 - z times what n does.
        """
        operands = quantities if outer is None else {**quantities, OUTER_FACTOR: outer}
        more = () if outer is None else (OUTER_FACTOR,)
        n = sum(len(names) + (abs(coef) != 1 or not names) for names, coef in terms) + len(more)
        slopes: dict[str, Floats] = {}
        values, size, moved, reach, alone = np.zeros((5, *next(iter(operands.values())).values.shape))
        for own, coef in terms:
            names = (*own, *more)
            v, offs = [operands[name].values for name in names], [_off(operands[name]) for name in names]
            sizes, most = [np.abs(value) for value in v], abs(coef)
            farthest = [magnitude + off for magnitude, off in zip(sizes, offs, strict=True)]
            linear = _product(sizes)
            for i, name in enumerate(names):
                slopes[name] = slopes.get(name, np.zeros(())) + coef * _product([*v[:i], *v[i + 1 :]])
                linear = linear + offs[i] * _product([*sizes[:i], *sizes[i + 1 :]])
            values, size = values + coef * _product(v), size + most * _product(farthest)
            moved = moved + most * np.maximum(_product(farthest) - linear, 0)
            reach = reach + max(1.0, most) * _product([1 + bound for bound in farthest])
            for i, name in enumerate(own):
                alone = alone + most * (name in mixed) * _product([*farthest[:i], *farthest[i + 1 :]])
        moved = moved + sum(np.abs(slope) * _off(operands[name]) for name, slope in slopes.items())
        u, eta = self.arithmetic.format.u, self.arithmetic.underflow
        rounded = (gamma(n, u) + 2 * gamma(n + 2, U64)) * (size + alone)
        of_sigmoid = (self.arithmetic.sigmoid_error + self.arithmetic.sigmoid_absolute) * alone
        return self._ball(values, moved + rounded + of_sigmoid + 2 * n * eta * reach, reach)

    def share(self, z: BoundedArray) -> BoundedArray:
        """Return z as a factor of a product p z, p - p (1 - z) included, whose roundings are relative to p: 2 v."""
        return BoundedArray(z.values, np.asarray(_off(z) + 2 * self._v))

    def through(self, rows: BoundedArray, matrix: Matrix) -> BoundedArray:
        """Return rows times a matrix, sums in any order."""
        return self._sum().product(rows, matrix).ball()

    def affine(self, x: BoundedArray, h: BoundedArray, rows: GateParameters) -> BoundedArray:
        """Return W_ih x + b_ih + W_hh h + b_hh, one sum in any order."""
        return (
            self._sum()
            .product(x, rows.ih)
            .plain(BoundedArray(rows.b_ih))
            .product(h, rows.hh)
            .plain(BoundedArray(rows.b_hh))
            .ball()
        )

    def of_state(self, h: BoundedArray, rows: GateParameters) -> BoundedArray:
        """Return W_hh h + b_hh."""
        return self._sum().product(h, rows.hh).plain(BoundedArray(rows.b_hh)).ball()

    def reset(self, x: BoundedArray, h: BoundedArray, r: BoundedArray, rows: GateParameters) -> BoundedArray:
        """Return W_ih x + b_ih + r (W_hh h + b_hh), where r may be inside or outside of the sum that it multiplies."""
        inner = self._sum().product(h, rows.hh).plain(BoundedArray(rows.b_hh)).times(r)
        return inner.product(x, rows.ih).plain(BoundedArray(rows.b_ih)).ball()

    def sigmoid(self, s: BoundedArray) -> BoundedArray:
        """Return 1 / (1 + exp(-s)).

        For |d| <= e it is off by at most a b E / (1 + b E) for a = sigmoid(|s|), b = sigmoid(-|s|) and E = exp(e) - 1:
        nothing cancels in it. b E is exp(e - |s|) and less where e is large, when b may underflow.
        """
        size, e = np.abs(s.values), _off(s)
        small = np.exp(-size)
        a, b = 1 / (1 + small), small / (1 + small)
        values = np.where(s.values >= 0, a, b)
        ratio = np.where(np.less(e, 1), b * np.expm1(np.minimum(e, 1)), np.exp(np.minimum(e - size, LARGEST_EXPONENT)))
        spread = (1 + 16 * U64) * a * ratio / (1 + ratio)
        own = self.arithmetic.sigmoid_error + REFERENCE_SIGMOID_ERROR * U64
        error = spread + own * (values + spread) + self.arithmetic.sigmoid_absolute + self.arithmetic.underflow
        return self._ball(values, np.where(np.isfinite(_off(s)), error, np.inf), values)

    def tanh(self, s: BoundedArray) -> BoundedArray:
        """Return the tanh of s."""
        values = np.tanh(s.values)
        error = applied(s.values, values, np.asarray(_off(s)), "tanh", self.arithmetic) + self.arithmetic.underflow
        return self._ball(values, np.where(np.isfinite(_off(s)), error, np.inf), np.abs(values))

    def less(self, y: BoundedArray) -> BoundedArray:
        """Return 1 - y as a factor of a product.

        The product p (1 - y) may be taken as p - p y, whose roundings are relative to p and not to 1 - y: 2 v of p.
        """
        return BoundedArray(1 - y.values, np.asarray(_off(y) + 2 * self._v))

    def apart(self, a: BoundedArray, b: BoundedArray) -> BoundedArray:
        """Return a - b as a factor of a product, p a - p b included, whose roundings are relative to p a and p b."""
        error = _off(a) + _off(b) + 2 * self._v * (np.abs(a.values) + np.abs(b.values) + _off(a) + _off(b))
        return self._ball(
            a.values - b.values, error + 4 * self.arithmetic.underflow, np.abs(a.values) + np.abs(b.values)
        )

    def sigmoid_slope(self, y: BoundedArray) -> BoundedArray:
        """Return y (1 - y).

        y (1 - y) has two roundings, y - y**2 one of y**2 and one of the result, and a formula of s, such as
        exp(-s) / (1 + exp(-s))**2, six of the result at most, beside the error of y that it does not have.
        """
        values, off = y.values * (1 - y.values), _off(y)
        error = np.abs(1 - 2 * y.values) * off + off * off
        error = error + self._v * (y.values * y.values + 6 * np.abs(values)) + 4 * self.arithmetic.underflow
        return self._ball(values, error, np.abs(values))

    def tanh_slope(self, y: BoundedArray) -> BoundedArray:
        """Return 1 - y**2, whose roundings ``slope_error`` counts with those of a product."""
        values, off = 1 - y.values * y.values, _off(y)
        roundings = slope_error(y.values, np.abs(values), self.arithmetic) * self._v
        return self._ball(values, 2 * np.abs(y.values) * off + off * off + roundings, np.ones_like(values))

    def mix(self, z: BoundedArray, n: BoundedArray, h: BoundedArray) -> BoundedArray:
        """Return (1 - z) n + z h, also as n + z (h - n) or h + (1 - z) (n - h).

        The roundings of these ways are at most 2 (1 - z) |n| + z |h|, 2 z |h - n| and 3 (1 - z) |h - n|, beside that
        of the result. 1 - z may be another sigmoid, with an error of its own.
        """
        rest, size_n, size_h = 1 - z.values, np.abs(n.values), np.abs(h.values)
        between, values = np.abs(h.values - n.values), rest * n.values + z.values * h.values
        moved = (size_n + size_h + _off(n) + _off(h)) * _off(z) + rest * _off(n) + z.values * _off(h)
        ways = (2 * rest * size_n + z.values * size_h, 2 * z.values * between, 3 * rest * between)
        rounded = np.maximum.reduce(ways) + np.abs(values) + 2 * moved
        error = moved + self._v * (1 + 4 * self.arithmetic.format.u) * rounded + 4 * self.arithmetic.underflow
        return self._ball(values, error, size_n + size_h)

    def line(self, slope: BoundedArray, start: BoundedArray) -> AffineMap:
        """Return c -> slope c + start, one product and one sum; what does not depend on c is computed once."""
        u, eta = self.arithmetic.format.u, self.arithmetic.underflow
        own, size, off = gamma(1, u) + gamma(1, U64), np.abs(slope.values), _off(slope)
        most = size + off
        parts = (
            slope.values,
            start.values,
            size,
            off + own * most + eta * (1 + most),
            _off(start) + eta * (3 + most),
            np.abs(start.values),
        )
        return AffineMap(parts, own, self.arithmetic.format.largest)

    def before_tanh(self, h: Floats, o: BoundedArray) -> tuple[Floats, Floats]:
        """Return the least and the most that c may be, given the subject's own h = o tanh(c).

        |tanh(c)| as the subject has it is between |h| / (o + e_o) and |h| / (o - e_o), up to the roundings of the
        product and of tanh itself. Where the second is 1 or more, c may be as large as it likes.
        """
        if self.arithmetic.accepted.rtol or self.arithmetic.accepted.atol:
            return np.full_like(h, -np.inf), np.full_like(h, np.inf)
        eta = 4 * self.arithmetic.underflow
        off = self.arithmetic.tanh_error + 2 * self.arithmetic.format.u + 16 * U64
        least, most = o.values - _off(o), o.values + _off(o)
        low = np.maximum(np.abs(h) - eta, 0) / most * (1 - off) - self.arithmetic.tanh_absolute
        high = (np.abs(h) + eta) / np.where(least > 0, least, 1.0) * (1 + off) + self.arithmetic.tanh_absolute
        near = np.arctanh(np.clip(low, 0, 1 - U64)) * (1 - 16 * U64)
        far = np.where((high < 1) & (least > 0), np.arctanh(np.where(high < 1, high, 0.0)) * (1 + 16 * U64), np.inf)
        first = np.where(near > 0, np.where(h > 0, near, -far), -far)
        return first, np.where(near > 0, np.where(h > 0, far, -near), far)

    def within(self, c: BoundedArray, first: Floats, last: Floats) -> BoundedArray:
        """Return what of c lies between two bounds; c itself where they tell nothing."""
        error = _off(c)
        first, last = np.maximum(first, c.values - error), np.minimum(last, c.values + error)
        half = (last - first) / 2
        narrower = (half >= 0) & (half < error)
        values = np.where(narrower, first + half, c.values)
        return BoundedArray(values, np.where(narrower, half + 4 * U64 * np.abs(values), error))

    def _sum(self) -> Sum:
        return Sum(self.arithmetic, 0, 0, soft=False)

    @property
    def _v(self) -> float:
        return self.arithmetic.format.u + U64

    def _ball(self, values: Floats, error: Floats | float, size: Floats | float) -> BoundedArray:
        """Return a ball; anything may be where a partial result may overflow, or was NaN."""
        with np.errstate(invalid="ignore"):
            return BoundedArray(values, np.where(size + error < self.arithmetic.format.largest, error, np.inf))


def _product(factors: Iterable[Floats]) -> Floats:
    made: Floats = np.asarray(reduce(mul, factors, np.ones(())))
    return made


def _off(ball: BoundedArray) -> Floats | float:
    return 0.0 if ball.error is None else ball.error
