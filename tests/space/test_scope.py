"""Tests of Scope and the strategies over it."""

from typing import Any

import pytest
from hypothesis import HealthCheck, find, given, settings

from harness import Case, RNNConfig, Scope, cases, configs
from harness.space.constraints import FactorRule
from harness.space.coverage_counts import Coverage
from harness.space.errors import UsageError
from harness.space.factor_table import BOUNDARIES, SIZES, ConfigError
from harness.space.scope import affordable
from harness.space.strategies import seeds


@given(configs(bidirectional=True, hidden_size=range(3, 5), dtypes=["float64"], nonlinearity="relu"))
def test_pinned_factors_are_all_that_is_drawn(config: RNNConfig) -> None:
    assert config.bidirectional
    assert config.hidden_size in {3, 4}
    assert config.dtype == "float64"
    assert config.nonlinearity == "relu"


@given(configs())
def test_nothing_outside_the_scope_is_drawn(config: RNNConfig) -> None:
    for name, values in Scope().values().items():
        assert getattr(config, name) in values
    assert not (config.dropout and config.training)
    assert not (config.dropout and config.num_layers == 1)


def test_sixteen_bits_and_gradients_are_drawn_only_where_they_are_asked_for() -> None:
    assert set(Scope().dtype) == {"float32", "float64"}
    assert Scope().loss == (None,)
    wider = Scope().only(dtypes=["bfloat16"], losses=["output", "both"])
    assert (wider.dtype, wider.loss) == (("bfloat16",), ("output", "both"))


@given(configs(losses=["h_n"], dtypes=["float16"]))
def test_a_loss_that_is_asked_for_is_drawn(config: RNNConfig) -> None:
    assert (config.loss, config.dtype) == ("h_n", "float16")


def test_configs_shrink_to_the_defaults_and_sizes_of_one() -> None:
    assert find(configs(), lambda _: True, settings=settings(database=None)) == RNNConfig(1, 1)


def test_cases_shrink_to_the_plainest_distribution_and_seed_zero() -> None:
    found: Case = find(cases(), lambda _: True, settings=settings(database=None))

    assert found.origin == ("dyadic", 0)
    assert find(seeds(), lambda _: True, settings=settings(database=None)) == 0


def test_every_boundary_is_met_within_a_thousand_configs() -> None:
    # 1,000 draws of one size miss a boundary with probability (1 - 2/27) ** 1000 < 1e-33 if they are independent.
    # Hypothesis's are not quite, which is why this needs a test.
    coverage = Coverage()

    @settings(max_examples=1_000, database=None, suppress_health_check=list(HealthCheck))
    @given(configs())
    def count(config: RNNConfig) -> None:
        coverage.add_config(config)

    count()

    for factor in ("T", "N", "input_size", "hidden_size"):
        assert set(BOUNDARIES) <= set(coverage.factors[factor]), factor
    assert coverage.met(Scope())["T"] == (len(set(SIZES)), len(set(SIZES)))


@pytest.mark.parametrize(
    ("pins", "error", "words"),
    [
        ({"projection": 0}, UsageError, "unknown factor projection: expected some of input_size"),
        ({"nonlinearty": "relu"}, UsageError, r"unknown factor nonlinearty: did you mean nonlinearity\?"),
        ({"T": []}, UsageError, r"T=\[\]: expected at least one value"),
        ({"num_layers": 0}, ConfigError, "num_layers=0: expected an int of at least 1"),
        ({"dtypes": ["int8"]}, ConfigError, "dtype='int8': expected one of"),
        ({"losses": ["readout"]}, ConfigError, "loss='readout': expected one of None, 'output', 'h_n', 'both'"),
        ({"wrt": "x"}, ConfigError, "wrt='x': expected one of 'all', 'inputs', 'weights'"),
        ({"lengths": "rising"}, ConfigError, "lengths='rising': expected one of None, 'equal', 'falling', 'any'"),
        ({"lengths": [None, (2, 1)]}, ConfigError, r"lengths=\(2, 1\): expected one of None, 'equal'"),
        ({"enforce_sorted": "yes"}, ConfigError, "enforce_sorted='yes': expected True or False"),
        ({"batched": [True, 0]}, ConfigError, "batched=0: expected True or False"),
        ({"strides": "negative"}, ConfigError, "strides='negative': expected one of 'contiguous', 'transposed'"),
        ({"autocast": "float64"}, ConfigError, "autocast='float64': expected one of None, 'bfloat16', 'float16'"),
        ({"grad_mode": "no_grad"}, ConfigError, "grad_mode='no_grad': expected one of None, 'enable_grad', 'inference"),
        ({"preparation": "old"}, ConfigError, "preparation='old': expected one of 'new', 'used', 'deepcopy'"),
        ({"hidden_size": [1, [2]]}, ConfigError, r"hidden_size=\[2\]"),
        ({"dropout": 0.5, "training": True}, UsageError, "those of this subject are unknown"),
    ],
)
def test_a_pin_that_cannot_be_is_refused(pins: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Scope().only(**pins)
    with pytest.raises(error, match=words):
        configs(**pins)


DEAR: dict[str, Any] = {"input_size": 8, "hidden_size": 8, "T": 129, "N": 9, "num_layers": 1, "bidirectional": False}


def test_sizes_that_are_too_dear_stay_in_the_scope() -> None:
    pinned = Scope().only(hidden_size=[6, 8], N=9, input_size=range(2, 9))

    assert affordable(DEAR, scope=pinned) == DEAR | {"input_size": 2, "hidden_size": 6}
    assert affordable(DEAR, scope=Scope().only(N=9, hidden_size=8, input_size=8)) == DEAR


def test_on_meta_few_steps_are_taken_of_those_in_the_scope() -> None:
    factors = DEAR | {"device": "meta", "N": 1, "hidden_size": 1, "input_size": 1}

    steps = {T: affordable(factors | {"T": T})["T"] for T in (1, 2, 3, 4, 129)}
    pinned = {T: affordable(factors | {"T": T}, scope=Scope().only(T=[7, 129]))["T"] for T in (7, 129)}

    assert steps == {1: 1, 2: 2, 3: 3, 4: 1, 129: 2}
    assert pinned == {7: 7, 129: 7}


def test_unknown_distributions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"distributions=\['wild'\]: expected some of dyadic"):
        cases(distributions=["dyadic", "wild"])


def test_a_joined_scope_keeps_the_rules_of_both_and_drops_those_of_one() -> None:
    shared, own = FactorRule("loss", "output", "dtype", ("float64",)), FactorRule("hx", True, "bias", (True,))

    both = Scope().ruled([shared, own]).joined(Scope().ruled([shared]))

    assert both.rules == (shared,)


def test_a_rule_cannot_be_pinned() -> None:
    with pytest.raises(UsageError, match="unknown factor rules: expected some of input_size"):
        Scope().only(rules=())
