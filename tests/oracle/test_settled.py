"""Tests of infinities and NaN that a step reads: if they alone decide the result, only that result is right."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from harness import Case, RNNConfig, Verdict, as_subject, check_agreement, draw
from harness.oracle.arithmetic_assumptions import FORMATS, TOLERANCES, Arithmetic
from harness.oracle.tolerance import step_tolerance
from tests import implementations
from tests.oracle.test_tolerance import one_unit

INF, NAN, LARGE, SMALL = math.inf, math.nan, 3e38, 2.0**-127
FLOAT32 = Arithmetic("float32")


def settled(
    x: Sequence[float],
    w: Sequence[float],
    nonlinearity: str = "relu",
    h: Sequence[float] = (0.0,),
    v: Sequence[float] = (1.0,),
    b: float = 0.0,
    arithmetic: Arithmetic = FLOAT32,
    h_error: Any = None,
) -> tuple[float, float]:
    """Return the reference's result, and its tolerance."""
    step = one_unit(x, h, w, v, (b, 0.0))
    with np.errstate(all="ignore"):
        s = step.x @ step.ih.T + step.b_ih + step.h @ step.hh.T + step.b_hh
        y = np.maximum(s, 0) if nonlinearity == "relu" else np.tanh(s)
        tolerance = step_tolerance(step, s, y, nonlinearity, arithmetic, h_error=h_error).tolerance
    return float(y[0, 0]), float(tolerance[0, 0])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize(
    ("x", "w"),
    [
        ([NAN], [1.0]),
        ([NAN], [0.0]),
        ([NAN, INF], [1.0, 1.0]),
        ([NAN, LARGE, LARGE], [1.0, 1.0, 1.0]),
        ([NAN], [SMALL]),
    ],
)
def test_a_nan_that_is_read_gives_nan_whatever_stands_beside_it(
    x: Sequence[float], w: Sequence[float], nonlinearity: str
) -> None:
    y, tolerance = settled(x, w, nonlinearity)

    assert math.isnan(y)
    assert tolerance == 0  # only the same NaN is within it


@pytest.mark.parametrize(("nonlinearity", "high", "low"), [("tanh", 1.0, -1.0), ("relu", INF, 0.0)])
@pytest.mark.parametrize("beside", [[0.0], [5.0], [-1e37]])
def test_infinities_of_one_sign_decide(nonlinearity: str, high: float, low: float, beside: list[float]) -> None:
    for x, w, value in (
        ([INF], [2.0], high),
        ([-INF], [2.0], low),
        ([INF], [-2.0], low),
        ([INF, INF], [1.0, 3.0], high),
    ):
        y, tolerance = settled([*x, *beside], [*w, 1.0], nonlinearity)
        assert y == value
        assert tolerance == (2 * 2.0**-24 if nonlinearity == "tanh" else 0)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_both_signs_and_nought_times_infinity_are_nan(nonlinearity: str) -> None:
    for x, w in (([INF, -INF], [1.0, 1.0]), ([INF, INF], [1.0, -1.0]), ([INF], [0.0]), ([INF, INF], [0.0, 1.0])):
        y, tolerance = settled(x, w, nonlinearity)
        assert math.isnan(y)
        assert tolerance == 0


def test_a_previous_state_decides_like_an_input() -> None:
    assert settled([1.0], [1.0], h=[NAN])[1] == 0
    assert settled([1.0], [1.0], "tanh", h=[-INF]) == (-1.0, 2 * 2.0**-24)
    assert math.isnan(settled([INF], [1.0], h=[-INF])[0])


def test_a_weight_that_hardware_may_take_for_nought_settles_nothing() -> None:
    y, tolerance = settled([INF], [SMALL])

    assert (y, tolerance) == (INF, INF)  # it may be inf, or 0 times inf
    assert settled([INF, INF], [SMALL, 1.0])[1] == INF
    assert settled([1.0, INF], [SMALL, 1.0])[1] == 0  # it meets a finite number
    assert settled([INF], [2 * SMALL])[1] == 0  # the smallest normal number


