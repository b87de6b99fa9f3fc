"""bias: the two biases of a layer, which add up, are left out, doubled, or taken from elsewhere."""

from typing import Final

import numpy as np

from benchmarks.planted.base import (
    ONE,
    TIED,
    Fault,
    above_first,
    added_after_phi,
    entering,
    in_reverse,
    parameters,
    without,
)
from benchmarks.planted.layer import Floats, Layer, StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig

B_IH, B_HH = (StepWeights._fields.index(name) for name in ("b_ih", "b_hh"))


def _adds_bias_hh_again_preactivation(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    return np.asarray(right.preactivation(x, h, w) + w.b_hh)


def _adds_bias_ih_again_preactivation(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    return np.asarray(right.preactivation(x, h, w) + w.b_ih)


def _adds_biases_twice_preactivation(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    return np.asarray(right.preactivation(x, h, w) + w.b_ih + w.b_hh)


def _shares_biases_of_first_layer(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    first = right.step_weights(case, 0, direction)
    return right.step_weights(case, layer, direction)._replace(b_ih=first.b_ih, b_hh=first.b_hh)


def _reverse_uses_forward_biases(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    forward = right.step_weights(case, layer, 0)
    return right.step_weights(case, layer, direction)._replace(b_ih=forward.b_ih, b_hh=forward.b_hh)


def _adds_biases_after_nonlinearity_preactivation(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    return right.preactivation(x, h, unbiased(w))


def _adds_biases_after_nonlinearity_new_state(right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return np.asarray(right.new_state(activated, h, w) + w.b_ih + w.b_hh)


def _unchanged_to_previous(right: Layer, da: Floats, dh: Floats, hh: Floats) -> Floats:
    return right.to_previous(da, dh, hh)


def _adds_biases_along_batch_preactivation(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    s = right.preactivation(x, h, w)
    if s.ndim < 2 or s.shape[-2] != s.shape[-1]:
        return s
    bias = w.b_ih + w.b_hh
    return np.asarray(right.preactivation(x, h, unbiased(w)) + bias[:, None])


def _adds_biases_along_batch_entering(
    right: Layer, config: RNNConfig, direction: int, parameter: int, da: Floats
) -> Floats:
    entering = right.entering(config, direction, parameter, da)
    along = parameter in {B_IH, B_HH} and config.hidden_size == config.N
    return entering.swapaxes(1, 2) if along else entering


def unbiased(w: StepWeights) -> StepWeights:
    """Put zeros in the place of both biases."""
    return w._replace(b_ih=np.zeros_like(w.b_ih), b_hh=np.zeros_like(w.b_hh))


FAULTS: Final = (
    # The notebook's mistake, which takes nn.RNN's two biases for one.
    Fault("IgnoresBiasHH", "ignores bias_hh: b_hh is never added", parameters(without("b_hh")), smallest=(ONE,)),
    Fault("IgnoresBiasIH", "ignores bias_ih: b_ih is never added", parameters(without("b_ih")), smallest=(ONE,)),
    Fault(
        "IgnoresBiases",
        "ignores both biases, as if bias were False",
        parameters(without("b_ih", "b_hh")),
        smallest=(ONE,),
    ),
    Fault(
        "AddsBiasIHTwice",
        "adds bias_ih twice: b_ih stands where b_hh should",
        parameters(lambda w: w._replace(b_hh=w.b_ih)),
        smallest=(ONE,),
    ),
    Fault(
        "AddsBiasHHTwice",
        "adds bias_hh twice: b_hh stands where b_ih should",
        parameters(lambda w: w._replace(b_ih=w.b_hh)),
        smallest=(ONE,),
    ),
    Fault(
        "AddsBiasHHAgain",
        "adds bias_hh twice, and bias_ih once",
        {
            "preactivation": _adds_bias_hh_again_preactivation,
            **entering(lambda da, _config: np.asarray(2 * da), "b_hh"),
        },
        smallest=(ONE,),
    ),
    Fault(
        "AddsBiasIHAgain",
        "adds bias_ih twice, and bias_hh once",
        {
            "preactivation": _adds_bias_ih_again_preactivation,
            **entering(lambda da, _config: np.asarray(2 * da), "b_ih"),
        },
        smallest=(ONE,),
    ),
    Fault(
        "AddsBiasesTwice",
        "adds both biases twice",
        {
            "preactivation": _adds_biases_twice_preactivation,
            **entering(lambda da, _config: np.asarray(2 * da), "b_ih", "b_hh"),
        },
        smallest=(ONE,),
    ),
    Fault(
        "ReverseIgnoresBiases",
        "ignores both biases in the reverse direction",
        parameters(without("b_ih", "b_hh"), in_reverse),
        smallest=(ONE.replace(bidirectional=True),),
    ),
    Fault(
        "ReverseUsesForwardBiases",
        "adds the forward direction's biases in the reverse direction too",
        {"step_weights": _reverse_uses_forward_biases},
        smallest=(ONE.replace(bidirectional=True),),
    ),
    Fault(
        "UpperLayersIgnoreBiases",
        "ignores both biases in the layers above the first",
        parameters(without("b_ih", "b_hh"), above_first),
        smallest=(ONE.replace(num_layers=2),),
    ),
    Fault(
        "SharesBiasesOfFirstLayer",
        "adds the first layer's biases in every layer",
        {"step_weights": _shares_biases_of_first_layer},
        smallest=(ONE.replace(num_layers=2),),
    ),
    Fault(
        "AddsBiasesAfterNonlinearity",
        "adds both biases after the nonlinearity, not before it",
        {
            "new_state": _adds_biases_after_nonlinearity_new_state,
            **added_after_phi(_adds_biases_after_nonlinearity_preactivation, _unchanged_to_previous, "b_ih", "b_hh"),
        },
        smallest=(ONE,),
    ),
    Fault(
        "AddsBiasesAlongBatch",
        "adds the biases along the batch, where N = hidden_size: unit n's bias to all units of sequence n",
        {"preactivation": _adds_biases_along_batch_preactivation, "entering": _adds_biases_along_batch_entering},
        smallest=tuple(RNNConfig(1, n, N=n) for n in TIED),
    ),
)
