"""bias: the two biases of a layer, which add up, are left out, doubled, or taken from elsewhere."""

from __future__ import annotations

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, TIED, Fault
from harness.oracle.reference import Floats, StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig

B_IH, B_HH = (StepWeights._fields.index(name) for name in ("b_ih", "b_hh"))


class IgnoresBiasHH(Fault):
    """ignores bias_hh: b_hh is never added. The notebook's mistake, which takes nn.RNN's two biases for one."""

    role, family = "bias_hh", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh.T)", lines.STEP)
    smallest = (ONE,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(b_hh=np.zeros_like(w.b_hh))


class IgnoresBiasIH(Fault):
    """ignores bias_ih: b_ih is never added."""

    role, family = "bias_ih", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (ONE,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(b_ih=np.zeros_like(w.b_ih))


class IgnoresBiases(Fault):
    """ignores both biases, as if bias were False."""

    role, family = "bias", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + h @ W_hh.T)", lines.STEP)
    smallest = (ONE,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        return unbiased(super().step_weights(case, layer, direction))


class AddsBiasIHTwice(Fault):
    """adds bias_ih twice: b_ih stands where b_hh should."""

    role, family = "bias", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_ih)", lines.STEP)
    smallest = (ONE,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(b_hh=w.b_ih)


class AddsBiasHHTwice(Fault):
    """adds bias_hh twice: b_hh stands where b_ih should."""

    role, family = "bias", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + b_hh + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (ONE,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(b_ih=w.b_hh)


class AddsBiasHHAgain(Fault):
    """adds bias_hh twice, and bias_ih once."""

    role, family = "bias_hh", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh.T + 2 * b_hh)", lines.STEP)
    smallest = (ONE,)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return np.asarray(super().preactivation(x, h, w) + w.b_hh)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        return np.asarray(2 * entering) if parameter == B_HH else entering


class AddsBiasIHAgain(Fault):
    """adds bias_ih twice, and bias_hh once."""

    role, family = "bias_ih", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + 2 * b_ih + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (ONE,)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return np.asarray(super().preactivation(x, h, w) + w.b_ih)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        return np.asarray(2 * entering) if parameter == B_IH else entering


class AddsBiasesTwice(Fault):
    """adds both biases twice."""

    role, family = "bias", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + h @ W_hh.T + 2 * (b_ih + b_hh))", lines.STEP)
    smallest = (ONE,)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return np.asarray(super().preactivation(x, h, w) + w.b_ih + w.b_hh)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        return np.asarray(2 * entering) if parameter in {B_IH, B_HH} else entering


class ReverseIgnoresBiases(Fault):
    """ignores both biases in the reverse direction."""

    role, family = "bias", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + h @ W_hh.T)  # if d == 1", lines.STEP)
    smallest = (ONE.replace(bidirectional=True),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return unbiased(w) if direction else w


class UpperLayersIgnoreBiases(Fault):
    """ignores both biases in the layers above the first."""

    role, family = "bias", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + h @ W_hh.T)  # if layer > 0", lines.STEP)
    smallest = (ONE.replace(num_layers=2),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return unbiased(w) if layer else w


class SharesBiasesOfFirstLayer(Fault):
    """adds the first layer's biases in every layer."""

    role, family = "bias", "bias"
    code = ("b_ih, b_hh = bias_ih[0, d], bias_hh[0, d]", lines.BIASES)
    smallest = (ONE.replace(num_layers=2),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        first = super().step_weights(case, 0, direction)
        return super().step_weights(case, layer, direction)._replace(b_ih=first.b_ih, b_hh=first.b_hh)


class AddsBiasesAfterNonlinearity(Fault):
    """adds both biases after the nonlinearity, not before it."""

    role, family = "bias", "bias"
    code = ("h = {phi}(x[t] @ W_ih.T + h @ W_hh.T) + b_ih + b_hh", lines.STEP)
    smallest = (ONE,)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return super().preactivation(x, h, unbiased(w))

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        return np.asarray(super().new_state(activated, h, w) + w.b_ih + w.b_hh)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        w = self.step_weights(case, *at)
        return super().slopes(case, at, x, previous, own - w.b_ih - w.b_hh)


class AddsBiasesAlongBatch(Fault):
    """adds the biases along the batch, where N = hidden_size: that of unit n to all units of sequence n."""

    role, family, stepwise = "bias", "bias", False
    code = ("h = {phi}((x[t] @ W_ih.T + h @ W_hh.T).T + b_ih + b_hh).T", lines.STEP)
    smallest = tuple(RNNConfig(1, n, N=n) for n in TIED)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        s = super().preactivation(x, h, w)
        if s.ndim < 2 or s.shape[-2] != s.shape[-1]:
            return s
        bias = w.b_ih + w.b_hh
        return np.asarray(super().preactivation(x, h, unbiased(w)) + bias[:, None])

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        along = parameter in {B_IH, B_HH} and config.hidden_size == config.N
        return entering.swapaxes(1, 2) if along else entering


def unbiased(w: StepWeights) -> StepWeights:
    """The parameters with biases of zero."""
    return w._replace(b_ih=np.zeros_like(w.b_ih), b_hh=np.zeros_like(w.b_hh))
