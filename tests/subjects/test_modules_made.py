"""Tests of NumPy classes, and of functions with signatures of their own: they are read as classes of modules are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from harness import RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.subjects.protocol import SubjectUnavailable, scope_of

PLAIN = RNNConfig(4, 3, T=4, N=2, dtype="float64")


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


class Rows:
    """A class with its gradients and a state beside its weights, which returns the states and a cache."""

    forgets = False

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.Wx, self.Wh = np.ones((n_in, n_hidden)), np.ones((n_hidden, n_hidden))
        self.b, self.h = np.zeros(n_hidden), np.zeros(n_hidden)
        self.dWx, self.dWh, self.db = (np.zeros_like(one) for one in (self.Wx, self.Wh, self.b))

    def forward(self, x: Any, h: Any) -> Any:
        out = []
        for step in x:
            h = np.tanh(step @ self.Wx + h @ self.Wh + (0 if self.forgets else self.b))
            out.append(h)
        return np.stack(out), h, "cache"


class RowsForgetful(Rows):
    forgets = True


class Columns:
    """A cell of column vectors, its weights in a dict."""

    def __init__(self, n_hidden: int, n_in: int) -> None:
        self.p = {"W": np.zeros((n_hidden, n_in)), "U": np.zeros((n_hidden, n_hidden)), "b": np.zeros((n_hidden, 1))}

    def step(self, x: Any, h: Any) -> Any:
        return np.tanh(self.p["W"] @ x + self.p["U"] @ h + self.p["b"])


class ColumnsTurned(Columns):
    def step(self, x: Any, h: Any) -> Any:
        return np.tanh(self.p["W"] @ x + self.p["U"].T @ h + self.p["b"])


class OfWeights:
    """A class of its weights."""

    def __init__(self, Wx: Any, Wh: Any, b: Any) -> None:
        self.weights = Wx, Wh, b

    def forward(self, x: Any, h: Any) -> Any:
        Wx, Wh, b = self.weights
        states = [h]
        for step in x:
            states.append(np.tanh(step @ Wx + states[-1] @ Wh + b))
        return np.stack(states[1:]), states[-1]


class OfWeightsLate(OfWeights):
    def forward(self, x: Any, h: Any) -> Any:
        output, h_n = super().forward(x, h)
        return np.concatenate([h[None], output[:-1]]), h_n


class OfFields(torch.nn.Module):
    """A class whose constructor reads a dict, and one field by a default."""

    forgets = False

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cells = torch.nn.ModuleList()
        for layer in range(cfg.get("depth", 1)):
            self.cells.append(torch.nn.RNNCell(cfg["in"] if layer == 0 else cfg["hidden"], cfg["hidden"]))

    def forward(self, x: Any) -> Any:
        for cell in self.cells:
            h, states = x.new_zeros(x.shape[1], cell.hidden_size), []
            for step in x:
                h = cell(step, 0 * h if self.forgets else h)
                states.append(h)
            x = torch.stack(states)
        return x


class OfFieldsForgetful(OfFields):
    forgets = True


class OfAttributes(OfFields):
    """A class that compares a field with a name, and takes any other one for relu."""

    def __init__(self, spec: Any) -> None:
        super().__init__({"in": spec.features, "hidden": spec.units})
        for cell in self.cells:
            vars(cell)["nonlinearity"] = "tanh" if spec.activation == "tanh" else "relu"


class OfSteps:
    """A class that takes one sequence, and returns a list of readouts; its last step's state cannot be negative."""

    turned = False

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.Wxh, self.Whh, self.Why = np.ones((n_hidden, n_in)), np.ones((n_hidden, n_hidden)), np.ones((7, n_hidden))
        self.bh, self.by = np.zeros(n_hidden), np.zeros(7)

    def forward(self, xs: Any, h: Any) -> Any:
        states = []
        for x in xs:
            h = np.tanh(self.Wxh @ x + (self.Whh.T if self.turned else self.Whh) @ h + self.bh)
            states.append(h)
        return [self.Why @ h + self.by for h in states], states[-1]


