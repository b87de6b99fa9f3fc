"""Tests of GRUs and LSTMs with a constructor and parameters of their own: which rows are whose is told by names."""

from typing import Any

import pytest
import torch
from torch import nn

from harness import Failure, RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.space.config import PARAMETERS
from harness.space.factor_table import LOSSES
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.torch_module import TorchSubject

GRU, LSTM = (RNNConfig(4, 3, T=3, N=2, cell=cell) for cell in ("GRU", "LSTM"))


class GateByGate(nn.Module):
    """An LSTM of transposed matrices for each gate, whose output is a list of steps."""

    wrong = False

    def __init__(self, num_inputs: int, num_hiddens: int) -> None:
        super().__init__()
        self.num_hiddens = num_hiddens
        for gate in "fioc":
            setattr(self, f"W_x{gate}", nn.Parameter(torch.zeros(num_inputs, num_hiddens)))
            setattr(self, f"W_h{gate}", nn.Parameter(torch.zeros(num_hiddens, num_hiddens)))
            setattr(self, f"b_{gate}", nn.Parameter(torch.zeros(1, num_hiddens)))

    def gate(self, name: str, x: Any, h: Any) -> Any:
        return x @ getattr(self, f"W_x{name}") + h @ getattr(self, f"W_h{name}") + getattr(self, f"b_{name}")

    def forward(self, inputs: Any, state: Any = None) -> Any:
        h, c = [inputs.new_zeros(inputs.shape[1], self.num_hiddens)] * 2 if state is None else state
        steps = []
        for x in inputs:
            i, f, o = (torch.sigmoid(self.gate(name, x, h)) for name in ("fio" if self.wrong else "ifo"))
            c = f * c + i * torch.tanh(self.gate("c", x, h))
            h = o * torch.tanh(c)
            steps.append(h)
        return steps, (h, c)


class Swapped(GateByGate):
    """Its i is the gate that forgets."""

    wrong = True


class OddLetters(nn.Module):
    """An LSTM whose letters mislead: g is the output gate's, m the candidate's; in h, gates stand in another order."""

    of_x: tuple[str, ...] = ("ii", "if_", "ig", "im")
    of_h: tuple[str, ...] = ("hi", "hf", "hg", "hm")
    forgets = False

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        for name in sorted(self.of_x):
            self.add_module(name, nn.Linear(input_size, hidden_size))
        for name in sorted(self.of_h, reverse=True):
            self.add_module(name, nn.Linear(hidden_size, hidden_size))
        self.hidden_size = hidden_size

    def forward(self, x: Any, states: Any = None) -> Any:
        h, c = [x.new_zeros(x.shape[1], self.hidden_size)] * 2 if states is None else states
        steps = []
        for x_t in x:
            of_x, of_h = ([self.get_submodule(name) for name in names] for names in (self.of_x, self.of_h))
            i, f, o, g = (at_x(x_t) + at_h(h) for at_x, at_h in zip(of_x, of_h, strict=True))
            c = torch.sigmoid(f) * c * (not self.forgets) + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            steps.append(h)
        return torch.stack(steps), (h, c)


class OddNumbers(OddLetters):
    of_x, of_h = ("l3", "l1", "l4", "l2"), ("l8", "l6", "l5", "l7")


class OddBiases(OddLetters):
    """It has one bias for each gate, beside the matrices, in an order of its own."""

    of_x, of_h, of_b = ("wa", "wb", "wc", "wd"), ("ud", "uc", "ub", "ua"), ("kd", "ka", "kc", "kb")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        for name in sorted(self.of_b):
            self.register_parameter(name, nn.Parameter(torch.zeros(hidden_size)))
        for at_x, at_h, own in zip(self.of_x, self.of_h, self.of_b, strict=True):
            self.get_submodule(at_x).register_parameter("bias", None)
            self.get_submodule(at_h).register_parameter("bias", None)
            self.get_submodule(at_h).register_forward_hook(lambda _m, _x, sums, own=own: sums + getattr(self, own))


class OddLettersForgets(OddLetters):
    forgets = True


