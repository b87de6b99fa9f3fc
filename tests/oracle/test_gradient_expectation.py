"""Tests of gradient expectation: no way of summing leaves its tolerances, and slightly larger errors do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness import Case, RNNConfig, cases, draw
from harness.oracle.arithmetic_assumptions import TOLERANCES, Arithmetic, accepted
from harness.oracle.array_layout import time_order, visited
from harness.oracle.bounded_array import BoundedArray
from harness.oracle.expectation import end_to_end_states
from harness.oracle.expected import ExpectedArray
from harness.oracle.gradient_expectation import ExpectedGradients, _Backward, expect_gradients
from harness.oracle.setting import Setting
from harness.oracle.slopes import Slopes, through_slope
from harness.oracle.sums import Matrix, Sum
from harness.oracle.unroll import step_weights
from harness.space.config import PREACTIVATION
from harness.space.declared_arithmetic import LEAST_ASSUMED
from harness.space.factor_table import DTYPES, PACKINGS
from harness.space.values import DISTRIBUTIONS
from harness.subjects.torch_class_facts import TORCH
from tests.oracle.by_hand import PRODUCTS, Run, run_by_hand

SMALL: dict[str, Any] = {
    "T": [1, 2, 4],
    "N": [1, 3],
    "input_size": [1, 4],
    "hidden_size": [1, 2, 5],
    "loss": ["output", "h_n", "both"],
    "output_size": [None, 2],
}


def running(case: Case, run: Run, arithmetic: Arithmetic | None = None) -> ExpectedGradients:
    setting = Setting.of(case, arithmetic or Arithmetic(case.config.dtype))
    return expect_gradients(setting, layers(run))


def local(case: Case, run: Run, arithmetic: Arithmetic | None = None) -> ExpectedGradients:
    setting = Setting.of(case, arithmetic or Arithmetic(case.config.dtype))
    return expect_gradients(setting, layers(run), [da.astype(float) for da in run.da])


def layers(run: Run) -> list[BoundedArray]:
    return [BoundedArray(state.astype(float)) for state in run.states]


def beyond(gradients: ExpectedGradients, run: Run) -> list[str]:
    """Return the names of all arrays outside their tolerance, including da of every layer."""
    pairs = [(name, one, run.arrays[name]) for name, one in gradients.arrays.items()]
    pairs += [(PREACTIVATION, one, da) for one, da in zip(gradients.preactivations, run.da, strict=True)]
    return [name for name, expected, actual in pairs if not within(expected, actual)]


def within(expected: ExpectedArray, actual: Any) -> bool:
    wide = actual.astype(float)
    with np.errstate(invalid="ignore"):
        near = np.abs(wide - expected.values) <= expected.tolerance
    same = (wide == expected.values) | (np.isnan(wide) & np.isnan(expected.values))
    return bool((near | same | np.isinf(expected.tolerance)).all())


@pytest.mark.parametrize("order", list(PRODUCTS))
@settings(max_examples=25)
@given(case=cases(**SMALL, dtypes=["float32"]))
def test_float32_in_any_order_stays_within_both(order: str, case: Case) -> None:
    with np.errstate(all="ignore"):
        run = run_by_hand(case, PRODUCTS[order])

    assert not beyond(local(case, run), run)
    assert not beyond(running(case, run), run)


ORDINARY = [distribution for distribution in DISTRIBUTIONS if distribution != "special"]


@settings(max_examples=60)
@given(
    case=cases(**SMALL, dtypes=["float32", "bfloat16", "float16"], nonlinearity="tanh")
    | cases(**SMALL, dtypes=["float32", "bfloat16"], nonlinearity="relu", distributions=ORDINARY)
)
def test_float64_that_is_rounded_when_it_is_returned_stays_within_both(case: Case) -> None:
    with np.errstate(all="ignore"):
        run = run_by_hand(case, work="float64")

    assert not beyond(local(case, run), run)
    assert not beyond(running(case, run), run)


@pytest.mark.parametrize("order", ["forwards", "backwards", "in pairs"])
@settings(max_examples=25)
@given(case=cases(**SMALL, dtypes=["bfloat16", "float16"]))
def test_sixteen_bits_whose_every_operation_rounds_stay_within_both(order: str, case: Case) -> None:
    with np.errstate(all="ignore"):
        run = run_by_hand(case, PRODUCTS[order])

    assert not beyond(local(case, run), run)
    assert not beyond(running(case, run), run)


@pytest.mark.parametrize("order", ["forwards", "in pairs", "as BLAS does"])
@settings(max_examples=25)
@given(case=cases(**SMALL, dtypes=["bfloat16", "float16"]))
def test_sixteen_bits_that_are_summed_in_float32_stay_within_both(order: str, case: Case) -> None:
    with np.errstate(all="ignore"):
        run = run_by_hand(case, PRODUCTS[order], work="float32", stored=True)
    wide = Arithmetic(case.config.dtype, TORCH["cpu"])

    assert not beyond(local(case, run, wide), run)
    assert not beyond(running(case, run, wide), run)


@settings(max_examples=60)
@given(case=cases(**SMALL, distributions=["default", "normal", "spectral"], dtypes=["float32"]))
def test_local_is_no_wider_than_running_where_the_subject_is_the_reference(case: Case) -> None:
    run = run_by_hand(case, work="float64")
    wide = Run(run.arrays, run.states, [expected.values for expected in running(case, run).preactivations])

    one, other = local(case, wide), running(case, run)

    for name, expected in one.arrays.items():
        assert (expected.tolerance <= other.arrays[name].tolerance * (1 + 2.0**-40)).all(), name


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("layer", [0, 1])
def test_one_da_that_is_off_by_one_in_a_hundred_thousand_is_seen_locally(nonlinearity: str, layer: int) -> None:
    def tamper(da: Any, at: int, t: int) -> Any:
        return da * da.dtype.type(1 + 1e-5 * (at == layer and t == 2))

    case = draw(RNNConfig(2, 3, 2, nonlinearity, T=5, N=2, loss="both"), "normal", 1)
    run = run_by_hand(case, tamper=tamper)

    assert PREACTIVATION in beyond(local(case, run), run)
    expected, da = local(case, run).preactivations[layer], run.da[layer].astype(float)
    off = np.abs(da - expected.values) > expected.tolerance
    assert set(np.argwhere(off)[:, 0]) == {2}


def test_running_grows_where_local_does_not() -> None:
    case = draw(RNNConfig(4, 16, T=25, loss="h_n"), "normal", 1)
    run = run_by_hand(case)

    def relative(expected: Sequence[ExpectedArray]) -> Any:
        (one,) = expected
        return (one.tolerance / np.maximum(np.abs(one.values), 1e-30)).min(axis=(1, 2))

    whole, apart = relative(running(case, run).preactivations), relative(local(case, run).preactivations)

    assert whole[0] > 10 * whole[-1]
    assert apart[0] < 10 * apart[-1]


@pytest.mark.parametrize("loss", ["output", "h_n", "both"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_gradient_of_the_final_state_enters_each_direction_where_it_ends(loss: str, batch_first: bool) -> None:
    config = RNNConfig(2, 3, num_layers=2, bidirectional=True, batch_first=batch_first, T=4, N=2, loss=loss)
    case = draw(config, "normal", 0)
    run = run_by_hand(case)

    assert not beyond(local(case, run), run)
    if loss != "output":  # without it, errors show where the directions end, and only there
        none = {**case.cotangents, "h_n.grad": np.zeros_like(case.cotangents["h_n.grad"])}
        bare = Case(config, case.x, case.hx, case.weights, cotangents=none)
        top = local(bare, run).preactivations[1]
        off = np.abs(run.da[1] - top.values) > top.tolerance
        assert set(np.argwhere(off[..., :3])[:, 0]) == {3}
        assert set(np.argwhere(off[..., 3:])[:, 0]) == {0}


def one_relu(x: float) -> Case:
    config = RNNConfig(1, 1, nonlinearity="relu", bias=False, loss="output")
    return Case.of(config, [[[x]]], weight_ih_l0=[[1.0]], weight_hh_l0=[[0.0]], output_grad=[[[3.0]]])


@pytest.mark.parametrize(("state", "error", "allowed"), [(0.5, 0.25, False), (0.5, 0.5, True), (0.0, 0.0, True)])
def test_at_a_kink_that_an_uncertain_state_may_be_beyond_all_or_nothing_passes(
    state: float, error: float, allowed: bool
) -> None:
    setting = Setting.of(one_relu(state), Arithmetic("float32"))
    uncertain = BoundedArray(np.full((1, 1, 1), state), np.full((1, 1, 1), error))

    (da,) = expect_gradients(setting, [uncertain]).preactivations

    passes, blocks = np.full((1, 1, 1), 3.0), np.zeros((1, 1, 1))
    assert within(da, passes) or state == 0.0
    assert within(da, passes if state == 0.0 else blocks) == allowed


@pytest.mark.parametrize("state", [0.0, 0.5])
def test_at_a_kink_an_exact_state_leaves_no_choice(state: float) -> None:
    setting = Setting.of(one_relu(state), Arithmetic("float32"))

    (da,) = expect_gradients(setting, [BoundedArray(np.full((1, 1, 1), state))]).preactivations

    assert within(da, np.full((1, 1, 1), 3.0 if state else 0.0))
    assert not within(da, np.full((1, 1, 1), 0.0 if state else 3.0))


@pytest.mark.parametrize(("dtype", "small"), [("float32", 1e-30), ("float16", 2.0**-14)])
def test_a_positive_state_that_underflows_when_it_is_returned_may_have_passed_its_gradient(
    dtype: str, small: float
) -> None:
    config = RNNConfig(1, 1, nonlinearity="relu", bias=False, loss="output", dtype=dtype)
    case = Case.of(config, [[[small]]], weight_ih_l0=[[small]], weight_hh_l0=[[0.0]], output_grad=[[[3.0]]])
    run = run_by_hand(case, work="float64")
    assert (run.states[0].item(), run.da[0].item()) == (0.0, 3.0)

    assert not beyond(local(case, run), run)
    assert not beyond(running(case, run), run)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_exempts_what_it_reaches_and_nothing_else(value: float) -> None:
    case = draw(RNNConfig(2, 3, nonlinearity="relu", T=4, N=2, loss="output"), "normal", 1)
    run = run_by_hand(case)
    run.states[0][2, 0, 1] = value

    expected = running(case, run)

    exempt = np.isinf(expected.preactivations[0].tolerance)
    assert exempt[2, 0, 1]
    assert not exempt[3].any()  # a later step
    assert not exempt[:, 1].any()  # another sequence
    assert np.isinf(expected.arrays["bias_ih_l0.grad"].tolerance[1])


def test_a_gradient_that_may_overflow_is_exempt() -> None:
    case = draw(RNNConfig(2, 3, nonlinearity="relu", T=2, loss="output"), "normal", 1)
    huge = Case(case.config, case.x, None, case.weights, cotangents={"output.grad": np.full((2, 1, 3), 3e38, "f")})
    run = run_by_hand(case)

    expected = running(huge, run)

    assert any(np.isinf(one.tolerance).any() for one in expected.arrays.values())
    assert not any(np.isnan(one.tolerance).any() for one in expected.arrays.values())


@settings(max_examples=60)
@given(case=cases(**SMALL, distributions=list(DISTRIBUTIONS), dtypes=["float32", "bfloat16"]))
def test_an_uncertain_end_to_end_state_carries_its_error_into_every_gradient(case: Case) -> None:
    with np.errstate(all="ignore"):
        setting = Setting.of(case, Arithmetic(case.config.dtype))
        expected = expect_gradients(setting, end_to_end_states(setting)).arrays
        run = run_by_hand(case)

    for name, one in expected.items():
        assert within(one, run.arrays[name]), name


def test_operands_that_were_rounded_are_allowed_by_the_tolerance_that_says_so() -> None:
    case = draw(RNNConfig(4, 8, T=6, N=2, loss="both"), "normal", 0)
    import ml_dtypes

    def rounded(a: Any, b: Any) -> Any:
        return a.astype(ml_dtypes.bfloat16).astype("f") @ b.astype(ml_dtypes.bfloat16).astype("f").T

    run = run_by_hand(case, rounded)

    assert beyond(local(case, run), run)
    assert not beyond(local(case, run, Arithmetic("float32", LEAST_ASSUMED, TOLERANCES["bf16"])), run)


def at_step(whole: Sum, t: int) -> Sum:
    """Return a sum for one of its time steps."""
    arithmetic = whole._arithmetic
    step = Sum(arithmetic, whole._stored, 0, soft=False)
    step._values, step._m, step._parts = whole._values[t], whole._m, whole._parts
    for name in ("_magnitude", "_carried", "_operands"):
        array = getattr(whole, name)
        setattr(step, name, None if array is None else array[t])
    return step


class StepByStep(_Backward):
    """The backward pass as defined: the tolerance of each step from those of the next, all in one go."""

    def _carried_back(self, at: tuple[int, int], given: Sum) -> ExpectedArray:
        matrix, slopes, there = Matrix.of(step_weights(self._case, at).hh), self._slopes(at), visited(self._config)
        values, tolerance = np.zeros_like(slopes.slope), np.zeros(slopes.slope.shape)
        carried: BoundedArray | None = None
        for t in reversed(time_order(self._config, at[1])):
            dh = at_step(given, t)
            if carried is not None:
                dh.product(carried, matrix)
            one = through_slope(dh.expected(), Slopes(*(a[t] for a in slopes)), self._arithmetic)
            values[t], tolerance[t] = one.values, one.tolerance
            if there is not None:
                values[t], tolerance[t] = (np.where(there[t], a, 0.0) for a in (values[t], tolerance[t]))
            carried = BoundedArray(values[t], tolerance[t])
        return ExpectedArray(values, tolerance)


@settings(max_examples=150)
@given(
    case=cases(**SMALL, dtypes=DTYPES, lengths=PACKINGS),
    tolerance=st.sampled_from(["derived", "tf32", "rtol=1e-3,atol=1e-5"]),
)
def test_errors_are_carried_back_at_once_as_they_are_step_by_step(case: Case, tolerance: str) -> None:
    case = case.plain()
    arithmetic = Arithmetic(case.config.dtype, accepted=accepted(tolerance).in_dtype(case.config.dtype))
    with np.errstate(all="ignore"):
        setting = Setting.of(case, arithmetic)
        states = end_to_end_states(setting)
        at_once, stepwise = expect_gradients(setting, states), StepByStep(setting, states, None).run()

    for name, expected in stepwise.arrays.items():
        found = at_once.arrays[name]
        np.testing.assert_array_equal(np.isinf(found.tolerance), np.isinf(expected.tolerance), err_msg=name)
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(found.tolerance, expected.tolerance, rtol=1e-9, atol=1e-320, err_msg=name)


def test_what_may_overflow_on_the_way_back_exempts_all_before_it() -> None:
    config = RNNConfig(1, 1, nonlinearity="relu", T=4, loss="both", dtype="float32")
    case = Case.of(
        config,
        x=[[[1.0]]] * 4,
        weight_ih_l0=[[1.0]],
        weight_hh_l0=[[3e15]],
        bias_ih_l0=[0.0],
        bias_hh_l0=[0.0],
        output_grad=[[[0.0]], [[0.0]], [[0.0]], [[1e15]]],
        h_n_grad=[[[0.0]]],
    )
    setting = Setting.of(case, Arithmetic("float32"))

    [da] = expect_gradients(setting, [BoundedArray(np.ones((4, 1, 1)), np.full((4, 1, 1), 1e-3))]).preactivations

    assert np.isfinite(da.tolerance[2:]).all()
    assert np.isinf(da.tolerance[:2]).all()  # 1e15 * 3e15**2 is 9e45, and float32 ends at 3e38
