"""Simplification: the numbers of a failing case are made plain, until none can be made plainer alone.

Zero is plainest, then 1, -1, 2, 0.5, -2, -0.5; after those, powers of two, and numbers with fewer significant bits.
Large steps come first: all numbers at once, then whole arrays, then halves of what is left, and finally single numbers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checks.result import Result
from harness.space.case import Array, Case, padding

PLAIN_NUMBERS: Final = (0.0, 1.0, -1.0, 2.0, 0.5, -2.0, -0.5)  # numbers that need no explanation, the plainest first
BITS: Final = 53  # the number of bits of the longest significand
NEARER: Final = 12
"""The exponent below which powers of two beyond 2 or 0.5 are tried for a number that is far out: up to 2**11, so that a
limit such as 6, 20 or 1,000 is shown by a readable number.
"""

Check = Callable[[Case], Result]
Simpler = tuple[Case, Result]
ArrayElement = tuple[str, NDArray[np.intp]]
"""A number of a case that can change alone: its array, and its places in it; there are several places if one value is
expanded over an axis.
"""


class ValueSimplifier:
    """The simplification of a failing case's numbers; ``tried`` counts the plainer numbers of the last round."""

    def __init__(self, case: Case, kind: str, check: Check) -> None:
        self._case, self._kind, self._check = case, kind, check
        self._cells = list(cells(case))
        self.tried = 0
        self.otherwise: set[str] = set()  # the failures of another kind in the last round, and the known ones

    def __iter__(self) -> Iterator[Simpler]:
        """Yield ever plainer failing cases; the last is minimal in every number."""
        yield from self._first(self._all_at_once())
        yield from self._zeros()
        yield from self._first([self._with([(cell, 1.0) for cell in self._nonzero()])])
        moved = True
        while moved:
            moved = False
            self.tried = 0
            self.otherwise.clear()
            for cell in self._cells:
                for value in plainer(self._value(cell)):
                    self.tried += 1
                    if (simpler := self._try(self._with([(cell, value)]))) is not None:
                        moved = True
                        yield simpler
                        break

    def _zeros(self) -> Iterator[Simpler]:
        """Set ever smaller groups of nonzero numbers to zero: each array, then halves, down to single numbers."""
        for name in self._case.arrays:
            group = [cell for cell in self._nonzero() if cell[0] == name]
            if len(group) > 1:
                yield from self._first([self._zeroed(group)])
        size = len(self._nonzero()) // 2
        while size:
            start = 0
            while start < len(nonzero := self._nonzero()):
                simpler = self._try(self._zeroed(nonzero[start : start + size]))
                if simpler is None:
                    start += size
                else:
                    yield simpler
            size //= 2

    def _all_at_once(self) -> Iterator[Case]:
        """Yield the case with every number replaced by the nearest plain one, then rounded to more and more bits."""
        yield self._with([(cell, _nearest(self._value(cell))) for cell in self._cells])
        for bits in (1, 2, 4, 8):
            yield self._with([(cell, _rounded(self._value(cell), bits)) for cell in self._cells])

    def _first(self, candidates: Sequence[Case] | Iterator[Case]) -> Iterator[Simpler]:
        for candidate in candidates:
            if (simpler := self._try(candidate)) is not None:
                yield simpler
                return

    def _try(self, candidate: Case) -> Simpler | None:
        if candidate.id == self._case.id:
            return None
        result = self._check(candidate)
        if not result.shows(self._kind):
            self.otherwise.update(failure_of(result))
            return None
        self._case = candidate
        return candidate, result

    def _zeroed(self, group: Sequence[ArrayElement]) -> Case:
        return self._with([(cell, 0.0) for cell in group])

    def _with(self, changes: Sequence[tuple[ArrayElement, Any]]) -> Case:
        arrays: dict[str, Array] = dict(self._case.arrays)
        for name in {cell[0] for cell, _ in changes}:
            arrays[name] = arrays[name].copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for (name, places), value in changes:
                arrays[name].reshape(-1)[places] = value
        return Case.from_arrays(self._case.config, arrays)

    def _value(self, cell: ArrayElement) -> float:
        name, places = cell
        number: float = self._case.arrays[name].reshape(-1)[places[0]].item()
        return number

    def _nonzero(self) -> list[ArrayElement]:
        return [cell for cell in self._cells if (value := self._value(cell)) != 0 or is_negative_zero(value)]


def failure_of(result: Result) -> tuple[str, ...]:
    """Return the name of a result's known failure, or the kind of any other; nothing if it passes."""
    if result.known_as is not None:
        return (result.known_as,)
    return (result.kind,) if result.failed else ()


def cells(case: Case) -> Iterator[ArrayElement]:
    """Yield the numbers of a case that can change alone, small arrays first, without padding."""
    config = case.config
    hidden = None if config.lengths is None else padding(config)
    for name, array in sorted(case.arrays.items(), key=lambda item: item[1].size):
        if not array.size:
            continue
        places = np.arange(array.size).reshape(array.shape)
        if config.strides == "expanded" and name in config.cotangents:
            yield name, places.ravel()
        elif config.strides == "expanded" and name in config.inputs:
            for column in places.reshape(len(places), -1).T:
                yield name, column
        else:
            if hidden is not None and name in {"x", "readout.grad"}:
                places = places[~hidden]
            for place in places.ravel():
                yield name, np.array([place])


def plainer(number: float) -> Iterator[float]:
    """Yield numbers that are plainer than the given one, the plainest first."""
    if is_negative_zero(number):
        yield 0.0
        return
    if number in PLAIN_NUMBERS:
        yield from PLAIN_NUMBERS[: PLAIN_NUMBERS.index(number)]
        return
    yield from PLAIN_NUMBERS
    if math.isfinite(number):
        own = _bits(number)
        rounded = (_rounded(number, bits) for bits in range(1, own))
        shorter = (value for value in rounded if value not in PLAIN_NUMBERS and _bits(value) < own)
        yield from dict.fromkeys((*_nearer(number), *shorter))


def is_negative_zero(number: float) -> bool:
    """Return whether a number is -0.0, which equals 0.0 and is less plain."""
    return number == 0 and math.copysign(1, number) < 0


def _nearer(number: float) -> Iterator[float]:
    """Yield powers of two between a number and the plain ones, those nearest to the plain ones first, up to a limit."""
    exponent = math.frexp(number)[1] - 1
    for k in range(2, NEARER):
        power = math.ldexp(math.copysign(1, number), k if exponent > 0 else -k)
        if k < abs(exponent) or (k == exponent and power != number):
            yield power


def _nearest(number: float) -> float:
    if not math.isfinite(number):
        return number
    return min(PLAIN_NUMBERS, key=lambda plain: abs(plain - number))


def _rounded(number: float, bits: int) -> float:
    if not math.isfinite(number) or number == 0:
        return number
    mantissa, exponent = math.frexp(number)
    try:
        return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)
    except OverflowError:
        return number


def _bits(number: float) -> int:
    """Return the number of significant bits, from the first 1 to the last."""
    mantissa = int(abs(math.frexp(number)[0]) * 2.0**BITS)
    return BITS - ((mantissa & -mantissa).bit_length() - 1) if mantissa else 0
