"""Tests of configure, and of scopes of all ways of calling: which factors give way, and what is drawn of each."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, find, given, settings, strategies as st

from harness import RNNConfig, Scope, as_subject, configs
from harness.space.coverage_counts import Coverage
from harness.space.errors import UsageError
from harness.space.factor_table import (
    AUTOCASTS,
    DTYPES,
    GRAD_MODES,
    LOSSES,
    PACKINGS,
    PREPARATIONS,
    SIZE_FACTORS,
    STRIDES,
    WRT,
)
from harness.space.scope import HIGHEST_COST, affordable, configure, factors_of, lengths_of, lost_pin
from harness.space.strategies import seeds
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject

ALL = scope_of(TorchSubject()).only(device=["cpu", "meta"], output_size=[None, 1, 3])


@given(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in ALL.values().items()}), seeds())
def test_every_combination_of_values_gives_a_config(factors: dict[str, Any], seed: int) -> None:
    config = configure(factors, seed)

    assert config.packing in {None, "equal", "falling", factors["lengths"]}
    gives_way = {"N", "lengths", "enforce_sorted", "wrt", "grad_mode", "autocast", "dropout", "strides", "nonlinearity"}
    gives_way |= {"after"} - {config.after}
    for name in factors.keys() - gives_way:
        assert getattr(config, name) == factors[name], name


PLAIN: dict[str, Any] = {name: values[0] for name, values in ALL.values().items()}


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({"batched": False, "N": 7, "lengths": "any", "enforce_sorted": True}, {"batched": False}),
        ({"batched": False, "N": 0}, {"batched": False}),
        ({"lengths": "equal", "N": 0, "T": 3}, {"N": 1, "T": 3, "lengths": (3,)}),
        ({"lengths": None, "N": 0}, {"N": 0}),
        ({"enforce_sorted": True}, {}),
        ({"lengths": "equal", "enforce_sorted": True}, {"lengths": (1,), "enforce_sorted": True}),
        ({"lengths": "any", "enforce_sorted": True}, {"lengths": (1,), "enforce_sorted": True}),
        ({"wrt": "inputs"}, {}),
        ({"wrt": "inputs", "loss": "h_n"}, {"wrt": "inputs", "loss": "h_n"}),
        ({"grad_mode": "inference_mode"}, {"grad_mode": "inference_mode"}),
        ({"grad_mode": "inference_mode", "loss": "both"}, {"loss": "both"}),
        ({"grad_mode": "accumulate"}, {}),
        ({"grad_mode": "accumulate", "loss": "both"}, {"grad_mode": "accumulate", "loss": "both"}),
        ({"autocast": "float16", "dtype": "float64"}, {"dtype": "float64"}),
        ({"autocast": "float16"}, {"autocast": "float16"}),
        ({"autocast": "float16", "device": "meta"}, {"device": "meta"}),
        ({"autocast": "bfloat16", "dropout": 0.5, "training": True}, {"autocast": "bfloat16", "training": True}),
        ({"autocast": "bfloat16", "dropout": 0.5}, {"autocast": "bfloat16", "dropout": 0.5}),
        ({"dropout": 0.5, "training": True, "num_layers": 2}, {"dropout": 0.5, "training": True, "num_layers": 2}),
    ],
)
def test_what_excludes_each_other_gives_way(factors: dict[str, Any], expected: dict[str, Any]) -> None:
    assert configure(PLAIN | factors) == RNNConfig(**({"input_size": 1, "hidden_size": 1} | expected))


def test_a_config_s_own_factors_give_it_again_but_for_its_lengths() -> None:
    config = RNNConfig(2, 3, T=4, N=5, lengths=(4, 4, 4, 4, 4), loss="both", wrt="inputs", strides="stepped")

    assert configure(factors_of(config)) == config
    assert factors_of(config.replace(lengths=(1, 4, 2, 4, 3)))["lengths"] == "any"
    assert factors_of(config.replace(lengths=None)) == config.replace(lengths=None).to_dict()


@given(st.sampled_from(["equal", "falling", "any"]), st.integers(1, 40), st.integers(1, 40), seeds())
def test_lengths_are_of_the_sort_that_was_asked_for(packing: str, T: int, N: int, seed: int) -> None:
    lengths = lengths_of(packing, T, N, seed)

    assert len(lengths) == N
    assert max(lengths) == T
    assert min(lengths) >= 1
    assert lengths == lengths_of(packing, T, N, seed)
    if packing == "equal":
        assert set(lengths) == {T}
    if packing == "falling":
        assert list(lengths) == sorted(lengths, reverse=True)


def test_lengths_have_ties_and_ones_and_stand_in_every_order() -> None:
    drawn = [lengths_of("any", 20, 4, seed) for seed in range(200)]

    # Of four lengths one is T, and each of the others is 1 with a chance of 0.26: 200 draws are without a 1 with a
    # chance of 1e-78.
    assert sum(1 in lengths for lengths in drawn) > 50
    assert sum(len(set(lengths)) < 4 for lengths in drawn) > 50
    assert {lengths.index(20) for lengths in drawn} == {0, 1, 2, 3}
    assert len(set(drawn)) > 100


@given(st.fixed_dictionaries({name: st.sampled_from(getattr(ALL, name)) for name in (*SIZE_FACTORS, "num_layers")}))
def test_what_is_affordable_costs_no_more_or_has_one_size_alone_that_is_large(sizes: dict[str, int]) -> None:
    factors = sizes | {"bidirectional": True, "device": "cpu"}

    afforded = affordable(factors)

    largest = max(sizes[name] for name in SIZE_FACTORS)
    changed = [name for name in SIZE_FACTORS if afforded[name] != factors[name]]
    cost = RNNConfig(**{name: value for name, value in afforded.items() if name != "device"}).cost
    assert cost <= HIGHEST_COST or sorted(afforded[name] for name in SIZE_FACTORS)[-2] <= 4
    assert largest in {afforded[name] for name in SIZE_FACTORS}
    assert all(afforded[name] < factors[name] for name in changed)
    assert afforded["num_layers"] == factors["num_layers"]


def test_what_costs_little_is_left_as_it_is() -> None:
    factors = {"input_size": 9, "hidden_size": 9, "T": 9, "N": 9, "num_layers": 2, "bidirectional": True}

    assert affordable(factors) == factors
    assert affordable(factors, cost=1) != factors


def test_everything_that_is_offered_is_drawn() -> None:
    # A preparation, the rarest value, is missed by 1,500 draws with a chance of (26/27) ** 1500 < 1e-24 if they are
    # independent.
    coverage = Coverage()
    met: Counter[str] = Counter()

    @settings(max_examples=1_500, database=None, suppress_health_check=list(HealthCheck), deadline=None)
    @given(configs(ALL))
    def count(config: RNNConfig) -> None:
        coverage.add_config(config)
        met["unsorted, without a batch axis or packed"] += not config.batched or config.packing == "any"
        met["sorted as the packing says"] += config.enforce_sorted
        met["packed backwards"] += config.lengths is not None and config.loss is not None
        met["packed, with dropout"] += config.lengths is not None and config.drops
        met["frozen"] += config.wrt == "inputs"

    count()

    expected: dict[str, tuple[Any, ...]] = {
        "dtype": DTYPES,
        "loss": LOSSES,
        "wrt": WRT,
        "lengths": PACKINGS,
        "enforce_sorted": (False, True),
        "batched": (True, False),
        "strides": STRIDES,
        "grad_mode": GRAD_MODES,
        "preparation": PREPARATIONS,
    }
    for name, values in expected.items():
        assert set(coverage.factors[name]) == set(values), name
        assert coverage.met(ALL)[name] == (len(values), len(values))
    assert min(met.values()) > 0, met
    assert len(met) == 5


def test_autocast_is_drawn_where_it_can_be() -> None:
    # Each of the two comes in one of ten draws: 300 are without one of them with a chance of 4e-14.
    met: Counter[str | None] = Counter()

    @settings(max_examples=300, database=None, suppress_health_check=list(HealthCheck), deadline=None)
    @given(configs(ALL.only(dtype="float32", device="cpu")))
    def count(config: RNNConfig) -> None:
        met[config.autocast] += 1

    count()

    assert set(met) == set(AUTOCASTS)


@given(configs(ALL))
def test_no_more_is_drawn_than_is_allowed(config: RNNConfig) -> None:
    values = ALL.values()

    for name, value in factors_of(config).items():
        allowed = {*values[name], *({1} if name == "N" else {"equal", "falling"} if name == "lengths" else ())}
        assert value in allowed, name
    assert not (config.dropout and config.num_layers == 1)


@given(configs(ALL.only(lengths="falling")))
def test_a_pinned_sort_of_lengths_is_drawn(config: RNNConfig) -> None:
    assert config.packing == "falling"


def test_configs_of_all_shrink_to_the_defaults() -> None:
    assert find(configs(ALL), lambda _: True, settings=settings(database=None)) == RNNConfig(1, 1)


def test_a_packed_config_shrinks_to_one_step_of_one_sequence() -> None:
    found = find(configs(ALL), lambda config: config.lengths is not None, settings=settings(database=None))

    assert found == RNNConfig(1, 1, T=1, N=1, lengths=(1,))


def test_coverage_counts_sorts_of_lengths_and_not_lengths() -> None:
    coverage = Coverage()
    packed = RNNConfig(1, 1, T=3, N=2, lengths=(3, 3))

    for lengths in [(3, 3), (3, 1), (3, 2), (2, 3), None]:
        coverage.add_config(packed.replace(lengths=lengths))

    assert coverage.factors["lengths"] == {"equal": 1, "falling": 2, "any": 1, None: 1}
    assert coverage.met(Scope().only(lengths=PACKINGS))["lengths"] == (4, 4)


def test_plurals_may_be_written_of_three_factors() -> None:
    written = Scope().only(dtypes=["float16"], devices=["cpu", "meta"], losses=["both"])

    assert written == Scope().only(dtype="float16", device=["cpu", "meta"], loss="both")


def test_a_scope_without_masks_has_no_dropout_in_training_and_one_with_them_has() -> None:
    factors: dict[str, Any] = {"dropout": [0.0, 0.5], "training": [False, True]}

    assert set(Scope().only(**factors).modes) == {(0.0, False), (0.0, True), (0.5, False)}
    assert set(Scope().only(masks=True, **factors).modes) == {(0.0, False), (0.0, True), (0.5, False), (0.5, True)}
    assert Scope().only(masks=True, dropout=0.5, training=True).modes == ((0.5, True),)
    with pytest.raises(UsageError, match="those of this subject are unknown"):
        Scope().only(masks=True).only(masks=False, dropout=0.5, training=True)


def test_masks_are_no_factor() -> None:
    assert "masks" not in Scope().only(masks=True).values()
    assert "masks" not in Coverage().met(Scope())


def test_only_of_torch_s_own_module_are_masks_in_the_scope() -> None:
    import torch

    class Mine(torch.nn.RNN):
        pass

    assert scope_of(TorchSubject()).masks
    assert not scope_of(as_subject(Mine)).masks


@pytest.mark.parametrize(
    "config",
    [
        RNNConfig(2, 3, 2, T=4, N=3, lengths=(1, 4, 2), dropout=0.5, training=True),
        RNNConfig(2, 3, batched=False, loss="both", wrt="weights"),
        RNNConfig(2, 3, strides="expanded", autocast="float16", grad_mode="enable_grad", preparation="assign"),
    ],
)
def test_a_scope_around_a_config_has_its_way_of_calling_and_any_sizes(config: RNNConfig) -> None:
    scope = Scope.around(config)

    assert scope.T == Scope().T
    assert scope.masks is config.drops
    own = {name: (value,) for name, value in factors_of(config).items() if name not in SIZE_FACTORS}
    assert {name: getattr(scope, name) for name in own} == own


def test_who_pins_n_or_lengths_is_not_given_calls_without_a_batch_axis() -> None:
    offered = Scope().only(batched=[True, False], lengths=[None, "any"])

    assert offered.only(N=5).batched == (True,)
    assert offered.only(lengths="any").batched == (True,)
    assert offered.only(N=[1, 5]).batched == (True, False)
    assert offered.only(N=5, batched=False).batched == (False,)


@pytest.mark.parametrize(
    ("pins", "lost"),
    [
        ({"batched": False, "N": 5}, ("N", 5)),
        ({"autocast": "bfloat16", "dtype": "float64"}, ("autocast", "bfloat16")),
        ({"enforce_sorted": True, "lengths": None}, ("enforce_sorted", True)),
        ({"wrt": "inputs", "loss": None}, ("wrt", "inputs")),
        ({"lengths": "any", "N": 0}, ("lengths", "any")),
        ({"lengths": "any", "T": 1}, ("lengths", "any")),
        ({"after": "used", "preparation": "new"}, ("after", "used")),
        ({"autocast": "bfloat16", "dtype": ["float32", "float64"]}, ("dtype", "float64")),
        ({"enforce_sorted": True}, None),
        ({"wrt": "inputs"}, None),
        ({"lengths": "any"}, None),
        ({"autocast": "bfloat16"}, None),
        ({"batched": False, "T": 5}, None),
    ],
)
def test_pins_that_exclude_each_other_are_known(pins: dict[str, Any], lost: tuple[str, Any] | None) -> None:
    assert lost_pin(ALL.only(**pins), pins) == lost


def test_a_pinned_scope_stays_what_it_is_when_a_device_is_chosen() -> None:
    scope = ALL.only(batched=False, T=5)

    assert scope.only(device="cpu").batched == (False,)


def test_whether_masks_can_be_had_is_true_or_false() -> None:
    with pytest.raises(UsageError, match="masks="):
        Scope().only(masks=[False])
