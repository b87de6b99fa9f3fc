"""Tests of classes with a constructor and parameters of their own: they are read by signature and shape."""

from itertools import pairwise
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from harness import RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.checks.dropout import check_dropout
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.search.examination import examine
from harness.search.search_record import SearchRecord
from harness.space.config import PARAMETERS
from harness.space.conformance_profile import PORT
from harness.space.outcome import Failure
from harness.subjects.protocol import SubjectUnavailable, scope_of
from harness.subjects.torch_module import TorchSubject
from tests.causes import has_cause_of
from tests.searches import explained

PLAIN = RNNConfig(4, 3, T=3, N=2, loss="both")


class Linears(nn.Module):
    """One layer of two ``Linear``, with one bias, that always starts from zeros."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.h2h = nn.Linear(units, units, bias=False)
        self.i2h = nn.Linear(features, units)

    def zeros(self, x: Any) -> Any:
        return x.new_zeros(x.shape[1], self.h2h.out_features)

    def forward(self, x: Any) -> Any:
        h, states = self.zeros(x), []
        for step in x:
            h = torch.tanh(self.i2h(step) + self.h2h(h))
            states.append(h)
        return torch.stack(states), h[None]


class Raw(nn.Module):
    """One layer of transposed matrices, which takes two biases in the wrong order and needs a state."""

    def __init__(self, input_dim: int, hidden_dim: int, *, wrong: bool = False) -> None:
        super().__init__()
        self.bh = nn.Parameter(torch.zeros(hidden_dim))
        self.Wx = nn.Parameter(torch.zeros(input_dim, hidden_dim))
        self.Wh = nn.Parameter(torch.zeros(hidden_dim, hidden_dim))
        self.bx = nn.Parameter(torch.zeros(hidden_dim))
        self.wrong = wrong

    def forward(self, x: Any, state: Any) -> Any:
        states = [state[0]]
        for step in x:
            before = states[-1] @ (self.Wh.T if self.wrong else self.Wh)
            states.append(torch.tanh(step @ self.Wx + self.bx + before + self.bh))
        return torch.stack(states[1:]), states[-1][None]


class Buffered(Linears):
    """It has a buffer that no ``state_dict`` holds: from the start, or from its first call on."""

    late = False

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units)
        if not self.late:
            self.register_buffer("nothing", torch.zeros(()), persistent=False)

    def forward(self, x: Any) -> Any:
        if not hasattr(self, "nothing"):
            self.register_buffer("nothing", torch.zeros(()), persistent=False)
        return super().forward(x + self.nothing)


class BufferedLate(Buffered):
    late = True


@pytest.mark.parametrize("factory", [Buffered, BufferedLate])
@pytest.mark.parametrize("preparation", ["new", "used"])
def test_a_buffer_that_is_not_saved_is_not_loaded(factory: type[nn.Module], preparation: str) -> None:
    result = check_agreement(as_subject(factory), draw(PLAIN.replace(bias=True, preparation=preparation), "normal", 0))

    assert result.verdict is Verdict.AGREES, result.message


class RawWrong(Raw):
    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__(input_dim, hidden_dim, wrong=True)


class Cells(nn.Module):
    """Layers of cells in two lists, with a buffer."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, bidirectional: bool = False
    ) -> None:
        super().__init__()
        sizes = [input_size, *[hidden_size * (1 + bidirectional)] * (num_layers - 1)]
        self.there = nn.ModuleList([nn.RNNCell(size, hidden_size, bias) for size in sizes])
        self.back = nn.ModuleList([nn.RNNCell(size, hidden_size, bias) for size in sizes if bidirectional])
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any, hx: Any = None) -> Any:
        last: list[Any] = []
        for number, there in enumerate(self.there):
            outputs = []
            for cell, back in [(there, False), *((cell, True) for cell in self.back[number : number + 1])]:
                h = x.new_zeros(x.shape[1], there.hidden_size) if hx is None else hx[len(last)]
                states = []
                for step in reversed(x) if back else x:
                    h = cell(step, h)
                    states.append(h)
                last.append(h)
                outputs.append(torch.stack(states[::-1] if back else states))
            x = torch.cat(outputs, dim=-1)
        return x, torch.stack(last)


