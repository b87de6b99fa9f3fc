"""Tests of declared conventions: a layer that has others than nn.RNN is given what it expects, and agrees."""

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import Cell, RNNConfig, Verdict, as_subject, check_agreement, conventions, draw, hunt
from harness.checks.dropout import check_dropout
from harness.checks.jvp_and_double_backward import check_derivatives
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.space.cells import local_cells
from harness.space.errors import UsageError
from harness.subjects.conventions import CONVENTION_NAMES, Conventions, declared_by, turned
from harness.subjects.function import FunctionSubject
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import SubjectUnavailable, scope_of
from harness.subjects.registry import find_subject, given_by
from harness.subjects.wire import Greeting

KERAS = {"one_bias": True, "transposed": True, "batch_first": True}


def forward(x: Any, h: Any, weights: Any) -> list[Any]:
    """Return all states of a layer of Keras' conventions, the first one first."""
    W, U, b = weights["weight_ih_l0"], weights["weight_hh_l0"], weights.get("bias_ih_l0", 0)
    assert W.flags.c_contiguous
    assert "bias_hh_l0" not in weights
    states = [h]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ W + states[-1] @ U + b))
    return states


def backward(x: Any, states: Any, weights: Any, d_output: Any, dh: Any) -> tuple[Any, dict[str, Any]]:
    """Return the gradient by the first state, and those by x and the weights, in Keras' conventions."""
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    dx, dW, dU, db = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U), np.zeros_like(U[0])
    for t in reversed(range(x.shape[1])):
        da = (dh + d_output[:, t]) * (1 - states[t + 1] ** 2)
        dx[:, t], dh = da @ W.T, da @ U.T
        dW, dU, db = dW + x[:, t].T @ da, dU + states[t].T @ da, db + da.sum(0)
    gradients = {"x": dx, "weight_ih_l0": dW, "weight_hh_l0": dU}
    return dh, gradients | ({"bias_ih_l0": db} if "bias_ih_l0" in weights else {})


@conventions(**KERAS)
def simple_rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    assert config.batch_first
    states = forward(x, h0[0], weights)
    output, h_n = np.stack(states[1:], 1), states[-1][None].copy()
    if config.loss is None:
        return output, h_n
    d_output = cotangents.get("output.grad", np.zeros_like(output))
    dh, gradients = backward(x, states, weights, d_output, cotangents.get("h_n.grad", np.zeros_like(h_n))[0])
    return output, h_n, gradients | ({"hx": dh[None]} if config.hx else {})