class OfStepsTurned(OfSteps):
    turned = True


class OfStepsCut(OfSteps):
    def forward(self, xs: Any, h: Any) -> Any:
        readouts, h_n = super().forward(xs, h)
        return readouts, np.maximum(h_n, 0)


W = Any


def gru(x: W, h: W, Wz: W, Wr: W, Wn: W, Uz: W, Ur: W, Un: W, bz: W, br: W, bn: W, cn: W) -> W:
    """A GRU in which n alone has two biases."""
    states = [h]
    for x_t in x:
        h = states[-1]
        z, r = sigmoid(x_t @ Wz + h @ Uz + bz), sigmoid(x_t @ Wr + h @ Ur + br)
        states.append((1 - z) * np.tanh(x_t @ Wn + bn + r * (h @ Un + cn)) + z * h)
    return np.stack(states[1:]), states[-1]


def gru_outside(x: W, h: W, Wz: W, Wr: W, Wn: W, Uz: W, Ur: W, Un: W, bz: W, br: W, bn: W, cn: W) -> W:
    return gru(x, h, Wz, Wr, Wn, Uz, Ur, Un, bz, br, bn + cn, 0 * cn)


def batch_first(x: Any, h0: Any, Wx: Any, Wh: Any, b: Any) -> Any:
    states, cache = [h0], []
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ Wx + states[-1] @ Wh + b))
        cache.append((states[-2], states[-1], Wx, Wh))
    return np.stack(states[1:], 1), cache


def batch_first_late(x: Any, h0: Any, Wx: Any, Wh: Any, b: Any) -> Any:
    output, cache = batch_first(x, h0, Wx, Wh, b)
    return np.concatenate([h0[:, None], output[:, :-1]], 1), cache


def by_gate(x: Any, h: Any, c: Any, params: Any) -> Any:
    out = []
    for t in range(len(x)):
        i, f, o = (sigmoid(x[t] @ params[f"W{g}"] + h @ params[f"U{g}"] + params[f"b{g}"]) for g in "ifo")
        g = np.tanh(x[t] @ params["Wg"] + h @ params["Ug"] + params["bg"])
        c = f * c + i * g
        h = o * np.tanh(c)
        out.append(h)
    return np.stack(out), h, c


def by_gate_twice(x: Any, h: Any, c: Any, params: Any) -> Any:
    return by_gate(x, h, c, {**params, "Uf": 0 * params["Uf"] + params["Ui"]})


def with_readout(inputs: Any, state: Any, params: Any) -> Any:
    W_xh, W_hh, b_h, W_hq, b_q = params
    (H,) = state
    outputs = []
    for X in inputs:
        H = torch.tanh(X @ W_xh + H @ W_hh + b_h)
        outputs.append(H @ W_hq + b_q)
    return torch.cat(outputs, 0), (H,)


def with_readout_relu(inputs: Any, state: Any, params: Any) -> Any:
    W_xh, W_hh, b_h, W_hq, b_q = params
    (H,) = state
    for X in inputs:
        H = torch.tanh(X @ W_xh + torch.relu(H) @ W_hh + b_h)
    return (H @ W_hq + b_q).repeat(len(inputs), 1), (H,)