class RowsApart(OddLetters):
    """An LSTM in two matrices, in each of which the rows have an order of their own."""

    of_x, of_h = ("to_x",), ("to_h",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.to_x, self.to_h = nn.Linear(input_size, 4 * hidden_size), nn.Linear(hidden_size, 4 * hidden_size)

    def forward(self, x: Any, states: Any = None) -> Any:
        h, c = [x.new_zeros(x.shape[1], self.hidden_size)] * 2 if states is None else states
        steps = []
        for x_t in x:
            (f, i, o, g), (i_h, f_h, g_h, o_h) = self.to_x(x_t).chunk(4, 1), self.to_h(h).chunk(4, 1)
            c = torch.sigmoid(f + f_h) * c + torch.sigmoid(i + i_h) * torch.tanh(g + g_h)
            h = torch.sigmoid(o + o_h) * torch.tanh(c)
            steps.append(h)
        return torch.stack(steps), (h, c)


class GruByOddLetters(GateByGate):
    """A GRU whose z is called r, and whose r is called z."""

    def __init__(self, num_inputs: int, num_hiddens: int) -> None:
        super().__init__(num_inputs, num_hiddens)
        for gate in "fioc":
            for name in (f"W_x{gate}", f"W_h{gate}", f"b_{gate}"):
                delattr(self, name)
        for gate in "rzn":
            self.add_module(f"x{gate}", nn.Linear(num_inputs, num_hiddens))
            self.add_module(f"h{gate}", nn.Linear(num_hiddens, num_hiddens))

    def forward(self, inputs: Any, state: Any = None) -> Any:
        h = inputs.new_zeros(inputs.shape[1], self.num_hiddens) if state is None else state
        steps, parts = [], dict(self.named_children())
        for x in inputs:
            r, z = (torch.sigmoid(parts[f"x{name}"](x) + parts[f"h{name}"](h)) for name in "zr")
            h = (1 - z) * torch.tanh(parts["xn"](x) + r * parts["hn"](h)) + z * h
            steps.append(h)
        return torch.stack(steps), h


class Gates(nn.Module):
    """A step of an LSTM that takes its states by themselves, from one Linear for each gate."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.forget_gate, self.input_gate, self.candidate, self.output_gate = (
            nn.Linear(input_size + hidden_size, hidden_size) for _ in range(4)
        )

    def forward(self, x: Any, h: Any, c: Any) -> Any:
        both = torch.cat([h, x], 1)
        i, f, o = (torch.sigmoid(gate(both)) for gate in (self.input_gate, self.forget_gate, self.output_gate))
        c = f * c + i * torch.tanh(self.candidate(both))
        h = o * torch.tanh(c)
        return h, (h, c)


class TwoAndOne(nn.Module):
    """A step of a GRU with r and z in one Linear, which have one bias, and n in two."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gates = nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.x2n = nn.Linear(input_size, hidden_size)
        self.h2n = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Any, h: Any) -> Any:
        r, z = torch.sigmoid(self.gates(torch.cat([x, h], 1))).chunk(2, 1)
        n = torch.tanh(self.x2n(x) + r * self.h2n(h))
        return (1 - z) * n + z * h


class OneBias(nn.Module):
    """A GRU with one bias for each gate, where nn.GRU has b_hn inside r, and rows whose order no name tells."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x2h = nn.Linear(input_size, 3 * hidden_size)
        self.h2h = nn.Linear(hidden_size, 3 * hidden_size, bias=False)

    def forward(self, x: Any) -> Any:
        h = x.new_zeros(len(x), self.h2h.in_features)
        for t in range(x.shape[1]):
            (ir, iz, in_), (hr, hz, hn) = self.x2h(x[:, t]).chunk(3, 1), self.h2h(h).chunk(3, 1)
            r, z = torch.sigmoid(ir + hr), torch.sigmoid(iz + hz)
            h = (1 - z) * torch.tanh(in_ + r * hn) + z * h
        return h


class OneBiasAndReadout(nn.Module):
    """A step of a GRU with one bias for each gate, which returns a readout beside its state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x2h = nn.Linear(input_size, 3 * hidden_size)
        self.h2h = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.readout = nn.Linear(hidden_size, 7)

    def forward(self, x: Any, h: Any) -> Any:
        (ir, iz, in_), (hr, hz, hn) = self.x2h(x).chunk(3, 1), self.h2h(h).chunk(3, 1)
        r, z = torch.sigmoid(ir + hr), torch.sigmoid(iz + hz)
        h = (1 - z) * torch.tanh(in_ + r * hn) + z * h
        return self.readout(h), h


