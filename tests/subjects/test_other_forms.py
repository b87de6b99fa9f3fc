"""Tests of classes and functions with other axes, arguments and arrays than nn.RNN's: each right, and each wrong."""

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness import RNNConfig, Verdict, as_subject, check, draw
from harness.checks.agreement import check_agreement
from harness.subjects.protocol import SubjectUnavailable, scope_of

PLAIN = RNNConfig(4, 3, T=4, N=2, dtype="float64")
W = Any


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def softmax(a: Any) -> Any:
    e = np.exp(a - a.max(axis=0, keepdims=True))
    return e / e.sum(axis=0, keepdims=True)


# Arrays (input_size, N, T) and columns, weights in a dict with those of an output layer.


def features_first(x: W, a0: W, parameters: W, *, stuck: bool = False) -> W:
    _, m, steps = x.shape
    n_y, n_a = parameters["Wya"].shape
    states, outputs, a = np.zeros((n_a, m, steps)), np.zeros((n_y, m, steps)), a0
    for t in range(steps):
        a = np.tanh(parameters["Waa"] @ (a0 if stuck else a) + parameters["Wax"] @ x[:, :, t] + parameters["ba"])
        states[:, :, t], outputs[:, :, t] = a, softmax(parameters["Wya"] @ a + parameters["by"])
    return states, outputs


def features_first_stuck(x: W, a0: W, parameters: W) -> W:
    return features_first(x, a0, parameters, stuck=True)


# An LSTM that is given h0 alone, and starts c from zeros; h is the first and x the second part of its columns.


def from_zeros(x: W, h0: W, parameters: W, *, squashed: bool = False) -> W:
    (_, m, steps), n = x.shape, h0.shape[0]
    hs, cs, h, c = np.zeros((n, m, steps)), np.zeros((n, m, steps)), h0, np.zeros((n, m))
    for t in range(steps):
        both = np.concatenate([h, x[:, :, t]])
        f, i, o = (sigmoid(parameters[f"W{gate}"] @ both + parameters[f"b{gate}"]) for gate in "fio")
        c = f * c + i * np.tanh(parameters["Wc"] @ both + parameters["bc"])
        h = o * (c if squashed else np.tanh(c))
        hs[:, :, t], cs[:, :, t] = h, c
    return hs, cs


def from_zeros_wrong(x: W, h0: W, parameters: W) -> W:
    return from_zeros(x, h0, parameters, squashed=True)


def batch_first_from_zeros(x: W, h0: W, Wx: W, Wh: W, b: W, *, added: float = 0.0) -> W:
    H, h, c, hs = h0.shape[1], h0, np.zeros_like(h0), []
    for t in range(x.shape[1]):
        i, f, o, g = np.split(x[:, t] @ Wx + h @ Wh + b, [H, 2 * H, 3 * H], axis=1)
        c = sigmoid(f + added) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        hs.append(h)
    return np.stack(hs, axis=1), {"steps": len(hs)}


def batch_first_from_zeros_wrong(x: W, h0: W, Wx: W, Wh: W, b: W) -> W:
    return batch_first_from_zeros(x, h0, Wx, Wh, b, added=1.0)


class Channels(nn.Module):
    """A class that reads (N, input_size, T), as a convolution does."""

    first = 0

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.i, self.h = hidden, nn.Linear(channels, hidden), nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        out = []
        for t in range(x.shape[2]):
            h = torch.tanh(self.i(x[:, :, max(t, self.first)]) + self.h(h))
            out.append(h)
        return torch.stack(out, 2), h


class ChannelsLate(Channels):
    first = 1


class OfSoManySteps(nn.Module):
    """A class that is made for a number of steps."""

    share = 1.0

    def __init__(self, seq_length: int, input_dim: int, num_hidden: int, num_classes: int, batch_size: int) -> None:
        super().__init__()
        self.steps, self.batch, self.num_hidden = seq_length, batch_size, num_hidden
        self.cell = nn.RNNCell(input_dim, num_hidden)
        self.head = nn.Linear(num_hidden, num_classes)

    def forward(self, x: Tensor) -> Any:
        h, out = x.new_zeros(self.batch, self.num_hidden), []
        for t in range(self.steps):
            h = self.share * self.cell(x[:, t], h)
            out.append(h)
        return self.head(h), torch.stack(out, 1)


class OfSoManyStepsLess(OfSoManySteps):
    share = 0.9


