"""Tests of gradients that are wrong because the forward pass is, and of those that are wrong by themselves."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.layers.torch_base import ByHand
from harness import Case, RNNConfig, as_subject, draw
from harness.checks.agreement import assess, observe
from harness.diagnosis.failure_conditions import FailingSizes, FailureConditions
from harness.diagnosis.gradient_of_forward import own_derivative
from harness.diagnosis.unexplained_cause import UnexplainedCause
from tests.diagnosis.halved_back import halved_back

CONFIG = RNNConfig(2, 3, num_layers=2, T=3, N=2, hx=True, loss="both")


class Starts(ByHand):
    """A layer whose upper layers start from the square of their state, or which halves what goes back to hx."""

    squares, halves = True, False

    def initial(self, layer: int, d: int, hx: Tensor, finals: Sequence[Tensor]) -> Tensor:
        start = super().initial(layer, d, hx, finals)
        start = start**2 if layer and self.squares else start
        return halved_back(start) if self.halved(hx.dtype) else start

    def halved(self, _dtype: torch.dtype) -> bool:
        return self.halves


class HalvesBack(Starts):
    squares, halves = False, True


class SkewedAndHalved(Starts):
    halves = True


class SkewedAndHalvedAlone(Starts):
    """A layer with both mistakes, the second one in float32 alone."""

    def halved(self, dtype: torch.dtype) -> bool:
        return dtype is torch.float32


class ForgetsBelow(ByHand):
    """A layer whose upper layers read zeros."""

    def between(self, layer: int, steps: list[Tensor]) -> list[Tensor]:
        return [torch.zeros_like(h) for h in steps] if layer + 1 < self.num_layers else steps


@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
def test_a_layer_with_gates_that_is_wrong_forwards_has_its_own_derivative(cell: str) -> None:
    class Doubled(getattr(torch.nn, cell)):  # type: ignore[misc]
        def forward(self, x: Tensor, *states: Any) -> Any:
            return super().forward(2 * x, *states)

    case = draw(CONFIG.replace(cell=cell), "default", 1)

    assert own_derivative(as_subject(Doubled), case) is not None
    assert own_derivative(as_subject(f"torch:{cell.lower()}"), case) is None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("layer", "known"),
    [(Starts, True), (ForgetsBelow, True), (ByHand, False), (HalvesBack, False), (SkewedAndHalved, False)],
)
def test_gradients_that_are_the_derivative_of_a_wrong_forward_pass_are_of_it(
    layer: Any, known: bool, dtype: str
) -> None:
    case = draw(CONFIG.replace(dtype=dtype), "default", 1)

    assert (own_derivative(as_subject(layer), case) is not None) is known


def test_where_dropout_draws_masks_it_cannot_be_told() -> None:
    case = draw(CONFIG.replace(dropout=0.5, training=True), "default", 1)

    assert own_derivative(as_subject(Starts), case) is None


def squares_of_themselves() -> Case:
    """Return a case with states of 0 and 1 above, which are their own squares."""
    case = draw(CONFIG, "default", 1)
    hx = case.arrays["hx"].copy()
    hx[1] = hx[1] > 0
    return Case.from_arrays(CONFIG, {**case.arrays, "hx": hx})


@pytest.mark.parametrize(
    ("layer", "case", "kind", "first_layer", "known"),
    [
        (Starts, squares_of_themselves(), "hx.grad: value", 2, True),
        (SkewedAndHalved, squares_of_themselves(), "hx.grad: value", 2, False),
        (SkewedAndHalvedAlone, squares_of_themselves(), "hx.grad: value", 2, False),
        (ForgetsBelow, draw(CONFIG.replace(loss="output", wrt="inputs"), "default", 1), "x.grad: missing", 2, True),
        (ForgetsBelow, draw(CONFIG.replace(loss="output", wrt="inputs"), "default", 1), "x.grad: missing", 3, False),
    ],
)
def test_they_are_known_again_where_the_forward_pass_is_wrong_and_others_are_not(
    layer: Any, case: Case, kind: str, first_layer: int, known: bool
) -> None:
    subject = as_subject(layer)
    shown = assess(observe(subject, draw(CONFIG.replace(loss=None), "default", 1)))
    observation = observe(subject, case, with_probes=False)
    result = assess(observation)
    assert (shown.kind, result.kind) == ("output: value", kind)

    region = FailureConditions(sizes={"num_layers": FailingSizes(first_layer, (first_layer + 1,), ())})
    cause = UnexplainedCause(shown, region)

    assert cause.explains(subject, observation, result) is known
