"""Tests of the statistics of dropout: right layers pass, and each way to break them is found and named."""

import math
import re
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch
from torch._VF import rnn_relu, rnn_tanh
from torch.nn.functional import dropout as drop
from torch.nn.utils.rnn import PackedSequence

from harness import Capabilities, Case, Failure, Outcome, RNNConfig, Subject, Verdict, as_subject, check_agreement, draw
from harness.checks import dropout
from harness.checks.dropout import FALSE_ALARMS, applies, check_dropout, surprising
from harness.checks.result import ComparisonMethod, Result
from harness.report.facts import plain_finding
from harness.space.scope import TORCH_VALUES
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject

TORCH = TorchSubject()
ONE_PLACE = "in RNNConfig\\(33, 32, num_layers=2, nonlinearity='relu', dropout=0.5, T=8, N=32, training=True\\)"


class Layered(torch.nn.RNN):
    """A correct drop-in for nn.RNN that runs one layer after the other; a fault overrides one small method."""

    def layer(self, x: Any, hx: torch.Tensor, layer: int) -> tuple[Any, torch.Tensor]:
        run = rnn_relu if self.nonlinearity == "relu" else rnn_tanh
        kind = (True, 1, 0.0, self.training, self.bidirectional)
        rows = 2 if self.bidirectional else 1
        weights: list[torch.Tensor] = [
            weight for row in self.all_weights[rows * layer : rows * (layer + 1)] for weight in row
        ]
        if isinstance(x, PackedSequence):
            data, h_n = run(x.data, x.batch_sizes, hx, weights, *kind)
            return x._replace(data=data), h_n
        output, h_n = run(x, hx, weights, *kind, False)
        return output, h_n

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        return drop(output, self.dropout, self.training)

    def after(self, output: torch.Tensor) -> torch.Tensor:
        return output

    def states(self, h_n: torch.Tensor, layer: int) -> torch.Tensor:
        return h_n

    def forward(self, x: Any, hx: Any = None) -> Any:
        packed = isinstance(x, PackedSequence)
        if not packed and x.dim() == 2:
            output, h_n = self.forward(x.unsqueeze(0 if self.batch_first else 1), None if hx is None else hx[:, None])
            return output.squeeze(0 if self.batch_first else 1), h_n.squeeze(1)
        if not packed and self.batch_first:
            x = x.transpose(0, 1)
        rows = 2 if self.bidirectional else 1
        N = int(x.batch_sizes[0]) if packed else x.shape[1]
        if hx is None:
            hx = torch.zeros(rows * self.num_layers, N, self.hidden_size, dtype=(x.data if packed else x).dtype)
        h_n = []
        below = self._through(self.before, x)
        for layer in range(self.num_layers):
            output, own = self.layer(below, hx[rows * layer : rows * (layer + 1)], layer)
            h_n.append(self.states(own, layer))
            if layer < self.num_layers - 1:
                below = self._through(partial(self.between, layer=layer), output)
        output = self._through(self.after, output)
        final = torch.cat(h_n)
        if packed and x.unsorted_indices is not None:
            final = final[:, x.unsorted_indices]
        return (output.transpose(0, 1) if self.batch_first and not packed else output), final

    @staticmethod
    def _through(change: Callable[[torch.Tensor], torch.Tensor], output: Any) -> Any:
        return output._replace(data=change(output.data)) if isinstance(output, PackedSequence) else change(output)


class OneMaskAlong(Layered):
    """One mask for all places along an axis; packed sequences, which do not have the axis, are correct."""

    axis: int

    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        if not self.training or output.dim() == 2:
            return super().between(output, layer)
        return output * drop(torch.ones_like(output.narrow(self.axis, 0, 1)), self.dropout)


class VariationalDropout(OneMaskAlong):
    axis = 0


class PerSequence(OneMaskAlong):
    axis = 1


class WholeLayersOutput(OneMaskAlong):
    axis = 2


class DropsHn(Layered):
    def states(self, h_n: torch.Tensor, layer: int) -> torch.Tensor:
        return self.between(h_n, layer) if layer < self.num_layers - 1 else h_n


class AfterTheLast(Layered):
    def after(self, output: torch.Tensor) -> torch.Tensor:
        return self.between(output, self.num_layers - 1)


class BeforeTheFirst(Layered):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        return self.between(x, -1)


