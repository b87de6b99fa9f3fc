"""Tests of classes that are cells, hold both weights in one matrix, or have an output layer: calls tell them apart."""

from itertools import product
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from harness import GRUConfig, LSTMConfig, RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.search.evidence import Certificate
from harness.search.search_record import Finding
from harness.space.outcome import Failure
from harness.subjects.protocol import SubjectUnavailable, scope_of
from tests.causes import has_cause_of

PLAIN = RNNConfig(4, 3, T=4, N=2, loss="both")


class Step(nn.Module):
    """A cell, which may forget its second bias or have another activation."""

    biased = True
    activation: Any = staticmethod(torch.tanh)

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.read = nn.Linear(features, units)
        self.keep = nn.Linear(units, units)

    def forward(self, x: Any, state: Any) -> Any:
        kept = self.keep(state) if self.biased else state @ self.keep.weight.T
        return self.activation(self.read(x) + kept)


class StepTwice(Step):
    """A cell that returns its new state twice."""

    def forward(self, x: Any, state: Any) -> Any:
        state = super().forward(x, state)
        return state, state


class StepWithoutBias(Step):
    biased = False


class StepRelu(Step):
    activation = staticmethod(torch.relu)


class StepForgetful(Step):
    """A cell that never reads its state."""

    def forward(self, x: Any, state: Any) -> Any:
        return super().forward(x, torch.zeros_like(state))


class StepWithOutput(nn.Module):
    """A cell of one matrix, which returns something else, too; the state may be left out."""

    def __init__(self, features: int, units: int, outputs: int) -> None:
        super().__init__()
        self.to_state = nn.Linear(features + units, units)
        self.to_output = nn.Linear(features + units, outputs)

    def forward(self, x: Any, state: Any = None) -> Any:
        state = x.new_zeros(len(x), self.to_state.out_features) if state is None else state
        both = torch.cat([state, x], 1)
        return self.to_output(both).sigmoid(), torch.tanh(self.to_state(both))


class Loose(Step):
    """A layer that forgets to carry its state on, with its output in a stack."""

    def forward(self, x: Any, state: Any) -> Any:
        output = torch.stack([super(Loose, self).forward(step, state) for step in x])
        return output, output[-1]


class LooseAtOnce(Step):
    """A layer that forgets it for all steps at once."""

    def forward(self, x: Any, state: Any) -> Any:
        output = super().forward(x, state)
        return output, output[-1:]


class LooseAndOld(Step):
    """A layer that forgets it, and returns the state that it was given."""

    def forward(self, x: Any, state: Any) -> Any:
        return super().forward(x, state), state


class Either(Step):
    """A layer that takes one step as well."""

    def forward(self, x: Any, state: Any) -> Any:
        states = []
        for step in x if x.dim() == 3 else [x]:
            state = super().forward(step, state)
            states.append(state)
        return torch.stack(states) if x.dim() == 3 else state


class Joined(nn.Module):
    """Layers of one matrix each, of x and the state beside each other, in this order or in the other one."""

    state_first = False
    swaps: ClassVar[tuple[int, ...]] = ()  # The layers that have the other order
    forgets = 0  # The number of steps after which the state is forgotten

    def __init__(self, input_size: int, hidden_size: int, layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        sizes = [input_size, *[hidden_size * (1 + bidirectional)] * (layers - 1)]
        self.there = nn.ModuleList(nn.Linear(size + hidden_size, hidden_size) for size in sizes)
        self.back = nn.ModuleList(nn.Linear(size + hidden_size, hidden_size) for size in sizes if bidirectional)

    def forward(self, x: Any, hx: Any = None) -> Any:
        last: list[Any] = []
        for layer, there in enumerate(self.there):
            outputs = []
            for both, steps in [(there, [*x]), *((one, [*x][::-1]) for one in self.back[layer : layer + 1])]:
                h = x.new_zeros(x.shape[1], there.out_features) if hx is None else hx[len(last)]
                states: list[Any] = []
                for step in steps:
                    if self.forgets and len(states) == self.forgets:
                        h = torch.zeros_like(h)
                    parts = (h, step) if self.state_first != (layer in self.swaps) else (step, h)
                    h = torch.tanh(both(torch.cat(parts, 1)))
                    states.append(h)
                last.append(h)
                outputs.append(torch.stack(states if both is there else states[::-1]))
            x = torch.cat(outputs, -1)
        return x, torch.stack(last)


class JoinedStateFirst(Joined):
    state_first = True


class JoinedOfSteps(nn.Module):
    """A layer of one matrix of the state and x, made for a number of steps, with a cache that holds the matrix."""

    both_orders = False

    def __init__(self, input_size: int, hidden_size: int, seq_len: int) -> None:
        super().__init__()
        self.both, self.seq_len = nn.Linear(hidden_size + input_size, hidden_size), seq_len

    def forward(self, x: Any) -> Any:
        h, states, caches = x.new_zeros(x.shape[1], self.both.out_features), [], []
        for t in range(self.seq_len):
            state_and_x = torch.cat([h, x[t]], 1)
            h = torch.tanh(self.both(state_and_x + state_and_x.flip(1) if self.both_orders else state_and_x))
            states.append(h)
            caches.append((state_and_x, self.both.weight))
        return torch.stack(states), h, caches


class JoinedBothOrders(JoinedOfSteps):
    both_orders = True

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, 4)