class OfSoManyStepsMixed(OfSoManySteps):
    """A class that reshapes x where it should exchange its axes."""

    def forward(self, x: Tensor) -> Any:
        _, output = super().forward(x.reshape(self.steps, self.batch, -1).transpose(0, 1))
        return output


class OfLengths(OfSoManySteps):
    """A class whose length is a size."""

    def __init__(self, embedding_length: int, hidden_length: int) -> None:
        super().__init__(0, embedding_length, hidden_length, 11, 0)

    def forward(self, x: Tensor) -> Any:
        self.steps, self.batch = x.shape[1], x.shape[0]
        return super().forward(x)


class OfLengthsLess(OfLengths):
    share = 0.9


class OfSizes(nn.Module):
    """A class of a list of sizes."""

    above = 0

    def __init__(self, input_size: int, hidden_sizes: list[int]) -> None:
        super().__init__()
        sizes = [input_size, *hidden_sizes]
        self.cells = nn.ModuleList([nn.RNNCell(a, b) for a, b in zip(sizes, hidden_sizes, strict=False)])

    def forward(self, x: Tensor, states: list[Tensor]) -> Any:
        states, out = [*states], []
        for step in x:
            for k, cell in enumerate(self.cells):
                states[k] = cell(states[k - 1] if k else step, states[k - self.above * (k > 0)])
            out.append(states[-1])
        return torch.stack(out), states


class OfSizesMixed(OfSizes):
    above = 1


class OfLayerSizes:
    """A class of a list of sizes, the input's first, with relu alone, whose zeros are float64."""

    share = 1.0

    def __init__(self, layer_sizes: list[int]) -> None:
        self.layers = [
            {"W": np.ones((a, b)), "R": np.ones((b, b)), "b": np.zeros((1, b))} for a, b in pairwise(layer_sizes)
        ]

    def run(self, X: Any, states: Any = None) -> Any:
        states = [np.zeros((X.shape[1], len(one["R"]))) for one in self.layers] if states is None else [*states]
        out = []
        for x in X:
            for k, of in enumerate(self.layers):
                s = x @ of["W"] + self.share * states[k] @ of["R"] + of["b"]
                x = states[k] = s * (s > 0)
            out.append(x)
        return np.array(out), states


class OfLayerSizesLess(OfLayerSizes):
    share = 0.9


class BothBiases(nn.Module):
    """A GRU with both biases in one array, its rows in the order z, r, n."""

    other = 1

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.n, shapes = n_hidden, {"kernel": n_in, "recurrent": n_hidden, "bias": 2}
        for name, rows in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(rows, 3 * n_hidden)))

    def forward(self, x: Tensor, h: Tensor) -> Any:
        kernel, recurrent, bias = self.parameters()
        out = []
        for step in x:
            a, b = (of.chunk(3, -1) for of in (step @ kernel + bias[0], h @ recurrent + bias[self.other]))
            z, r = (torch.sigmoid(a[k] + b[k]) for k in (0, 1))
            h = z * h + (1 - z) * torch.tanh(a[2] + r * b[2])
            out.append(h)
        return torch.stack(out), h


class BothBiasesOneTwice(BothBiases):
    other = 0


class ByACall:
    """A class that makes its arrays in its first call, the recurrent one of the shape of the other if I is H."""

    every = True

    def __init__(self, units: int) -> None:
        self.units = units

    def __call__(self, x: Any, h: Any = None) -> Any:
        if not hasattr(self, "kernel"):
            self.kernel = np.ones((x.shape[-1], self.units))
            self.recurrent_kernel, self.bias = np.ones((self.units, self.units)), np.ones(self.units)
        h = np.zeros((x.shape[0], self.units)) if h is None else h
        for t in range(x.shape[1]):
            h = np.tanh(x[:, t] @ self.kernel + h @ self.recurrent_kernel + (self.bias if t or self.every else 0))
        return h


class ByACallLate(ByACall):
    every = False


class TwoLayers(nn.Module):
    """A stack of two layers with two directions, always."""

    turned = False

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, n_hidden, 2, bidirectional=True)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return self.gru(x, h.flip(0) if self.turned else h)


class TwoLayersTurned(TwoLayers):
    turned = True


class OfManySizes(OfSizes):
    """A class that takes its sizes one by one."""

    def __init__(self, *dims: int, p: float = 0.0) -> None:
        super().__init__(dims[0], [*dims[1:]])


class OfManySizesMixed(OfManySizes):
    above = 1


