"""Tests of a wiring that is found: of programs with loops of their own, of planted mistakes, and of none."""

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.planted import named
from benchmarks.planted.same import same_as
from benchmarks.planted.subject import PlantedSubject
from harness import RNNConfig, Verdict, as_subject, check_agreement, draw
from harness.diagnosis.identify.cause import cause_of, identified_of, seen_of
from harness.diagnosis.identify.elman_layer_inquiry import LayerInquiry, identify
from harness.diagnosis.identify.model import ONE, Coef, LayerModel, Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.questions import Asker
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.wiring_choices import Wiring
from harness.diagnosis.identify.wiring_inquiry import WiringInquiry, views_of
from harness.diagnosis.observation_cache import ObservationCache
from harness.space.scope import Scope
from harness.subjects.protocol import scope_of
from tests import implementations
from tests.diagnosis.identify.by_hand import Stack, said_of, sum_of, with_gradients
from tests.long import few

STACK = RNNConfig(2, 3, num_layers=2, bidirectional=True, T=3, N=2, hx=True)
SCOPE = Scope().only(nonlinearity="tanh", dropout=0, loss=None)
MISTAKES = {
    "rows": "starts from row d * L + l of hx, not from row l * D + d",
    "joined": "makes a layer's output of [reverse, forward], not of [forward, reverse]",
    "shared": "computes with weight_hh of the first layer, not with each one's own",
    "last": "writes h_n in the last layer only: its other rows stay 0",
    "batch": "starts at hx[::-1], not at hx",
    "b_hh": "ignores bias_hh: b_hh is never added",
    "directions": "computes the forward direction only: what the reverse one gives is 0",
    "inner": "does not flip the reverse direction's output back for the layer above",
}
ONE_UNIT = RNNConfig(1, 1, T=3, N=2)
PLAIN = {"nonlinearity": "tanh", "batch_first": False, "lengths": None}
UPPER = "reads [reverse, forward] of the output below, above the first layer, not [forward, reverse]"
LATE = "takes h_below[t-1] @ W_ih.T in its step, not x[t] @ W_ih.T, in the layers above the first"


def stack(x: Any, h0: Any, weights: Any, config: Any, *, wrong: tuple[str, ...] = ()) -> Any:
    """Compute a stack by plain loops, with some mistakes."""
    L, D = config.num_layers, config.num_directions
    h_n = np.zeros_like(h0)
    h0 = h0[:, ::-1] if "batch" in wrong else h0
    for layer in range(L):
        parts = []
        for d in range(D):
            end = f"_l{layer}{'_reverse' * d}"
            shared = weights[f"weight_hh_l0{'_reverse' * d}"]
            own = weights | {f"weight_hh{end}": shared} if "shared" in wrong else weights
            h = h0[d * L + layer if "rows" in wrong else layer * D + d]
            out = np.zeros((*x.shape[:2], config.hidden_size), x.dtype)
            if d and "directions" in wrong:
                parts.append(out)
                continue
            for t in reversed(range(config.T)) if d else range(config.T):
                h = out[t] = np.tanh(sum_of(x[t], h, own, config, end=end, b_hh=float("b_hh" not in wrong)))
            if "last" not in wrong or layer == L - 1:
                h_n[layer * D + d] = h
            parts.append(out)
        if "upper" in wrong and layer < L - 1:
            parts.reverse()
        if "inner" in wrong and D == 2 and layer < L - 1:
            parts[1] = parts[1][::-1]
        x = np.concatenate(parts[::-1] if "joined" in wrong else parts, -1)
        x = x * (1 - config.dropout) if "scaled" in wrong and layer < L - 1 else x
    return x, h_n


Change = Callable[[Any, Any], Any]  # of an array, given a config


