"""Tests of the tolerance: it is never less than a correct step's possible error, and hardly more."""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness.oracle.arithmetic_assumptions import FORMATS, TOLERANCES, U64, AcceptedErrors, Arithmetic
from harness.oracle.tolerance import (
    DotProductFigures,
    StepOperands,
    gamma,
    linear_tolerance,
    off_grid,
    step_tolerance,
    sum_tolerance,
)
from harness.space.declared_arithmetic import LEAST_ASSUMED, Grid, Grids
from harness.space.strategies import seeds
from harness.subjects.torch_class_facts import TORCH

F = np.float32
FLOAT32, FLOAT64 = Arithmetic("float32"), Arithmetic("float64")
KAPPA = LEAST_ASSUMED.tanh_error


def one_unit(
    x: Iterable[float],
    h: Iterable[float],
    w: Iterable[float],
    v: Iterable[float],
    b: tuple[float, float],
    dtype: str = "float32",
) -> StepOperands:
    """Return a step with a single unit, exactly representable in its dtype."""
    rows = [np.array([list(values)]).astype(dtype).astype(float) for values in (x, h, w, v)]
    return StepOperands(rows[0], rows[1], rows[2], rows[3], *(np.array([one]).astype(dtype).astype(float) for one in b))


def carried_only(s: float) -> tuple[StepOperands, Any]:
    """Return a step with W_hh = 1 and all else zero except for a bias of s, and its preactivation."""
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    return StepOperands(zero, zero, zero, one, np.array([s]), np.zeros(1)), np.array([[s]])


def exact_preactivation(step: StepOperands) -> Fraction:
    pairs = [*zip(step.ih[0], step.x[0], strict=True), *zip(step.hh[0], step.h[0], strict=True)]
    total = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
    return total + Fraction(step.b_ih[0]) + Fraction(step.b_hh[0])


def tolerance_of(
    step: StepOperands, nonlinearity: str = "relu", arithmetic: Arithmetic = FLOAT32
) -> tuple[float, float]:
    """Return the reference's value of a one-unit step, and its tolerance."""
    s = step.x @ step.ih.T + step.b_ih + step.h @ step.hh.T + step.b_hh
    y = np.maximum(s, 0) if nonlinearity == "relu" else np.tanh(s)
    return float(y[0, 0]), float(step_tolerance(step, s, y, nonlinearity, arithmetic).tolerance[0, 0])


def drawn(seed: int, I: int, H: int, data: float, weights: float | None = None, dtype: str = "float32") -> StepOperands:  # noqa: E741
    """Draw a step of N(0, 1) numbers, times a scale for the data and another for the parameters."""
    rng = np.random.default_rng(seed)
    of_weights = data if weights is None else weights
    x, h = (rng.standard_normal(n) * data for n in (I, H))
    w, v, b = (rng.standard_normal(n) * of_weights for n in (I, H, 2))
    return one_unit(x, h, w, v, (b[0], b[1]), dtype)


def assert_within(step: StepOperands, s: Any, nonlinearity: str, arithmetic: Arithmetic) -> None:
    """Assert that the activation of a subject's preactivation is allowed."""
    computed = np.maximum(s, 0) if nonlinearity == "relu" else np.tanh(s.astype(F))
    y, tolerance = tolerance_of(step, nonlinearity, arithmetic)
    assert abs(float(computed.astype(arithmetic.dtype)) - y) <= tolerance


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
    """Return a sum in which every product and sum is exact until it is rounded once, as in an FMA chain."""
    return F(math.fsum(map(float, terms)))


def side_by_side(terms: list[Any]) -> Any:
    """Return a sum of eight partial sums, as in the lanes of a vector register."""
    return pairwise([sequential(terms[lane::8]) for lane in range(min(8, len(terms)))])


