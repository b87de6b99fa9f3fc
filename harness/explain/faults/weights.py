"""weights: a matrix is transposed, exchanged for another, read in part, or shared."""

from __future__ import annotations

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, TIED, Fault
from harness.oracle.reference import Floats, StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig

TWO_UNITS = (RNNConfig(1, 2, T=2), RNNConfig(1, 2, hx=True))
"""A state of two units is met at the second step, or at the first where one is passed: neither is smaller."""


class TransposesWeightHH(Fault):
    """computes h @ W_hh where nn.RNN computes h @ W_hh.T."""

    role, family = "weight_hh", "weights"
    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh + b_hh)", lines.STEP)
    smallest = TWO_UNITS

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=w.hh.T)


class TransposesWeightIH(Fault):
    """computes x @ W_ih where nn.RNN computes x @ W_ih.T, if W_ih is square."""

    role, family = "weight_ih", "weights"
    code = ("h = {phi}(x[t] @ W_ih + b_ih + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (RNNConfig(1, 2, num_layers=2), *(RNNConfig(n, n) for n in TIED))

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=w.ih.T) if w.ih.shape == w.hh.shape else w


class ForgetsInput(Fault):
    """leaves x @ W_ih.T out."""

    role, family = "weight_ih", "weights"
    code = ("h = {phi}(b_ih + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (ONE,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=np.zeros_like(w.ih))

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return super().preactivation(np.zeros_like(x), h, w)


class ReadsWeightIHByColumns(Fault):
    """reads the memory of weight_ih column by column, where it lies row by row."""

    role, family = "weight_ih", "weights"
    code = ('W_ih = flat_weight_ih.reshape((H, -1), order="F")', lines.WEIGHT_IH)
    smallest = (RNNConfig(2, 2),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=w.ih.reshape(w.ih.shape[::-1]).T)


class ExchangesWeights(Fault):
    """exchanges weight_ih and weight_hh where both are square."""

    role, family = "weight", "weights"
    code = ("h = {phi}(x[t] @ W_hh.T + b_ih + h @ W_ih.T + b_hh)", lines.STEP)
    smallest = (ONE, *(RNNConfig(n, n) for n in TIED))

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=w.hh, hh=w.ih) if w.ih.shape == w.hh.shape else w


class ConcatenatesInOtherOrder(Fault):
    """multiplies [h, x] by [W_ih, W_hh], which stand in the other order, that of [x, h]."""

    role, family = "weight", "weights"
    code = ("s = np.hstack([h, x[t]]) @ np.hstack([W_ih, W_hh]).T + b_ih + b_hh", lines.JOINED_STEP)
    smallest = (ONE,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        side_by_side, H = np.concatenate([w.ih, w.hh], axis=1), len(w.hh)
        return w._replace(ih=side_by_side[:, H:], hh=side_by_side[:, :H])


class SharesWeightHHOfFirstLayer(Fault):
    """multiplies by the first layer's weight_hh in every layer."""

    role, family = "weight_hh", "weights"
    code = ("W_hh = weight_hh[0, d]", lines.WEIGHT_HH)
    smallest = (ONE.replace(num_layers=2, T=2), ONE.replace(num_layers=2, hx=True))

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        first = super().step_weights(case, 0, direction)
        return super().step_weights(case, layer, direction)._replace(hh=first.hh)


class SharesWeightsOfUpperLayers(Fault):
    """uses the second layer's parameters in all layers above it."""

    role, family = "", "weights"
    code = ("W_ih, W_hh, b_ih, b_hh = weights[min(layer, 1), d]", lines.WEIGHTS)
    smallest = (ONE.replace(num_layers=3),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        return super().step_weights(case, min(layer, 1), direction)


class SharesMatricesOfUpperLayers(Fault):
    """uses the second layer's weights, but not its biases, in all layers above it."""

    role, family = "weight", "weights"
    code = ("W_ih, W_hh = (w[min(layer, 1), d] for w in (weight_ih, weight_hh))", lines.MATRICES)
    smallest = (ONE.replace(num_layers=3),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        second = super().step_weights(case, min(layer, 1), direction)
        return super().step_weights(case, layer, direction)._replace(ih=second.ih, hh=second.hh)


class DiagonalOfWeightHH(Fault):
    """takes only the diagonal of weight_hh: no unit reads another one's state."""

    role, family = "weight_hh", "weights"
    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + h * np.diag(W_hh) + b_hh)", lines.STEP)
    smallest = TWO_UNITS

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=np.diag(np.diag(w.hh)))


class UpperLayersForgetState(Fault):
    """leaves h @ W_hh.T out in the layers above the first."""

    role, family = "weight_hh", "weights"
    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + b_hh)  # if layer > 0", lines.STEP)
    smallest = (ONE.replace(num_layers=2, T=2), ONE.replace(num_layers=2, hx=True))

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=np.zeros_like(w.hh)) if layer else w


class ReversesRowsOfWeightIH(Fault):
    """takes the rows of weight_ih from the last to the first."""

    role, family = "weight_ih", "weights"
    code = ("h = {phi}(x[t] @ W_ih[::-1].T + b_ih + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (RNNConfig(1, 2),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=w.ih[::-1])


class ReversesRowsOfWeightHH(Fault):
    """takes the rows of weight_hh from the last to the first."""

    role, family = "weight_hh", "weights"
    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh[::-1].T + b_hh)", lines.STEP)
    smallest = TWO_UNITS

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=w.hh[::-1])


class ReadsForwardHalfOnly(Fault):
    """reads, above the first layer, only the forward half of the output below: the other columns are left out."""

    role, family = "weight_ih", "weights"
    code = ("x_t = x[t] * (np.arange(2 * H) < H)  # if layer > 0", lines.X_T)
    smallest = (ONE.replace(num_layers=2, bidirectional=True),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=half_of(w.ih, 0, case)) if layer else w


def half_of(ih: Floats, direction: int, case: Case) -> Floats:
    """W_ih (H, D*H) with zeros in the columns that do not belong to a direction."""
    columns = np.arange(ih.shape[1]) // case.config.hidden_size
    return np.where(columns == direction, ih, 0.0)
