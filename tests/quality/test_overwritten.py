"""Measurement on subjects whose next call overwrites results: this is found, shrunk and named, in every form."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.layers.second_numpy import kept_workspace
from harness import RNNConfig, Verdict, as_subject, hunt
from harness.report.wording import mismatch_line
from tests import implementations
from tests.long import few

KEPT: dict[Any, Any] = {}


def kept(name: str, array: Any) -> Any:
    """Return the numbers in a buffer of that name, allocated once for each shape, dtype and device."""
    if isinstance(array, torch.Tensor):
        # A buffer of the meta device, which some cases use, holds no numbers for the others.
        return KEPT.setdefault((name, array.shape, array.dtype, array.device), array.clone()).copy_(array)
    buffer = KEPT.setdefault((name, array.shape, array.dtype), array.copy())
    buffer[...] = array
    return buffer


def view_of_a_buffer(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return kept("function", output)[:], h_n


def last_state_in_a_buffer(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return output, kept("function", h_n)


def gradients_in_buffers(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Compute a single tanh step, with a backward pass by definition."""
    if (config.num_layers, config.T, config.bidirectional, config.nonlinearity) != (1, 1, False, "tanh"):
        raise NotImplementedError("one tanh step")
    output, h_n = implementations.vectorised(x, h0, weights, config)
    if config.loss is None:
        return output, h_n, {}
    seen = x.swapaxes(0, 1) if config.batch_first else x
    g = sum(
        array[:, 0] if config.batch_first and name == "output.grad" else array[0] for name, array in cotangents.items()
    )
    ds = (g * (1 - h_n[0] ** 2)).astype(x.dtype)
    dx = (ds @ weights["weight_ih_l0"])[None]
    gradients = {"x": dx.swapaxes(0, 1) if config.batch_first else dx, "weight_ih_l0": kept("dW", ds.T @ seen[0])}
    gradients |= {"weight_hh_l0": ds.T @ h0[0], "hx": (ds @ weights["weight_hh_l0"])[None]}
    gradients |= {name: ds.sum(0) for name in ("bias_ih_l0", "bias_hh_l0") if config.bias}
    return output, h_n, gradients if config.hx else {name: g for name, g in gradients.items() if name != "hx"}


class OutputInABuffer(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        output, h_n = super().forward(input, hx)
        plain = isinstance(output, torch.Tensor) and not output.requires_grad
        return kept("module", output) if plain else output, h_n


class LastStateInABufferOfItsOwn(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        output, h_n = super().forward(input, hx)
        if h_n.requires_grad:
            return output, h_n
        if not hasattr(self, "last") or self.last.shape != h_n.shape:
            self.last: torch.Tensor = h_n.clone()
        return output, self.last.copy_(h_n)


class Identity(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, gradient: Any) -> Any:
        with torch.no_grad():
            return kept("gradient", gradient)


class GradientInABuffer(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        identity: Any = Identity.apply
        return super().forward(identity(input) if isinstance(input, torch.Tensor) else input, hx)


SUBJECTS: list[tuple[Any, str, RNNConfig]] = [
    (view_of_a_buffer, "output", RNNConfig(1, 1)),
    (last_state_in_a_buffer, "h_n", RNNConfig(1, 1)),
    (gradients_in_buffers, "weight_ih_l0.grad", RNNConfig(1, 1, loss="output")),
    (kept_workspace, "output", RNNConfig(1, 1)),
    (OutputInABuffer, "output", RNNConfig(1, 1)),
    (LastStateInABufferOfItsOwn, "h_n", RNNConfig(1, 1)),
    (GradientInABuffer, "x.grad", RNNConfig(1, 1, loss="output")),
]


@pytest.mark.parametrize(
    ("subject", "array", "smallest"),
    few(SUBJECTS, lambda one: one[0] not in {OutputInABuffer, GradientInABuffer}),
    ids=lambda one: getattr(one, "__name__", None),
)
def test_what_the_next_call_overwrites_is_found_small_and_named(subject: Any, array: str, smallest: RNNConfig) -> None:
    with np.errstate(all="ignore"):
        finding = hunt(as_subject(subject)).finding

    assert finding is not None
    assert (finding.result.verdict, finding.minimal) == (Verdict.DISAGREES, True)
    assert finding.case.config == smallest
    assert mismatch_line(finding.result.mismatches[0]) == f"{array} is overwritten by the next call"
