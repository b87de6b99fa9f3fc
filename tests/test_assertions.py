"""Tests of assert_agrees, and of the public names."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import harness
from harness import (
    Case,
    Disagreement,
    RNNConfig,
    Scope,
    Stratum,
    Unsupported,
    assert_agrees,
    assert_agrees_on,
    cases,
    draw,
    strata,
)
from harness.assertions import _relations_of
from tests import implementations

CASE = draw(RNNConfig(2, 3, T=2), "normal", 0)


@pytest.mark.kernels
@settings(max_examples=20)
@given(case=cases(bidirectional=False, dtypes=["float32"]))
def test_torch_agrees_under_its_name(case: Case) -> None:
    assert_agrees("torch", case)


def test_a_disagreement_carries_the_case_and_words_it() -> None:
    with pytest.raises(Disagreement) as caught:
        assert_agrees(implementations.without_b_hh, CASE)

    text = str(caught.value)
    assert caught.value.case is CASE
    assert "without_b_hh disagrees with nn.RNN" in text
    assert "should be" in text
    assert "±" in text
    assert repr(CASE) in text


def test_a_callable_that_has_no_hash_is_taken_too() -> None:
    @dataclass
    class Mine:
        gain: float = 1.0

        def __call__(self, x: Any, h0: Any, weights: Any, config: Any) -> Any:
            return implementations.vectorised(x, h0, weights, config)

    assert_agrees(Mine(), CASE)


@pytest.mark.kernels
@pytest.mark.parametrize("stratum", strata(Scope().only(num_layers=1)), ids=str)
def test_torch_agrees_on_a_part_of_the_space(stratum: Stratum) -> None:
    assert_agrees_on("torch", stratum, cases=20)


def test_a_disagreement_on_a_scope_carries_the_smallest_case() -> None:
    with pytest.raises(Disagreement) as caught:
        assert_agrees_on(implementations.without_b_hh, Scope().only(hidden_size=[3, 5]), cases=40, seed=3)

    assert caught.value.case.config == RNNConfig(1, 3)
    assert caught.value.case.weights["bias_hh_l0"].tolist().count(0) == 2


def test_a_scope_that_is_refused_is_no_agreement() -> None:
    with pytest.raises(Unsupported, match=r"refuses supports nothing in this scope: batch first only"):
        assert_agrees_on(refuses, Scope(), cases=10)


def refuses(x: Any) -> Any:
    raise NotImplementedError("batch first only")


def test_a_refusal_outside_of_hypothesis_is_an_error() -> None:
    with pytest.raises(Unsupported, match=r"refuses does not support .*: batch first only"):
        assert_agrees(refuses, CASE)


def test_a_refusal_inside_of_hypothesis_rejects_the_example() -> None:
    compared = []

    @settings(max_examples=10, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases(batch_first=[True, False]))
    def mine(case: Case) -> None:
        assert_agrees(refuses if case.config.batch_first else implementations.vectorised, case)
        compared.append(case)

    mine()

    assert compared
    assert not any(case.config.batch_first for case in compared)


@pytest.mark.parametrize("name", harness.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(harness, name).__doc__


def test_the_public_names_are_listed_and_others_refused() -> None:
    assert {"assert_agrees", "__version__"} <= set(dir(harness))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = harness.nope


def test_what_a_function_does_is_asked_once_though_it_is_made_anew_for_every_example() -> None:
    asked: list[RNNConfig] = []

    def once() -> int:
        def anew(x: Any, h0: Any, weights: Any, config: Any) -> Any:
            return seen(x, h0, weights, config)

        asked.clear()
        assert_agrees(anew, draw(RNNConfig(2, 2)))
        return len(asked)

    def seen(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        asked.append(config)
        return implementations.vectorised(x, h0, weights, config)

    first, again = once(), once()

    assert again < 10 < first


def test_functions_of_the_same_code_that_hold_other_things_are_told_apart() -> None:
    def made(layers: int) -> Any:
        def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
            if config.num_layers > layers:
                raise NotImplementedError("fewer layers")
            return implementations.vectorised(x, h0, weights, config)

        return rnn

    scopes = [_relations_of(made(layers)) for layers in (1, 2)]

    assert [max(scope.num_layers) for scope in scopes if scope] == [1, 2]


def test_no_relation_runs_a_function_on_what_it_does_not_do() -> None:
    def rnn(x: Any, h0: Any, weights: Any) -> Any:
        h, states = h0[0], []
        for frame in x:
            a = frame @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
            h = np.tanh(a + h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"])
            states.append(h)
        return np.stack(states), h[None]

    for seed in range(40):  # the seed chooses one relation each
        assert_agrees(rnn, draw(RNNConfig(3, 4, T=5, N=2, hx=True), "normal", seed))
