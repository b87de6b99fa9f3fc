"""Tests of expectation: local and end-to-end agree on the reference's own states, and each knows its limits."""

import numpy as np
import pytest
from hypothesis import given, settings

from harness import Case, RNNConfig, cases, draw
from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.bounded_array import BoundedArray, Floats
from harness.oracle.expectation import end_to_end_states, expect_end_to_end, expect_local, single_step_states
from harness.oracle.expected import ExpectedArray
from harness.oracle.setting import REFERENCE, Setting
from tests.oracle.by_hand import PRODUCTS, run_by_hand


def setting(case: Case) -> Setting:
    return Setting.of(case, Arithmetic(case.config.dtype))


def own_states(case: Case) -> list[BoundedArray]:
    """Return the output of every layer, time first, each as the top of a shorter stack."""
    outputs = [REFERENCE.run(case.prefix(layers))["output"] for layers in range(1, case.config.num_layers + 1)]
    return [BoundedArray(output.swapaxes(0, 1) if case.config.batch_first else output) for output in outputs]


def locally(case: Case, states: list[BoundedArray] | None = None) -> dict[str, ExpectedArray]:
    return expect_local(setting(case), own_states(case) if states is None else states)[-1]


def end_to_end(case: Case) -> dict[str, ExpectedArray]:
    given = setting(case)
    return expect_end_to_end(given, end_to_end_states(given))


def within(expected: ExpectedArray, array: Floats) -> bool:
    with np.errstate(invalid="ignore"):  # inf - inf
        return bool((~(np.abs(array - expected.values) > expected.tolerance)).all())


@given(cases(output_size=[None, 3], T=[1, 2, 5], N=[1, 2]))
def test_the_reference_agrees_with_itself_both_ways(case: Case) -> None:
    with np.errstate(all="ignore"):
        run = REFERENCE.run(case)
        local = locally(case)
    whole = end_to_end(case)

    assert run.keys() == local.keys() == whole.keys()
    for name, array in run.items():
        assert array.shape == local[name].values.shape == case.config.outputs[name].shape
        assert within(local[name], array)
        assert within(whole[name], array)


@given(
    cases(
        output_size=[None, 3], T=[1, 2, 5], N=[1, 2], distributions=["dyadic", "default", "normal"], dtypes=["float32"]
    )
)
def test_every_layer_below_the_top_is_expected_too(case: Case) -> None:
    states = own_states(case)

    expected = expect_local(setting(case), states)

    assert len(expected) == case.config.num_layers
    for layer, state in zip(expected, states, strict=True):
        assert within(layer["output"], state.values.swapaxes(0, 1) if case.config.batch_first else state.values)


def test_only_the_step_that_is_off_departs_locally() -> None:
    case = draw(RNNConfig(2, 3, T=6, N=1), "normal", 1)
    bent = own_states(case)[0].values.copy()
    bent[3:] += 1e-3  # a subject that goes wrong at t=3 and carries the error on

    expected = locally(case, [BoundedArray(bent)])["output"]

    departs = np.asarray(np.abs(bent - expected.values) > expected.tolerance).reshape(6, -1).max(axis=1)
    assert departs[3]
    assert not departs[:3].any()


def test_end_to_end_grows_with_time_where_local_does_not() -> None:
    case = draw(RNNConfig(4, 16, T=25, N=1), "normal", 1)

    local = locally(case)["output"].tolerance.max(axis=(1, 2))
    whole = end_to_end(case)["output"].tolerance.max(axis=(1, 2))

    assert local[-1] < 1e-4
    assert whole[-1] > 1e3 * local[-1]
    assert (whole >= local - 1e-12).all()


@pytest.mark.parametrize("order", list(PRODUCTS))
@settings(max_examples=25)
@given(case=cases(output_size=[None, 3], T=[1, 5, 12], N=[1, 2], dtypes=["float32"]))
def test_float32_in_any_order_ends_within_what_is_carried_along(order: str, case: Case) -> None:
    with np.errstate(all="ignore"):
        run = run_by_hand(case, PRODUCTS[order])

    for name, expected in end_to_end(case).items():
        assert within(expected, run.arrays[name].astype(float)), name


def test_an_error_grows_by_the_largest_singular_value_where_that_is_less_than_the_row_sums() -> None:
    H, T = 16, 60
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((H, H)))
    drawn = draw(RNNConfig(4, H, nonlinearity="relu", T=T, hx=True), "normal", 0)
    case = Case(drawn.config, drawn.x, drawn.hx, {**drawn.weights, "weight_hh_l0": rotation.astype(np.float32)})

    tolerance = end_to_end(case)["output"].tolerance[:, 0].max(axis=1)

    assert np.abs(rotation).sum(1).min() > 2  # row sums would double it at every step
    assert tolerance[-1] < T**2 * tolerance[0]


def test_a_readout_inherits_the_error_of_the_states_it_reads() -> None:
    case = draw(RNNConfig(4, 16, T=25, N=1, output_size=3), "normal", 1)

    whole = end_to_end(case)

    weight = np.abs(case.weights["readout.weight"].astype(float))
    assert (whole["readout"].tolerance >= whole["output"].tolerance @ weight.T).all()


@given(cases(T=1, N=[1, 2], num_layers=[2, 3], distributions=["normal"]))
def test_a_single_step_s_h_n_holds_the_output_of_every_layer(case: Case) -> None:
    states = single_step_states(case.config, REFERENCE.run(case)["h_n"])

    assert all(np.array_equal(a.values, b.values) for a, b in zip(states, own_states(case), strict=True))
