"""ball: numbers with a bound on their error, on which the identified layer runs as it runs on arrays.

Model, as in ``oracle.tolerance``: each operation of the subject returns its exact result times (1 + d), |d| <= u, or
something within eta of it where that underflows; sums are taken in any order. A ``Ball`` is the value that float64
gives, and the most that a subject's may be off, with what the operands were off already.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.oracle.arithmetic import U64
from harness.oracle.bound import np
from harness.oracle.known import Floats


class Rounding(NamedTuple):
    """The roundings of a subject: unit roundoff, smallest and largest number, and the error of its functions in u."""

    u: float
    eta: float
    largest: float
    function: float

    @property
    def each(self) -> float:
        """The relative error of one operation, the reference's own included."""
        return self.u + U64


class Ball:
    """Values, and the error that each may have: arrays of one shape."""

    __array_ufunc__ = None  # so that ``array @ ball`` asks the ball

    def __init__(self, value: Any, error: Any, rounding: Rounding) -> None:
        self.value = np.asarray(value, np.float64)
        error = np.asarray(error, np.float64)
        self.error = error if error.shape == self.value.shape else np.broadcast_to(error, self.value.shape)
        self.rounding = rounding

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self.value.shape

    @property
    def T(self) -> Ball:
        """The transposed ball."""
        return Ball(self.value.T, self.error.T, self.rounding)

    def __getitem__(self, index: Any) -> Ball:
        return Ball(self.value[index], self.error[index], self.rounding)

    def _rounded(self, value: Floats, error: Floats) -> Ball:
        return Ball(value, error + self.rounding.each * (np.abs(value) + error) + self.rounding.eta, self.rounding)

    def _other(self, other: Any) -> tuple[Floats, Floats]:
        if isinstance(other, Ball):
            return other.value, other.error
        other = np.asarray(other, np.float64)
        return other, np.zeros_like(other)

    def __add__(self, other: Any) -> Ball:
        value, error = self._other(other)
        return self._rounded(self.value + value, self.error + error)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Ball:
        value, error = self._other(other)
        off = np.abs(self.value) * error + np.abs(value) * self.error + self.error * error
        return self._rounded(self.value * value, off)

    __rmul__ = __mul__

    def __matmul__(self, other: Any) -> Ball:
        value, error = self._other(other)
        return self._product(self.value, self.error, value, error)

    def __rmatmul__(self, other: Any) -> Ball:
        value, error = self._other(other)
        return self._product(value, error, self.value, self.error)

    def _product(self, a: Floats, a_error: Floats, b: Floats, b_error: Floats) -> Ball:
        size = np.abs(a) @ np.abs(b)
        off = np.abs(a) @ b_error + a_error @ np.abs(b) + a_error @ b_error
        terms = a.shape[-1] + 2
        return Ball(a @ b, off + 2 * terms * (self.rounding.each * (size + off) + self.rounding.eta), self.rounding)

    def sum(self, axis: Any = None) -> Ball:
        """Return the sum along an axis, taken in any order."""
        terms = self.value.size if axis is None else self.value.shape[axis]
        size, off = np.abs(self.value).sum(axis), self.error.sum(axis)
        return Ball(self.value.sum(axis), off + 2 * terms * self.rounding.each * (size + off), self.rounding)

    def mapped(self, function: Any, steepest: float) -> Ball:
        """Return a function of each value, which is nowhere steeper than ``steepest``."""
        value = function(self.value)
        off = steepest * self.error
        return Ball(
            value, off + (self.rounding.function * self.rounding.u + 4 * U64) * (np.abs(value) + off), self.rounding
        )

    def between(self, function: Any) -> Ball:
        """Return a function of each value that never falls: its two ends bound all that lies between."""
        value = function(self.value)
        ends = [np.abs(function(self.value + by) - value) for by in (-self.error, self.error)]
        off = np.maximum(*ends)
        rounded = np.where(value == 0, 0.0, self.rounding.function * self.rounding.u + 4 * U64)
        return Ball(value, off + rounded * (np.abs(value) + off), self.rounding)

    def jumped(self, function: Any) -> Ball:
        """Return a function of each value that jumps from one constant to another where its argument is 0."""
        value = function(self.value)
        return Ball(value, np.where(np.abs(self.value) <= self.error, 1.0, 0.0) * (self.error > 0), self.rounding)

    def clipped(self, limit: float) -> Ball:
        """Return the values, none beyond a limit on either side."""
        return Ball(np.clip(self.value, -limit, limit), self.error, self.rounding)
