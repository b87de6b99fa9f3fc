"""ball: numbers with a bound on their error, on which the identified layer runs as it runs on arrays.

Model, as in ``oracle.tolerance``: each operation of the subject returns its exact result times (1 + d), |d| <= u, or
something within eta of it where that underflows; sums are taken in any order. A ``Ball`` is the value that float64
gives, and the most that a subject's may be off, with what the operands were off already.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.oracle.arithmetic_assumptions import U64
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np


class SubjectRounding(NamedTuple):
    """The roundings of a subject: unit roundoff, smallest and largest number, and the error of its functions in u."""

    u: float
    eta: float
    largest: float
    function: float

    @property
    def each(self) -> float:
        """The relative error of one operation, the reference's own included."""
        return self.u + U64


class OnTape:
    """The base of numbers on a tape: the tape records an operation that a ball has with one of them."""


class Ball:
    """Values, and the error that each may have: arrays of one shape."""

    __array_ufunc__ = None  # so that ``array @ ball`` asks the ball

    def __init__(self, value: Any, error: Any, rounding: SubjectRounding) -> None:
        self.value = value = np.asarray(value, np.float64)
        error = np.asarray(error, np.float64)
        self.error = error if error.shape == value.shape else np.broadcast_to(error, value.shape)
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

    def _rounded(self, value: Floats, error: Any) -> Ball:
        size = np.abs(value)
        size += error
        size *= self.rounding.each
        size += error
        size += self.rounding.eta
        return Ball(value, size, self.rounding)

    def __add__(self, other: Any) -> Ball:
        if isinstance(other, OnTape):
            return NotImplemented
        if isinstance(other, Ball):
            return self._rounded(self.value + other.value, self.error + other.error)
        return self._rounded(self.value + other, self.error)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Ball:
        if isinstance(other, OnTape):
            return NotImplemented
        if isinstance(other, Ball):
            off = (np.abs(self.value) + self.error) * other.error
            off += np.abs(other.value) * self.error
            return self._rounded(self.value * other.value, off)
        return self._rounded(self.value * other, np.abs(other) * self.error)

    __rmul__ = __mul__

    def __matmul__(self, other: Any) -> Ball:
        if isinstance(other, OnTape):
            return NotImplemented
        return self._product(self, other)

    def __rmatmul__(self, other: Any) -> Ball:
        return self._product(other, self)

    def _product(self, a: Any, b: Any) -> Ball:
        a, a_error = (a.value, a.error) if isinstance(a, Ball) else (np.asarray(a, np.float64), None)
        b, b_error = (b.value, b.error) if isinstance(b, Ball) else (np.asarray(b, np.float64), None)
        a_size, b_size = np.abs(a), np.abs(b)
        size = a_size @ b_size
        off = 0.0 if a_error is None else a_error @ b_size
        off = off if b_error is None else off + (a_size if a_error is None else a_size + a_error) @ b_error
        rounded = self.rounding.each * (size + off) + self.rounding.eta
        return Ball(a @ b, off + 2 * (a.shape[-1] + 2) * rounded, self.rounding)

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
