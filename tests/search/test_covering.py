"""Tests of covering arrays: they have every possible interaction and every boundary, within the cost."""

import os
import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest

from harness import RNNConfig, Scope
from harness.search.covering import covering
from harness.space.coverage_counts import Coverage
from harness.space.errors import UsageError
from harness.space.factor_table import LOSSES, PACKINGS, SIZE_FACTORS, STRIDES
from harness.space.interactions import affords, class_of, interactions_of
from harness.space.scope import HIGHEST_COST, configure, factors_of
from tests.space.test_coverage_counts import SMALL, TORCH, allowed, interactions, small


def covered(configs: list[RNNConfig]) -> Coverage:
    coverage = Coverage()
    for config in configs:
        coverage.add_config(config)
    return coverage


@pytest.mark.parametrize("strength", [2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_every_interaction_that_some_config_has_is_there(name: str, strength: int) -> None:
    scope = SMALL[name]
    configs, every = covering(scope, strength), list(allowed(scope))

    assert interactions(scope, configs, strength) == interactions(scope, every, strength)
    if strength > 2:
        pairs = list(combinations(SIZE_FACTORS, 2))
        met = {(f, getattr(config, f), g, getattr(config, g)) for config in configs for f, g in pairs}
        assert set(interactions_of(scope).payable_pairs()) <= met


@pytest.mark.parametrize("strength", [2, 3])
def test_of_torch_s_scope_everything_is_met_by_few(strength: int) -> None:
    configs = covering(TORCH, strength)
    coverage = covered(configs)

    for fewer in range(1, strength + 1):
        met, of = coverage.share(TORCH, fewer)
        assert met == of
    assert all(met == of for met, of in coverage.boundaries(TORCH).values())
    assert all(met == of for met, of in coverage.met(TORCH).values())
    assert strength == 2 or coverage.boundary_pairs(TORCH) == (2_144, 2_144)
    assert len(configs) < {2: 110, 3: 950}[strength]
    assert [config.cost for config in configs] == sorted(config.cost for config in configs)


def test_every_config_is_of_the_scope_as_configure_leaves_it_and_can_be_paid() -> None:
    scope = TORCH.only(device=["cpu", "meta"], output_size=[None, 1, 3], dropout=[0.0, 0.25, 0.5, 1.0])
    values = scope.values()

    configs = covering(scope)

    for config in configs:
        factors = factors_of(config)
        assert all(factors[name] in values[name] for name in values), config
        assert factors_of(configure(factors)) | {"lengths": None} == factors | {"lengths": None}
        assert affords(scope, factors)
        assert config.cost <= HIGHEST_COST or sum(factors[name] > 3 for name in SIZE_FACTORS) == 1
        assert not (config.device == "meta" and config.T > 3)
        assert not (config.dropout and config.num_layers == 1)
    assert all(
        covered(configs).share(scope, strength)[0] == len(interactions_of(scope).of(strength)) for strength in (1, 2, 3)
    )
    assert all(met == of for met, of in covered(configs).boundaries(scope).values())
    met, of = covered(configs).boundary_pairs(scope)
    assert met == of
    assert {config.num_layers for config in configs} == {1, 2, 3, 4, 5}
    assert {config.dropout for config in configs} == {0.0, 0.25, 0.5, 1.0}


@pytest.mark.parametrize(
    "pins",
    [
        {"T": [100, 200], "N": [5, 48], "hidden_size": 20},
        {"T": range(1, 400)},
        {"lengths": PACKINGS, "T": 1},
        {"lengths": "any", "N": [1, 2, 7], "loss": LOSSES},
        {"batched": False, "strides": STRIDES},
        {"dropout": 0.5, "masks": True, "training": True},
        {"num_layers": [4, 5, 6]},
        {"N": 0},
    ],
)
def test_pins_are_kept(pins: dict[str, Any]) -> None:
    scope = Scope().only(**pins)
    configs = covering(scope)
    coverage = covered(configs)

    for config in configs:
        assert all(factors_of(config)[name] in of for name, of in scope.values().items())
        assert affords(scope, factors_of(config))
    for strength in (1, 2, 3):
        met, of = coverage.share(scope, strength)
        assert met == of > 0
    assert all(met == of for met, of in coverage.boundaries(scope).values())
    met, of = coverage.boundary_pairs(scope)
    assert met == of > 0


def test_a_scope_that_has_one_config_gives_it_and_one_that_has_none_gives_none() -> None:
    assert covering(small()) == [RNNConfig(1, 1)]
    assert covering(small(bias=[True, False])) == [RNNConfig(1, 1), RNNConfig(1, 1, bias=False)]
    assert covering(SMALL["what cannot be"]) == []
    assert {class_of("T", config.T) for config in covering(small(T=range(1, 9)), 2)} == {"one", "small", "about 8"}


SCRIPT = """
from harness.search.covering import covering
from harness import Scope
from harness.space.factor_table import PACKINGS
print([repr(config) for config in covering(Scope().only(lengths=PACKINGS, batched=[True, False]), seed=7)])
"""


def test_the_same_seed_gives_the_same_list_whatever_strings_hash_to() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]

    assert said[0] == said[1]
    assert len(said[0]) > 10_000


def test_another_seed_gives_another_list_that_is_as_good() -> None:
    scope = Scope().only(T=range(1, 10), N=range(10), hidden_size=[1, 8], input_size=3)
    first, second = covering(scope, 3, 0), covering(scope, 3, 1)

    assert first != second
    assert covered(first).share(scope, 3) == covered(second).share(scope, 3)
    first.clear()
    assert covering(scope, 3, 0)


def test_other_strengths_are_refused() -> None:
    with pytest.raises(UsageError, match="strength=1: expected 2 or 3"):
        covering(Scope(), 1)
