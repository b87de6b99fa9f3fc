"""Tests of the way back of NumPy code: it is read by names and shapes, and compared as autograd's is."""

import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.checks.case_checks import check
from harness.subjects.protocol import scope_of

PLAIN = RNNConfig(4, 3, T=4, N=2, dtype="float64", loss="output")

FUNCTIONS = """
import numpy as np


def rnn_forward(x, h0, Wx, Wh, b):
    h, hs, cache = h0, [], []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ Wx + h @ Wh + b)
        hs.append(h)
    return np.stack(hs, 1), (x, np.stack([h0, *hs]), Wx, Wh)


def rnn_backward(dhs, cache):
    x, h, Wx, Wh = cache
    dx, dh, dWx, dWh, db = np.zeros_like(x), 0, 0, 0, 0
    for t in reversed(range(x.shape[1])):
        da = (dhs[:, t] + dh) * (1 - h[t + 1] ** 2)
        dx[:, t], dh = da @ Wx.T, SHARE * da @ Wh.T
        dWx, dWh, db = dWx + x[:, t].T @ da, dWh + h[t].T @ da, db + da.sum(0)
    return dx, dh, dWx, dWh, db
"""


def functions(name: str, share: float) -> Any:
    module = sys.modules.setdefault(name, ModuleType(name))
    vars(module)["SHARE"] = share
    exec(FUNCTIONS, vars(module))  # noqa: S102 - the function that goes back is looked for in the forward one's module
    return vars(module)["rnn_forward"]


class Layer:
    """A class whose gradients are in a dict, and that of x returned; none is by h0, and ``forward`` spoils nothing."""

    kept = 1.0

    def __init__(self, n_in: int, n_hidden: int) -> None:
        shapes = {"W": (n_in, n_hidden), "U": (n_hidden, n_hidden), "b": (n_hidden,)}
        self.params = {name: np.ones(shape) for name, shape in shapes.items()}
        self.grads: dict[str, Any] = {}

    def forward(self, xs: Any, h: Any = None) -> Any:
        h = np.zeros((xs.shape[1], len(self.params["U"]))) if h is None else h
        self.xs, self.hs = xs, [h]
        for x in xs:
            self.hs.append(np.tanh(x @ self.params["W"] + self.hs[-1] @ self.params["U"] + self.params["b"]))
        return np.stack(self.hs[1:])

    def backward(self, dhs: Any) -> Any:
        self.grads = {name: np.zeros_like(array) for name, array in self.params.items()}
        dxs, dh = np.zeros_like(self.xs), 0
        while len(self.hs) > 1:  # it uses up what was saved
            t, h = len(self.hs) - 2, self.hs.pop()
            da = (dhs[t] + dh) * (1 - h**2)
            dxs[t], dh = da @ self.params["W"].T, da @ self.params["U"].T
            self.grads["W"] += self.xs[t].T @ da
            self.grads["U"] += self.hs[-1].T @ da
            self.grads["b"] = self.kept * self.grads["b"] + da.sum(0)
        return dxs


class LayerForgetful(Layer):
    kept = 0.0


class InList(Layer):
    """A class whose gradients are a list in the order of its weights."""

    def backward(self, dhs: Any) -> Any:
        dxs = super().backward(dhs)
        self.grads = [*self.grads.values()]  # type: ignore[assignment]
        return dxs


class InListForgetful(InList):
    kept = 0.0


