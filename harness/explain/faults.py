"""faults: named ways of being wrong, each a Reference that gets one small thing wrong.

The first sentence of a fault's docstring is its name for people; it reads on from "the subject". A fault with a
parameter is fitted: one of it is tried for each value that a case can tell from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from harness.oracle.reference import Floats, Reference, Steps, StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig


class Fault(Reference):
    """A Reference that is wrong in one way."""

    role: ClassVar[str] = ""
    """What the parameters concerned are called, before the layer's suffix."""

    @property
    def sentence(self) -> str:
        """The fault's name for people."""
        return (type(self).__doc__ or "").partition(".")[0]

    def fitted(self, config: RNNConfig) -> list[Fault]:
        """This fault with each parameter that matters in a config."""
        return [self]

    def concerned(self, config: RNNConfig) -> list[str]:
        """The parameters of a config that the fault gets wrong."""
        return [name for name in config.weights if self.role and name.startswith(self.role)]


class IgnoresBiasHH(Fault):
    """ignores bias_hh: b_hh is never added. The notebook's mistake, which takes nn.RNN's two biases for one."""

    role = "bias_hh"

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(b_hh=np.zeros_like(w.b_hh))


class IgnoresBiasIH(Fault):
    """ignores bias_ih: b_ih is never added."""

    role = "bias_ih"

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(b_ih=np.zeros_like(w.b_ih))


class AddsBiasIHTwice(Fault):
    """adds bias_ih twice: b_ih stands where b_hh should."""

    role = "bias"

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(b_hh=w.b_ih)


class AddsBiasHHTwice(Fault):
    """adds bias_hh twice: b_hh stands where b_ih should."""

    role = "bias"

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(b_ih=w.b_hh)


class TransposesWeightHH(Fault):
    """transposes weight_hh: it multiplies by W_hh^T, not by W_hh."""

    role = "weight_hh"

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=w.hh.T)


class ForgetsState(Fault):
    """forgets the state: W_hh h is left out, so that the time steps do not know each other."""

    role = "weight_hh"

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return super().preactivation(x, np.zeros_like(h), w)


class IgnoresHx(Fault):
    """ignores hx: the recurrence starts from zeros."""

    def initial_state(self, case: Case, layer: int, direction: int) -> Floats:
        return np.zeros_like(super().initial_state(case, layer, direction))


class ReadsHxByDirection(Fault):
    """reads hx in the wrong order: directions before layers, not row layer * directions + direction."""

    def initial_state(self, case: Case, layer: int, direction: int) -> Floats:
        row = direction * case.config.num_layers + layer
        return super().initial_state(case, *divmod(row, case.config.num_directions))


class WritesHnByDirection(Fault):
    """writes h_n in the wrong order: directions before layers, not row layer * directions + direction."""

    def h_n_order(self, config: RNNConfig) -> list[tuple[int, int]]:
        return [(layer, d) for d in range(config.num_directions) for layer in range(config.num_layers)]


class TakesHnAtLastStep(Fault):
    """takes the reverse direction's h_n at the last time step, not at the first, which it visits last."""

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        return config.T - 1 if config.lengths is None else np.array(config.lengths) - 1


class ReverseReadsForwards(Fault):
    """reads time forwards in the reverse direction too."""

    def time_order(self, config: RNNConfig, direction: int) -> Sequence[int]:
        return range(config.T)


class ReverseBeforeForward(Fault):
    """concatenates reverse before forward in the output's features."""

    def features(self, config: RNNConfig, direction: int) -> slice:
        return super().features(config, config.num_directions - 1 - direction)


class ReverseUsesForwardWeights(Fault):
    """uses the forward direction's weights in the reverse direction too."""

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        return super().step_weights(case, layer, 0)


class AlwaysTanh(Fault):
    """ignores nonlinearity='relu': it applies tanh."""

    def nonlinearity(self, config: RNNConfig) -> str:
        return "tanh"


class AlwaysRelu(Fault):
    """ignores nonlinearity='tanh': it applies relu."""

    def nonlinearity(self, config: RNNConfig) -> str:
        return "relu"


class NoNonlinearity(Fault):
    """applies no nonlinearity: h_t is the preactivation itself."""

    def nonlinearity(self, config: RNNConfig) -> str:
        return "identity"

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        return s


class ReadoutIgnoresBias(Fault):
    """ignores the readout's bias."""

    role = "readout.bias"

    def readout(self, output: Floats, weight: Floats, bias: Floats) -> Floats:
        return super().readout(output, weight, np.zeros_like(bias))


