"""Tests of fresh cases: they are in the scope, no smaller than the failing one, and their sizes tell faults apart."""

from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Scope
from harness.diagnosis.fresh_cases import LENGTHS_SEED, NEAR_SIZES, fresh_cases, infinite, wider
from harness.space.factor_table import PACKINGS, SIZE_FACTORS
from harness.space.scope import factors_of, lengths_of

ALL = Scope().only(dtype=["float32", "bfloat16"], lengths=[None, *PACKINGS], loss=[None, "output"])


def test_the_first_is_generic_of_sizes_that_differ_and_of_steps_more_than_twice_as_many() -> None:
    for config in (RNNConfig(1, 1), RNNConfig(1, 1, T=4), RNNConfig(2, 1, bidirectional=True)):
        first = next(fresh_cases(config, ALL)).config

        assert first == wider(config, ALL)
        assert first.T > 2 * config.T
        sizes = [first.N, first.input_size, first.hidden_size]
        assert len(set(sizes) - {1}) == len(sizes)


@pytest.mark.parametrize(
    "config", [RNNConfig(1, 17, bidirectional=True), RNNConfig(2, 3, T=5, N=4, lengths=(5, 1, 2, 5))]
)
def test_none_is_smaller_than_the_failing_case(config: RNNConfig) -> None:
    for case in fresh_cases(config, ALL):
        for name in ("T", "N", "input_size", "hidden_size"):
            larger = getattr(case.config, name) >= getattr(config, name)
            assert larger or (name == "N" and not case.config.batched)


@pytest.mark.parametrize(
    "pins", [{"hidden_size": [1, 8]}, {"bias": True, "hx": [True]}, {"T": 1, "N": [1, 2]}, {"lengths": None}]
)
def test_all_are_of_the_scope(pins: dict[str, Any]) -> None:
    scope = ALL.only(**pins)

    seen = [factors_of(case.config) for case in fresh_cases(RNNConfig(1, 1, hx=True), scope)]

    for name in pins:
        assert {factors[name] for factors in seen} <= set(getattr(scope, name))


def test_each_factor_takes_each_other_value_somewhere() -> None:
    plain, packed = RNNConfig(1, 1), RNNConfig(2, 1, T=3, N=2, lengths=(3, 3), loss="output")
    seen = [factors_of(case.config) for config in (plain, packed) for case in fresh_cases(config, ALL)]

    for name, values in ALL.values().items():
        if name not in SIZE_FACTORS:
            assert {factors[name] for factors in seen} >= set(values), name


def test_sizes_near_the_failing_one_are_met_one_at_a_time() -> None:
    seen = {case.config for case in fresh_cases(RNNConfig(1, 5), ALL)}

    assert {RNNConfig(1, 5 + step) for step in NEAR_SIZES} <= seen


@pytest.mark.parametrize("N", range(3, 9))
def test_lengths_of_a_packed_batch_differ_and_rise_where_they_may(N: int) -> None:
    for T in range(3, 30):
        falling, rising = (lengths_of(packing, T, N, LENGTHS_SEED) for packing in ("falling", "any"))
        assert falling[0] > falling[-1]
        assert list(rising) != sorted(rising, reverse=True)


WAYS: list[dict[str, Any]] = [
    {},
    {"strides": "expanded"},
    {"strides": "transposed"},
    {"batch_first": True},
    {"batched": False, "N": 1},
    {"lengths": (4, 1, 2)},
    {"loss": "both"},
]


@pytest.mark.parametrize("changes", WAYS, ids=str)
def test_infinities_stand_in_the_last_feature_of_a_third_of_all_rows(changes: dict[str, Any]) -> None:
    config = RNNConfig(3, 2, T=4, N=3, hx=True, dtype="bfloat16").replace(**changes)

    x = infinite(config, 0).x.astype(float).reshape(-1, 3)

    last, any_at_all = np.isinf(x[:, -1]), np.isinf(x).any(-1)
    assert last.any()
    assert (any_at_all & ~last).any()
    assert not np.isinf(x).all(-1).any()
    assert infinite(config, 0).id == infinite(config, 0).id
