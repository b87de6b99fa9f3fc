"""Tests of the judge: by exact arithmetic done elsewhere, it convicts the side that is wrong, and nobody else."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
from hypothesis import assume, example, given, settings, strategies as st

from harness.oracle import judge as module
from harness.oracle.arithmetic_assumptions import U64, Arithmetic
from harness.oracle.element_equation import ElementEquation
from harness.oracle.judge import WrongSide, judge
from harness.oracle.tolerance import StepOperands, step_tolerance
from harness.space.strategies import seeds
from tests.oracle.test_tolerance import ORDERS, one_unit, sequential

F = np.float32
LEAST, TINY, LARGEST = 2.0**-1074, 2.0**-1022, float(np.finfo(np.float64).max)
CONVICTS_SUBJECT = {WrongSide.SUBJECT, WrongSide.BOTH}


def equation(a: Sequence[float], b: Sequence[float], function: str = "identity", **slope: Any) -> ElementEquation:
    return ElementEquation(np.array(a, float), np.array(b, float), function, **slope)


def step_equation(step: StepOperands, function: str) -> ElementEquation:
    a = [*step.ih[0], *step.hh[0], 1.0, 1.0]
    return equation(a, [*step.x[0], *step.h[0], step.b_ih[0], step.b_hh[0]], function)


def reference_step(step: StepOperands, function: str) -> tuple[float, float]:
    """Return the reference's value of a one-unit step, and the float32 tolerance."""
    s = step.x @ step.ih.T + step.b_ih + step.h @ step.hh.T + step.b_hh
    y = np.tanh(s) if function == "tanh" else np.maximum(s, 0)
    return float(y[0, 0]), float(step_tolerance(step, s, y, function, Arithmetic("float32")).tolerance[0, 0])


def drawn_step(seed: int, I: int, H: int, scale: float = 1.0) -> StepOperands:  # noqa: E741
    rng = np.random.default_rng(seed)
    x, h, w, v, b = (rng.standard_normal(n) * scale for n in (I, H, I, H, 2))
    return one_unit(x, h, w, v, (b[0], b[1]))


def exact_sum(a: Sequence[float], b: Sequence[float]) -> Fraction:
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0))


def exponential(x: Fraction) -> tuple[Fraction, Fraction]:
    """Return bounds of exp(x), x >= 0: the Taylor series, and a geometric series above what it leaves out."""
    term = total = Fraction(1)
    n = 0
    while n < 2 * x + 2 or term > Fraction(1, 2**250):
        n += 1
        term *= x / n
        total += term
    return total, total + 2 * term  # every term after this one is less than half of the one before


def hyperbolic_tangent(s: Fraction) -> tuple[Fraction, Fraction]:
    """Return bounds of tanh(s) from below and from above."""
    if s < 0:
        low, high = hyperbolic_tangent(-s)
        return -high, -low
    low, high = exponential(2 * s)
    return 1 - 2 / (low + 1), 1 - 2 / (high + 1)


def assert_just_below(number: float, exact: Fraction, ball: Fraction) -> None:
    """Assert that a float64 is a lower bound, and lower by no more than a rounding and 128 bits of the ball cost."""
    assert Fraction(number) <= exact
    assert exact <= Fraction(number) * (1 + Fraction(2) ** -50) + abs(ball) * Fraction(2) ** -120 + Fraction(LEAST)


@pytest.mark.parametrize("function", ["tanh", "relu"])
@pytest.mark.parametrize("order", list(ORDERS))
@settings(max_examples=60)
@given(seed=seeds(), I=st.integers(1, 33), H=st.integers(1, 33), scale=st.sampled_from([0.1, 1.0, 1e4, 1e-20]))
def test_a_clean_float32_step_is_within_rounding(
    order: str,
    function: str,
    seed: int,
    I: int,  # noqa: E741
    H: int,
    scale: float,
) -> None:
    step = drawn_step(seed, I, H, scale)
    products = [F(w) * F(x) for w, x in zip([*step.ih[0], *step.hh[0]], [*step.x[0], *step.h[0]], strict=True)]
    s = ORDERS[order]([*products, F(step.b_ih[0]), F(step.b_hh[0])])
    actual = float(np.tanh(F(s)) if function == "tanh" else max(F(s), F(0)))
    expected, tolerance = reference_step(step, function)

    judgement = judge(step_equation(step, function), actual, expected, tolerance)

    assert judgement.ruling is WrongSide.NEITHER
    assert judgement.subject < 1
    assert judgement.reference < 1
    assert judgement.off_by <= tolerance


