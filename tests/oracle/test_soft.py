"""Tests of the soft tolerance: correct sums stay within it, and it is sharper than the hard one, but has a floor."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness.oracle.arithmetic_assumptions import FORMATS, Arithmetic
from harness.oracle.element_equation import ElementEquation
from harness.oracle.tolerance import soft_floor, soft_tolerance
from harness.space.strategies import seeds
from tests.oracle.test_tolerance import ORDERS, F, drawn, exact_preactivation, tolerance_of

FLOAT32 = Arithmetic("float32")
CASES = 300


def equation_of(step: Any, function: str) -> ElementEquation:
    """Return the equation of a one-unit step in the order in which it is written."""
    a = np.concatenate([step.x[0], [1.0], step.h[0], [1.0]])
    b = np.concatenate([step.ih[0], step.b_ih, step.hh[0], step.b_hh])
    return ElementEquation(a, b, function, groups=(step.x.size + 1, step.h.size + 1))


@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize("function", ["relu", "tanh"])
def test_hundreds_of_float32_steps_in_any_order_do_not_exceed_it(order: str, function: str) -> None:
    worst = 0.0
    for seed in range(CASES):
        I, H = 1 + seed % 37, 1 + seed % 41  # noqa: E741
        step = drawn(seed, I, H, 1.0, (I + H) ** -0.5)
        products = [*(F(w) * F(x) for w, x in zip(step.ih[0], step.x[0], strict=True))]
        products += [F(w) * F(h) for w, h in zip(step.hh[0], step.h[0], strict=True)]
        s = ORDERS[order]([*products, F(step.b_ih[0]), F(step.b_hh[0])])
        computed = np.tanh(F(s)) if function == "tanh" else max(F(s), F(0))
        y, _ = tolerance_of(step, function)
        soft = soft_tolerance(equation_of(step, function), y, FLOAT32)
        assert abs(float(computed) - y) <= soft, seed
        worst = max(worst, abs(float(computed) - y) / soft if soft else 0.0)
    assert worst > 1 / 16  # a model that no roundings come near would say nothing


@pytest.mark.parametrize("function", ["relu", "tanh", "identity"])
def test_it_is_sharper_than_what_is_proved_for_long_sums_and_the_more_so_the_longer(function: str) -> None:
    ratios = []
    for m in (64, 256, 1024):
        of_m = []
        for seed in range(20):
            step = drawn(seed, m // 2, m // 2, 1.0, m**-0.5)
            y, hard = tolerance_of(step, function if function == "tanh" else "relu")
            if y:
                of_m.append(soft_tolerance(equation_of(step, function), y, FLOAT32) / hard)
        ratios.append(max(of_m))

    assert ratios[0] < 1
    assert sorted(ratios, reverse=True) == ratios


numbers = st.floats(-(2.0**60), 2.0**60, width=32)


@settings(max_examples=500)
@given(
    pairs=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12),
    function=st.sampled_from(["identity", "tanh", "relu"]),
    dtype=st.sampled_from(list(FORMATS)),
    cut=st.integers(0, 12),
)
def test_the_floor_is_never_above_it(pairs: list[tuple[float, float]], function: str, dtype: str, cut: int) -> None:
    a, b = np.array(pairs).T
    split = min(cut, len(a) - 1)
    groups = (split, len(a) - split) if split else ()
    s = a @ b
    y = {"identity": s, "tanh": np.tanh(s), "relu": np.maximum(s, 0)}[function]
    arithmetic = Arithmetic(dtype)

    soft = soft_tolerance(ElementEquation(a, b, function, groups=groups), float(y), arithmetic)
    floor = soft_floor(np.array(s), np.array(y), np.abs(a) @ np.abs(b), function, arithmetic)

    assert float(floor) <= soft


@pytest.mark.parametrize("terms", [4, 100, 400])
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("rest", [0.0, 0.25])
def test_nor_where_large_terms_cancel_to_little_beside_the_error(terms: int, dtype: str, rest: float) -> None:
    a, b, arithmetic = np.array([1.0, -1.0] * (terms // 2) + [rest]), np.ones(terms + 1), Arithmetic(dtype)

    soft = soft_tolerance(ElementEquation(a, b, "tanh"), float(np.tanh(rest)), arithmetic)

    assert soft_floor(np.array(rest), np.tanh(rest), np.abs(a) @ b, "tanh", arithmetic) <= soft


@settings(max_examples=300)
@given(
    pairs=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12),
    state=st.floats(-1, 1),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
)
def test_nor_is_that_of_a_sum_times_a_slope(pairs: list[tuple[float, float]], state: float, nonlinearity: str) -> None:
    a, b = np.array(pairs).T
    slope = 1 - state * state if nonlinearity == "tanh" else float(state > 0)
    floor = slope * soft_floor(np.array(a @ b), np.array(a @ b), np.abs(a) @ np.abs(b), "identity", FLOAT32)

    soft = soft_tolerance(ElementEquation(a, b, state=state, nonlinearity=nonlinearity), float(a @ b) * slope, FLOAT32)

    assert float(floor) <= soft


@settings(max_examples=200)
@given(seed=seeds(), m=st.integers(1, 40), exponent=st.integers(-30, 30))
def test_it_scales_with_the_terms(seed: int, m: int, exponent: int) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, m)) + 2.0  # far from 0, where underflow is nothing
    one = soft_tolerance(ElementEquation(a, b), float(a @ b), FLOAT32)

    scaled = soft_tolerance(ElementEquation(a * 2.0**exponent, b), float(a @ b) * 2.0**exponent, FLOAT32)

    underflow = 2.0**-126 * (8 * (m + 1) + np.abs(a).sum() * (1 + 2.0**exponent) + 2 * np.abs(b).sum())
    assert math.isclose(scaled, one * 2.0**exponent, rel_tol=2.0**-40, abs_tol=underflow * (1 + 2.0**exponent))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_no_square_of_its_terms_overflows_or_vanishes(scale: float) -> None:
    terms = np.array([scale, scale, -scale])

    soft = soft_tolerance(ElementEquation(terms, np.ones(3)), scale, Arithmetic("float64"))

    assert 2.0**-53 * scale < soft < 2.0**-40 * scale


@pytest.mark.parametrize("a", [[0.0, 0.0], [math.inf, 1.0], [math.nan, 1.0]])
def test_of_nothing_and_of_what_is_not_finite_it_says_nothing(a: list[float]) -> None:
    assert soft_tolerance(ElementEquation(np.array(a), np.ones(2)), 0.0, FLOAT32) == math.inf


@settings(max_examples=300)
@given(seed=seeds(), m=st.integers(1, 60), state=st.floats(-1, 1, width=32), order=st.sampled_from(list(ORDERS)))
def test_a_float32_gradient_through_tanh_does_not_exceed_it(seed: int, m: int, state: float, order: str) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, m)).astype(F)
    h = F(state)
    computed = F(ORDERS[order](list(a * b))) * (F(1) - h * h)
    wide = ElementEquation(a.astype(float), b.astype(float), state=state)
    exact = sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)), Fraction(0))
    expected = exact * (1 - Fraction(state) ** 2)

    soft = soft_tolerance(wide, float(expected), FLOAT32)

    assert abs(Fraction(float(computed)) - expected) <= Fraction(soft)


def test_a_bias_that_is_off_by_one_part_in_a_hundred_thousand_exceeds_it_where_nothing_is_proved() -> None:
    step = drawn(0, 512, 512, 1.0, 1024**-0.5)
    step = step._replace(b_ih=np.array([1.0]))
    s = exact_preactivation(step)
    off = float(step.b_ih[0]) * 2e-5
    y, hard = tolerance_of(step, "tanh")

    soft = soft_tolerance(equation_of(step, "tanh"), y, FLOAT32)

    assert soft < abs(math.tanh(float(s) + off) - y) < hard
