"""Tests of steps with gates, and of their way back, of which one line is wrong in a way that no single choice has."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import composed_gates
from harness import RNNConfig, as_subject, draw
from harness.diagnosis.identify.activations import ACTIVATIONS, TANH, Activation
from harness.diagnosis.identify.cause import identified_of
from harness.diagnosis.identify.gates import SIGMOID, step_of
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.observation_cache import ObservationCache
from harness.subjects.conventions import Conventions
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import scope_of
from tests.long import few


def sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


def gru(step: Any, read: Any = lambda t: t, final: Any = -1) -> Any:
    """Return a GRU of the form of ``FunctionSubject``, whose h_n is one of its outputs.

    A step makes h of t, the blocks of x @ W_ih.T + b_ih and of W_hh and b_hh, and h.
    """

    def layer(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        h, output = h0[0], []
        U, b = (np.split(weights[f"{role}_hh_l0"], 3) for role in ("weight", "bias"))
        for t in range(len(x)):
            i = np.split(x[read(t)] @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
            h = step(t, i, U, b, h)
            output.append(h)
        return np.stack(output), output[final][None].copy()

    return layer


def mixed(i: Any, U: Any, b: Any, h: Any, **others: Any) -> Any:
    """Compute a step of a GRU, of which some quantities are others: functions of the step's sums."""
    sums = [i[k] + h @ U[k].T + b[k] for k in range(2)]
    gates = dict(zip("rz", map(sigmoid, sums), strict=True)) | {name: f(*sums) for name, f in others.items()}
    r, z = gates["r"], gates["z"]
    return (1 - z) * np.tanh(i[2] + r * (h @ U[2].T + b[2])) + z * h


def gated_by_z(_t: int, i: Any, U: Any, b: Any, h: Any) -> Any:
    """Compute a step whose candidate reads z * h."""
    r, z = (sigmoid(i[k] + h @ U[k].T + b[k]) for k in range(2))
    return (1 - z) * np.tanh(i[2] + r * ((z * h) @ U[2].T + b[2])) + z * h


def twice(_t: int, i: Any, U: Any, b: Any, h: Any) -> Any:
    """Compute a step whose reset gate goes through the sigmoid twice."""
    return mixed(i, U, b, h, r=lambda r, _: sigmoid(sigmoid(r)))


