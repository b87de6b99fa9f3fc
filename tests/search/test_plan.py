"""Tests of the plan: which cases are asked, in which order, and that this depends on nothing else."""

import pickle
from itertools import islice
from typing import Any

import pytest

from harness import RNNConfig, Scope, scope_of
from harness.search.covering import covering
from harness.search.plan import (
    CASES_PER_CONFIG,
    CONFIGS_PER_CHUNK,
    DERIVATIVE_CONFIGS,
    CoveringChunk,
    StratumChunk,
    chunks,
    differentiated,
)
from harness.space.constraints import FactorRule
from harness.space.rare_factors import apart
from harness.space.scope import factors_of
from harness.space.size_product_edges import product_edges
from harness.space.strata import strata
from harness.subjects.torch_module import TorchSubject

SMALL = Scope().only(T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2])
WHOLE = scope_of(TorchSubject())


def test_pairs_on_small_sizes_come_first_then_the_covering_array_and_strata_in_turn() -> None:
    small = covering(SMALL.only(T=2, N=2, input_size=2, hidden_size=2), 2)
    found = list(islice(chunks(SMALL, 0, None), 40))
    head = [unit for unit in found if isinstance(unit, CoveringChunk)]
    tail = [unit for unit in found if isinstance(unit, StratumChunk)]

    assert found == [*head, *tail]
    assert [config for unit in head for config in unit.configs] == [*small, *covering(SMALL)]
    assert len({asked.seed for unit in head for asked in unit.planned()}) == len(small) + len(covering(SMALL))
    assert [unit.stratum for unit in tail[:8]] == [*strata(SMALL), *strata(SMALL)]
    assert {unit.number for unit in tail[4:8]} == {1}


def test_small_sizes_are_all_different_and_all_the_same_by_turns() -> None:
    unit = next(chunks(WHOLE, 0, None))
    sizes = [(c.input_size, c.hidden_size, c.T, c.N) for c in (asked.config for asked in unit.planned()) if c.batched]

    assert set(sizes) == {(2, 3, 4, 5), (3, 3, 3, 3), (2, 2, 2, 2)}
    assert any(c.lengths is not None and c.T == c.N for c in (asked.config for asked in unit.planned()))


def test_a_unit_asks_the_same_wherever_it_is_asked_for() -> None:
    for unit in (next(chunks(WHOLE, 3, None)), next(chunks(WHOLE, 3, 4))):
        elsewhere = pickle.loads(pickle.dumps(unit))  # noqa: S301

        assert list(unit.planned()) == list(elsewhere.planned()) == list(unit.planned())
        assert [asked.case().id for asked in unit.planned()] == [asked.case().id for asked in elsewhere.planned()]


def test_products_of_sizes_come_after_the_arrays_if_the_budget_holds_them() -> None:
    large = product_edges(WHOLE)

    def planned(cases: int | None) -> list[RNNConfig]:
        found = islice(chunks(WHOLE, 0, cases), 80)
        configs = [config for unit in found if isinstance(unit, CoveringChunk) for config in unit.configs]
        return [config for config in configs if config not in few]

    few = set(apart(WHOLE, 0))
    assert planned(1650)[-len(large) :] == planned(None)[-len(large) :] == large
    assert not set(large) & set(planned(len(planned(60)) + len(large)))


def test_the_factors_apart_come_last_as_many_as_the_budget_holds() -> None:
    few = apart(WHOLE, 0)

    def planned(cases: int | None) -> list[RNNConfig]:
        found = islice(chunks(WHOLE, 0, cases), 90)
        return [config for unit in found if isinstance(unit, CoveringChunk) for config in unit.configs]

    assert planned(1650)[-len(few) :] == planned(None)[-len(few) :] == few
    some = [config for config in planned(200) if config in few]
    assert 0 < len(some) < len(few)
    assert some == few[: len(some)]
    assert not set(few) & set(planned(4))


def test_another_seed_asks_something_else() -> None:
    for cases in (None, 4):
        first, second = (next(chunks(WHOLE, seed, cases)) for seed in (1, 2))

        assert [asked.case().id for asked in first.planned()] != [asked.case().id for asked in second.planned()]