class Memory(nn.Module):
    """A class whose states are (N, layers, H); states (layers, N, H) would fit by broadcasting."""

    own = True

    def __init__(self, n_in: int, n_h: int, depth: int) -> None:
        super().__init__()
        self.depth, self.n_h = depth, n_h
        self.i = nn.ModuleList([nn.Linear(n_h if k else n_in, n_h) for k in range(depth)])
        self.h = nn.ModuleList([nn.Linear(n_h, n_h, bias=False) for _ in range(depth)])

    def forward(self, x: Tensor, memory: Any = None) -> Any:
        memory = x.new_zeros(x.shape[0], self.depth, self.n_h) if memory is None else memory
        finals = []
        for of_x, of_h, first in zip(self.i, self.h, memory.unbind(1), strict=False):
            h, out = first if self.own else first[:1], []
            for t in range(x.shape[1]):
                h = torch.tanh(of_x(x[:, t]) + of_h(h))
                out.append(h)
            x = torch.stack(out, 1)
            finals.append(h)
        return {"out": x, "memory": torch.stack(finals, 1)}


class MemoryKept(Memory):
    def forward(self, x: Tensor, memory: Any = None) -> Any:
        return super().forward(x, memory)["out"]


class MemoryKeptOfTheFirst(MemoryKept):
    own = False


class MemoryOfTheFirst(Memory):
    own = False


class OfConfig(nn.Module):
    """A class of an object with sizes and the name of a nonlinearity."""

    share = 1.0

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.act = {"tanh": torch.tanh, "relu": torch.relu}[config.activation]
        self.proj, self.recur = nn.Linear(config.n_feats, config.d_model), nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor) -> Any:
        h, out = x.new_zeros(x.shape[1], self.recur.in_features), []
        for step in x:
            h = self.act(self.proj(step) + self.share * self.recur(h))
            out.append(h)
        return torch.stack(out), h


class OfConfigLess(OfConfig):
    share = 0.9


def matrix_of_steps(net: W, X: W, Ai: W = None, *, share: float = 1.0) -> W:
    """Simulate one sequence (input_size, T), with weights in a dict under any name, and an output layer."""
    T = X.shape[1]
    states, outputs = np.zeros((len(net["LW"]), T)), np.zeros((len(net["OW"]), T))
    a = np.zeros((len(net["LW"]), 1)) if Ai is None else Ai
    for t in range(T):
        a = np.tanh(net["IW"] @ X[:, [t]] + share * net["LW"] @ a + net["b1"])
        states[:, [t]], outputs[:, [t]] = a, net["OW"] @ a + net["b2"]
    return outputs, a, states


def matrix_of_steps_less(net: W, X: W, Ai: W = None) -> W:
    return matrix_of_steps(net, X, Ai, share=0.9)


class WordsOfBiases(nn.Module):
    """A GRU whose second bias of n is called by a word."""

    inp: Any
    rec: Any
    bias: Any
    inside = True

    def __init__(self, n_in: int, n_h: int) -> None:
        super().__init__()
        self.new_bias = nn.Parameter(torch.zeros(n_h))
        for name, shape in (("inp", (n_in, n_h)), ("rec", (n_h, n_h)), ("bias", (n_h,))):
            setattr(self, name, nn.ParameterDict({gate: nn.Parameter(torch.zeros(shape)) for gate in "run"}))

    def forward(self, x: Tensor, h: Tensor) -> Any:
        out = []
        for step in x:
            r, u, n = (step @ self.inp[gate] + self.bias[gate] for gate in "run")
            r, u = torch.sigmoid(r + h @ self.rec["r"]), torch.sigmoid(u + h @ self.rec["u"])
            inner = r * (h @ self.rec["n"] + self.new_bias) if self.inside else r * (h @ self.rec["n"]) + self.new_bias
            h = (1 - u) * torch.tanh(n + inner) + u * h
            out.append(h)
        return torch.stack(out), h


class WordsOfBiasesOutside(WordsOfBiases):
    inside = False


class Caffe:
    """A class with a method in capitals, a list of other numbers for each step, and a default state of one sequence."""

    share = 1.0

    def __init__(self, n_in: int, n_h: int) -> None:
        self.W, self.b = np.ones((n_h, n_h + n_in)), np.ones((n_h, 1))
        self.V = np.ones((7, n_h))

    def Forward(self, bottom: Any, h: Any = None) -> Any:  # noqa: N802 - others call it so
        h, tops = np.zeros((len(self.W), 1)) if h is None else h, []
        for column in bottom:
            h = np.tanh(self.W @ np.concatenate([self.share * h, column]) + self.b)
            tops.append(self.V @ h)
        return tops, h