class Flat(Linears):
    """A layer that takes a state (N, H), and returns one before its output, a view of it."""

    def forward(self, x: Any, h: Any) -> Any:  # type: ignore[override]
        states = []
        for step in x:
            h = torch.tanh(self.i2h(step) + self.h2h(h))
            states.append(h)
        output = torch.stack(states)
        return output[-1], output


class Alone(Linears):
    """A layer that returns its output alone, and takes options that it then cannot show."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size)
        self.more = nn.ModuleList(Linears(hidden_size, hidden_size) for _ in range(num_layers - 1))

    def forward(self, x: Any) -> Any:
        x = super().forward(x)[0]
        for layer in self.more:
            x = layer(x)[0]
        return x


class Stateful(Linears):
    """A layer that starts from the state in which its last call ended, if that had as many sequences."""

    def zeros(self, x: Any) -> Any:
        kept = getattr(self, "kept", None)
        return kept if kept is not None and len(kept) == x.shape[1] and kept.dtype == x.dtype else super().zeros(x)

    def forward(self, x: Any) -> Any:
        output, h_n = super().forward(x)
        self.kept = h_n[0].detach()
        return output, h_n


class Dropping(Cells):
    """Layers with dropout between them, whose kept elements may lack their scale."""

    scaled = True

    def __init__(self, input_dim: int, hidden_dim: int, n_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(input_dim, hidden_dim, n_layers)
        self.dropout = dropout

    def forward(self, x: Any, hx: Any = None) -> Any:
        last = []
        for number, cell in enumerate(self.there):
            if number and self.training and self.dropout:
                x = nn.functional.dropout(x, self.dropout)
                x = x if self.scaled else x * (1 - self.dropout)
            h, states = x.new_zeros(x.shape[1], cell.hidden_size) if hx is None else hx[number], []
            for step in x:
                h = cell(step, h)
                states.append(h)
            x = torch.stack(states)
            last.append(h)
        return x, torch.stack(last)


class Unscaled(Dropping):
    scaled = False


class FloatState(Linears):
    """A layer whose zeros are float32 on the CPU, whatever x is."""

    def zeros(self, x: Any) -> Any:
        return torch.zeros(x.shape[1], self.h2h.out_features)


class InARow(nn.Module):
    """Layers of cells in one list, the directions of each layer beside each other."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 2, bidirectional: bool = False) -> None:
        super().__init__()
        sizes = [input_size, *[hidden_size * (1 + bidirectional)] * (num_layers - 1)]
        self.cells = nn.ModuleList([nn.RNNCell(size, hidden_size) for size in sizes for _ in range(1 + bidirectional)])
        self.directions = 1 + bidirectional

    def forward(self, x: Any, hx: Any) -> Any:
        last: list[Any] = []
        for first in range(0, len(self.cells), self.directions):
            outputs = []
            for number in range(first, first + self.directions):
                h, states = hx[number], []
                for step in x if number == first else reversed(x):
                    h = self.cells[number](step, h)
                    states.append(h)
                last.append(h)
                outputs.append(torch.stack(states if number == first else states[::-1]))
            x = torch.cat(outputs, dim=-1)
        return x, torch.stack(last)


