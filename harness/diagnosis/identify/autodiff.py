"""autodiff: numbers that remember how they were made, so that the derivative of an identified step can be taken.

Where autograd does the way back, a mistake of the way forward shows in every gradient, and none of these is wrong in
itself: they are the derivative of what is computed. A ``Var`` has the operations of an array and of a ``Ball``, and
may hold either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.diagnosis.identify.array_protocol import ElementFunction, OnTape
from harness.diagnosis.identify.ball import Ball
from harness.oracle.pinned_numpy import np

VariableGradients = dict[int, Any]


class Var(OnTape):
    """A value, and for each number that it was made of the gradient by it, given its own."""

    def __init__(self, value: Any, made_of: tuple[tuple[Var, Callable[[Any], Any]], ...] = ()) -> None:
        self.value, self.made_of = value, made_of

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def T(self) -> Var:
        """The transposed value."""
        return Var(self.value.T, ((self, lambda g: g.T),))

    def __getitem__(self, index: Any) -> Var:
        def back(g: Any) -> Any:
            shape = self.value.shape
            if isinstance(g, Ball):
                value, error = np.zeros(shape), np.zeros(shape)
                np.add.at(value, index, g.value)
                np.add.at(error, index, g.error)
                return Ball(value, error, g.rounding)
            gradient = np.zeros(shape)
            np.add.at(gradient, index, g)
            return gradient

        return Var(self.value[index], ((self, back),))

    def __add__(self, other: Any) -> Var:
        if isinstance(other, Var):
            made = ((self, _like(self)), (other, _like(other)))
            return Var(self.value + other.value, made)
        return Var(self.value + other, ((self, _like(self)),))

    __radd__ = __add__

    def __mul__(self, other: Any) -> Var:
        if isinstance(other, Var):
            a, b = self.value, other.value
            return Var(a * b, ((self, lambda g: _like(self)(g * b)), (other, lambda g: _like(other)(g * a))))
        return Var(self.value * other, ((self, lambda g: _like(self)(g * other)),))

    __rmul__ = __mul__

    def __matmul__(self, other: Any) -> Var:
        if isinstance(other, Var):
            a, b = self.value, other.value
            return Var(a @ b, ((self, lambda g: g @ b.T), (other, lambda g: _by_right(a, g))))
        return Var(self.value @ other, ((self, lambda g: g @ other.T),))

    def __rmatmul__(self, other: Any) -> Var:
        return Var(other @ self.value, ((self, lambda g: _by_right(other, g)),))

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Var:
        """Return the sum along an axis."""
        shape = self.value.shape

        def back(g: Any) -> Any:
            return (g if keepdims or axis in (None, 0) else _expanded(g, axis)) + np.zeros(shape)

        return Var(self.value.sum(axis, keepdims=keepdims), ((self, back),))

    def __lt__(self, other: float) -> Any:
        return self.value < other

    def __gt__(self, other: float) -> Any:
        return self.value > other

    def mapped(self, function: Callable[[Any], Any], kind: ElementFunction) -> Var:
        """Return a function of each number."""
        return Var(function(self.value), ((self, lambda g: g * kind.slope(self.value)),))

    def moved(self, change: Callable[[Sequence[Any]], Any], parts: Sequence[Any]) -> Var:
        """Return the numbers of some arrays in other places, zeros among them."""
        shapes = [np.shape(part) for part in parts]
        starts = np.cumsum([0, *map(math.prod, shapes)])[:-1]
        numbered = [np.arange(math.prod(shape)).reshape(shape) + k + 1 for shape, k in zip(shapes, starts, strict=True)]
        index = change(numbered) - 1  # then a zero is -1

        def back_to(start: int, shape: tuple[int, ...]) -> Callable[[Any], Any]:
            own = np.where((index >= start) & (index < start + math.prod(shape)), index - start, -1)
            return lambda g: put(g, own, shape, len(shape))

        made = ((part, back_to(k, part.shape)) for part, k in zip(parts, starts, strict=True) if isinstance(part, Var))
        return Var(change([part.value if isinstance(part, Var) else part for part in parts]), tuple(made))


def put(g: Any, index: Any, shape: tuple[int, ...], lead: int) -> Any:
    """Return what the rows of an array are given, where ``g`` is given to rows by their index; -1 is none."""
    count, rest = math.prod(shape[:lead]), shape[lead:]
    flat = np.asarray(index).ravel()

    def added(array: Any) -> Any:
        padded = np.zeros((count + 1, *rest))
        np.add.at(padded, flat, array.reshape(len(flat), *rest))
        return padded[:-1].reshape(shape)

    if not isinstance(g, Ball):
        return added(g)
    times = np.bincount(flat[flat >= 0], minlength=count).max(initial=0)
    sums = 0.0 if times < 2 else 2 * times * g.rounding.each * added(np.abs(g.value) + g.error)
    return Ball(added(g.value), added(g.error) + sums, g.rounding)


def _by_right(left: Any, g: Any) -> Any:
    """Return the gradient by the right operand of a product, given its own."""
    return left.T @ g if len(left.shape) > 1 else left.reshape(-1, 1) * g


def _expanded(g: Any, axis: int) -> Any:
    if isinstance(g, Ball):
        return Ball(np.expand_dims(g.value, axis), np.expand_dims(g.error, axis), g.rounding)
    return np.expand_dims(g, axis)


def _like(var: Var) -> Callable[[Any], Any]:
    """Return a function that sums a gradient over the axes along which a value was repeated."""

    def back(g: Any) -> Any:
        shape = var.value.shape
        if np.shape(getattr(g, "value", g)) == shape:
            return g
        g = g + np.zeros(np.broadcast_shapes(np.shape(getattr(g, "value", g)), shape))
        while len(g.shape) > len(shape):
            g = g.sum(0)
        for axis, size in enumerate(shape):
            if size == 1 and g.shape[axis] != 1:
                g = _expanded(g.sum(axis), axis)
        return g

    return back


def backward(seeds: Mapping[Var, Any], inputs: Mapping[Any, Var]) -> dict[Any, Any]:
    """Return the gradient by each input, given those by some results; zeros where nothing depends on one."""
    order: list[Var] = []
    done: set[int] = set()
    stack = [(var, False) for var in seeds]
    while stack:
        var, ready = stack.pop()
        if ready:
            order.append(var)
        elif id(var) not in done:
            done.add(id(var))
            stack.append((var, True))
            stack += [(operand, False) for operand, _ in var.made_of if id(operand) not in done]
    gradients: VariableGradients = {}
    for var, g in seeds.items():
        gradients[id(var)] = gradients[id(var)] + g if id(var) in gradients else g
    for var in reversed(order):
        g = gradients.get(id(var))
        if g is None:
            continue
        for source, back in var.made_of:
            part = back(g)
            gradients[id(source)] = gradients[id(source)] + part if id(source) in gradients else part
    return {name: gradients.get(id(var), np.zeros(var.shape)) for name, var in inputs.items()}