class _OfSteps(Fault):
    def __init__(self, steps: int = 1) -> None:
        self.steps = steps

    @property
    def sentence(self) -> str:
        return super().sentence.replace("k steps", f"{self.steps} step{'s' * (self.steps > 1)}")

    def fitted(self, config: RNNConfig) -> list[Fault]:
        return [type(self)(steps) for steps in range(1, config.T)]


class StopsBackpropagation(_OfSteps):
    """stops backpropagation through time after k steps, counted from the last one."""

    def reaches(self, config: RNNConfig, step: int) -> bool:
        return step >= config.T - self.steps


class CutsBackpropagation(_OfSteps):
    """cuts the gradient of the state k steps before the end: what is earlier does not feel what is later."""

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        return step != config.T - self.steps


class DetachesState(_OfSteps):
    """detaches the state every k steps, so that no gradient flows from one chunk back to the one before."""

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        return step % self.steps > 0


class DetachesStateFromTheEnd(_OfSteps):
    """detaches the state every k steps, counted from the last one."""

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        return (config.T - step) % self.steps > 0


class ForgetsWeightHHBack(Fault):
    """forgets W_hh on the way back: the gradient goes from step to step, and to hx, as it is."""

    role = "weight_hh"

    def weights_back(self, w: StepWeights) -> StepWeights:
        return w._replace(hh=np.eye(len(w.hh)))


class ForgetsStateBack(Fault):
    """forgets the state on the way back: no gradient flows from step to step, nor to hx."""

    role = "weight_hh"

    def weights_back(self, w: StepWeights) -> StepWeights:
        return w._replace(hh=np.zeros_like(w.hh))


class IgnoresGradientOfHn(Fault):
    """ignores the gradient that the loss gives to h_n."""

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        return {key: np.zeros_like(gradient) for key, gradient in super().final_gradients(case).items()}


class IgnoresInnerGradientOfHn(Fault):
    """ignores the gradient that the loss gives to h_n of all layers but the last."""

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        top = case.config.num_layers - 1
        return {key: gradient * (key[0] == top) for key, gradient in super().final_gradients(case).items()}


class IgnoresSlope(Fault):
    """leaves out the slope of the nonlinearity on the way back."""

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        return np.ones_like(h)


class SlopeWithoutSquare(Fault):
    """takes 1 - h for the slope of tanh, not 1 - h squared."""

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        return np.asarray(1 - h) if nonlinearity == "tanh" else super().slope(h, nonlinearity)


class TransposesWeightHHBack(Fault):
    """transposes weight_hh on the way back: it multiplies by W_hh, not by W_hh^T."""

    role = "weight_hh"

    def weights_back(self, w: StepWeights) -> StepWeights:
        return w._replace(hh=w.hh.T)


class AveragesOverBatch(Fault):
    """averages the parameters' gradients over the batch instead of summing them."""

    def entering(self, da: Floats, parameter: int) -> Floats:
        return np.asarray(da / max(da.shape[1], 1))


class FirstSequenceOnly(Fault):
    """takes the parameters' gradients from the first sequence of the batch only."""

    def entering(self, da: Floats, parameter: int) -> Floats:
        return np.where((np.arange(da.shape[1]) == 0)[:, None], da, 0.0)


class LastSequenceOnly(Fault):
    """takes the parameters' gradients from the last sequence of the batch only."""

    def entering(self, da: Floats, parameter: int) -> Floats:
        return np.where((np.arange(da.shape[1]) == da.shape[1] - 1)[:, None], da, 0.0)


class LastStepOnly(Fault):
    """takes the parameters' gradients from the last time step only: they are not summed over time."""

    def entering(self, da: Floats, parameter: int) -> Floats:
        return np.where((np.arange(da.shape[0]) == da.shape[0] - 1)[:, None, None], da, 0.0)


class NoGradientOfBiasHH(Fault):
    """gives bias_hh no gradient: it stays zero."""

    role = "bias_hh"

    def entering(self, da: Floats, parameter: int) -> Floats:
        return np.zeros_like(da) if parameter == StepWeights._fields.index("b_hh") else da


def _all(kind: type[Fault]) -> list[type[Fault]]:
    """The faults below a class, in the order of this file; names with an underscore are no faults themselves."""
    found = [cls for below in kind.__subclasses__() for cls in (below, *_all(below))]
    return [cls for cls in found if not cls.__name__.startswith("_")]


CATALOGUE: Final[tuple[Fault, ...]] = tuple(fault() for fault in _all(Fault))
"""One of each fault."""