@pytest.mark.parametrize("function", ["tanh", "relu"])
@settings(max_examples=60)
@given(seed=seeds(), I=st.integers(1, 33), H=st.integers(1, 33))
def test_whoever_misses_a_bias_is_convicted(function: str, seed: int, I: int, H: int) -> None:  # noqa: E741
    step = drawn_step(seed, I, H)._replace(b_ih=np.zeros(1), b_hh=np.array([2.0]))
    step = step._replace(b_ih=0.5 - step.x @ step.ih[0] - step.h @ step.hh[0] - step.b_hh)  # s is about 0.5
    right, tolerance = reference_step(step, function)
    wrong, _ = reference_step(step._replace(b_hh=np.zeros(1)), function)  # s is about -1.5
    whole = step_equation(step, function)

    for actual, expected, ruling in [
        (wrong, right, WrongSide.SUBJECT),
        (right, wrong, WrongSide.REFERENCE),
        (wrong, wrong, WrongSide.BOTH),
        (right, right, WrongSide.NEITHER),
    ]:
        judgement = judge(whole, actual, expected, tolerance)
        assert judgement.ruling is ruling
        assert judgement.subject > 100 if actual == wrong else judgement.subject < 1
        assert judgement.reference > 1e9 if expected == wrong else judgement.reference < 1


numbers = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(-1e100, 1e100)


@settings(max_examples=500)
@given(
    pairs=st.lists(st.tuples(numbers, moderate) | st.tuples(moderate, moderate), min_size=1, max_size=8),
    state=st.none() | st.floats(-1.5, 1.5),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    function=st.sampled_from(["identity", "relu"]),
    at=st.sampled_from([0.0, 1.0, -1.0, 1 + 2.0**-30]),
    tolerance=st.floats(0, 1e300) | st.just(None),
)
def test_sums_and_their_slopes_are_judged_as_fractions_judge_them(
    pairs: list[tuple[float, float]],
    state: float | None,
    nonlinearity: str,
    function: str,
    at: float,
    tolerance: float | None,
) -> None:
    a, b = [a for a, _ in pairs], [b for _, b in pairs]
    exact = exact_sum(a, b)
    exact = max(exact, Fraction(0)) if function == "relu" else exact
    if state is not None:
        exact *= 1 - Fraction(state) ** 2 if nonlinearity == "tanh" else int(state > 0)
    assume(abs(exact) < 2**1000)
    actual = float(exact) * at
    off = abs(Fraction(actual) - exact)
    tolerance = float(off) if tolerance is None else tolerance  # as near to the edge as float64 can be

    judgement = judge(equation(a, b, function, state=state, nonlinearity=nonlinearity), actual, 0.0, tolerance)

    assert abs(Fraction(judgement.exact) - exact) <= abs(exact) * Fraction(1.001 * U64) + Fraction(LEAST)
    assert (judgement.ruling in CONVICTS_SUBJECT) == (off > Fraction(tolerance))
    assert judgement.ruling is not WrongSide.UNDECIDED
    assert_just_below(judgement.off_by, off, exact)
    if tolerance and math.isfinite(judgement.subject):
        assert Fraction(judgement.subject) * Fraction(tolerance) <= off


@settings(max_examples=300)
@given(s=st.floats(-20, 20), places=st.integers(-40, 40), state=st.none() | st.floats(-1, 1))
@example(s=0.0, places=1, state=None)
@example(s=1e-300, places=1, state=None)
def test_tanh_is_enclosed_as_its_series_encloses_it(s: float, places: int, state: float | None) -> None:
    slope = Fraction(1) if state is None else 1 - Fraction(state) ** 2
    low, high = (bound * slope for bound in hyperbolic_tangent(Fraction(s)))
    actual = math.tanh(s) * float(slope) * (1 + places * U64)
    off = max(abs(Fraction(actual) - low), abs(Fraction(actual) - high))

    judgement = judge(equation([s], [1.0], "tanh", state=state), actual, math.tanh(s) * float(slope), 1.0)

    assert judgement.ruling is WrongSide.NEITHER
    assert abs(Fraction(judgement.exact) - low) <= abs(high) * Fraction(1.001 * U64) + Fraction(LEAST)
    assert_just_below(judgement.off_by, off, high)


