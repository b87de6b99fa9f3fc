"""A record of which numbers have met four at a time, with one bit for each four of them.

For numbers a < b < c < d, the bit is C(d, 4) + C(c, 3) + C(b, 2) + a. Below it lie all fours whose greatest number is
less than d, of which there are C(d, 4); then those with the same d whose next number is less than c; and so on. No two
fours share a bit, no bit is unused, and no bit moves when more numbers are added. The fours of a hundred numbers take 3
million bits.
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
"""The number of fours that are worked on at once: 32 MiB of numbers, and as much again to find their bits."""


class Quadruples:
    """The fours of numbers that have met; none at first, or those whose bits are given."""

    def __init__(self, bits: Bools | None = None) -> None:
        self.bits = np.zeros(0, dtype=np.bool_) if bits is None else bits

    def add(self, rows: Ints) -> None:
        """Record that all numbers of a row have met, for each row; the numbers of a row are different."""
        rows = np.sort(rows, axis=1)
        for columns in _fours(rows.shape[1], max(1, AT_ONCE // len(rows))):
            self._meet(rows[:, columns].reshape(-1, 4))

    def merge(self, other: Quadruples, here: Ints) -> None:
        """Record the fours that have met in another record, whose number i is the number ``here[i]`` of this one."""
        met = np.flatnonzero(other.bits)
        for start in range(0, len(met), AT_ONCE):
            self._meet(np.sort(here[_numbers(met[start : start + AT_ONCE])], axis=1))

    def have_met(self, rows: Ints) -> Bools:
        """Return which rows have met; a row holds four different numbers in any order."""
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
    """Return the bit of each row of four ascending numbers."""
    two, three, four = _choices(int(fours.max(initial=0)) + 1)
    a, b, c, d = fours.T
    return np.asarray(four[d] + three[c] + two[b] + a)


def _numbers(places: Ints) -> Ints:
    """Return the four ascending numbers of each bit."""
    found, left = [], places
    for choices in reversed(_choices(_size(int(places.max(initial=0))))):
        number = np.searchsorted(choices, left, "right") - 1
        found.append(number)
        left = left - choices[number]
    return np.column_stack([left, *reversed(found)])


def _size(place: int) -> int:
    """Return a number greater than any of the four numbers of a bit."""
    size = 4
    while comb(size, 4) <= place:
        size *= 2
    return size


@lru_cache(16)
def _choices(size: int) -> tuple[Ints, Ints, Ints]:
    """Return C(n, 2), C(n, 3) and C(n, 4) for all n below a size."""
    two, three, four = (np.array([comb(n, k) for n in range(size)], dtype=np.int64) for k in (2, 3, 4))
    return two, three, four


def _fours(columns: int, at_once: int) -> Iterator[Ints]:
    """Return all fours of the columns, a batch of them at a time."""
    every = _every(columns)
    return (every[start : start + at_once] for start in range(0, len(every), at_once))


@lru_cache(4)
def _every(columns: int) -> Ints:
    return np.array(list(combinations(range(columns), 4)), dtype=np.int64).reshape(-1, 4)