class Eights(Linears):
    """A layer that can only multiples of eight units."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        if hidden_size % 8:
            raise NotImplementedError("multiples of 8 only")


class Wide(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, groups: int) -> None: ...


class Stacked(Cells):
    def __init__(self, input_dim: int, hidden_dim: int, n_layers: int) -> None:
        super().__init__(input_dim, hidden_dim, n_layers)


class Anything(Cells):
    def __init__(self, input_dim: int, hidden_dim: int, *sizes: int, n_layers: int = 2, **options: Any) -> None:
        super().__init__(input_dim, hidden_dim, n_layers, options["bias"], options["bidirectional"])


class AnythingUnread(nn.Module):
    """A batch-first layer that takes any option by name, and reads none."""

    def __init__(self, input_dim: int, hidden_dim: int, **_options: Any) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_dim, hidden_dim, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.rnn(x)


class RowsAlone(Linears):
    """A layer that reads and returns (N, T, ...), and returns its output alone."""

    conventions: ClassVar = {"batch_first": True}

    def forward(self, x: Any) -> Any:
        return super().forward(x.transpose(0, 1))[0].transpose(0, 1)


class RowsFlat(Linears):
    """A layer that reads and returns (N, T, ...), with states (N, H)."""

    conventions: ClassVar = {"batch_first": True}

    def forward(self, x: Any, h: Any) -> Any:  # type: ignore[override]
        states = []
        for t in range(x.shape[1]):
            h = torch.tanh(self.i2h(x[:, t]) + self.h2h(h))
            states.append(h)
        return torch.stack(states, 1), h


class Gated(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.both = nn.Linear(input_size + hidden_size, 2 * hidden_size)


class ThereAndBack(nn.Module):
    """Both directions, whose bias has the letter of the other direction in its name, too."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        for end in "fb":
            for name, shape in {"Wx": (units, width), "Wh": (units, units), "b": (units,)}.items():
                setattr(self, f"{name}_{end}", nn.Parameter(torch.zeros(shape)))

    def forward(self, x: Any) -> Any:
        own, found = dict(self.named_parameters()), []
        for end, steps in (("f", list(x)), ("b", list(x)[::-1])):
            h, states = 0 * x[0] @ own[f"Wx_{end}"].T, []
            for step in steps:
                h = torch.tanh(step @ own[f"Wx_{end}"].T + h @ own[f"Wh_{end}"].T + own[f"b_{end}"])
                states.append(h)
            found.append(torch.stack(states if end == "f" else states[::-1]))
        return torch.cat(found, -1)