class LastAlone:
    """A class that returns its last state, and goes back from that."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.W, self.U = np.ones((n_hidden, n_in)), np.ones((n_hidden, n_hidden))

    def forward(self, xs: Any) -> Any:
        self.xs, self.hs = xs, [np.zeros((xs.shape[1], len(self.U)))]
        for x in xs:
            self.hs.append(np.tanh(x @ self.W.T + self.hs[-1] @ self.U.T))
        return self.hs[-1]

    def backward(self, d: Any) -> Any:
        self.dW, self.dU, dxs = np.zeros_like(self.W), np.zeros_like(self.U), np.zeros_like(self.xs)
        for t in reversed(range(len(self.xs))):
            d = d * (1 - self.hs[t + 1] ** 2)
            self.dW += d.T @ self.xs[t]
            self.dU += d.T @ self.hs[t if self.earlier else t + 1]
            dxs[t], d = d @ self.W, d @ self.U
        return dxs

    earlier = True


class LastAloneLate(LastAlone):
    earlier = False


@pytest.mark.parametrize(
    ("right", "wrong", "fields"),
    [
        (functions("_right_functions", 1.0), functions("_wrong_functions", 0.9), {"batch_first": True, "hx": True}),
        (Layer, LayerForgetful, {}),
        (Layer, LayerForgetful, {"input_size": 3, "wrt": "weights", "hx": True}),
        (Layer, LayerForgetful, {"grad_mode": "accumulate"}),
        (InList, InListForgetful, {}),
        (LastAlone, LastAloneLate, {"loss": "h_n", "bias": False}),
    ],
)
def test_gradients_are_its_own(right: Any, wrong: Any, fields: dict[str, Any]) -> None:
    case = draw(PLAIN.replace(**fields), "normal", 1)

    assert check_agreement(as_subject(right), case).verdict is Verdict.AGREES
    assert check_agreement(as_subject(wrong), case).verdict is Verdict.DISAGREES


LSTM = """
import numpy as np


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


def lstm_forward(x, h0, c0, Wx, Wh, b):
    h, c, hs, cache = h0, c0, [], []
    for x_t in x:
        a = np.split(x_t @ Wx.T + h @ Wh.T + b, 4, 1)
        i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), np.tanh(a[2]), sigmoid(a[3])
        before, c = (h, c), f * c + i * g
        h = o * np.tanh(c)
        hs.append(h)
        cache.append((x_t, *before, i, f, g, o, np.tanh(c)))
    return np.stack(hs), h, c, (cache, Wx, Wh)


def lstm_backward(dhs, saved):
    cache, Wx, Wh = saved
    dxs, dWx, dWh, db, dh, dc = [], 0, 0, 0, 0, 0
    for d, (x, h, c, i, f, g, o, tanh_c) in zip(dhs[::-1], cache[::-1]):
        d = d + dh
        dc = dc + d * o * (1 - tanh_c**2)
        da = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), d * tanh_c * o * (1 - o)]
        da = np.concatenate(da, 1)
        dxs, dWx, dWh, db = [da @ Wx, *dxs], dWx + da.T @ x, dWh + da.T @ h, db + da.sum(0)
        dh, dc = da @ Wh, dc * f
    dc = SHARE * dc
    return RETURNED
