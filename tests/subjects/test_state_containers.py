"""Classes that take and return states in a dict, a named tuple, or a tuple of those of each layer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from harness import GRUConfig, LSTMConfig, RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement


class Stack(nn.Module):
    """A stack of LSTM cells, whose states are in tuples of lists."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        widths = [input_size, *[hidden_size] * (num_layers - 1)]
        self.cells = nn.ModuleList(nn.LSTMCell(width, hidden_size) for width in widths)
        self.hidden_size = hidden_size

    def held(self, h: list[Any], c: list[Any]) -> Any:
        return tuple(h), tuple(c)

    def taken(self, states: Any) -> tuple[Any, Any]:
        assert isinstance(states, tuple)
        assert isinstance(states[0], tuple)
        return states

    def forward(self, x: Any, states: Any = None) -> Any:
        zeros = [x.new_zeros(x.shape[1], self.hidden_size)] * len(self.cells)
        h_0, c_0 = (zeros, zeros) if states is None else self.taken(states)
        ends = []
        for cell, h, c in zip(self.cells, h_0, c_0, strict=True):
            steps = []
            for step in x:
                h, c = cell(step, (h, c))
                steps.append(h)
            x = torch.stack(steps)
            ends.append((h, c))
        return x, self.held(*map(list, zip(*ends, strict=True)))


class Memory(NamedTuple):
    """States, c first."""

    cell: Any
    hidden: Any


class InNamedTuple(Stack):
    def held(self, h: list[Any], c: list[Any]) -> Any:
        return Memory(torch.stack(c), torch.stack(h))

    def taken(self, states: Any) -> tuple[Any, Any]:
        return states.hidden, states.cell


class InDict(Stack):
    def held(self, h: list[Any], c: list[Any]) -> Any:
        return {"c": torch.stack(c), "h": torch.stack(h)}

    def taken(self, states: Any) -> tuple[Any, Any]:
        return states["h"], states["c"]


class Exchanges(InDict):
    """The states of the end are under each other's names; the output shows which is h."""

    def taken(self, states: Any) -> tuple[Any, Any]:
        return states["c"], states["h"]


class OneInDict(nn.Module):
    """A GRU of one layer, batch first, with its only state in a dict."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, x: Any, state: Any = None) -> Any:
        h = x.new_zeros(len(x), self.cell.hidden_size) if state is None else state["h"]
        steps = []
        for step in x.unbind(1):
            h = self.cell(step, h)
            steps.append(h)
        return torch.stack(steps, 1), {"h": h}


class Tuples(nn.Module):
    """A stack of RNN cells, whose states are a tuple of one for each layer."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        widths = [input_size, *[hidden_size] * (num_layers - 1)]
        self.cells = nn.ModuleList(nn.RNNCell(width, hidden_size) for width in widths)

    def forward(self, x: Any, states: tuple[Any, ...]) -> Any:
        ends = []
        for cell, h in zip(self.cells, states, strict=True):
            steps = []
            for step in x:
                h = cell(step, h)
                steps.append(h)
            x = torch.stack(steps)
            ends.append(h)
        return x, tuple(ends)


class InNumPy:
    """An RNN of NumPy with its state in a dict."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        random = np.random.default_rng(0)
        self.W, self.U = (random.normal(size=(hidden_size, size)) for size in (input_size, hidden_size))
        self.b = random.normal(size=hidden_size)

    def forward(self, x: Any, state: Mapping[str, Any] | None = None) -> Any:
        h = np.zeros((x.shape[1], len(self.b))) if state is None else state["h"]
        steps = []
        for step in x:
            h = np.tanh(step @ self.W.T + h @ self.U.T + self.b)
            steps.append(h)
        return np.stack(steps), {"h": h}


LSTM = LSTMConfig(3, 4, num_layers=3, T=3, N=2, hx=True, loss="both")
ROWS = {
    "tuples of layers": (Stack, LSTM, "its states are a tuple of (N, H), one for each layer"),
    "tuples of layers, always": (
        Tuples,
        RNNConfig(3, 4, num_layers=3, T=3, N=2, hx=True, loss="both"),
        "its states are a tuple of (N, H), one for each layer",
    ),
    "a named tuple": (InNamedTuple, LSTM, "its states are in a named tuple of cell and hidden"),
    "a dict": (InDict, LSTM, "its states are in a dict of c and h"),
    "one in a dict": (OneInDict, GRUConfig(3, 4, batch_first=True, T=3, N=2, hx=True), "its states are in a dict of h"),
    "NumPy": (InNumPy, RNNConfig(3, 4, T=3, N=2, hx=True, dtype="float64"), "its states are in a dict of h"),
}


@pytest.mark.parametrize(("layer", "config", "words"), ROWS.values(), ids=ROWS)
def test_states_in_a_container_are_given_and_compared(layer: Any, config: RNNConfig, words: str) -> None:
    subject = as_subject(layer)

    assert words in subject.capabilities.read_as
    assert not subject.run(draw(config)).not_returned
    assert check_agreement(subject, draw(config)).verdict is Verdict.AGREES


def test_a_class_that_reads_its_dict_wrongly_is_found() -> None:
    subject = as_subject(Exchanges)

    assert check_agreement(subject, draw(LSTM.replace(hx=False))).verdict is Verdict.AGREES
    assert check_agreement(subject, draw(LSTM)).verdict is Verdict.DISAGREES