class OneColumn(nn.Module):
    """A layer for one sequence, whose state is a column (H, 1), which no call of other layers has."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.W, self.U = (nn.Parameter(torch.zeros(units, size)) for size in (width, units))
        self.b = nn.Parameter(torch.zeros(units, 1))

    def forward(self, x: Any, h: Any = None) -> Any:
        h, states = x.new_zeros(self.b.shape) if h is None else h, []
        for step in x:
            h = torch.tanh(self.W @ step[:, None] + self.U @ h + self.b)
            states.append(h)
        return torch.cat(states, 1).T, h


@pytest.mark.parametrize(
    ("layer", "configs", "read_as"),
    [
        (
            ThereAndBack,
            [PLAIN.replace(bidirectional=True, loss="output")],
            (
                "Wx_f as weight_ih, Wh_f as weight_hh, b_f as bias_ih + bias_hh, Wx_b as weight_ih_reverse, Wh_b as "
                "weight_hh_reverse, b_b as bias_ih_reverse + bias_hh_reverse; returns output"
            ),
        ),
        (
            OneColumn,
            [PLAIN],
            (
                "W as weight_ih, U as weight_hh, b as bias_ih + bias_hh; returns output, and something that is not "
                "compared; takes one sequence: called once for each"
            ),
        ),
        (
            Linears,
            [
                PLAIN,
                PLAIN.replace(dtype="float64", preparation="deepcopy"),
                PLAIN.replace(preparation="functional_call"),
            ],
            "i2h.weight as weight_ih, h2h.weight as weight_hh, i2h.bias as bias_ih + bias_hh",
        ),
        (
            InARow,
            [
                PLAIN.replace(num_layers=3, hx=True),
                PLAIN.replace(num_layers=3, bidirectional=True, hx=True),
                PLAIN.replace(bidirectional=True, hx=True),
            ],
            ", ".join(f"cells.*.{role} as {role}{end}" for end in ("", "_reverse") for role in PARAMETERS),
        ),
        (
            Flat,
            [PLAIN.replace(hx=True), PLAIN.replace(hx=True, preparation="functional_call")],
            (
                "i2h.weight as weight_ih, h2h.weight as weight_hh, i2h.bias as bias_ih + bias_hh; returns h_n, output; "
                "its states are (N, H)"
            ),
        ),
        (
            Alone,
            [PLAIN, PLAIN.replace(preparation="used", grad_mode="accumulate")],
            "i2h.weight as weight_ih, h2h.weight as weight_hh, i2h.bias as bias_ih + bias_hh; returns output",
        ),
        (
            RowsAlone,
            [PLAIN.replace(batch_first=True, loss="both")],
            (
                "i2h.weight as weight_ih, h2h.weight as weight_hh, i2h.bias as bias_ih + bias_hh; returns output; "
                "reads (N, T, input_size)"
            ),
        ),
        (
            RowsFlat,
            [PLAIN.replace(batch_first=True, hx=True, loss="both")],
            (
                "i2h.weight as weight_ih, h2h.weight as weight_hh, i2h.bias as bias_ih + bias_hh; its states are "
                "(N, H); reads (N, T, input_size)"
            ),
        ),
        (
            Eights,
            [PLAIN.replace(hidden_size=8)],
            "i2h.weight as weight_ih, h2h.weight as weight_hh, i2h.bias as bias_ih + bias_hh",
        ),
        (
            Raw,
            [PLAIN.replace(hx=True), PLAIN.replace(hx=True, preparation="state_dict")],
            "Wx as weight_ih.T, Wh as weight_hh.T, bx as bias_ih, bh as bias_hh",
        ),
        (
            Cells,
            [
                PLAIN.replace(num_layers=2, hx=True),
                PLAIN.replace(num_layers=3, bidirectional=True),
                PLAIN.replace(bidirectional=True, bias=False, preparation="assign"),
            ],
            ", ".join(
                f"{'back' if end else 'there'}.*.{role} as {role}{end}"
                for end in ("", "_reverse")
                for role in PARAMETERS
            ),
        ),
    ],
)
def test_a_form_of_its_own_is_read_and_compared(layer: Any, configs: list[RNNConfig], read_as: str) -> None:
    subject = as_subject(layer)

    assert subject.capabilities.read_as == read_as
    assert subject.capabilities.profile == PORT
    for config in configs:
        result = check_agreement(subject, draw(config, "normal"))
        assert result.verdict is Verdict.AGREES, (config, result)


def test_it_is_asked_for_what_it_can_do() -> None:
    linears, raw, cells = (scope_of(as_subject(layer)) for layer in (Linears, Raw, Cells))

    assert (set(linears.hx), set(raw.hx), set(cells.hx)) == ({False}, {True}, {False, True})
    assert (set(linears.num_layers), max(cells.num_layers)) == ({1}, 5)
    assert (set(linears.bidirectional), set(cells.bidirectional)) == ({False}, {False, True})
    for layer in (Stacked, Anything):
        assert max(scope_of(as_subject(layer)).num_layers) == 5
    assert set(cells.nonlinearity) == {"tanh"}
    assert set(cells.lengths) == {None}


def test_options_that_change_nothing_are_not_varied() -> None:
    subject = as_subject(AnythingUnread)
    offers = subject.capabilities.offers

    assert [offers[name] for name in ("nonlinearity", "bias", "num_layers")] == [("tanh",), (True,), (1,)]
    assert check_agreement(subject, draw(PLAIN.replace(batch_first=True), "normal")).verdict is Verdict.AGREES


class Scattered(Cells):
    """Layers whose names have nothing in common."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size)
        self.upper = nn.ModuleDict({"abc"[n]: nn.RNNCell(hidden_size, hidden_size) for n in range(num_layers - 1)})


def test_options_that_it_cannot_have_are_refused_and_said() -> None:
    for layer, config, said in (
        (Linears, PLAIN.replace(num_layers=2), "num_layers=2: its constructor does not take that"),
        (Linears, PLAIN.replace(hx=True), "hx=True: forward takes another number of arguments"),
        (
            Scattered,
            PLAIN.replace(num_layers=2),
            "num_layers=2: with it, its parameters or its results are not read as nn.RNN's",
        ),
    ):
        outcome = as_subject(layer).run(draw(config))
        assert (outcome.failure, outcome.message) == (Failure.UNSUPPORTED, said)

    assert "are not read as nn.RNN's" in as_subject(Scattered).capabilities.not_compared["num_layers"]


def test_a_state_that_is_kept_for_the_next_call_is_found() -> None:
    case = draw(PLAIN.replace(preparation="used"), "normal")

    assert check_agreement(as_subject(Stateful), case).verdict is Verdict.DISAGREES
    assert check_agreement(as_subject(Linears), case).verdict is Verdict.AGREES


