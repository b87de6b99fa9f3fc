"""Tests of coverage: which interactions of a scope are possible, and which were met; small scopes by brute force."""

import pickle
from collections.abc import Iterator
from itertools import combinations, product
from random import Random
from typing import Any

import pytest

from harness import RNNConfig, Scope
from harness.space.coverage_counts import Coverage
from harness.space.errors import UsageError
from harness.space.factor_table import (
    DTYPES,
    FORWARD_MODES,
    GRAD_MODES,
    LOSSES,
    PACKINGS,
    SIZE_FACTORS,
    SIZES,
    STRIDES,
    WRT,
)
from harness.space.interactions import CLASSES, EDGES, RARE_SIZES, affords, class_of, interactions_of
from harness.space.scope import HIGHEST_COST, affordable, configure, factors_of
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject

TORCH = scope_of(TorchSubject())

PINNED: dict[str, Any] = {"input_size": 1, "hidden_size": 1, "num_layers": 1, "nonlinearity": "tanh", "bias": True}
PINNED |= {"batch_first": False, "dropout": 0.0, "bidirectional": False, "T": 1, "N": 1, "hx": False}
PINNED |= {"dtype": "float32", "training": False, "enforce_sorted": False}


def small(**values: Any) -> Scope:
    """Return a scope with all factors pinned to the plainest value, except the given ones."""
    return Scope().only(**PINNED | {"masks": True} | values)


# Scopes of no more than some thousand configs each.
SMALL = {
    "packed": small(
        T=[1, 2, 129], N=[0, 1, 3], lengths=PACKINGS, enforce_sorted=[False, True], batched=[True, False], bias=[True]
    ),
    "packed, read out": small(
        T=[1, 4], N=[0, 3], lengths=[None, "any"], strides=STRIDES, output_size=[None, 1, 33], batched=[True, False]
    ),
    "differentiated": small(loss=LOSSES, wrt=WRT, grad_mode=GRAD_MODES, hx=[False, True]),
    "cast, with dropout": small(
        dtype=["float32", "float64"],
        autocast=[None, "float16"],
        dropout=[0.0, 0.25, 0.5, 1.0],
        training=[False, True],
        num_layers=[1, 2, 5],
        device=["cpu", "meta"],
        T=[2, 3, 9],
    ),
    "with dropout always": small(
        dropout=[0.5, 1.0], training=[False, True], num_layers=[1, 2], autocast=[None, "float16"]
    ),
    "without masks": small(
        masks=False, dropout=[0.0, 0.5], training=[False, True], num_layers=[1, 2], bias=[True, False]
    ),
    "sizes": small(
        T=[1, 2, 33, 129],
        N=[0, 1, 2, 64, 129],
        hidden_size=[1, 32, 128],
        input_size=[3, 129],
        num_layers=[1, 4, 5],
        bidirectional=[False, True],
    ),
    "sizes out of the ordinary": small(
        T=[100, 200, 5000], N=[50], hidden_size=[512, 700], batched=[True, False], bias=[True, False]
    ),
    "lengths of any sort only": small(T=[1, 2], N=[0, 1, 2], lengths=["any"], bias=[True, False]),
    "nothing varies": small(),
    "what cannot be": small(batched=[False], N=[5], bias=[True, False]),
}


def allowed(scope: Scope) -> Iterator[RNNConfig]:
    """Yield every config of a scope that ``configure`` leaves unchanged, and that is drawn."""
    values = scope.values()
    for chosen in product(*values.values()):
        factors = dict(zip(values, chosen, strict=True))
        if (factors["dropout"], factors["training"]) not in scope.modes:
            continue
        if factors["dropout"] and factors["num_layers"] == 1 and 0 in scope.dropout:
            continue
        made = (configure(factors, seed) for seed in range(64))
        config = next((config for config in made if factors_of(config)["lengths"] == factors["lengths"]), None)
        if (
            config is not None
            and factors_of(config) | {"lengths": None} == factors | {"lengths": None}
            and affords(scope, factors)
        ):
            yield config