def late(x: Any, h0: Any, c0: Any, weights: Any, config: Any) -> Any:
    """Compute an LSTM that applies tanh to o * c."""
    h, c, output = h0[0], c0[0], []
    for x_t in x:
        s = x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"] + h @ weights["weight_hh_l0"].T
        i, f, g, o = np.split(s + weights["bias_hh_l0"], 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = np.tanh(sigmoid(o) * c)
        output.append(h)
    return np.stack(output), (h[None], c[None])


def in_chunks(x: Any, h0: Any, c0: Any, weights: Any, config: Any) -> Any:
    """Compute an LSTM that starts anew in each chunk of three steps."""
    h, c, output = h0[0], c0[0], []
    for t, x_t in enumerate(x):
        h, c = (h, c) if t % 3 else (h0[0], c0[0])
        s = x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"] + h @ weights["weight_hh_l0"].T
        i, f, g, o = np.split(s + weights["bias_hh_l0"], 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        output.append(h)
    return np.stack(output), (h[None], c[None])


def summed(k: int, part: Any) -> Any:
    """Return a step with ``part(U, b, h)`` in the place of h @ U.T + b in the sum of its k-th gate."""

    def step(_t: int, i: Any, U: Any, b: Any, h: Any) -> Any:
        sums = [part(U[j], b[j], h) if j == k else h @ U[j].T + b[j] for j in range(3)]
        r, z = sigmoid(i[0] + sums[0]), sigmoid(i[1] + sums[1])
        return (1 - z) * np.tanh(i[2] + r * sums[2]) + z * h

    return step


def lstm_of_rolled_x(x: Any, h0: Any, c0: Any, weights: Any, config: Any) -> Any:
    """Compute an LSTM whose forget gate reads x of the sequence before."""
    W, U, b, d = (weights[f"{role}_l0"] for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h, c, output, H = h0[0], c0[0], [], h0.shape[2]
    for x_t in x:
        read = np.concatenate(
            [np.roll(x_t, 1, 0) @ v.T if k == 1 else x_t @ v.T for k, v in enumerate(np.split(W, 4))], 1
        )
        s = read + b + h @ U.T + d
        c = sigmoid(s[:, H : 2 * H]) * c + sigmoid(s[:, :H]) * np.tanh(s[:, 2 * H : 3 * H])
        h = sigmoid(s[:, 3 * H :]) * np.tanh(c)
        output.append(h)
    return np.stack(output), h[None], c[None]


def later(t: int, i: Any, U: Any, b: Any, h: Any) -> Any:
    """Compute a step that adds b_hz at all steps but the first."""
    return mixed(i, U, b, h, z=lambda _, z: sigmoid(z - (0 if t else b[1])))


def in_turns(t: int, i: Any, U: Any, b: Any, h: Any) -> Any:
    """Compute a step whose z is a hard sigmoid at every second step."""
    return mixed(i, U, b, h, z=lambda _, z: np.clip(0.2 * z + 0.5, 0, 1) if t % 2 else sigmoid(z))


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
    ("function", "cell", "sentence"),
    few(
        [
            # What nn.RNN's step may read in the place of its own, each gate may, too.
            (
                gru(summed(0, lambda U, b, h: h @ U[::-1].T + b)),
                "GRU",
                "takes h @ W_hr[::-1].T in the sum of r, not h @ W_hr.T",
            ),
            (
                gru(summed(1, lambda U, b, h: np.abs(h @ U.T + b))),
                "GRU",
                "takes np.abs(h @ W_hz.T + b_hz) in the sum of z, not h @ W_hz.T + b_hz",
            ),
            (
                gru(summed(2, lambda U, b, h: h.mean(0) @ U.T + b)),
                "GRU",
                "takes r * (h.mean(0) @ W_hn.T) in the sum of n, not r * (h @ W_hn.T)",
            ),
            (lstm_of_rolled_x, "LSTM", "takes np.roll(x, 1, 0) @ W_if.T in the sum of f, not x @ W_if.T"),
            (
                gru(in_turns),
                "GRU",
                (
                    "applies hard sigmoid, np.clip(0.2 * s + 0.5, 0, 1), to the sum of z, not sigmoid, "
                    "at every 2nd step only"
                ),
            ),
            (
                gru(lambda _t, *step: mixed(*step), lambda t: t // 2 * 2),
                "GRU",
                "reads x of step t // 2 * 2, not of step t",
            ),
            (in_chunks, "LSTM", "starts h anew at hx and c anew at cx, at every 3rd step after the first only"),
            (gru(later), "GRU", "leaves b_hz out of the sum of z, at the first step only"),
            (gru(gated_by_z), "GRU", "takes r * ((z * h) @ W_hn.T) in the sum of n, not r * (h @ W_hn.T)"),
            (
                gru(twice),
                "GRU",
                "applies sigmoid of sigmoid, 1 / (1 + np.exp(-1 / (1 + np.exp(-s)))), to the sum of r, not sigmoid",
            ),
            (late, "LSTM", "makes h of tanh(o * c), not of o * tanh(c)"),
        ],
        8,
    ),
)
def test_a_step_is_named(function: Any, cell: str, sentence: str) -> None:
    subject = FunctionSubject(function, "mine", conventions=Conventions(cell=cell))
    fixed: dict[str, Any] = {
        "num_layers": 1,
        "bidirectional": False,
        "batch_first": False,
        "bias": True,
        "lengths": None,
    }
    scope = scope_of(subject).only(loss=None, dropout=0, **fixed)

    found = identified_of(ObservationCache(subject), scope, draw(RNNConfig(2, 2, T=2, N=2, cell=cell), "normal", 1))

    assert found is not None
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [sentence]
    assert not mistakes_of(mistakes_of(found.network, "tanh")[0].without(found.network), "tanh")
    assert np.allclose(executed(found.network.first), function(X, *STATES[cell], WEIGHTS[cell], None)[0])


def in_keras_order(_t: int, i: Any, U: Any, b: Any, h: Any) -> Any:
    """Compute a step that takes the rows of W_hh for z, r, n, and adds b_hn outside of r."""
    r, z = sigmoid(i[0] + h @ U[1].T + b[0]), sigmoid(i[1] + h @ U[0].T + b[1])
    return (1 - z) * np.tanh(i[2] + b[2] + r * (h @ U[2].T)) + z * h


def reset_in_z(_t: int, i: Any, U: Any, b: Any, h: Any) -> Any:
    """Compute a step whose z reads r * h."""
    r = sigmoid(i[0] + h @ U[0].T + b[0])
    z = sigmoid(i[1] + (r * h) @ U[1].T + b[1])
    return (1 - z) * np.tanh(i[2] + r * (h @ U[2].T + b[2])) + z * h


def without_r(_t: int, i: Any, U: Any, b: Any, h: Any) -> Any:
    """Compute a step that forgets r and exchanges z and 1 - z: as near to torch's by terms with its gates renamed."""
    return mixed(i, U, b, h, r=lambda *_: 1, z=lambda _, z: 1 - sigmoid(z))


@pytest.mark.parametrize(
    ("step", "final", "sentences"),
    [
        (without_r, -1, ["does not apply r: it multiplies nothing in n", "exchanges z and 1 - z"]),
        (
            in_keras_order,
            -1,
            [
                "reads the rows of weight_hh in the order z, r, n, that of ONNX, Keras and oneDNN",
                "adds b_hn outside of r",
            ],
        ),
        (
            reset_in_z,
            0,
            [
                "takes (r * h) @ W_hz.T in the sum of z, not h @ W_hz.T",
                "returns the output at step 0 as h_n, not the state after the last step",
            ],
        ),
    ],
    ids=["fewest mistakes", "rows of another gate", "another h_n"],
)
def test_several_mistakes_of_a_gru_are_named_and_no_others(step: Any, final: int, sentences: list[str]) -> None:
    subject = FunctionSubject(gru(step, final=final), "mine", conventions=Conventions(cell="GRU"))
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, batch_first=False, bias=True, loss=None)

    found = identified_of(ObservationCache(subject), scope, draw(RNNConfig(2, 2, T=2, N=2, cell="GRU"), "normal", 1))

    assert found is not None
    assert [mistake.sentence for mistake in mistakes_of(found.network, "tanh")] == sentences


class Crossed(torch.autograd.Function):
    """z * h, whose gradient by h is multiplied by 1 - z."""

    @staticmethod
    def forward(ctx: Any, z: Any, h: Any) -> Any:
        ctx.save_for_backward(z, h)
        return z * h

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        z, h = ctx.saved_tensors
        return g * h, g * (1 - z)


CROSSED: Any = Crossed.apply


class ByHand(torch.nn.Module):
    """A GRU with that product."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.ih, self.hh = (torch.nn.Linear(n, 3 * hidden_size) for n in (input_size, hidden_size))

    def forward(self, x: Any, h: Any) -> Any:
        h, output = h[0], []
        for step in x:
            (ir, iz, i_n), (hr, hz, hn) = self.ih(step).chunk(3, 1), self.hh(h).chunk(3, 1)
            r, z = torch.sigmoid(ir + hr), torch.sigmoid(iz + hz)
            h = (1 - z) * torch.tanh(i_n + r * hn) + CROSSED(z, h)
            output.append(h)
        return torch.stack(output), h[None]


def test_a_gradient_that_another_gate_multiplies_is_named() -> None:
    subject = as_subject(ByHand)
    config = RNNConfig(2, 2, T=2, N=2, hx=True, loss="output", cell="GRU")

    found = identified_of(ObservationCache(subject), scope_of(subject), draw(config, "normal", 1))

    assert found is not None
    said = "multiplies the gradient of h[t] by (1 - z) for that of h[t-1], not by z"
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [said]


class OutputAlone(torch.nn.LSTM):
    """An LSTM whose f multiplies what i lets in, too, and which returns its output alone: o shows c at its end."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)

    def forward(self, x: Any, states: Any = None) -> Any:
        zeros = x.new_zeros(x.shape[1], self.hidden_size)
        h, c = (zeros, zeros) if states is None else (states[0][0], states[1][0])
        weights, output = dict(self.named_parameters()), []
        W, U, b, d = (weights[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        for x_t in x:
            i, f, g, o = (x_t @ W.T + b + h @ U.T + d).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(f) * torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            output.append(h)
        return torch.stack(output)


def test_c_is_seen_through_h_where_nothing_else_is_returned() -> None:
    subject = as_subject(OutputAlone, "mine")
    scope = scope_of(subject).only(loss=None)

    found = identified_of(ObservationCache(subject), scope, draw(RNNConfig(2, 2, T=2, N=2, cell="LSTM"), "normal", 1))

    assert found is not None
    [mistake] = mistakes_of(found.network, "tanh")
    assert mistake.sentence == "makes c of f * c + i * f * g, not of f * c + i * g"


@pytest.mark.parametrize(
    ("cell", "changes", "function", "sentences"),
    few(
        [
            ("LSTM", {}, ("i", "clip"), ["applies clip, np.clip(s, -1, 1), to the sum of i, not sigmoid"]),
            ("LSTM", {}, ("f", "identity"), ["applies no function to the sum of f, not sigmoid"]),
            (
                "LSTM",
                {"memory": ((("c",), 1.0), (("c", "i"), -1.0), (("g", "i"), 1.0)), "limit": 1.0},
                None,
                [
                    (
                        "takes 1 - i in the place of f: the coupled input and forget gates of Greff et al. 2017, CIFG "
                        "(ONNX's input_forget=1)"
                    ),
                    "clips c to ±1",
                ],
            ),
            ("LSTM", {"read": ACTIVATIONS["relu"]}, None, ["applies relu to c, not tanh"]),
            ("LSTM", {"returned": ("c'", "h'", "c'")}, None, ["returns c as output, not h"]),
            (
                "GRU",
                {"outer": ACTIVATIONS["sigmoid"], "returned": ("h", "h'")},
                None,
                [
                    "makes h of sigmoid((1 - z) * n + z * h), not of (1 - z) * n + z * h",
                    "returns the h before the step as output, not h",
                ],
            ),
            (
                "LSTM",
                {"outer": ACTIVATIONS["sigmoid"], "read": SIGMOID},
                None,
                ["applies sigmoid to c, not tanh", "makes h of sigmoid(o * sigmoid(c)), not of o * tanh(c)"],
            ),
        ],
        3,
    ),
)
def test_what_hides_a_gate_or_a_state_is_told(cell: str, changes: Any, function: Any, sentences: list[str]) -> None:
    model = replace(step_of(cell), **changes)
    if function is not None:
        letter, name = function
        kind = Activation("clip", (-1.0, 1.0)) if name == "clip" else ACTIVATIONS[name]
        model = replace(
            model,
            gates=tuple((own, gate._replace(activation=kind) if own == letter else gate) for own, gate in model.gates),
        )

    found = composed_gates.identified(model)

    assert not found.unknown
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == sentences


def test_r_is_seen_in_a_sum_that_is_doubled() -> None:
    def doubled(gate: Any) -> Any:
        parts = (p._replace(block=(p.block + 1) % 3) for p in gate.parts)
        return gate._replace(inside=2.0 if gate.activation == TANH else 1.0, parts=tuple(parts))

    model = replace(step_of("GRU"), gates=tuple((letter, doubled(gate)) for letter, gate in step_of("GRU").gates))

    found = composed_gates.identified(model)

    assert not found.unknown
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [
        "reads its rows in the order n, r, z, not r, z, n",
        "applies tanh to 2 times the sum of n, not tanh to the sum",
    ]