def test_its_dropout_obeys_the_relation_though_it_has_tanh_only() -> None:
    right, wrong = (
        check_dropout(subject, scope=scope_of(subject).only(dtype="float32"))
        for subject in map(as_subject, (Dropping, Unscaled))
    )

    assert right.verdict is Verdict.AGREES
    assert wrong.verdict is Verdict.DISAGREES
    assert wrong.message.startswith("dropout's scale must be 1/(1-p) = 2 per layer: output is ")
    assert "h_n" not in wrong.message.partition("; in ")[0]
    for layer in (Dropping, Unscaled):
        done = examine(
            as_subject(layer), SearchRecord("mine", 0, scope_of(as_subject(layer)).only(dtype="float32", device="cpu"))
        )
        assert done.dropout is not None
        assert done.dropout.failed == (layer is Unscaled)


def test_a_drop_in_class_is_left_as_it_is() -> None:
    class DropIn(nn.RNN):
        pass

    assert type(as_subject(DropIn)) is TorchSubject
    assert as_subject(DropIn).capabilities.read_as == ""


class AnySizes(nn.Module):
    """Layers in a plain list, of sizes and options that nn.RNN takes."""

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__()
        self.layers = [nn.RNN(*sizes, **options)]

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.layers[0](x, hx)


class ListOfAny(nn.Module):
    """Layers in a plain list, of any number of sizes."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.cells = [nn.RNNCell(size, width) for size, width in pairwise(sizes)]

    def forward(self, x: Any) -> Any:
        for cell in self.cells:
            h, states = x.new_zeros(x.shape[1], cell.hidden_size), []
            for step in x:
                h = cell(step, h)
                states.append(h)
            x = torch.stack(states)
        return x


class PairsInLists(nn.Module):
    """Layers in lists of two, beside a head that is registered."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.pairs = [(nn.Linear(size, width), nn.Linear(width, width)) for size, width in pairwise(sizes)]
        self.head = nn.Linear(sizes[-1], 7)

    def forward(self, x: Any) -> Any:
        for i2h, h2h in self.pairs:
            h, states = x.new_zeros(x.shape[1], h2h.out_features), []
            for step in x:
                h = torch.tanh(i2h(step) + h2h(h))
                states.append(h)
            x = torch.stack(states)
        return self.head(x), h


class PlainTensors(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.W, self.U = torch.randn(hidden_size, input_size), torch.randn(hidden_size, hidden_size)

    def forward(self, x: Any) -> Any:
        return torch.tanh(x @ self.W.T)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (AnySizes, "nn.Modules in its list layers are not registered as its parts: nn.ModuleList registers them"),
        (ListOfAny, "nn.Modules in its list cells are not registered as its parts: nn.ModuleList registers them"),
        (PairsInLists, "nn.Modules in its list pairs are not registered as its parts: nn.ModuleList registers them"),
        (PlainTensors, "its tensors W, U are no parameters: nn.Parameter makes them such"),
        (Wide, "groups is no size and no option of nn.RNN's"),
        (
            Gated,
            (
                "its matrices for x have 2 times hidden_size rows, and those for the state 2 times; expected "
                "1 in an nn.RNN, 3 in an nn.GRU, 4 in an nn.LSTM, of both\n"
                "its parameters with input_size=5, hidden_size=3: both.weight (6, 8), both.bias (6,)"
            ),
        ),
    ],
)
def test_what_cannot_be_read_is_said(layer: Any, said: str) -> None:
    with pytest.raises(SubjectUnavailable) as caught:
        as_subject(layer)

    assert said in str(caught.value)


def test_dtypes_in_which_a_call_raises_are_left_out() -> None:
    subject = as_subject(FloatState)

    assert subject.capabilities.read_as is not None
    assert subject.capabilities.read_as.endswith("; without float64, bfloat16, float16, in which it does not compute")
    assert scope_of(subject).dtype == ("float32",)


def test_its_mistake_is_one_finding() -> None:
    subject = as_subject(RawWrong)
    investigation = FindingExplainer(subject)
    scope = scope_of(subject).only(device="cpu", preparation="new", grad_mode=None)

    record = explained(investigation, scope, cases=100)

    [finding] = record.findings
    assert finding.result.kind == "output: value"
    assert has_cause_of(investigation.explanations[finding.id].diagnosis, "TransposesWeightHH")