"""


def lstm(name: str, returned: str, share: float) -> Any:
    module = sys.modules.setdefault(name, ModuleType(name))
    vars(module)["SHARE"] = share
    exec(LSTM.replace("RETURNED", returned), vars(module))  # noqa: S102
    return vars(module)["lstm_forward"]


@pytest.mark.parametrize("states", ["dh, dc", "dc, dh", "dh + 0, dc + 0"])
def test_gradients_by_two_states_are_told_by_a_run_where_names_do_not(states: str) -> None:
    case = draw(RNNConfig(4, 3, T=4, N=2, dtype="float64", loss="output", hx=True, cell="LSTM"), "normal", 1)
    returned = f"np.stack(dxs), {states}, dWx, dWh, db"

    right, wrong = (as_subject(lstm(f"_lstm_{share}", returned, share)) for share in (1.0, 0.9))

    assert check_agreement(right, case).verdict is Verdict.AGREES
    assert {m.array for m in check_agreement(wrong, case).mismatches} == {"cx.grad"}


def test_gradients_of_zero_are_gradients() -> None:
    case = draw(PLAIN.replace(input_size=1, hidden_size=1, T=1), "normal", 1)
    silent = case.from_arrays(case.config, {name: array * 0 for name, array in case.arrays.items()})

    assert check_agreement(as_subject(InList), silent).verdict is Verdict.AGREES


def test_gradients_that_it_does_not_return_are_left_out_and_the_others_are_compared() -> None:
    right, wrong = as_subject(Layer), as_subject(LayerForgetful)
    case = draw(PLAIN.replace(hx=True), "normal", 1)

    assert check_agreement(right, case).verdict is Verdict.AGREES
    assert check(right, case).not_compared == ("hx.grad",)
    assert {m.array for m in check_agreement(wrong, case).mismatches} == {"bias_ih_l0.grad", "bias_hh_l0.grad"}
    assert {*scope_of(right).loss} == {None, "output", "h_n", "both"}
    assert "gradients are those of its backward" in right.capabilities.read_as
    assert not right.capabilities.not_compared


class Steps:
    """A class with lists of steps, in and out."""

    slope = 2

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.Wx, self.Wh, self.b = np.ones((n_in, n_hidden)), np.ones((n_hidden, n_hidden)), np.zeros(n_hidden)

    def forward(self, xs: Any, h0: Any) -> Any:
        self.xs, self.hs = xs, [h0]
        for x in xs:
            self.hs.append(np.tanh(x @ self.Wx + self.hs[-1] @ self.Wh + self.b))
        return self.hs[1:]

    def backward(self, dhs: list[Any]) -> Any:
        self.dWx, self.dWh, self.db, dh, dxs = 0 * self.Wx, 0 * self.Wh, 0 * self.b, 0, list[Any]()
        while dhs:
            x, h, before = self.xs[len(dhs) - 1], self.hs[len(dhs)], self.hs[len(dhs) - 1]
            da = (dhs.pop() + dh) * (1 - h**self.slope)
            self.dWx, self.dWh, self.db = self.dWx + x.T @ da, self.dWh + before.T @ da, self.db + da.sum(0)
            dxs.insert(0, da @ self.Wx.T)
            dh = da @ self.Wh.T
        return dxs, dh


class InTuple(Steps):
    def forward(self, xs: Any, h0: Any) -> Any:
        *steps, last = super().forward(xs, h0)
        return (*steps, last), last

    def backward(self, dhs: Any) -> Any:
        dxs, dh = super().backward([*dhs])
        return tuple(dxs), dh


class OfStack(Steps):
    """A class that returns a list, and goes back from an array."""

    def backward(self, dhs: Any) -> Any:
        return super().backward([*np.asarray(dhs, dhs.dtype)])


class FromNothing(Steps):
    """A class that must be given a gradient after the last step, which it does not return."""

    def backward(self, dhs: Any, dh_next: Any) -> Any:  # type: ignore[override]
        return super().backward([*dhs[:-1], dhs[-1] + dh_next])


class OfLastStep(Steps):
    """A class that returns all states, and goes back from the last one."""

    def backward(self, dh: Any) -> Any:
        return super().backward([*[0 * dh] * (len(self.xs) - 1), dh])


class OfBoth(Steps):
    """A class that returns the last state beside a list, and may be given the gradients of both."""

    def forward(self, xs: Any, h0: Any) -> Any:
        return (hs := super().forward(xs, h0)), hs[-1]

    def backward(self, dhs: Any, dh: Any = None) -> Any:
        return super().backward(dhs if dh is None else [*dhs[:-1], dhs[-1] + dh])


class OfInputs(Steps):
    """A class that is given what it was given forward, and what it returned, and has no gradient by x or h0."""

    def backward(self, xs: Any, hs: Any, dhs: Any) -> Any:  # type: ignore[override]
        self.xs, self.hs[1:] = xs, hs
        super().backward(dhs)
        return self.dWx, self.dWh, self.db


class OfOneSequence(Steps):
    """A class that returns states of several sequences, and goes back through one."""

    def backward(self, dhs: Any) -> Any:
        if dhs[0].ndim > 1:
            raise ValueError("one sequence")
        self.xs, self.hs = self.xs[:, None], [h[None] for h in self.hs]
        dxs, dh = super().backward([d[None] for d in dhs])
        return [dx[0] for dx in dxs], dh[0]


class LSTMSteps:
    """An LSTM's cell that goes back from c and h, in this order, with lists of gates."""

    slope = 2

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.W, self.U = np.ones((4 * n_hidden, n_in)), np.ones((4 * n_hidden, n_hidden))
        self.b = np.zeros(4 * n_hidden)

    def forward(self, x: Any, h: Any, c: Any) -> Any:
        i, f, g, o = np.split(x @ self.W.T + h @ self.U.T + self.b, 4, 1)
        self.gates = [1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))]
        self.x, self.h, self.c = x, h, c
        self.tanh_c = np.tanh(self.gates[1] * c + self.gates[0] * self.gates[2])
        return self.gates[3] * self.tanh_c, self.gates[1] * c + self.gates[0] * self.gates[2]

    def backward(self, first: Any, second: Any) -> Any:
        i, f, g, o = self.gates
        dc = first + second * o * (1 - self.tanh_c**self.slope)
        parts = [
            dc * g * i * (1 - i),
            dc * self.c * f * (1 - f),
            dc * i * (1 - g**2),
            second * self.tanh_c * o * (1 - o),
        ]
        da = np.concatenate(parts, 1)
        self.dW, self.dU, self.db = da.T @ self.x, da.T @ self.h, da.sum(0)
        return da @ self.W, da @ self.U, dc * f