ORDERS: dict[str, Callable[[list[Any]], Any]] = {
    "as they come": sequential,
    "backwards": lambda terms: sequential(terms[::-1]),
    "in pairs": pairwise,
    "side by side": side_by_side,
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
    _, tolerance = tolerance_of(step)
    assert abs(Fraction(float(computed)) - exact) <= Fraction(tolerance)


def test_the_worst_order_nearly_uses_it_up() -> None:
    # 1 plus k terms of just above half its last place: each addition rounds up by almost half of it.
    k = 60
    tiny = float(np.nextafter(F(2.0**-24), F(1)))
    step = one_unit([1.0] * k, [0.0], [tiny] * k, [0.0], (1.0, 0.0))

    computed = sequential([F(1.0), *[F(tiny)] * k])

    error = abs(Fraction(float(computed)) - exact_preactivation(step))
    _, tolerance = tolerance_of(step)
    assert Fraction(0.8) <= error / Fraction(tolerance) <= 1


def test_flushed_products_stay_within_it() -> None:
    k = 30
    step = one_unit([2.0**-70] * k, [0.0], [2.0**-60] * k, [0.0], (0.0, 0.0))

    _, tolerance = tolerance_of(step)

    assert float(exact_preactivation(step)) <= tolerance  # a subject that flushes to zero returns 0


@settings(max_examples=500)
@given(s=st.floats(-30, 30), share=st.floats(-1, 1), exponent=st.integers(-40, 3))
def test_tanh_of_a_disturbed_argument_stays_within_it(s: float, share: float, exponent: int) -> None:
    e = 2.0**exponent
    step, pre = carried_only(s)

    tolerance = step_tolerance(step, pre, np.tanh(pre), "tanh", FLOAT64, h_error=np.array([[e]])).tolerance

    assert abs(math.tanh(s + share * e) - math.tanh(s)) <= tolerance[0, 0]


@settings(max_examples=300)
@given(at=st.floats(-2, 2), share=st.floats(-1, 1), exponent=st.integers(-40, 3))
def test_relu_of_a_disturbed_argument_stays_within_it_around_the_kink(at: float, share: float, exponent: int) -> None:
    e = 2.0**exponent
    s = at * e
    step, pre = carried_only(s)

    tolerance = step_tolerance(step, pre, np.maximum(pre, 0), "relu", FLOAT64, h_error=np.array([[e]])).tolerance

    assert abs(max(s + share * e, 0) - max(s, 0)) <= tolerance[0, 0]


@pytest.mark.parametrize(("dtype", "u"), [("float32", 2.0**-24), ("float64", 2.0**-53)])
def test_a_saturated_tanh_may_be_off_by_one_in_its_last_place_and_not_by_two(dtype: str, u: float) -> None:
    step = one_unit([20.0], [0.0], [1.0], [0.0], (0.0, 0.0))  # here no error of the sum reaches the result

    y, tolerance = tolerance_of(step, "tanh", Arithmetic(dtype))

    assert y == 1
    assert 1 - (1 - 2 * u) <= tolerance < 4 * u + 4 * 2.0**-53 * (dtype == "float64")


@settings(max_examples=300)
@given(s=st.floats(0.01, 10))
def test_a_tanh_at_the_stated_accuracy_is_allowed_and_one_beyond_it_is_not(s: float) -> None:
    step = one_unit([1.0], [0.0], [1.0], [0.0], (0.0, 0.0))._replace(x=np.array([[float(F(s))]]))
    y, tolerance = tolerance_of(step, "tanh")
    u = FORMATS["float32"].u

    assert KAPPA * u * y <= tolerance
    assert tolerance <= (KAPPA + 6) * u * y  # four terms, two of them zero: gamma_5 of |s| tanh'(s) <= 5 u y


@pytest.mark.kernels
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tanh_of_numpy_and_torch_is_as_accurate_as_stated(library: str, dtype: str) -> None:
    import torch

    x = np.exp(np.random.default_rng(0).uniform(np.log(1e-4), np.log(9), 200_000)).astype(dtype)
    y = np.tanh(x) if library == "numpy" else torch.tanh(torch.from_numpy(x)).numpy()
    wide = np.longdouble if np.finfo(np.longdouble).nmant > 52 else np.float64

    error = np.abs(y.astype(wide) - np.tanh(x.astype(wide))) / np.tanh(x.astype(wide))

    backend = TORCH["cpu"] if library == "torch" else LEAST_ASSUMED
    assert float(error.max()) <= backend.tanh_error * FORMATS[dtype].u


def test_a_bias_that_is_off_by_one_part_in_ten_thousand_is_beyond_it() -> None:
    step = one_unit([0.5], [0.25], [0.3], [-0.2], (0.7, 0.1))
    y, tolerance = tolerance_of(step, "tanh")

    wrong = math.tanh(float(exact_preactivation(step)) + 0.7e-4)

    assert abs(wrong - y) > 10 * tolerance


def test_where_anything_may_come_out_everything_is_allowed() -> None:
    step = one_unit([3e38, 3e38], [0.0], [1.0, 1.0], [0.0], (0.0, 0.0))

    for nonlinearity in ("relu", "tanh"):
        assert tolerance_of(step, nonlinearity)[1] == math.inf


def test_relu_that_is_clearly_off_must_be_exactly_zero() -> None:
    step = one_unit([1.0], [0.0], [1.0], [0.0], (-5.0, 0.0))

    y, tolerance = tolerance_of(step)

    assert y == 0
    assert tolerance < 1e-30


@settings(max_examples=200)
@given(seed=seeds(), K=st.integers(1, 60))
def test_a_float32_readout_stays_within_its_tolerance(seed: int, K: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, b = (rng.standard_normal(shape).astype(F) for shape in ((3, K), (2, K), (2,)))
    wide = x.astype(float), w.astype(float), b.astype(float)
    y = wide[0] @ wide[1].T + wide[2]

    tolerance = linear_tolerance(*wide, FLOAT32).tolerance

    for n in range(3):
        for o in range(2):
            computed = sequential([*(w[o] * x[n]), b[o]])
            assert abs(float(computed) - y[n, o]) <= tolerance[n, o]


def test_a_readout_s_worst_order_nearly_uses_it_up_and_flushing_is_allowed() -> None:
    k = 60
    tiny = float(np.nextafter(F(2.0**-24), F(1)))
    weight, bias = np.full((1, k), tiny), np.ones(1)
    computed = sequential([F(1.0), *[F(tiny)] * k])
    exact = 1 + k * Fraction(tiny)

    tolerance = float(linear_tolerance(np.ones((1, k)), weight, bias, FLOAT32).tolerance[0, 0])
    small = np.full((1, k), 2.0**-70), np.full((1, k), 2.0**-60), np.zeros(1)
    flushed = float(linear_tolerance(*small, FLOAT32).tolerance[0, 0])

    assert Fraction(0.8) <= abs(Fraction(float(computed)) - exact) / Fraction(tolerance) <= 1
    assert k * 2.0**-130 <= flushed


def test_each_of_a_step_s_four_terms_may_lose_half_its_last_place() -> None:
    # The product is 1 + 2**-11 + u and loses u; each of three terms of u is a tie, and lost to the even neighbour.
    u, w = 2.0**-24, 1 + 2.0**-12
    step = one_unit([w], [1.0], [w], [u], (u, u))

    computed = sequential([F(w) * F(w), F(u), F(u), F(u)])

    _, tolerance = tolerance_of(step)
    lost = exact_preactivation(step) - Fraction(float(computed))
    assert lost == 4 * Fraction(u)
    assert Fraction(0.79) * Fraction(tolerance) <= lost <= Fraction(tolerance)  # of gamma_5, the fifth is for A itself


def test_both_terms_of_a_readout_may_lose_half_their_last_place() -> None:
    u, w = 2.0**-24, 1 + 2.0**-12
    computed = F(w) * F(w) + F(u)

    tolerance = linear_tolerance(np.array([[w]]), np.array([[w]]), np.array([u]), FLOAT32).tolerance[0, 0]

    lost = Fraction(w) ** 2 + Fraction(u) - Fraction(float(computed))
    assert lost == 2 * Fraction(u)
    assert Fraction(0.66) * Fraction(tolerance) <= lost <= Fraction(tolerance)


@settings(max_examples=200)
@given(seed=seeds(), I=st.integers(1, 40), H=st.integers(1, 40), scale=st.sampled_from([0.1, 1.0, 1e4, 1e-20]))
def test_fused_multiply_adds_stay_within_it(seed: int, I: int, H: int, scale: float) -> None:  # noqa: E741
    step = drawn(seed, I, H, scale)
    pairs = [*zip(step.ih[0], step.x[0], strict=True), *zip(step.hh[0], step.h[0], strict=True)]
    total = F(step.b_ih[0] + step.b_hh[0])
    for a, b in pairs:
        total = F(a * b + float(total))  # float64 holds the product of two float32 exactly

    _, tolerance = tolerance_of(step)

    assert abs(Fraction(float(max(total, F(0)))) - max(exact_preactivation(step), Fraction(0))) <= Fraction(tolerance)


@settings(max_examples=200)
@given(
    seed=seeds(),
    I=st.integers(1, 8),
    H=st.integers(1, 8),
    scales=st.sampled_from([(1e-20, 1e-19), (1e-38, 1.0), (1e-39, 1e3), (1e-18, 1e-20), (1.0, 1e-38)]),
)
def test_flushing_operands_products_and_sums_stays_within_it(
    seed: int,
    I: int,  # noqa: E741
    H: int,
    scales: tuple[float, float],
) -> None:
    step = drawn(seed, I, H, *scales)

    def flushed(number: Any) -> Any:
        return F(0) if abs(number) < np.finfo(F).tiny else F(number)

    pairs = [*zip(step.ih[0], step.x[0], strict=True), *zip(step.hh[0], step.h[0], strict=True)]
    total = flushed(flushed(step.b_ih[0]) + flushed(step.b_hh[0]))
    for a, b in pairs:
        total = flushed(total + flushed(flushed(a) * flushed(b)))

    _, tolerance = tolerance_of(step)

    assert abs(Fraction(float(max(total, F(0)))) - max(exact_preactivation(step), Fraction(0))) <= Fraction(tolerance)


def test_a_sum_that_is_flushed_is_allowed_where_nothing_else_is() -> None:
    small = 2.0**-126
    step = one_unit([0.0], [0.0], [0.0], [0.0], (1.5 * small, -small))  # half of the smallest normal number remains

    y, tolerance = tolerance_of(step)

    assert y == small / 2 <= tolerance  # a subject that flushes returns 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@settings(max_examples=150)
@given(seed=seeds(), I=st.integers(1, 20), H=st.integers(1, 20), scale=st.sampled_from([0.1, 1.0, 8.0, 1e-3]))
def test_sixteen_bits_whose_every_operation_rounds_stay_within_it(
    dtype: str,
    nonlinearity: str,
    seed: int,
    I: int,  # noqa: E741
    H: int,
    scale: float,
) -> None:
    step = drawn(seed, I, H, scale, dtype=dtype)
    x, h, ih, hh, b_ih, b_hh = (array.astype(dtype) for array in step)
    for order in ORDERS.values():
        if order is fused:
            continue  # rounds to float32
        s = np.asarray(order([*(ih[0] * x[0]), *(hh[0] * h[0]), b_ih[0], b_hh[0]]), dtype)
        assert_within(step, s, nonlinearity, Arithmetic(dtype))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("products", [True, False])
@settings(max_examples=150)
@given(seed=seeds(), I=st.integers(1, 40), H=st.integers(1, 40), scale=st.sampled_from([0.1, 1.0, 8.0, 1e-3]))
def test_sixteen_bits_that_are_summed_in_float32_stay_within_it_however_they_are_stored(
    dtype: str,
    nonlinearity: str,
    products: bool,
    seed: int,
    I: int,  # noqa: E741
    H: int,
    scale: float,
) -> None:
    step = drawn(seed, I, H, scale, dtype=dtype)
    backend = TORCH["cpu"]._replace(stores_products=products)
    x, h, ih, hh, b_ih, b_hh = (array.astype(F) for array in step)

    def stored(number: Any) -> Any:
        return np.asarray(number).astype(dtype).astype(F)

    for order in ORDERS.values():
        parts = [order(list(ih[0] * x[0])), order(list(hh[0] * h[0]))]
        parts = [stored(part) for part in parts] if products else parts
        s = stored(stored(parts[0] + b_ih[0]) + stored(parts[1] + b_hh[0]))
        assert_within(step, s, nonlinearity, Arithmetic(dtype, backend))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_stored_part_may_lose_half_its_last_place(dtype: str) -> None:
    # Both products, and both with their biases, are ties that are rounded the same way: their sum is 0, less 4 u.
    u = FORMATS[dtype].u
    step = one_unit([1.0, u], [-1.0, -3 * u], [1.0, 1.0], [1.0, 1.0], (u, u), dtype)

    def stored(number: float) -> float:
        return float(np.asarray(number).astype(dtype))

    s = stored(stored(stored(1 + u) + u) + stored(stored(-(1 + 3 * u)) + u))

    assert exact_preactivation(step) == 0
    assert s == -4 * u
    _, fine = tolerance_of(step, "tanh", Arithmetic(dtype, TORCH["cpu"]))
    assert 0.9 * fine <= abs(math.tanh(s)) <= fine
    fused_bias = TORCH["cpu"]._replace(stores_products=False)
    assert abs(math.tanh(s)) > tolerance_of(step, "tanh", Arithmetic(dtype, fused_bias))[1]


@pytest.mark.parametrize("huge", ["weight", "operand"])
def test_flushed_operands_stay_within_it(huge: str) -> None:
    large, small = 2.0**126, 2.0**-127  # a subnormal, which hardware may read as 0
    w, x = (large, small) if huge == "weight" else (small, large)
    step = one_unit([x], [x], [w], [w], (0.0, 0.0))

    _, tolerance = tolerance_of(step)

    assert float(exact_preactivation(step)) <= tolerance
    assert float(exact_preactivation(step)) / 2 <= linear_tolerance(step.x, step.ih, step.b_ih, FLOAT32).tolerance[0, 0]


def test_underflow_is_allowed_what_it_can_cost_and_no_more() -> None:
    step = one_unit([0.0] * 3, [0.0] * 4, [0.0] * 3, [0.0] * 4, (0.0, 0.0))

    _, tolerance = tolerance_of(step)

    assert tolerance <= 20 * 9 * FORMATS["float32"].underflow


def test_large_numbers_that_cannot_overflow_are_compared() -> None:
    for size in (1e20, 1e37):
        step = one_unit([size], [0.0], [1.0], [0.0], (0.0, 0.0))
        y, tolerance = tolerance_of(step)
        readout = linear_tolerance(step.x, step.ih, step.b_ih, FLOAT32).tolerance

        assert 0 < tolerance < 1e-5 * y
        assert 0 < readout[0, 0] < 1e-5 * y


def test_an_operand_that_is_off_is_rounded_at_the_size_it_really_has() -> None:
    step = one_unit([0.0], [0.0], [1.0], [0.0], (0.0, 0.0))
    zero = np.zeros((1, 1))
    off = np.full((1, 1), 1e6)

    stepwise = step_tolerance(step, zero, zero, "relu", FLOAT32, x_error=off).tolerance
    readout = linear_tolerance(step.x, step.ih, step.b_ih, FLOAT32, x_error=off).tolerance

    assert 1e6 * (1 + 2.0**-24) <= stepwise[0, 0] <= 1e6 * (1 + 2.0**-20)
    assert 1e6 * (1 + 2.0**-24) <= readout[0, 0] <= 1e6 * (1 + 2.0**-20)


@pytest.mark.parametrize("tolerance", ["tf32", "bf16"])
def test_an_operand_that_is_off_is_cut_at_the_size_it_really_has(tolerance: str) -> None:
    arithmetic = Arithmetic("float32", accepted=TOLERANCES[tolerance])
    step = one_unit([0.0], [0.0], [1.0], [0.0], (0.0, 0.0))
    zero, off = np.zeros((1, 1)), np.full((1, 1), 1e6)

    stepwise = step_tolerance(step, zero, zero, "relu", arithmetic, x_error=off).tolerance
    readout = linear_tolerance(step.x, step.ih, step.b_ih, arithmetic, x_error=off).tolerance

    assert 1e6 * (1 + TOLERANCES[tolerance].operand_u) <= stepwise[0, 0]
    assert 1e6 * (1 + TOLERANCES[tolerance].operand_u) <= readout[0, 0]


@pytest.mark.parametrize(("rtol", "atol"), [(1e-3, 0.0), (0.0, 1e-3), (1e-3, 1e-3)])
def test_a_tolerance_that_the_user_accepts_comes_on_top_of_the_derived_one(rtol: float, atol: float) -> None:
    step = one_unit([0.5], [0.25], [0.3], [-0.2], (0.7, 0.1))
    y, derived = tolerance_of(step, "tanh")

    tolerance = tolerance_of(step, "tanh", Arithmetic("float32", accepted=AcceptedErrors(rtol=rtol, atol=atol)))[1]

    assert derived + atol + rtol * abs(y) <= tolerance <= (derived + atol + rtol * abs(y)) * (1 + rtol + 4 * U64)


def test_gamma_bounds_a_product_of_roundings() -> None:
    u = U64
    product = Fraction(1)
    for _ in range(100):
        product *= 1 + Fraction(u)

    assert product - 1 <= Fraction(gamma(100, u))
    assert gamma(100, u) <= 101 * u


STATES, WEIGHTS = Grid(127, 2.0**-14, symmetric=False), Grid(255, 2.0**-23, symmetric=True)


def from_grid(values: Any, grid: Grid) -> Any:
    """Quantize an array as torch does, in float32, and return the numbers that the places of the grid stand for."""
    low, high = (F(end) for end in (min(values.min(), 0), max(values.max(), 0)))
    if grid.symmetric:
        low, high = -max(-low, high), max(-low, high)
    step = max(F((float(high) - float(low)) / grid.steps), F(grid.least))
    zero = F(0 if grid.symmetric else np.rint(-float(low) / float(step)))
    first, last = (-128, 127) if grid.symmetric else (0, grid.steps)
    places = np.clip(np.rint(values.astype(F) * (F(1) / step) + zero), first, last)
    return (places - zero).astype(float) * float(step)


@settings(max_examples=300)
@given(seeds(), st.sampled_from([STATES, WEIGHTS]), st.integers(-40, 20), st.booleans())
def test_no_number_is_further_from_its_grid_than_is_allowed(seed: int, grid: Grid, power: int, dyadic: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((3, 40)) * rng.choice([0.0, 1.0, 1e-3, 1.0], (3, 40)) + rng.choice([0.0, 1.0, -3.0])
    values = (np.rint(values * 8) / 8 if dyadic else values).astype(F).astype(float) * 2.0**power

    off = np.abs(from_grid(values, grid) - values)

    assert (off <= off_grid(values, grid)).all()
    assert (off_grid(values, grid) <= 1.001 * np.abs(values)).all()


def test_half_a_step_is_used_up() -> None:
    halfway = np.array([[63.5, 127.0, 0.0]])
    largest = np.array([[1.0, -1.0, 0.5]])

    for values, grid in ((halfway, STATES), (largest, WEIGHTS)):
        off = np.abs(from_grid(values, grid) - values)
        assert (off[0, 0] * 1.0002 > off_grid(values, grid)[0, 0]).all()


@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_nothing_is_known_of_a_number_beside_an_infinity(number: float) -> None:
    values = np.array([[[1.0, 2.0]], [[number, 1.0]]])

    assert np.isfinite(off_grid(values, STATES)[0]).all()
    assert np.isinf(off_grid(values, STATES)[1]).all()


def test_a_step_allows_for_the_grids_of_all_that_it_multiplies() -> None:
    """By hand: x = 127 with steps of 1 may be off by 1/2, and W = 1 with 255 steps from -1 to 1 by 1/255."""
    grids = Arithmetic("float32", LEAST_ASSUMED._replace(grids=Grids(STATES, WEIGHTS)))
    step = one_unit([127.0], [0.0], [1.0], [0.0], (0.0, 0.0))
    s = np.array([[127.0]])

    allowed = step_tolerance(step, s, s, "relu", grids, x_error=off_grid(step.x, STATES)).tolerance[0, 0]

    assert allowed == pytest.approx(127 / 255 + 1 / 2 * (1 + 1 / 255), rel=1e-3)
    assert step_tolerance(step, s, s, "relu", FLOAT32).tolerance[0, 0] < 1e-4


def test_the_tolerance_of_a_sum_too_long_for_its_dtype_is_infinite() -> None:
    arithmetic = Arithmetic("bfloat16")

    tolerances = sum_tolerance(DotProductFigures(np.array([1e-30, 0.0]), 10**6), arithmetic)

    assert tolerances[0] == np.inf
    assert tolerances[1] < np.inf