class CaffeLess(Caffe):
    share = 0.9


@pytest.mark.parametrize(
    ("right", "wrong", "fields"),
    [
        (OfManySizes, OfManySizesMixed, {"num_layers": 2}),
        (Memory, MemoryOfTheFirst, {"num_layers": 2, "batch_first": True}),
        (MemoryKept, MemoryKeptOfTheFirst, {"num_layers": 2, "batch_first": True}),
        (Memory, MemoryOfTheFirst, {"num_layers": 2, "batch_first": True, "loss": "both"}),
        (OfConfig, OfConfigLess, {"hx": False}),
        (OfConfig, OfConfigLess, {"hx": False, "nonlinearity": "relu"}),
        (matrix_of_steps, matrix_of_steps_less, {"hx": False}),
        (WordsOfBiases, WordsOfBiasesOutside, {"cell": "GRU"}),
        (Caffe, CaffeLess, {}),
        (Caffe, CaffeLess, {"T": 2}),
        (features_first, features_first_stuck, {}),
        (from_zeros, from_zeros_wrong, {"cell": "LSTM", "hx": False}),
        (batch_first_from_zeros, batch_first_from_zeros_wrong, {"cell": "LSTM", "hx": False, "batch_first": True}),
        (Channels, ChannelsLate, {}),
        (Channels, ChannelsLate, {"loss": "both"}),
        (OfSoManySteps, OfSoManyStepsLess, {"hx": False, "batch_first": True}),
        (OfSoManySteps, OfSoManyStepsMixed, {"hx": False, "batch_first": True}),
        (OfLengths, OfLengthsLess, {"hx": False, "batch_first": True}),
        (OfSizes, OfSizesMixed, {"num_layers": 2}),
        (OfLayerSizes, OfLayerSizesLess, {"num_layers": 2, "nonlinearity": "relu"}),
        (BothBiases, BothBiasesOneTwice, {"cell": "GRU"}),
        (BothBiases, BothBiasesOneTwice, {"cell": "GRU", "loss": "output"}),
        (ByACall, ByACallLate, {"batch_first": True}),
        (ByACall, ByACallLate, {"batch_first": True, "input_size": 3}),
        (TwoLayers, TwoLayersTurned, {"cell": "GRU", "num_layers": 2, "bidirectional": True}),
    ],
)
def test_what_is_right_agrees_and_what_is_wrong_does_not(right: Any, wrong: Any, fields: dict[str, Any]) -> None:
    case = draw(PLAIN.replace(**{"hx": True, **fields}), "normal", 1)

    assert check_agreement(as_subject(right), case).verdict is Verdict.AGREES
    assert check_agreement(as_subject(wrong), case).verdict is Verdict.DISAGREES


# How a class may hold states (layers, directions, N, H): how it is read from that, and how it is put back.
APART: dict[str, tuple[Any, Any]] = {
    "(layers, directions, N, H)": (lambda s: s, lambda s: s),
    "(layers, N, directions, H)": (lambda s: s.transpose(1, 2), lambda s: s.transpose(1, 2)),
    "(N, layers, directions, H)": (lambda s: s.permute(1, 2, 0, 3), lambda s: s.permute(2, 0, 1, 3)),
    "(layers, N, directions * H)": (
        lambda s: torch.stack(s.chunk(2, -1), 1),
        lambda s: torch.cat([s[:, 0], s[:, 1]], -1),
    ),
    "(N, layers, directions * H)": (
        lambda s: torch.stack(s.transpose(0, 1).chunk(2, -1), 1),
        lambda s: torch.cat([s[:, 0], s[:, 1]], -1).transpose(0, 1),
    ),
}