class UpdateFirst(nn.Module):
    """A GRU whose matrices hold the rows of z before those of r, which no name tells."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.Wx: nn.Module = nn.Linear(input_size, 3 * hidden_size)
        self.Wh = nn.Linear(hidden_size, 3 * hidden_size)

    def forward(self, x: Any, hx: Any) -> Any:
        h, steps = hx[0], []
        for x_t in x:
            (iz, ir, in_), (hz, hr, hn) = self.Wx(x_t).chunk(3, 1), self.Wh(h).chunk(3, 1)
            z = torch.sigmoid(iz + hz)
            h = (1 - z) * torch.tanh(in_ + torch.sigmoid(ir + hr) * hn) + z * h
            steps.append(h)
        return torch.stack(steps), h[None]


class InnerBiasFirst(nn.Module):
    """A GRU with two biases, the one inside r first, which no name tells."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(3 * hidden_size, input_size))
        self.U = nn.Parameter(torch.zeros(3 * hidden_size, hidden_size))
        self.b0 = nn.Parameter(torch.zeros(3 * hidden_size))
        self.b1 = nn.Parameter(torch.zeros(3 * hidden_size))

    def forward(self, x: Any, hx: Any) -> Any:
        h, steps = hx[0], []
        for x_t in x:
            (ir, iz, in_), (hr, hz, hn) = (x_t @ self.W.T + self.b1).chunk(3, 1), (h @ self.U.T + self.b0).chunk(3, 1)
            z = torch.sigmoid(iz + hz)
            h = (1 - z) * torch.tanh(in_ + torch.sigmoid(ir + hr) * hn) + z * h
            steps.append(h)
        return torch.stack(steps), h[None]


class NoTanhOfC(nn.Module):
    """An LSTM with rows whose order no name tells, whose c_n after one step is all that is right."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.Wx = nn.Linear(input_size, 4 * hidden_size)
        self.Wh = nn.Linear(hidden_size, 4 * hidden_size)

    def forward(self, x: Any, states: Any) -> Any:
        (h, c), steps = (one[0] for one in states), []
        for x_t in x:
            f, i, o, g = (self.Wx(x_t) + self.Wh(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * c
            steps.append(h)
        return torch.stack(steps), (h[None], c[None])


class ByLetter(nn.Module):
    """A step of an LSTM whose candidate has a letter of the update gate's."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.W_i, self.W_f, self.W_o, self.W_u = (nn.Linear(input_size + hidden_size, hidden_size) for _ in range(4))

    def forward(self, x: Any, h: Any, c: Any) -> Any:
        both = torch.cat([h, x], 1)
        i, f, o = (torch.sigmoid(gate(both)) for gate in (self.W_i, self.W_f, self.W_o))
        c = f * c + i * torch.tanh(self.W_u(both))
        return o * torch.tanh(c), (o * torch.tanh(c), c)


class Classifier(nn.Module):
    """An nn.LSTM behind which a Linear reads the last step."""

    def __init__(self, input_dim: int, hidden_dim: int, layer_dim: int, output_dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_dim, hidden_dim, layer_dim, batch_first=True)
        self.fc = nn.Linear(hidden_dim, output_dim)

    def forward(self, x: Any) -> Any:
        return self.fc(self.lstm(x)[0][:, -1])


class Encoder(nn.Module):
    """An nn.LSTM that returns its final states alone."""

    def __init__(self, input_dim: int, hid_dim: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_dim, hid_dim, n_layers, dropout=dropout)

    def forward(self, x: Any) -> Any:
        _, (hidden, cell) = self.rnn(x)
        return hidden, cell