@pytest.mark.parametrize(("actual", "ruling"), [(0.0, WrongSide.NEITHER), (2.0**-199, WrongSide.SUBJECT)])
def test_what_no_128_bits_can_tell_is_told_by_more(actual: float, ruling: WrongSide) -> None:
    s = 2.0**-200  # tanh(s) is s (1 - 2**-401.6), a hair less than the tolerance above 0, and more than it below 2 s

    judgement = judge(equation([s], [1.0], "tanh"), actual, s, s)

    assert judgement.ruling is ruling
    assert judgement.subject == (1.0 if ruling is WrongSide.SUBJECT else math.nextafter(1.0, 0.0))


def test_a_ratio_is_a_lower_bound_after_its_division_too() -> None:
    a_hair_below_15 = equation([15.0, -(2.0**-124)], [1.0, 1.0])  # in 128 bits, a third of it is 5

    assert judge(a_hair_below_15, 0.0, 15.0, 3.0).subject == math.nextafter(5.0, 0.0)


def test_what_no_precision_can_tell_is_not_decided_and_hides_nothing_else() -> None:
    saturated = equation([1e5], [1.0], "tanh")  # 1, less about 10**-86859

    assert judge(saturated, 0.5, 1.0, 0.5).ruling is WrongSide.UNDECIDED
    assert judge(saturated, 0.5, 0.9, 0.5).ruling is WrongSide.REFERENCE
    assert judge(saturated, 1.0, 1.0, 0.0).ruling is WrongSide.UNDECIDED
    assert judge(saturated, 1.0, 1.0, 1e-30).ruling is WrongSide.NEITHER


@pytest.mark.parametrize(
    ("function", "sum_", "value"),
    [("relu", -3.0, 0.0), ("relu", 3.0, 3.0), ("relu", 0.0, 0.0), ("identity", -3.0, -3.0), ("tanh", 0.0, 0.0)],
)
def test_functions(function: str, sum_: float, value: float) -> None:
    judgement = judge(equation([sum_], [1.0], function), value, value, 0.0)

    assert (judgement.ruling, judgement.exact, judgement.subject) == (WrongSide.NEITHER, value, 0.0)
    assert judge(equation([sum_], [1.0], function), value + 1, value, 0.5).ruling is WrongSide.SUBJECT


@pytest.mark.parametrize(
    ("nonlinearity", "state", "value"),
    [
        ("tanh", 0.5, 1.5),
        ("tanh", -0.5, 1.5),
        ("tanh", 1.0, 0.0),
        ("tanh", 2.0, -6.0),
        ("relu", 0.5, 2.0),
        ("relu", 0.0, 0.0),
        ("relu", -0.5, 0.0),
        ("relu", 1e200, 2.0),
    ],
)
def test_slopes(nonlinearity: str, state: float, value: float) -> None:
    given = equation([2.0], [1.0], state=state, nonlinearity=nonlinearity)

    judgement = judge(given, value, value, 0.0)

    assert (judgement.ruling, judgement.exact, judgement.subject) == (WrongSide.NEITHER, value, 0.0)
    assert judge(given, value + 1, value, 0.5).ruling is WrongSide.SUBJECT
    assert judge(given, value, value + 1, 0.5).ruling is WrongSide.REFERENCE


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@settings(max_examples=300)
@given(
    seed=seeds(), m=st.integers(1, 60), scale=st.sampled_from([1.0, 1e-160, 1e150]), near=st.sampled_from([0, 1, 30])
)
def test_a_float64_gradient_is_within_the_reference_s_own_bound(
    nonlinearity: str, seed: int, m: int, scale: float, near: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, m)) * scale
    state = float(rng.choice([-1, 1])) * (1 - float(rng.random()) * 2.0**-near)
    slope = 1 - state * state if nonlinearity == "tanh" else float(state > 0)
    expected = float(a @ b) * slope

    judgement = judge(equation(a, b, state=state, nonlinearity=nonlinearity), expected, expected, math.inf)

    assert judgement.ruling is WrongSide.NEITHER
    assert judgement.reference < 1


