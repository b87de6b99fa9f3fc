"""The allowance: never less than what a correct step may be off, and hardly more than what it can be off."""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.oracle import tolerance
from harness.oracle.tolerance import ARITHMETIC, U64, Step, gamma, linear_allowance, step_allowance
from harness.space.strategies import seeds

F = np.float32


def one_unit(
    x: Iterable[float], h: Iterable[float], w: Iterable[float], v: Iterable[float], b: tuple[float, float]
) -> Step:
    """A step with a single unit, exactly representable in float32."""
    rows = [np.array([list(values)], np.float32).astype(float) for values in (x, h, w, v)]
    return Step(rows[0], rows[1], rows[2], rows[3], np.array([F(b[0])], float), np.array([F(b[1])], float))


def carried_only(s: float) -> tuple[Step, Any]:
    """A step with W_hh = 1 and all else zero but a bias of s, and its preactivation."""
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    return Step(zero, zero, zero, one, np.array([s]), np.zeros(1)), np.array([[s]])


def exact_preactivation(step: Step) -> Fraction:
    pairs = [*zip(step.ih[0], step.x[0], strict=True), *zip(step.hh[0], step.h[0], strict=True)]
    total = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
    return total + Fraction(step.b_ih[0]) + Fraction(step.b_hh[0])


def allowance_of(step: Step, nonlinearity: str = "relu", dtype: str = "float32") -> tuple[float, float]:
    """The reference's value of a one-unit step, and its allowance."""
    s = step.x @ step.ih.T + step.b_ih + step.h @ step.hh.T + step.b_hh
    y = np.maximum(s, 0) if nonlinearity == "relu" else np.tanh(s)
    return float(y[0, 0]), float(step_allowance(step, s, y, nonlinearity, dtype)[0, 0])