class ByLayer(nn.Module):
    """Layers of cells, with states in a list of (h, c)."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        sizes = [input_size, *[hidden_size] * (num_layers - 1)]
        self.cells = nn.ModuleList(nn.LSTMCell(size, hidden_size) for size in sizes)

    def forward(self, x: Any, states: Any) -> Any:
        steps, states = [], list(states)
        for h in x:
            for layer, cell in enumerate(self.cells):
                states[layer] = cell(h, states[layer])
                h = states[layer][0]
            steps.append(h)
        return torch.stack(steps), states


class InDict(GateByGate):
    """An LSTM that takes its states as a dict, and returns no c."""

    def forward(self, inputs: Any, state: Any = None) -> Any:
        steps, (h, _) = super().forward(inputs, None if state is None else (state["h"], state["c"]))
        return steps, h


class StatesApart(GateByGate):
    def forward(self, inputs: Any, h: Any = None, c: Any = None) -> Any:
        return super().forward(inputs, None if h is None else (h, c))


class BiasOfN(nn.Module):
    """A GRU of which n alone has a second bias, beside one matrix of all gates or one of its own."""

    split = False

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x2h = nn.Linear(input_size, 3 * hidden_size)
        if self.split:
            self.h_reset, self.h_update = (nn.Linear(hidden_size, hidden_size, bias=False) for _ in range(2))
            self.h_new = nn.Linear(hidden_size, hidden_size)
        else:
            self.h2h = nn.Linear(hidden_size, 3 * hidden_size)
            self.h2h.bias = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x: Any, h: Any = None) -> Any:
        h = x.new_zeros(x.shape[1], self.x2h.out_features // 3) if h is None else h[0]
        steps = []
        for x_t in x:
            r, z, n = self.x2h(x_t).chunk(3, 1)
            if self.split:
                hr, hz, hn = self.h_reset(h), self.h_update(h), self.h_new(h)
            else:
                hr, hz, hn = (h @ self.h2h.weight.T).chunk(3, 1)
                hn = hn + self.h2h.bias
            r, z = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
            h = (1 - z) * torch.tanh(n + r * hn) + z * h
            steps.append(h)
        return torch.stack(steps), h[None]


class BiasOfNSplit(BiasOfN):
    split = True


class Own(nn.GRU):
    """An nn.GRU with a constructor of its own."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)


def _all(names: str) -> str:
    return ", ".join(f"{names.format(role)} as {role}" for role in PARAMETERS)


FOUR = "input_gate.{0}, forget_gate.{0}, candidate.{0}, output_gate.{0} (i, f, g, o)"

