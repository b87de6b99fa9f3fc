"""Tests of values: seeds reproduce cases, and distinct roles get distinct values."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from harness import RNNConfig, configs, draw
from harness.space.errors import UsageError
from harness.space.strategies import seeds
from harness.space.values import DISTRIBUTIONS, earlier_case, with_other_inputs


@given(configs(output_size=[None, 2]), st.sampled_from(list(DISTRIBUTIONS)), seeds())
def test_the_same_seed_gives_the_same_bits(config: RNNConfig, distribution: str, seed: int) -> None:
    assert draw(config, distribution, seed).id == draw(config, distribution, seed).id


@pytest.mark.parametrize("distribution", list(DISTRIBUTIONS))
def test_another_seed_gives_another_case(distribution: str) -> None:
    config = RNNConfig(3, 4, T=2, N=2)

    assert len({draw(config, distribution, seed).id for seed in range(20)}) == 20


@given(configs(hidden_size=[1, 2], input_size=[1, 2, 3]), seeds())
def test_plain_values_differ_between_roles_even_at_size_one(config: RNNConfig, seed: int) -> None:
    weights = draw(config, "dyadic", seed).weights

    for (a, one), (b, other) in combinations(weights.items(), 2):
        assert one.shape != other.shape or not np.array_equal(one, other), (a, b)


@given(
    configs(hidden_size=[2, 3, 8]), st.sampled_from(["dyadic", "default", "normal", "spectral", "saturated"]), seeds()
)
def test_recurrent_matrices_are_not_symmetric(config: RNNConfig, distribution: str, seed: int) -> None:
    matrix = draw(config, distribution, seed).weights["weight_hh_l0"]

    assert not np.array_equal(matrix, matrix.T)


@given(
    configs(
        output_size=[None, 2],
        losses=[None, "both"],
        lengths=[None, "any"],
        strides=["contiguous", "expanded"],
        dtypes=["float32", "bfloat16"],
    ),
    seeds(),
)
def test_other_inputs_are_of_the_same_form_and_leave_nothing_as_it_was(config: RNNConfig, seed: int) -> None:
    case = draw(config, "normal", seed)

    other = with_other_inputs(case)

    assert (other.config, other.origin) == (config, None)
    assert all(np.array_equal(other.weights[name], array) for name, array in case.weights.items())
    assert not (other.x == case.x).any()
    assert all((other.cotangents[name] != array).any() for name, array in case.cotangents.items() if array.any())


@given(configs(), seeds())
def test_plain_values_are_exact_in_sixteen_bit_formats(config: RNNConfig, seed: int) -> None:
    for array in draw(config, "dyadic", seed).arrays.values():
        assert np.array_equal(array, array.astype(np.float16))


@pytest.mark.parametrize("distribution", list(DISTRIBUTIONS))
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_have_every_distribution(distribution: str, dtype: str) -> None:
    case = draw(RNNConfig(3, 4, T=3, N=2, dtype=dtype, loss="both"), distribution, 0)

    assert {array.dtype.name for array in case.arrays.values()} == {dtype}
    for name, array in {**case.weights, **case.cotangents}.items():
        assert np.isfinite(array.astype(float)).all(), name


def test_cotangents_are_drawn_like_everything_else() -> None:
    config = RNNConfig(2, 3, T=4, N=5, loss="both")
    first, second = (draw(config, "normal", seed) for seed in (1, 2))

    for name, spec in config.cotangents.items():
        assert first.cotangents[name].shape == spec.shape
        assert not np.array_equal(first.cotangents[name], second.cotangents[name])


def test_default_weights_stay_within_nn_rnn_s_own_bound() -> None:
    config = RNNConfig(5, 16)
    weights = np.concatenate([w.ravel() for w in draw(config, "default", 3).weights.values()])

    assert np.abs(weights).max() <= 0.25
    assert np.abs(weights).max() > 0.24


def test_special_values_are_met_and_only_data_is_infinite() -> None:
    config = RNNConfig(16, 16, T=8, N=64, hx=True)
    case = draw(config, "special", 0)
    assert case.hx is not None

    for array in (case.x, case.hx):
        assert np.isnan(array).any()
        assert np.isposinf(array).any()
        assert np.isneginf(array).any()
    assert ((case.x == 0) & np.signbit(case.x)).any()
    assert ((case.x != 0) & (np.abs(case.x) < np.finfo(np.float32).tiny)).any()
    assert all(np.isfinite(weight).all() for weight in case.weights.values())


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(UsageError, match="distribution='wild': expected one of dyadic, default"):
        draw(RNNConfig(1, 1), "wild")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normal_numbers_are_the_same_however_many_are_drawn_at_once(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RNNConfig(2, 3, T=5, N=7, dtype=dtype, loss="output")
    monkeypatch.setattr("harness.space.values.NORMALS_AT_ONCE", 11)
    stream = np.random.Generator(np.random.PCG64(3)).standard_normal(sum(one.size for one in config.given.values()))
    case = draw(config, "normal", 3)

    assert np.concatenate([array.ravel() for array in case.arrays.values()]).tobytes() == stream.astype(dtype).tobytes()


def test_an_earlier_call_of_a_readout_has_no_gradient_in_the_padding() -> None:
    config = RNNConfig(2, 3, T=3, N=2, lengths=(3, 1), output_size=2, loss="output")

    assert not earlier_case(config).cotangents["readout.grad"][1:, 1].any()
