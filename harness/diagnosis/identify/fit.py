"""fit: the coefficients of a sum, from what it gave: linear equations, a column for each term that may stand in it."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, combinations
from typing import Final, TypeVar

from harness.diagnosis.effort import spend
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

Name = TypeVar("Name")  # of a term: what tells it from others

ENOUGH_EQUATIONS: Final = 4  # equations that two columns do not fit by chance
# what is further off in units of the noise is no sum of the columns, however much these cancel
FAR_FROM_NOISE: Final = 1e6
EQUATIONS_AN_UNKNOWN: Final = 1.5  # The equations for each unknown: with fewer, a wrong sum may fit by chance


class TermColumns(Mapping[Name, Floats]):
    """The columns of terms by name, each made when it is first read: few are, if the likely ones explain all."""

    def __init__(self, names: Iterable[Name], made: Callable[[Name], Floats]) -> None:
        self._names, self._made, self._known = dict.fromkeys(names), made, dict[Name, Floats]()

    def __getitem__(self, name: Name) -> Floats:
        if name not in self._known:
            self._known[name] = self._made(name)
        return self._known[name]

    def __iter__(self) -> Iterator[Name]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def solve(
    columns: Mapping[Name, Floats], y: Floats, noise: float, *likely: Collection[Name]
) -> dict[Name, float] | None:
    """Return the coefficients other than 0 with which the columns add up to ``y``, or ``None`` if none do.

    ``noise`` is what roundings may make of the largest number of ``y``, relatively. A column that the ones before it
    make up is left out, so the order says which of equal sums is meant: nn.RNN's terms come first. Those of each
    ``likely`` collection are tried alone before all are.
    """
    spend()
    size = float(np.abs(y).max(initial=0))
    if size == 0:
        return {}
    for some in likely:
        if (coefs := solve({n: columns[n] for n in columns if n in some}, y, noise)) is not None:
            return coefs
    if accuracy(noise) >= 1 or not may_reach(columns, y, noise):
        return None  # of 16 bits, no coefficient can be told from 0
    names: list[Name] = []
    independent: list[Floats] = []
    basis = np.empty((len(columns), y.size))
    for name, column in columns.items():
        norm = float(np.linalg.norm(column))
        if norm == 0 or not np.isfinite(norm):
            continue
        rest = column / norm
        span = basis[: len(names)]
        for _ in range(2):  # once more for what rounding left
            rest = rest - (span @ rest) @ span
        apart = float(np.linalg.norm(rest))
        if apart < max(1e-6, 256 * noise):
            continue
        basis[len(names)] = rest / apart
        names.append(name)
        independent.append(column)
    if not names:
        return None
    if len(names) * EQUATIONS_AN_UNKNOWN > y.size:
        return sparsest(dict(zip(names, independent, strict=True)), y, noise)
    return settled(names, independent, y, noise)


def may_reach(columns: Mapping[Name, Floats], y: Floats, noise: float) -> bool:
    """Tell whether some sum of columns comes near ``y`` at all, which rules most sums out in a tenth of the time.

    With too few equations, one always may.
    """
    if len(columns) * EQUATIONS_AN_UNKNOWN > y.size:
        return True
    A = np.stack([*columns.values(), np.zeros_like(y)], 1)  # a column even if there is no other
    sizes = np.linalg.norm(A, axis=0)
    A = A[:, sizes > 0] / sizes[sizes > 0]
    if not A.shape[1] or not (np.isfinite(A).all() and np.isfinite(y).all()):
        return False
    Q = np.linalg.qr(A)[0]
    return bool(np.abs(Q @ (Q.T @ y) - y).max() <= FAR_FROM_NOISE * noise * np.abs(y).max())


def settled(names: list[Name], columns: list[Floats], y: Floats, noise: float) -> dict[Name, float] | None:
    """Return the coefficients of independent columns, those that are nothing but noise left out."""
    size = float(np.abs(y).max(initial=0))
    before: dict[Name, float] | None = None
    while names:
        A = np.stack(columns, 1)
        scale = np.linalg.norm(A, axis=0)
        Q, R = np.linalg.qr(A / scale)
        coefs = np.linalg.solve(R, Q.T @ y) / scale
        if not np.abs(A @ coefs - y).max() <= 64 * noise * (size + np.abs(A * coefs).max(initial=0)):
            return before
        weak = np.abs(A * coefs).max(0) < 4096 * noise * size
        if not weak.any():  # Of columns that are nearly alike, one may stand for what roundings make of y.
            reach = np.linalg.norm(np.linalg.inv(R), axis=1) / scale
            least = np.argmin(ratio := np.abs(coefs) / (64 * noise * size * reach))
            weak[least] = ratio[least] < 1 and len(names) > 1
        if not weak.any():
            return {name: float(c) for name, c in zip(names, coefs, strict=True)}
        if weak.all():
            return None
        before = {name: float(c) for name, c in zip(names, coefs, strict=True)}  # many weak parts may not be noise
        names = [name for name, gone in zip(names, weak, strict=True) if not gone]
        columns = [column for column, gone in zip(columns, weak, strict=True) if not gone]
    return {}


def unsure(coefs: Mapping[Name, float], columns: Mapping[Name, Floats], y: Floats, noise: float) -> set[Name]:
    """Return the names of coefficients that may be off by more than ``accuracy``, by what is left of ``y``."""
    if not coefs:
        return set()
    A = np.stack([columns[name] for name in coefs], 1)
    residual = float(np.linalg.norm(A @ np.array([*coefs.values()]) - y))
    scale = np.linalg.norm(A, axis=0)
    reach = np.linalg.norm(np.linalg.inv(np.linalg.qr(A / scale, mode="r")), axis=1)  # of a coefficient with y
    off = max(residual, noise * float(np.abs(y).max())) * reach / scale
    return {name for name, error in zip(coefs, off, strict=True) if not error <= accuracy(noise)}


def fewest(columns: Mapping[str, Floats], y: Floats, noise: float, likely: Collection[str]) -> dict[str, float] | None:
    """Return coefficients as ``solve`` does, of one or two columns if these will do: columns may be nearly alike."""
    columns = {name: column for name, column in columns.items() if column.any()}
    near = _pairs(columns, y, noise) if y.any() and len(columns) > 1 else ()
    sets = chain([[*likely]], combinations(columns, 1), near, [[*columns]])
    solved = (solve({name: columns[name] for name in some if name in columns}, y, noise) for some in sets)
    return next((coefs for coefs in solved if coefs is not None), None)


def sparsest(columns: Mapping[Name, Floats], y: Floats, noise: float) -> dict[Name, float] | None:
    """Return the one or two columns that add up to ``y``, if few equations are at hand."""
    singles = ((name,) for name in columns)
    for names in chain(singles, _pairs(columns, y, noise) if y.size >= ENOUGH_EQUATIONS else ()):
        if (coefs := settled([*names], [columns[name] for name in names], y, noise)) is not None:
            return coefs
    return None


def _pairs(columns: Mapping[Name, Floats], y: Floats, noise: float) -> Iterator[tuple[Name, ...]]:
    """Yield the pairs of columns of which some sum comes near ``y``, as the cosines of all of them tell at once."""
    names, A = [*columns], np.stack([*columns.values()], 1)
    unit = A / np.linalg.norm(A, axis=0)
    size = float(np.linalg.norm(y))
    along, cosines = unit.T @ y / size, unit.T @ unit
    apart = np.maximum(1 - cosines**2, np.finfo(float).tiny)
    residual = 1 - (along[:, None] ** 2 + along**2 - 2 * cosines * along[:, None] * along) / apart
    near = residual <= max(1e-9, (FAR_FROM_NOISE * noise) ** 2)  # squares, whose own roundings are some 1e-16
    yield from ((names[i], names[j]) for i, j in np.argwhere(np.triu(near, 1)))


def affine(rows: Floats, y: Floats, noise: float) -> list[int]:
    """Return the rows (n, K) of which some multiple comes near ``y`` (K), up to what is added to each number."""
    apart, y_apart = rows - rows.mean(1, keepdims=True), y - y.mean()
    squares = (apart * apart).sum(1)
    factors = apart @ y_apart / np.where(squares == 0, 1.0, squares)
    off = np.abs(y_apart - factors[:, None] * apart).max(1)
    return [int(k) for k in np.flatnonzero(off <= FAR_FROM_NOISE * noise * np.abs(y).max())]


def accuracy(noise: float) -> float:
    """Return how far a coefficient may be off, relatively, to be taken for a plain number."""
    return max(1e-7, 4096 * noise)


def plainest(value: float, noise: float) -> float:
    """Return the plain number that a coefficient is, up to noise: a fraction of small numbers, or a few digits."""
    if not math.isfinite(value):
        return value
    close = accuracy(noise)
    for limit in (1, 2, 4, 12, 100, 1000):
        near = Fraction(value).limit_denominator(limit)
        if abs(float(near) - value) <= close * max(abs(value), 1e-3):
            return float(near)
    digits = float(f"{value:.6g}")
    return digits if abs(digits - value) <= close * abs(value) else value