class Parameter:
    """An array and its gradient."""

    def __init__(self, *shape: int) -> None:
        self.data, self.grad = np.ones(shape), np.zeros(shape)


class TwoWays:
    """A class of two directions, each with objects that hold a parameter and its gradient."""

    slope = 2

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.fw, self.bw = (
            SimpleNamespace(W=Parameter(n_hidden, n_in), U=Parameter(n_hidden, n_hidden)) for _ in range(2)
        )

    def forward(self, x: Any) -> Any:
        return np.concatenate([self.along(self.fw, x), self.along(self.bw, x[::-1])[::-1]], 2)

    def along(self, way: Any, x: Any) -> Any:
        way.x, way.hs = x, [np.zeros((x.shape[1], len(way.U.data)), x.dtype)]
        for step in x:
            way.hs.append(np.tanh(step @ way.W.data.T + way.hs[-1] @ way.U.data.T))
        return np.stack(way.hs[1:])

    def backward(self, d: Any) -> Any:
        half = d.shape[2] // 2
        return self.back(self.fw, d[:, :, :half]) + self.back(self.bw, d[::-1, :, half:])[::-1]

    def back(self, way: Any, d: Any) -> Any:
        dh, dx = 0, list[Any]()
        for t in reversed(range(len(d))):
            da = (d[t] + dh) * (1 - way.hs[t + 1] ** self.slope)
            way.W.grad, way.U.grad = way.W.grad + da.T @ way.x[t], way.U.grad + da.T @ way.hs[t]
            dx.insert(0, da @ way.W.data)
            dh = da @ way.U.data
        return np.stack(dx)


class Deep:
    """A stack with lists of steps, of parameters and of their gradients, some of one shape."""

    slope = 2

    def __init__(self, n_in: int, n_hidden: int, n_layers: int = 1) -> None:
        self.W = [np.ones((n_hidden, n_hidden if k else n_in)) for k in range(n_layers)]
        self.U = [np.ones((n_hidden, n_hidden)) for k in range(n_layers)]

    def forward(self, x: Any) -> Any:
        self.tape, xs = [], [*x]
        for W, U in zip(self.W, self.U, strict=True):
            hs = [np.zeros((len(xs[0]), len(U)), x.dtype)]
            for step in xs:
                hs.append(np.tanh(step @ W.T + hs[-1] @ U.T))
            self.tape.append((xs, hs))
            xs = hs[1:]
        return xs

    def backward(self, d: Any) -> Any:
        self.dW, self.dU = [0 * W for W in self.W], [0 * U for U in self.U]
        for k in reversed(range(len(self.W))):
            (xs, hs), dh, below = self.tape[k], 0, list[Any]()
            for t in reversed(range(len(xs))):
                da = (d[t] + dh) * (1 - hs[t + 1] ** self.slope)
                self.dW[k], self.dU[k] = self.dW[k] + da.T @ xs[t], self.dU[k] + da.T @ hs[t]
                below.insert(0, da @ self.W[k])
                dh = da @ self.U[k]
            d = below
        return d