class JoinedSwapped(Joined):
    swaps = tuple(range(1, 9))  # where both matrices are square


class JoinedForgets(Joined):
    forgets = 2


class JoinedTurned(nn.Module):
    """A layer of the transposed matrix, without a bias, whose states are (N, H)."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(units + features, units))

    def forward(self, x: Any, h: Any) -> Any:
        states = []
        for step in x:
            h = torch.tanh(torch.cat([h, step], 1) @ self.matrix)
            states.append(h)
        return torch.stack(states), h


class Headed(nn.Module):
    """An ``nn.RNN`` with an output layer, which reads (N, T, ...)."""

    def __init__(self, input_size: int, output_size: int, hidden_size: int, n_layers: int = 1) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, n_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, output_size)

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = self.rnn(x, hx)
        return self.head(output), h_n


class HeadedRows(Headed):
    """It returns its output as (N * T, output_size)."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output.flatten(0, 1), h_n


class HeadedMixes(Headed):
    """It mixes up sequences and steps when it returns its output as (N * T, output_size)."""

    def forward(self, x: Any, hx: Any) -> Any:  # type: ignore[override]
        output, h_n = super().forward(x, hx)
        return output.transpose(0, 1).flatten(0, 1), h_n


class HeadedForgets(Headed):
    """It does not pass its state on."""

    def forward(self, x: Any, hx: Any) -> Any:  # type: ignore[override]
        return super().forward(x, torch.zeros_like(hx))


class HeadedAsWide(nn.Module):
    """Its output is as wide as x, as that of a layer which tells the next character."""

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.both = nn.Linear(vocab_size + hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, vocab_size)

    def forward(self, x: Any, h: Any) -> Any:
        outputs = []
        for step in x:
            h = torch.tanh(self.both(torch.cat([step, h], 1)))
            outputs.append(self.head(h))
        return torch.stack(outputs), h


class Embedded(nn.Module):
    """It reads the numbers of characters."""

    def __init__(self, vocab_size: int, width: int, hidden_size: int, **options: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)
        self.rnn = nn.RNN(width, hidden_size, **options)
        self.head = nn.Linear(hidden_size * (1 + options["bidirectional"]), vocab_size)

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = self.rnn(self.table(x), hx)
        return self.head(output), h_n


class HeadedSteps(nn.Module):
    """A layer that gives an output after each step, and returns it alone; its output layer has a size of its own."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.both = nn.Linear(features + units, units)
        self.last = nn.Sequential(nn.Linear(units, 1))

    def forward(self, x: Any) -> Any:
        h, outputs = x.new_zeros(x.shape[1], self.both.out_features), []
        for step in x:
            h = torch.tanh(self.both(torch.cat([step, h], 1)))
            outputs.append(self.last(h))
        return torch.stack(outputs)


class HeadedBothWays(nn.Module):
    """It takes the options of nn.RNN, and drops before its output layer, too."""

    def __init__(self, features: int, units: int, dropout: float = 0.0, classes: int = 2, **options: Any) -> None:
        super().__init__()
        self.rnn = nn.RNN(features, units, **options)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(units * (1 + options["bidirectional"]), classes)

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = self.rnn(x, hx)
        return self.head(self.drop(output)), h_n


class HeadedPacked(HeadedBothWays):
    """It takes packed sequences, too."""

    offers: ClassVar = {"lengths": (None, "any")}

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = self.rnn(x, hx)
        packed = isinstance(output, nn.utils.rnn.PackedSequence)
        return (output._replace(data=self.head(output.data)) if packed else self.head(output)), h_n


class HeadedDrops(Headed):
    """It drops in training whatever it is told."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = self.rnn(x, hx)
        return self.head(nn.functional.dropout(output, 0.5, self.training)), h_n


