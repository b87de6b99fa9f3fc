"""sums: the sums of products, and the products with phi', that gradients are made of, each with its allowance.

A gradient, one step back, is a sum of products of what is known of the subject, times phi' at
its own state.

Sums. They are bounded as in ``tolerance``. The subject stores at most each product and each partial sum of them in 16
bits on the way.

Slopes. With an error e of dh, an error e' of phi' and a relative error r of the roundings (``slope_error``), dh phi' is
off by at most (phi' + e') e + |dh| e' + (|dh| + e) r. For tanh e' = 2 |h| e_h + e_h**2 where h is off by e_h. For relu
phi' is exact, unless e_h reaches over 0: then all of dh may pass, or none of it. The same is true where a subject that
computes in a wider format had a positive state and returned 0, because the state underflowed. That may be where h = 0
and s is within an underflow of 0, widened by what s loses through the rounding of its operands, and through their
underflow. States that are not finite exempt whatever they reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from harness.oracle.arithmetic import U64, Arithmetic
from harness.oracle.bound import np
from harness.oracle.equation import Equation
from harness.oracle.expected import Expected, Index, Setting
from harness.oracle.known import Floats, Known, write_steps
from harness.oracle.tolerance import (
    Products,
    gamma,
    loosened,
    row_sum,
    slope_error,
    soft_floor,
    sum_allowance,
    sum_growth,
)


class Slopes(NamedTuple):
    """The slope phi' (.., H), how far it may be off, and the relative error of rounding it and the product with it."""

    slope: Floats
    off: Floats
    relative: Floats


class Matrix(NamedTuple):
    """A matrix (m, K), how far it may be off, its absolute values, their sums over m, and the most terms of a sum."""

    values: Floats
    error: Floats | None
    size: Floats
    columns: Floats
    terms: int

    @classmethod
    def of(cls, values: Floats, error: Floats | None = None) -> Matrix:
        size = np.abs(values)
        terms = len(values) if error is not None else int(np.count_nonzero(values, axis=0).max(initial=0))
        return cls(values, error, size, size.sum(0), terms)


def _added(total: Floats | None, array: Floats | None) -> Floats | None:
    return total if array is None else array if total is None else total + array


class Sum:
    """A sum of products under construction, elementwise (.., K): its value, and all that its allowance needs."""

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
        self._m, self._parts = rounded, 0
        self._exact = True
        self._pieces: list[Callable[[Index], tuple[Floats, Floats]]] = []

    def plain(self, known: Known) -> Sum:
        """Add an array itself."""
        self._add(known.values, np.abs(known.values), known.error, None, 1)
        self._pieces.append(lambda i: (np.atleast_1d(known.values[i]), np.ones(1)))
        return self

    def product(self, rows: Known, matrix: Matrix) -> Sum:
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

    def times(self, factor: Known) -> Sum:
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

    def ball(self) -> Known:
        """Return the sum's value and allowance, to go on with; what a user accepts of results is no part of it."""
        return Known(self._values, sum_allowance(self._products(), self._arithmetic))

    @property
    def values(self) -> Floats:
        """The sum's value."""
        return self._values

    def growth(self) -> tuple[float, Floats]:
        """Return how much the allowance grows with every unit carried, and the limit below which that holds."""
        return sum_growth(self._products(), self._arithmetic)

    def _products(self) -> Products:
        assert self._magnitude is not None
        carried, operands = (0.0 if array is None else array for array in (self._carried, self._operands))
        return Products(self._magnitude, self._m, carried, operands, self._stored + 2 * self._parts)

    def bounded(self) -> Expected:
        """Return the sum's value and allowance, without a word of the soft model."""
        allowance = sum_allowance(self._products(), self._arithmetic)
        return Expected(self._values, loosened(allowance, self._values, self._arithmetic))

    def expected(self) -> Expected:
        """Return the sum's value and allowance."""
        bounded, values = self.bounded(), self._values
        if not (self._soft and self._exact):
            return bounded
        assert self._magnitude is not None
        floor = soft_floor(values, values, self._magnitude, "identity", self._arithmetic)
        return Expected(values, bounded.allowance, floor, self._equation)

    def _add(self, values: Floats, magnitude: Floats, carried: Floats | None, operands: Floats | None, m: int) -> None:
        self._values = self._values + values
        self._magnitude = _added(self._magnitude, magnitude)
        self._carried = _added(self._carried, carried)
        self._operands = _added(self._operands, operands)
        self._exact = self._exact and carried is None
        self._m += m
        self._parts += 1

    def _equation(self, index: Index) -> Equation:
        pieces = [piece(index) for piece in self._pieces]
        a, b = (np.concatenate(side) for side in zip(*pieces, strict=True))
        return Equation(a, b, groups=tuple(piece[0].size for piece in pieces))