def loops(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    (T, N, I), H = x.shape, W_hh.shape[0]  # noqa: E741 - as in the equations
    output, last = np.zeros((T, N, H), x.dtype), h0.copy()
    for n in range(N):
        for t in range(T):
            h = last[n].copy()
            for j in range(H):
                s = b_ih[j] + b_hh[j] + sum(W_ih[j, i] * x[t, n, i] for i in range(I))
                last[n, j] = np.tanh(s + sum(W_hh[j, k] * h[k] for k in range(H)))
            output[t, n] = last[n]
    return output, last


def loops_of_a_unit_less(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    return loops(x, h0, W_ih, W_hh * (np.arange(len(W_hh)) > 0), b_ih, b_hh)


def lstm_forward(x: Any, a0: Any, parameters: Any) -> Any:
    """An LSTM of [h, x], which returns caches that hold its weights, as a course has it."""
    a, c, caches, outputs = a0, np.zeros_like(a0), [], []
    for x_t in x:
        both = np.concatenate([a, x_t], axis=1)
        f, i, o = (sigmoid(both @ parameters[f"W{g}"].T + parameters[f"b{g}"]) for g in "fio")
        g = np.tanh(both @ parameters["Wc"].T + parameters["bc"])
        c = f * c + i * g
        a = o * np.tanh(c)
        outputs.append(a)
        caches.append((a, c, f, i, g, o, x_t, parameters["Wf"], parameters["Wi"], parameters["Wc"], parameters["Wo"]))
    return np.stack(outputs), caches


def lstm_forward_without_c(x: Any, a0: Any, parameters: Any) -> Any:
    return lstm_forward(x, a0, {**parameters, "bf": parameters["bf"] - 99})


@pytest.mark.parametrize(
    ("right", "wrong", "fields"),
    [
        (Rows, RowsForgetful, {}),
        (Columns, ColumnsTurned, {}),
        (OfWeights, OfWeightsLate, {}),
        (OfSteps, OfStepsTurned, {"T": 2}),
        (OfSteps, OfStepsCut, {}),
        (gru, gru_outside, {"cell": "GRU"}),
        (loops, loops_of_a_unit_less, {}),  # which would run with the rows of three gates, too
        (OfFields, OfFieldsForgetful, {"hx": False}),
        (batch_first, batch_first_late, {"batch_first": True}),
        (by_gate, by_gate_twice, {"cell": "LSTM"}),
        (lstm_forward, lstm_forward_without_c, {"cell": "LSTM", "hx": False}),
        (with_readout, with_readout_relu, {"dtype": "float32", "loss": "h_n"}),
    ],
)
def test_what_is_right_agrees_and_what_is_wrong_does_not(right: Any, wrong: Any, fields: dict[str, Any]) -> None:
    case = draw(PLAIN.replace(**{"hx": True, **fields}), "normal", 1)

    assert check_agreement(as_subject(right), case).verdict is Verdict.AGREES
    assert check_agreement(as_subject(wrong), case).verdict is Verdict.DISAGREES


def test_a_field_whose_name_says_a_function_is_no_size() -> None:
    assert {*scope_of(as_subject(OfAttributes)).nonlinearity} == {"tanh", "relu"}


class OfCounts(OfFields):
    """A class with a size whose name says a function, too."""

    def __init__(self, features: int, n_activations: int, activation: str) -> None:
        super().__init__({"in": features, "hidden": n_activations})
        for cell in self.cells:
            vars(cell)["nonlinearity"] = activation


def test_a_size_whose_name_says_a_function_is_one_if_nothing_else_is() -> None:
    assert {*scope_of(as_subject(OfCounts)).nonlinearity} == {"tanh", "relu"}


def test_numpy_is_compared_forward_only_and_torch_backward_as_well() -> None:
    assert {*scope_of(as_subject(Rows)).loss} == {None}
    assert {*scope_of(as_subject(with_readout)).loss} > {None}


class Steps:
    """A class of which what comes first after x is no state."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.W, self.U = np.ones((n_in, n_hidden)), np.ones((n_hidden, n_hidden))

    def forward(self, x: Any, lengths: Any = None, h: Any = None) -> Any:
        assert lengths is None
        states = [np.zeros((x.shape[1], len(self.U))) if h is None else h]
        for step in x:
            states.append(np.tanh(step @ self.W + states[-1] @ self.U))
        return np.stack(states[1:])


class Module(torch.nn.Module):
    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.own = torch.nn.RNN(n_in, n_hidden)

    def forward(self, x: Any, lengths: Any = None, h0: Any = None) -> Any:
        assert lengths is None
        return self.own(x, h0)


@pytest.mark.parametrize("layer", [Steps, Module])
def test_states_are_given_by_name_where_something_else_comes_first(layer: Any) -> None:
    subject = as_subject(layer)
    config = PLAIN.replace(hx=True, bias=layer is Module)

    assert {*scope_of(subject).hx} == {False, True}
    assert check_agreement(subject, draw(config, "normal", 1)).verdict is Verdict.AGREES
    assert "lengths is never given" in subject.capabilities.read_as


class ToldSteps:
    """A class of arrays that is told how many steps count."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.W, self.U = np.ones((n_in, n_hidden)), np.ones((n_hidden, n_hidden))

    def forward(self, x: Any, lengths: Any, h: Any = None) -> Any:
        h, states = np.zeros((x.shape[1], len(self.U)), x.dtype) if h is None else h, []
        for t, step in enumerate(x):
            h = np.where((t < np.asarray(lengths))[:, None], np.tanh(step @ self.W + h @ self.U), h)
            states.append(h)
        return np.stack(states), h


class MayBeToldSteps(ToldSteps):
    def forward(self, x: Any, lengths: Any = None, h: Any = None) -> Any:
        return super().forward(x, [len(x)] * x.shape[1] if lengths is None else lengths, h)


@pytest.mark.parametrize(("layer", "said"), [(ToldSteps, "always given"), (MayBeToldSteps, "given")])
def test_a_class_of_arrays_is_given_lengths(layer: Any, said: str) -> None:
    subject = as_subject(layer)

    assert f"lengths is {said} lengths" in subject.capabilities.read_as
    for hx, lengths in ((False, None), (True, (2, 3)), (False, (1, 3))):
        case = draw(PLAIN.replace(hx=hx, bias=False, T=3, N=2, lengths=lengths), "normal", 1)
        assert check_agreement(subject, case).verdict is Verdict.AGREES


class Between(torch.nn.Module):
    """A class with a factor that has a state's name, between what may be left out and nothing else."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.own = torch.nn.RNN(n_in, n_hidden)

    def forward(self, x: Any, lengths: Any = None, a: float = 1.0) -> Any:
        assert lengths is None
        return self.own(x * a)


class Beside(torch.nn.Module):
    """A class with something else first that may be left out, and that a state may stand in for."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.own = torch.nn.RNN(n_in, n_hidden)

    def forward(self, x: Any, context: Any = None, hidden: Any = None) -> Any:
        return self.own(x if context is None else x + context.mean(), hidden)


class BesideUnread(Beside):
    def forward(self, x: Any, context: Any = None, hidden: Any = None) -> Any:
        return self.own(x, hidden)


@pytest.mark.parametrize("layer", [Beside, BesideUnread])
def test_the_state_is_the_argument_that_keeps_sequences_apart(layer: Any) -> None:
    subject = as_subject(layer)

    assert check_agreement(subject, draw(PLAIN.replace(hx=True), "normal", 1)).verdict is Verdict.AGREES
    assert "context is never given" in subject.capabilities.read_as


class Named(torch.nn.Module):
    """An LSTM whose c comes first, behind something else."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.own = torch.nn.LSTM(n_in, n_hidden)

    def forward(self, x: Any, lengths: Any = None, c: Any = None, h: Any = None) -> Any:
        assert lengths is None
        output, (h, c) = self.own(x, None if h is None else (h, c))
        return output, h, c


def test_what_has_a_states_name_and_what_has_none_are_told_apart() -> None:
    lstm = PLAIN.replace(cell="LSTM", hx=True, nonlinearity="tanh")

    assert {*scope_of(as_subject(Between)).hx} == {False}
    assert check_agreement(as_subject(Between), draw(PLAIN, "normal", 1)).verdict is Verdict.AGREES
    assert check_agreement(as_subject(Named), draw(lstm, "normal", 1)).verdict is Verdict.AGREES


class Fused(torch.nn.Module):
    """A GRU with its rows in the order n, r, z, a mask of (N, T) first, and a state of another name."""

    outside = False

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.randn(n_in, 3 * n_hidden))
        self.recurrent = torch.nn.Parameter(torch.randn(n_hidden, 3 * n_hidden))
        self.offset_x, self.offset_h = (torch.nn.Parameter(torch.randn(3 * n_hidden)) for _ in range(2))

    def forward(self, frames: Any, valid: Any = None, carry: Any = None) -> Any:
        h = frames.new_zeros(len(frames), len(self.recurrent)) if carry is None else carry[:, 0]
        steps = []
        for t in range(frames.shape[1]):
            of_x, of_h = frames[:, t] @ self.kernel + self.offset_x, h @ self.recurrent
            of_x, of_h = (of_x + self.offset_h, of_h) if self.outside else (of_x, of_h + self.offset_h)
            (n, r, z), (n_h, r_h, z_h) = of_x.chunk(3, -1), of_h.chunk(3, -1)
            n, z = torch.tanh(n + torch.sigmoid(r + r_h) * n_h), torch.sigmoid(z + z_h)
            h = n + z * (h - n)
            h = h if valid is None else valid[:, t, None] * h
            steps.append(h)
        return torch.stack(steps, 1), h[:, None]


class FusedOutside(Fused):
    outside = True


def test_a_mask_is_no_state_and_the_order_of_rows_is_told_in_spite_of_a_mistake() -> None:
    config = PLAIN.replace(cell="GRU", batch_first=True, hx=True, nonlinearity="tanh")
    right, wrong = as_subject(Fused), as_subject(FusedOutside)

    assert {*scope_of(right).hx} == {False, True}
    for subject in (right, wrong):
        assert "rows in the order n, r, z, as runs tell" in subject.capabilities.read_as
        assert "valid is never given" in subject.capabilities.read_as
        assert check_agreement(subject, draw(config.replace(bias=False), "normal", 1)).verdict is Verdict.UNSUPPORTED
    assert check_agreement(right, draw(config, "normal", 1)).verdict is Verdict.AGREES
    assert check_agreement(wrong, draw(config, "normal", 1)).verdict is Verdict.DISAGREES


@dataclass
class Required:
    """Options of which the constructor reads none but the sizes."""

    units: int
    inputs: int
    activation: str


class OfRequired(torch.nn.RNN):
    def __init__(self, options: Required) -> None:
        super().__init__(options.inputs, options.units)
        self.options = options

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return (output, h_n) if self.options.activation == "tanh" else (output.relu(), h_n)


def test_options_that_are_unknown_are_not_made_up() -> None:
    with pytest.raises(SubjectUnavailable, match="a field 'activation', of which nothing is known"):
        as_subject(OfRequired)


@dataclass
class SearchOptions:
    units: int
    inputs: int = 3
    drops: float = 0.0
    lr: float | None = None


class OfOptions(torch.nn.RNN):
    """A class that reads some of its options in a call."""

    def __init__(self, options: SearchOptions) -> None:
        super().__init__(options.inputs, options.units)
        self.options = options

    def forward(self, x: Any, hx: Any = None) -> Any:
        assert self.options.lr is None
        return super().forward(x + self.options.drops, hx)


class OfAnything(torch.nn.RNN):
    def __init__(self, options: Any) -> None:
        super().__init__(options.inputs, options.units)
        self.options = options

    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x if x.shape[0] < 5 else x * self.options.late, hx)


def test_an_object_of_options_is_the_users_own_and_fields_of_unknown_ones_are_no_mistake() -> None:
    long = draw(PLAIN.replace(T=6), "normal", 1)

    assert check_agreement(as_subject(OfOptions), long).verdict is Verdict.AGREES
    assert check_agreement(as_subject(OfAnything), draw(PLAIN, "normal", 1)).verdict is Verdict.AGREES
    assert check_agreement(as_subject(OfAnything), long).verdict is Verdict.UNSUPPORTED


def test_a_class_of_which_each_call_raises_is_refused() -> None:
    class Odd(torch.nn.RNN):
        def __init__(self, n_in: int, n_hidden: int, dtype: Any = None) -> None:
            np.dtype(dtype)
            super().__init__(n_in, n_hidden)

    with pytest.raises(SubjectUnavailable, match="each call raises TypeError"):
        as_subject(Odd)


def test_its_gradients_and_states_are_no_parameters() -> None:
    assert as_subject(Rows).capabilities.read_as.startswith("Wx as weight_ih.T, Wh as weight_hh.T, b as bias_ih + ")


def gates_apart(x: Any, h: Any, Wz: Any, Wr: Any, Wn: Any, Uz: Any, Ur: Any, Un: Any, bz: Any, br: Any, bn: Any) -> Any:
    output = []
    for x_t in x:
        z, r = sigmoid(x_t @ Wz.T + h @ Uz.T + bz), sigmoid(x_t @ Wr.T + h @ Ur.T + br)
        h = (1 - z) * np.tanh(x_t @ Wn.T + r * (h @ Un.T) + bn) + z * h
        output.append(h)
    return np.stack(output), h


def two_biases_in_n(
    x: Any, h: Any, Wz: Any, Wr: Any, Wn: Any, Uz: Any, Ur: Any, Un: Any, bz: Any, br: Any, bn: Any, bnh: Any
) -> Any:
    output = []
    for x_t in x:
        z, r = sigmoid(x_t @ Wz.T + h @ Uz.T + bz), sigmoid(x_t @ Wr.T + h @ Ur.T + br)
        h = (1 - z) * np.tanh(x_t @ Wn.T + r * (h @ Un.T + bnh) + bn) + z * h
        output.append(h)
    return np.stack(output), h


@pytest.mark.parametrize("function", [gates_apart, two_biases_in_n])
def test_a_gru_function_with_an_array_for_each_gate_is_read(function: Any) -> None:
    case = draw(RNNConfig(5, 3, cell="GRU", hx=True, bias=False), "normal", 1)

    assert check_agreement(as_subject(function), case).verdict is Verdict.AGREES


@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("order", ["rzn", "zrn", "nzr"])
def test_the_order_of_a_gru_s_rows_is_told_by_effects_in_spite_of_several_mistakes(
    order: str, *, exchanged: bool
) -> None:
    def gru(inputs: Any, h: Any, W: Any, U: Any, b: Any, b_rec: Any) -> Any:
        output = []
        for x in inputs:
            of_x = dict(zip(order, np.split(x @ W.T + b, 3, -1), strict=True))
            of_h = dict(zip(order, zip(np.split(U, 3), np.split(b_rec, 3), strict=True), strict=True))
            r = sigmoid(of_x["r"] + h @ of_h["r"][0].T + of_h["r"][1])
            z = np.clip(0.2 * (of_x["z"] + h @ of_h["z"][0].T + of_h["z"][1]) + 0.5, 0, 1)
            z = 1 - z if exchanged else z
            h = (1 - z) * np.tanh(of_x["n"] + (r * h) @ of_h["n"][0].T + of_h["n"][1]) + z * h
            output.append(h)
        return np.stack(output), h

    assert f"rows in the order {', '.join(order)}, as runs tell" in as_subject(gru).capabilities.read_as


def test_the_order_of_rows_is_told_where_a_state_is_ignored_or_a_gate_is_wrong() -> None:
    def lstm(x: Any, Wx: Any, Wh: Any, bias: Any, h0: Any, c0: Any) -> Any:
        h, c, output = h0, c0 * 0, []
        for frame in x:
            i, f, o, g = np.split(sigmoid(frame @ Wx + h @ Wh + bias), 4, axis=1)  # g is a tanh in nn.LSTM
            c = f * c + i * g
            h = o * np.tanh(c)
            output.append(h)
        return np.stack(output), (h, c)

    assert "rows in the order i, f, o, g, as runs tell" in as_subject(lstm).capabilities.read_as


def test_x_is_the_first_argument_of_a_function_whatever_its_name() -> None:
    def recurrence(frames: Any, U: Any, W: Any, b: Any, h0: Any) -> Any:
        output = []
        for frame in frames:
            h0 = np.tanh(frame @ U + h0 @ W + b)
            output.append(h0)
        return np.stack(output)

    subject = as_subject(recurrence)

    assert check_agreement(subject, draw(PLAIN.replace(hx=True))).verdict is Verdict.AGREES
    assert "U as weight_ih.T, W as weight_hh.T, b as bias_ih + bias_hh" in subject.capabilities.read_as


def test_a_function_that_calls_nothing_like_a_layer_is_refused_with_what_it_raises() -> None:
    def other(x: Any, table: Any) -> Any:
        return x @ table

    with pytest.raises(SubjectUnavailable, match=r"the likeliest call of it raises ValueError: matmul") as refusal:
        as_subject(other)
    assert "called with x (4, 2, 5), table (" in str(refusal.value)
    assert "expected def rnn(x, h0, weights, config)" in str(refusal.value)


def test_what_raises_in_each_call_is_shown_for_the_call_that_comes_furthest() -> None:
    def rnn(x: Any, h0: Any, Wx: Any, Wh: Any, b: Any) -> Any:
        output = [h0]
        for t in range(len(x)):
            output.append(np.tanh(x[t] @ Wx.T + output[t] @ Wh.T + b))
        return np.stack(output[1:]), output[len(x) + 1]  # too far

    with pytest.raises(SubjectUnavailable, match="IndexError: list index out of range") as refusal:
        as_subject(rnn, "mine.py:rnn")
    message = str(refusal.value)
    assert "of test_modules_made.py: return np.stack(output[1:]), output[len(x) + 1]  # too far" in message
    assert "called with x (4, 2, 5), h0 (2, 3), Wx (3, 5), Wh (3, 3), b (3,)" in message
    assert "not passed" not in message


def test_what_raises_is_shown_for_weights_of_the_shapes_that_their_names_mean_whichever_others_succeed() -> None:
    def rnn(x: Any, h0: Any, W_ih: Any, W_hh: Any) -> Any:
        if 5 in W_ih.shape and 5 not in W_hh.shape:
            raise RuntimeError("unfinished")
        return np.zeros(11)

    with pytest.raises(SubjectUnavailable, match="RuntimeError: unfinished") as refusal:
        as_subject(rnn)
    assert "W_ih (3, 5), W_hh (3, 3)" in str(refusal.value)


def test_where_another_call_succeeds_and_names_say_nothing_no_call_is_called_the_likeliest() -> None:
    def rnn(x: Any, h0: Any, A: Any, B: Any) -> Any:
        if 5 in A.shape:
            raise RuntimeError("unfinished")
        return np.zeros(11)

    with pytest.raises(SubjectUnavailable, match="takes A, B, which are not passed"):
        as_subject(rnn)


@pytest.mark.parametrize("required", [True, False])
def test_lengths_that_run_a_step_too_many_are_given_to_a_function(required: bool) -> None:
    def of_lengths(x: Any, h0: Any, Wx: Any, Wh: Any, bx: Any, bh: Any, lengths: Any) -> Any:
        h, output = h0.copy(), []
        for t in range(x.shape[1]):
            new = np.tanh(x[:, t] @ Wx.T + bx + h @ Wh.T + bh)
            h = np.where((t <= lengths)[:, None], new, h)
            output.append(h)
        return np.stack(output, 1), h

    def with_default(x: Any, h0: Any, Wx: Any, Wh: Any, bx: Any, bh: Any, lengths: Any = None) -> Any:
        return of_lengths(x, h0, Wx, Wh, bx, bh, np.full(len(x), x.shape[1]) if lengths is None else lengths)

    subject = as_subject(of_lengths if required else with_default)

    assert f"lengths is {'always ' * required}given lengths" in subject.capabilities.read_as
    assert subject.capabilities.offers["lengths"] != (None,)