class AddedBiases(torch.nn.Module):
    """A layer whose two biases are added before anything else, so that their gradients are one array."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.randn(hidden_size, input_size))
        self.recurrent = torch.nn.Parameter(torch.randn(hidden_size, hidden_size))
        self.bias_in, self.bias_rec = (torch.nn.Parameter(torch.randn(hidden_size)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.nn.functional.linear(x, self.kernel, self.bias_in + self.bias_rec)
        states = [x.new_zeros(x.shape[1], len(self.recurrent))]
        for step in inputs:
            states.append(torch.tanh(step + states[-1] @ self.recurrent.T))
        return torch.stack(states[1:]), states[-1]


def test_gradients_that_share_their_memory_are_accumulated_each_by_itself() -> None:
    config = RNNConfig(2, 3, T=2, N=1, loss="output", grad_mode="accumulate", preparation="functional_call")

    assert check_agreement(as_subject(AddedBiases), draw(config, "normal", 1)).verdict is Verdict.AGREES


class Deep(Cells):
    """The same with words of its own for layers and directions."""

    def __init__(self, width: int, units: int, depth: int = 2, both_ways: bool = True) -> None:
        super().__init__(width, units, depth, bidirectional=both_ways)


def test_what_adds_parameters_is_the_number_of_layers_or_of_directions_under_any_name() -> None:
    subject = as_subject(Deep)

    form = subject.capabilities.recipe and subject.capabilities.recipe.form
    assert form is not None
    assert form.takes == {"num_layers": "depth", "bidirectional": "both_ways"}
    config = RNNConfig(3, 4, num_layers=2, bidirectional=True, T=3, N=2)
    assert check_agreement(subject, draw(config)).verdict is Verdict.AGREES
    assert check_agreement(subject, draw(config.replace(num_layers=1, bidirectional=False))).verdict is Verdict.AGREES


class NamedByAnArgument(nn.Module):
    """A layer whose first argument stands in the names of its parameters."""

    def __init__(self, title: str, width: int, units: int) -> None:
        super().__init__()
        self.title = title
        for name, size in (("in", width), ("back", units)):
            self.add_module(f"{title}_{name}", nn.Linear(size, units))

    def forward(self, x: Any) -> Any:
        h, output = x.new_zeros(()), []
        for step in x:
            h = torch.tanh(self.get_submodule(f"{self.title}_in")(step) + self.get_submodule(f"{self.title}_back")(h))
            output.append(h)
        return torch.stack(output)


class OfAMode(Linears):
    def __init__(self, mode: str, input_size: int, hidden_size: int) -> None:
        if mode not in ("fast", "slow"):
            raise ValueError(f"unknown mode {mode!r}")
        super().__init__(input_size, hidden_size)


class LearnedStart(Linears):
    """A layer with one bias, which begins with a learned state."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units)
        self.h0 = nn.Parameter(torch.zeros(units))

    def zeros(self, x: Any) -> Any:
        return self.h0.expand(x.shape[1], -1)


class LearnedUnlessGiven(nn.Module):
    """An nn.GRU that begins with a learned state of its own form, unless it is given one."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.ones(1, 1, units))
        self.gru = nn.GRU(features, units)

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.gru(x, self.first.expand(1, x.shape[1], -1).contiguous() if hx is None else hx)


class BiasInside(Linears):
    """What looks like a second bias is added to the state."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units)
        self.b = nn.Parameter(torch.zeros(units))

    def forward(self, x: Any) -> Any:
        output, h_n = super().forward(x)
        return output + self.b, h_n + self.b


def test_a_learned_start_is_no_bias_and_stays_zero() -> None:
    right, wrong = as_subject(LearnedStart), as_subject(BiasInside)
    case = draw(PLAIN.replace(loss=None), "normal")

    assert "; h0 stays zero: it is the state before the first step" in right.capabilities.read_as
    assert check_agreement(right, case).verdict is Verdict.AGREES
    assert check_agreement(wrong, case).verdict is Verdict.DISAGREES
    for hx in (False, True):
        given = draw(PLAIN.replace(cell="GRU", hx=hx), "normal")
        assert check_agreement(as_subject(LearnedUnlessGiven), given).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (NamedByAnArgument, "one of title, width, units is no size and no option"),
        (OfAMode, "mode is no size and no option of nn.RNN's"),
    ],
)
def test_an_argument_that_is_no_size_is_named(layer: Any, said: str) -> None:
    with pytest.raises(SubjectUnavailable, match=said):
        as_subject(layer)
