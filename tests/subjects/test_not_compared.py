"""Tests of what a layer offers and is not compared: it is named with its reason, unless the layer refuses it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness import as_subject, conventions


class Loop(nn.Module):
    """One layer of nn.RNNCell, which takes (1, N, H) or starts from zeros."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.RNNCell(input_size, hidden_size)

    def forward(self, x: Any, h0: Any = None) -> Any:
        h, output = x.new_zeros(x.shape[1], self.cell.hidden_size) if h0 is None else h0[0], []
        for x_t in x:
            h = self.cell(x_t, h)
            output.append(h)
        return torch.stack(output), h[None]


class EachReadsX(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.RNNCell(input_size, hidden_size) for _ in range(num_layers))

    def forward(self, x: Any) -> Any:
        h, output = [x.new_zeros(x.shape[1], cell.hidden_size) for cell in self.cells], []
        for x_t in x:
            h = [cell(x_t, state) for cell, state in zip(self.cells, h, strict=True)]
            output.append(h[-1])
        return torch.stack(output), torch.stack(h)


class OneLayer(Loop):
    error: type[Exception] = ValueError

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size)
        if num_layers > 1:
            raise self.error("one layer only")


class NoProjection(nn.Module):
    error: type[Exception] = ValueError

    def __init__(self, input_size: int, hidden_size: int, proj_size: int = 0) -> None:
        super().__init__()
        if proj_size:
            raise self.error("no projection")
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x: Any) -> Any:
        states, output = None, []
        for x_t in x:
            states = self.cell(x_t, states)
            output.append(states[0])
        return torch.stack(output), states


class RefusesProjection(NoProjection):
    error = NotImplementedError


class RefusesLayers(OneLayer):
    error = NotImplementedError


class DeclaresOneLayer(OneLayer):
    offers = {"num_layers": (1,)}  # noqa: RUF012 - as a user writes it


class LastOutput(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, bidirectional=bidirectional)

    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0][-1]


class TakesNoState(Loop):
    def forward(self, x: Any, h0: Any = None) -> Any:
        if h0 is not None:
            raise TypeError("no state of any kind")
        return super().forward(x)


class RefusesStates(Loop):
    def forward(self, x: Any, h0: Any = None) -> Any:
        if h0 is not None:
            raise NotImplementedError("it starts from zeros")
        return super().forward(x)


@conventions(zero_state_only=True)
class DeclaresZeroState(TakesNoState): ...


class NeedsState(Loop):
    def forward(self, x: Any, h0: Any = None) -> Any:
        return super().forward(x, h0[:1])


class IgnoresMask(Loop):
    def forward(self, x: Any, h0: Any = None, mask: Any = None) -> Any:
        return super().forward(x, h0)


class RefusesLengths(Loop):
    def forward(self, x: Any, h0: Any = None, lengths: Any = None) -> Any:
        if lengths is not None:
            raise NotImplementedError("pad first")
        return super().forward(x, h0)


class InNumPy:
    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        self.Wx, self.Wh = np.zeros((input_dim, hidden_dim)), np.zeros((hidden_dim, hidden_dim))
        self.b = np.zeros(hidden_dim)

    def forward(self, x: Any) -> Any:
        h, output = np.zeros((x.shape[1], len(self.b))), []
        for x_t in x:
            h = np.tanh(x_t @ self.Wx + h @ self.Wh + self.b)
            output.append(h)
        return np.stack(output)

    def backward(self, dout: Any) -> Any:
        return None


class RefusesGradients(InNumPy):
    def backward(self, dout: Any) -> Any:
        raise NotImplementedError("forward only")


def rnn(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any, bias: bool = True, verbose: bool = False) -> Any:
    h, output = h0, []
    for x_t in x:
        h = np.tanh(x_t @ W_ih.T + b_ih + h @ W_hh.T + b_hh)
        output.append(h)
    return np.stack(output), h


def refuses_bias(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any, bias: bool = True) -> Any:
    if not bias:
        raise NotImplementedError("with biases only")
    return rnn(x, h0, W_ih, W_hh, b_ih, b_hh)


@pytest.mark.parametrize(
    ("layer", "gaps"),
    [
        (EachReadsX, {"num_layers": "with 2, its parameters, such as cells.1.weight_ih (3, 5) with input_size=5"}),
        (OneLayer, {"num_layers": "with 2, it raises ValueError: one layer only"}),
        (NoProjection, {"proj_size": "with 1, it raises ValueError: no projection"}),
        (LastOutput, {"bidirectional": "with True, it returns no h_n"}),
        (TakesNoState, {"hx": "no call with a state of a form that is known succeeds"}),
        (NeedsState, {"hx": "a call on x alone raises TypeError"}),
        (IgnoresMask, {"lengths": "mask is never given: no kind of lengths or masks in it makes a sequence shorter"}),
        (InNumPy, {"loss": "its backward(dout) is not read"}),
        (rnn, {"bias": "bias is never given"}),
        (Loop, {}),
        (RefusesLayers, {}),
        (DeclaresOneLayer, {}),
        (RefusesProjection, {}),
        (refuses_bias, {}),
        (RefusesStates, {}),
        (DeclaresZeroState, {}),
        (RefusesLengths, {}),
        (RefusesGradients, {}),
    ],
)
def test_what_is_offered_and_not_compared_is_named(layer: Any, gaps: dict[str, str]) -> None:
    found = as_subject(layer).capabilities.not_compared

    assert {*found} == {*gaps}
    assert all(found[name].startswith(why) for name, why in gaps.items())