def both_ways(taken: str, returned: str, *, same: bool = False) -> type[nn.Module]:
    """Return a class of two directions whose states have some axes; with ``same``, both start from the first one's."""

    class BothWays(nn.Module):
        def __init__(self, n_in: int, n_hidden: int, num_layers: int = 1) -> None:
            super().__init__()
            self.n_hidden = n_hidden
            sizes = [n_in, *[2 * n_hidden] * (num_layers - 1)]
            self.there = nn.ModuleList([nn.GRUCell(size, n_hidden) for size in sizes])
            self.back = nn.ModuleList([nn.GRUCell(size, n_hidden) for size in sizes])

        def forward(self, x: Tensor, h: Any = None) -> Any:
            layers, ends = len(self.there), []
            h = x.new_zeros(layers, 2, x.shape[1], self.n_hidden) if h is None else APART[taken][0](h)
            for layer in range(layers):
                tracks, last = [], []
                for d, cell in enumerate((self.there[layer], self.back[layer])):
                    state, track = h[layer, 0 if same else d], []
                    for step in x.flip(0) if d else x:
                        state = cell(step, state)
                        track.append(state)
                    tracks.append(torch.stack(track[::-1] if d else track))
                    last.append(state)
                x = torch.cat(tracks, -1)
                ends.append(torch.stack(last))
            return x, APART[returned][1](torch.stack(ends))

    return BothWays


@pytest.mark.parametrize(
    ("taken", "returned"),
    [*zip(APART, APART, strict=True), ("(layers, directions, N, H)", "(layers, N, directions * H)")],
)
def test_states_may_have_layers_and_directions_apart_or_joined(taken: str, returned: str) -> None:
    subject = as_subject(both_ways(taken, returned))

    said = subject.capabilities.read_as
    assert f"takes states {taken}; returns states {returned}" in said
    for layers, loss in ((1, None), (3, None), (2, "h_n")):
        fields = {"cell": "GRU", "num_layers": layers, "bidirectional": True, "hx": True, "loss": loss}
        case = draw(PLAIN.replace(**fields), "normal", 1)
        assert check_agreement(subject, case).verdict is Verdict.AGREES
        wrong = as_subject(both_ways(taken, returned, same=True))
        assert check_agreement(wrong, case).verdict is Verdict.DISAGREES


def of_valid_steps(how: str, *, runs_on: bool = False, hides: bool = False, needed: bool = False) -> type[nn.Module]:
    """Return a class that is told which steps count; with ``runs_on``, c goes on in the padding.

    With ``hides``, only the output is cut, and the states go on as if every step counted. It may be ``needed`` to tell.
    """

    class Told(nn.Module):
        def __init__(self, n_in: int, n_hidden: int) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(n_in, n_hidden)

        def forward(self, x: Tensor, state: Any = None, valid: Any = None) -> Any:
            h, c = (x.new_zeros(x.shape[1], self.cell.hidden_size) for _ in "hc") if state is None else state
            output = []
            for t, step in enumerate(x):
                inside = torch.ones(x.shape[1], dtype=torch.bool) if valid is None else counts(valid, t)
                new_h, new_c = self.cell(step, (h, c))
                h = torch.where(inside[:, None] | hides, new_h, h)
                c = torch.where(inside[:, None] | hides | runs_on, new_c, c)
                output.append(torch.where(inside[:, None], new_h, 0))
            return torch.stack(output), (h, c)

    def counts(valid: Any, t: int) -> Any:
        if how == "lengths":
            return t < valid
        if how == "list":
            return t < torch.tensor([*map(int, valid)])
        if how == "padding":
            assert valid.dtype is torch.bool
            return ~valid[:, t]
        if how == "ones":
            assert valid.is_floating_point()
            return valid[t, :, 0] > 0
        return valid[:, t]

    class AlwaysTold(Told):
        def forward(self, x: Tensor, valid: Any, state: Any = None) -> Any:  # type: ignore[override]
            assert valid is not None
            return super().forward(x, state, valid)

    return AlwaysTold if needed else Told


SAID = {
    "lengths": "valid is given lengths",
    "list": "valid is given a list of lengths",
    "mask": "valid is given a mask (N, T), True where a step counts",
    "padding": "valid is given a mask (N, T), True in the padding",
    "ones": "valid is given a mask (T, N, 1), 1.0 where a step counts",
}


@pytest.mark.parametrize(("how", "needed"), [*product(SAID, (False, True))])
def test_a_call_is_told_which_steps_count(how: str, *, needed: bool) -> None:
    right, wrong = (as_subject(of_valid_steps(how, runs_on=runs_on, needed=needed)) for runs_on in (False, True))

    said = SAID[how] if how != "list" else "valid is given lengths"
    assert (said.replace("is given", "is always given") if needed else said) in right.capabilities.read_as
    plain = draw(PLAIN.replace(cell="LSTM", preparation="used"), "normal", 1)
    assert check_agreement(right, plain).verdict is Verdict.AGREES
    for loss in (None, "both"):
        config = PLAIN.replace(cell="LSTM", lengths=(2, 4), loss=loss)
        case = draw(config.replace(hx=True), "normal", 1)
        assert check_agreement(right, case).verdict is Verdict.AGREES
        assert check_agreement(wrong, case).verdict is Verdict.DISAGREES