def test_the_reference_s_bound_is_nearly_used_up_by_the_worst_order() -> None:
    k, just_above_half = 60, math.nextafter(U64, 1)
    a = [1.0, *[just_above_half] * k]

    judgement = judge(equation(a, [1.0] * (k + 1)), 1.0, sequential(a), 1.0)

    assert 0.8 <= judgement.reference <= 1


@pytest.mark.parametrize(("half_units", "ruling"), [(4, WrongSide.NEITHER), (5, WrongSide.REFERENCE)])
def test_the_reference_s_bound_counts_every_rounding_of_a_slope(half_units: int, ruling: WrongSide) -> None:
    q = 1 - 0.75**2
    bound = 2 * q + 0.75**2 + q + q  # in units of u: gamma_2, the square, the difference and the product

    judgement = judge(equation([1.0], [1.0], state=0.75), q, q + half_units / 2 * U64, 0.0)

    assert judgement.ruling is ruling
    assert judgement.reference == pytest.approx(half_units / 2 / bound, rel=1e-9)


@pytest.mark.parametrize(("units", "ruling"), [(2, WrongSide.NEITHER), (4, WrongSide.REFERENCE)])
def test_the_reference_s_tanh_may_be_off_by_what_tolerance_says_and_no_more(units: int, ruling: WrongSide) -> None:
    small = 2.0**-30  # tanh is the identity to 2**-60; in units of u, gamma_2 costs 2 and the function 4

    assert judge(equation([small], [1.0], "tanh"), small, small * (1 + 2 * units * U64), small).ruling is ruling


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_infinitely_wrong_where_the_exact_value_is_finite(value: float) -> None:
    given = equation([1.0], [2.0])

    subject, reference = judge(given, value, 2.0, 1.0), judge(given, 2.0, value, 1.0)

    assert (subject.ruling, subject.subject, subject.reference) == (WrongSide.SUBJECT, math.inf, 0.0)
    assert (subject.off_by, subject.exact) == (math.inf, 2.0)
    assert (reference.ruling, reference.subject, reference.reference) == (WrongSide.REFERENCE, 0.0, math.inf)
    assert judge(given, value, value, 1.0).ruling is WrongSide.BOTH


@pytest.mark.parametrize("value", [1e30, math.nan, math.inf])
def test_an_infinite_tolerance_exempts_the_subject_and_not_the_reference(value: float) -> None:
    exempt = judge(equation([1.0], [2.0]), value, 2.0, math.inf)

    assert (exempt.ruling, exempt.subject) == (WrongSide.NEITHER, 0.0)
    assert judge(equation([1.0], [2.0]), value, 3.0, math.inf).ruling is WrongSide.REFERENCE


def test_without_an_tolerance_any_difference_is_infinitely_wrong() -> None:
    judgement = judge(equation([1.0], [2.0]), math.nextafter(2.0, 3), 2.0, 0.0)

    assert (judgement.ruling, judgement.subject, judgement.off_by) == (WrongSide.SUBJECT, math.inf, 2.0**-51)


@pytest.mark.parametrize("expected", [math.inf, math.nan, 0.0])
@pytest.mark.parametrize(
    "overflows",
    [
        equation([1e308, 1e308, -1e308], [1.0, 1.0, 1.0]),
        equation([LARGEST, -LARGEST], [10.0, 10.0]),
        equation([1.0], [0.0], state=1e160),
        equation([1e200], [1.0], state=-1e60),
    ],
)
def test_a_reference_that_may_overflow_is_not_blamed(overflows: ElementEquation, expected: float) -> None:
    judgement = judge(overflows, expected, expected, math.inf)

    assert (judgement.ruling, judgement.reference) == (WrongSide.NEITHER, 0.0)


def test_a_large_number_that_cannot_overflow_is_judged() -> None:
    assert judge(equation([1e307], [1.0]), 1e307, 1.0001e307, 1.0).ruling is WrongSide.REFERENCE


