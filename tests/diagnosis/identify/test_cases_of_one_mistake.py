"""Tests of the search for a case on which one mistake shows, and others do not."""

from dataclasses import replace

import pytest

from harness import LSTMConfig, RNNConfig, Scope
from harness.diagnosis.identify.cases_of_one_mistake import shown_alone
from harness.diagnosis.identify.cause import shows
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.gates import step_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.model import ONE, LayerModel, Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import Response

ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "x", "hx", "cx")
LATE = LayerModel(slope=(("1", 1.0), ("np.tanh(h)**2", -1.0)), gradient_sums={"weight_hh": (("da[t].T @ h[t]", ONE),)})
START = replace(step_of("LSTM"), starts=("cx", "hx"), memory=((("c", "f"), 1.0), (("g",), 1.0)))


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (Network(LATE), RNNConfig(1, 1, T=3, loss="output")),
        (Network(START, derived=True), LSTMConfig(1, 1, T=3, hx=True)),
    ],
)
def test_each_of_two_mistakes_shows_alone(network: Network, config: RNNConfig) -> None:
    identified = Identification(network, "tanh", 3, roles=ROLES)
    one, other = mistakes_of(network, "tanh")
    scope = Scope.around(config.replace(hx=True)).only(hx=(True, False), T=(1, 2, 3), loss=(None, "output", "both"))

    for mistake, hidden in ((one, other), (other, one)):
        case = next(shown_alone(identified, mistake, [hidden], config, scope))
        answer = Response(case.plain(), {name: values_of(v) for name, v in run(network, case.plain()).items()})
        assert shows(identified, mistake, answer)
        assert not shows(identified, hidden, answer)


def test_there_is_none_for_a_mistake_that_another_one_always_shows_with() -> None:
    network = Network(LATE)
    identified, scope = Identification(network, "tanh", 3, roles=ROLES), Scope.around(RNNConfig(1, 1, loss="output"))
    one, other = mistakes_of(network, "tanh")

    assert not list(shown_alone(identified, other, [one], RNNConfig(1, 1, loss="output"), scope.only(hx=False)))