class HeadedSoftly(Headed):
    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output.log_softmax(-1), h_n


class HeadedLast(Headed):
    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = self.rnn(x, hx)
        return self.head(output[:, -1]), h_n


class HeadedRelu(Headed):
    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = self.rnn(x, hx)
        return self.head(output.relu()), h_n


class HeadedReluAlone(HeadedRelu):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x, hx)[0]


class HeadedRaises(Headed):
    def forward(self, x: Any, hx: Any = None) -> Any:
        raise ValueError("not today")


class HeadedSoftlyAlone(HeadedSoftly):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x, hx)[0]


class HeadedSoftModule(Headed):
    """It gives the logarithms of probabilities from its last state."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__(input_size, output_size, hidden_size)
        self.soft = nn.LogSoftmax(dim=1)

    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return self.soft(self.head(self.rnn(x)[1][0]))


class HeadedOtherAxis(Headed):
    """It takes the last sequence for the last step."""

    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return self.head(self.rnn(x)[0][-1])


class HeadedLastAlone(Headed):
    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return self.head(self.rnn(x)[0][:, -1])


class HeadedFirst(Headed):
    """It takes the first step for the last one."""

    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return self.head(self.rnn(x.flip(1))[0][:, -1])


class TwoHeads(Headed):
    def __init__(self, input_size: int, output_size: int, hidden_size: int, n_layers: int = 1) -> None:
        super().__init__(input_size, output_size, hidden_size, n_layers)
        self.more = nn.Linear(output_size, 2)

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return self.more(output.relu()), h_n


class TwoHeadsAlone(TwoHeads):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x, hx)[0]


class RowsForget(nn.Module):
    """A layer that reads (N, T, ...), returns states (N, H), and starts every step from zeros."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.both = nn.Linear(units + features, units)

    def forward(self, x: Any) -> Any:
        zeros = x.new_zeros(len(x), self.both.out_features)
        states = [torch.tanh(self.both(torch.cat([zeros, one], -1))) for one in x.unbind(1)]
        return torch.stack(states, 1), states[-1]


class AxisOfHx(nn.Module):
    """A layer with an output layer of plain matrices, whose states have the axes of hx, and without hx (N, H)."""

    def __init__(self, features: int, units: int, n_outputs: int) -> None:
        super().__init__()
        self.Wxh, self.Whh = (nn.Parameter(torch.zeros(size, units)) for size in (features, units))
        self.Why, self.b = nn.Parameter(torch.zeros(units, n_outputs)), nn.Parameter(torch.zeros(units))

    def forward(self, x: Any, h: Any = None) -> Any:
        h, outputs = x.new_zeros(x.shape[1], len(self.b)) if h is None else h, []
        for step in x:
            h = torch.tanh(step @ self.Wxh + h @ self.Whh + self.b)
            outputs.append(h @ self.Why)
        return torch.stack(outputs), h


class StateOfLayers(Step):
    """A layer that takes a state (1, N, H) and returns h_n (N, H)."""

    def forward(self, x: Any, state: Any = None) -> Any:
        h, states = x.new_zeros(x.shape[1], self.keep.out_features) if state is None else state[0], []
        for step in x:
            h = super().forward(step, h)
            states.append(h)
        return torch.stack(states), h


class StateOfOne(StateOfLayers):
    """A layer that takes a state (N, H) and returns h_n (1, N, H)."""

    def forward(self, x: Any, state: Any = None) -> Any:
        output, h_n = super().forward(x, None if state is None else state[None])
        return output, h_n[None]


class RowsNeedState(StateOfLayers):
    """A layer that reads (N, T, ...), and needs a state (1, N, H)."""

    def forward(self, x: Any, state: Any) -> Any:  # type: ignore[override]
        output, h_n = super().forward(x.transpose(0, 1), state)
        return output.transpose(0, 1), h_n[None]