class Unscaled(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        return super().between(output, layer) * (1 - self.dropout if self.training else 1)


class Shrunk(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        return super().between(output, layer) * ((1 - self.dropout) ** 2 if self.training else 1)


class DividesByZero(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        return super().between(output, layer) / (output * 0 if self.training and self.dropout == 1 else 1)


class DropsOneMinusP(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        return drop(output, 1 - self.dropout if self.dropout else 0, self.training)


class WrongRate(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        if not self.training:
            return output
        kept = torch.rand_like(output, dtype=torch.float32) >= 0.84 * self.dropout
        return output * kept / (1 - self.dropout) if self.dropout < 1 else output * 0


class InEvalMode(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        return drop(output, self.dropout, training=True)


class Never(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        return output


class OnTheRecurrence(Layered):
    """Dropout that applies to the input of W_hh as well as to the next layer's input."""

    def layer(self, x: Any, hx: torch.Tensor, layer: int) -> tuple[Any, torch.Tensor]:
        if isinstance(x, PackedSequence) or self.bidirectional:
            raise NotImplementedError("one direction, not packed")
        w_ih, w_hh, b_ih, b_hh = self.all_weights[layer]
        h, output = hx[0], []
        for x_t in x:
            h = torch.relu(x_t @ w_ih.T + drop(h, self.dropout, self.training) @ w_hh.T + b_ih + b_hh)
            output.append(h)
        return torch.stack(output), h[None]


class SameMaskInEveryLayer(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        if not self.training:
            return output
        if layer == 0:
            self.mask = drop(torch.ones_like(output), self.dropout)
        return output * self.mask


class OneDirectionOnly(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        if not self.bidirectional:
            return super().between(output, layer)
        forward, reverse = output[..., : self.hidden_size], output[..., self.hidden_size :]
        return torch.cat([forward, super().between(reverse, layer)], -1)


class SameMaskForBothDirections(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        if not self.bidirectional or not self.training:
            return super().between(output, layer)
        mask = drop(torch.ones_like(output[..., : self.hidden_size]), self.dropout)
        return output * torch.cat([mask, mask], -1)


class SameMaskInEveryCall(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(layer)
            return super().between(output, layer)


class FirstStepIsKept(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        dropped = super().between(output, layer)
        if output.dim() == 2 or not self.training or self.dropout == 1:
            return dropped
        return torch.cat([output[:1] / (1 - self.dropout), dropped[1:]])


class WithBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, changed: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(backward)
        return changed

    @classmethod
    def of(cls, x: torch.Tensor, changed: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
        through: torch.Tensor = cls.apply(x, changed.detach(), backward)  # type: ignore[no-untyped-call]
        return through

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0] * ctx.saved_tensors[0], None, None


class BackwardIgnoresDropout(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        dropped = super().between(output, layer)
        return WithBackward.of(output, dropped, torch.ones_like(output))


class BackwardDrawsAnew(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        if not self.training:
            return output
        dropped, another = super().between(output, layer), drop(torch.ones_like(output), self.dropout)
        return WithBackward.of(output, dropped, another)


class OnlyPackedIsUndropped(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        return super().between(output, layer) if output.dim() == 3 else output


class OnlyBfloat16IsUnscaled(Layered):
    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        dropped = super().between(output, layer)
        return dropped * (1 - self.dropout) if self.training and output.dtype == torch.bfloat16 else dropped


class Opposite(Layered):
    """Dropout in which each sequence drops what its neighbour keeps."""

    def between(self, output: torch.Tensor, layer: int) -> torch.Tensor:
        if not self.training or output.dim() == 2 or output.shape[1] == 1 or self.dropout != 0.5:
            return super().between(output, layer)
        mask = drop(torch.ones_like(output[:, ::2]), 0.5)
        return output * torch.stack([mask, 2 - mask], 2).flatten(1, 2)


FAULTS: dict[type[Layered], str] = {
    InEvalMode: r"dropout must do nothing in eval mode: output is [02] at t=\d, n=\d+, unit=\d+, expected 1; in",
    AfterTheLast: r"between layers only, not on the output of the last one: output is [02] at .*, expected 1",
    OnTheRecurrence: r"dropout must act between layers only: output is .*, expected 1",
    DropsHn: r"dropout must act between layers only: h_n is [02] at layer=0, .*, expected 1",
    BeforeTheFirst: r"between layers only, not on the input of the first one: output is [02] at .*, expected 1; in",
    VariationalDropout: "independence: the masks of successive time steps agree in 8,192 of 8,192 .*, expected 0.5; in",
    PerSequence: "independence: the masks of neighbouring sequences agree in 8,192 of 8,192 elements .*, expected 0.5;",
    WholeLayersOutput: "independence: the masks of neighbouring units agree in 8,192 of 8,192 elements .* expected 0.5",
    Opposite: r"the masks of neighbouring sequences agree in 0 of 8,192 elements \(0\), expected 0.5; in",
    Unscaled: r"dropout's scale must be 1/\(1-p\) = 2 per layer: output is 1 at .*, expected 2",
    Shrunk: r"dropout's scale must be 1/\(1-p\) = 2 per layer: output is 0.5 at .*, expected 2",
    DividesByZero: r"^dropout with p=1 must make everything zero: output is nan at .*, expected 0; in",
    DropsOneMinusP: r"scale must be .* = 1.11 per layer: output is 10 .*rate: .* \((0.09|0.1).*\) are kept, expected",
    WrongRate: r"rate: 9,\d\d\d of 16,384 elements \(0.5.*\) are kept, expected 0.5 with one mask; in",
    Never: r"^dropout does nothing in training: 16,384 of 16,384 elements \(1\) are kept, expected 0.5 with",
    SameMaskInEveryLayer: r"rate: .* elements \(0.7.*\) are kept, expected 0.5625 with 2 independent masks; in",
    OneDirectionOnly: r"output is 1 .* direction=forward.*rate: 16,384 of 16,384 elements \(1\) at direction=forward",
    SameMaskForBothDirections: "the masks of the two directions agree in 16,384 of 16,384 .*, expected 0.625; in",
    SameMaskInEveryCall: "the masks of two calls agree in 8,192 of 8,192 elements .*, expected 0.5; in",
    FirstStepIsKept: r"rate: 2,048 of 2,048 elements \(1\) at t=0 are kept, expected 0.5; in",
    BackwardIgnoresDropout: r"gradient must follow from the output's masks: x.grad is 1 at .*, expected [02]; in",
    BackwardDrawsAnew: r"gradient must follow from the output's masks: x.grad is [02] at .*, expected [02]; in",
    OnlyPackedIsUndropped: r"^dropout does nothing in training: .* \(1\) are kept, expected 0.75 .*lengths=\(",
    OnlyBfloat16IsUnscaled: r"scale.*output is 1 at .*, expected 2.*dtype='bfloat16'",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_and_named_by_the_default_sizes_from_any_seed(fault: type[Layered]) -> None:
    for seed in range(2):
        result = check_dropout(as_subject(fault), seed=seed)

        assert result.verdict is Verdict.DISAGREES, result
        assert re.search(FAULTS[fault], result.message), result.message


@pytest.mark.parametrize("fault", [VariationalDropout, WrongRate, SameMaskInEveryCall])
def test_the_first_place_that_shows_a_fault_is_the_plainest(fault: type[Layered]) -> None:
    assert re.search(ONE_PLACE, check_dropout(as_subject(fault)).message)


@pytest.mark.parametrize("fault", [AfterTheLast, BeforeTheFirst, OnTheRecurrence])
def test_one_layer_drops_nothing(fault: type[Layered]) -> None:
    subjects = [as_subject(layer) for layer in (fault, Layered)]
    wrong, right = (check_dropout(subject, scope=scope_of(subject).only(num_layers=1)) for subject in subjects)

    assert "between layers only" in wrong.message
    assert wrong.verdict is Verdict.DISAGREES
    assert right.verdict is Verdict.AGREES


@pytest.mark.kernels
def test_the_same_layers_without_a_fault_agree() -> None:
    for seed in range(3):
        assert check_dropout(as_subject(Layered), seed=seed) == Result(Verdict.AGREES, method=ComparisonMethod.DROPOUT)


@pytest.mark.kernels
def test_torch_agrees_and_with_its_own_masks_unknown_too() -> None:
    class DropIn(torch.nn.RNN):
        """A drop-in whose masks are unknown."""

    for subject in (TORCH, as_subject(DropIn)):
        assert applies(subject)
        assert check_dropout(subject) == Result(Verdict.AGREES, method=ComparisonMethod.DROPOUT)


class Recorded(TorchSubject):
    """torch that refuses some configs, and records what it ran."""

    def __init__(
        self, refuses: Callable[[RNNConfig], bool], change: Callable[[Outcome], Outcome] = lambda o: o
    ) -> None:
        super().__init__(name="recorded")
        self._refuses, self._change, self.ran = refuses, change, list[Case]()

    def run(self, case: Case) -> Outcome:
        if self._refuses(case.config):
            return Outcome(failure=Failure.UNSUPPORTED, message="not this one")
        self.ran.append(case)
        return self._change(super().run(case))


def test_after_the_time_no_more_nets_are_run_than_show_the_masks_once() -> None:
    short, whole = Recorded(lambda _: False), Recorded(lambda _: False)
    done = check_dropout(short, until=time.perf_counter())
    check_dropout(whole)

    assert done.verdict is Verdict.AGREES
    assert 0 < len(short.ran) < len(whole.ran)


def test_what_is_refused_is_left_out_and_all_of_it_is_unsupported() -> None:
    plain = Recorded(lambda c: c.num_layers > 2 or c.bidirectional or c.lengths is not None or c.loss is not None)
    assert check_dropout(plain).verdict is Verdict.AGREES
    assert {case.config.dtype for case in plain.ran} == {"float32", "float64", "bfloat16", "float16"}

    without = Recorded(lambda c: c.drops)
    assert check_dropout(without) == Result(Verdict.UNSUPPORTED, message="not this one")
    assert without.ran  # in eval mode it was asked nevertheless


def test_functions_draw_no_masks_and_are_not_asked() -> None:
    def rnn(x: Any, weights: Any) -> Any:
        raise AssertionError

    assert not applies(as_subject(rnn))
    assert check_dropout(as_subject(rnn)).verdict is Verdict.UNSUPPORTED


def test_a_plain_subject_that_says_it_draws_masks_is_asked() -> None:
    class Plain:
        name = "plain"
        capabilities = Capabilities(offers={"masks": False})

        def devices(self) -> tuple[str, ...]:
            return ("cpu",)

        def run(self, case: Case) -> Outcome:
            return TORCH.run(case)

    plain: Subject = Plain()
    assert applies(plain)
    assert check_dropout(plain).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (
            lambda o: Outcome(failure=Failure.RAISED, message="ValueError: no"),
            Verdict.BROKEN,
            "ValueError: no; in RNNConfig(",
        ),
        (lambda o: Outcome(failure=Failure.MALFORMED, message="a list"), Verdict.DISAGREES, "a list"),
        (lambda o: Outcome({"output": o.arrays["output"]}), Verdict.DISAGREES, "h_n is missing"),
        (
            lambda o: Outcome({n: a * float("nan") for n, a in o.arrays.items()}),
            Verdict.DISAGREES,
            "output is nan at t=0, n=0, unit=0, expected 1",
        ),
    ],
)
def test_what_is_no_answer_is_that(change: Callable[[Outcome], Outcome], verdict: Verdict, words: str) -> None:
    subject = Recorded(lambda c: False, change)
    result = check_dropout(subject)

    assert result.verdict is verdict
    assert words in plain_finding(subject.name, subject.ran[0].config, result)


def test_a_finding_reads_by_itself() -> None:
    subject = as_subject(VariationalDropout)
    result = check_dropout(subject)

    assert result.kind == "disagrees: dropout's independence"
    assert plain_finding("mine", RNNConfig(33, 32), result) == (
        "mine disagrees with nn.RNN\n"
        "dropout's independence: the masks of successive time steps agree in 8,192 of 8,192 elements (1), "
        "expected 0.5; in RNNConfig(33, 32, num_layers=2, nonlinearity='relu', dropout=0.5, T=8, N=32, training=True)"
    )


def test_every_way_of_calling_shows_its_masks() -> None:
    subject = Recorded(lambda c: False)
    check_dropout(subject)
    configs = [case.config for case in subject.ran]

    assert {(c.dropout, c.dtype) for c in configs if c.drops} >= {
        (p, dtype) for p in (0.1, 0.5, 0.9, 1.0) for dtype in ("float32", "float64", "bfloat16", "float16")
    }
    assert any(c.dropout == 0 for c in configs)
    assert not all(c.training for c in configs)
    assert {(c.num_layers, c.bidirectional) for c in configs if c.drops} == {
        (2, False),
        (2, True),
        (3, False),
        (3, True),
    }
    assert {c.packing for c in configs} == {None, "any"}
    assert {c.batch_first for c in configs} == {c.batched for c in configs} == {True, False}
    assert set(Counter(configs).values()) == {dropout.RUNS_OF_A_CONFIG}
    assert len({(case.config, case.seed) for case in subject.ran}) == len(configs)


def tail(counts: list[int], total: int, probability: Fraction) -> Fraction:
    ways = [math.comb(total, k) * probability**k * (1 - probability) ** (total - k) for k in counts]
    return sum(ways, Fraction(0))


@pytest.mark.parametrize("probability", [Fraction(1, 10), Fraction(1, 2), Fraction(9, 10), Fraction(5, 8)])
@pytest.mark.parametrize("level", [0.3, 0.01, 1e-6])
def test_chance_surprises_no_oftener_than_the_level(probability: Fraction, level: float) -> None:
    for total in (1, 2, 5, 20, 60):
        found = [k for k in range(total + 1) if surprising(k, total, float(probability), level)]
        assert tail(found, total, probability) <= level
        beyond = [k for k in range(total + 1) if k not in found]
        assert beyond == list(range(beyond[0], beyond[-1] + 1))  # the counts that do not surprise lie around the mean


def test_what_cannot_be_is_surprising_at_any_level_and_nothing_is_not() -> None:
    assert surprising(1, 10**9, 0.0, 1e-300)
    assert surprising(10**9 - 1, 10**9, 1.0, 1e-300)
    assert not surprising(0, 10**9, 0.0, 0.5)
    assert not surprising(10**9, 10**9, 1.0, 0.5)
    assert not surprising(0, 0, 0.5, 0.5)


@pytest.mark.parametrize(("total", "off"), [(16_384, 0.04), (2_048, 0.12), (512, 0.23)])
def test_a_rate_that_is_off_is_found_as_the_module_says(total: int, off: float) -> None:
    level = FALSE_ALARMS / sum(dropout._tests(config) for config in dropout._configs("cpu", TORCH_VALUES["dtype"]))
    for p in (0.1, 0.5, 0.9):
        for rate in {p - off, p + off}:
            if not 0 < rate < 1:
                continue
            found = [k for k in range(total + 1) if surprising(k, total, p, level)]
            logs = [
                math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
                + k * math.log(rate) + (total - k) * math.log1p(-rate)
                for k in found
            ]  # fmt: skip
            assert math.fsum(map(math.exp, logs)) > 0.99, (p, rate)


@pytest.mark.kernels
def test_packing_is_right_in_the_layers_that_the_faults_are_planted_in() -> None:
    config = RNNConfig(3, 4, 2, bidirectional=True, T=5, N=3, lengths=(2, 5, 3))

    assert check_agreement(as_subject(Layered), draw(config, "normal", 0)).verdict is Verdict.AGREES


def test_it_is_shown_by_nothing_that_the_scope_has_not() -> None:
    class Forward(torch.nn.RNN):
        def forward(self, x: Any, hx: Any = None) -> Any:
            assert hx is None
            assert not torch.is_grad_enabled()
            return super().forward(x, hx)

    subject = TorchSubject(Forward, "forward")
    whole = scope_of(subject)

    assert check_dropout(subject, scope=whole.only(hx=False, loss=None)).verdict is Verdict.AGREES
    assert check_dropout(subject, scope=whole.only(hx=True, num_layers=2)).verdict is Verdict.UNSUPPORTED
    assert check_dropout(subject, scope=whole.only(bias=False)).verdict is Verdict.UNSUPPORTED
    assert check_dropout(subject, scope=whole.only(hidden_size=3)).verdict is Verdict.UNSUPPORTED


def gated(of: Any, *, last: bool = False, never: bool = False) -> Any:
    """Return a class with gates that drops its output, too, or nothing."""

    class Gated(of):  # type: ignore[misc]
        def forward(self, x: Any, hx: Any = None) -> Any:
            p = float(self.dropout)  # type: ignore[has-type]
            self.dropout = 0.0 if never else p
            output, final = super().forward(x, hx)
            self.dropout = p
            return drop(output, p, self.training) if last else output, final

    return Gated


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (gated(torch.nn.GRU), ""),
        (gated(torch.nn.LSTM), ""),
        (gated(torch.nn.GRU, last=True), "between layers only, not on the output of the last one: output is 1.523 at"),
        (gated(torch.nn.LSTM, never=True), "dropout does nothing in training"),
    ],
)
def test_layers_with_gates_are_held_to_the_relation(layer: Any, words: str) -> None:
    subject = as_subject(layer)
    result = check_dropout(subject, scope=scope_of(subject).only(lengths=None, dtype="float32", batch_first=False))

    assert result.verdict is (Verdict.DISAGREES if words else Verdict.AGREES)
    assert words in result.message
