"""weights: a matrix is transposed, exchanged for another, read in part, or shared."""

from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, TIED, Fault, above_first, parameters, without
from benchmarks.planted.layer import Floats, Layer, StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig

# A state of two units is met at the second step, or at the first where one is passed: neither is smaller.
TWO_UNITS = (RNNConfig(1, 2, T=2), RNNConfig(1, 2, hx=True))


def _forgets_input_preactivation(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    return right.preactivation(np.zeros_like(x), h, w)


def _concatenates_in_other_order(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    w = right.step_weights(case, layer, direction)
    side_by_side, H = np.concatenate([w.ih, w.hh], axis=1), len(w.hh)
    return w._replace(ih=side_by_side[:, H:], hh=side_by_side[:, :H])


def _shares_weight_hh_of_first_layer(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    first = right.step_weights(case, 0, direction)
    return right.step_weights(case, layer, direction)._replace(hh=first.hh)


def _shares_weights_of_upper_layers(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    return right.step_weights(case, min(layer, 1), direction)


def _shares_matrices_of_upper_layers(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    second = right.step_weights(case, min(layer, 1), direction)
    return right.step_weights(case, layer, direction)._replace(ih=second.ih, hh=second.hh)


def _reads_forward_half_only(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    w = right.step_weights(case, layer, direction)
    return w._replace(ih=half_of(w.ih, 0, case)) if layer else w


def half_of(ih: Floats, direction: int, case: Case) -> Floats:
    """W_ih (H, D*H) with zeros in the columns that do not belong to a direction."""
    columns = np.arange(ih.shape[1]) // case.config.hidden_size
    return np.where(columns == direction, ih, 0.0)


FAULTS: Final = (
    Fault(
        "TransposesWeightHH",
        "computes h @ W_hh where nn.RNN computes h @ W_hh.T",
        parameters(lambda w: w._replace(hh=w.hh.T)),
        smallest=TWO_UNITS,
    ),
    Fault(
        "TransposesWeightIH",
        "computes x @ W_ih where nn.RNN computes x @ W_ih.T, if W_ih is square",
        parameters(lambda w: w._replace(ih=w.ih.T) if w.ih.shape == w.hh.shape else w),
        smallest=(RNNConfig(1, 2, num_layers=2), *(RNNConfig(n, n) for n in TIED)),
    ),
    Fault(
        "ForgetsInput",
        "leaves x @ W_ih.T out",
        {**parameters(without("ih")), "preactivation": _forgets_input_preactivation},
        smallest=(ONE,),
    ),
    Fault(
        "ReadsWeightIHByColumns",
        "reads the memory of weight_ih column by column, although it lies row by row",
        parameters(lambda w: w._replace(ih=w.ih.reshape(w.ih.shape[::-1]).T)),
        smallest=(RNNConfig(2, 2),),
    ),
    Fault(
        "ExchangesWeights",
        "exchanges weight_ih and weight_hh where both are square",
        parameters(lambda w: w._replace(ih=w.hh, hh=w.ih) if w.ih.shape == w.hh.shape else w),
        smallest=(ONE, *(RNNConfig(n, n) for n in TIED)),
    ),
    Fault(
        "ConcatenatesInOtherOrder",
        "multiplies [h, x] by [W_ih, W_hh], which stand in the other order, that of [x, h]",
        {"step_weights": _concatenates_in_other_order},
        smallest=(ONE,),
    ),
    Fault(
        "SharesWeightHHOfFirstLayer",
        "multiplies by the first layer's weight_hh in every layer",
        {"step_weights": _shares_weight_hh_of_first_layer},
        smallest=(ONE.replace(num_layers=2, T=2), ONE.replace(num_layers=2, hx=True)),
    ),
    Fault(
        "SharesWeightsOfUpperLayers",
        "uses the second layer's parameters in all layers above it",
        {"step_weights": _shares_weights_of_upper_layers},
        smallest=(ONE.replace(num_layers=3),),
    ),
    Fault(
        "SharesMatricesOfUpperLayers",
        "uses the second layer's weights, but not its biases, in all layers above it",
        {"step_weights": _shares_matrices_of_upper_layers},
        smallest=(ONE.replace(num_layers=3),),
    ),
    Fault(
        "DiagonalOfWeightHH",
        "takes only the diagonal of weight_hh: no unit reads another one's state",
        parameters(lambda w: w._replace(hh=np.diag(np.diag(w.hh)))),
        smallest=TWO_UNITS,
    ),
    Fault(
        "UpperLayersForgetState",
        "leaves h @ W_hh.T out in the layers above the first",
        parameters(without("hh"), above_first),
        smallest=(ONE.replace(num_layers=2, T=2), ONE.replace(num_layers=2, hx=True)),
    ),
    Fault(
        "ReversesRowsOfWeightIH",
        "takes the rows of weight_ih from the last to the first",
        parameters(lambda w: w._replace(ih=w.ih[::-1])),
        smallest=(RNNConfig(1, 2),),
    ),
    Fault(
        "ReversesRowsOfWeightHH",
        "takes the rows of weight_hh from the last to the first",
        parameters(lambda w: w._replace(hh=w.hh[::-1])),
        smallest=TWO_UNITS,
    ),
    Fault(
        "ReadsForwardHalfOnly",
        "reads only the forward half of the output below, above the first layer: the other columns are left out",
        {"step_weights": _reads_forward_half_only},
        smallest=(ONE.replace(num_layers=2, bidirectional=True),),
    ),
)