class HeadedLate(nn.Module):
    """A layer whose output layer is given each state before its step."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.i2h, self.h2h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.i2o = nn.Linear(hidden_size, output_size)

    def forward(self, x: Any, h: Any = None) -> Any:
        h, outputs = x.new_zeros(x.shape[1], self.h2h.out_features) if h is None else h, []
        for step in x:
            outputs.append(self.i2o(h))
            h = torch.tanh(self.i2h(step) + self.h2h(h))
        return torch.stack(outputs), h


class HeadedExchanged(nn.Module):
    """A layer that reads out h, and returns c in its place."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(input_size, hidden_size), nn.Linear(hidden_size, output_size)

    def forward(self, x: Any) -> Any:
        h = c = x.new_zeros(x.shape[1], self.cell.hidden_size)
        outputs = []
        for step in x:
            h, c = self.cell(step, (h, c))
            outputs.append(self.head(h))
        return torch.stack(outputs), (c, h)


class HeadedColumns(Headed):
    """It means x to be (N, T, ...), and nn.RNN reads (T, N, ...)."""

    def __init__(self, input_size: int, output_size: int, hidden_size: int) -> None:
        super().__init__(input_size, output_size, hidden_size)
        self.rnn = nn.RNN(input_size, hidden_size)

    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return self.head(self.rnn(x)[0][:, -1])


class WithLengths(Step):
    """A layer with lengths as its second argument."""

    def forward(self, x: Any, seq_lens: Any = None) -> Any:
        h, states = x.new_zeros(x.shape[1], self.keep.out_features), []
        for step in x:
            h = super().forward(step, h)
            states.append(h)
        return torch.stack(states), h


class NeedsLengths(WithLengths):
    def forward(self, x: Any, seq_lens: Any) -> Any:  # type: ignore[override]
        return super().forward(x, seq_lens)


class NeedsMore(WithLengths):
    def forward(self, x: Any, seq_lens: Any) -> Any:  # type: ignore[override]
        return super().forward(x.unflatten(seq_lens.name, (1, -1)))


class WithFlag(WithLengths):
    """A layer with a flag as its second argument, and its sizes in the other order."""

    def __init__(self, hidden_size: int, input_size: int, nonlinearity: Any = torch.tanh) -> None:
        super().__init__(input_size, hidden_size)
        self.activation = nonlinearity

    def forward(self, x: Any, full: bool = False) -> Any:
        return super().forward(x)


class Gain(nn.Module):
    """A cell with a parameter that nn.RNN does not have."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.read, self.keep = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Any, state: Any) -> Any:
        return torch.tanh(self.gain * (self.read(x) + self.keep(state)))


class Places(nn.Module):
    """A layer that adds an Embedding of the time step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.rnn, self.place = nn.RNN(input_size, hidden_size), nn.Embedding(64, input_size)

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.rnn(x + self.place(torch.arange(len(x)))[:, None], hx)


