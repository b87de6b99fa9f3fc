"""Tests of quadruples: every four has a bit of its own."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.space import quadruples
from harness.space.quadruples import Quadruples

EVERY = np.array(list(combinations(range(12), 4)))
ROWS = st.lists(st.permutations(range(9)).map(lambda row: row[:6]), min_size=1, max_size=6)


def fours(rows: list[list[int]]) -> set[tuple[int, ...]]:
    return {four for row in rows for four in combinations(sorted(row), 4)}


def met(found: Quadruples) -> set[tuple[int, ...]]:
    return {tuple(four) for four in EVERY[found.have_met(EVERY)].tolist()}


def test_the_bits_of_all_fours_are_all_bits() -> None:
    found = Quadruples()
    found.add(np.arange(12)[None])

    assert len(found.bits) == len(EVERY) == found.bits.sum()


@given(rows=ROWS)
def test_what_has_met_is_what_stood_in_a_row(rows: list[list[int]]) -> None:
    found = Quadruples()
    for row in rows:
        found.add(np.array([row]))

    assert met(found) == fours(rows)
    assert found.bits.sum() == len(fours(rows))
    assert found.have_met(np.array([[3, 2, 1, 0]])).tolist() == [(0, 1, 2, 3) in fours(rows)]


@given(rows=ROWS, others=ROWS, here=st.permutations(range(9)))
def test_merged_by_new_numbers(rows: list[list[int]], others: list[list[int]], here: list[int]) -> None:
    found, other = Quadruples(), Quadruples()
    found.add(np.array(rows))
    other.add(np.array(others))
    found.merge(other, np.array(here))

    assert met(found) == fours(rows) | fours([[here[number] for number in row] for row in others])


def test_as_many_at_once_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, whole, parts, copy = np.array([[0, 5, 7, 9, 2], [1, 2, 3, 4, 5]]), Quadruples(), Quadruples(), Quadruples()
    whole.add(rows)
    monkeypatch.setattr(quadruples, "AT_ONCE", 3)
    parts.add(rows)
    copy.merge(parts, np.arange(10))

    assert (whole.bits == parts.bits).all()
    assert (whole.bits == copy.bits).all()


def test_nothing_meets_in_rows_of_three() -> None:
    found = Quadruples()
    found.add(np.array([[0, 1, 2]]))

    assert not met(found)
    assert not met(Quadruples())
