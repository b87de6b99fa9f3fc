"""Tests of where: the first wrong element in the order of computation, its pattern, and what only follows from it."""

from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Scope, as_subject, draw
from harness.checks.agreement import observe
from harness.diagnosis.first_departure import FirstDeparture, first_departure, locate
from harness.diagnosis.observation_cache import ObservationCache
from harness.subjects.torch_module import TorchSubject
from tests import implementations

WIDE = RNNConfig(3, 4, num_layers=2, bidirectional=True, T=5, N=2)


def tampered(tamper: Any) -> Any:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return implementations.vectorised(x, h0, weights, config, tamper)

    return as_subject(rnn)


def off(where: Any) -> Any:
    def tamper(h: Any, at: dict[str, Any]) -> Any:
        h = h.copy()
        h[where(at)] += h.dtype.type(0.01)
        return h

    return tampered(tamper)


def departed(subject: Any, config: RNNConfig = WIDE) -> FirstDeparture:
    found = first_departure(observe(subject, draw(config, "normal", 1)))
    assert found is not None
    return found


def nothing(_at: dict[str, Any]) -> Any:
    return np.s_[:0]


def test_a_single_wrong_state_is_the_origin_and_the_rest_follows() -> None:
    here = {"layer": 0, "direction": 0, "t": 1}
    found = departed(off(lambda at: np.s_[1, 2] if here.items() <= at.items() else np.s_[:0]))

    assert (found.layer, found.place) == (0, {"direction": "forward", "t": 1, "n": 1, "unit": 2})
    assert found.wrong == 1
    assert found.follows > 20
    assert found.pattern == "t: 1 (of 5); n: 1 (of 2); forward only; unit: 2 (of 4)"


def test_in_the_reverse_direction_later_steps_come_first() -> None:
    found = departed(off(lambda at: np.s_[0, 0] if at["direction"] == 1 and at["t"] <= 3 else np.s_[:0]))

    assert found.place == {"direction": "reverse", "t": 3, "n": 0, "unit": 0}
    assert "reverse only" in found.pattern
    assert "t: all but the last" in found.pattern


def test_an_upper_layer_s_mistake_is_not_seen_below() -> None:
    found = departed(off(lambda at: np.s_[:, 3:] if at["layer"] == 1 else np.s_[:0]))

    assert (found.layer, found.place["unit"]) == (1, 3)
    assert found.wrong == 5 * 2 * 2
    assert "unit: 3 (of 4)" in found.pattern


@pytest.mark.parametrize(
    ("where", "pattern"),
    [
        (lambda at: np.s_[:, :] if at["t"] > 0 else np.s_[:0], "t: all but the first"),
        (lambda at: np.s_[:, 2:] if at["t"] >= 0 else np.s_[:0], "unit: from 2 on"),
        (lambda at: np.s_[:, :], ""),
    ],
)
def test_patterns_are_said_where_it_is_not_everywhere(where: Any, pattern: str) -> None:
    assert departed(off(where), RNNConfig(3, 4, T=5, N=2)).pattern == pattern


def test_a_right_subject_departs_nowhere() -> None:
    assert first_departure(observe(off(nothing), draw(WIDE, "normal", 1))) is None
    assert locate(ObservationCache(off(nothing)), draw(WIDE, "normal", 1), Scope()) is None


def test_a_mistake_on_the_way_back_is_located_with_probes() -> None:
    import torch

    class Detached(torch.nn.RNN):
        """A layer whose upper layer passes no gradient to the lower one from its first steps."""

        def forward(self, x: Any, hx: Any = None) -> Any:
            output, h_n = super().forward(x, hx)
            output = torch.cat([output[:2].detach(), output[2:]]) if output.dim() == 3 else output
            return output, h_n

    subject = TorchSubject(Detached, "Detached")
    config = RNNConfig(2, 3, T=4, N=2, loss="output")

    found = first_departure(observe(subject, draw(config, "normal", 1)))

    assert found is not None
    assert found.array == "preactivation.grad"
    assert found.place["t"] == 1  # in reverse order, the last of the steps without a gradient
    assert found.follows == 0
    assert found.pattern == "t: 0, 1 (of 4)"


def test_a_wider_case_is_shown_where_the_minimal_one_says_little() -> None:
    subject = off(lambda at: np.s_[:, -1:] if at["config"].hidden_size > 1 else np.s_[:, :])

    found = locate(ObservationCache(subject), draw(RNNConfig(1, 1), "normal", 0), Scope())

    assert found is not None
    assert found.case.config.hidden_size == 5
    assert found.place["unit"] == 4


def test_a_mistake_that_only_the_very_case_shows_is_located_there() -> None:
    case = draw(RNNConfig(1, 1, T=2), "normal", 5)

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output + np.array_equal(x, case.x), h_n

    found = locate(ObservationCache(as_subject(rnn)), case, Scope())

    assert found is not None
    assert found.case.id == case.id
