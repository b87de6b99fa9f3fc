"""Tests of steps with gates, of which one line is wrong in a way that no single choice has."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import composed_gates
from harness import RNNConfig, as_subject, draw
from harness.diagnosis.identify.cause import identified_of
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.observation_cache import ObservationCache
from harness.subjects.conventions import Conventions
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import scope_of
from tests.diagnosis.identify.by_hand import first_sentence
from tests.diagnosis.identify.gates_by_hand import gru_of, lstm_of, sigmoid
from tests.long import few

NUMBERS = np.random.default_rng(1)
X = NUMBERS.normal(size=(9, 2, 2))
STATES = {cell: [NUMBERS.normal(size=(1, 2, 3)) for _ in range(k)] for cell, k in (("GRU", 1), ("LSTM", 2))}
WEIGHTS = {
    cell: {
        f"{role}_l0": NUMBERS.normal(size=(k * 3, *of))
        for role, of in (("weight_ih", (2,)), ("weight_hh", (3,)), ("bias_ih", ()), ("bias_hh", ()))
    }
    for cell, k in (("GRU", 3), ("LSTM", 4))
}


def executed(model: Any) -> Any:
    """Return the output that the printed lines of a model compute."""
    blocks = {name.removesuffix("_l0"): np.split(v, len(model.gates)) for name, v in WEIGHTS[model.cell].items()}
    return composed_gates.executed(model, X, [state[0] for state in STATES[model.cell]], blocks)[0]


@pytest.mark.parametrize(
    ("function", "sentences"),
    [
        (  # its terms are as near to torch's with its gates renamed
            gru_of(functions={"r": lambda *_: 1, "z": lambda _, s: 1 - sigmoid(s)}),
            ["does not apply r: it multiplies nothing in n", "exchanges z and 1 - z"],
        ),
        (
            gru_of(
                r=lambda _, U, b, h: h @ U[1].T + b[0],
                z=lambda _, U, b, h, _r: h @ U[0].T + b[1],
                n=lambda _, U, b, h, r, _z: b[2] + r * (h @ U[2].T),
            ),
            [
                "reads the rows of weight_hh in the order z, r, n, that of ONNX, Keras and oneDNN",
                "adds b_hn outside of r",
            ],
        ),
        (
            gru_of(z=lambda _, U, b, h, r: (r * h) @ U[1].T + b[1], final=0),
            [
                "takes (r * h) @ W_hz.T in the sum of z, not h @ W_hz.T",
                "returns the output at step 0 as h_n, not the state after the last step",
            ],
        ),
        *few(
            [
                # What nn.RNN's step may read in the place of its own, each gate may, too.
                (
                    gru_of(r=lambda _, U, b, h: h @ U[0][::-1].T + b[0]),
                    ["takes h @ W_hr[::-1].T in the sum of r, not h @ W_hr.T"],
                ),
                (
                    gru_of(z=lambda _, U, b, h, _r: np.abs(h @ U[1].T + b[1])),
                    ["takes np.abs(h @ W_hz.T + b_hz) in the sum of z, not h @ W_hz.T + b_hz"],
                ),
                (
                    gru_of(n=lambda _, U, b, h, r, _z: r * (h.mean(0) @ U[2].T + b[2])),
                    ["takes r * (h.mean(0) @ W_hn.T) in the sum of n, not r * (h @ W_hn.T)"],
                ),
                (
                    lstm_of(x_of_f=lambda x_t: np.roll(x_t, 1, 0)),
                    ["takes np.roll(x, 1, 0) @ W_if.T in the sum of f, not x @ W_if.T"],
                ),
                (
                    gru_of(functions={"z": lambda t, s: np.clip(0.2 * s + 0.5, 0, 1) if t % 2 else sigmoid(s)}),
                    [
                        (
                            "applies hard sigmoid, np.clip(0.2 * s + 0.5, 0, 1), to the sum of z, not sigmoid, "
                            "at every 2nd step only"
                        )
                    ],
                ),
                (gru_of(read=lambda t: t // 2 * 2), ["reads x of step t // 2 * 2, not of step t"]),
                (lstm_of(chunk=3), ["starts h anew at hx and c anew at cx, at every 3rd step after the first only"]),
                (
                    gru_of(z=lambda t, U, b, h, _r: h @ U[1].T + b[1] * (t > 0)),
                    ["leaves b_hz out of the sum of z, at the first step only"],
                ),
                (
                    gru_of(n=lambda _, U, b, h, r, z: r * ((z * h) @ U[2].T + b[2])),
                    ["takes r * ((z * h) @ W_hn.T) in the sum of n, not r * (h @ W_hn.T)"],
                ),
                (
                    gru_of(functions={"r": lambda _, s: sigmoid(sigmoid(s))}),
                    [
                        (
                            "applies sigmoid of sigmoid, 1 / (1 + np.exp(-1 / (1 + np.exp(-s)))), to the sum of r, "
                            "not sigmoid"
                        )
                    ],
                ),
                (lstm_of(made=lambda o, c: np.tanh(o * c)), ["makes h of tanh(o * c), not of o * tanh(c)"]),
            ],
            8,
        ),
    ],
    ids=first_sentence,
)
def test_what_a_step_computes_is_named_and_nothing_else(function: Any, sentences: list[str]) -> None:
    cell = function.__name__.upper()
    subject = FunctionSubject(function, "mine", conventions=Conventions(cell=cell))
    fixed: dict[str, Any] = {"num_layers": 1, "bidirectional": False, "batch_first": False, "bias": True}
    scope = scope_of(subject).only(loss=None, dropout=0, lengths=None, **fixed)
    config = RNNConfig(2, 3, T=len(X), N=2, cell=cell)

    found = identified_of(ObservationCache(subject), scope, draw(config.replace(hidden_size=2, T=2), "normal", 1))

    assert found is not None
    mended, mistakes = found.network, mistakes_of(found.network, "tanh")
    assert [one.sentence for one in mistakes] == sentences
    for one in mistakes:
        mended = one.without(mended)
    assert not mistakes_of(mended, "tanh")
    assert np.allclose(executed(found.network.first), function(X, *STATES[cell], WEIGHTS[cell], config)[0])


class OutputAlone(torch.nn.LSTM):
    """An LSTM whose f multiplies what i lets in, too, and which returns its output alone: o shows c at its end."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)

    def forward(self, x: Any, states: Any = None) -> Any:
        zeros = x.new_zeros(x.shape[1], self.hidden_size)
        h, c = (zeros, zeros) if states is None else (states[0][0], states[1][0])
        W, U, b, d = self.parameters()
        output = []
        for x_t in x:
            i, f, g, o = (x_t @ W.T + b + h @ U.T + d).chunk(4, -1)
            c = f.sigmoid() * c + f.sigmoid() * i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            output.append(h)
        return torch.stack(output)


def test_c_is_seen_through_h_where_nothing_else_is_returned() -> None:
    subject = as_subject(OutputAlone, "mine")
    scope = scope_of(subject).only(loss=None)

    found = identified_of(ObservationCache(subject), scope, draw(RNNConfig(2, 2, T=2, N=2, cell="LSTM"), "normal", 1))

    assert found is not None
    [mistake] = mistakes_of(found.network, "tanh")
    assert mistake.sentence == "makes c of f * c + i * f * g, not of f * c + i * g"
