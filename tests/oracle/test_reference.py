"""Tests of the reference: against arithmetic by hand, against another implementation, and against relations."""

import math
from typing import Any

import numpy as np
from hypothesis import given

from harness import Case, RNNConfig, cases, draw
from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.expectation import end_to_end_states, expect_end_to_end
from harness.oracle.reference import Reference
from harness.oracle.setting import Setting
from tests.implementations import plain_python

SMALL: dict[str, Any] = {"T": [1, 2, 3], "N": [1, 2, 3], "input_size": [1, 2, 3], "hidden_size": [1, 2, 3]}
FINITE = ["dyadic", "default", "normal", "spectral", "sparse"]


def test_two_steps_done_by_hand() -> None:
    config = RNNConfig(1, 1, T=2, hx=True, output_size=1)
    weights = {"weight_ih_l0": 0.5, "weight_hh_l0": -0.25, "bias_ih_l0": 0.125, "bias_hh_l0": 1.0}
    readout = {"readout_weight": [[2.0]], "readout_bias": [-1.0]}
    shaped: dict[str, Any] = {name: np.full(config.weights[name].shape, value) for name, value in weights.items()}
    case = Case.of(config, [[[1.0]], [[2.0]]], [[[3.0]]], **shaped | readout)

    arrays = Reference().run(case)

    first = math.tanh(0.5 * 1.0 + 0.125 - 0.25 * 3.0 + 1.0)
    second = math.tanh(0.5 * 2.0 + 0.125 - 0.25 * first + 1.0)
    assert_close(arrays["output"].ravel(), np.array([first, second]), case)
    assert_close(arrays["h_n"].ravel(), np.array([second]), case)
    assert_close(arrays["readout"].ravel(), np.array([2 * first - 1, 2 * second - 1]), case)


@given(cases(**SMALL, distributions=FINITE, dtypes=["float64"], output_size=[None, 2]))
def test_it_equals_a_recurrence_summed_exactly_one_number_at_a_time(case: Case) -> None:
    ours = Reference().run(case)
    h0 = case.hx if case.hx is not None else np.zeros(case.config.outputs["h_n"].shape)

    theirs = plain_python(case.x, h0, case.weights, case.config)

    for array, other in zip(ours.values(), theirs, strict=True):
        assert_close(array, other, case)


@given(cases(**SMALL, distributions=FINITE))
def test_a_batch_is_its_sequences_one_by_one(case: Case) -> None:
    whole = Reference().run(case)

    axis = 0 if case.config.batch_first else 1
    for n in range(case.config.N):
        config = case.config.replace(N=1)
        hx = None if case.hx is None else case.hx[:, n : n + 1]
        alone = Reference().run(Case(config, np.take(case.x, [n], axis), hx, case.weights))
        assert_close(alone["output"], np.take(whole["output"], [n], axis), case)
        assert_close(alone["h_n"], whole["h_n"][:, n : n + 1], case)


@given(cases(**SMALL, distributions=FINITE, bidirectional=False))
def test_layers_are_single_layers_chained(case: Case) -> None:
    config = case.config
    x, finals = case.x, []
    for layer in range(config.num_layers):
        single = config.replace(num_layers=1, dropout=0.0, input_size=x.shape[-1], dtype="float64")
        weights = {
            name.replace(f"_l{layer}", "_l0"): array.astype(float)
            for name, array in case.weights.items()
            if name.endswith(f"_l{layer}")
        }
        hx = None if case.hx is None else case.hx[layer : layer + 1].astype(float)
        arrays = Reference().run(Case(single, x.astype(float), hx, weights))
        x = arrays["output"]
        finals.append(arrays["h_n"])

    assert_close(x, Reference().run(case)["output"], case)
    assert_close(np.concatenate(finals), Reference().run(case)["h_n"], case)


@given(cases(**SMALL, distributions=FINITE, bidirectional=True, num_layers=1, batch_first=False))
def test_the_reverse_direction_is_the_forward_one_on_reversed_time(case: Case) -> None:
    H = case.config.hidden_size
    swapped = {}
    for name in case.weights:
        other = name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"
        swapped[name] = case.weights[other]
    hx = None if case.hx is None else case.hx[::-1].copy()

    mirrored = Reference().run(Case(case.config, case.x[::-1].copy(), hx, swapped))
    straight = Reference().run(case)

    assert_close(mirrored["output"][::-1, :, H:], straight["output"][:, :, :H], case)
    assert_close(mirrored["output"][::-1, :, :H], straight["output"][:, :, H:], case)
    assert_close(mirrored["h_n"][::-1], straight["h_n"], case)


@given(cases(**SMALL, distributions=FINITE, batch_first=False))
def test_batch_first_is_a_transposition(case: Case) -> None:
    turned = Case(case.config.replace(batch_first=True), case.x.swapaxes(0, 1).copy(), case.hx, case.weights)

    assert np.array_equal(Reference().run(turned)["output"], Reference().run(case)["output"].swapaxes(0, 1))
    assert np.array_equal(Reference().run(turned)["h_n"], Reference().run(case)["h_n"])


def test_an_empty_batch_gives_empty_arrays() -> None:
    arrays = Reference().run(draw(RNNConfig(2, 3, N=0, T=4)))

    assert arrays["output"].shape == (4, 0, 3)
    assert arrays["h_n"].shape == (1, 0, 3)


def assert_close(a: Any, b: Any, case: Case) -> None:
    """Assert that two float64 results of a case differ by no more than two correct ones can, end to end."""
    wide = {name: array.astype(np.float64) for name, array in case.arrays.items()}
    config = case.config.replace(dtype="float64")
    exact = Case(config, wide.pop("x"), wide.pop("hx", None), wide)
    setting = Setting.of(exact, Arithmetic("float64"))
    expected = expect_end_to_end(setting, end_to_end_states(setting))
    tolerance = max(float(e.tolerance.max()) for e in expected.values())
    assert np.isfinite(tolerance)
    assert np.shape(a) == np.shape(b)
    assert np.abs(a - b).max() <= 2 * tolerance
