"""Tests of precision: coarse arithmetic is told apart from a mistake, and described."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.layers import third_numpy
from harness import RNNConfig, as_subject, draw
from harness.checks.activation_accuracy import significant_bits
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


def of_rounded_operands(layer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a layer with gates whose operands have 11 bits."""
    rounded = to_bits(11)

    def matrices(weights: Any) -> Any:
        return {name: rounded(w) if name.startswith("weight") else w for name, w in weights.items()}

    def of_gru(x: Any, h0: Any, weights: Any) -> Any:
        return layer(rounded(x), rounded(h0), matrices(weights))

    def of_lstm(x: Any, h0: Any, c0: Any, weights: Any) -> Any:
        return layer(rounded(x), rounded(h0), c0, matrices(weights))

    return of_lstm if layer is lstm else of_gru


@pytest.mark.parametrize(
    ("function", "changes", "bits", "tolerance"),
    [
        *(
            (stepwise(to_bits(bits), np.tanh), {"nonlinearity": kind}, bits, tolerance)
            for bits, tolerance in ((11, "tf32"), (8, "bf16"))
            for kind in ("tanh", "relu")
        ),
        (of_rounded_operands(gru), {"cell": "GRU"}, 11, "tf32"),
        (of_rounded_operands(lstm), {"cell": "LSTM"}, 11, "tf32"),
    ],
)
def test_rounded_operands_are_counted_in_bits(function: Any, changes: Any, bits: int, tolerance: str) -> None:
    precision = estimated(function, **changes, hx=True)

    assert precision.coarse_sums
    assert precision.sum_bits is not None
    assert round(precision.sum_bits) == bits
    assert (precision.accepted_by, precision.rounds_results) == (tolerance, False)


def of_sequence_before(x: Any, weights: Any, config: RNNConfig) -> Any:
    states = np.zeros((*x.shape[:2], config.hidden_size), x.dtype)
    for t, n in np.ndindex(*x.shape[:2]):
        h = states[t, n - 1] if n else 0 * states[t, n]
        s = x[t, n] @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        states[t, n] = np.tanh(s + weights["bias_ih_l0"] + weights["bias_hh_l0"])
    return states, states[-1:]


def without_small_states(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return implementations.vectorised(x, np.where(np.abs(h0) < np.quantile(np.abs(h0), 0.1), 0, h0), weights, config)


def zeros(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
    return tuple(map(np.zeros_like, implementations.vectorised(x, h0, weights, config)))


def coarse_h_n(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return output, h_n.astype(np.float16).astype(h_n.dtype)


def of_another_shape(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.without_b_hh(x, h0, weights, config)[:2]
    return output, h_n[:, :4]


def never(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    raise NotImplementedError("never")


SMALL = RNNConfig(3, 4, T=2, N=1)


@pytest.mark.parametrize(
    ("function", "config", "distribution", "accepted"),
    [
        (gru, SMALL.replace(cell="GRU", hx=True), "normal", "derived"),
        (lstm, SMALL.replace(cell="LSTM", hx=True), "normal", "derived"),
        *(
            (right, SMALL.replace(dtype=dtype), "normal", "derived")
            for right in (implementations.plain_python, implementations.vectorised)
            for dtype in ("float32", "float64")
        ),
        (stepwise(to_bits(11), np.tanh), SMALL, "normal", "tf32"),  # what a tolerance accepts
        # what sequences take of each other, small numbers that are left out of a sum, and other mistakes
        (of_sequence_before, RNNConfig(1, 1, T=1, N=2), "default", "derived"),
        (without_small_states, RNNConfig(1, 2, T=1, N=1, hx=True), "dyadic", "derived"),
        (implementations.without_b_hh, SMALL.replace(hx=True), "normal", "derived"),
        (implementations.transposed_recurrence, SMALL.replace(hx=True), "normal", "derived"),
        (zeros, SMALL, "normal", "derived"),
        (coarse_h_n, SMALL, "normal", "derived"),  # a final state that is not the last output
        (of_another_shape, SMALL.replace(hx=True), "normal", "derived"),
        (never, SMALL, "normal", "derived"),
    ],
)
def test_what_is_no_matter_of_precision_is_not_explained_by_it(
    function: Any, config: RNNConfig, distribution: Any, accepted: str
) -> None:
    for seed in range(4):
        found = estimate(ObservationCache(as_subject(function), TOLERANCES[accepted]), draw(config, distribution, seed))
        assert found is None or not found.explains


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


def test_results_that_were_float32_are_seen_in_float64() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        narrow = {name: array.astype(np.float32) for name, array in weights.items()}
        found = implementations.vectorised(x.astype(np.float32), h0.astype(np.float32), narrow, config)
        return tuple(array.astype(x.dtype) for array in found)

    precision = estimated(rnn, dtype="float64")

    assert precision.rounds_results
    assert (precision.returned_bits, precision.dtype_bits) == (24, 53)


def test_fewer_bits_are_seen_beside_a_mistake_that_shows_at_larger_sizes_alone() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        flipped = {name: v[::-1] if name == "weight_hh_l0" else v for name, v in weights.items()}
        output, h_n = stepwise(same, np.tanh)(x, h0, flipped, config)
        return output.astype(np.float32).astype(x.dtype), h_n.astype(np.float32).astype(x.dtype)

    case = draw(RNNConfig(1, 1, T=1, N=1, hx=True, dtype="float64"), "normal", 0)
    precision = estimate(ObservationCache(as_subject(rnn)), case)

    assert precision is not None
    assert precision.rounds_results


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