@pytest.mark.parametrize(
    ("right", "losses", "lacking", "fields"),
    [
        (Steps, {"output", "h_n", "both"}, set(), {}),
        (InTuple, {"output"}, set(), {}),
        (OfStack, {"output", "h_n", "both"}, set(), {}),
        (FromNothing, {"output", "h_n", "both"}, set(), {}),
        (OfLastStep, {"h_n"}, set(), {}),
        (OfBoth, {"output", "h_n", "both"}, set(), {}),
        (OfInputs, {"output", "h_n", "both"}, {"x.grad", "hx.grad"}, {}),
        (OfOneSequence, {"output", "h_n", "both"}, set(), {}),
        (LSTMSteps, {"output", "h_n", "both"}, set(), {"cell": "LSTM"}),
        (TwoWays, {"output"}, {"h_n"}, {"bias": False, "hx": False, "bidirectional": True}),
        (Deep, {"output"}, {"h_n"}, {"bias": False, "hx": False, "num_layers": 3}),
    ],
)
def test_runs_tell_which_gradients_it_takes(right: Any, losses: set[str], lacking: set[str], fields: Any) -> None:
    wrong = type(f"{right.__name__}Wrong", (right,), {"slope": 4})
    subject, other = as_subject(right), as_subject(wrong)

    assert {*scope_of(subject).loss} == {None, *losses}
    for loss in losses:
        case = draw(PLAIN.replace(loss=loss, **{"hx": True, **fields}), "normal", 1)
        assert check_agreement(subject, case).verdict is Verdict.AGREES, loss
        assert {*subject.run(case).not_returned} == lacking
        assert check_agreement(other, case).verdict is Verdict.DISAGREES, loss


class Stack:
    """A class of several layers that goes back through one."""

    def __init__(self, layer_sizes: list[int]) -> None:
        pairs = list(pairwise(layer_sizes))
        self.layers = [{"W": np.ones((a, b)), "U": np.ones((b, b))} for a, b in pairs]
        self.grads = [{"W": np.zeros((a, b)), "U": np.zeros((b, b))} for a, b in pairs]

    def forward(self, xs: Any) -> Any:
        self.given, self.states = [], []
        for layer in self.layers:
            h, out = np.zeros((xs.shape[1], len(layer["U"]))), []
            for x in xs:
                h = np.tanh(x @ layer["W"] + h @ layer["U"])
                out.append(h)
            self.given.append(xs)
            xs = np.stack(out)
            self.states.append(xs)
        return xs

    def backward(self, d: Any) -> Any:
        for layer, xs, hs, grads in zip(
            self.layers[::-1], self.given[::-1], self.states[::-1], self.grads[::-1], strict=True
        ):
            carried, dxs, before = 0, np.zeros_like(xs), np.concatenate([hs[:1] * 0, hs[:-1]])
            grads["W"], grads["U"] = grads["W"] * 0, grads["U"] * 0
            for t in reversed(range(len(xs))):
                da = (d[t] + carried) * (1 - hs[t] ** 2)
                grads["W"] = grads["W"] + xs[t].T @ da
                grads["U"] = grads["U"] + before[t].T @ da
                dxs[t], carried = da @ layer["W"].T, da @ layer["U"].T
            d = dxs
        return d


def test_a_way_back_is_read_of_so_many_layers() -> None:
    subject, plain = as_subject(Stack), PLAIN.replace(bias=False)
    two = check_agreement(subject, draw(plain.replace(num_layers=2), "normal", 1))

    assert check_agreement(subject, draw(plain, "normal", 1)).verdict is Verdict.AGREES
    assert check_agreement(subject, draw(plain.replace(num_layers=2, loss=None), "normal", 1)).verdict is Verdict.AGREES
    assert two.verdict is Verdict.AGREES


class TopFirst(Stack):
    """A stack that holds the gradients of its last layer first, which no name says."""

    def backward(self, d: Any) -> Any:
        d = super().backward(d)
        self.grads = self.grads[::-1]
        return d


def test_where_the_layers_of_gradients_are_in_another_order_they_are_not_compared() -> None:
    case, subject = draw(PLAIN.replace(bias=False, num_layers=2), "normal", 1), as_subject(TopFirst)

    assert check_agreement(subject, case).verdict is Verdict.AGREES
    assert {*subject.run(case).not_returned} - {"h_n"} == {"weight_hh_l0.grad", "weight_hh_l1.grad"}


class Unclear(Layer):
    def backward(self, dhs: Any, step: int) -> Any:  # type: ignore[override]
        return dhs * step


