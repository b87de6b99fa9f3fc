"""gradients: right on the way there, wrong on the way back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault, several
from harness.explain.faults.over_time import from_the_last
from harness.explain.faults.readout import last_only
from harness.explain.faults.rounding import stored
from harness.explain.faults.size import below
from harness.oracle.reference import Floats, Steps, StepWeights, Visited, at_steps, write_steps
from harness.space.case import Case
from harness.space.config import RNNConfig

LOSS = ONE.replace(loss="output")
FURTHER = (LOSS.replace(T=2), LOSS.replace(hx=True))
"""A gradient goes further than its own step at the second one, or at the first where hx is passed."""
BIASES = tuple(StepWeights._fields.index(name) for name in ("b_ih", "b_hh"))
HH = StepWeights._fields.index("hh")
OF_INPUTS: Final = ("x.grad", "hx.grad")
LIMITS: Final = (0.5, 1, 5, 10)
"""At which gradients are clipped, as people write it."""


class StopsBackpropagation(Fault):
    """stops backpropagation through time after k steps, counted from the last one."""

    family = "gradients"
    code = ("da = 0 * dh  # if i < T - {k}", lines.SLOPE)
    smallest = (LOSS.replace(T=3),)
    parameter = ("stops_after", 2)
    stops_after: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return several(config.T)

    def reaches(self, config: RNNConfig, direction: int, step: int) -> bool:
        return step >= config.T - self.stops_after and super().reaches(config, direction, step)


class StopsOnTheWayToHx(Fault):
    """goes back k steps through time only, counted from the last one, and gives hx the gradient that is left there."""

    family, stepwise = "gradients", False
    code = ("steps = range(T - {k}, T)[::-1]", lines.STEPS_BACK)
    smallest = (LOSS.replace(T=3),)
    parameter = ("goes_back", 2)
    goes_back: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return several(config.T)

    def reaches(self, config: RNNConfig, direction: int, step: int) -> bool:
        return step >= config.T - self.goes_back and super().reaches(config, direction, step)

    def back_direction(
        self, case: Case, at: tuple[int, int], g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        da, start = super().back_direction(case, at, g, g_final, slopes, visited=visited)
        if self.goes_back >= case.config.T:
            return da, start
        t = self.time_order(case.config, at[1])[case.config.T - self.goes_back]
        back = self.weights_back(at, self.step_weights(case, *at))
        to_start = self.conjugate(self.weight_to_start(back))
        return da, self.to_previous(da[t], np.zeros_like(da[t]), to_start)


class CutsBackpropagation(Fault):
    """cuts the gradient of the state k steps before the end: earlier steps are given none by later ones."""

    family = "gradients"
    code = ("dh = 0 * da  # if i == T - {k}", lines.STEP_BACK)
    smallest = (LOSS.replace(T=3),)
    parameter = ("cuts_before", 2)
    cuts_before: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return several(config.T)

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        return step != config.T - self.cuts_before and super().flows_back(config, step)


class DetachesState(Fault):
    """detaches the state every k steps, so that no gradient flows from one chunk back to the one before."""

    family = "gradients"
    code = ("dh = 0 * da  # if i > 0 and i % {k} == 0", lines.STEP_BACK)
    smallest = (LOSS.replace(T=3),)
    parameter = ("detaches_every", 2)
    detaches_every: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return several(config.T)

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        return step % self.detaches_every > 0 and super().flows_back(config, step)


class DetachesStateFromTheEnd(Fault):
    """detaches the state every k steps, counted from the last one."""

    family = "gradients"
    code = ("dh = 0 * da  # if i > 0 and (T - i) % {k} == 0", lines.STEP_BACK)
    smallest = (LOSS.replace(T=3),)
    parameter = ("detaches_from_end_every", 2)
    detaches_from_end_every: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return [k for k in several(config.T) if k > 1]  # every step is the same from either end

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        return (config.T - step) % self.detaches_from_end_every > 0 and super().flows_back(config, step)


class ForgetsWeightHHBack(Fault):
    """forgets W_hh on the way back: the gradient goes from step to step, and to hx, as it is."""

    role, family = "weight_hh", "gradients"
    code = ("dh = da", lines.STEP_BACK)
    smallest = FURTHER

    def weights_back(self, at: tuple[int, int], w: StepWeights) -> StepWeights:
        return super().weights_back(at, w)._replace(hh=np.eye(len(w.hh)))


class ForgetsStateBack(Fault):
    """forgets the state on the way back: no gradient flows from step to step, nor to hx."""

    role, family = "weight_hh", "gradients"
    code = ("dh = 0 * da", lines.STEP_BACK)
    smallest = FURTHER

    def weights_back(self, at: tuple[int, int], w: StepWeights) -> StepWeights:
        return super().weights_back(at, w)._replace(hh=np.zeros_like(w.hh))


class TransposesWeightHHBack(Fault):
    """multiplies by the transpose of W_hh on the way back: da @ W_hh.T, where nn.RNN computes da @ W_hh."""

    role, family = "weight_hh", "gradients"
    code = ("dh = da @ W_hh.T", lines.STEP_BACK)
    smallest = (RNNConfig(1, 2, T=2, loss="output"), RNNConfig(1, 2, hx=True, loss="output"))

    def weights_back(self, at: tuple[int, int], w: StepWeights) -> StepWeights:
        back = super().weights_back(at, w)
        return back._replace(hh=back.hh.T)


class ClipsGradientOfState(Fault):
    """clips the gradient of the state to [-k, k] on its way from step to step."""

    family, stepwise = "gradients", False
    code = ("dh = np.clip(da @ W_hh, -{k}, {k})", lines.STEP_BACK)
    smallest = FURTHER
    parameter = ("clips_state_at", 0.5)
    clips_state_at: float

    def values(self, config: RNNConfig) -> Sequence[float]:
        return LIMITS

    def to_previous(self, da: Floats, dh: Floats, hh: Floats) -> Floats:
        return np.clip(super().to_previous(da, dh, hh), -self.clips_state_at, self.clips_state_at)


class DetachesLayers(Fault):
    """detaches the layers from each other: those below the last are given no gradient by the layers above."""

    family = "gradients"
    code = ("dx[t] += 0  # if layer > 0", lines.X_BACK)
    smallest = (LOSS.replace(num_layers=2),)

    def weights_back(self, at: tuple[int, int], w: StepWeights) -> StepWeights:
        back = super().weights_back(at, w)
        return back._replace(ih=np.zeros_like(back.ih)) if at[0] else back


class ForgetsReverseToInput(Fault):
    """gives x, and the layers below, no gradient from the reverse direction."""

    role, family = "weight_ih", "gradients"
    code = ("dx[t] += 0  # if d == 1", lines.X_BACK)
    smallest = (LOSS.replace(bidirectional=True),)

    def weights_back(self, at: tuple[int, int], w: StepWeights) -> StepWeights:
        back = super().weights_back(at, w)
        return back._replace(ih=np.zeros_like(back.ih)) if at[1] else back


class ForgetsReverseBack(Fault):
    """takes no gradient through the reverse direction: its parameters are given none, nor what it reads."""

    family = "gradients"
    code = ("da = 0 * dh  # if d == 1", lines.SLOPE)
    smallest = (LOSS.replace(bidirectional=True),)

    def reaches(self, config: RNNConfig, direction: int, step: int) -> bool:
        return not direction and super().reaches(config, direction, step)


class GoesBackInOrderOfTime(Fault):
    """goes back through the reverse direction with its output's gradient in the wrong order, not turned in time."""

    family, stepwise = "gradients", False
    code = ("dh = dh + d_output[T - 1 - t]  # if d == 1", lines.OUTPUT_BACK)
    smallest = (LOSS.replace(bidirectional=True, T=2),)

    def back_direction(
        self, case: Case, at: tuple[int, int], g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        given = from_the_last(g, case.config) if at[1] else g
        return super().back_direction(case, at, given, g_final, slopes, visited=visited)


class IgnoresGradientOfHn(Fault):
    """ignores the gradient that the loss gives to h_n."""

    family = "gradients"
    code = ("dh = np.zeros((N, H))", lines.H_N_BACK)
    smallest = (LOSS.replace(loss="h_n"),)

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        return {key: np.zeros_like(gradient) for key, gradient in super().final_gradients(case).items()}


class IgnoresInnerGradientOfHn(Fault):
    """ignores the gradient that the loss gives to h_n of all layers but the last."""

    family = "gradients"
    code = ("dh = np.zeros((N, H))  # if layer < L - 1", lines.H_N_BACK)
    smallest = (LOSS.replace(num_layers=2, loss="h_n"),)

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        top = case.config.num_layers - 1
        return {key: gradient * (key[0] == top) for key, gradient in super().final_gradients(case).items()}


class LosesGradientOfHnInPadding(Fault):
    """gives the gradient of h_n to the last time step of all: that of a shorter sequence is lost in the padding."""

    family = "gradients"
    smallest = (LOSS.replace(T=2, N=2, lengths=(2, 1), loss="h_n"),)

    def final_step_back(self, config: RNNConfig, direction: int) -> Steps:
        last = super().final_step_back(config, direction)
        return last if direction or config.lengths is None else config.T - 1


class GivesHnToLastStep(Fault):
    """gives the gradient of the reverse direction's h_n to the last time step, not to the first."""

    family = "gradients"
    code = ("d_output[T - 1] += dh_n[layer * D + d]", lines.H_N_BACK_AT)
    smallest = (LOSS.replace(bidirectional=True, T=2, loss="h_n"),)

    def final_step_back(self, config: RNNConfig, direction: int) -> Steps:
        return super().final_step_back(config, 0)


class TakesLossOfLastStepOnly(Fault):
    """takes the loss of the last time step only: what it gives to the output, or readout, of the others is ignored."""

    family = "gradients"
    code = ("dh = dh + d_output[t] * (t == T - 1)  # if layer == L - 1", lines.OUTPUT_BACK)
    smallest = (LOSS.replace(T=2),)

    def output_gradient(self, case: Case) -> Floats:
        return last_only(super().output_gradient(case))

    def readout_gradient(self, case: Case) -> Floats:
        return last_only(super().readout_gradient(case))


class IgnoresSlope(Fault):
    """leaves out the slope of the nonlinearity on the way back."""

    family = "gradients"
    code = ("da = dh", lines.SLOPE)
    smallest = (LOSS,)

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        return np.ones_like(h)


class SlopeAtLastStepOnly(Fault):
    """leaves out the slope of the nonlinearity at all steps but the last."""

    family, stepwise = "gradients", False
    code = ("da = dh  # if i < T - 1", lines.SLOPE)
    smallest = (LOSS.replace(T=2),)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        slopes, last = super().slopes(case, at, x, previous, own), self.final_step(case.config, at[1])
        ones = np.ones_like(slopes)
        write_steps(ones, last, at_steps(slopes, last))
        return ones


class NoSlopeAtLastStep(Fault):
    """leaves out the slope of the nonlinearity at the last step."""

    family, stepwise = "gradients", False
    code = ("da = dh  # if i == T - 1", lines.SLOPE)
    smallest = (LOSS,)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        slopes = super().slopes(case, at, x, previous, own).copy()
        write_steps(slopes, self.final_step(case.config, at[1]), np.ones_like(slopes[0]))
        return slopes


class SlopeOfPreviousState(Fault):
    """takes the slope of the nonlinearity at the state before, h_{t-1}, not at h_t."""

    family, stepwise = "gradients", False
    code = ("da = dh * {slope_before}", lines.SLOPE)
    smallest = (LOSS,)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        return self.slope(previous, self.slope_of(case.config, at[0]))


class SlopeWithoutSquare(Fault):
    """takes 1 - h for the slope of tanh, not 1 - h**2."""

    family = "gradients"
    code = ("da = dh * (1 - h)", lines.SLOPE)
    smallest = (LOSS,)

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        return np.asarray(1 - h) if nonlinearity == "tanh" else super().slope(h, nonlinearity)


class SlopeOfTanhOfState(Fault):
    """takes 1 - tanh(h)**2 for the slope of tanh, where h is tanh(s) already."""

    family = "gradients"
    code = ("da = dh * (1 - np.tanh(h)**2)", lines.SLOPE)
    smallest = (LOSS,)

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        return np.asarray(1 - np.tanh(h) ** 2) if nonlinearity == "tanh" else super().slope(h, nonlinearity)


class SlopeOfPreactivation(Fault):
    """takes 1 - s**2, of the preactivation s, for the slope of tanh, not 1 - h**2."""

    family, stepwise = "gradients", False
    code = ("da = dh * (1 - s**2)", lines.SLOPE)
    smallest = (LOSS,)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        if self.nonlinearity_of(case.config, at[0]) != "tanh":
            return super().slopes(case, at, x, previous, own)
        s = self.preactivation(x, previous, self.step_weights(case, *at))
        return np.asarray(1 - s * s)


class SlopeOfTanhForRelu(Fault):
    """takes the slope of tanh, 1 - h**2, for relu's too."""

    family = "gradients"
    code = ("da = dh * (1 - h**2)", lines.SLOPE)
    smallest = (LOSS.replace(nonlinearity="relu"),)

    def slope_of(self, config: RNNConfig, layer: int) -> str:
        kind = super().slope_of(config, layer)
        return "tanh" if kind == "relu" else kind


class SlopeOfReluAtZero(Fault):
    """takes 1 for the slope of relu where the state is zero, too: h >= 0, not h > 0."""

    family = "gradients"
    code = ("da = dh * (h >= 0)", lines.SLOPE)
    smallest = (LOSS.replace(nonlinearity="relu"),)

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        return (h >= 0).astype(np.float64) if nonlinearity == "relu" else super().slope(h, nonlinearity)


class _SlopeAtZero(Fault):
    """Another slope of relu where the preactivation is zero: ``steep``, not 0."""

    family = "gradients"
    smallest = (LOSS.replace(nonlinearity="relu"),)
    steep: ClassVar[float]

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        slopes = super().slopes(case, at, x, previous, own)
        if self.slope_of(case.config, at[0]) != "relu":
            return slopes
        s = self.preactivation(x, previous, self.step_weights(case, *at))
        return np.where(s == 0, self.steep, slopes)


class SlopeOfReluOneAtZero(_SlopeAtZero):
    """takes 1 for the slope of relu where the preactivation is at zero: s >= 0, not s > 0."""

    code = ("da = dh * (s >= 0)", lines.SLOPE)

    steep = 1.0


class SlopeOfReluHalfAtZero(_SlopeAtZero):
    """takes 1/2 for the slope of relu where the preactivation is at zero, as the gradient of a maximum is."""

    code = ("da = dh * np.heaviside(s, 0.5)", lines.SLOPE)

    steep = 0.5


class AveragesOverBatch(Fault):
    """averages the parameters' gradients over the batch instead of summing them."""

    family = "gradients"
    code = ("dW += da.T @ read / N", lines.OF_PARAMETERS)
    smallest = (LOSS.replace(N=2),)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        return np.asarray(super().entering(config, direction, parameter, da) / max(config.N, 1))


class AveragesOverTime(Fault):
    """averages the parameters' gradients over time instead of summing them."""

    family = "gradients"
    code = ("dW += da.T @ read / T", lines.OF_PARAMETERS)
    smallest = (LOSS.replace(T=2),)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        return np.asarray(super().entering(config, direction, parameter, da) / config.T)


class AveragesLossOverBatch(Fault):
    """averages the loss over the batch: every gradient, those of x and hx too, is divided by N."""

    family = "gradients"
    code = ("return grad / N", lines.GRADIENT)
    smallest = (LOSS.replace(N=2),)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return np.asarray(super().returned_gradient(config, name, gradient) / max(config.N, 1))


class AveragesLossOverTime(Fault):
    """averages the loss over time: every gradient, those of x and hx too, is divided by T."""

    family = "gradients"
    code = ("return grad / T", lines.GRADIENT)
    smallest = (LOSS.replace(T=2),)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return np.asarray(super().returned_gradient(config, name, gradient) / config.T)


class NegatesGradients(Fault):
    """negates every gradient."""

    family = "gradients"
    code = ("return -grad", lines.GRADIENT)
    smallest = (LOSS,)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return -super().returned_gradient(config, name, gradient)


class FirstSequenceOnly(Fault):
    """takes the parameters' gradients from the first sequence of the batch only."""

    family = "gradients"
    code = ("dW += da[:1].T @ read[:1]", lines.OF_PARAMETERS)
    smallest = (LOSS.replace(N=2),)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        return np.where((np.arange(config.N) == 0)[:, None], entering, 0.0)


class LastSequenceOnly(Fault):
    """takes the parameters' gradients from the last sequence of the batch only."""

    family = "gradients"
    code = ("dW += da[-1:].T @ read[-1:]", lines.OF_PARAMETERS)
    smallest = (LOSS.replace(N=2),)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        return np.where((np.arange(config.N) == config.N - 1)[:, None], entering, 0.0)


class LastStepOnly(Fault):
    """takes the parameters' gradients from the last time step only: they are not summed over time."""

    family = "gradients"
    code = ("dW += da.T @ read * (t == T - 1)", lines.OF_PARAMETERS)
    smallest = (LOSS.replace(T=2),)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        return last_only(super().entering(config, direction, parameter, da))


class FirstStepOnly(Fault):
    """takes the parameters' gradients from the first time step only: they are not summed over time."""

    family = "gradients"
    code = ("dW += da.T @ read * (t == 0)", lines.OF_PARAMETERS)
    smallest = (LOSS.replace(T=2),)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        return last_only(super().entering(config, direction, parameter, da)[::-1])[::-1]


class BiasesOfLastStepOnly(Fault):
    """takes the biases' gradients from the last time step only: they are not summed over time."""

    role, family = "bias", "gradients"
    code = ("db += da.sum(0) * (t == T - 1)", lines.OF_BIASES)
    smallest = (LOSS.replace(T=2),)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        return last_only(entering) if parameter in BIASES else entering


class LeavesOutFirstStepOfWeightHH(Fault):
    """leaves the first step, which reads the initial state, out of weight_hh's gradient."""

    role, family = "weight_hh", "gradients"
    code = ("dW_hh += 0  # if i == 0", lines.OF_WEIGHT_HH)
    smallest = (LOSS.replace(hx=True),)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        if parameter != HH:
            return entering
        later = entering.copy()
        write_steps(later, self.first_step(config, direction), np.zeros_like(later[0]))
        return later


class SumsGradientsInFloat32(Fault):
    """sums the parameters' gradients over time in float32, in a float64 run."""

    family, stepwise = "gradients", False
    smallest = (LOSS.replace(dtype="float64"),)

    def weight_gradients(
        self, config: RNNConfig, direction: int, da: Floats, beside: tuple[Floats, Floats]
    ) -> StepWeights:
        total: StepWeights | None = None
        for t in reversed(self.time_order(config, direction)):
            one = slice(t, t + 1)
            term = super().weight_gradients(config, direction, da[one], (beside[0][one], beside[1][one]))
            narrow = [stored(gradient, np.float32) for gradient in term]
            if total is not None:
                narrow = [stored(so_far + more, np.float32) for so_far, more in zip(total, narrow, strict=True)]
            total = StepWeights(*narrow)
        return super().weight_gradients(config, direction, da, beside) if total is None else total


class WeightHHBesideNewState(Fault):
    """multiplies by h_t in weight_hh's gradient, not by h_{t-1}."""

    role, family = "weight_hh", "gradients"
    code = ("dW_hh += da.T @ h", lines.OF_WEIGHT_HH)
    smallest = (LOSS,)

    def remembered(self, config: RNNConfig, direction: int, previous: Floats, own: Floats) -> Floats:
        return own


class WeightHHBesideLastState(Fault):
    """multiplies by the last state at the first step in weight_hh's gradient, as an index of -1 does."""

    role, family = "weight_hh", "gradients"
    code = ("dW_hh += da.T @ out[order[i - 1]]", lines.OF_WEIGHT_HH)
    smallest = (LOSS,)

    def remembered(self, config: RNNConfig, direction: int, previous: Floats, own: Floats) -> Floats:
        read = super().remembered(config, direction, previous, own).copy()
        write_steps(read, self.first_step(config, direction), at_steps(own, self.final_step(config, direction)))
        return read


class NoGradientOfBiasHH(Fault):
    """gives bias_hh no gradient: it stays zero."""

    role, family = "bias_hh", "gradients"
    code = ("db_hh += 0", lines.OF_BIAS_HH)
    smallest = (LOSS,)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return _none_of("bias_hh", name, super().returned_gradient(config, name, gradient))


class NoGradientOfBiasIH(Fault):
    """gives bias_ih no gradient: it stays zero."""

    role, family = "bias_ih", "gradients"
    code = ("db_ih += 0", lines.OF_BIAS_IH)
    smallest = (LOSS,)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return _none_of("bias_ih", name, super().returned_gradient(config, name, gradient))


class NoGradientOfWeightHH(Fault):
    """gives weight_hh no gradient: it stays zero."""

    role, family = "weight_hh", "gradients"
    code = ("dW_hh += 0", lines.OF_WEIGHT_HH)
    smallest = FURTHER

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return _none_of("weight_hh", name, super().returned_gradient(config, name, gradient))


class NoGradientOfWeightIH(Fault):
    """gives weight_ih no gradient: it stays zero."""

    role, family = "weight_ih", "gradients"
    code = ("dW_ih += 0", lines.OF_WEIGHT_IH)
    smallest = (LOSS,)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return _none_of("weight_ih", name, super().returned_gradient(config, name, gradient))


class NoGradientOfX(Fault):
    """gives x no gradient: it stays zero."""

    family = "gradients"
    code = ("dx[t] += 0  # if layer == 0", lines.X_BACK)
    smallest = (LOSS,)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return _none_of("x.grad", name, super().returned_gradient(config, name, gradient))


class NoGradientOfHx(Fault):
    """gives hx no gradient: it stays zero."""

    family = "gradients"
    code = ("dhx[layer * D + d] = 0", lines.HX_BACK)
    smallest = (LOSS.replace(hx=True),)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return _none_of("hx.grad", name, super().returned_gradient(config, name, gradient))


class GradientOfHxWithoutWeight(Fault):
    """gives hx the gradient da of the first step's preactivation, where nn.RNN gives da @ W_hh."""

    role, family = "weight_hh", "gradients"
    code = ("dhx[layer * D + d] = da", lines.HX_BACK)
    smallest = (LOSS.replace(hx=True),)

    def weight_to_start(self, back: StepWeights) -> Floats:
        return np.eye(len(back.hh))


class DoublesGradientsOfBiases(Fault):
    """doubles the gradients of both biases."""

    role, family = "bias", "gradients"
    code = ("db += 2 * da.sum(0)", lines.OF_BIASES)
    smallest = (LOSS,)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        gradient = super().returned_gradient(config, name, gradient)
        return np.asarray(2 * gradient) if name.startswith("bias") else gradient


class DoublesGradientOfBiasHH(Fault):
    """doubles the gradient of bias_hh."""

    role, family = "bias_hh", "gradients"
    code = ("db_hh += 2 * da.sum(0)", lines.OF_BIAS_HH)
    smallest = (LOSS,)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        gradient = super().returned_gradient(config, name, gradient)
        return np.asarray(2 * gradient) if name.startswith("bias_hh") else gradient


class DoublesGradientOfBiasIH(Fault):
    """doubles the gradient of bias_ih."""

    role, family = "bias_ih", "gradients"
    code = ("db_ih += 2 * da.sum(0)", lines.OF_BIAS_IH)
    smallest = (LOSS,)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        gradient = super().returned_gradient(config, name, gradient)
        return np.asarray(2 * gradient) if name.startswith("bias_ih") else gradient


class TransposesGradientOfWeightHH(Fault):
    """transposes weight_hh's gradient: it is h.T @ da, where nn.RNN's is da.T @ h."""

    role, family = "weight_hh", "gradients"
    code = ("dW_hh += h_prev.T @ da", lines.OF_WEIGHT_HH)
    smallest = (RNNConfig(1, 2, T=2, loss="output"), RNNConfig(1, 2, hx=True, loss="output"))

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        gradient = super().returned_gradient(config, name, gradient)
        return gradient.T if name.startswith("weight_hh") else gradient


class DiagonalBlocksOfWeightHH(Fault):
    """computes weight_hh's gradient in blocks of k by k on the diagonal only: it is zero outside of them."""

    role, family = "weight_hh", "gradients"
    smallest = (RNNConfig(1, 3, T=2, loss="output"), RNNConfig(1, 3, hx=True, loss="output"))
    parameter = ("diagonal_block", 2)
    diagonal_block: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return below(config.hidden_size)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        gradient = super().returned_gradient(config, name, gradient)
        if not name.startswith("weight_hh"):
            return gradient
        block = np.arange(len(gradient)) // self.diagonal_block
        return np.where(block[:, None] == block, gradient, 0.0)


class ClipsGradients(Fault):
    """clips each gradient to [-k, k], number by number."""

    family = "gradients"
    code = ("return np.clip(grad, -{k}, {k})", lines.GRADIENT)
    smallest = (LOSS,)
    parameter = ("clips_at", 1)
    of_each = True
    clips_at: float

    def values(self, config: RNNConfig) -> Sequence[float]:
        return LIMITS

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        return np.clip(super().returned_gradient(config, name, gradient), -self.clips_at, self.clips_at)


class _ClipsNorm(Fault):
    """The parameters' gradients scaled down, where their norm is above a limit."""

    family, stepwise = "gradients", False
    smallest = (LOSS,)

    def values(self, config: RNNConfig) -> Sequence[float]:
        return LIMITS


class ClipsNorm(_ClipsNorm):
    """clips the norm of the parameters' gradients together to k, as clip_grad_norm_ does."""

    code = ("return dW * min(1, {k} / norm_of_all)", lines.GRADIENT_OF_PARAMETER)

    parameter = ("norm_at", 1)
    norm_at: float

    def gradients(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        found = super().gradients(case, states)
        norm = _norm(gradient for name, gradient in found.items() if name not in OF_INPUTS)
        return _scaled(found, dict.fromkeys(found, norm), self.norm_at)


class ClipsNormOfAll(_ClipsNorm):
    """clips the norm of all gradients together to k, those by x and hx included."""

    code = ("return grad * min(1, {k} / norm_of_grads)", lines.GRADIENT)

    parameter = ("norm_of_all_at", 1)
    norm_of_all_at: float

    def gradients(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        found = super().gradients(case, states)
        return _scaled(found, dict.fromkeys(found, _norm(found.values())), self.norm_of_all_at, beside=())


class ClipsNormOfOneBias(_ClipsNorm):
    """clips the norm of the layers' gradients together to k, and counts one bias of each, even of two or none."""

    code = ("return dW * min(1, {k} / norm_of_all_but_db_hh)", lines.GRADIENT_OF_PARAMETER)

    parameter = ("norm_of_one_bias_at", 1)
    norm_of_one_bias_at: float

    def parameter_gradients(self, case: Case, of_weights: Mapping[tuple[int, int], StepWeights]) -> dict[str, Floats]:
        found = super().parameter_gradients(case, of_weights)
        norm = _norm(gradient for gradients in of_weights.values() for gradient in gradients[:-1])
        return _scaled(found, dict.fromkeys(found, norm), self.norm_of_one_bias_at)


class ClipsEachNorm(_ClipsNorm):
    """clips the norm of each parameter's gradient to k."""

    code = ("return dW * min(1, {k} / norm(dW))", lines.GRADIENT_OF_PARAMETER)

    parameter = ("each_norm_at", 1)
    each_norm_at: float

    def gradients(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        found = super().gradients(case, states)
        return _scaled(found, {name: _norm([gradient]) for name, gradient in found.items()}, self.each_norm_at)


def _norm(gradients: Iterable[Floats]) -> float:
    return math.sqrt(sum(float((np.abs(gradient) ** 2).sum()) for gradient in gradients))


def _scaled(
    gradients: Mapping[str, Floats], norms: Mapping[str, float], limit: float, beside: Sequence[str] = OF_INPUTS
) -> dict[str, Floats]:
    """Scale gradients down to a limit where their norm is above it, but for those ``beside``."""
    return {
        name: np.asarray(gradient * (limit / norms[name])) if name not in beside and norms[name] > limit else gradient
        for name, gradient in gradients.items()
    }


def _none_of(start: str, name: str, gradient: Floats) -> Floats:
    return np.zeros_like(gradient) if name.startswith(start) else gradient
