"""Tests of simplification: plain numbers, few of them, and none that could be plainer."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from harness import Case, RNNConfig, Verdict, draw
from harness.checks.result import Result
from harness.search.simplify import PLAIN_NUMBERS, ValueSimplifier, cells, plainer

FAILS = Result(Verdict.BROKEN, message="Error: no")


def simplest(case: Case, fails: Callable[[Case], bool]) -> tuple[Case, ValueSimplifier]:
    def check(candidate: Case) -> Result:
        return FAILS if fails(candidate) else Result(Verdict.AGREES)

    steps = ValueSimplifier(case, FAILS.kind, check)
    last = case
    for smaller, _ in steps:
        last = smaller
        assert fails(last)
    return last, steps


def nonzero(case: Case) -> dict[str, list[Any]]:
    return {name: array[array != 0].tolist() for name, array in case.arrays.items() if (array != 0).any()}


WIDE = draw(RNNConfig(3, 5, T=4, N=2, hx=True), "normal", 3)


def test_what_does_not_matter_is_zero() -> None:
    case, steps = simplest(WIDE, lambda _case: True)

    assert nonzero(case) == {}
    assert steps.tried == 0


def test_negative_zeros_that_do_not_matter_are_zeros() -> None:
    arrays = {name: -np.abs(np.zeros_like(array)) for name, array in WIDE.arrays.items()}

    case, _ = simplest(Case.from_arrays(WIDE.config, arrays), lambda _case: True)

    assert not any(np.signbit(array).any() for array in case.arrays.values())


def test_one_number_that_matters_stays_and_becomes_one() -> None:
    case, steps = simplest(WIDE, lambda case: bool(case.weights["weight_hh_l0"][4, 2] != 0))

    assert nonzero(case) == {"weight_hh_l0": [1.0]}
    assert steps.tried == 1


def test_two_numbers_far_apart_that_matter_together_both_stay() -> None:
    case, _ = simplest(WIDE, lambda case: bool(case.x[0, 0, 0] and case.weights["bias_hh_l0"][4]))

    assert nonzero(case) == {"x": [1.0], "bias_hh_l0": [1.0]}


def test_a_threshold_ends_on_few_bits() -> None:
    case, _ = simplest(
        draw(RNNConfig(1, 1), "saturated", 1), lambda case: abs(float(case.weights["bias_hh_l0"][0])) > 5
    )

    value = abs(nonzero(case)["bias_hh_l0"][0])
    assert value > 5
    assert value in {6.0, 7.0, 8.0, 12.0, 16.0}


def test_a_nan_that_matters_stays_and_no_other() -> None:
    x = WIDE.x.copy()
    x[1, 1, 0] = x[3, 0, 2] = np.nan

    wild = Case.from_arrays(WIDE.config, {**WIDE.arrays, "x": x})
    case, _ = simplest(wild, lambda case: bool(np.isnan(case.x).any()))

    assert np.isnan(case.x).sum() == 1
    assert np.count_nonzero(np.nan_to_num(case.x)) == 0


def test_padding_is_left_alone() -> None:
    packed = draw(RNNConfig(2, 2, T=3, N=2, lengths=(1, 3), loss="output", output_size=1), "normal", 1)

    case, _ = simplest(packed, lambda _case: True)

    assert np.isnan(case.x[1:, 0]).all()
    assert not np.nan_to_num(case.x).any()


def test_what_is_expanded_changes_as_one() -> None:
    expanded = draw(RNNConfig(2, 2, T=3, N=2, strides="expanded", loss="output"), "normal", 1)

    assert sum(name == "output.grad" for name, _ in cells(expanded)) == 1
    case, _ = simplest(expanded, lambda case: bool(case.x[2, 1, 1] != 0))
    assert case.x[:, 1, 1].tolist() == [1.0, 1.0, 1.0]


def test_what_is_plainer_has_an_end() -> None:
    for start in (3.0, -7.25, 1e30, 5e-324, 0.1, math.pi, math.inf, math.nan, -0.5):
        seen = [start]
        while (following := list(plainer(seen[-1]))) and len(seen) < 100:
            seen.append(following[-1])
        assert len(seen) < 100
    assert list(plainer(0.0)) == []
    assert list(plainer(2.0)) == [0.0, 1.0, -1.0]
    assert list(plainer(6.0)) == [*PLAIN_NUMBERS, 4.0, 8.0]
    assert list(plainer(-0.1875)) == [*PLAIN_NUMBERS, -0.25]
    assert list(plainer(8.0)) == [*PLAIN_NUMBERS, 4.0]


def test_the_same_case_gives_the_same_steps() -> None:
    def ids() -> list[str]:
        seen: list[str] = []

        def fails(case: Case) -> bool:
            seen.append(case.id)
            return bool(case.x.any() and case.weights["weight_ih_l0"].any())

        simplest(WIDE, fails)
        return seen

    assert ids() == ids()