class Loaded:
    """A stack that takes the weights of torch's by their names, in NumPy's dtype, and returns tuples in tuples."""

    bias: tuple[str, ...] = ("bias_ih", "bias_hh")
    kept = 1.0

    def __init__(self, n_in: int, n_hidden: int, n_layers: int = 2, dtype: Any = np.float64) -> None:
        np.dtype(dtype)  # which is none of torch's
        sizes = [n_in, *[n_hidden] * n_layers]
        self.params = {f"W{k}": np.ones((a + b, b), dtype) for k, (a, b) in enumerate(pairwise(sizes))}
        self.params |= {f"b{k}": np.ones(n_hidden, dtype) for k in range(n_layers)}
        self.grads: dict[str, Any] = {}

    def load_params(self, sd: Any) -> None:
        for k in range(len(self.params) // 2):
            self.params[f"W{k}"] = np.vstack([sd[f"weight_ih_l{k}"].T, sd[f"weight_hh_l{k}"].T])
            self.params[f"b{k}"] = sum(sd[f"{name}_l{k}"] for name in self.bias)

    def forward(self, x: Any, state: Any = None) -> Any:
        number = len(self.params) // 2
        h0 = np.zeros((number, len(x), len(self.params["b0"])), x.dtype) if state is None else state
        self.saved: list[Any] = []
        for k in range(number):
            self.saved.append((x, hs := [h0[k]]))
            for t in range(x.shape[1]):
                sums = np.hstack([x[:, t], hs[-1]]) @ self.params[f"W{k}"] + self.params[f"b{k}"]
                hs.append(np.tanh(sums))
            x = np.stack(hs[1:], 1)
        return x, np.stack([hs[-1] for _, hs in self.saved])

    def backward(self, dy: Any) -> Any:
        dh0: Any = []
        for k in reversed(range(len(self.saved))):
            (x, hs), W = self.saved[k], self.params[f"W{k}"]
            dW, db, dx = np.zeros_like(W), np.zeros(len(hs[0][0]), W.dtype), np.zeros_like(x)
            dh: Any = 0
            for t in reversed(range(x.shape[1])):
                da = (dy[:, t] + dh) * (1 - hs[t + 1] ** 2)
                dW, db = dW + np.hstack([x[:, t], hs[t]]).T @ da, self.kept * db + da.sum(0)
                dx[:, t], dh = np.split(da @ W.T, [x.shape[2]], 1)
            self.grads[f"W{k}"], self.grads[f"b{k}"], dy = dW, db, dx
            dh0.insert(0, dh)
        dh0 = np.stack(dh0)
        return dy, (dh0,)


class LoadedWithoutOneBias(Loaded):
    bias = ("bias_ih",)


class LoadedForgetful(Loaded):
    kept = 0.0


@pytest.mark.parametrize("num_layers", [1, 2])
def test_its_own_loader_is_given_the_weights_and_its_gradients_lead_back_through_it(num_layers: int) -> None:
    right, loader, back = (as_subject(layer) for layer in (Loaded, LoadedWithoutOneBias, LoadedForgetful))
    config = PLAIN.replace(num_layers=num_layers, hx=True, batch_first=True)

    def verdict(subject: Any, **fields: Any) -> Verdict:
        return check_agreement(subject, draw(config.replace(**fields), "normal", 1)).verdict

    assert "load_params is given the weights; gradients are those of its backward" in right.capabilities.read_as
    assert (verdict(right), verdict(loader), verdict(back)) == (Verdict.AGREES, Verdict.DISAGREES, Verdict.DISAGREES)
    assert (verdict(loader, loss=None), verdict(back, loss=None)) == (Verdict.DISAGREES, Verdict.AGREES)
    gradients = loader.run(draw(config, "normal", 1)).arrays
    assert gradients["bias_ih_l0.grad"].any()
    assert not gradients["bias_hh_l0.grad"].any()  # of which the loader takes nothing


class LoadedInOrder(Loaded):
    """A right stack whose loader takes three arrays a layer in their order, whatever their names are."""

    def load_params(self, sd: Any) -> None:
        values, layers = [*sd.values()], len(self.params) // 2
        for k in range(layers):
            ih, hh, bias, *_ = values[k * len(values) // layers :]
            self.params |= {f"W{k}": np.vstack([ih.T, hh.T]), f"b{k}": bias}


class LoadedByOwnNames(Loaded):
    """A right stack whose loader takes arrays by names of its own, and zeros for what is not there."""

    def load_params(self, sd: Any) -> None:
        self.params = {name: sd.get(name, 0 * one) for name, one in self.params.items()}


class LoadedNegative(Loaded):
    """A right stack that keeps its biases with the other sign."""

    def load_params(self, sd: Any) -> None:
        super().load_params(sd)
        self.params = {name: -one if name.startswith("b") else one for name, one in self.params.items()}

    def forward(self, x: Any, state: Any = None) -> Any:
        held = self.params
        self.params = {name: -one if name.startswith("b") else one for name, one in held.items()}
        returned = super().forward(x, state)
        self.params = held
        return returned

    def backward(self, dy: Any) -> Any:
        returned = super().backward(dy)
        self.grads = {name: -one if name.startswith("b") else one for name, one in self.grads.items()}
        return returned


class LoadedNarrow(Loaded):
    def load_params(self, sd: Any) -> None:
        super().load_params({name: np.asarray(one, np.float32) for name, one in sd.items()})


class LoadedAnew(Loaded):
    """A right stack whose loader returns another object."""

    def load_params(self, sd: Any) -> Any:
        made = LoadedAnew(len(sd["weight_ih_l0"][0]), len(sd["weight_hh_l0"]), len(self.params) // 2)
        Loaded.load_params(made, sd)
        return made


@pytest.mark.parametrize("layer", [LoadedInOrder, LoadedByOwnNames, LoadedNegative, LoadedNarrow, LoadedAnew])
def test_a_loader_that_does_something_else_accuses_nobody(layer: Any) -> None:
    subject = as_subject(layer)
    dtype = "float32" if layer is LoadedNarrow else "float64"
    used = layer in {LoadedNegative, LoadedNarrow, LoadedAnew}
    config = PLAIN.replace(num_layers=2, hx=True, batch_first=True, dtype=dtype)

    assert ("load_params is given" in subject.capabilities.read_as) == used
    assert check_agreement(subject, draw(config, "normal", 1)).verdict is Verdict.AGREES
    assert (dtype == "float64") == ("float64" in scope_of(subject).dtype)


class OfBothForgetful(OfBoth):
    """A class that takes the gradient of the last state, and does nothing with it."""

    def backward(self, dhs: Any, dh_n: Any) -> Any:  # type: ignore[override]
        return super().backward(dhs)


class Decaying(Steps):
    """A class with the gradient of a term of its own, which no gradient of nn.RNN's has."""

    def backward(self, dhs: Any) -> Any:
        returned = super().backward(dhs)
        self.dWh = self.dWh + 0.1 * self.Wh
        return returned


@pytest.mark.parametrize(
    ("layer", "losses", "why"),
    [
        (Unclear, set(), "its backward(dhs, step) is not read"),
        (TopFirst, {"output"}, "gradients by layers.0.U: names and shapes do not tell"),
        (OfBothForgetful, {"output"}, "dh_n of backward: no gradient of a final state has an effect"),
        (Decaying, {"output", "h_n", "both"}, "gradients by Wh: what backward gives is not linear"),
    ],
)
def test_what_of_a_way_back_is_not_compared_is_said(layer: Any, losses: set[str], why: str) -> None:
    subject = as_subject(layer)

    assert {*scope_of(subject).loss} == {None, *losses}
    assert why in subject.capabilities.not_compared["loss"]


class Updates(Layer):
    """A class that changes its weights on the way back, by gradients that it does not keep."""

    def backward(self, dhs: Any, lr: float = 0.01) -> Any:
        dxs = super().backward(dhs)
        for name, gradient in self.grads.items():
            self.params[name] = self.params[name] - lr * gradient
        self.grads = {}
        return dxs


class OfTargets(Layer):
    """A class whose way back takes targets."""

    def backward(self, targets: Any) -> Any:
        return super().backward(np.stack(self.hs[1:]) - targets)


class Leftover(Layer):
    """A class that keeps something of the shape of a state, which is no gradient by the first."""

    def backward(self, dhs: Any) -> Any:
        self.delta = dhs[0] * 1.0
        return super().backward(dhs)


class Named:
    """A class that returns gradients of one shape in an order of its own, with their names."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        self.W, self.U = np.ones((n_in, n_hidden)), np.ones((n_hidden, n_hidden))
        self.b_w, self.b_u = np.zeros(n_hidden), np.zeros(n_hidden)

    def forward(self, xs: Any, h: Any) -> Any:
        self.xs, self.hs = xs, [h]
        for x in xs:
            self.hs.append(np.tanh(x @ self.W + self.hs[-1] @ self.U + self.b_w + self.b_u))
        return np.stack(self.hs[1:])

    def backward(self, dhs: Any) -> Any:
        dxs, dh, dU, dW, db_u, db_w = np.zeros_like(self.xs), 0, 0, 0, 0, 0
        for t in reversed(range(len(self.xs))):
            da = (dhs[t] + dh) * (1 - self.hs[t + 1] ** 2)
            dxs[t], dh = da @ self.W.T, da @ self.U.T
            dU, dW = dU + self.hs[t].T @ da, dW + self.xs[t].T @ da
            db_u, db_w = db_u + da.sum(0), db_w + da.sum(0)
        return dh, db_u, db_w, dU, dW, dxs


@pytest.mark.parametrize(
    ("layer", "given"), [(Updates, {"wrt": "inputs"}), (OfTargets, None), (Leftover, {}), (Named, {"hx": True})]
)
def test_what_is_no_gradient_is_not_taken_for_one(layer: Any, given: Any) -> None:
    subject = as_subject(layer)

    if given is None:
        assert {*scope_of(subject).loss} == {None}
    else:
        assert check_agreement(subject, draw(PLAIN.replace(**given), "normal", 1)).verdict is Verdict.AGREES
    for fields in ({"hx": True}, {"hx": False}, {"wrt": "weights"}, {"wrt": "inputs"}, {"loss": None}):
        result = check_agreement(subject, draw(PLAIN.replace(**fields), "normal", 1))
        assert result.verdict in {Verdict.AGREES, Verdict.UNSUPPORTED}, fields


def test_a_function_without_a_module_has_none_beside_it() -> None:
    made: dict[str, Any] = {}
    exec(FUNCTIONS, made)  # noqa: S102
    made["rnn_forward"].__module__ = None

    assert {*scope_of(as_subject(made["rnn_forward"])).loss} == {None}


class OfDicts:
    """A stack of layers with their parameters and gradients in dicts, which takes and returns lists of states."""

    right = True

    def __init__(self, n_in: int, n_hidden: int, depth: int = 1) -> None:
        sizes = [n_in, *[n_hidden] * (depth - 1)]
        self.n_hidden = n_hidden
        self.cells = [
            SimpleNamespace(params={"U": zeros(size, n_hidden), "V": zeros(n_hidden, n_hidden)}) for size in sizes
        ]

    def forward(self, x: Any, states: Any = None) -> Any:
        states = [np.zeros((x.shape[1], self.n_hidden), x.dtype)] * len(self.cells) if states is None else states
        ends, self.tape = [], []
        for cell, h in zip(self.cells, states, strict=True):
            hs = [h]
            for step in x:
                hs.append(np.tanh(step @ cell.params["U"] + hs[-1] @ cell.params["V"]))
            self.tape.append((cell.params, x, hs))
            x = np.stack(hs[1:])
            ends.append(hs[-1])
        return x, ends

    def backward(self, dy: Any) -> Any:
        of_first: list[Any] = []
        grads: list[Any] = []
        for params, x, hs in self.tape[::-1]:
            of = {name: np.zeros_like(one) for name, one in params.items()}
            dx, dh = np.zeros_like(x), np.zeros_like(hs[0])
            for t in reversed(range(len(x))):
                da = (dy[t] + dh) * (1 - hs[t + 1] ** 2)
                of["U"] += x[t].T @ da
                of["V"] += hs[t if self.right else max(t - 1, 0)].T @ da
                dx[t], dh = da @ params["U"].T, da @ params["V"].T
            dy = dx
            of_first.insert(0, dh)
            grads.insert(0, of)
        return dy, of_first, grads


class OfDictsLate(OfDicts):
    right = False


def zeros(*shape: int) -> Any:
    return np.zeros(shape)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("hx", [False, True])
def test_gradients_may_be_in_dicts_of_each_layer_and_those_of_states_in_a_list(layers: int, hx: bool) -> None:
    fields: dict[str, Any] = {"bias": False, "num_layers": layers, "hx": hx, "loss": "output"}
    case = draw(PLAIN.replace(**fields), "normal", 1)

    assert check_agreement(as_subject(OfDicts), case).verdict is Verdict.AGREES
    assert check_agreement(as_subject(OfDictsLate), case).verdict is Verdict.DISAGREES