class Sorted(nn.Module):
    """A class that packs, and so takes no lengths that rise."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, n_hidden)

    def forward(self, x: Tensor, lengths: Any = None) -> Any:
        if lengths is None:
            return self.gru(x)
        output, h = self.gru(nn.utils.rnn.pack_padded_sequence(x, lengths))
        return nn.utils.rnn.pad_packed_sequence(output)[0], h


def test_lengths_that_rise_are_left_out_where_a_class_only_takes_others() -> None:
    subject = as_subject(Sorted)

    assert {*scope_of(subject).lengths} == {None, "equal", "falling"}
    for lengths in ((4, 4), (4, 1)):
        case = draw(PLAIN.replace(cell="GRU", lengths=lengths, loss="both"), "normal", 1)
        assert check_agreement(subject, case).verdict is Verdict.AGREES


@pytest.mark.parametrize("how", ["lengths", "mask"])
def test_what_only_cuts_the_output_is_never_given_but_by_the_name_of_lengths_or_a_mask(how: str) -> None:
    subject = as_subject(of_valid_steps(how, hides=True))

    assert "valid is never given" in subject.capabilities.read_as
    assert {*scope_of(subject).lengths} == {None}


class Reset(nn.Module):
    """A class with a mask of (T, N) that is none of steps that count: where it is 0, the state starts anew."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(n_in, n_hidden)

    def forward(self, x: Tensor, h: Any = None, masks: Any = None) -> Any:
        h = x.new_zeros(x.shape[1], self.cell.hidden_size) if h is None else h
        output = []
        for t, step in enumerate(x):
            h = self.cell(step, h if masks is None else h * masks[t][:, None])
            output.append(h)
        return torch.stack(output), h


def test_what_makes_no_sequence_shorter_is_never_given() -> None:
    subject = as_subject(Reset)

    assert "masks is never given" in subject.capabilities.read_as
    assert {*scope_of(subject).lengths} == {None}


class OutputAlone(nn.Module):
    """A class whose h_n is not returned, so that no state ends with its sequence."""

    both = False

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, n_hidden, bidirectional=self.both)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0])[0]


class OutputsOfBoth(OutputAlone):
    both = True


class OutputThatStays(OutputAlone):
    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        steps = torch.arange(len(x))[:, None].minimum(lengths - 1)
        return super().forward(x, lengths).gather(0, steps[..., None].expand(-1, -1, self.gru.hidden_size))


class FirstOutputs(OutputAlone):
    """Its output is right where all steps count."""

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        output = super().forward(x, lengths)
        return torch.where((lengths < len(x))[:, None], output.flip(0), output)


@pytest.mark.parametrize("given", [OutputAlone, OutputsOfBoth, OutputThatStays])
def test_lengths_show_in_an_output_alone(given: Any) -> None:
    subject = as_subject(given)

    for lengths, loss in product((None, (2, 4)), (None, "output")):
        config = PLAIN.replace(cell="GRU", bidirectional=given.both, lengths=lengths, loss=loss)
        assert check_agreement(subject, draw(config, "normal", 1)).verdict is Verdict.AGREES


def test_what_changes_the_output_otherwise_is_not_taken_for_lengths() -> None:
    with pytest.raises(SubjectUnavailable, match="lengths has no default, and neither lengths"):
        as_subject(FirstOutputs)


def rows_of(states: Tensor, layers: int, *, by_direction: bool = False) -> Tensor:
    """Return states (layers * directions, N, H) side by side, those of each layer first, or those of each direction."""
    apart = states.reshape(layers, -1, *states.shape[1:])
    turned = apart.transpose(0, 1) if by_direction else apart
    return turned.flatten(0, 1).transpose(0, 1).flatten(1)


