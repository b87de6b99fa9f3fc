"""Tests of the configs of the factors apart: pairs of preparations, and arguments by position."""

import pytest

from harness.space.config import RNNConfig
from harness.space.factor_table import OPTIONS, PREPARATION_PAIRS, PREPARATIONS, ConfigError
from harness.space.rare_factors import POSITIONAL, TIED_PAIRS, apart
from harness.space.scope import TORCH_SCOPE, Scope, configure, factors_of


def test_every_pair_of_preparations_has_one_config_and_every_option_another_value_by_position() -> None:
    configs = apart(TORCH_SCOPE, 0)

    by_position, rest = configs[: POSITIONAL + 1], configs[POSITIONAL + 1 :]
    tied, pairs = rest[:TIED_PAIRS], rest[TIED_PAIRS:]
    assert sorted((config.after or "", config.preparation) for config in pairs) == sorted(PREPARATION_PAIRS)
    assert all(config.positional and config.after is None for config in by_position)
    assert not any(config.positional for config in pairs)
    assert all(config.tied and config.after is None and not config.positional for config in tied)
    assert {config.loss for config in tied} == {"output", "h_n", "both"}
    assert not any(config.tied for config in (*by_position, *pairs))
    plain = RNNConfig(1, 1)
    assert all(getattr(by_position[0], name) != getattr(plain, name) for name in OPTIONS)
    assert {config.loss is None for config in pairs} == {True, False}


def test_every_config_is_in_its_scope_and_another_seed_gives_others() -> None:
    scope = TORCH_SCOPE.only(
        num_layers=(1, 2), dtype="float64", loss=(None, "h_n"), T=(1, 7), preparation=("new", "used", "pickle")
    )

    configs = apart(scope, 1)

    assert {config.loss for config in configs if config.tied} == {"h_n"}
    assert {(config.after, config.preparation) for config in configs} == {
        (None, "new"),
        ("used", "pickle"),
        ("pickle", "used"),
    }
    for config in configs:
        assert all(scope.allows(name, value) for name, value in factors_of(config).items())
    assert configs != apart(scope, 2)


@pytest.mark.parametrize(
    "scope", [Scope(), TORCH_SCOPE.only(device="meta"), TORCH_SCOPE.only(after=None, positional=False, tied=False)]
)
def test_a_scope_without_them_has_none(scope: Scope) -> None:
    assert apart(scope, 0) == []


def test_what_cannot_come_before_a_preparation_is_refused_and_gives_way_to_a_change() -> None:
    pair = RNNConfig(1, 1, preparation="deepcopy", after="used")

    with pytest.raises(
        ConfigError, match="after='parametrize' with preparation='pickle': expected one of used, deepcopy"
    ):
        RNNConfig(1, 1, preparation="pickle", after="parametrize")
    with pytest.raises(ConfigError, match="after='used' with preparation='new'"):
        RNNConfig(1, 1, after="used")
    assert (
        pair.replace(preparation="new") == pair.replace(after=None, preparation="new") == pair.plain == RNNConfig(1, 1)
    )
    assert pair.replace(preparation="pickle").after == "used"
    assert configure({"after": "used", "preparation": "used"}) == RNNConfig(1, 1, preparation="used")
    assert TORCH_SCOPE.only(after="used").after == ("used",)
    assert len(PREPARATION_PAIRS) == (len(PREPARATIONS) - 1) * (len(PREPARATIONS) - 2) - 3
