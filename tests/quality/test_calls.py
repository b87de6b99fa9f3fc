"""Tests of families of calls: each has planted faults, and the default search finds and shrinks them."""

import copy
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

from harness import RNNConfig, Subject, Verdict, as_subject, hunt
from harness.search.scope_and_workers import asked_scope
from harness.space.conformance_profile import KERNEL
from harness.subjects.torch_cell import CellLoop
from harness.subjects.torch_module import TorchSubject
from tests import implementations
from tests.calls_by_hand import doing
from tests.long import few

pytestmark = pytest.mark.kernels

ONE = RNNConfig(1, 1)
TWO_LAYERS = RNNConfig(1, 1, num_layers=2)


class Lookalike(torch.nn.RNN):
    """Torch's own layer, which each of the following classes gets wrong in one respect."""


class IgnoresStrides(Lookalike):
    """A layer that reads x's memory as if x were contiguous."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        if isinstance(x, torch.Tensor) and not x.is_contiguous() and x.numel() and x.device.type != "meta":
            x = torch.as_strided(x, x.shape, torch.empty(x.shape).stride(), x.storage_offset()) if room(x) else x
        return super().forward(x, hx)


def room(x: torch.Tensor) -> bool:
    return x.untyped_storage().size() // x.element_size() >= x.numel()


class UnbatchedHnKeepsItsBatch(Lookalike):
    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output, h_n[:, None] if isinstance(x, torch.Tensor) and x.dim() == 2 else h_n


class PadsInPlaceOfPacking(Lookalike):
    """A layer that runs packed sequences to the longest length, so that the shorter ones end in zeros."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        if not isinstance(x, PackedSequence):
            return super().forward(x, hx)
        output, h_n = super().forward(x, hx)
        last = h_n.clone()
        last[:, x.batch_sizes[-1] :] = 0
        return output, last


class NoEmptyBatch(Lookalike):
    """A layer whose h_n has one sequence for an empty batch."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        empty = isinstance(x, torch.Tensor) and x.numel() == 0
        return (output, h_n.new_zeros(h_n.shape[0], 1, h_n.shape[2])) if empty else (output, h_n)


class ManySequences(Lookalike):
    """A layer that is off in the last of more than a hundred sequences."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        if h_n.dim() == 3 and h_n.shape[1] > 100:
            h_n = torch.cat([h_n[:, :-1], h_n[:, -1:] * 1.01], 1)
        return output, h_n


class LeaksNaN(Lookalike):
    """A layer in which one NaN in x makes the whole batch NaN."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        if isinstance(x, torch.Tensor) and x.device.type != "meta":
            x = x + x.detach().sum() * 0
        return super().forward(x, hx)


class ClipsStates(Lookalike):
    """A layer that limits h_n to ten thousand."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output, h_n.clamp(max=1e4)


class IgnoresAutocast(Lookalike):
    def forward(self, x: Any, hx: Any = None) -> Any:
        with torch.autocast("cpu", enabled=False):
            return super().forward(x, hx)


class WritesIntoHx(Lookalike):
    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        if hx is not None and not hx.requires_grad and 0 not in hx.stride():
            hx.copy_(h_n.detach())
        return output, h_n


class ReturnsAView(Lookalike):
    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        if not isinstance(output, torch.Tensor) or h_n.shape[0] > 1 or self.batch_first or output.dim() == 2:
            return output, h_n
        return output, output[-1:]


class RemembersItsLastShape(Lookalike):
    """A layer that is wrong if h_n has another shape than in the call before."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        kept = getattr(self, "kept", None)
        if kept is not None and kept != h_n.shape:
            h_n = h_n * 2
        self.kept = h_n.shape
        return output, h_n


class KeepsItsOldWeights(Lookalike):
    """A layer that keeps the weights of its construction, so that replaced weights are not used."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.own: list[Any] = [self.weight_ih_l0]

    def forward(self, x: Any, hx: Any = None) -> Any:
        current = self.weight_ih_l0
        if isinstance(current, torch.nn.Parameter) and current is not self.own[0]:
            with torch.no_grad():
                held = current.clone()
                current.copy_(self.own[0])
            try:
                return super().forward(x, hx)
            finally:
                with torch.no_grad():
                    current.copy_(held)
        return super().forward(x, hx)


