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
from harness.diagnosis.observation_cache import Observations
from harness.subjects.conventions import Conventions
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import scope_of
from tests.long import few


def sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


def gated_by_z(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute a GRU whose candidate reads z * h."""
    h, output = h0[0], []
    for x_t in x:
        i = np.split(x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
        U, b = np.split(weights["weight_hh_l0"], 3), np.split(weights["bias_hh_l0"], 3)
        r, z = (sigmoid(i[k] + h @ U[k].T + b[k]) for k in range(2))
        n = np.tanh(i[2] + r * ((z * h) @ U[2].T + b[2]))
        h = (1 - z) * n + z * h
        output.append(h)
    return np.stack(output), h[None]


def twice(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute a GRU whose reset gate goes through the sigmoid twice."""
    h, output = h0[0], []
    for x_t in x:
        i = np.split(x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
        g = np.split(h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"], 3, 1)
        r, z = (sigmoid(i[k] + g[k]) for k in range(2))
        n = np.tanh(i[2] + sigmoid(r) * g[2])
        h = (1 - z) * n + z * h
        output.append(h)
    return np.stack(output), h[None]


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


def later(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute a GRU that adds b_hz at all steps but the first."""
    h, output = h0[0], []
    for t, x_t in enumerate(x):
        i = np.split(x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
        U, b = np.split(weights["weight_hh_l0"], 3), np.split(weights["bias_hh_l0"], 3)
        r, z = sigmoid(i[0] + h @ U[0].T + b[0]), sigmoid(i[1] + h @ U[1].T + (b[1] if t else 0))
        h = (1 - z) * np.tanh(i[2] + r * (h @ U[2].T + b[2])) + z * h
        output.append(h)
    return np.stack(output), h[None]


def in_turns(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute a GRU whose z is a hard sigmoid at every second step."""
    h, output = h0[0], []
    for t, x_t in enumerate(x):
        i = np.split(x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
        g = np.split(h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"], 3, 1)
        r, s = sigmoid(i[0] + g[0]), i[1] + g[1]
        z = np.clip(0.2 * s + 0.5, 0, 1) if t % 2 else sigmoid(s)
        h = (1 - z) * np.tanh(i[2] + r * g[2]) + z * h
        output.append(h)
    return np.stack(output), h[None]


def in_pairs(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute a GRU that reads the first x of each pair twice."""
    h, output = h0[0], []
    for t in range(len(x)):
        i = np.split(x[t // 2 * 2] @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
        U, b = np.split(weights["weight_hh_l0"], 3), np.split(weights["bias_hh_l0"], 3)
        r, z = (sigmoid(i[k] + h @ U[k].T + b[k]) for k in range(2))
        h = (1 - z) * np.tanh(i[2] + r * (h @ U[2].T + b[2])) + z * h
        output.append(h)
    return np.stack(output), h[None]


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
            (
                in_turns,
                "GRU",
                (
                    "applies hard sigmoid, np.clip(0.2 * s + 0.5, 0, 1), to the sum of z, not sigmoid, "
                    "at every 2nd step only"
                ),
            ),
            (in_pairs, "GRU", "reads x of step t // 2 * 2, not of step t"),
            (in_chunks, "LSTM", "starts h anew at hx and c anew at cx, at every 3rd step after the first only"),
            (later, "GRU", "leaves b_hz out of the sum of z, at the first step only"),
            (gated_by_z, "GRU", "takes r * ((z * h) @ W_hn.T) in the sum of n, not r * (h @ W_hn.T)"),
            (
                twice,
                "GRU",
                "applies sigmoid of sigmoid, 1 / (1 + np.exp(-1 / (1 + np.exp(-s)))), to the sum of r, not sigmoid",
            ),
            (late, "LSTM", "makes h of tanh(o * c), not of o * tanh(c)"),
        ],
        4,
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

    found = identified_of(Observations(subject), scope, draw(RNNConfig(2, 2, T=2, N=2, cell=cell), "normal", 1))

    assert found is not None
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [sentence]
    assert not mistakes_of(mistakes_of(found.network, "tanh")[0].without(found.network), "tanh")
    assert np.allclose(executed(found.network.first), function(X, *STATES[cell], WEIGHTS[cell], None)[0])


def in_keras_order(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute a GRU that takes the rows of W_hh for z, r, n, and adds b_hn outside of r."""
    h, output = h0[0], []
    for x_t in x:
        i = np.split(x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
        U, b = np.split(weights["weight_hh_l0"], 3), np.split(weights["bias_hh_l0"], 3)
        r, z = sigmoid(i[0] + h @ U[1].T + b[0]), sigmoid(i[1] + h @ U[0].T + b[1])
        h = (1 - z) * np.tanh(i[2] + b[2] + r * (h @ U[2].T)) + z * h
        output.append(h)
    return np.stack(output), h[None]


def without_r(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute a GRU that forgets r and exchanges z and 1 - z: as near to torch's by terms with its gates renamed."""
    h, output = h0[0], []
    for x_t in x:
        i = np.split(x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
        g = np.split(h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"], 3, 1)
        z, n = sigmoid(i[1] + g[1]), np.tanh(i[2] + g[2])
        h = z * n + (1 - z) * h
        output.append(h)
    return np.stack(output), h[None]


def test_gates_have_the_names_with_which_there_are_the_fewest_mistakes() -> None:
    subject = FunctionSubject(without_r, "mine", conventions=Conventions(cell="GRU"))
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, batch_first=False, bias=True, loss=None)

    found = identified_of(Observations(subject), scope, draw(RNNConfig(2, 2, T=2, N=2, cell="GRU"), "normal", 1))

    assert found is not None
    assert [mistake.sentence for mistake in mistakes_of(found.network, "tanh")] == [
        "does not apply r: it multiplies nothing in n",
        "exchanges z and 1 - z",
    ]


def test_a_gate_that_reads_rows_of_another_one_is_seen_through_the_one_that_it_multiplies() -> None:
    subject = FunctionSubject(in_keras_order, "mine", conventions=Conventions(cell="GRU"))
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, batch_first=False, bias=True, loss=None)

    found = identified_of(Observations(subject), scope, draw(RNNConfig(2, 2, T=2, N=2, cell="GRU"), "normal", 1))

    assert found is not None
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [
        "reads the rows of weight_hh in the order z, r, n, that of ONNX, Keras and oneDNN",
        "adds b_hn outside of r",
    ]


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

    found = identified_of(Observations(subject), scope_of(subject), draw(config, "normal", 1))

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

    found = identified_of(Observations(subject), scope, draw(RNNConfig(2, 2, T=2, N=2, cell="LSTM"), "normal", 1))

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
                ["takes 1 - i in the place of f", "clips c to ±1"],
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
