"""Tests of thresholds of products of sizes; here the config alone decides."""

from collections.abc import Callable

import pytest

from harness import RNNConfig, Scope, scope_of
from harness.diagnosis.products import Product, product_of
from harness.subjects.torch_module import TorchSubject
from tests.diagnosis.test_factors import factors

WHOLE = scope_of(TorchSubject())
ONE = RNNConfig(1, 1)


def found(config: RNNConfig, fails: Callable[[RNNConfig], bool], scope: Scope = WHOLE) -> str | None:
    product = product_of(config, max(("N", "T", "hidden_size"), key=lambda name: getattr(config, name)), scope, fails)
    return None if product is None else product.pattern


@pytest.mark.parametrize(
    ("config", "fails", "words"),
    [
        (ONE.replace(N=65536), lambda c: c.N * c.T > 65535, "N*T above 65535"),
        (ONE.replace(N=65537), lambda c: c.N * c.T > 65536, "N*T above 65536"),
        (ONE.replace(N=65536), lambda c: c.N * c.hidden_size > 65535, "N*hidden_size above 65535"),
        (ONE.replace(N=65536), lambda c: c.N * c.input_size > 65535, "N*input_size above 65535"),
        (ONE.replace(N=65536), lambda c: c.states > 65535, "num_layers*D*N*T*hidden_size above 65535"),
        (RNNConfig(1, 128, T=512), lambda c: c.T * c.hidden_size > 65535, "T*hidden_size above 65535"),
        (RNNConfig(1, 128, T=509), lambda c: c.T * c.hidden_size > 65027, "T*hidden_size from 65030 on"),
        (ONE.replace(N=41), lambda c: c.N * c.T > 40, "N*T above 40"),
        (ONE.replace(N=65536), lambda c: c.N > 65535, None),
        (ONE.replace(T=300), lambda c: c.T >= 300, None),
        (ONE.replace(N=3), lambda c: c.N * c.T > 2, None),  # too small to be told from sizes
    ],
)
def test_a_product_is_told_from_one_size(
    config: RNNConfig, fails: Callable[[RNNConfig], bool], words: str | None
) -> None:
    assert fails(config)
    assert found(config, fails) == words


def test_a_size_that_only_fails_beside_another_is_in_no_product() -> None:
    both = RNNConfig(1, 2, N=64)

    assert found(both, lambda c: c.N >= 64 and c.hidden_size >= 2) is None
    assert found(both, lambda c: c.N >= 64 or (c.N >= 16 and c.hidden_size >= 4)) is None


def test_what_a_subject_refuses_or_lacks_decides_nothing() -> None:
    def fails(config: RNNConfig) -> bool | None:
        return None if config.bidirectional else config.states > 65535

    assert product_of(ONE.replace(N=65536), "N", WHOLE, fails) == Product(
        ("num_layers", "N", "T", "hidden_size"), 65535, 65536
    )
    only = WHOLE.only(num_layers=1, bidirectional=False)
    assert found(ONE.replace(N=65536), lambda c: c.states > 65535, only) == "N*T*hidden_size above 65535"


def test_a_threshold_between_products_that_were_tried_is_not_told_more_exactly_than_it_is_known() -> None:
    three = RNNConfig(1, 16, T=16, N=256)

    assert found(three, lambda c: c.states > 65500, WHOLE.only(num_layers=1, bidirectional=False)) == (
        "N*T*hidden_size from 65504 on"
    )


def test_factors_name_the_product_in_place_of_its_sizes_and_recognise_it_elsewhere() -> None:
    seen = factors(ONE.replace(N=65536), lambda config: config.N * config.T > 65535)

    assert [product.pattern for product in seen.products] == ["N*T above 65535"]
    assert not {"N", "T"} & set(seen.sizes)
    assert seen.passing == ("N", 65535)
    assert seen.covers(ONE.replace(N=257, T=257))
    assert not seen.covers(ONE.replace(N=65535))
    assert factors(ONE.replace(N=65536), lambda config: config.N > 65535).products == ()