class Coupled(TwoHeads):
    """Its state depends on a parameter that nn.RNN does not have."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output, h_n * self.more.bias[0]


STEP = "read.weight as weight_ih, keep.weight as weight_hh, read.bias as bias_ih, keep.bias as bias_hh"
RNN = ", ".join(f"rnn.{role}_l* as {role}" for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
CELL = "a cell: called once for each step"
ROWS = PLAIN.replace(batch_first=True)


def joined(own: str, first: str, second: str, end: str = "") -> str:
    return f"{own}.*.weight as {first}{end} and {second}{end} side by side, {own}.*.bias as bias_ih{end} + bias_hh{end}"


@pytest.mark.parametrize(
    ("layer", "configs", "read_as"),
    [
        (
            Step,
            [
                *(PLAIN.replace(hx=True, preparation=way) for way in ("new", "used", "functional_call", "to_dtype")),
                PLAIN.replace(hx=True, preparation="deepcopy", after="used"),
                PLAIN.replace(hx=True, tied=True),
            ],
            f"{STEP}; {CELL}",
        ),
        (StepTwice, [PLAIN.replace(hx=True, grad_mode="accumulate")], f"{STEP}; {CELL}"),
        (
            StepWithOutput,
            [
                PLAIN,
                *(PLAIN.replace(hx=True, preparation=way) for way in ("used", "functional_call", "pickle", "assign")),
            ],
            (
                "to_state.weight as weight_hh and weight_ih side by side, to_state.bias as bias_ih + bias_hh; "
                f"{CELL}; not compared: to_output"
            ),
        ),
        (
            Joined,
            [
                PLAIN.replace(num_layers=3, hx=True, bidirectional=True),
                PLAIN.replace(num_layers=2, preparation="used"),
                PLAIN.replace(bidirectional=True, preparation="functional_call"),
            ],
            f"{joined('there', 'weight_ih', 'weight_hh')}, {joined('back', 'weight_ih', 'weight_hh', '_reverse')}",
        ),
        (
            JoinedStateFirst,
            [PLAIN.replace(num_layers=2, hx=True, bidirectional=True), PLAIN.replace(preparation="state_dict")],
            f"{joined('there', 'weight_hh', 'weight_ih')}, {joined('back', 'weight_hh', 'weight_ih', '_reverse')}",
        ),
        (
            JoinedOfSteps,
            [PLAIN],
            (
                "both.weight as weight_hh and weight_ih side by side, both.bias as bias_ih + bias_hh; "
                "returns output, h_n, and something that is not compared; its states are (N, H)"
            ),
        ),
        (
            JoinedTurned,
            [PLAIN.replace(hx=True, bias=False), PLAIN.replace(hx=True, bias=False, preparation="functional_call")],
            "matrix as weight_hh.T and weight_ih.T side by side; its states are (N, H)",
        ),
        (
            Headed,
            [
                ROWS,
                ROWS.replace(hx=True, num_layers=3, preparation="deepcopy"),
                ROWS.replace(hx=True, preparation="functional_call"),
                ROWS.replace(num_layers=2, preparation="used"),
            ],
            f"{RNN}; its output layer head is replaced by the identity; reads (N, T, input_size)",
        ),
        (
            HeadedRows,
            [ROWS, ROWS.replace(hx=True, num_layers=2)],
            (
                f"{RNN}; its output layer head is replaced by the identity; its output is (T * N, H); "
                "reads (N, T, input_size)"
            ),
        ),
        (
            HeadedAsWide,
            [PLAIN.replace(hx=True)],
            (
                "both.weight as weight_ih and weight_hh side by side, both.bias as bias_ih + bias_hh; "
                "its output layer head is replaced by the identity; its states are (N, H)"
            ),
        ),
        (
            HeadedSteps,
            [PLAIN, PLAIN.replace(preparation="state_dict")],
            (
                "both.weight as weight_ih and weight_hh side by side, both.bias as bias_ih + bias_hh; returns output; "
                "its output layer last.0 is replaced by the identity"
            ),
        ),
    ],
)
def test_it_is_read_and_compared(layer: Any, configs: list[RNNConfig], read_as: str) -> None:
    subject = as_subject(layer)

    assert subject.capabilities.read_as == read_as
    for config in configs:
        result = check_agreement(subject, draw(config, "normal"))
        assert result.verdict is Verdict.AGREES, (config, result)


def test_it_is_asked_for_what_it_can_do() -> None:
    step, output, headed, both = (scope_of(as_subject(one)) for one in (Step, StepWithOutput, Headed, HeadedBothWays))

    assert (set(step.hx), set(output.hx)) == ({True}, {False, True})
    assert (set(step.num_layers), set(step.batch_first), set(headed.batch_first)) == ({1}, {False}, {True})
    assert (set(both.nonlinearity), set(both.bidirectional)) == ({"tanh", "relu"}, {False, True})
    assert (set(both.dropout), set(both.training)) == ({0.0}, {False, True})


def test_an_output_layer_may_read_both_directions() -> None:
    config = PLAIN.replace(num_layers=2, bidirectional=True, nonlinearity="relu", hx=True, batch_first=True)
    packed = config.replace(lengths=(2, 4), enforce_sorted=False)

    assert check_agreement(as_subject(HeadedBothWays), draw(config, "normal")).verdict is Verdict.AGREES
    assert check_agreement(as_subject(HeadedPacked), draw(packed, "normal")).verdict is Verdict.AGREES
    assert set(scope_of(as_subject(HeadedPacked)).lengths) == {None, "any"}


def test_the_numbers_of_an_embedding_are_given_in_its_place() -> None:
    subject = as_subject(Embedded)

    end = "; its Embedding table is replaced by the identity; its output layer head is replaced by the identity"
    assert subject.capabilities.read_as.endswith(end)
    config = PLAIN.replace(num_layers=2, bidirectional=True, bias=False, hx=True)
    assert check_agreement(subject, draw(config, "normal")).verdict is Verdict.AGREES
    assert check_agreement(subject, draw(ROWS.replace(preparation="pickle"), "normal")).verdict is Verdict.AGREES


def test_states_without_hx_tell_their_axes_too() -> None:
    subject = as_subject(AxisOfHx)

    assert subject.capabilities.read_as is not None
    assert subject.capabilities.read_as.endswith("; h_n alone is compared; not compared: Why; its states are (N, H)")
    for hx in (False, True):
        assert check_agreement(subject, draw(PLAIN.replace(loss="h_n", hx=hx), "normal")).verdict is Verdict.AGREES


def test_a_returned_state_tells_that_the_batch_is_first_where_no_output_does() -> None:
    subject = as_subject(RowsForget)

    assert subject.capabilities.read_as is not None
    assert subject.capabilities.read_as.endswith("its states are (N, H); reads (N, T, input_size)")
    assert check_agreement(subject, draw(ROWS.replace(T=1), "normal")).verdict is Verdict.AGREES
    assert check_agreement(subject, draw(ROWS, "normal")).kind == "output: value"


@pytest.mark.parametrize(
    ("layer", "config", "read_as"),
    [
        (StateOfLayers, PLAIN.replace(hx=True), "; returns h_n as (N, H)"),
        (StateOfOne, PLAIN.replace(hx=True), "; takes states (N, H)"),
        (RowsNeedState, ROWS.replace(hx=True), "; reads (N, T, input_size)"),
        (WithLengths, PLAIN, "; its states are (N, H); seq_lens is never given"),
        (WithFlag, PLAIN, "; its states are (N, H); full is never given"),
    ],
)
def test_what_it_takes_is_told_apart_from_what_it_returns(layer: Any, config: RNNConfig, read_as: str) -> None:
    subject = as_subject(layer)

    assert subject.capabilities.read_as == STEP + read_as
    assert check_agreement(subject, draw(config, "normal")).verdict is Verdict.AGREES
    assert scope_of(subject).hx == {RowsNeedState: (True,), WithLengths: (False,), WithFlag: (False,)}.get(
        layer, (False, True)
    )


@pytest.mark.parametrize(
    ("layer", "config"),
    [
        (HeadedLate, PLAIN),
        (HeadedColumns, ROWS.replace(loss="h_n")),
        (HeadedExchanged, LSTMConfig(4, 3, T=4, N=2, loss="output")),
    ],
)
def test_a_mistake_before_an_output_layer_shows(layer: Any, config: RNNConfig) -> None:
    subject = as_subject(layer)

    assert subject.capabilities.read_as is not None
    assert "is replaced by the identity" in subject.capabilities.read_as
    assert check_agreement(subject, draw(config, "normal")).verdict is Verdict.DISAGREES


def test_what_drops_before_its_output_layer_is_not_asked_to_train() -> None:
    subject = as_subject(HeadedDrops)

    assert set(scope_of(subject).training) == {False}
    assert subject.capabilities.read_as.endswith("; training is left out: it drops elements with dropout=0, too")
    assert subject.run(draw(ROWS.replace(training=True))).failure is Failure.UNSUPPORTED


@pytest.mark.parametrize("layer", [HeadedSoftly, HeadedRelu, TwoHeads])
def test_of_a_layer_whose_output_hides_the_states_the_last_ones_are_compared(layer: Any) -> None:
    subject = as_subject(layer)

    assert "; h_n alone is compared; not compared: head" in subject.capabilities.read_as
    assert set(scope_of(subject).loss) == {None, "h_n"}
    for way in ("new", "used", "functional_call", "deepcopy"):
        config = ROWS.replace(num_layers=2, hx=True, loss="h_n", preparation=way)
        result = check_agreement(subject, draw(config, "normal"))
        assert result.verdict is Verdict.AGREES, (config, result)
    outcome = subject.run(draw(ROWS.replace(loss="h_n")))
    assert outcome.not_returned == ("output",)
    assert {*outcome.arrays} == {"h_n", *ROWS.gradients}


def test_the_last_output_alone_is_compared() -> None:
    right, wrong, beside, soft = map(as_subject, (HeadedLastAlone, HeadedFirst, HeadedLast, HeadedSoftModule))
    case = draw(ROWS.replace(loss="h_n"), "normal")

    assert "; returns the last output alone; its output layer head is replaced" in right.capabilities.read_as
    assert right.capabilities.not_compared == {"num_layers": "with 2, it returns no h_n"}
    assert "; h_n alone is compared; its output layer head is replaced" in beside.capabilities.read_as
    assert "; its output layer head and soft are replaced by the identity; " in soft.capabilities.read_as
    assert check_agreement(right, case).verdict is Verdict.AGREES
    assert check_agreement(soft, case).verdict is Verdict.AGREES
    assert check_agreement(wrong, case).verdict is Verdict.DISAGREES
    assert check_agreement(beside, draw(case.config.replace(num_layers=2), "normal")).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("layer", "config"),
    [
        (JoinedForgets, PLAIN),
        (HeadedMixes, ROWS.replace(hx=True)),
        (JoinedSwapped, PLAIN.replace(num_layers=2)),
        (HeadedForgets, ROWS.replace(hx=True)),
    ],
)
def test_its_mistake_is_found(layer: Any, config: RNNConfig) -> None:
    assert check_agreement(as_subject(layer), draw(config, "normal")).verdict is Verdict.DISAGREES


@pytest.mark.parametrize("layer", [Loose, LooseAtOnce, LooseAndOld])
def test_a_layer_that_forgets_its_state_is_no_cell(layer: Any) -> None:
    subject = as_subject(layer)

    assert CELL not in subject.capabilities.read_as
    assert check_agreement(subject, draw(PLAIN.replace(hx=True), "normal")).verdict is Verdict.DISAGREES


def test_a_layer_that_takes_one_step_as_well_is_called_with_all() -> None:
    subject = as_subject(Either)

    assert subject.capabilities.read_as == f"{STEP}; returns output; its states are (N, H)"
    assert check_agreement(subject, draw(PLAIN.replace(hx=True), "normal")).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (HeadedOtherAxis, "returns (13, 3)\nexpected the output of every step, or of the last one, or h_n"),
        (HeadedRaises, "raises ValueError: not today\nexpected the output"),
        (HeadedSoftlyAlone, "what follows its output layer head changes the numbers, as a softmax does\nexpected a"),
        (HeadedReluAlone, "its output layer head is given other numbers than the states\nexpected a call to return"),
        (
            JoinedBothOrders,
            "calls do not tell which columns of both.weight x is multiplied by\nexpected the first 5 or",
        ),
        (TwoHeadsAlone, "more.weight (2, 7), more.bias (2,)"),
        (Coupled, "more.weight (2, 7), more.bias (2,)"),
        (Gain, "gain (1,), read.weight (3, 5)"),
        (Places, "its Embedding place is given something else than x\nexpected the Embedding of x alone"),
        (NeedsLengths, "seq_lens has no default, and neither lengths (N,), nor a list of them, nor a mask makes a"),
        (NeedsMore, "neither x, nor a state, nor lengths, nor a mask\nexpected forward(x), or forward(x, hx), and"),
    ],
)
def test_a_class_that_cannot_be_compared_is_refused(layer: Any, said: str) -> None:
    with pytest.raises(SubjectUnavailable) as caught:
        as_subject(layer)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "config", "cause"),
    [
        (StepWithoutBias, PLAIN, "IgnoresBiasHH"),
        pytest.param(StepRelu, PLAIN, "AlwaysRelu", marks=pytest.mark.long),
        pytest.param(StepForgetful, PLAIN, "ForgetsState", marks=pytest.mark.long),
        pytest.param(JoinedSwapped, PLAIN.replace(num_layers=2), "ExchangesWeights", marks=pytest.mark.long),
        pytest.param(HeadedForgets, ROWS, "IgnoresHx", marks=pytest.mark.long),
    ],
)
def test_its_mistake_is_found_and_named(layer: Any, config: RNNConfig, cause: str) -> None:
    subject = as_subject(layer)
    case = draw(config.replace(hx=True, loss=None), "normal")
    finding = Finding("its", case, check_agreement(subject, case), Certificate())

    assert finding.result.verdict is Verdict.DISAGREES
    scope = scope_of(subject).only(device="cpu", preparation="new")
    assert has_cause_of(FindingExplainer(subject).diagnosis(finding, scope), cause, config)


class KeepsState(nn.Module):
    """A layer that goes on from the state in which its last call ended, as long as the batch is as large."""

    h: torch.Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.both = nn.Linear(input_size + hidden_size, hidden_size)
        self.register_buffer("h", torch.zeros(1, hidden_size), persistent=False)

    def forward(self, x: Any) -> Any:
        h = self.h if len(self.h) == len(x) else x.new_zeros(len(x), self.both.out_features)
        states = []
        for step in x.unbind(1):
            h = torch.tanh(self.both(torch.cat([step, h], 1)))
            states.append(h)
        self.h = h.detach()
        return torch.stack(states, 1)


def test_the_axis_of_time_is_told_where_a_call_starts_from_the_end_of_the_one_before() -> None:
    assert as_subject(KeepsState).capabilities.read_as.endswith("; returns output; reads (N, T, input_size)")


class BothWays(nn.Module):
    """Layers of two directions each, whose cells are in a list for each direction."""

    def __init__(self, n_features: int, n_units: int, n_layers: int = 1) -> None:
        super().__init__()
        widths = [n_features, *[2 * n_units] * (n_layers - 1)]
        self.fwd = nn.ModuleList(nn.RNNCell(width, n_units) for width in widths)
        self.bwd = nn.ModuleList(nn.RNNCell(width, n_units) for width in widths)

    def forward(self, x: torch.Tensor, h0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        last = []
        for layer, cells in enumerate(zip(self.fwd, self.bwd, strict=True)):
            ways = []
            for d, cell in enumerate(cells):
                h, states = h0[2 * layer + d], []
                for step in x.flip(0) if d else x:
                    h = cell(step, h)
                    states.append(h)
                last.append(h)
                ways.append(torch.stack(states).flip(0) if d else torch.stack(states))
            x = torch.cat(ways, -1)
        return x, torch.stack(last)


def test_a_class_that_always_has_two_directions_is_asked_for_several_layers() -> None:
    subject = as_subject(BothWays)

    assert scope_of(subject).num_layers[-1] > 1
    assert scope_of(subject).bidirectional == (True,)
    assert (
        check_agreement(
            subject, draw(RNNConfig(3, 4, num_layers=3, bidirectional=True, T=3, N=2, hx=True, loss="both"))
        ).verdict
        is Verdict.AGREES
    )


class LettersOfDirections(nn.Module):
    """An RNN of two directions, whose letters might be those of gates."""

    def __init__(self, n_features: int, n_units: int) -> None:
        super().__init__()
        shapes = {"Wx": (n_units, n_features), "Wh": (n_units, n_units), "b": (n_units,)}
        for (name, shape), letter in product(shapes.items(), "fb"):
            self.register_parameter(f"{name}{letter}", nn.Parameter(torch.randn(shape) / n_units))

    def _run(self, x: torch.Tensor, W: Any, U: Any, b: Any) -> torch.Tensor:
        states = [x.new_zeros(x.shape[1], len(b))]
        for step in x:
            states.append(torch.tanh(step @ W.T + states[-1] @ U.T + b))
        return torch.stack(states[1:])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        there = self._run(x, self.Wxf, self.Whf, self.bf)
        back = self._run(x.flip(0), self.Wxb, self.Whb, self.bb)
        return torch.cat([there, back.flip(0)], -1), torch.stack([there[-1], back[-1]])


def test_the_last_letters_of_names_tell_directions() -> None:
    case = draw(RNNConfig(3, 4, bidirectional=True, T=3, N=2, loss="both"))

    assert check_agreement(as_subject(LettersOfDirections), case).verdict is Verdict.AGREES


class UnderOwnNames(nn.Module):
    """A GRU of two directions, under the names that nn.GRU has."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        for name, parameter in nn.GRU(input_size, hidden_size, bidirectional=True).named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.detach().clone()))

    def forward(self, x: torch.Tensor, h0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ways, last = [], []
        for d, end in enumerate(("_l0", "_l0_reverse")):
            of = [getattr(self, name + end) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            h, states = h0[d], []
            for step in x.flip(0) if d else x:
                h = torch.gru_cell(step, h, *of)
                states.append(h)
            last.append(h)
            ways.append(torch.stack(states).flip(0) if d else torch.stack(states))
        return torch.cat(ways, -1), torch.stack(last)


def test_names_of_the_other_direction_may_have_a_word_more() -> None:
    subject = as_subject(UnderOwnNames)

    assert subject.capabilities.read_as == ""
    assert (
        check_agreement(subject, draw(GRUConfig(3, 4, bidirectional=True, T=3, N=2, hx=True, loss="both"))).verdict
        is Verdict.AGREES
    )
