"""transform: a factor, a function of each number, or a matrix along an axis, which a layer puts on what it returns."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final, NamedTuple

from harness.diagnosis.identify.activations import IDENTITY, Activation, Numbers, in_product, recognised, times
from harness.diagnosis.identify.fit import plainest
from harness.diagnosis.identify.gather import each
from harness.diagnosis.identify.tape import Var
from harness.oracle.bound import np
from harness.oracle.known import Floats


class AxisMatrix(NamedTuple):
    """A matrix that multiplies an array along an axis, by the size of the axis."""

    line: str  # {0} is the array, {1} the number of the axis
    of: Callable[[int], Floats]


AXIS_MATRICES: Final[dict[str, AxisMatrix]] = {
    "": AxisMatrix("{0}", np.eye),
    "reversed": AxisMatrix("np.flip({0}, {1})", lambda n: np.eye(n)[::-1]),
    "rolled on": AxisMatrix("np.roll({0}, 1, {1})", lambda n: np.roll(np.eye(n), 1, 0)),
    "rolled back": AxisMatrix("np.roll({0}, -1, {1})", lambda n: np.roll(np.eye(n), -1, 0)),
    "first": AxisMatrix("{0}.take([0], {1}) + 0 * {0}", lambda n: np.eye(n)[[0] * n]),
    "last": AxisMatrix("{0}.take([-1], {1}) + 0 * {0}", lambda n: np.eye(n)[[-1] * n]),
    "mean": AxisMatrix("{0}.mean({1}, keepdims=True) + 0 * {0}", lambda n: np.full((n, n), 1 / max(1, n))),
    "sum": AxisMatrix("{0}.sum({1}, keepdims=True) + 0 * {0}", lambda n: np.ones((n, n))),
    "centred": AxisMatrix("{0} - {0}.mean({1}, keepdims=True)", lambda n: np.eye(n) - 1 / max(1, n)),
    "running sum": AxisMatrix("{0}.cumsum({1})", np.tri),
    "running mean": AxisMatrix(
        "np.stack([{0}.take(range(k + 1), {1}).mean({1}) for k in range({0}.shape[{1}])], {1})",
        lambda n: np.tri(n) / np.arange(1, n + 1)[:, None],
    ),
    "differences": AxisMatrix(
        "np.diff({0}, axis={1}, prepend=0 * {0}.take([0], {1}))", lambda n: np.eye(n) - np.eye(n, k=-1)
    ),
}


class Transform(NamedTuple):
    """A factor times a function of each number of a matrix times an array, along an axis."""

    factor: float = 1.0
    function: Activation = IDENTITY
    matrix: str = ""  # of ``AXIS_MATRICES``
    axis: int = 0
    derived: bool = True  # whether the way back goes through it, too

    def line(self, name: str) -> str:
        """Return it as an expression of NumPy, of an array by its name."""
        line = AXIS_MATRICES[self.matrix].line.format(name, self.axis)
        return times(self.factor, line if self.function == IDENTITY else self.function.line(in_product(line)))

    def of(self, v: Var) -> Var:
        """Return the transform of an array."""
        turned = self._turned(v) if self.matrix else v
        made = turned if self.function == IDENTITY else self.function.of(turned)
        made = made if self.factor == 1 else made * self.factor
        return made if self.derived else Var(made.value, ((v, lambda g: g),))

    def _turned(self, v: Var) -> Var:
        M = AXIS_MATRICES[self.matrix].of(v.shape[self.axis])
        return Var(self._along(M, v.value), ((v, lambda g: self._along(M.T, g)),))

    def _along(self, M: Floats, v: Numbers) -> Numbers:
        made = M @ each(v, lambda a: a.swapaxes(self.axis, -2))
        return each(made, lambda a: a.swapaxes(self.axis, -2))


AXES: Final = (0, 1, -1)


def transform_of(pairs: Sequence[tuple[Floats, Floats]], noise: float) -> Transform:
    """Return the transform that makes each second array of the first one beside it; an empty one if there is none."""
    for matrix, axis in (("", 0), *product([name for name in AXIS_MATRICES if name], AXES)):
        made = [np.swapaxes(AXIS_MATRICES[matrix].of(v.shape[axis]) @ v.swapaxes(axis, -2), axis, -2) for v, _ in pairs]
        if not made:
            break
        v, given = (np.concatenate([one.ravel() for one in several]) for several in (made, [g for _, g in pairs]))
        for function in (IDENTITY, *(kind for kind, _ in ([] if matrix else recognised(v, given, noise)))):
            value = function.value(v)
            if not (size := float(value @ value)):
                continue
            factor = plainest(float(value @ given) / size, noise)
            if np.abs(factor * value - given).max() <= 1024 * noise * (1 + np.abs(given).max()):
                return Transform(factor, function, matrix, axis)
    return Transform()