@conventions(**KERAS, last_output_only=True, zero_state_only=True)
def last_of(x: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    H = weights["weight_hh_l0"].shape[0]
    states = forward(x, np.zeros((len(x), H), x.dtype), weights)
    if config.loss is None:
        return states[-1]
    nothing = np.zeros((*x.shape[:2], H), x.dtype)
    return states[-1], backward(x, states, weights, nothing, cotangents["h_n.grad"][0])[1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", [None, "output", "h_n", "both"])
def test_a_layer_of_keras_conventions_agrees_there_and_back(loss: str | None, bias: bool) -> None:
    config = RNNConfig(2, 3, T=4, N=5, hx=True, batch_first=True, loss=loss, dtype="float64", bias=bias)
    subject = as_subject(simple_rnn)

    result = check_agreement(subject, draw(config, "normal"))

    assert result.verdict is Verdict.AGREES, result
    assert subject.run(draw(config, "normal")).not_returned == ()
    bare = FunctionSubject(simple_rnn, "bare", conventions=Conventions(batch_first=True))
    assert check_agreement(bare, draw(config, "normal")).failed


@pytest.mark.parametrize("loss", [None, "h_n"])
def test_the_last_output_alone_is_compared_and_the_rest_is_said_not_to_be(loss: str | None) -> None:
    config = RNNConfig(2, 3, T=4, N=5, batch_first=True, loss=loss, dtype="float64")
    subject, case = as_subject(last_of), draw(config, "normal")

    assert check_agreement(subject, case).verdict is Verdict.AGREES
    assert check_agreement(subject, draw(config.replace(T=1), "normal")).verdict is Verdict.AGREES
    assert subject.run(case).not_returned == ("output",)
    assert subject.run(case).arrays["h_n"].shape == (1, 5, 3)

    off = as_subject(conventions(last_output_only=True)(lambda x, weights: last_of(x, weights, config, {}) + 1e-9))
    assert check_agreement(off, draw(config.replace(loss=None), "normal")).failed


def test_the_last_output_of_two_directions_is_that_of_both_ends() -> None:
    config = RNNConfig(2, 3, T=4, N=5, bidirectional=True, dtype="float64")
    case = draw(config, "normal")
    h_n = as_subject("torch").run(case).arrays["h_n"]

    @conventions(last_output_only=True)
    def both(x: Any) -> Any:
        return np.concatenate(list(h_n), -1)

    assert check_agreement(as_subject(both), case).verdict is Verdict.AGREES
    alone = draw(config.replace(batched=False, N=1), "normal")
    of_one = as_subject(conventions(last_output_only=True)(lambda x: np.zeros(6)))
    assert of_one.run(alone).arrays["h_n"].shape == (2, 3)
    stack = draw(config.replace(num_layers=2), "normal")
    assert "it returns the last output, and not h_n" in as_subject(both).run(stack).message


def test_a_declaration_asks_for_less() -> None:
    scope = scope_of(as_subject(last_of))

    assert (scope.batch_first, scope.hx, scope.loss) == ((True,), (False,), (None, "h_n"))
    refused = as_subject(last_of).run(draw(RNNConfig(2, 3, hx=True, batch_first=True), "normal"))
    assert refused.message == "an initial state: it declares zero_state_only"
    assert "declares batch_first" in as_subject(last_of).run(draw(RNNConfig(2, 3), "normal")).message


def test_what_it_writes_into_its_weights_is_seen() -> None:
    @conventions(one_bias=True, transposed=True)
    def writes(x: Any, h0: Any, weights: Any) -> Any:
        weights["weight_hh_l0"][0, 1] += 1
        weights["bias_ih_l0"] *= 2
        return x, h0

    changed = as_subject(writes).run(draw(RNNConfig(3, 3), "normal")).changed_inputs

    assert set(changed) == {"weight_hh_l0", "bias_ih_l0"}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"one_bias": "yes"}, "conventions: one_bias='yes': expected True or False"),
        ({"transpose": True}, "conventions: transpose is no convention and no layer; did you mean transposed?"),
        ({"x": True}, f"conventions: x is no convention and no layer; expected {', '.join(CONVENTION_NAMES)}"),
        ("transposed", "conventions='transposed': expected a dict such as {'transposed': True}"),
        (3, "conventions=3: expected a dict such as {'transposed': True}"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_in_a_line(declared: Any, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        Conventions.of(declared)
    assert "\n" not in str(refused.value)


def test_a_declaration_that_contradicts_what_is_offered_is_refused() -> None:
    def rnn(x: Any) -> Any: ...

    vars(rnn).update(offers={"batch_first": (False,)}, conventions={"batch_first": True})
    with pytest.raises(UsageError, match=r"offers batch_first=\(False,\), but declares batch_first; leave one out"):
        as_subject(rnn)


def test_conventions_may_follow_the_name_of_what_cannot_be_edited(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def rnn(x, h0): ...\nrnn.conventions = {'one_bias': True}\nsubject = 3\n")

    subject = find_subject(f"{file}:rnn+transposed+batch_first")

    assert subject.capabilities.conventions.names == ("one_bias", "transposed", "batch_first")
    assert subject.name.endswith("mine.py:rnn+transposed+batch_first")
    with pytest.raises(
        SubjectUnavailable,
        match=r"mine.py:rnn\+transpose: transpose is no convention and no layer; did you mean transpos",
    ):
        IsolatedSubject(f"{file}:rnn+transpose")
    with pytest.raises(SubjectUnavailable, match="is an int; expected a function or class with conventions"):
        find_subject(f"{file}:subject+transposed")


def test_a_case_is_turned_into_the_other_layout_and_back() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=5, hx=True, loss="both", strides="stepped"), "normal")
    there = turned(case, batch_first=True)

    assert there.x.shape == (5, 4, 2)
    assert there.cotangents["output.grad"].shape == (5, 4, 3)
    assert np.array_equal(there.arrays["hx"], case.arrays["hx"])
    back = turned(there, batch_first=False)
    assert all(np.array_equal(array, case.arrays[name]) for name, array in back.arrays.items())
    assert turned(case, batch_first=False) is case


def test_another_interpreter_tells_what_is_declared_there(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    body = "x[-1] @ weights['weight_ih_l0']"
    file.write_text(f"def rnn(x, weights):\n    return {body}\nrnn.conventions = {{'last_output_only': True}}\n")
    subject = find_subject(f"python:{sys.executable} {file}:rnn+transposed")

    outcome = subject.run(draw(RNNConfig(2, 3, T=4, N=5), "normal"))

    assert subject.capabilities.conventions.names == ("transposed", "last_output_only")
    assert outcome.arrays["h_n"].shape == (1, 5, 3), outcome
    with pytest.raises(UsageError, match="x is no convention"):
        Greeting.of(b'{"protocol": 1, "conventions": ["x"]}')


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def lstm_states(x: Any, h: Any, c: Any, weights: Any) -> tuple[Any, Any]:
    W, U, b, d = weights.values()
    for x_t in x:
        i, f, g, o = np.split(x_t @ W.T + b + h @ U.T + d, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h, c


def lstm(x: Any, h0: Any, c0: Any, weights: Any) -> Any:
    """Many to one."""
    return lstm_states(x, h0[0], c0[0], weights)[0]


def lstm_with_c(x: Any, h0: Any, c0: Any, weights: Any) -> Any:
    return tuple(state[None] for state in lstm_states(x, h0[0], c0[0], weights))


def encoder(x: Any, h0: Any, c0: Any, weights: Any) -> Any:
    return lstm(x, h0, c0, weights)


def lstm_from_zeros(x: Any, h0: Any, c0: Any, weights: Any) -> Any:
    return lstm(x, h0, 0 * c0, weights)


def lstm_c_first(x: Any, h0: Any, c0: Any, weights: Any) -> Any:
    return lstm_with_c(x, h0, c0, weights)[::-1]


def gru(x: Any, h0: Any, weights: Any) -> Any:
    W, U, b, d = weights.values()
    h = h0[0]
    for x_t in x:
        (ir, iz, i_n), (hr, hz, hn) = (np.split(a, 3, axis=-1) for a in (x_t @ W.T + b, h @ U.T + d))
        z = sigmoid(iz + hz)
        h = (1 - z) * np.tanh(i_n + sigmoid(ir + hr) * hn) + z * h
    return h


@pytest.mark.parametrize(
    ("function", "declared", "cell", "wrong"),
    [
        (lstm, {}, "LSTM", False),
        (lstm_with_c, {}, "LSTM", False),
        (encoder, {"lstm": True}, "LSTM", False),
        (encoder, {}, "RNN", False),  # c0 says that it is an LSTM
        (lstm_from_zeros, {}, "LSTM", True),
        (lstm_c_first, {}, "LSTM", True),
        (gru, {}, "GRU", False),
        (gru, {"gru": False}, "RNN", True),
    ],
)
def test_a_name_holds_beside_a_declaration_and_the_last_output_of_gates_is_compared(
    function: Any, declared: Any, cell: str, wrong: bool
) -> None:
    def many_to_one(**arguments: Any) -> Any:
        return function(**arguments)

    many_to_one.__name__ = function.__name__
    vars(many_to_one).update(conventions={"last_output_only": True, **declared}, __wrapped__=function)
    subject = as_subject(many_to_one)
    [of] = scope_of(subject).cell
    config = RNNConfig(2, 3, T=4, N=5, hx=True, dtype="float64", cell=of)

    assert subject.capabilities.conventions.cell == cell
    assert check_agreement(subject, draw(config, "normal")).failed is wrong
    assert "output" in subject.run(draw(config, "normal")).not_returned


def keras_class() -> Any:
    import torch

    @conventions(one_bias=True, transposed=True, batch_first=True, zero_state_only=True)
    class SimpleRNN(torch.nn.Module):
        def __init__(self, input_size: int, hidden_size: int, *_: Any, device: Any, dtype: Any, **options: Any) -> None:
            super().__init__()
            if options["num_layers"] > 1 or options["bidirectional"] or options["nonlinearity"] != "tanh":
                raise NotImplementedError("one tanh layer")
            made = {"device": device, "dtype": dtype}
            self.weight_ih_l0 = torch.nn.Parameter(torch.empty(input_size, hidden_size, **made))
            self.weight_hh_l0 = torch.nn.Parameter(torch.empty(hidden_size, hidden_size, **made))
            if options["bias"]:
                self.bias_ih_l0 = torch.nn.Parameter(torch.empty(hidden_size, **made))

        def forward(self, x: Any) -> Any:
            h, states = x.new_zeros(len(x), self.weight_hh_l0.shape[0]), []
            for t in range(x.shape[1]):
                h = torch.tanh(x[:, t] @ self.weight_ih_l0 + h @ self.weight_hh_l0 + getattr(self, "bias_ih_l0", 0))
                states.append(h)
            return torch.stack(states, 1), h[None].clone()

    return SimpleRNN


@pytest.mark.parametrize("preparation", ["new", "functional_call", "replaced", "parametrize"])
def test_a_class_of_keras_conventions_agrees_there_and_back(preparation: str) -> None:
    subject = as_subject(keras_class())
    config = RNNConfig(2, 3, T=4, N=5, batch_first=True, loss="both", dtype="float64", preparation=preparation)

    assert check_agreement(subject, draw(config, "normal")).verdict is Verdict.AGREES
    assert check_agreement(subject, draw(config.replace(bias=False), "normal")).verdict is Verdict.AGREES
    beyond = check_derivatives(subject, draw(config, "default")).verdict
    assert beyond is (Verdict.AGREES if preparation == "new" else Verdict.UNSUPPORTED)
    assert subject.capabilities.call is None
    run_as = subject.capabilities.run_as
    assert run_as is not None
    assert run_as(draw(config, "normal"), Conventions()).failure is not None
    assert "declares zero_state_only" in subject.run(draw(config.replace(hx=True), "normal")).message


def test_a_class_returns_every_output() -> None:
    with pytest.raises(SubjectUnavailable, match=r"last_output_only=True of a class: expected of a function"):
        as_subject(conventions(last_output_only=True)(keras_class()))


OWN_FILE = """
import torch
import harness

Gated = harness.Cell("{name}", "g = sigmoid(W_ig @ x + b_ig + W_hg @ h + b_hg)\\nh = (1 - g) * h")

def step(x, h0, weights, config): ...
def rnn(x, h0, weights, config): ...
def lstm(x, h0, c0, weights, config): ...
def a_{name}_lstm(x, h0, weights, config): ...
def turned_lstm(x, weights, config): ...
turned_lstm.conventions = {{"transposed": True}}
class Layer(torch.nn.Module): ...
class {name}Layer(torch.nn.RNN): ...
"""


@pytest.mark.parametrize(
    ("named", "cell"),
    [
        ("step", "Gonly"),  # the only cell of the file
        ("rnn", "RNN"),
        ("lstm", "LSTM"),
        ("a_Gonly_lstm", "Gonly"),
        ("Layer", "Gonly"),
        ("GonlyLayer", "Gonly"),
        ("rnn+gonly", "Gonly"),
        ("step+gru", "GRU"),
        ("turned_lstm", "LSTM"),
        ("turned_lstm+gonly", "Gonly"),
    ],
)
def test_the_cell_is_told_by_the_name_or_by_the_file(tmp_path: Path, named: str, cell: str) -> None:
    (tmp_path / "mine.py").write_text(OWN_FILE.format(name="Gonly"), encoding="utf-8")
    name, *conventions = named.split("+")

    with local_cells():
        given = given_by(f"{tmp_path / 'mine.py'}:{name}")
        declared = Conventions.of(conventions) if conventions else declared_by(given, name)
        assert declared.cell == cell
        if conventions:
            assert find_subject(f"{tmp_path / 'mine.py'}:{named}").capabilities.conventions.cell == cell


def test_a_cell_with_one_gate_is_compared_with_its_equation_and_not_with_nn_rnn(tmp_path: Path) -> None:
    def leaky(x: Any, h0: Any, weights: Any, config: Any, leak: float = 0.1) -> Any:
        if config.num_layers > 1 or config.bidirectional or config.batch_first or not config.bias:
            raise NotImplementedError("one layer with biases")
        W, U, b, c = weights.values()
        h, output = h0[0], []
        for x_t in x:
            h = (1 - leak) * h + leak * np.tanh(x_t @ W.T + b + h @ U.T + c)
            output.append(h)
        return np.stack(output), h[None]

    Cell("Leaky", "n = tanh(W_in @ x + b_in + W_hn @ h + b_hn)\nh = 0.9 * h + 0.1 * n")
    right = FunctionSubject(leaky, "leaky", conventions=Conventions(cell="Leaky"))
    wrong = FunctionSubject(partial(leaky, leak=0.2), "leaky", conventions=Conventions(cell="Leaky"))

    assert hunt(right, scope_of(right), cases=200).finding is None
    found = hunt(wrong, scope_of(wrong), cases=60).finding
    assert found is not None
    diagnosis = FindingExplainer(wrong).explain(found, scope_of(wrong)).diagnosis
    assert diagnosis is not None
    assert diagnosis.cause is not None
    assert diagnosis.cause.sentence == "makes h of 0.8 * h + 0.2 * n, not of 0.9 * h + 0.1 * n"


MINE = """
import torch
import harness

LEAK = harness.Cell("LEAK", "n = tanh(W_in @ x + b_in + W_hn @ h + b_hn)\\nh = 0.9 * h + 0.1 * n")

class Layer(torch.nn.Module):
    def __init__(self, input_size, hidden_size, num_layers=1, dropout=0.0):
        super().__init__()
        sizes = [input_size, *[hidden_size] * (num_layers - 1)]
        self.cells = torch.nn.ModuleList([torch.nn.RNNCell(size, hidden_size) for size in sizes])
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, x, hx=None):
        hx = x.new_zeros(len(self.cells), x.shape[1], self.cells[0].hidden_size) if hx is None else hx
        last = []
        for k, (cell, h) in enumerate(zip(self.cells, hx)):
            states = []
            for x_t in self.drop(x) if k else x:
                h = 0.9 * h + 0.1 * cell(x_t, h)
                states.append(h)
            x = torch.stack(states)
            last.append(h)
        return x, torch.stack(last)

names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
adapter = harness.adapt(
    lambda config: Layer(config.input_size, config.hidden_size),
    {f"cells.{{layer}}.{name}": name for name in names},
    lambda module, x, h: module(x, h),
)
def rnn(x, h0, weights, config): ...
"""


@pytest.mark.parametrize("named", ["Layer", "adapter+leak"])
def test_a_class_and_an_adapter_are_compared_with_a_cell_of_the_file(tmp_path: Path, named: str) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")

    with local_cells():
        subject = find_subject(f"{tmp_path / 'mine.py'}:{named}")
        config = RNNConfig(2, 3, T=4, N=2, hx=True, loss="both", cell="LEAK")
        assert check_agreement(subject, draw(config, "normal")).verdict is Verdict.AGREES
        assert set(scope_of(subject).training) == {False}  # its masks are not checked, which is said
        assert check_dropout(subject, scope=scope_of(subject)).verdict is Verdict.UNSUPPORTED


def test_a_cell_of_the_file_is_refused_under_another_interpreter(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")

    with pytest.raises(SubjectUnavailable, match=r"its file defines a harness\.Cell, which no other interpreter knows"):
        find_subject(f"python:{sys.executable} {tmp_path / 'mine.py'}:rnn")