def interactions(scope: Scope, configs: list[RNNConfig], strength: int) -> set[frozenset[tuple[str, Any]]]:
    """Return everything that meets in the configs, for factors with several classes."""
    classes = [{name: class_of(name, value) for name, value in factors_of(config).items()} for config in configs]
    varying = [name for name in scope.values() if len({found[name] for found in classes}) > 1]
    chosen = list(combinations(varying, strength))
    return {frozenset((name, found[name]) for name in names) for found in classes for names in chosen}


@pytest.mark.parametrize("strength", [1, 2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_an_interaction_is_one_that_some_config_has(name: str, strength: int) -> None:
    scope, configs = SMALL[name], list(allowed(SMALL[name]))
    space = interactions_of(scope)
    found = [frozenset(named.items()) for named in space.named(space.of(strength))]

    assert len(found) == len(set(found))
    assert set(found) == interactions(scope, configs, strength)


@pytest.mark.parametrize("strength", [1, 2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_the_share_that_was_met_is_exact(name: str, strength: int) -> None:
    scope, configs = SMALL[name], list(allowed(SMALL[name]))
    ran = Random(name).sample(configs, min(7, len(configs)))
    coverage = Coverage()
    for config in ran:
        coverage.add_config(config)

    all_met, some_met = interactions(scope, configs, strength), met_by(ran, scope, configs, strength)
    assert coverage.share(scope, strength) == (len(some_met), len(all_met))
    found = {met: list(coverage.interactions(scope, strength, met=met)) for met in (True, False)}
    assert {frozenset(one.items()) for one in found[True]} == some_met
    assert {frozenset(one.items()) for one in found[False]} == all_met - some_met


def met_by(
    ran: list[RNNConfig], scope: Scope, configs: list[RNNConfig], strength: int
) -> set[frozenset[tuple[str, Any]]]:
    of = interactions(scope, configs, strength)
    every = [{(name, class_of(name, value)) for name, value in factors_of(config).items()} for config in ran]
    return {one for one in of if any(one <= met for met in every)}


def test_torch_s_interactions_are_as_many_as_another_generator_finds() -> None:
    # coverwise 1.6.1 counted these on the same model, with its constraints written out as text, when sizes went up to
    # 129, and there were three grad modes.
    sizes = [*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129]
    scope = TORCH.only(input_size=sizes, hidden_size=sizes, T=sizes, N=[*sizes, 0], grad_mode=FORWARD_MODES)
    assert [len(interactions_of(scope).of(strength)) for strength in (2, 3)] == [3_123, 73_436]


@pytest.mark.parametrize(
    "name", ["sizes", "cast, with dropout", "packed", "sizes out of the ordinary", "lengths of any sort only"]
)
def test_boundaries_can_meet_where_some_config_has_both(name: str) -> None:
    scope = SMALL[name]
    space, configs = interactions_of(scope), list(allowed(scope))

    for factor in SIZE_FACTORS:
        sizes = {getattr(config, factor) for config in configs}
        ends = {min(getattr(scope, factor)), max(getattr(scope, factor))}
        assert set(space.boundaries[factor]) == sizes & ((EDGES | RARE_SIZES) & set(getattr(scope, factor)) | ends)
        assert set(space.paired[factor]) == sizes & (EDGES & set(getattr(scope, factor)) | ends)
    both = {
        (f, getattr(config, f), g, getattr(config, g)) for config in configs for f, g in combinations(SIZE_FACTORS, 2)
    }
    edges = space.paired
    of_edges = {one for one in both if one[1] in edges[one[0]] and one[3] in edges[one[2]]}
    assert set(space.payable_pairs()) == of_edges
    assert not set(space.payable_pairs(payable=False)) & both


def test_boundaries_that_were_met_are_counted_and_so_are_pairs_of_them() -> None:
    scope = small(T=[1, 8, 9, 10], N=[1, 16])
    coverage = Coverage()
    for T, N in [(8, 16), (10, 1), (9, 16), (10, 16), (8, 8)]:
        coverage.add_config(RNNConfig(1, 1, T=T, N=N))

    assert coverage.boundaries(scope) == {"input_size": (1, 1), "hidden_size": (1, 1), "T": (3, 4), "N": (2, 2)}
    # There is one pair of input and hidden sizes; each of them has three pairs with T and two with N; T and N have
    # four.
    assert coverage.boundary_pairs(scope) == (1 + 2 * 3 + 2 * 2 + 4, 1 + 2 * 4 + 2 * 2 + 8)


def test_values_that_no_config_has_are_not_missed() -> None:
    plain, packed = (small(enforce_sorted=[False, True], lengths=lengths, T=2, N=2) for lengths in ([None], PACKINGS))
    coverage = Coverage()
    coverage.add_config(RNNConfig(1, 1, T=2, N=2))

    assert coverage.met(plain)["enforce_sorted"] == (1, 1)
    assert coverage.met(packed)["enforce_sorted"] == (1, 2)


def test_to_merge_is_to_add_everything() -> None:
    whole, parts = Coverage(), [Coverage() for _ in range(3)]
    configs = [config for scope in SMALL.values() for config in list(allowed(scope))[:60:7]]
    for number, config in enumerate(configs):
        whole.add_config(config)
        parts[number * 3 // len(configs)].add_config(config)
    parts[0].distributions["dyadic"] += 2
    whole.distributions["dyadic"] += 2

    merged = Coverage()
    for part in parts:
        merged.merge(part)

    assert merged == whole
    for scope in (*SMALL.values(), TORCH):
        for strength in (1, 2, 3):
            assert merged.share(scope, strength) == whole.share(scope, strength)
        assert merged.boundary_pairs(scope) == whole.boundary_pairs(scope)


def test_more_configs_than_wait_are_counted_and_a_copy_counts_the_same() -> None:
    scope = small(T=range(1, 33), N=range(1, 33))
    coverage = Coverage()
    for T, N in product(range(1, 33), repeat=2):
        coverage.add_config(RNNConfig(1, 1, T=T, N=N))

    assert coverage.share(scope, 2) == (25, 25)
    assert pickle.loads(pickle.dumps(coverage)).share(scope, 2) == (25, 25)  # noqa: S301


def test_classes_that_no_scope_has_are_counted_too() -> None:
    coverage = Coverage()
    for number in range(200):
        coverage.add_config(RNNConfig(1, 1, device=f"odd:{number}"))

    devices = [f"odd:{number}" for number in range(0, 400, 2)]
    assert coverage.share(small(device=devices), 1) == (100, 200)


def test_what_is_small_enough_is_what_affordable_leaves() -> None:
    scope, random = Scope(), Random(1)
    for _ in range(2_000):
        drawn = {name: random.choice(getattr(scope, name)) for name in (*SIZE_FACTORS, "num_layers", "bidirectional")}
        drawn["device"] = random.choice(["cpu", "cpu", "meta"])
        left = affordable(drawn, scope=scope)
        if affords(scope, drawn) and drawn["device"] == "cpu":
            assert left == drawn
        if left == drawn:
            assert affords(scope, drawn) or drawn["device"] == "meta"


def test_every_size_is_of_a_class() -> None:
    found = {size: class_of("T", size) for size in (0, *SIZES, 5_000)}

    assert set(found.values()) == {*(name for _end, name in CLASSES), "large"}
    assert [found[size] for size in (0, 1, 2, 7, 8, 9, 15, 17, 31, 33, 63, 5_000)] == [
        "none",
        "one",
        "small",
        "small",
        "about 8",
        "about 8",
        "about 16",
        "about 16",
        "about 32",
        "about 32",
        "large",
        "large",
    ]


def test_interactions_of_other_strengths_are_not_counted() -> None:
    with pytest.raises(UsageError, match="strength=4: expected 1, 2 or 3"):
        Coverage().share(TORCH, 4)


def test_dtypes_and_cost_are_those_of_the_space() -> None:
    assert set(interactions_of(TORCH).values["dtype"]) == set(DTYPES)
    assert HIGHEST_COST == 2**20


def test_pairs_add_up_to_their_share() -> None:
    scope, coverage = SMALL["packed"], Coverage()
    coverage.add_config(RNNConfig(1, 1, T=2, N=1, batched=True))
    coverage.add_config(RNNConfig(1, 1, T=1, N=1, batched=False))

    pairs = coverage.pairs(scope)

    met, of = map(sum, zip(*pairs.values(), strict=True))
    assert (met, of) == coverage.share(scope, 2)
    assert pairs["T", "batched"] == (2, 6)