def sequential(terms: list[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def pairwise(terms: list[Any]) -> Any:
    while len(terms) > 1:
        terms = [terms[i] + terms[i + 1] if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0]


def fused(terms: list[Any]) -> Any:
    """Every product and sum exact until it is rounded once, as an FMA chain."""
    return F(math.fsum(map(float, terms)))


ORDERS: dict[str, Callable[[list[Any]], Any]] = {
    "as they come": sequential,
    "backwards": lambda terms: sequential(terms[::-1]),
    "in pairs": pairwise,
    "large ones first": lambda terms: sequential(sorted(terms, key=abs, reverse=True)),
    "small ones first": lambda terms: sequential(sorted(terms, key=abs)),
    "positive ones first": lambda terms: sequential(sorted(terms, reverse=True)),
    "rounded once": fused,
}


@pytest.mark.parametrize("order", list(ORDERS))
@settings(max_examples=300)
@given(seed=seeds(), I=st.integers(1, 40), H=st.integers(1, 40), scale=st.sampled_from([0.1, 1.0, 1e4, 1e-20]))
def test_float32_sums_in_any_order_stay_within_it(order: str, seed: int, I: int, H: int, scale: float) -> None:  # noqa: E741
    rng = np.random.default_rng(seed)
    x, h, w, v, b = (rng.standard_normal(n) * scale for n in (I, H, I, H, 2))
    step = one_unit(x, h, w, v, (b[0], b[1]))
    products = [F(w) * F(x) for w, x in zip(step.ih[0], step.x[0], strict=True)]
    products += [F(w) * F(h) for w, h in zip(step.hh[0], step.h[0], strict=True)]

    computed = max(ORDERS[order]([*products, F(step.b_ih[0]), F(step.b_hh[0])]), F(0))

    exact = max(exact_preactivation(step), Fraction(0))
    _, allowance = allowance_of(step)
    assert abs(Fraction(float(computed)) - exact) <= Fraction(allowance)


def test_the_worst_order_nearly_uses_it_up() -> None:
    # 1 plus k terms of just above half its last place: each addition rounds up by almost half of it.
    k = 60
    tiny = float(np.nextafter(F(2.0**-24), F(1)))
    step = one_unit([1.0] * k, [0.0], [tiny] * k, [0.0], (1.0, 0.0))

    computed = sequential([F(1.0), *[F(tiny)] * k])

    error = abs(Fraction(float(computed)) - exact_preactivation(step))
    _, allowance = allowance_of(step)
    assert Fraction(0.8) <= error / Fraction(allowance) <= 1


def test_flushed_products_stay_within_it() -> None:
    k = 30
    step = one_unit([2.0**-70] * k, [0.0], [2.0**-60] * k, [0.0], (0.0, 0.0))

    _, allowance = allowance_of(step)

    assert float(exact_preactivation(step)) <= allowance  # a subject that flushes to zero returns 0


@settings(max_examples=500)
@given(s=st.floats(-30, 30), share=st.floats(-1, 1), exponent=st.integers(-40, 3))
def test_tanh_of_a_disturbed_argument_stays_within_it(s: float, share: float, exponent: int) -> None:
    e = 2.0**exponent
    step, pre = carried_only(s)

    allowance = step_allowance(step, pre, np.tanh(pre), "tanh", "float64", h_error=np.array([[e]]))

    assert abs(math.tanh(s + share * e) - math.tanh(s)) <= allowance[0, 0]


@settings(max_examples=300)
@given(at=st.floats(-2, 2), share=st.floats(-1, 1), exponent=st.integers(-40, 3))
def test_relu_of_a_disturbed_argument_stays_within_it_around_the_kink(at: float, share: float, exponent: int) -> None:
    e = 2.0**exponent
    s = at * e
    step, pre = carried_only(s)

    allowance = step_allowance(step, pre, np.maximum(pre, 0), "relu", "float64", h_error=np.array([[e]]))

    assert abs(max(s + share * e, 0) - max(s, 0)) <= allowance[0, 0]


@settings(max_examples=300)
@given(s=st.floats(0.01, 10))
def test_a_tanh_at_the_stated_accuracy_is_allowed_and_one_beyond_it_is_not(s: float) -> None:
    step = one_unit([1.0], [0.0], [1.0], [0.0], (0.0, 0.0))._replace(x=np.array([[float(F(s))]]))
    y, allowance = allowance_of(step, "tanh")
    u = ARITHMETIC["float32"].u

    assert tolerance.TANH_ERROR * u * y <= allowance
    assert (
        allowance <= (tolerance.TANH_ERROR + 6) * u * y
    )  # four terms, two of them zero: gamma_5 of |s| tanh'(s) <= 5 u y


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tanh_of_numpy_and_torch_is_as_accurate_as_stated(library: str, dtype: str) -> None:
    import torch

    x = np.exp(np.random.default_rng(0).uniform(np.log(1e-4), np.log(9), 200_000)).astype(dtype)
    y = np.tanh(x) if library == "numpy" else torch.tanh(torch.from_numpy(x)).numpy()
    wide = np.longdouble if np.finfo(np.longdouble).nmant > 52 else np.float64

    error = np.abs(y.astype(wide) - np.tanh(x.astype(wide))) / np.tanh(x.astype(wide))

    assert float(error.max()) <= tolerance.TANH_ERROR * ARITHMETIC[dtype].u


def test_a_bias_that_is_off_by_one_part_in_ten_thousand_is_beyond_it() -> None:
    step = one_unit([0.5], [0.25], [0.3], [-0.2], (0.7, 0.1))
    y, allowance = allowance_of(step, "tanh")

    wrong = math.tanh(float(exact_preactivation(step)) + 0.7e-4)

    assert abs(wrong - y) > 10 * allowance


@pytest.mark.parametrize("operand", [float("inf"), float("nan"), 3e38])
def test_where_anything_may_come_out_everything_is_allowed(operand: float) -> None:
    step = one_unit([operand, operand], [0.0], [1.0, 1.0], [0.0], (0.0, 0.0))
    with np.errstate(all="ignore"):
        s = step.x @ step.ih.T

    for y in (np.maximum(s, 0), np.tanh(s)):
        assert np.isposinf(step_allowance(step, s, y, "relu", "float32")).all()


def test_relu_that_is_clearly_off_must_be_exactly_zero() -> None:
    step = one_unit([1.0], [0.0], [1.0], [0.0], (-5.0, 0.0))

    y, allowance = allowance_of(step)

    assert y == 0
    assert allowance < 1e-30


@settings(max_examples=200)
@given(seed=seeds(), K=st.integers(1, 60))
def test_a_float32_readout_stays_within_its_allowance(seed: int, K: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, b = (rng.standard_normal(shape).astype(F) for shape in ((3, K), (2, K), (2,)))
    wide = x.astype(float), w.astype(float), b.astype(float)
    y = wide[0] @ wide[1].T + wide[2]

    allowance = linear_allowance(*wide, "float32")

    for n in range(3):
        for o in range(2):
            computed = sequential([*(w[o] * x[n]), b[o]])
            assert abs(float(computed) - y[n, o]) <= allowance[n, o]


def test_a_readout_s_worst_order_nearly_uses_it_up_and_flushing_is_allowed() -> None:
    k = 60
    tiny = float(np.nextafter(F(2.0**-24), F(1)))
    weight, bias = np.full((1, k), tiny), np.ones(1)
    computed = sequential([F(1.0), *[F(tiny)] * k])
    exact = 1 + k * Fraction(tiny)

    allowance = float(linear_allowance(np.ones((1, k)), weight, bias, "float32")[0, 0])
    flushed = float(
        linear_allowance(np.full((1, k), 2.0**-70), np.full((1, k), 2.0**-60), np.zeros(1), "float32")[0, 0]
    )

    assert Fraction(0.8) <= abs(Fraction(float(computed)) - exact) / Fraction(allowance) <= 1
    assert k * 2.0**-130 <= flushed


@pytest.mark.parametrize("huge", ["weight", "operand"])
def test_flushed_operands_stay_within_it(huge: str) -> None:
    large, small = 2.0**126, 2.0**-127  # a subnormal, which hardware may read as 0
    w, x = (large, small) if huge == "weight" else (small, large)
    step = one_unit([x], [x], [w], [w], (0.0, 0.0))

    _, allowance = allowance_of(step)

    assert float(exact_preactivation(step)) <= allowance
    assert float(exact_preactivation(step)) / 2 <= linear_allowance(step.x, step.ih, step.b_ih, "float32")[0, 0]


def test_underflow_is_allowed_what_it_can_cost_and_no_more() -> None:
    step = one_unit([0.0] * 3, [0.0] * 4, [0.0] * 3, [0.0] * 4, (0.0, 0.0))

    _, allowance = allowance_of(step)

    assert allowance <= 20 * 9 * ARITHMETIC["float32"].tiny


def test_large_numbers_that_cannot_overflow_are_compared() -> None:
    for size in (1e20, 1e37):
        step = one_unit([size], [0.0], [1.0], [0.0], (0.0, 0.0))
        y, allowance = allowance_of(step)
        readout = linear_allowance(step.x, step.ih, step.b_ih, "float32")

        assert 0 < allowance < 1e-5 * y
        assert 0 < readout[0, 0] < 1e-5 * y


def test_an_operand_that_is_off_is_rounded_at_the_size_it_really_has() -> None:
    step = one_unit([0.0], [0.0], [1.0], [0.0], (0.0, 0.0))
    zero = np.zeros((1, 1))
    off = np.full((1, 1), 1e6)

    stepwise = step_allowance(step, zero, zero, "relu", "float32", x_error=off)
    readout = linear_allowance(step.x, step.ih, step.b_ih, "float32", x_error=off)

    assert 1e6 * (1 + 2.0**-24) <= stepwise[0, 0] <= 1e6 * (1 + 2.0**-20)
    assert 1e6 * (1 + 2.0**-24) <= readout[0, 0] <= 1e6 * (1 + 2.0**-20)


def test_gamma_bounds_a_product_of_roundings() -> None:
    u = U64
    product = Fraction(1)
    for _ in range(100):
        product *= 1 + Fraction(u)

    assert product - 1 <= Fraction(gamma(100, u))
    assert gamma(100, u) <= 101 * u
