"""quadruples: which numbers have met four at a time, one bit for each four of them.

Of numbers a < b < c < d, the bit is C(d, 4) + C(c, 3) + C(b, 2) + a: below it lie all fours whose greatest is less than
d, of which there are C(d, 4); then those with d whose next is less than c; and so on. No two fours share a bit, none is
left over, and none moves when there are more numbers: 3 million bits hold the fours of a hundred.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

AT_ONCE: Final = 2**20
"""Fours that are worked on at once: 32 MiB of numbers, and as much again to find their bits."""


class Quadruples:
    """Which fours of numbers have met; none at first, or those whose bits are given."""

    def __init__(self, bits: Bools | None = None) -> None:
        self.bits = np.zeros(0, dtype=np.bool_) if bits is None else bits

    def add(self, rows: Ints) -> None:
        """Have all that stand in a row meet, each row by itself; the numbers of a row are different."""
        rows = np.sort(rows, axis=1)
        for columns in _fours(rows.shape[1], max(1, AT_ONCE // len(rows))):
            self._meet(rows[:, columns].reshape(-1, 4))

    def merge(self, other: Quadruples, here: Ints) -> None:
        """Have met what has met in another, where a number i is what is ``here[i]`` here."""
        met = np.flatnonzero(other.bits)
        for start in range(0, len(met), AT_ONCE):
            self._meet(np.sort(here[_numbers(met[start : start + AT_ONCE])], axis=1))

    def have_met(self, rows: Ints) -> Bools:
        """Of rows of four different numbers, in any order, which have met."""
        places = _places(np.sort(rows, axis=1))
        known = places < len(self.bits)
        known[known] = self.bits[places[known]]
        return known

    def _meet(self, fours: Ints) -> None:
        places = _places(fours)
        if len(places) and (most := int(places.max())) >= len(self.bits):
            self.bits = np.concatenate([self.bits, np.zeros(most + 1 - len(self.bits), dtype=np.bool_)])
        self.bits[places] = True


def _places(fours: Ints) -> Ints:
    """The bit of each row of four ascending numbers."""
    two, three, four = _choices(int(fours.max(initial=0)) + 1)
    a, b, c, d = fours.T
    return np.asarray(four[d] + three[c] + two[b] + a)


def _numbers(places: Ints) -> Ints:
    """The four ascending numbers of each bit."""
    found, left = [], places
    for choices in reversed(_choices(_size(int(places.max(initial=0))))):
        number = np.searchsorted(choices, left, "right") - 1
        found.append(number)
        left = left - choices[number]
    return np.column_stack([left, *reversed(found)])


def _size(place: int) -> int:
    """More numbers than are in a bit's four."""
    size = 4
    while comb(size, 4) <= place:
        size *= 2
    return size


@lru_cache(16)
def _choices(size: int) -> tuple[Ints, Ints, Ints]:
    """C(n, 2), C(n, 3) and C(n, 4) of all n below a size."""
    two, three, four = (np.array([comb(n, k) for n in range(size)], dtype=np.int64) for k in (2, 3, 4))
    return two, three, four


def _fours(columns: int, at_once: int) -> Iterator[Ints]:
    """All fours of so many columns, some at once."""
    every = _every(columns)
    return (every[start : start + at_once] for start in range(0, len(every), at_once))


@lru_cache(4)
def _every(columns: int) -> Ints:
    return np.array(list(combinations(range(columns), 4)), dtype=np.int64).reshape(-1, 4)
