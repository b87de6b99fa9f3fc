"""Tests of comparison: the order in which arrays are looked at, and records that name the place."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig
from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.compare import (
    Mismatch,
    MismatchKind,
    beyond,
    check_form,
    compare,
    over_tolerance,
    same_numbers,
    suspect,
)
from harness.oracle.element_equation import ElementEquation
from harness.oracle.expected import ExpectedArray
from harness.oracle.tolerance import soft_floor, soft_tolerance

CONFIG = RNNConfig(1, 2, T=3, N=4, bidirectional=True)
ZEROS = {name: np.zeros(spec.shape, np.float32) for name, spec in CONFIG.outputs.items()}


def expected(tolerance: float) -> dict[str, ExpectedArray]:
    return {name: ExpectedArray(np.zeros(a.shape), np.full(a.shape, tolerance)) for name, a in ZEROS.items()}


def with_output(*changes: tuple[tuple[int, ...], float]) -> dict[str, Any]:
    output = ZEROS["output"].copy()
    for index, value in changes:
        output[index] = value
    return {**ZEROS, "output": output}


def only(mismatches: list[Mismatch]) -> Mismatch:
    assert len(mismatches) == 1
    return mismatches[0]


def test_what_is_within_the_tolerance_is_no_mismatch() -> None:
    assert compare(CONFIG, with_output(((0, 0, 0), 1.0)), expected(1.0)) == []


def test_the_worst_site_comes_first_and_all_are_counted() -> None:
    actual = with_output(((0, 0, 0), 1.0), ((2, 3, 3), -4.0), ((1, 1, 1), 2.0))

    mismatch = only(compare(CONFIG, actual, expected(0.5)))

    assert (mismatch.array, mismatch.sort, mismatch.count, mismatch.total) == ("output", MismatchKind.VALUE, 3, 48)
    assert mismatch.sites[0].place == {"t": 2, "n": 3, "direction": "reverse", "unit": 1}
    assert (mismatch.sites[0].actual, mismatch.sites[0].difference, mismatch.sites[0].tolerance) == (-4.0, 4.0, 0.5)
    assert [site.actual for site in mismatch.sites] == [-4.0, 1.0, 2.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_where_it_should_be_is_a_sort_of_its_own(value: float) -> None:
    mismatch = only(compare(CONFIG, with_output(((1, 0, 0), value), ((0, 0, 0), 9.0)), expected(1.0)))

    assert (mismatch.sort, mismatch.count) == (MismatchKind.FINITENESS, 1)
    assert mismatch.sites[0].place["t"] == 1


@pytest.mark.parametrize("value", [0.0, np.inf, -np.inf])
def test_whatever_stands_where_nan_should_differs_in_finiteness(value: float) -> None:
    wanted = expected(0.0)
    wanted["output"].values[1, 0, 0] = np.nan

    assert only(compare(CONFIG, with_output(((1, 0, 0), value)), wanted)).sort is MismatchKind.FINITENESS
    assert compare(CONFIG, with_output(((1, 0, 0), np.nan)), wanted) == []


def test_infinities_of_different_signs_differ_in_value() -> None:
    wanted = expected(0.0)
    wanted["output"].values[1, 0, 0] = np.inf

    mismatch = only(compare(CONFIG, with_output(((1, 0, 0), -np.inf)), wanted))

    assert (mismatch.sort, mismatch.count) == (MismatchKind.VALUE, 1)
    assert compare(CONFIG, with_output(((1, 0, 0), np.inf)), wanted) == []


FLOAT32 = Arithmetic("float32")


def one_term(off: float) -> tuple[dict[str, Any], dict[str, ExpectedArray]]:
    """Return an output that is 1 everywhere, by one product, and off by ``off`` in one place."""
    values = np.ones(CONFIG.outputs["output"].shape)
    floor = soft_floor(values, values, values, "identity", FLOAT32)
    equation = ElementEquation(np.ones(1), np.ones(1))
    wanted = ExpectedArray(values, np.full(values.shape, 1.0), floor, lambda _: equation)
    actual = values.copy()
    actual[1, 2, 3] += off
    return {"output": actual}, {"output": wanted}


def test_what_is_beyond_the_soft_tolerance_is_suspicious_and_placed() -> None:
    soft = soft_tolerance(ElementEquation(np.ones(1), np.ones(1)), 1.0, FLOAT32)

    mismatch = only(suspect(CONFIG, *one_term(1.01 * soft), FLOAT32, probed=True))

    assert (mismatch.sort, mismatch.count, mismatch.probed) == (MismatchKind.SUSPICIOUS, 1, True)
    assert mismatch.kind == "output: value"  # a suspicion that turns out to be proved is the same failure
    assert mismatch.sites[0].place == {"t": 1, "n": 2, "direction": "reverse", "unit": 1}
    assert mismatch.sites[0].tolerance == soft
    assert mismatch.sites[0].equation is not None
    assert suspect(CONFIG, *one_term(0.99 * soft), FLOAT32) == []


def test_what_has_no_equation_or_is_exempt_is_never_suspicious() -> None:
    actual, wanted = one_term(0.5)
    unknown = {"output": replace(wanted["output"], equation=None)}
    exempt = {"output": replace(wanted["output"], tolerance=np.full((3, 4, 4), np.inf))}

    assert suspect(CONFIG, actual, wanted, FLOAT32)
    assert suspect(CONFIG, actual, unknown, FLOAT32) == []
    assert suspect(CONFIG, actual, exempt, FLOAT32) == []


def test_an_infinite_tolerance_exempts_anything() -> None:
    for value in (np.nan, np.inf, 1e30):
        assert compare(CONFIG, with_output(((1, 0, 0), value)), expected(np.inf)) == []


def test_names_come_before_shapes_and_shapes_before_dtypes() -> None:
    both = ("output", "h_n")
    wrong_shape: dict[str, Any] = {**ZEROS, "output": np.zeros((3, 4, 2))}

    assert only(check_form(CONFIG, {"output": ZEROS["output"]}, required=both)).sort is MismatchKind.MISSING
    assert only(check_form(CONFIG, {**ZEROS, "c_n": ZEROS["h_n"]}, required=both)).sort is MismatchKind.UNEXPECTED
    assert only(check_form(CONFIG, wrong_shape, required=both)).sort is MismatchKind.SHAPE
    assert (
        only(check_form(CONFIG, {**ZEROS, "h_n": ZEROS["h_n"].astype(float)}, required=both)).sort is MismatchKind.DTYPE
    )
    assert check_form(CONFIG, ZEROS, required=both) == []


def test_same_numbers_takes_nan_for_itself_and_shapes_seriously() -> None:
    a = np.array([1.0, np.nan])

    assert same_numbers(a, a.copy())
    assert not same_numbers(a, np.array([1.0, 2.0]))
    assert not same_numbers(np.zeros(1), np.zeros((1, 1)))


def test_the_kind_of_a_mismatch_does_not_depend_on_the_layer() -> None:
    assert (
        Mismatch("output", MismatchKind.VALUE, layer=1).kind
        == Mismatch("output", MismatchKind.VALUE).kind
        == "output: value"
    )


def test_an_error_over_its_tolerance_is_above_one_exactly_where_it_is_beyond() -> None:
    values = np.array([0.0, 1.0, -2.0, np.inf, -np.inf, np.nan, 1e308])
    actual, wanted, allowed = (a.ravel() for a in np.meshgrid(values, values, [0.0, 1.0, 3.0, np.inf, np.nan]))

    over = over_tolerance(actual, wanted, allowed)

    assert not np.isnan(over).any()
    assert ((over > 1) == beyond(actual, wanted, allowed)).all()
    assert over_tolerance(np.array([1.5]), np.array([1.0]), np.array([2.0])).tolist() == [0.25]
