"""gather: numbers of an array in other places, on the tape: what a wiring moves, and where its gradient goes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from harness.diagnosis.identify.activations import Numbers
from harness.diagnosis.identify.autodiff import Var, put
from harness.diagnosis.identify.ball import Ball
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np


def value_of(v: Any) -> Numbers:
    """Return the value of a number that may be on a tape."""
    return v.value if isinstance(v, Var) else v


def values_of(v: Numbers) -> Floats:
    """Return the numbers alone, of such as have bounds."""
    values: Floats = v.value if isinstance(v, Ball) else v
    return values


def each(v: Numbers, change: Callable[[Any], Any]) -> Numbers:
    """Return an array, or a ball's values and errors, with their numbers moved."""
    return Ball(change(v.value), change(v.error), v.rounding) if isinstance(v, Ball) else change(v)


class Gather:
    """The indices of the numbers that are read, and of those to which their gradient goes; -1 is a zero."""

    def __init__(self, index: Any, back: Any = None) -> None:
        """Gather numbers by their ``index``; the gradient goes where they were read unless ``back`` is given."""
        self.index = np.asarray(index)
        self.back = self.index if back is None else np.asarray(back)
        plain = np.arange(self.index.size)
        self.identity = all(np.array_equal(array.ravel(), plain) for array in (self.index, self.back))  # in their order


def rows(v: Var, gather: Gather, lead: int = 2) -> Var:
    """Return rows of an array by their index among its first ``lead`` axes, flattened."""
    shape = v.shape
    count, rest, places = math.prod(shape[:lead]), shape[lead:], gather.index.shape
    if gather.identity and gather.index.size == count:
        if places == shape[:lead]:
            return v
        laid = each(v.value, lambda array: array.reshape(*places, *rest))
        return Var(laid, ((v, lambda g: each(g, lambda array: array.reshape(shape))),))

    def taken(array: Any) -> Any:
        flat = np.concatenate([array.reshape(count, *rest), np.zeros((1, *rest))])
        return flat[gather.index]

    return Var(each(v.value, taken), ((v, lambda g: put(g, gather.back, shape, lead)),))


def columns(v: Var, gather: Gather) -> Var:
    """Return features of an array by their index along its last axis."""
    width = v.shape[-1]
    if gather.identity and gather.index.size == width:
        return v

    def taken(array: Any) -> Any:
        return np.concatenate([array, np.zeros((*array.shape[:-1], 1))], -1)[..., gather.index]

    def gradient(g: Any) -> Numbers:
        def added(array: Any) -> Any:
            padded = np.zeros((*array.shape[:-1], width + 1))
            np.add.at(padded.swapaxes(0, -1), gather.back, np.asarray(array).swapaxes(0, -1))
            return padded[..., :-1]

        return each(g, added)

    return Var(each(v.value, taken), ((v, gradient),))


def together(parts: Sequence[Any], join: Callable[[Any], Any] = np.concatenate) -> Numbers:
    """Join arrays, by default one after the other."""
    balls = [p for p in parts if isinstance(p, Ball)]
    if not balls:
        return join(parts)
    parts = [p if isinstance(p, Ball) else Ball(p, 0.0, balls[0].rounding) for p in parts]
    return Ball(join([p.value for p in parts]), join([p.error for p in parts]), balls[0].rounding)


def stack(parts: Sequence[Any]) -> Var:
    """Put numbers that may be on the tape on top of each other."""

    def cut(k: int) -> Callable[[Any], Any]:
        return lambda g: g[k]

    made = tuple((p, cut(k)) for k, p in enumerate(parts) if isinstance(p, Var))
    return Var(np.stack([value_of(p) for p in parts]), made)


def concatenated(parts: Sequence[Var], axis: int) -> Var:
    """Put numbers one after the other along an axis, the first or the last one."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([p.shape[axis] for p in parts])

    def cut(k: int) -> Callable[[Any], Any]:
        between = slice(int(ends[k]) - parts[k].shape[axis], int(ends[k]))
        return lambda g: g[between] if axis == 0 else g[..., between]

    made = tuple((p, cut(k)) for k, p in enumerate(parts))
    return Var(together([p.value for p in parts], lambda arrays: np.concatenate(arrays, axis)), made)
