"""transform: a factor, a function of each number, or a matrix along an axis, which a layer puts on what it returns."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import IDENTITY, Activation, Numbers, in_product, times
from harness.diagnosis.identify.autodiff import Var
from harness.diagnosis.identify.gather import each
from harness.diagnosis.identify.line import function_of
from harness.diagnosis.identify.step_patterns import EVERY_STEP, TermSteps
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

# What multiplies an array by a matrix along an axis: {0} is the array, {1} the number of the axis.
AXIS_MATRICES: Final = {
    "": "{0}",
    "reversed": "np.flip({0}, {1})",
    "rolled on": "np.roll({0}, 1, {1})",
    "rolled back": "np.roll({0}, -1, {1})",
    "first": "{0}.take([0], {1}) + 0 * {0}",
    "last": "{0}.take([-1], {1}) + 0 * {0}",
    "mean": "{0}.mean({1}, keepdims=True) + 0 * {0}",
    "sum": "{0}.sum({1}, keepdims=True) + 0 * {0}",
    "centred": "{0} - {0}.mean({1}, keepdims=True)",
    "running sum": "{0}.cumsum({1})",
    "running mean": "np.stack([{0}.take(range(k + 1), {1}).mean({1}) for k in range({0}.shape[{1}])], {1})",
    "differences": "np.diff({0}, axis={1}, prepend=0 * {0}.take([0], {1}))",
}


@cache
def axis_matrix(name: str, size: int) -> Floats:
    """Return the matrix of an axis: what is made of a unit matrix."""
    unit: Floats = np.eye(size)
    return function_of(AXIS_MATRICES[name].format("v", 0), "v")(unit) if size else unit


class AxisText(NamedTuple):
    """An axis of what is returned: its places as lines of NumPy have them, and in words."""

    place: str
    size: str
    part: str  # the part of an array {0} at a place
    word: str


TRANSFORM_AXES: Final = {
    0: AxisText("t", "T", "{0}[t]", "step"),
    1: AxisText("n", "N", "{0}[:, n]", "sequence"),
    -1: AxisText("j", "H", "{0}[..., j]", "unit"),
}


class Transform(NamedTuple):
    """A factor times a function of each number of a matrix times an array, along an axis."""

    factor: float = 1.0
    function: Activation = IDENTITY
    matrix: str = ""  # of ``AXIS_MATRICES``
    axis: int = 0
    derived: bool = True  # whether the way back goes through it, too
    when: TermSteps = EVERY_STEP  # the places along the axis that have it; the others stay as they are

    def line(self, name: str) -> str:
        """Return it as an expression of NumPy, of an array by its name."""
        if self.when == EVERY_STEP:
            return self._expression(name)
        place, _, part, _ = TRANSFORM_AXES[self.axis]
        part, size = part.format(name), "T" if place == "t" else f"{name}.shape[{self.axis}]"
        where = re.sub(r"\bT\b", size, re.sub(r"\bt\b", place, self.when.line))
        return f"np.stack([{self._expression(part)} if {where} else {part} for {place} in range({size})], {self.axis})"

    def _expression(self, name: str) -> str:
        line = AXIS_MATRICES[self.matrix].format(name, self.axis)
        return times(self.factor, line if self.function == IDENTITY else self.function.line(in_product(line)))

    def words(self, name: str) -> str:
        """Return in words what is returned as an array."""
        _, size, _, word = TRANSFORM_AXES[self.axis]
        words = re.sub(r"\bT\b", size, re.sub(r"\bstep(?=s?\b)", word, self.when.words))
        return f"returns {self._expression(name)} as {name}{f' {words}' if words else ''}"

    def of(self, v: Var) -> Var:
        """Return the transform of an array."""
        turned = self._turned(v) if self.matrix else v
        made = turned if self.function == IDENTITY else self.function.of(turned)
        made = made if self.factor == 1 else made * self.factor
        if self.when != EVERY_STEP:
            parts: tuple[Any, Any] = made, v
            made = np.where(self._places(v.shape), *parts)
        return made if self.derived else Var(made.value, ((v, lambda g: g),))

    def _places(self, shape: tuple[int, ...]) -> Floats:
        """Return which numbers of a shape have it."""
        size = shape[self.axis]
        places = np.array([self.when.at(i, size) for i in range(size)])
        axis = self.axis % len(shape)
        return np.broadcast_to(places.reshape([size if k == axis else 1 for k in range(len(shape))]), shape)

    def _turned(self, v: Var) -> Var:
        M = axis_matrix(self.matrix, v.shape[self.axis])
        return Var(self._along(M, v.value), ((v, lambda g: self._along(M.T, g)),))

    def _along(self, M: Floats, v: Numbers) -> Numbers:
        made = M @ each(v, lambda a: a.swapaxes(self.axis, -2))
        return each(made, lambda a: a.swapaxes(self.axis, -2))
