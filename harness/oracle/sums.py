"""sums: the sums of products that gradients are made of, each with its tolerance.

They are bounded as in ``tolerance``. The subject stores at most each product and each partial sum of them in 16
bits on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.bounded_array import BoundedArray, Count, Floats
from harness.oracle.element_equation import ElementEquation
from harness.oracle.expected import ExpectedArray, Index
from harness.oracle.pinned_numpy import np
from harness.oracle.tolerance import DotProductFigures, loosened, row_sum, soft_floor, sum_growth, sum_tolerance


class Matrix(NamedTuple):
    """A matrix (m, K), how far it may be off, its absolute values, their sums over m, and the most terms of a sum.

    The last is one number for all sums, or one for each.
    """

    values: Floats
    error: Floats | None
    size: Floats
    columns: Floats
    terms: Count

    @classmethod
    def of(cls, values: Floats, error: Floats | None = None) -> Matrix:
        size = np.abs(values)
        terms = len(values) if error is not None else int(np.count_nonzero(values, axis=0).max(initial=0))
        return cls(values, error, size, size.sum(0), terms)

    @classmethod
    def with_ones(cls, values: Floats, error: Floats | None) -> Matrix:
        """Return a matrix with a column of ones behind its own, as a bias is multiplied."""
        m, K = values.shape
        every = np.ones((m, K + 1))
        every[:, :K] = values
        size, terms = np.abs(every), m if error is not None or values.all() else np.count_nonzero(every, axis=0)
        if not isinstance(terms, int):
            terms[:K] = terms[:K].max(initial=0)
        wide = None if error is None else np.hstack([error, np.zeros((m, 1))])
        return cls(every, wide, size, size.sum(0), terms)

    @classmethod
    def of_columns(cls, values: Floats) -> Matrix:
        """Return a matrix of which each column is a sum of its own."""
        size = np.abs(values)
        return cls(values, None, size, size.sum(0), np.count_nonzero(values, axis=0))

    def part(self, columns: slice) -> Matrix:
        """Return some columns of a matrix of columns."""
        values, _, size, sums, terms = self
        assert not isinstance(terms, int)
        return Matrix(values[:, columns], None, size[:, columns], sums[columns], terms[columns])


def _added(total: Floats | None, array: Floats | None) -> Floats | None:
    return total if array is None else array if total is None else total + array


class Sum:
    """A sum of products under construction, elementwise (.., K): its value, and all that its tolerance needs."""

    def __init__(self, arithmetic: Arithmetic, stored: int, rounded: int, *, soft: bool) -> None:
        """Begin an empty sum.

        ``stored`` is how often a partial result may be rounded to 16 bits, beyond once for each part and each addition.
        ``rounded`` is how many operands of a product may be off by a rounding, in a subject that computes more
        precisely than it returns; one is always paid for. ``soft`` says that the soft model applies.
        """
        self._arithmetic, self._stored, self._soft = arithmetic, stored, soft
        self._values: Floats = np.zeros(())
        self._magnitude: Floats | None = None
        self._carried: Floats | None = None
        self._operands: Floats | None = None
        self._m: Count = rounded
        self._parts = 0
        self._exact = True
        self._pieces: list[Callable[[Index], tuple[Floats, Floats]]] = []

    def plain(self, ball: BoundedArray) -> Sum:
        """Add an array itself."""
        self._add(ball.values, np.abs(ball.values), ball.error, None, 1)
        self._pieces.append(lambda i: (np.atleast_1d(ball.values[i]), np.ones(1)))
        return self

    def product(self, rows: BoundedArray, matrix: Matrix) -> Sum:
        """Add rows (.., m) times a matrix (m, K)."""
        size_a = np.abs(rows.values)
        carried = None
        if rows.error is not None:
            carried = rows.error @ matrix.size
        if matrix.error is not None:
            moved = (size_a if rows.error is None else size_a + rows.error) @ matrix.error
            carried = moved if carried is None else carried + moved
        operands = row_sum(size_a) + matrix.columns
        self._add(rows.values @ matrix.values, size_a @ matrix.size, carried, operands, matrix.terms)
        self._pieces.append(lambda i: (rows.values[i[:-1]], matrix.values[:, i[-1]]))
        return self

    def scaled(self, scale: Callable[[Floats], Floats], roundings: int) -> Sum:
        """Replace the sum by what ``scale`` makes of it as it is now, at the price of so many more roundings.

        A sum that may overflow enters ``scale`` as an infinity, which dropout may turn into 0.
        """
        products = self._products()
        finite = products.magnitude + products.carried < self._arithmetic.format.largest
        with np.errstate(invalid="ignore"):
            self._values, self._magnitude, self._carried = (
                scale(np.where(finite, array, np.inf)) for array in (self._values, products.magnitude, products.carried)
            )
        self._m += roundings
        self._exact = False
        return self

    def times(self, factor: BoundedArray) -> Sum:
        """Multiply the sum as it is now, or each of its terms, at the price of a rounding more."""
        off = np.zeros(()) if factor.error is None else factor.error
        size, products = np.abs(factor.values) + off, self._products()
        finite = products.magnitude + products.carried < self._arithmetic.format.largest
        assert self._magnitude is not None
        self._carried = np.where(finite, size * products.carried + np.abs(self._values) * off, np.inf)
        self._values, self._magnitude = self._values * factor.values, size * self._magnitude
        self._m, self._parts, self._exact = self._m + 1, self._parts + 1, False
        return self

    def at(self, t: int) -> Sum:
        """Return the sum (N, K) of one time step, of (T, N, K)."""
        own = Sum(self._arithmetic, self._stored, 0, soft=False)
        arrays = (self._values, self._magnitude, self._carried, self._operands)
        steps = [array[t] if array is not None and array.ndim > 2 else array for array in arrays]
        own._values = np.zeros(()) if steps[0] is None else steps[0]
        own._magnitude, own._carried, own._operands = steps[1:]
        own._m, own._parts, own._exact = self._m, self._parts, False
        return own

    def ball(self) -> BoundedArray:
        """Return the sum's value and tolerance, to go on with; what a user accepts of results is no part of it."""
        return BoundedArray(self._values, sum_tolerance(self._products(), self._arithmetic))

    @property
    def values(self) -> Floats:
        """The sum's value."""
        return self._values

    def growth(self) -> tuple[float, Floats]:
        """Return how much the tolerance grows with every unit carried, and the limit below which that holds."""
        return sum_growth(self._products(), self._arithmetic)

    def _products(self) -> DotProductFigures:
        assert self._magnitude is not None
        carried, operands = (0.0 if array is None else array for array in (self._carried, self._operands))
        return DotProductFigures(self._magnitude, self._m, carried, operands, self._stored + 2 * self._parts)

    def bounded(self) -> ExpectedArray:
        """Return the sum's value and tolerance, without a word of the soft model."""
        tolerance = sum_tolerance(self._products(), self._arithmetic)
        return ExpectedArray(self._values, loosened(tolerance, self._values, self._arithmetic))

    def expected(self) -> ExpectedArray:
        """Return the sum's value and tolerance."""
        bounded, values = self.bounded(), self._values
        if not (self._soft and self._exact):
            return bounded
        assert self._magnitude is not None
        floor = soft_floor(values, values, self._magnitude, "identity", self._arithmetic)
        return ExpectedArray(values, bounded.tolerance, floor, self._equation)

    def _add(
        self, values: Floats, magnitude: Floats, carried: Floats | None, operands: Floats | None, m: Count
    ) -> None:
        self._values = self._values + values
        self._magnitude = _added(self._magnitude, magnitude)
        self._carried = _added(self._carried, carried)
        self._operands = _added(self._operands, operands)
        self._exact = self._exact and carried is None
        self._m = self._m + m  # not in place: it may be a matrix's own
        self._parts += 1

    def _equation(self, index: Index) -> ElementEquation:
        pieces = [piece(index) for piece in self._pieces]
        a, b = (np.concatenate(side) for side in zip(*pieces, strict=True))
        return ElementEquation(a, b, groups=tuple(piece[0].size for piece in pieces))


def flattened(array: Floats) -> Floats:
    """Return (T, N, K) as (T*N, K)."""
    return array.reshape(-1, array.shape[-1])


def without_last_column(expected: ExpectedArray) -> ExpectedArray:
    """Return (N, K + 1) as (N, K)."""
    floor = None if expected.floor is None else expected.floor[:, :-1]
    return ExpectedArray(expected.values[:, :-1], expected.tolerance[:, :-1], floor, expected.equation)


def last_column(expected: ExpectedArray) -> ExpectedArray:
    """Return the last column (N) of (N, K)."""
    equation, floor, last = expected.equation, expected.floor, expected.values.shape[1] - 1
    return ExpectedArray(
        expected.values[:, last],
        expected.tolerance[:, last],
        None if floor is None else floor[:, last],
        None if equation is None else lambda index: equation((*index, last)),
    )
