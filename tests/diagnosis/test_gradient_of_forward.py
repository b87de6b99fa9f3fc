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
from harness.oracle.compare import MismatchKind
from tests.diagnosis.halved_back import halved_back

CONFIG = RNNConfig(2, 3, num_layers=2, T=3, N=2, hx=True, loss="both")
ABOVE = FailureConditions(sizes={"num_layers": FailingSizes(2, (3,), ())})


class Skewed(ByHand):
    """A layer whose upper layers start from the square of their state."""

    def initial(self, layer: int, d: int, hx: Tensor, finals: Sequence[Tensor]) -> Tensor:
        start = super().initial(layer, d, hx, finals)
        return start**2 if layer else start


class HalvesBack(ByHand):
    """A layer that is right forwards, and halves the gradient of its initial states."""

    def initial(self, layer: int, d: int, hx: Tensor, finals: Sequence[Tensor]) -> Tensor:
        return halved_back(super().initial(layer, d, hx, finals))


class SkewedAndHalved(Skewed):
    """A layer with both mistakes."""

    def initial(self, layer: int, d: int, hx: Tensor, finals: Sequence[Tensor]) -> Tensor:
        return halved_back(super().initial(layer, d, hx, finals))


class SkewedAndHalvedAlone(Skewed):
    """A layer with both mistakes, the second one in float32 alone."""

    def initial(self, layer: int, d: int, hx: Tensor, finals: Sequence[Tensor]) -> Tensor:
        start = super().initial(layer, d, hx, finals)
        return halved_back(start) if hx.dtype is torch.float32 else start


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
    [(Skewed, True), (ForgetsBelow, True), (ByHand, False), (HalvesBack, False), (SkewedAndHalved, False)],
)
def test_gradients_that_are_the_derivative_of_a_wrong_forward_pass_are_of_it(
    layer: Any, known: bool, dtype: str
) -> None:
    case = draw(CONFIG.replace(dtype=dtype), "default", 1)

    assert (own_derivative(as_subject(layer), case) is not None) is known


def test_where_dropout_draws_masks_it_cannot_be_told() -> None:
    case = draw(CONFIG.replace(dropout=0.5, training=True), "default", 1)

    assert own_derivative(as_subject(Skewed), case) is None


def hidden_forwards() -> Case:
    """Return a case with states of 0 and 1 above, which are their own squares."""
    case = draw(CONFIG, "default", 1)
    hx = case.arrays["hx"].copy()
    hx[1] = hx[1] > 0
    return Case.from_arrays(CONFIG, {**case.arrays, "hx": hx})


@pytest.mark.parametrize(("layer", "known"), [(Skewed, True), (SkewedAndHalved, False), (SkewedAndHalvedAlone, False)])
def test_they_are_known_again_and_gradients_that_are_wrong_by_themselves_are_not(layer: Any, known: bool) -> None:
    subject, case = as_subject(layer), hidden_forwards()
    shown = assess(observe(subject, draw(CONFIG.replace(loss=None), "default", 1)))
    observation = observe(subject, case, with_probes=False)
    result = assess(observation)
    assert (shown.kind, result.kind) == ("output: value", "hx.grad: value")

    assert UnexplainedCause(shown, ABOVE).explains(subject, observation, result) is known


def test_a_missing_gradient_of_a_wrong_forward_pass_is_known_again_where_that_shows() -> None:
    subject, case = as_subject(ForgetsBelow), draw(CONFIG.replace(loss="output", wrt="inputs"), "default", 1)
    shown = assess(observe(subject, draw(CONFIG.replace(loss=None), "default", 1)))
    observation = observe(subject, case, with_probes=False)
    result = assess(observation)

    elsewhere = FailureConditions(sizes={"num_layers": FailingSizes(3, (4,), ())})
    assert result.mismatches[0].sort is MismatchKind.MISSING
    assert UnexplainedCause(shown, ABOVE).explains(subject, observation, result)
    assert not UnexplainedCause(shown, elsewhere).explains(subject, observation, result)