def test_no_two_units_ask_the_same() -> None:
    asked = [
        (one.config, one.distribution, one.seed) for unit in islice(chunks(WHOLE, 0, 4), 24) for one in unit.planned()
    ]

    assert len(asked) == len(set(asked)) == 24 * CONFIGS_PER_CHUNK * CASES_PER_CONFIG


@pytest.mark.parametrize("scope", [WHOLE, SMALL, SMALL.only(loss=["output", "both"])])
def test_one_in_four_is_held_to_a_relation_and_one_in_four_is_looked_at_closely(scope: Scope) -> None:
    asked = [one for unit in islice(chunks(scope, 0, 4), 64) for one in unit.planned()]
    plain = [one for one in asked if one.config.loss is not None and can_have_probes(one.config)]
    others = [one for one in asked if one not in plain]

    assert is_a_quarter([one.with_relation for one in asked])
    assert is_a_quarter([one.with_probes for one in others])
    if scope is WHOLE:  # few cases can have probes here, so most of them do
        assert 0 < len(plain) < len(asked) / 4
        assert sum(one.with_probes for one in plain) > 0.75 * len(plain)
    else:
        assert is_a_quarter([one.with_probes for one in plain])
    assert sum(one.first for one in asked) * CASES_PER_CONFIG == len(asked)


def can_have_probes(config: RNNConfig) -> bool:
    padded: RNNConfig = config.plain.replace(lengths=None)
    return padded == config.replace(lengths=None, enforce_sorted=False)


def is_a_quarter(chosen: list[bool]) -> bool:
    return bool(abs(sum(chosen) - len(chosen) / 4) <= 5 * (len(chosen) * 0.25 * 0.75) ** 0.5)


@pytest.mark.parametrize(
    "pins",
    [
        {"autocast": "bfloat16"},
        {"autocast": "bfloat16", "dropout": 0.5},
        {"grad_mode": "inference_mode"},
        {"grad_mode": "accumulate"},
        {"wrt": "inputs"},
        {"wrt": "weights"},
        {"enforce_sorted": True},
        {"lengths": "falling"},
        {"lengths": "any"},
        {"dropout": 0.5},
        {"N": 0},
        {"batched": False},
        {"after": "used"},
    ],
    ids=str,
)
def test_every_case_has_the_values_that_are_pinned(pins: dict[str, Any]) -> None:
    few = WHOLE.only(**{"T": [1, 2, 5], "N": [0, 1, 2, 5], "input_size": [1, 3], "hidden_size": [1, 3]} | pins)
    configs = [asked.config for unit in islice(chunks(few, 0, 400), 32) for asked in unit.planned()]
    large = product_edges(WHOLE.only(**pins))
    made = [{name: factors_of(config)[name] for name in pins} for config in (*configs, *large)]

    assert len(configs) >= 400
    assert [one for one in made if one != pins] == []


def test_a_rule_takes_no_pinned_value_away() -> None:
    rules = [FactorRule("loss", loss, "dtype", ("float64",)) for loss in ("both", "h_n")]
    scope = Scope().only(loss=["both", "h_n"]).ruled(rules)
    configs = [asked.config for unit in islice(chunks(scope, 0, 200), 16) for asked in unit.planned()]

    assert {config.loss for config in configs} == {"both", "h_n"}
    assert {config.dtype for config in configs} == {"float64"}


def test_the_cases_for_derivatives_beyond_gradients_are_planned_once_and_have_tame_values() -> None:
    [unit] = [unit for unit in islice(chunks(WHOLE, 0, 1650), 80) if getattr(unit, "configs", ()) == DERIVATIVE_CONFIGS]

    assert {(asked.with_probes, asked.distribution) for asked in unit.planned()} == {(True, "default")}


def test_of_these_cases_only_those_in_the_scope_are_planned() -> None:
    pins: list[dict[str, Any]] = [{}, {"num_layers": 1}, {"nonlinearity": "relu"}, {"dtype": "float32"}, {"loss": None}]

    assert [len(differentiated(WHOLE.only(**one))) for one in pins] == [4, 3, 1, 0, 0]