def slopes_at(setting: Setting, at: tuple[int, int], state: Known, x: Floats) -> Slopes:
    """Return phi' at the states (T, N, H) of a layer and direction that reads x, with its error."""
    reference, (_, case, arithmetic) = setting.elman, setting
    kind, h, u = reference.slope_of(case.config, at[0]), state.values, arithmetic.format.u
    if "slopes" not in reference.changed:
        slope = reference.slope(h, kind)
    else:  # a fault's slope need not be that of the states
        slope = reference.slopes(case, at, x, reference.previous_states(case, *at, h), h)
    off = np.zeros(h.shape)
    relative: Any = np.zeros(h.shape)
    if kind == "tanh":
        if state.error is not None:
            off = 2 * np.abs(h) * state.error + state.error**2
        relative = slope_error(h, slope, arithmetic) * (arithmetic.sum_u + 2 * U64)
        if arithmetic.wide:
            relative = relative * (1 + u) + u * (np.abs(slope) + off)
    elif kind == "relu" and state.error is not None:
        off = (np.abs(h) <= state.error).astype(np.float64)
    elif kind == "relu":
        off = ((h == 0) & _vanishing(setting, at, h, x)).astype(np.float64)
    off[~np.isfinite(h)] = np.inf
    return Slopes(slope, off, relative)


def through_slope(
    given: Expected, slopes: Slopes, arithmetic: Arithmetic, exact: tuple[Floats, str] | None = None
) -> Expected:
    """Return the product with phi', for rows of both.

    ``exact`` holds the states and the name of phi, where the states and the operands of the sum are the subject's own.
    """
    values = given.values * slopes.slope
    size, e, off, relative = np.abs(given.values), given.allowance, slopes.off, slopes.relative
    under = 2 * arithmetic.underflow
    allowance = (np.abs(slopes.slope) + off) * e + size * off + (size + e) * relative + under * (2 + size)
    allowance[np.isnan(allowance)] = np.inf  # 0 times inf
    allowance = loosened(allowance, values, arithmetic)
    equation = given.equation
    if equation is None or exact is None:
        return Expected(values, allowance)
    h, kind = exact

    def with_slope(index: Index) -> Equation:
        return equation(index)._replace(state=float(h[index]), nonlinearity=kind)

    floor = None if given.floor is None else np.where(slopes.off > 0, np.inf, given.floor * slopes.slope)
    return Expected(values, allowance, floor, with_slope)


def through_slope_growth(
    given: tuple[float, Floats], sums: Expected, slopes: Slopes, arithmetic: Arithmetic
) -> tuple[Floats, Floats]:
    """Return how much the allowance of ``through_slope`` grows with what is carried to ``sums``, and up to which limit.

    ``given`` is ``Sum.growth`` of these sums. Where an allowance is infinite already, the limit is below 0.
    """
    growth, limit = given
    loose = 1 + arithmetic.accepted.rtol
    growth, steep = growth * loose, np.abs(slopes.slope) + slopes.off
    grows = (steep + slopes.relative) * (growth * loose)
    sure = np.isfinite(grows) & np.isfinite(sums.allowance)
    return np.where(sure, grows, 0.0), np.where(sure, limit, -1.0)


def _vanishing(setting: Setting, at: tuple[int, int], h: Floats, x: Floats) -> NDArray[np.bool_]:
    """Tell where s, at the subject's own operands, may be positive and so small that underflow loses it.

    Operands may have been lost in the same way: states of this layer, and of the layer below.
    """
    reference, (_, case, arithmetic) = setting.elman, setting
    w, previous = reference.step_weights(case, *at), reference.previous_states(case, *at, h)
    s = reference.preactivation(x, previous, w)
    sizes = (row_sum(np.abs(rows)) * np.abs(matrix).max(initial=0) for rows, matrix in ((x, w.ih), (previous, w.hh)))
    m, tiny = x.shape[-1] + h.shape[-1] + 2, arithmetic.underflow
    slack = (gamma(m + 1, arithmetic.format.u) + gamma(m, U64)) * (sum(sizes) + np.abs(w.b_ih) + np.abs(w.b_hh))
    lost = np.abs(previous) <= tiny
    # The initial state is the caller's own, and was not lost.
    write_steps(lost, reference.first_step(case.config, at[1]), np.zeros(lost.shape[1:]))
    slack = slack + tiny * (lost @ np.abs(w.hh).T)
    if at[0]:
        slack = slack + tiny * ((np.abs(x) <= tiny) @ np.abs(w.ih).T)
    return np.asarray((s + slack > 0) & (s <= tiny + slack))


def flattened(array: Floats) -> Floats:
    """Return (T, N, K) as (T*N, K)."""
    return array.reshape(-1, array.shape[-1])


def single_column(expected: Expected) -> Expected:
    """Return (K, 1) as (K)."""
    equation, floor = expected.equation, expected.floor
    return Expected(
        expected.values[:, 0],
        expected.allowance[:, 0],
        None if floor is None else floor[:, 0],
        None if equation is None else lambda index: equation((*index, 0)),
    )