def in_rows(
    layers: int, *, both: bool = True, by_direction: bool = False, of_step: Any = None, mean: bool = False
) -> type[nn.Module]:
    """Return an LSTM that returns h_n and c_n in rows; or, in h_n's place, a step of the output, or the mean of all."""

    class InRows(nn.Module):
        def __init__(self, n_in: int, n_hidden: int) -> None:
            super().__init__()
            self.lstm = nn.LSTM(n_in, n_hidden, layers, bidirectional=both)

        def forward(self, x: Tensor) -> Any:
            output, states = self.lstm(x)
            h, c = (rows_of(state, layers, by_direction=by_direction) for state in states)
            if of_step is not None:
                return output, output[of_step]
            return (output, output.mean(0)) if mean else (output, h, c)

    return InRows


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"layers": 1}, "layers * directions"),
        ({"layers": 2}, "layers * directions"),
        ({"layers": 2, "by_direction": True}, "directions * layers"),
        ({"layers": 2, "both": False}, "layers * directions"),
    ],
)
def test_final_states_may_be_side_by_side(form: Any, said: str) -> None:
    subject = as_subject(in_rows(**form))

    assert f"returns states (N, {said} * H)" in subject.capabilities.read_as
    plain = PLAIN.replace(cell="LSTM", num_layers=form["layers"], bidirectional=form.get("both", True))
    outcome = subject.run(draw(plain, "normal", 1))
    assert {"h_n", "c_n"} <= {*outcome.arrays}
    for loss in (None, "both"):
        assert check_agreement(subject, draw(plain.replace(loss=loss), "normal", 1)).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"of_step": -1}, "one step of it, where two directions do not end: that"),
        ({"of_step": 0}, "one step of it, where two directions do not end: that"),
        ({"mean": True}, "something that"),
    ],
)
def test_what_has_the_shape_of_states_side_by_side_is_none_by_its_numbers(form: Any, said: str) -> None:
    subject = as_subject(in_rows(1, **form))

    assert f"returns output, and {said} is not compared" in subject.capabilities.read_as
    case = draw(PLAIN.replace(cell="LSTM", bidirectional=True), "normal", 1)
    assert check_agreement(subject, case).verdict is Verdict.AGREES


class RowsOfAStack(nn.Module):
    """A class whose states are (N, H) of one layer and one direction, and else side by side."""

    def __init__(self, n_in: int, n_hidden: int, num_layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, n_hidden, num_layers, bidirectional=bidirectional)

    def forward(self, x: Tensor, h: Any = None) -> Any:
        h = None if h is None else h.unflatten(1, (-1, self.gru.hidden_size)).transpose(0, 1).contiguous()
        output, h = self.gru(x, h)
        return output, h.transpose(0, 1).flatten(1)


class LastOfAStack(RowsOfAStack):
    def __init__(self, n_in: int, n_hidden: int, bidirectional: bool = False) -> None:
        super().__init__(n_in, n_hidden, 1, bidirectional)

    def forward(self, x: Tensor, h: Any = None) -> Any:
        output, _ = super().forward(x, h)
        return output, output[-1]


def test_states_may_be_side_by_side_in_a_stack() -> None:
    subject = as_subject(RowsOfAStack)

    assert "takes states (N, layers * directions * H)" in subject.capabilities.read_as
    for layers, bidirectional in ((1, False), (2, True), (3, False), (1, True)):
        config = PLAIN.replace(cell="GRU", num_layers=layers, bidirectional=bidirectional, hx=True, loss="both")
        assert check_agreement(subject, draw(config, "normal", 1)).verdict is Verdict.AGREES
    assert {*scope_of(as_subject(LastOfAStack)).bidirectional} == {False}


