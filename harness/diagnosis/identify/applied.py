"""applied: what a layer does to an array before it returns it: a function of each number, or a matrix along an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final, NamedTuple

from harness.diagnosis.identify.activations import ACTIVATIONS, Activation, Numbers, number, recognised
from harness.diagnosis.identify.fit import plainest
from harness.diagnosis.identify.gather import each
from harness.diagnosis.identify.tape import Var
from harness.oracle.bound import np
from harness.oracle.known import Floats

IDENTITY: Final = ACTIVATIONS["identity"]


class Matrix(NamedTuple):
    """What each number along an axis is made of: the rows of a matrix, by the size of the axis."""

    line: str  # {0} is the array, {1} the number of the axis
    of: Callable[[int], Floats]


MATRICES: Final[dict[str, Matrix]] = {
    "": Matrix("{0}", np.eye),
    "reversed": Matrix("np.flip({0}, {1})", lambda n: np.eye(n)[::-1]),
    "rolled on": Matrix("np.roll({0}, 1, {1})", lambda n: np.roll(np.eye(n), 1, 0)),
    "rolled back": Matrix("np.roll({0}, -1, {1})", lambda n: np.roll(np.eye(n), -1, 0)),
    "mean": Matrix("{0}.mean({1}, keepdims=True) + 0 * {0}", lambda n: np.full((n, n), 1 / n)),
    "sum": Matrix("{0}.sum({1}, keepdims=True) + 0 * {0}", lambda n: np.ones((n, n))),
    "centred": Matrix("{0} - {0}.mean({1}, keepdims=True)", lambda n: np.eye(n) - 1 / n),
    "running sum": Matrix("{0}.cumsum({1})", np.tri),
    "running mean": Matrix(
        "np.stack([{0}.take(range(k + 1), {1}).mean({1}) for k in range({0}.shape[{1}])], {1})",
        lambda n: np.tri(n) / np.arange(1, n + 1)[:, None],
    ),
    "differences": Matrix(
        "np.diff({0}, axis={1}, prepend=0 * {0}.take([0], {1}))", lambda n: np.eye(n) - np.eye(n, k=-1)
    ),
}


class Applied(NamedTuple):
    """What is returned of an array: a factor times a function of each number of a matrix times it, along an axis."""

    factor: float = 1.0
    function: Activation = IDENTITY
    matrix: str = ""  # of ``MATRICES``
    axis: int = 0
    derived: bool = True  # whether the way back goes through it, too

    def line(self, name: str) -> str:
        """Return it as an expression of NumPy, of an array by its name."""
        line = MATRICES[self.matrix].line.format(name, self.axis)
        line = line if self.function == IDENTITY else self.function.line(f"({line})" if self.matrix else line)
        if self.factor == 1:
            return line
        return f"{number(self.factor)} * {f'({line})' if ' ' in line and self.function == IDENTITY else line}"

    def of(self, v: Var) -> Var:
        """Return what is returned of an array."""
        turned = self._turned(v) if self.matrix else v
        made = turned if self.function == IDENTITY else self.function.of(turned)
        made = made if self.factor == 1 else made * self.factor
        return made if self.derived else Var(made.value, ((v, lambda g: g),))

    def _turned(self, v: Var) -> Var:
        M = MATRICES[self.matrix].of(v.shape[self.axis])
        return Var(self._along(M, v.value), ((v, lambda g: self._along(M.T, g)),))

    def _along(self, M: Floats, v: Numbers) -> Numbers:
        made = M @ each(v, lambda a: a.swapaxes(self.axis, -2))
        return each(made, lambda a: a.swapaxes(self.axis, -2))


AXES: Final = (0, 1, -1)


def found_in(pairs: Sequence[tuple[Floats, Floats]], noise: float) -> Applied:
    """Return what makes each second array of the first one beside it; nothing is done to it if that is not found."""
    for matrix, axis in (("", 0), *product([name for name in MATRICES if name], AXES)):
        made = [np.swapaxes(MATRICES[matrix].of(v.shape[axis]) @ v.swapaxes(axis, -2), axis, -2) for v, _ in pairs]
        if not made:
            break
        v, given = (np.concatenate([one.ravel() for one in several]) for several in (made, [g for _, g in pairs]))
        for function in [kind for kind, _ in recognised(v, given, noise)] if not matrix else [IDENTITY]:
            value = function.value(v)
            if not (size := float(value @ value)):
                continue
            factor = plainest(float(value @ given) / size, noise)
            if np.abs(factor * value - given).max() <= 1024 * noise * (1 + np.abs(given).max()):
                return Applied(factor, function, matrix, axis)
    return Applied()
