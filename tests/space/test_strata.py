"""Tests of strata: the parts of a scope, and the samples of them."""

from collections import Counter
from itertools import combinations
from random import Random
from typing import Any

import pytest

from harness import RNNConfig, Scope, configs, strata
from harness.space.coverage_counts import Coverage
from harness.space.factor_table import DTYPES, LOSSES
from harness.space.interactions import interactions_of

WIDE = Scope().only(dtype=DTYPES, loss=LOSSES, lengths=[None, "any"], output_size=[None, 2])


def test_the_parts_are_the_scope_and_share_nothing() -> None:
    parts = strata(WIDE)

    assert len(parts) == len({str(part) for part in parts}) == 8
    for one, other in combinations(parts, 2):
        assert any(
            set(getattr(one.scope, name)).isdisjoint(getattr(other.scope, name))
            for name in ("nonlinearity", "bidirectional", "loss")
        )
    for name, values in WIDE.values().items():
        assert {value for part in parts for value in getattr(part.scope, name)} == set(values)


@pytest.mark.parametrize(
    ("pins", "names"),
    [
        ({}, ["tanh-unidirectional", "tanh-bidirectional", "relu-unidirectional", "relu-bidirectional"]),
        ({"bidirectional": True}, ["tanh", "relu"]),
        ({"bidirectional": True, "nonlinearity": "relu"}, ["all"]),
        ({"bidirectional": True, "nonlinearity": "relu", "loss": ["h_n", None]}, ["forward", "gradients"]),
    ],
)
def test_what_has_one_half_only_splits_nothing(pins: dict[str, Any], names: list[str]) -> None:
    assert [str(part) for part in strata(Scope().only(**pins))] == names


def test_a_sample_is_of_the_stratum_and_the_same_again() -> None:
    for part in strata(WIDE):
        sample = part.sample(Random(1), 40)

        assert sample == part.sample(Random(1), 40)
        assert sample != part.sample(Random(2), 40)
        for config in sample:
            assert config.nonlinearity in part.scope.nonlinearity
            assert config.bidirectional in part.scope.bidirectional
            assert (config.loss is None) == (None in part.scope.loss)


def test_no_value_comes_again_before_all_others_came() -> None:
    [part] = strata(
        Scope().only(nonlinearity="tanh", bidirectional=False, T=range(1, 9), N=[1, 1, 2], input_size=1, hidden_size=1)
    )

    for seed in range(20):
        sample = part.sample(Random(seed), 20)

        # Eight steps come from three packs, of which one is dealt half; N from seven packs of three.
        assert set(Counter(config.T for config in sample).values()) <= {2, 3}
        assert 6 <= Counter(config.N for config in sample)[2] <= 7


def test_samples_reach_every_interaction_that_hypothesis_does() -> None:
    scope = Scope().only(
        T=[1, 3], N=[0, 1, 3], input_size=[1, 9], hidden_size=[1, 9], num_layers=[1, 3], dropout=[0.0, 0.5]
    )
    coverage = Coverage()
    for number in range(40):
        for part in strata(scope):
            for config in part.sample(Random(number), 16):
                coverage.add_config(config)

    met, of = coverage.share(scope, 2)
    assert met == of == len(interactions_of(scope).of(2))


def test_hypothesis_does_not_copy_one_factor_to_another() -> None:
    # If all factors were drawn from values alone, 1,000 configs of one run would have some 440 different triples of
    # sizes; independent draws have 922.
    from hypothesis import HealthCheck, given, settings

    seen: list[RNNConfig] = []

    @settings(max_examples=1_000, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(configs())
    def note(config: RNNConfig) -> None:
        seen.append(config)

    note()

    assert len({(config.hidden_size, config.T, config.N) for config in seen}) > 700