def test_subnormal_numbers_are_exact_and_may_be_flushed_by_the_reference() -> None:
    least = equation([LEAST], [1.0])

    assert judge(least, LEAST, 0.0, 0.0).ruling is WrongSide.NEITHER
    assert judge(least, LEAST, 10 * TINY, 0.0).ruling is WrongSide.REFERENCE
    off = judge(least, 3 * LEAST, LEAST, LEAST)
    assert (off.ruling, off.exact, off.subject, off.off_by) == (WrongSide.SUBJECT, LEAST, 2.0, 2 * LEAST)


def test_flushed_operands_and_products_of_the_reference_are_not_its_fault() -> None:
    large, small = 2.0**1000, 2.0**-1023

    assert judge(equation([large], [small]), large * small, 0.0, 0.0).ruling is WrongSide.NEITHER
    assert judge(equation([small], [large]), large * small, 0.0, 0.0).ruling is WrongSide.NEITHER
    assert judge(equation([2.0**-511] * 8, [2.0**-512] * 8), 8 * small, 0.0, 0.0).ruling is WrongSide.NEITHER


def test_a_difference_too_small_for_float64_convicts_all_the_same() -> None:
    judgement = judge(equation([2.0**-600], [2.0**-600]), 0.0, 0.0, 0.0)

    assert (judgement.ruling, judgement.subject, judgement.off_by) == (WrongSide.SUBJECT, math.inf, 0.0)


def test_what_cancels_leaves_the_exact_rest() -> None:
    cancels = equation([1e30, -1e30, 1e-30], [1.0, 1.0, 1.0])

    judgement = judge(cancels, 1e-30, 0.0, 0.0)

    assert (judgement.ruling, judgement.exact) == (WrongSide.NEITHER, 1e-30)
    assert judge(cancels, 0.0, 1e-30, 0.0).ruling is WrongSide.SUBJECT
    assert judge(cancels, 1e-30, 2e15, 0.0).ruling is WrongSide.REFERENCE  # gamma_3 of 2e30 is 6.7e14


def test_terms_as_far_apart_as_float64_goes_are_summed_exactly() -> None:
    apart = equation([LARGEST, LEAST, -LARGEST], [LARGEST, LEAST, LARGEST], state=0.5)

    assert (
        judge(apart, 0.0, 0.0, 0.0).ruling is WrongSide.SUBJECT
    )  # it is 2**-2148 * 3/4, and the reference may overflow
    assert judge(apart._replace(function="tanh"), 0.0, 0.0, LEAST).ruling is WrongSide.NEITHER


@pytest.mark.parametrize(
    "unknown", [equation([math.nan], [1.0]), equation([1.0], [math.inf]), equation([1.0], [1.0], state=math.nan)]
)
def test_what_has_no_exact_value_is_not_decided(unknown: ElementEquation) -> None:
    judgement = judge(unknown, 1.0, 1.0, 1.0)

    assert judgement.ruling is WrongSide.UNDECIDED
    assert math.isnan(judgement.exact)
    assert (judgement.subject, judgement.reference, judgement.off_by) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("tolerance", [math.nan, -1.0])
def test_an_tolerance_that_is_none_decides_nothing(tolerance: float) -> None:
    assert judge(equation([1.0], [1.0]), 2.0, 2.0, tolerance).ruling is WrongSide.UNDECIDED


@pytest.fixture(params=[20, 53, 1000])
def precision(request: pytest.FixtureRequest) -> Iterator[int]:
    before = flint.ctx.prec
    flint.ctx.prec = request.param
    yield request.param
    flint.ctx.prec = before


def test_the_precision_of_others_is_neither_used_nor_changed(precision: int) -> None:
    assert judge(equation([1.0, 2.0**-900], [1.0, 1.0]), 1.0, 1.0, 0.0).ruling is WrongSide.SUBJECT
    assert flint.ctx.prec == precision

    with pytest.raises(ValueError, match="zip"):
        judge(equation([1.0], [1.0, 2.0]), 1.0, 1.0, 0.0)
    assert flint.ctx.prec == precision


def test_an_inexact_sum_is_a_ball_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRECISIONS", (128,))

    assert judge(equation([1e30, 1e-30, -1e30], [1.0, 1.0, 1.0]), 1e-30, 0.0, 0.0).ruling is WrongSide.UNDECIDED
    assert judge(equation([1e30, 1e-30, -1e30], [1.0, 1.0, 1.0]), 1.0, 0.0, 1e-3).ruling is WrongSide.SUBJECT
