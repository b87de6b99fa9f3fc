"""Tests of clues: they say what wrong numbers have in common if no known mistake explains them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Scope, as_subject, draw, scope_of
from harness.checks.agreement import assess, check_agreement, observe
from harness.checks.result import Result, Verdict
from harness.diagnosis.again import ByRegion
from harness.diagnosis.clues import ByClue, Clue, clue_of
from harness.diagnosis.factors import Factors
from harness.diagnosis.observations import Observations
from harness.oracle.arithmetic import Accepted
from harness.search.record import Finding
from tests import implementations
from tests.oracle.by_hand import subject as right

CONFIG = RNNConfig(3, 3, T=3, N=2, hx=True, loss="both")

Change = Callable[[dict[str, Any], RNNConfig], dict[str, Any]]


def of_gradient(name: str, change: Callable[[Any, RNNConfig], Any]) -> Callable[..., Any]:
    """Return a layer that is correct except for one gradient."""
    layer = right()

    def rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        *outputs, gradients = layer(x, h0, weights, config, cotangents)
        changed = {n: change(a, config) if n.startswith(name) else a for n, a in dict(gradients).items()}
        return (*outputs, changed if config.loss else gradients)

    return rnn


def clue(function: Callable[..., Any], config: RNNConfig = CONFIG) -> Clue | None:
    subject = as_subject(function)
    case = draw(config, "normal")
    finding = Finding("mine", case, check_agreement(subject, case, with_probes=False))
    assert finding.result.verdict is Verdict.DISAGREES
    return clue_of(Observations(subject), finding, scope_of(subject).only(num_layers=1))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda g, c: g * 0, "is 0"),
        (lambda g, c: g * 2, "is 2 times the right one"),
        (lambda g, c: -g, "is the right one with the other sign"),
        (lambda g, c: g / g.dtype.type(c.N), "is 1/N times the right one"),
        (lambda g, c: np.clip(g, -0.25, 0.25), "is 0.25 or -0.25, and the right one is larger"),
        (lambda g, c: g.T.copy(), "is the right one with row and column exchanged"),
        (lambda g, c: g[::-1].copy(), "is the right one counted from the other end of row"),
        (lambda g, c: np.roll(g, 1, 1), "is the right one of the place before it along column"),
        (lambda g, c: np.broadcast_to(g.sum(0), g.shape).copy(), "is the same all along row"),
    ],
)
def test_what_all_wrong_numbers_have_in_common_is_said(change: Any, text: str) -> None:
    found = clue(of_gradient("weight_hh", change))

    assert found is not None
    assert (found.role, found.text) == ("weight_hh", text)


@pytest.mark.parametrize("change", [lambda g, c: g * np.float32(1.37), lambda g, c: g + np.float32(0.5)])
def test_numbers_that_have_nothing_in_common_have_no_clue(change: Any) -> None:
    assert clue(of_gradient("weight_hh", change)) is None


def test_what_is_true_of_some_cases_only_is_no_clue() -> None:
    halves = of_gradient("weight_hh", lambda g, c: g / 2 if c.N > 2 else g * 2)

    assert clue(halves) is None


def test_further_failures_are_known_by_their_clue_and_others_are_not() -> None:
    def seen(name: str, change: Any) -> bool:
        subject, case = as_subject(of_gradient(name, change)), draw(CONFIG.replace(T=5, N=4), "normal", 7)
        observation = observe(subject, case, with_probes=False)
        nowhere = ByRegion("3f9c2a11", Result(Verdict.AGREES), Factors({"T": 1}))
        return ByClue("3f9c2a11", doubled, nowhere).excuses(observation, assess(observation))

    found = clue(of_gradient("weight_hh", lambda g, c: g * 2))
    assert found is not None
    doubled: Clue = found

    assert seen("weight_hh", lambda g, c: g * 2)
    assert not seen("weight_hh", lambda g, c: g * 3)
    assert not seen("weight_hh", lambda g, c: g * np.float32(np.nan))
    assert not seen("weight_ih", lambda g, c: g * 2)
    assert not seen("weight", lambda g, c: g * 2)


def test_a_clue_holds_of_nothing_where_nothing_is_seen_to_be_wrong() -> None:
    doubled, case = of_gradient("weight_hh", lambda g, c: g * 2), draw(CONFIG, "normal")
    found = clue(doubled)
    wrong = assess(observe(as_subject(doubled), case, with_probes=False))

    assert found is not None
    assert found.holds(observe(as_subject(right()), case, with_probes=False), wrong) is None


def test_where_numbers_are_wrong_by_too_little_to_tell_the_region_decides() -> None:
    doubled, case = of_gradient("weight_hh", lambda g, c: g * 2), draw(CONFIG, "normal")
    found, nearly = clue(doubled), of_gradient("weight_hh", lambda g, c: g * np.float32(1.0001))
    observation = observe(as_subject(nearly), case, Accepted(rtol=1e-4), with_probes=False)
    result = assess(observe(as_subject(doubled), case, with_probes=False))

    assert found is not None
    assert found.holds(observation, result) is None
    for needs, known in (({}, True), ({"T": 99}, False)):
        region = ByRegion("3f9c2a11", result, Factors(needs))
        assert ByClue("3f9c2a11", found, region).excuses(observation, result) == known


def test_a_case_that_has_ties_is_looked_at_with_ties() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        *outputs, gradients = right()(x, h0, weights, config, cotangents)
        if config.loss and config.T == config.N:
            gradients = {**gradients, "x.grad": gradients["x.grad"].swapaxes(0, 1).copy()}
        return (*outputs, gradients)

    found = clue(rnn, RNNConfig(1, 1, T=2, N=2, loss="output"))

    assert found is not None
    assert (found.role, found.text) == ("x", "is the right one with t and n exchanged")


def test_an_error_has_no_clue() -> None:
    broken = Finding("mine", draw(CONFIG), Result(Verdict.BROKEN, message="E: no"))

    assert clue_of(Observations(as_subject(right())), broken, Scope()) is None


def test_a_copy_is_looked_at_beside_the_subject_s_own_states_however_far_errors_may_have_grown() -> None:
    def halved(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output, h_n / 2

    observation = observe(as_subject(halved), draw(RNNConfig(2, 64, T=20), "normal"), with_probes=False)

    assert Clue("h_n", "is 1/2 times the right one").holds(observation, assess(observation))
