"""Tests of precision: coarse arithmetic is told apart from a mistake, and described."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.layers import third_numpy
from harness import RNNConfig, as_subject, draw
from harness.checks.activation_accuracy import significant_bits
from harness.checks.agreement import check_agreement
from harness.diagnosis.observation_cache import ObservationCache
from harness.diagnosis.precision import ShownPrecision, estimate, estimate_arrays
from harness.oracle.arithmetic_assumptions import TOLERANCES
from tests import implementations
from tests.oracle.by_hand import subject as by_hand
from tests.oracle.test_gated import gru, lstm

Change = Callable[[Any], Any]


def to_bits(bits: int) -> Change:
    def rounded(array: Any) -> Any:
        significand, exponent = np.frexp(array.astype(np.float64))
        return np.ldexp(np.round(significand * 2.0**bits) / 2.0**bits, exponent).astype(array.dtype)

    return rounded


def same(array: Any) -> Any:
    return array


def stepwise(operand: Change, activation: Change) -> Callable[..., Any]:
    """Return one layer in one direction with a given rounding of operands and a given activation."""

    def rnn(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        W, V = operand(weights["weight_ih_l0"]), operand(weights["weight_hh_l0"])
        bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
        h, states = h0[0], []
        for frame in x:
            s = operand(frame) @ W.T + operand(h) @ V.T + bias
            h = activation(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)
            states.append(h)
        return np.stack(states), h[None]

    return rnn


def asked(function: Any, **changes: Any) -> ShownPrecision | None:
    return estimate(ObservationCache(as_subject(function)), draw(RNNConfig(3, 4, T=2, N=1, **changes), "normal", 0))


def estimated(function: Any, **changes: Any) -> ShownPrecision:
    precision = asked(function, **changes)
    assert precision is not None
    return precision


@pytest.mark.parametrize(("bits", "tolerance"), [(11, "tf32"), (8, "bf16")])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rounded_operands_are_counted_in_bits(bits: int, tolerance: str, nonlinearity: str) -> None:
    precision = estimated(stepwise(to_bits(bits), np.tanh), nonlinearity=nonlinearity, hx=True)

    assert precision.coarse_sums
    assert precision.sum_bits is not None
    assert round(precision.sum_bits) == bits
    assert precision.accepted_by == tolerance
    assert not precision.rounds_results


@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
def test_rounded_operands_of_gates_are_counted_in_bits(cell: str) -> None:
    rounded = to_bits(11)

    def of(layer: Any, x: Any, h0: Any, *c0: Any, weights: Any) -> Any:
        matrices = {name: rounded(one) if name.startswith("weight") else one for name, one in weights.items()}
        return layer(rounded(x), rounded(h0), *c0, matrices)

    if cell == "LSTM":
        precision = estimated(lambda x, h0, c0, weights: of(lstm, x, h0, c0, weights=weights), cell=cell, hx=True)
        right = asked(lstm, cell=cell, hx=True)
    else:
        precision = estimated(lambda x, h0, weights: of(gru, x, h0, weights=weights), cell=cell, hx=True)
        right = asked(gru, cell=cell, hx=True)

    assert precision.coarse_sums
    assert precision.sum_bits is not None
    assert round(precision.sum_bits) == 11
    assert precision.accepted_by == "tf32"
    assert right is None or not right.explains


def test_what_sequences_take_of_each_other_is_no_matter_of_precision() -> None:
    def rnn(x: Any, weights: Any, config: RNNConfig) -> Any:
        states = np.zeros((*x.shape[:2], config.hidden_size), x.dtype)
        for t, n in np.ndindex(*x.shape[:2]):
            h = states[t, n - 1] if n else 0 * states[t, n]
            s = x[t, n] @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
            states[t, n] = np.tanh(s + weights["bias_ih_l0"] + weights["bias_hh_l0"])
        return states, states[-1:]

    found = [
        estimate(ObservationCache(as_subject(rnn)), draw(RNNConfig(1, 1, T=1, N=2), "default", seed))
        for seed in range(4)
    ]

    assert not any(one is not None and one.explains for one in found)


def test_what_is_coarse_about_the_state_alone_shows_in_a_single_step_that_is_given_one() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        h, states = h0[0], []
        for frame in x:
            s = frame @ weights["weight_ih_l0"].T + to_bits(11)(h) @ to_bits(11)(weights["weight_hh_l0"]).T
            h = np.tanh(s + weights["bias_ih_l0"] + weights["bias_hh_l0"])
            states.append(h)
        return np.stack(states), h[None]

    assert estimated(rnn).coarse_sums


def test_an_inaccurate_tanh_is_told_from_inaccurate_sums() -> None:
    precision = estimated(stepwise(same, lambda s: np.tanh(s) + np.float32(1e-6) * np.sin(3 * s)))

    assert precision.coarse_activation
    assert 0.5e-6 < precision.activation_error < 1.5e-6


def test_small_numbers_that_are_left_out_of_a_sum_are_no_error_of_the_activation() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        strong = np.where(np.abs(h0) < np.quantile(np.abs(h0), 0.1), 0, h0)
        return implementations.vectorised(x, strong, weights, config)

    subject = as_subject(rnn)
    case = draw(RNNConfig(1, 2, T=1, N=1, hx=True), "dyadic", 1)
    precision = estimate(ObservationCache(subject), case)

    assert check_agreement(subject, case).failed
    assert precision is None or not precision.explains


def test_results_that_were_float32_are_seen_in_float64() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        narrow = {name: array.astype(np.float32) for name, array in weights.items()}
        found = implementations.vectorised(x.astype(np.float32), h0.astype(np.float32), narrow, config)
        return tuple(array.astype(x.dtype) for array in found)

    precision = estimated(rnn, dtype="float64")

    assert precision.rounds_results
    assert (precision.returned_bits, precision.dtype_bits) == (24, 53)


@pytest.mark.parametrize("right", [implementations.plain_python, implementations.vectorised])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_arithmetic_is_nothing_to_explain(right: Any, dtype: str) -> None:
    assert asked(right, dtype=dtype) is None


@pytest.mark.parametrize("wrong", [implementations.without_b_hh, implementations.transposed_recurrence])
def test_a_mistake_is_no_matter_of_precision(wrong: Any) -> None:
    assert not estimated(wrong, hx=True).explains


def test_results_that_are_plainly_wrong_are_no_roundings() -> None:
    def zeros(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        return tuple(map(np.zeros_like, implementations.vectorised(x, h0, weights, config)))

    assert not estimated(zeros).explains


def test_fewer_bits_are_seen_beside_a_mistake_that_shows_at_larger_sizes_alone() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        flipped = {name: v[::-1] if name == "weight_hh_l0" else v for name, v in weights.items()}
        output, h_n = stepwise(same, np.tanh)(x, h0, flipped, config)
        return output.astype(np.float32).astype(x.dtype), h_n.astype(np.float32).astype(x.dtype)

    case = draw(RNNConfig(1, 1, T=1, N=1, hx=True, dtype="float64"), "normal", 0)
    precision = estimate(ObservationCache(as_subject(rnn)), case)

    assert precision is not None
    assert precision.rounds_results


def test_nothing_is_estimated_from_a_final_state_that_is_not_the_last_output() -> None:
    def coarse(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output, h_n.astype(np.float16).astype(h_n.dtype)

    assert asked(coarse) is None


def test_a_factor_slightly_off_leans_to_one_side_and_is_no_noise() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return implementations.vectorised(x, h0, {n: a * np.float32(1 + 1e-3) for n, a in weights.items()}, config)

    assert estimated(rnn).sum_bits is None


def test_a_matrix_that_is_rounded_is_no_matter_of_the_activation() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        def rounded(w: Any) -> Any:
            step = np.abs(w).max(initial=0) / np.float32(127) or np.float32(1)
            return np.round(w / step) * step

        return implementations.vectorised(
            x, h0, {n: rounded(w) if n.startswith("weight") else w for n, w in weights.items()}, config
        )

    precision = estimated(rnn)

    assert not precision.coarse_activation
    assert precision.sum_bits == pytest.approx(7, abs=1)  # 127 steps


def test_what_a_tolerance_accepts_is_nothing_to_explain() -> None:
    case = draw(RNNConfig(3, 4, T=2, N=1), "normal", 0)

    assert estimate(ObservationCache(as_subject(stepwise(to_bits(11), np.tanh)), TOLERANCES["tf32"]), case) is None


def test_a_subject_of_another_shape_has_no_estimate() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.without_b_hh(x, h0, weights, config)[:2]
        return output, h_n[:, :4]

    precision = asked(rnn, hx=True)

    assert precision is None or not precision.explains


def test_a_subject_that_cannot_be_asked_has_no_estimate() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        raise NotImplementedError("never")

    assert estimate(ObservationCache(as_subject(rnn)), draw(RNNConfig(1, 1))) is None


def test_significant_bits_run_from_the_first_1_to_the_last() -> None:
    assert significant_bits(np.array([0.0, 1.0, 0.75, -2.5])) == 3
    assert significant_bits(np.array([1 + 2.0**-52])) == 53
    assert significant_bits(np.array([np.nan, np.inf])) == 0


@pytest.mark.parametrize(("change", "bits"), [(to_bits(11), 11), (to_bits(8), 8), (same, None), (np.zeros_like, None)])
def test_the_bits_of_gradients_are_counted(change: Change, bits: int | None) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: RNNConfig, cotangents: Any) -> Any:
        *outputs, gradients = by_hand()(x, h0, weights, config, cotangents)
        return (*outputs, {name: change(g) if name.startswith("weight_hh") else g for name, g in gradients.items()})

    case = draw(RNNConfig(3, 4, T=2, N=1, loss="both"), "normal", 0)
    found = estimate_arrays(ObservationCache(as_subject(rnn)), case)

    assert (None if found is None else found.returned_bits) == bits
    assert found is None or found.of == "gradients"


def test_a_gradient_that_is_0_has_no_bits_to_count() -> None:
    case = draw(RNNConfig(3, 4, T=1, N=1, hx=False, loss="both"), "normal", 0)  # of weight_hh

    assert estimate_arrays(ObservationCache(as_subject(by_hand())), case) is None


def test_the_bits_of_an_output_are_counted_where_the_state_has_them_all() -> None:
    case = draw(RNNConfig(1, 1, dtype="float64"), "normal", 0)
    observations = ObservationCache(as_subject(third_numpy.single_buffer))

    assert estimate(observations, case) is None
    found = estimate_arrays(observations, case)
    assert found is not None
    assert (found.of, found.returned_bits, found.explains) == ("values of output", 24, True)
