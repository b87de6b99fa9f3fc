"""ball: numbers with a bound on their error, on which the identified layer runs as it runs on arrays.

Model, as in ``oracle.tolerance``: each operation of the subject returns its exact result times (1 + d), |d| <= u, or
something within eta of it where that underflows; sums are taken in any order. A ``Ball`` is the value that float64
gives, and the most that a subject's may be off, with what the operands were off already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from harness.diagnosis.identify.array_protocol import ArrayProtocol, ElementFunction, OnTape
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


class Ball(ArrayProtocol):
    """Values, and the error that each may have: arrays of one shape."""

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

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Ball:
        """Return the sum along an axis, taken in any order."""
        terms = self.value.size if axis is None else self.value.shape[axis]
        value, size, off = (v.sum(axis, keepdims=keepdims) for v in (self.value, np.abs(self.value), self.error))
        return Ball(value, off + 2 * terms * self.rounding.each * (size + off), self.rounding)

    def __lt__(self, other: float) -> Ball:
        return self._compared(self.value < other, other)

    def __gt__(self, other: float) -> Ball:
        return self._compared(self.value > other, other)

    def _compared(self, holds: Any, other: float) -> Ball:
        """Return 1 where a comparison holds, and 0 elsewhere; near the other number, it may be either."""
        return Ball(holds, (np.abs(self.value - other) <= self.error) & (self.error > 0), self.rounding)

    def mapped(self, function: Callable[[Any], Any], kind: ElementFunction) -> Ball:
        """Return a function of each value."""

        def at(v: Floats) -> Floats:
            made: Floats = function(v if kind.least == -np.inf else np.maximum(v, kind.least))
            return made

        value = at(self.value)
        if kind.steepest < np.inf:
            off = kind.steepest * self.error
        else:
            off = np.maximum(*(np.abs(at(self.value + by) - value) for by in (-self.error, self.error)))
        if function is np.reciprocal:  # beside a number that may be 0, it has no end
            off = np.where(np.abs(self.value) <= self.error, np.inf, off)
        rounded = 0.0 if kind.exact else self.rounding.function * self.rounding.u + 4 * U64
        return Ball(value, off + rounded * (np.abs(value) + off), self.rounding)

    def moved(self, change: Callable[[Sequence[Any]], Any], parts: Sequence[Any]) -> Ball:
        """Return the numbers of some arrays in other places, zeros among them."""
        values = [part.value if isinstance(part, Ball) else part for part in parts]
        errors = [part.error if isinstance(part, Ball) else np.zeros(np.shape(part)) for part in parts]
        return Ball(change(values), change(errors), self.rounding)