READ = {
    GateByGate: (
        [LSTM, LSTM.replace(loss="both", hx=True), LSTM.replace(loss="both", preparation="functional_call")],
        (
            "W_xi, W_xf, W_xc, W_xo (i, f, g, o) as weight_ih.T, W_hi, W_hf, W_hc, W_ho (i, f, g, o) as weight_hh.T, "
            "b_i, b_f, b_c, b_o (i, f, g, o) as bias_ih + bias_hh; its states are (N, H)"
        ),
    ),
    Gates: (
        [LSTM.replace(loss="both", hx=True), LSTM.replace(loss="h_n", hx=True, T=1)],
        (
            f"{FOUR.format('weight')} as weight_hh and weight_ih side by side, "
            f"{FOUR.format('bias')} as bias_ih + bias_hh; a cell: called once for each step"
        ),
    ),
    TwoAndOne: (
        [GRU.replace(loss="both", hx=True), GRU.replace(loss="output", hx=True, preparation="used")],
        (
            "gates.weight, x2n.weight (rz, n) as weight_ih, gates.weight, h2n.weight (rz, n) as weight_hh, "
            "gates.bias, x2n.bias (rz, n) as bias_ih, gates.bias, h2n.bias (rz, n) as bias_hh; "
            "rows in the order r, z, n, as runs tell; a cell: called once for each step"
        ),
    ),
    OneBias: (
        [GRU.replace(bias=False, batch_first=True, loss="h_n", preparation="used")],
        (
            "x2h.weight as weight_ih, h2h.weight as weight_hh; rows in the order r, z, n, as runs tell; "
            "x2h.bias stays zero: it cannot hold all of nn.GRU's biases; returns the last output alone; "
            "reads (N, T, input_size)"
        ),
    ),
    OneBiasAndReadout: (
        [GRU.replace(bias=False, hx=True, loss="both")],
        (
            "x2h.weight as weight_ih, h2h.weight as weight_hh; rows in the order r, z, n, as runs tell; "
            "x2h.bias stays zero: it cannot hold all of nn.GRU's biases; a cell: called once for each step; "
            "not compared: readout"
        ),
    ),
    UpdateFirst: (
        [GRU.replace(hx=True, loss="both")],
        (
            "Wx.weight as weight_ih, Wh.weight as weight_hh, Wx.bias as bias_ih, Wh.bias as bias_hh; "
            "rows in the order z, r, n, as runs tell"
        ),
    ),
    InnerBiasFirst: (
        [GRU.replace(hx=True, loss="both")],
        "W as weight_ih, U as weight_hh, b0 as bias_hh, b1 as bias_ih; rows in the order r, z, n, as runs tell",
    ),
    ByLetter: (
        [LSTM.replace(loss="both", hx=True)],
        (
            "W_i.weight, W_f.weight, W_u.weight, W_o.weight (i, f, g, o) as weight_hh and weight_ih side by side, "
            "W_i.bias, W_f.bias, W_u.bias, W_o.bias (i, f, g, o) as bias_ih + bias_hh; "
            "a cell: called once for each step"
        ),
    ),
    Classifier: (
        [LSTM.replace(batch_first=True)],
        (
            f"{_all('lstm.{}_l*')}; returns the last output alone; its output layer fc is replaced by the identity; "
            "reads (N, T, input_size)"
        ),
    ),
    Encoder: (
        [LSTM.replace(num_layers=2), LSTM.replace(loss="h_n", num_layers=2)],
        f"{_all('rnn.{}_l*')}; h_n and c_n alone are compared",
    ),
    ByLayer: (
        [LSTM.replace(num_layers=2, hx=True, loss="both")],
        f"{_all('cells.*.{}')}; its states are a list of (h, c), one for each layer",
    ),
    Own: ([GRU.replace(hx=True, loss="both")], "takes a PackedSequence"),
    BiasOfNSplit: (
        [GRU.replace(bias=False, hx=True)],
        (
            "x2h.weight as weight_ih, h_reset.weight, h_update.weight, h_new.weight (r, z, n) as weight_hh; rows in "
            "the order r, z, n, as runs tell; x2h.bias, h_new.bias stay zero: they cannot hold all of "
            "nn.GRU's biases"
        ),
    ),
}


@pytest.mark.parametrize("layer", READ)
def test_gates_are_told_by_names_and_compared(layer: Any) -> None:
    configs, read_as = READ[layer]
    subject = as_subject(layer)

    assert subject.capabilities.read_as == read_as
    for config in configs:
        assert config.loss in subject.capabilities.offers["loss"]
        result = check_agreement(subject, draw(config, "normal"))
        assert result.verdict is Verdict.AGREES, (config, result)


@pytest.mark.parametrize(
    ("layer", "hx", "loss", "words"),
    [(InDict, (False,), (None, "output"), ""), (StatesApart, (False, True), LOSSES, "its states are (N, H)")],
)
def test_a_class_is_asked_for_the_states_that_it_takes_and_returns(layer: Any, hx: Any, loss: Any, words: str) -> None:
    subject = as_subject(layer)

    assert subject.capabilities.offers["hx"] == hx
    assert tuple(dict.fromkeys(subject.capabilities.offers["loss"])) == loss
    assert subject.capabilities.read_as.endswith(words)
    assert check_agreement(subject, draw(LSTM, "normal")).verdict is Verdict.AGREES
    assert subject.run(draw(LSTM.replace(proj_size=2))).failure is Failure.UNSUPPORTED


@pytest.mark.parametrize(
    ("layer", "letters"),
    [
        (Swapped, "W_xf, W_xi, W_xc, W_xo (i, f, g, o) as weight_ih.T"),
        (Swapped, "; runs tell its gates, other ones than its names; "),
        (OddLetters, "hi.weight, hf.weight, hm.weight, hg.weight (i, f, g, o) as weight_hh"),
        (OddNumbers, "l8.bias, l6.bias, l7.bias, l5.bias (i, f, g, o) as bias_hh; runs tell its gates; "),
        (OddBiases, "kd, ka, kb, kc (i, f, g, o) as bias_ih + bias_hh; runs tell its gates; "),
        (
            RowsApart,
            "to_h.weight (i, f, g, o) as weight_hh, to_x.bias as bias_ih, to_h.bias (i, f, g, o) as bias_hh; rows in",
        ),
        (GruByOddLetters, "xz.weight, xr.weight, xn.weight (r, z, n) as weight_ih"),
    ],
)
def test_names_of_gates_are_tried_first_and_runs_tell(layer: Any, letters: str) -> None:
    subject = as_subject(layer)
    [cell] = subject.capabilities.offers["cell"]

    assert letters in subject.capabilities.read_as, subject.capabilities.read_as
    result = check_agreement(subject, draw(LSTM.replace(cell=cell, loss="both", hx=True), "normal"))
    assert result.verdict is Verdict.AGREES, result