def test_finite_terms_that_may_overflow_settle_nothing() -> None:
    assert settled([INF, -LARGE, -LARGE], [1.0, 1.0, 1.0])[1] == INF  # inf, or inf - inf
    assert settled([INF, LARGE], [1.0, 1.0])[1] == INF
    assert settled([INF, LARGE / 4], [1.0, 1.0])[1] == 0


@pytest.mark.parametrize("weight", [INF, NAN])
def test_a_weight_that_is_not_finite_settles_nothing(weight: float) -> None:
    assert settled([INF], [weight])[1] == INF
    assert settled([NAN], [weight])[1] == INF


def test_operands_that_are_uncertain_without_end_settle_nothing() -> None:
    assert settled([INF], [1.0], h_error=np.array([[INF]]))[1] == INF
    assert settled([INF], [1.0], h_error=np.array([[1.0]]))[1] == 0


def test_other_rows_are_compared_as_ever() -> None:
    step = one_unit([1.0], [0.5], [0.5], [1.0], (0.25, 0.0))
    both = step._replace(x=np.array([[1.0], [NAN]]), h=np.repeat(step.h, 2, 0))
    s = both.x @ both.ih.T + both.b_ih + both.h @ both.hh.T

    tolerance = step_tolerance(both, s, np.tanh(s), "tanh", FLOAT32).tolerance[:, 0]
    alone = step_tolerance(step, s[:1], np.tanh(s[:1]), "tanh", FLOAT32).tolerance[0, 0]

    assert list(tolerance) == [alone, 0.0]


@given(
    x=st.lists(st.sampled_from([0.0, 1.0, -3.0, INF, -INF, NAN]), min_size=1, max_size=4),
    w=st.lists(st.sampled_from([0.0, 1.0, -2.0]), min_size=4, max_size=4),
    seed=st.randoms(use_true_random=False),
)
def test_no_order_of_summation_gives_anything_else(x: list[float], w: list[float], seed: Any) -> None:
    y, tolerance = settled(x, w[: len(x)])
    with np.errstate(invalid="ignore"):
        terms = [np.float32(a) * np.float32(b) for a, b in zip(x, w, strict=False)]
        seed.shuffle(terms)
        total = np.float32(0)
        for term in terms:
            total += term
    computed = float(np.maximum(total, 0))

    if all(map(math.isfinite, x)):
        assert abs(computed - y) <= tolerance < INF
    else:
        assert tolerance == 0
        assert computed == y or (math.isnan(computed) and math.isnan(y))


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_dtype_changes_nothing_of_it(dtype: str) -> None:
    assert settled([NAN], [1.0], arithmetic=Arithmetic(dtype))[1] == 0
    assert settled([INF], [1.0], arithmetic=Arithmetic(dtype)) == (INF, 0)


@pytest.mark.parametrize("tolerance", ["tf32", "bf16"])
def test_a_tolerance_by_which_operands_may_be_rounded_settles_nothing(tolerance: str) -> None:
    assert settled([INF], [1.0], arithmetic=Arithmetic("float32", accepted=TOLERANCES[tolerance]))[1] == INF


def test_a_relu_that_swallows_nan_is_found() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return implementations.vectorised(
            x, h0, weights, config, lambda h, _: np.where(np.isnan(h), 0, h).astype(h.dtype)
        )

    case = draw(RNNConfig(4, 4, nonlinearity="relu", T=8, N=16), "special", 1)
    assert np.isnan(case.x).any()

    assert check_agreement(as_subject(implementations.vectorised), case).verdict is Verdict.AGREES
    assert check_agreement(as_subject(rnn), case).kind == "output: finiteness"


def test_a_tanh_that_gives_nan_at_infinity_is_found() -> None:
    def by_exponentials(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        s = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        e = np.exp(2 * s)
        h = ((e - 1) / (e + 1)).astype(x.dtype)  # inf / inf
        return h, h

    case = draw(RNNConfig(1, 1), "normal", 0)
    weights: dict[str, Any] = {name: array for name, array in case.arrays.items() if name != "x"}
    infinite = Case.of(case.config, [[[math.copysign(INF, weights["weight_ih_l0"].item())]]], **weights)

    assert check_agreement(as_subject(by_exponentials), infinite).kind == "output: finiteness"