def around(
    wrong: tuple[str, ...] = (),
    x_of: Change = lambda x, _: x,
    output_of: Change = lambda output, _: output,
    h_n_of: Change = lambda h_n, _: h_n,
) -> Any:
    """Return a stack whose arrays are changed before it, and after it."""

    def changed(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = stack(x_of(x, config), h0, weights, config, wrong=wrong)
        return output_of(output, config).astype(x.dtype), h_n_of(h_n, config)

    return changed


def reshaped(array: Any, _config: Any = None) -> Any:
    """Read the numbers of an array as if its first two axes had each other's lengths."""
    return array.reshape(array.shape[1], array.shape[0], -1)


def turned(array: Any, _config: Any = None) -> Any:
    """Exchange the first two axes."""
    return array.swapaxes(0, 1)


def turned_as_asked(array: Any, config: Any) -> Any:
    """Exchange the first two axes with batch_first."""
    return array.swapaxes(0, 1) if config.batch_first else array


def mixed_up(h_n: Any, _config: Any = None) -> Any:
    """Read the rows of h_n as if they were its sequences."""
    return h_n.swapaxes(0, 1).reshape(h_n.shape)


def rows_by_direction(h_n: Any, config: Any) -> Any:
    """Put the rows of one direction after those of the other."""
    return turned(h_n.reshape(-1, config.num_directions, *h_n.shape[1:])).reshape(h_n.shape)


@pytest.mark.parametrize("seed", range(5))
def test_wrong_wirings_at_once_and_a_wrong_sum_are_named_each_for_itself(seed: int) -> None:
    wrong = tuple(Random(f"wiring/{seed}").sample(sorted(MISTAKES), 2))

    found = identify(Asker(ObservationCache(as_subject(around(wrong))), SCOPE.only(batch_first=False), "tanh"), STACK)

    assert found.whole
    assert {one.sentence for one in mistakes_of(found.network, "tanh")} == {MISTAKES[name] for name in wrong}


def starts_below(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    if config.bidirectional:
        raise NotImplementedError
    weights, h_n, last = dict(weights), [], h0[:1]
    for layer in range(config.num_layers):
        one = {name: weights[name.replace("_l0", f"_l{layer}")] for name in config.weights if "_l0" in name}
        one |= {"bias_hh_l0": weights["bias_hh_l0"]} if config.bias else {}
        x, last = stack(x, last, one, config.replace(num_layers=1))
        h_n.append(last[0])
    return x, np.stack(h_n)


late = implementations.step_by_step(below="before", returned="after")


def late_from_the_top_down(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return the last states of a stack that reads late in reverse order."""
    output, h_n = late(x, h0, weights, config)
    return output, h_n[::-1]


class SharesCells(Stack):
    """Layers of which all above the first share one cell, and whose h_n has the last one's state in each row."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.cells = torch.nn.ModuleList([self.cells[0], *[*self.cells[1:2]] * (num_layers - 1)])

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output, torch.stack([h_n[-1]] * len(h_n))


class BothDirections(torch.nn.Module):
    """One layer of two directions, and of the forward one alone where its constructor says so."""

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = True) -> None:
        super().__init__()
        names = ("there", "back")[: 1 + bidirectional]
        self.cells = torch.nn.ModuleDict({name: torch.nn.RNNCell(input_size, hidden_size) for name in names})

    def read(self, x: Any, d: int) -> Any:
        """Return what a direction reads, in the order of its steps."""
        return x.flip(0) if d else x

    def put_back(self, states: Any, d: int) -> Any:
        return states.flip(0) if d else states

    def step(self, cell: Any, x_t: Any, h: Any, _d: int) -> Any:
        return cell(x_t, h)

    def forward(self, x: Any, hx: Any = None) -> Any:
        outputs, last = [], []
        for d, cell in enumerate(self.cells.values()):
            h, states = x.new_zeros(x.shape[1], cell.hidden_size) if hx is None else hx[d], []
            for x_t in self.read(x, d):
                h = self.step(cell, x_t, h, d)
                states.append(h)
            outputs.append(self.put_back(torch.stack(states), d))
            last.append(h)
        return torch.cat(outputs, -1), torch.stack(last)


class FlipsBatch(BothDirections):
    """Two directions, of which the reverse one has its sequences in reverse, and not its steps."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)

    def read(self, x: Any, d: int) -> Any:
        return x.flip(1) if d else x

    def put_back(self, states: Any, d: int) -> Any:
        return self.read(states, d)


class DetachesForward(BothDirections):
    """Both directions of one layer, of which the forward one gives x no gradient, where there are two."""

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = False) -> None:
        super().__init__(input_size, hidden_size, bidirectional)

    def read(self, x: Any, d: int) -> Any:
        return super().read(x if d or len(self.cells) == 1 else x.detach(), d)


class GoesBackForwards(BothDirections):
    """Both directions, of which the reverse one gives x its gradient in its own order, and b_hh none."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)

    def read(self, x: Any, d: int) -> Any:
        return x.flip(0).detach() + (x - x.detach()) if d else x

    def step(self, cell: Any, x_t: Any, h: Any, d: int) -> Any:
        b_hh = cell.bias_hh.detach() if d else cell.bias_hh
        return torch.tanh(x_t @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + b_hh)


def late_below(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Compute a stack that reads late, and of which several layers return what they like as gradients."""
    if config.num_layers == 1:
        return with_gradients(x, h0, weights, config, cotangents)
    arrays = {"x": x, "hx": h0, **weights}
    odd = {} if config.loss is None else {name: np.sin(3 * v + k) for k, (name, v) in enumerate(arrays.items())}
    return *late(x, h0, weights, config), odd


def packed(
    x: Any, h0: Any, weights: Any, config: Any, lengths: Any, *, runs_on: bool = False, starts: Any = lambda *_: 1
) -> Any:
    """Compute a packed batch, whose reverse direction may run on through the padding, or whose h0 has factors."""
    T, N = x.shape[:2]
    ends = np.full(N, T) if lengths is None else np.asarray(lengths)
    on = (np.arange(T)[:, None] < ends)[..., None]
    x, h_n = np.where(on, x, 0), np.zeros_like(h0)
    for layer in range(config.num_layers):
        parts = []
        for d in range(config.num_directions):
            row, end = layer * config.num_directions + d, f"_l{layer}{'_reverse' * d}"
            h, out = h0[row] * starts(ends), np.zeros((T, N, config.hidden_size), x.dtype)
            for t in reversed(range(T)) if d else range(T):
                new = np.tanh(sum_of(x[t], h, weights, config, end=end))
                h = out[t] = new if runs_on and d else np.where(on[t], new, h)
            h_n[row] = h
            parts.append(out)
        x = np.concatenate(parts, -1)
    return x if runs_on else np.where(on, x, 0), h_n


def padded(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    """Run the reverse direction through the padding, where the forward one holds its state."""
    return packed(x, h0, weights, config, lengths, runs_on=True)


def starts_the_longest(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    """Compute a packed batch whose shorter sequences do not start from h0."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer and direction")
    return packed(x, h0, weights, config, lengths, starts=lambda ends: (ends == ends.max())[:, None].astype(x.dtype))


@pytest.mark.parametrize(
    ("subject", "scope", "config", "sentences"),
    [
        (
            around(("upper",), h_n_of=rows_by_direction),
            SCOPE,
            STACK,
            ["writes h_n to row d * L + l, not to row l * D + d", UPPER],
        ),
        (  # of which the first shows only where hx is given
            around(("rows", "upper")),
            SCOPE,
            STACK,
            [MISTAKES["rows"], UPPER],
        ),
        (
            late_from_the_top_down,
            SCOPE,
            STACK.replace(bidirectional=False),
            [LATE, "writes the last state of layer and direction L - 1 - l, d to row l * D + d of h_n"],
        ),
        (
            starts_below,
            SCOPE,
            STACK.replace(bidirectional=False),
            [
                "starts at the last state of the layer below, not at hx, in the layers above the first",
                "computes with bias_hh of the first layer, not with each one's own",
            ],
        ),
        *few(
            [
                (
                    SharesCells,
                    {},
                    ONE_UNIT.replace(num_layers=3, loss="output"),
                    [
                        "writes the last state of the last layer to row l * D + d of h_n",
                        (
                            "computes with weight_ih, weight_hh and the biases of the last layer in all layers above "
                            "the first, not with each one's own"
                        ),
                    ],
                ),
                (
                    FlipsBatch,
                    {},
                    ONE_UNIT.replace(bidirectional=True, hx=True, loss="output"),
                    ["flips x and output along the batch, not along the steps, in the reverse direction"],
                ),
                (
                    DetachesForward,
                    {},
                    ONE_UNIT.replace(bidirectional=True, loss="output"),
                    ["gives x, and the layers below, no gradient from the forward direction"],
                ),
                (
                    GoesBackForwards,
                    {},
                    ONE_UNIT.replace(bidirectional=True, hx=True, loss="output"),
                    [
                        "returns 0 as the gradient by bias_hh, in the reverse direction",
                        (
                            "writes the gradient by x of its own step k to step k, not to step steps - 1 - k, "
                            "in the reverse direction"
                        ),
                    ],
                ),
            ],
            3,
        ),
        (late_below, PLAIN | {"bidirectional": False}, ONE_UNIT.replace(num_layers=2), [LATE]),
        (
            padded,
            {"batch_first": False},
            RNNConfig(2, 3, num_layers=2, bidirectional=True, T=4, N=3, lengths=(2, 4, 1)),
            ["runs on through the padding of a packed batch to step T, in the reverse direction"],
        ),
        (
            starts_the_longest,
            {"batch_first": False},
            RNNConfig(2, 3, T=4, N=5, hx=True, lengths=(3, 1, 4, 2, 2)),
            ["starts the longest sequences from hx, and the others at zeros"],
        ),
        (
            around((), turned_as_asked, turned_as_asked, mixed_up),
            SCOPE.only(bidirectional=False),
            STACK.replace(batch_first=True, bidirectional=False),
            ["reshapes h_n from (N, layers * directions, hidden_size), where it should be transposed"],
        ),
        (
            around(
                (), turned_as_asked, turned_as_asked, lambda h_n, config: mixed_up(h_n) if config.batch_first else h_n
            ),
            SCOPE.only(bidirectional=False),
            STACK.replace(batch_first=True, bidirectional=False),
            ["returns h_n as (N, layers * directions, hidden_size) with batch_first, which does not change nn.RNN's"],
        ),
        (  # of a layer that is always batch first
            around((), reshaped, turned),
            SCOPE.only(batch_first=True, bidirectional=False, num_layers=1),
            RNNConfig(2, 3, batch_first=True, T=3, N=2),
            ["reshapes x with batch_first, where it should be transposed"],
        ),
        (
            around(x_of=lambda x, config: x.reshape(config.T, config.N, -1), output_of=reshaped),
            SCOPE.only(batch_first=True),
            RNNConfig(2, 3, T=2, N=3, batch_first=True),
            ["reshapes x and the output with batch_first, where they should be transposed"],
        ),
        (
            around(("scaled", "last")),
            Scope().only(nonlinearity="tanh", loss=None, batch_first=False, training=False),
            STACK.replace(dropout=0.5),
            [
                MISTAKES["last"],
                "multiplies the output of each layer but the last by 1 - p in evaluation, where dropout does nothing",
            ],
        ),
        (
            around(output_of=lambda output, _: turned(output).reshape(output.shape)),
            SCOPE.only(batch_first=False),
            RNNConfig(2, 3, T=2, N=3),
            ["reshapes the output from (N, T, ...) to (T, N, ...), where it should be transposed"],
        ),
        (
            around(x_of=lambda x, _: turned(reshaped(x))),
            SCOPE.only(batch_first=False),
            RNNConfig(2, 3, T=2, N=3),
            ["reshapes x from (T, N, ...) to (N, T, ...), where it should be transposed"],
        ),
        (stack, SCOPE.only(batch_first=False), STACK, []),
        (  # a wiring that no slot has
            around(h_n_of=lambda h_n, config: np.sort(h_n, axis=0) if config.num_layers > 1 else h_n),
            SCOPE.only(batch_first=False),
            STACK,
            [],
        ),
    ],
)
def test_what_a_layer_reads_and_writes_is_named_and_nothing_else(
    subject: Any, scope: Any, config: RNNConfig, sentences: list[str]
) -> None:
    found, said = said_of(subject, scope, config)

    assert said == sentences
    assert found.whole or subject is not stack
    assert not found.unknown or config.loss is None


def test_a_subject_that_keeps_float32_is_asked_in_float32() -> None:
    subject = as_subject(around(("rows",), output_of=lambda output, _: output.astype(np.float32)))

    found = identified_of(ObservationCache(subject), SCOPE, draw(STACK, "normal", 1))

    assert found is not None
    mistakes = mistakes_of(found.network, "tanh")
    assert [mistake.sentence for mistake in mistakes] == [MISTAKES["rows"]]
    observation = ObservationCache(subject).of(draw(STACK.replace(dtype="float64"), "normal", 2))
    result = check_agreement(subject, observation.case)
    cause = cause_of(found, seen_of(subject, observation, result), result, [])
    assert cause is not None
    assert [*cause.new] == mistakes


def test_a_subject_that_keeps_float32_is_asked_in_float32_without_an_array_that_nothing_explains() -> None:
    def single(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        narrow = {name: array.astype(np.float32) for name, array in weights.items()}
        output, h_n = implementations.without_b_hh(x.astype(np.float32), h0.astype(np.float32), narrow, config)
        return output.astype(x.dtype), np.sort(np.sin(9 * h_n), -1).astype(x.dtype)

    found, said = said_of(single, SCOPE, RNNConfig(2, 3, T=3))

    assert said == [MISTAKES["b_hh"]]
    assert (found.unknown, found.dtype) == (("h_n",), "float32")


def test_small_numbers_match_none_among_far_larger_ones() -> None:
    asker = Asker(ObservationCache(as_subject(stack)), SCOPE, "tanh")
    inquiry = WiringInquiry(asker, next(views_of(STACK, asker)))
    answer = inquiry.forward[0]

    assert inquiry._matched(Network(), answer) == sum(array.size for array in answer.arrays.values())
    far = LayerModel(step=(("x[t] @ W_ih.T", ONE),), added=(("1", Coef(1e12, when=TermSteps("last", 1))),))
    assert inquiry._matched(Network(far), answer) == 0


@pytest.mark.parametrize("preparation", ["new", "functional_call"])
def test_layers_that_share_a_cell_are_called_with_what_it_holds(preparation: str) -> None:
    config = RNNConfig(4, 3, num_layers=3, T=3, N=2, preparation=preparation)

    assert check_agreement(as_subject(SharesCells), draw(config, "normal", 1)).verdict is Verdict.DISAGREES


def test_a_layer_of_one_step_has_no_way_back_to_an_earlier_one() -> None:
    subject = as_subject("torch")
    inquiry = LayerInquiry(Asker(ObservationCache(subject), scope_of(subject).only(T=1), "tanh"))

    assert len(inquiry._back(3, 4, at=0, N=1)) == 4
    assert not inquiry._back(3, 4, at=1, N=1)


def test_a_way_back_that_is_nn_rnns_is_no_mistake_beside_a_wrong_way_forward() -> None:
    wiring = Wiring().put("reverse.final", "T - 1")

    assert [str(one) for one in mistakes_of(Network(wiring=wiring, back=Wiring()), "tanh")] == [
        "returns the output at step T - 1 as h_n, not the state after the last step, in the reverse direction"
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("LeavesHnSorted", "leaves h_n of a packed batch sorted, the longest sequence first"),
        ("ReverseStartsInPadding", "runs on through the padding of a packed batch to step T, in the reverse direction"),
        ("LosesGradientOfHnInPadding", "that of a shorter sequence is lost in the padding"),
        ("SharesMaskOverTime", "drops with the first time step's mask at every step"),
        ("ForgetsMaskBack", "forgets dropout on the way back"),
        ("DetachesLayers", "passes no gradient from a layer to the one below it"),
        ("IgnoresBatchFirst", "ignores batch_first: it always runs along the first axis"),
        ("ReadsOutSwappedHalves", "reads out [reverse, forward], not [forward, reverse]"),
        ("CarriesStateToNextSequence", "starts each sequence at the state that the one before it ended with"),
    ],
)
def test_a_planted_mistake_is_found_with_all_that_it_computes(name: str, sentence: str) -> None:
    fault = named(name)

    found, said = said_of(PlantedSubject(fault), {}, fault.smallest[0])

    assert [sentence in one for one in said] == [True]
    assert same_as(found, fault, fault.smallest[0])
