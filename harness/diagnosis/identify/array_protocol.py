"""array_protocol: NumPy's functions of numbers that are no arrays: of balls, which have bounds, and of tapes.

So a line of NumPy is evaluated over either as it is over arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from operator import mul
from typing import Any, Final, NamedTuple

from harness.oracle.pinned_numpy import np


class ElementFunction(NamedTuple):
    """A function of each number: its slope, for tapes; for balls how steep it is, or that its two ends bound it."""

    slope: Callable[[Any], Any]
    steepest: float = math.inf  # at most; infinity if it rises, or falls, wherever it is defined
    exact: bool = False  # whether nothing is rounded
    least: float = -math.inf  # the number from which on it is defined


class ArrayProtocol:
    """What a ball and a tape have of an array, made of their own ``+``, ``*``, ``@``, indices, ``T`` and ``sum``."""

    shape: Any
    sum: Any
    __add__: Any
    __mul__: Any

    def __array_ufunc__(self, function: Any, method: str, *operands: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            return NotImplemented
        if function in ELEMENT_FUNCTIONS:
            return self.mapped(function, ELEMENT_FUNCTIONS[function])
        if function in (np.maximum, np.minimum):
            limit = operands[1]
            # The subject's own dtype may hold another limit: 0.9 is none of float32's numbers.
            exact = not isinstance(limit, float) or float(np.float16(limit)) == limit
            kind = ElementFunction(lambda v: v > limit if function is np.maximum else v < limit, exact=exact)
            return self.mapped(lambda v: function(v, limit), kind)
        return getattr(operands[1], REFLECTED[function])(operands[0]) if function in REFLECTED else NotImplemented

    def __array_function__(self, function: Any, _types: Any, arguments: Any, options: Any) -> Any:
        if function in MOVES:
            several = isinstance(arguments[0], list | tuple)
            parts = arguments[0] if several else arguments[:1]

            def change(arrays: Sequence[Any]) -> Any:
                return function(arrays if several else arrays[0], *arguments[1:], **options)

            return _lead(parts).moved(change, parts)
        return FUNCTIONS[function](*arguments, **options) if function in FUNCTIONS else NotImplemented

    def mapped(self, function: Callable[[Any], Any], kind: ElementFunction) -> Any:
        """Return a function of each number."""
        raise NotImplementedError

    def moved(self, change: Callable[[Sequence[Any]], Any], parts: Sequence[Any]) -> Any:
        """Return the numbers of some arrays in other places, zeros among them."""
        raise NotImplementedError

    def __neg__(self) -> Any:
        return self * -1.0

    def __sub__(self, other: Any) -> Any:
        return self + other * -1.0

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __truediv__(self, other: Any) -> Any:
        return self * (1 / other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.mapped(np.reciprocal, ELEMENT_FUNCTIONS[np.reciprocal]) * other

    def __pow__(self, power: int) -> Any:
        return reduce(mul, [self] * power)

    def mean(self, axis: int, *, keepdims: bool = False) -> Any:
        """Return the mean along an axis."""
        return self.sum(axis, keepdims=keepdims) / max(1, self.shape[axis])

    def take(self, indices: Any, axis: int) -> Any:
        """Return the numbers at some places of an axis."""
        return np.take(self, indices, axis)  # type: ignore[call-overload]

    def cumsum(self, axis: int) -> Any:
        """Return the sums of the first numbers along an axis."""
        return np.stack([self.take(range(k + 1), axis).sum(axis) for k in range(self.shape[axis])], axis)

    def reshape(self, *shape: Any) -> Any:
        """Return the numbers in another shape."""
        return np.reshape(self, shape[0] if isinstance(shape[0], tuple) else shape)  # type: ignore[call-overload]

    def swapaxes(self, first: int, second: int) -> Any:
        """Return the array with two axes exchanged."""
        return np.swapaxes(self, first, second)  # type: ignore[call-overload]


class OnTape(ArrayProtocol):
    """The base of numbers on a tape: the tape records an operation that a ball has with one of them."""


def sigmoid(v: Any) -> Any:
    """1 / (1 + exp(-v)), exact to some roundings on either side."""
    if isinstance(v, ArrayProtocol):
        return v.mapped(sigmoid, ELEMENT_FUNCTIONS[sigmoid])
    e = np.exp(-np.abs(v))
    return np.where(v >= 0, 1, e) / (1 + e)


def _chosen(where: Any, *parts: Any) -> Any:
    if isinstance(where, ArrayProtocol):  # near the end of what it compares, either may be chosen
        return where * parts[0] + (1 - where) * parts[1]
    return _lead(parts).moved(lambda arrays: np.where(where, *arrays), parts)


def _lead(parts: Sequence[Any]) -> Any:
    """Return a number on a tape, if one is, or else one with bounds."""
    return max((part for part in parts if isinstance(part, ArrayProtocol)), key=lambda part: isinstance(part, OnTape))


def _differences(v: Any, axis: int, prepend: Any) -> Any:
    whole, size = np.concatenate([prepend, v], axis), v.shape[axis]
    return whole.take(range(1, size + 1), axis) - whole.take(range(size), axis)


ELEMENT_FUNCTIONS: Final[dict[Any, ElementFunction]] = {
    np.abs: ElementFunction(np.sign, 1.0, exact=True),
    np.sign: ElementFunction(lambda v: 0 * v, exact=True),
    np.tanh: ElementFunction(lambda v: 1 - np.tanh(v) ** 2),
    sigmoid: ElementFunction(lambda v: sigmoid(v) * (1 - sigmoid(v))),
    np.exp: ElementFunction(np.exp),
    np.sqrt: ElementFunction(lambda v: 0.5 / np.sqrt(v), least=0.0),
    np.cos: ElementFunction(lambda v: -np.sin(v), 1.0),
    np.sin: ElementFunction(np.cos, 1.0),
    np.reciprocal: ElementFunction(lambda v: -1 / v**2),
}
# The methods for an array on the left.
REFLECTED: Final = {
    np.add: "__radd__",
    np.subtract: "__rsub__",
    np.multiply: "__rmul__",
    np.true_divide: "__rtruediv__",
    np.matmul: "__rmatmul__",
}
MOVES: Final = frozenset((
    *(np.roll, np.flip, np.take, np.reshape, np.swapaxes, np.tril, np.triu, np.diag),
    *(np.stack, np.concatenate, np.hstack),
))  # fmt: skip
FUNCTIONS: Final[dict[Any, Callable[..., Any]]] = {
    np.sum: lambda v, axis=None: v.sum(axis),
    np.mean: lambda v, axis: v.mean(axis),
    np.cumsum: lambda v, axis: v.cumsum(axis),
    np.diff: _differences,
    np.outer: lambda a, b: a.reshape(-1, 1) * b,
    np.clip: lambda v, low, high: np.minimum(np.maximum(v, low), high),
    np.where: _chosen,
    np.shape: lambda v: v.shape,
}