class SubjectFindings(nn.Module):
    """Both directions by hand, with lengths, and the last state of each side by side."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.forth, self.back = nn.GRUCell(n_in, n_hidden), nn.GRUCell(n_in, n_hidden)

    def one_way(self, cell: Any, x: Tensor, lengths: Tensor, steps: Any) -> Any:
        h, output = x.new_zeros(x.shape[1], cell.hidden_size), {}
        for t in steps:
            h = torch.where((t < lengths)[:, None], cell(x[t], h), h)
            output[t] = h * (t < lengths)[:, None]
        return torch.stack([output[t] for t in range(len(x))]), h

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        forth, h_forth = self.one_way(self.forth, x, lengths, range(len(x)))
        back, h_back = self.one_way(self.back, x, lengths, range(len(x) - 1, -1, -1))
        return torch.cat([forth, back], 2), torch.cat([h_forth, self.end(back, h_back)], 1)

    def end(self, _output: Tensor, h: Tensor) -> Tensor:
        return h


class EndsLate(SubjectFindings):
    """Its second half is an output of the step in which the first ends, as long as all steps count."""

    def end(self, _output: Tensor, h: Tensor) -> Tensor:
        return _output[-1]


def test_lengths_tell_final_states_side_by_side_from_a_step_of_the_output() -> None:
    right, wrong = as_subject(SubjectFindings), as_subject(EndsLate)

    for lengths in (None, (2, 4)):
        case = draw(PLAIN.replace(cell="GRU", bidirectional=True, lengths=lengths, loss="both"), "normal", 1)
        assert check_agreement(right, case).verdict is Verdict.AGREES
        assert check_agreement(wrong, case).verdict is Verdict.DISAGREES


class OfAStack(nn.Module):
    """A class whose axes only differ in a stack: of one layer and one direction they are (1, 1, N, H)."""

    def __init__(self, n_in: int, n_hidden: int, num_layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, n_hidden, num_layers, bidirectional=bidirectional)
        self.shape = num_layers, 1 + bidirectional

    def forward(self, x: Tensor, h: Any = None) -> Any:
        h = None if h is None else h.transpose(0, 1).flatten(0, 1)
        output, h = self.gru(x, h)
        return output, h.unflatten(0, self.shape).transpose(0, 1)


def test_the_axes_of_states_are_those_of_a_stack() -> None:
    subject = as_subject(OfAStack)

    assert "takes states (directions, layers, N, H)" in subject.capabilities.read_as
    for layers, bidirectional in ((1, False), (2, True), (3, False), (1, True)):
        fields = {"cell": "GRU", "num_layers": layers, "bidirectional": bidirectional, "hx": True}
        assert check_agreement(subject, draw(PLAIN.replace(**fields), "normal", 1)).verdict is Verdict.AGREES


class Unlike(nn.Module):
    """A class that returns its states in a form that is unknown, and takes none."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, n_hidden, bidirectional=True)

    def forward(self, x: Tensor) -> Any:
        output, h = self.gru(x)
        return output, h[..., None]


def test_a_state_that_is_not_compared_is_said_in_the_first_line(tmp_path: Path) -> None:
    done = check(Unlike, cases=210, quiet=True, findings=str(tmp_path))

    text = str(done)
    assert "agrees with nn.GRU: one layer, two directions, from zeros, without h_n" in text
    assert "h_n: nothing that a call returns is known to be that" in text


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (features_first, "reads (input_size, N, T)"),
        (Channels, "reads (N, input_size, T)"),
        (Channels, "its states are (N, H)"),
        (batch_first_from_zeros, "reads (N, T, input_size)"),
        (OfLayerSizes, "without float32, bfloat16, float16"),
    ],
)
def test_it_is_said_how_it_was_read(given: Any, part: str) -> None:
    assert part in as_subject(given).capabilities.read_as


def test_a_state_that_may_be_left_out_by_the_signature_alone_is_offered() -> None:
    assert as_subject(Caffe).capabilities.not_compared == {"hx": "a call on x alone raises ValueError"}


def test_layers_that_there_always_are_are_what_is_asked_for() -> None:
    scope = scope_of(as_subject(TwoLayers))

    assert ({*scope.num_layers}, {*scope.bidirectional}) == ({2}, {True})


def test_layers_whose_number_is_an_argument_are_varied() -> None:
    assert {*scope_of(as_subject(OfSizes)).num_layers} > {1, 2}


class LastOfTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(10, 20, num_layers=2, batch_first=True), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.lstm(x)[0][:, -1])


class Learned(nn.Module):
    """A class with first states of its own, which are no biases."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(n_in, n_hidden))
        self.U, self.first = nn.Parameter(torch.zeros(n_hidden, n_hidden)), nn.Parameter(torch.zeros(2, n_hidden))

    def forward(self, x: Tensor) -> Any:
        h, out = self.first.sum(0).expand(x.shape[1], -1), []
        for step in x:
            h = torch.tanh(step @ self.W + h @ self.U)
            out.append(h)
        return torch.stack(out)


class Named(nn.Module):
    def __init__(self, name: str, n_in: int, n_out: int) -> None:
        super().__init__()
        self.add_module(f"{name}_i", nn.Linear(n_in, n_out))
        self.add_module(f"{name}_h", nn.Linear(n_out, n_out))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Learned, "its parameters are not those of one recurrent layer"),
        (LastOfTwo, "returns the last output alone, of 2 layers\nexpected the output of every step, or h_n"),
        (Named, "an argument names parameters: no size"),
    ],
)
def test_what_is_refused_is_refused_for_the_true_reason(given: Any, reason: str) -> None:
    with pytest.raises(SubjectUnavailable) as caught:
        as_subject(given)

    assert reason in str(caught.value)