def test_names_of_gates_are_not_believed_of_a_wrong_class_either() -> None:
    subject = as_subject(OddLettersForgets)

    assert "hi.weight, hf.weight, hm.weight, hg.weight (i, f, g, o) as weight_hh" in subject.capabilities.read_as
    assert check_agreement(subject, draw(LSTM.replace(hx=True), "normal")).verdict is Verdict.DISAGREES


def test_the_order_of_rows_is_told_by_what_a_wrong_class_does_right() -> None:
    subject = as_subject(NoTanhOfC)

    assert subject.capabilities.read_as.endswith("; rows in the order f, i, o, g, as runs tell")
    assert check_agreement(subject, draw(LSTM.replace(hx=True), "normal")).verdict is Verdict.DISAGREES


class DropIn(nn.Module):
    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__()
        self.__dict__["layer"] = nn.GRU(*sizes, **options)
        for name, parameter in self.__dict__["layer"].named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.__dict__["layer"](x, hx)


def test_a_drop_in_for_a_layer_with_gates_is_compared_with_that() -> None:
    class Typed(DropIn):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            num_layers: int = 1,
            bias: bool = True,
            batch_first: bool = False,
            dropout: float = 0.0,
            bidirectional: bool = False,
            device: Any = None,
            dtype: Any = None,
        ) -> None:
            options = {"batch_first": batch_first, "dropout": dropout, "bidirectional": bidirectional}
            super().__init__(input_size, hidden_size, num_layers, bias, **options, device=device, dtype=dtype)

    subject = as_subject(Typed)

    assert type(subject) is TorchSubject
    assert subject.capabilities.offers["cell"] == ("GRU",)
    assert check_agreement(subject, draw(GRU.replace(num_layers=2), "normal")).verdict is Verdict.AGREES


class Pairs(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.a = nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.b = nn.Linear(input_size + hidden_size, 2 * hidden_size)


class PairAndSingles(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.a = nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.b, self.s = (nn.Linear(input_size + hidden_size, hidden_size) for _ in range(2))


class Normed(UpdateFirst):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.Wx = nn.Sequential(nn.Linear(input_size, 3 * hidden_size, bias=False), nn.LayerNorm(3 * hidden_size))


class Peepholes(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)
        self.w_ci = nn.Parameter(torch.zeros(hidden_size))


class Coupled(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x2h = nn.Linear(input_size, 3 * hidden_size)
        self.h2h = nn.Linear(hidden_size, 3 * hidden_size)

    def forward(self, x: Any) -> Any:
        output = self.x2h(x).chunk(3, -1)[0]
        return output, (output[-1], output[-1])


class Sizeless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 8)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Pairs, "has as many rows as an nn.LSTM, but a.weight and b.weight have several gates each\n"),
        (PairAndSingles, "no name tells which gates b.weight, s.weight are, beside a.weight\n"),
        (Normed, "Wx.1.weight (9,), Wx.1.bias (9,)"),
        (BiasOfN, "x2h.bias, h2h.bias are not one or two biases for each gate\n"),
        (Peepholes, "w_ci, cell.bias_ih, cell.bias_hh are not one or two biases for each gate\n"),
        (Coupled, "has as many rows as an nn.GRU, but a call on x (4, 13, 5) returns (4, 13, 3), (13, 3), (13, 3)\n"),
        (Sizeless, "a call on x (4, 13, 1) raises NotImplementedError: "),
    ],
)
def test_the_reason_why_gates_cannot_be_read_is_said(layer: Any, said: str) -> None:
    with pytest.raises(SubjectUnavailable) as caught:
        as_subject(layer)

    assert said in str(caught.value)
