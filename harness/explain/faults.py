"""faults: named ways of being wrong, each a Reference that gets one small thing wrong.

The first sentence of a fault's docstring is its name for people; it reads on from "the subject".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from harness.oracle.reference import Floats, Reference, StepWeights
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

    def final_step(self, config: RNNConfig, direction: int) -> int:
        return config.T - 1


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


CATALOGUE: Final[tuple[Fault, ...]] = tuple(fault() for fault in Fault.__subclasses__())
"""One of each fault."""