class ForgetsWhenCopied(Lookalike):
    def __deepcopy__(self, memo: Any) -> Any:
        other = copy.copy(self)
        other.__dict__ = {**self.__dict__, "_parameters": copy.deepcopy(self._parameters, memo)}
        other._init_flat_weights()
        with torch.no_grad():
            forgotten: Any = other.bias_hh_l0 if other.bias else other.weight_ih_l0
            forgotten.zero_()
        return other


class InferenceDiffers(Lookalike):
    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output, h_n * 0.5 if torch.is_inference_mode_enabled() else h_n


class ReturnsMetaOnTheCPU(Lookalike):
    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output, torch.zeros(h_n.shape, dtype=h_n.dtype) if h_n.device.type == "meta" else h_n


class FrozenWeightsFreezeX(Lookalike):
    """A layer in which x has no gradient if the weights are frozen."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        frozen = not self.weight_ih_l0.requires_grad and isinstance(x, torch.Tensor)
        return super().forward(x.detach() * 1 + x * 0 if frozen else x, hx)


class LeakyCell(CellLoop):
    """A cell loop that adds a thousandth of b_hh to h_n once more."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return output, (h_n + self.bias_hh.detach() * 1e-3 if self.bias else h_n)


def unbatched(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Read a sequence without a batch axis as a batch of steps."""
    if config.batched:
        return implementations.vectorised(x, h0, weights, config)
    output, h_n = implementations.vectorised(
        x[None], h0[:, None].repeat(len(x), 1), weights, config.replace(batched=True, batch_first=False, T=1, N=len(x))
    )
    return output[0], h_n[:, -1]


unbatched.offers = {"batched": (True, False)}  # type: ignore[attr-defined]


def in_order(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Read the numbers of x in the order of memory."""
    flat = np.lib.stride_tricks.as_strided(x, x.shape, np.empty_like(x, order="C", subok=False).strides)
    safe = config.strides == "transposed"
    return implementations.vectorised(flat.copy() if safe else x, h0, weights, config)


in_order.profile = KERNEL  # type: ignore[attr-defined]  # by default, a function gets contiguous arrays only

_KEPT: dict[str, Any] = {}


def remembering(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return a wrong h_n if the call before had another T."""
    output, h_n = implementations.vectorised(x, h0, weights, config)
    before, _KEPT["T"] = _KEPT.get("T", config.T), config.T
    return output, h_n if before == config.T else h_n + h_n.dtype.type(1)


TURNED = {
    ONE.replace(T=2, N=2, strides="transposed"),
    ONE.replace(N=2, strides="stepped"),
    ONE.replace(input_size=2, strides="stepped"),
    ONE.replace(input_size=2, N=2, strides="transposed"),
}
DROPPING = TWO_LAYERS.replace(dropout=0.5, training=True)

PLANTED: dict[str, tuple[Any, set[RNNConfig]]] = {
    "layouts: strides": (IgnoresStrides, TURNED),
    "layouts: strides of a function": (in_order, TURNED),
    "layouts: unbatched function": (unbatched, {ONE.replace(batched=False, T=2)}),
    "layouts: frozen weights": (FrozenWeightsFreezeX, {ONE.replace(loss="output", wrt="inputs")}),
    "packed: h_n of short sequences": (PadsInPlaceOfPacking, {ONE.replace(T=2, N=2, lengths=(2, 1))}),
    "packed: h_n at T": (doing(final_state=True), {ONE.replace(T=2, N=2, lengths=(2, 1))}),
    "packed: hx in another order": (doing(order=True), {ONE.replace(T=2, N=2, hx=True, lengths=(1, 2))}),
    "packed: ties": (doing(ties=True), {ONE.replace(N=2, hx=True, lengths=(1, 1))}),
    "packed: padding has a gradient": (
        doing(padding_gradient=True),
        {ONE.replace(T=2, N=2, loss="output", lengths=(2, 1))},
    ),
    "dropout: scale": (doing(scale=True), {DROPPING, DROPPING.replace(loss="output")}),
    "dropout: h_n": (doing(drops_h_n=True), {DROPPING}),
    "dropout: backward": (doing(backward=True), {DROPPING.replace(loss="output")}),
    "sizes: no sequence": (NoEmptyBatch, {ONE.replace(N=0)}),
    "sizes: many sequences": (ManySequences, {ONE.replace(N=101), TWO_LAYERS.replace(N=101)}),
    "values: NaN leaks": (LeaksNaN, {ONE}),
    "values: clipped": (
        ClipsStates,  # by h_n, or by what the next layer makes of a clipped state
        {
            ONE.replace(nonlinearity="relu"),
            ONE.replace(nonlinearity="relu", T=2),
            RNNConfig(1, 2, num_layers=2, nonlinearity="relu"),
        },
    ),
    "state: hx changes": (WritesIntoHx, {ONE.replace(hx=True), ONE.replace(hx=True, loss="output", wrt="weights")}),
    "state: shared memory": (ReturnsAView, {ONE}),
    "state: an earlier call": (
        RemembersItsLastShape,
        {config.replace(preparation="used") for config in (ONE, TWO_LAYERS)},
    ),
    "state: copied": (ForgetsWhenCopied, {ONE.replace(preparation="deepcopy")}),
    "state: replaced": (KeepsItsOldWeights, {ONE.replace(preparation="assign"), ONE.replace(preparation="replaced")}),
    "state: inference": (
        InferenceDiffers,
        {config.replace(grad_mode="inference_mode") for config in (ONE, TWO_LAYERS)},
    ),
    "devices: meta": (ReturnsMetaOnTheCPU, {ONE.replace(device="meta")}),
    "cells": (LeakyCell, {ONE, ONE.replace(autocast="bfloat16")}),  # by h_n's value, or by its dtype
}


# One fault of every family, chosen from those that shrink quickly.
KEPT = {
    ("layouts: strides", 0),
    ("packed: h_n of short sequences", 0),
    ("dropout: h_n", 0),
    ("sizes: no sequence", 0),
    ("values: NaN leaks", 1),
    ("state: inference", 0),
    ("devices: meta", 0),
    ("cells", 0),
}


@pytest.mark.parametrize(("name", "seed"), few(product(PLANTED, [0, 1]), KEPT.__contains__))
def test_a_planted_fault_is_found_and_small(name: str, seed: int) -> None:
    planted, smallest = PLANTED[name]
    subject: Subject = (
        as_subject(planted)
        if callable(planted) and not isinstance(planted, type)
        else (TorchSubject(planted, planted.__name__))
    )

    scope = asked_scope(subject, profile=KERNEL if isinstance(planted, type) else None)
    record = hunt(subject, scope, seed=seed)

    assert record.finding is not None
    assert record.finding.result.verdict in {Verdict.DISAGREES, Verdict.BROKEN}
    config = record.finding.case.config
    assert {config, config.replace(loss=None, wrt="all")} & smallest


@pytest.mark.parametrize(
    ("layer", "values", "kind"),
    [
        (IgnoresAutocast, {"autocast=bfloat16", "autocast=float16"}, "output: dtype"),
        (UnbatchedHnKeepsItsBatch, {"batched=False"}, "h_n: shape"),
    ],
    ids=["autocast", "unbatched"],
)
def test_a_module_that_does_not_do_something_at_all_is_told_so(layer: Any, values: set[str], kind: str) -> None:
    record = hunt(TorchSubject(layer, layer.__name__), cases=50)

    assert record.unsupported_unrefused.keys() == values
    assert {result.kind for _, result in record.unsupported_unrefused.values()} == {kind}
    assert record.verdict is Verdict.DISAGREES


@pytest.mark.parametrize("seed", few([0, 1], lambda seed: seed == 0))
def test_a_function_that_remembers_earlier_calls_wavers_or_is_shown_used(seed: int) -> None:
    record = hunt(as_subject(remembering), seed=seed)

    assert record.finding is not None
    assert record.finding.result.nondeterministic or record.finding.case.config.preparation == "used"
