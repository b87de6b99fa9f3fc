"""Classes of forms of their own that take a PackedSequence, as calls show."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from harness import LSTMConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.subjects.protocol import scope_of

CONFIG = LSTMConfig(3, 4, num_layers=2, T=4, N=3, hx=True, lengths=(2, 4, 1), loss="both")


class Cells(nn.Module):
    """A stack of LSTM cells over a tensor or a PackedSequence, whose states are a list of (h, c)."""

    sorts_states = True

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        widths = [input_size, *[hidden_size] * (num_layers - 1)]
        self.cells = nn.ModuleList(nn.LSTMCell(width, hidden_size) for width in widths)
        self.hidden_size = hidden_size

    def forward(self, x: Any, states: Any = None) -> Any:
        T, N = (len(x.batch_sizes), int(x.batch_sizes[0])) if isinstance(x, PackedSequence) else x.shape[:2]
        data, sizes, order, back = (
            x if isinstance(x, PackedSequence) else (x.flatten(0, 1), torch.full((T,), N), None, None)
        )
        zeros = data.new_zeros(N, self.hidden_size)
        ends = []
        for cell, (h, c) in zip(self.cells, states or [(zeros, zeros)] * len(self.cells), strict=True):
            if order is not None and self.sorts_states:
                h, c = h[order], c[order]
            steps = []
            for step in data.split(sizes.tolist()):
                n = len(step)
                of_h, of_c = cell(step, (h[:n], c[:n]))
                h, c = torch.cat([of_h, h[n:]]), torch.cat([of_c, c[n:]])
                steps.append(of_h)
            data = torch.cat(steps)
            ends.append((h, c) if back is None else (h[back], c[back]))
        if isinstance(x, PackedSequence):
            return x._replace(data=data), ends
        return data.unflatten(0, (T, N)), ends


class Unsorted(Cells):
    sorts_states = False


class Alone(nn.Module):
    """A wrapper that returns the output alone, as packed as x is."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.lstm(x)[0]


class Padded(Alone):
    """A wrapper whose output is padded: what it computes for a PackedSequence has no place in a PackedSequence."""

    def forward(self, x: Any) -> Any:
        output, _ = self.lstm(x)
        return pad_packed_sequence(output)[0] if isinstance(output, PackedSequence) else output


class LastStep(nn.Module):
    """A wrapper that returns the last step of its output: of a PackedSequence, ``[-1]`` is another thing."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size)

    def forward(self, x: Any) -> Any:
        output, _ = self.gru(x)
        return output, output[-1]


@pytest.mark.parametrize(
    ("layer", "config", "verdict"),
    [
        (Cells, CONFIG, Verdict.AGREES),
        (Unsorted, CONFIG, Verdict.DISAGREES),
        (Unsorted, CONFIG.replace(hx=False), Verdict.AGREES),
        (Alone, LSTMConfig(3, 4, batch_first=True, T=4, N=3, lengths=(2, 4, 1), loss="output"), Verdict.AGREES),
    ],
)
def test_a_packed_batch_is_given_where_one_is_returned(layer: Any, config: Any, verdict: Verdict) -> None:
    subject = as_subject(layer)

    assert "takes a PackedSequence" in subject.capabilities.read_as
    assert "any" in scope_of(subject).lengths
    assert check_agreement(subject, draw(config)).verdict is verdict


class Stack(nn.Module):
    """A stack with dropout between its layers, which takes no PackedSequence."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [input_size, *[hidden_size] * (num_layers - 1)]
        self.layers = nn.ModuleList(nn.GRU(width, hidden_size, batch_first=True) for width in widths)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any) -> Any:
        ends: list[torch.Tensor] = []
        for layer in self.layers:
            x, h_n = layer(self.dropout(x) if ends else x)
            ends.append(h_n)
        return x, torch.cat(ends)


@pytest.mark.parametrize("layer", [Padded, LastStep, Stack])
def test_none_is_given_where_something_else_is_returned(layer: Any) -> None:
    assert {*scope_of(as_subject(layer)).lengths} == {None}
