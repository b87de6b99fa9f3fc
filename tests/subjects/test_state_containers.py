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


class Both(nn.Module):
    """Cells of two directions, with a state of each in a tuple."""

    cell: Any = nn.GRUCell

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        widths = [input_size, *[2 * hidden_size] * (num_layers - 1)]
        self.fw, self.bw = (nn.ModuleList(self.cell(width, hidden_size) for width in widths) for _ in range(2))

    def started(self, x: Any) -> Any:
        return x.new_zeros(x.shape[1], self.fw[0].hidden_size)

    def step(self, cell: Any, x: Any, state: Any) -> tuple[Any, Any]:
        h = cell(x, state)
        return h, h

    def returned(self, ends: list[Any], x: Any) -> Any:
        return tuple(ends)

    def forward(self, x: Any, states: Any = None) -> Any:
        ends: list[Any] = []
        for cells in zip(self.fw, self.bw, strict=True):
            outputs = []
            for cell, steps in zip(cells, ([*x], [*x][::-1]), strict=True):
                state = self.started(x) if states is None else states[len(ends)]
                output = []
                for x_t in steps:
                    h, state = self.step(cell, x_t, state)
                    output.append(h)
                outputs.append(torch.stack(output if cell in self.fw else output[::-1]))
                ends.append(state)
            x = torch.cat(outputs, -1)
        return x, self.returned(ends, x)


class BothInList(Both):
    def returned(self, ends: list[Any], x: Any) -> Any:
        return ends


class BothInDict(Both):
    """The states of a layer under names, in an order that says nothing."""

    def returned(self, ends: list[Any], x: Any) -> Any:
        return {"last": ends[1], "first": ends[0]}

    def forward(self, x: Any, states: Any = None) -> Any:
        return super().forward(x, states if states is None else [states["first"], states["last"]])


class BothBeside(Both):
    """A layer that returns its states beside its output, and reads the output out."""

    def __init__(self, input_size: int, hidden_size: int, classes: int) -> None:
        super().__init__(input_size, hidden_size)
        self.head = nn.Linear(2 * hidden_size, classes)

    def forward(self, x: Any) -> Any:  # type: ignore[override]
        output, ends = super().forward(x)
        return self.head(output), *ends


class BothPairs(Both):
    """An LSTM with a pair (h, c) for each direction."""

    cell = nn.LSTMCell

    def started(self, x: Any) -> Any:
        return (super().started(x),) * 2

    def step(self, cell: Any, x: Any, state: Any) -> tuple[Any, Any]:
        h, c = cell(x, state)
        return h, (h, c)


class BothOfEach(BothPairs):
    """An LSTM with all h before all c."""

    def returned(self, ends: list[Any], x: Any) -> Any:
        return tuple(zip(*ends, strict=True))

    def forward(self, x: Any, states: Any = None) -> Any:
        return super().forward(x, states if states is None else list(zip(*states, strict=True)))


class TwiceForward(Both):
    def returned(self, ends: list[Any], x: Any) -> Any:
        return (*ends[:-1], ends[-2])


class TwiceForwardPairs(BothPairs):
    def returned(self, ends: list[Any], x: Any) -> Any:
        return (*ends[:-1], ends[-2])


class TwiceForwardInDict(BothInDict):
    def returned(self, ends: list[Any], x: Any) -> Any:
        return {"last": ends[0], "first": ends[0]}


class BackwardFirst(Both):
    def returned(self, ends: list[Any], x: Any) -> Any:
        return (*ends[:-2], ends[-1], ends[-2])


class OfOneStep(Both):
    """What it returns beside its output are both halves of the last step, where the other direction begins."""

    def returned(self, ends: list[Any], x: Any) -> Any:
        return x[-1].chunk(2, -1)


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


BOTH = GRUConfig(3, 4, num_layers=2, bidirectional=True, T=3, N=2, hx=True, loss="both")
BOTH_OF_ONE = BOTH.replace(num_layers=1)
BOTH_LSTM = LSTMConfig(3, 4, num_layers=2, bidirectional=True, T=3, N=2, hx=True, loss="both")
LSTM = LSTMConfig(3, 4, num_layers=3, T=3, N=2, hx=True, loss="both")
ROWS = {
    "tuples of layers": (Stack, LSTM, "its states are in a tuple with one (N, H) for each layer and direction"),
    "tuples of layers, always": (
        Tuples,
        RNNConfig(3, 4, num_layers=3, T=3, N=2, hx=True, loss="both"),
        "its states are in a tuple with one (N, H) for each layer and direction",
    ),
    "a named tuple": (InNamedTuple, LSTM, "its states are in a named tuple of cell and hidden"),
    "a dict": (InDict, LSTM, "its states are in a dict of c and h"),
    "one in a dict": (OneInDict, GRUConfig(3, 4, batch_first=True, T=3, N=2, hx=True), "its states are in a dict of h"),
    "of both directions": (Both, BOTH, "its states are in a tuple with one (N, H) for each layer and direction"),
    "a list of both": (BothInList, BOTH, "its states are in a list with one (N, H) for each layer and direction"),
    "a dict of both": (BothInDict, BOTH_OF_ONE, "its states are in a dict of last and first"),
    "beside the output": (
        BothBeside,
        BOTH_OF_ONE.replace(hx=False),
        "its states are one (N, H) for each layer and direction",
    ),
    "pairs of both": (BothPairs, BOTH_LSTM, "its states are in a tuple with one (h, c) for each layer and direction"),
    "h and c of both": (
        BothOfEach,
        BOTH_LSTM,
        "its states are in a tuple with one (N, H) for each layer and direction",
    ),
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


@pytest.mark.parametrize(
    ("layer", "config"),
    [(TwiceForward, BOTH), (TwiceForwardInDict, BOTH), (TwiceForwardPairs, BOTH_LSTM), (BackwardFirst, BOTH)],
)
def test_wrong_states_of_two_directions_are_found(layer: Any, config: RNNConfig) -> None:
    result = check_agreement(as_subject(layer), draw(config.replace(num_layers=1, loss=None), "normal"))

    assert {mismatch.array for mismatch in result.mismatches} >= {"h_n"}


def test_two_halves_of_one_step_are_no_final_states() -> None:
    subject, case = as_subject(OfOneStep), draw(BOTH_OF_ONE.replace(hx=False, loss=None))

    assert check_agreement(subject, case).verdict is Verdict.AGREES
    assert subject.run(case).not_returned == ("h_n",)
