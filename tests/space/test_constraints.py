"""Tests of the table of constraints: configs, scopes and coverage all keep to it."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_by, strategies as st

from harness import Scope, configs
from harness.space.config import PLAINEST, RNNConfig
from harness.space.constraints import Constraint, below, given, off, on, settled
from harness.space.factor_table import CONSTRAINTS, IMPOSSIBLE, ConfigError
from harness.space.interactions import EXCLUDING_GROUPS, Interactions
from harness.space.scope import configure, factors_of
from harness.space.strategies import seeds
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject

ALL = scope_of(TorchSubject()).only(device=["cpu", "meta"], output_size=[None, 1, 3])
VALUES = ALL.values()
ANY_FACTORS = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()})


def named(constraint: Constraint) -> str:
    """Return a name for a test of a constraint."""
    return "-".join(constraint.excluded)


@given_by(configs(ALL))
def test_no_config_of_a_scope_meets_a_constraint(config: RNNConfig) -> None:
    constraints = [one for one in ALL.constraints if list(one.excluded) != ["device", "T"]]  # T is only made smaller

    assert [one for one in constraints if one.excludes(factors_of(config))] == []


@given_by(ANY_FACTORS, seeds())
def test_values_that_exclude_each_other_are_settled_once_and_for_all(factors: dict[str, Any], seed: int) -> None:
    made = factors_of(configure(factors, seed))

    assert [one for one in CONSTRAINTS if one.excludes(made)] == []
    once = settled(factors, CONSTRAINTS)
    assert settled(once, CONSTRAINTS) == once
    assert settled(made, CONSTRAINTS) == made


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=named)
def test_a_constraint_is_met_by_some_values_of_torch_s_scope_and_left_by_its_way_out(constraint: Constraint) -> None:
    factors = {name: [v for v in VALUES[name] if holds(v)] for name, holds in constraint.excluded.items()}

    assert all(factors.values())
    if constraint.way_out is not None:
        name, value = constraint.way_out
        assert not constraint.excluded[name](value)


@pytest.mark.parametrize("constraint", IMPOSSIBLE, ids=named)
def test_a_config_refuses_what_is_impossible_in_the_words_of_the_table(constraint: Constraint) -> None:
    choices = [[v for v in VALUES[name] if holds(v)] for name, holds in constraint.excluded.items()]
    plain = {"input_size": 1, "hidden_size": 1, "T": 2, "N": 1 if "batched" in constraint.excluded else 2}
    for values in product(*choices):
        factors = plain | dict(zip(constraint.excluded, values, strict=True))
        if (packing := factors.get("lengths")) is not None:
            factors["lengths"] = (1, 2) if packing == "any" and factors["N"] == 2 else (2,) * factors["N"]
        with pytest.raises(ConfigError) as raised:
            RNNConfig(**factors)
        assert str(raised.value) == constraint.error.format_map(PLAINEST.to_dict() | factors)


# A constraint that is said in the table is all that coverage needs to know

SMALL: dict[str, Any] = {"T": [1, 2], "N": [1, 2], "input_size": [1, 2], "hidden_size": 1, "num_layers": [1, 2]}
SMALL |= {"loss": [None, "both"], "lengths": [None, "equal", "any"], "strides": ["contiguous", "stepped"]}


@pytest.mark.parametrize(
    "excluded",
    [
        {"hx": off, "bias": on},  # in no group
        {"hx": off, "strides": given, "bias": off},
        {"hx": on, "batch_first": on, "N": below(2), "bidirectional": on},
        {"enforce_sorted": on, "loss": given},  # of two groups
        {"bias": off, "lengths": given, "dtype": lambda dtype: dtype == "float64"},
    ],
    ids="-".join,
)
def test_what_a_further_constraint_excludes_cannot_meet(excluded: dict[str, Any]) -> None:
    scope = Scope().only(**SMALL)
    before, names = Interactions(scope), list(scope.values())
    further = Scope.of_record(scope.record())
    vars(further)["constraints"] = (*scope.constraints, Constraint(excluded))
    after = Interactions(further)

    choices = [names.index(name) for name in sorted(excluded, key=names.index)]
    rows = [row for row in before.of(len(excluded)).tolist() if [before.factor[n] for n in row] == choices]
    expected = [
        row
        for row in rows
        if not all(excluded[name](before.values[name][which][0]) for name, which in map(before.names.__getitem__, row))
    ]

    assert 0 < len(expected) < len(rows)
    assert np.array(rows)[after.feasible(np.array(rows))].tolist() == expected


def test_groups_share_no_factor() -> None:
    grouped = [name for group in EXCLUDING_GROUPS for name in group]

    assert len(grouped) == len(set(grouped))
    assert set(grouped) < set(Scope().values())
