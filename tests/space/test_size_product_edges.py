"""Tests of the products of sizes around 2**16 that a search asks for."""

import pytest

from harness import RNNConfig, Scope, scope_of
from harness.space.size_product_edges import EDGE, product_edges
from harness.subjects.torch_module import TorchSubject

WHOLE = scope_of(TorchSubject())


def products(config: RNNConfig) -> dict[str, int]:
    N, T, H = config.N, config.T, config.hidden_size
    return {"N*T": N * T, "N*H": N * H, "T*H": T * H, "L*D*H*T*N": config.states}


@pytest.mark.parametrize("name", ["N*T", "N*H", "T*H", "L*D*H*T*N"])
@pytest.mark.parametrize("scope", [WHOLE, Scope().only(num_layers=1, bidirectional=False)])
def test_each_product_is_met_below_at_and_above_two_to_the_16(name: str, scope: Scope) -> None:
    found = [products(config) for config in product_edges(scope)]
    largest = [one[name] for one in found if all(of < EDGE for other, of in one.items() if other in name)]
    met = {one[name] for one in found if EDGE - 1 <= one[name] <= EDGE + 2} | {*largest}

    assert EDGE in met
    assert any(value > EDGE for value in met)
    if name != "L*D*H*T*N" or scope is WHOLE:
        assert EDGE - 1 in met


def test_layers_and_directions_reach_it_while_no_product_of_two_sizes_does() -> None:
    found = [one for one in product_edges(WHOLE) if one.num_layers * one.num_directions > 1]

    assert found
    assert all(max(one.N * one.T, one.N * one.hidden_size, one.T * one.hidden_size) < EDGE - 1 for one in found)


@pytest.mark.parametrize(
    "scope", [WHOLE.only(N=[1, 2]), WHOLE.only(products=False), WHOLE.only(input_size=7), WHOLE.only(device="meta")]
)
def test_none_is_asked_for_where_sizes_are_pinned_or_a_run_is_dear(scope: Scope) -> None:
    assert product_edges(scope) == []


def test_nothing_outside_the_scope_is_asked_for() -> None:
    for scope in (Scope(), WHOLE.only(dtype="float64", bias=False), WHOLE.only(loss="h_n"), WHOLE.only(num_layers=2)):
        for config in product_edges(scope):
            assert all(scope.allows(name, getattr(config, name)) for name in scope.values() if name != "lengths")
    assert {one.dtype for one in product_edges(WHOLE.only(dtype="float64"))} == {"float64"}


def test_each_device_is_asked() -> None:
    here, there = (len(product_edges(WHOLE.only(device=device))) for device in ("cpu", ["cpu"] * 9 + ["cuda:0"]))

    assert there == 2 * here > 0
