"""Tests of an identified layer: without a difference it is nn.RNN, and its lines do what it computes."""

from itertools import count, product, repeat
from random import Random
from typing import Any

import numpy as np
import pytest

from benchmarks import composed_gates
from benchmarks.composed import STACKS, drawn, drawn_network, stacked
from harness import RNNConfig, draw
from harness.diagnosis.identify import gates, layer
from harness.diagnosis.identify.cause import error_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.model import RIGHT_NETWORK, LayerModel, Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import rounding_of
from harness.oracle.reference import Reference

GENERIC = RNNConfig(4, 4, T=4, N=3, dtype="float64", hx=True, loss="both")
CONFIGS = [
    GENERIC,
    GENERIC.replace(num_layers=2, bidirectional=True),
    GENERIC.replace(batch_first=True, nonlinearity="relu", bias=False),
    GENERIC.replace(output_size=2, loss="output", T=1),
    GENERIC.replace(lengths=(2, 4, 1), bidirectional=True),
]


@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_without_a_difference_it_computes_what_the_reference_does(config: RNNConfig, derived: bool) -> None:
    case = draw(config, "default", 1).plain()

    right = Reference().run(case)
    made = run(Network(derived=derived), case, rounding_of("float64"))

    assert set(made) == set(case.config.returned)
    for name, ball in made.items():
        off = np.abs(values_of(ball) - right[name])
        assert (off <= getattr(ball, "error", 0.0) + 1e-300).all(), name
        assert values_of(ball) == pytest.approx(right[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_lines_of_a_stack_do_what_it_computes(seed: int) -> None:
    network, _, stack = next(
        one for one in map(drawn_network, map("stack/{}/{}".format, repeat(seed), count())) if one[2]
    )
    case = draw(GENERIC.replace(T=5, N=2, loss="both", **STACKS[stack]), "default", seed)
    weights = {name: np.asarray(w) for name, w in case.weights.items()}

    output, h_n, gradients = stacked(network, case.x, case.hx, weights, case.cotangents)
    made = run(network, case)

    for name, array in {"output": output, "h_n": h_n, **{f"{n}.grad": g for n, g in gradients.items()}}.items():
        assert made[name] == pytest.approx(array, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("seed", range(20))
def test_each_mistake_mends_alone_and_all_of_them_give_nn_rnn(seed: int) -> None:
    network = Network(drawn(Random(f"mend/{seed}"))[0])

    mended = network
    for mistake in mistakes_of(network, "tanh"):
        mended = mistake.without(mended)
        assert mistake not in mistakes_of(mended, "tanh")

    assert not mistakes_of(mended, "tanh")
    assert mended.first.step == LayerModel().step
    assert mended.above is RIGHT_NETWORK.above


@pytest.mark.parametrize("rounding", [None, rounding_of("float64")], ids=["numbers", "bounds"])
@pytest.mark.parametrize(("cell", "loss"), [("RNN", None), ("RNN", "both"), *product(("GRU", "LSTM", "MGU"), [None])])
def test_steps_from_given_states_are_those_made_one_by_one(
    cell: str, loss: str | None, rounding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = 0
    for seed in range(40 if cell == "RNN" else 12):
        if cell == "RNN":
            network, N = Network(model := drawn(Random(f"{seed}"))[0]), 3
            at_once += all(term in LayerModel().step for term in model.step)
        else:
            network, N = Network(gated := composed_gates.drawn(f"{seed}", cell)[0], derived=True), 3 * (seed > 0)
            at_once += gates.steps_are_apart(gated)
        case = draw(RNNConfig(3, 4, T=4, N=N, cell=cell, hx=True, dtype="float64", loss=loss), "normal", seed)
        states = {(0, 0): np.random.default_rng(seed).normal(size=(4, N, 4))}
        made = run(network, case, rounding, states)
        with monkeypatch.context() as patched:
            patched.setattr(layer, "_sums_at_once", lambda *_: None)
            patched.setattr(gates, "steps_are_apart", lambda _: False)
            one_by_one = run(network, case, rounding, states)
        for name, array in one_by_one.items():
            for figures in (values_of, error_of):
                np.testing.assert_allclose(figures(made[name]), figures(array), rtol=1e-9, atol=1e-12, err_msg=name)
    assert at_once >= (10 if cell == "RNN" else 3)
