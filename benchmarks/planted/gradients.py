"""gradients: right on the way there, wrong on the way back."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Change, Fault, entering, returned
from benchmarks.planted.layer import Floats, Layer, Place, Steps, StepWeights, Visited, at_steps, write_steps
from benchmarks.planted.over_time import from_the_last
from benchmarks.planted.readout import last_only
from benchmarks.planted.rounding import stored
from harness.space.case import Case
from harness.space.config import RNNConfig

LOSS = ONE.replace(loss="output")
# A gradient goes further than its own step at the second one, or at the first where hx is passed.
FURTHER = (LOSS.replace(T=2), LOSS.replace(hx=True))
BIASES = tuple(StepWeights._fields.index(name) for name in ("b_ih", "b_hh"))
HH = StepWeights._fields.index("hh")
OF_INPUTS: Final = ("x.grad", "hx.grad")


def _stops_backpropagation(k: int, right: Layer, config: RNNConfig, direction: int, step: int) -> bool:
    return step >= config.T - k and right.reaches(config, direction, step)


def _stops_on_the_way_to_hx_reaches(k: int, right: Layer, config: RNNConfig, direction: int, step: int) -> bool:
    return step >= config.T - k and right.reaches(config, direction, step)


def _stops_on_the_way_to_hx_back_direction(
    k: int, right: Layer, case: Case, at: Place, g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
) -> tuple[Floats, Floats]:
    da, start = right.back_direction(case, at, g, g_final, slopes, visited=visited)
    if k >= case.config.T:
        return da, start
    t = right.time_order(case.config, at[1])[case.config.T - k]
    back = right.weights_back(at, right.step_weights(case, *at))
    return da, right.to_previous(da[t], np.zeros_like(da[t]), right.weight_to_start(back))


def _cuts_backpropagation(k: int, right: Layer, config: RNNConfig, step: int) -> bool:
    return step != config.T - k and right.flows_back(config, step)


def _detaches_state(k: int, right: Layer, config: RNNConfig, step: int) -> bool:
    return step % k > 0 and right.flows_back(config, step)


def _detaches_state_from_the_end(k: int, right: Layer, config: RNNConfig, step: int) -> bool:
    return (config.T - step) % k > 0 and right.flows_back(config, step)


def _forgets_weight_hh_back(right: Layer, at: Place, w: StepWeights) -> StepWeights:
    return right.weights_back(at, w)._replace(hh=np.eye(len(w.hh)))


def _forgets_state_back(right: Layer, at: Place, w: StepWeights) -> StepWeights:
    return right.weights_back(at, w)._replace(hh=np.zeros_like(w.hh))


def _transposes_weight_hh_back(right: Layer, at: Place, w: StepWeights) -> StepWeights:
    back = right.weights_back(at, w)
    return back._replace(hh=back.hh.T)


def _clips_gradient_of_state(k: float, right: Layer, da: Floats, dh: Floats, hh: Floats) -> Floats:
    return np.clip(right.to_previous(da, dh, hh), -k, k)


def _detaches_layers(right: Layer, at: Place, w: StepWeights) -> StepWeights:
    back = right.weights_back(at, w)
    return back._replace(ih=np.zeros_like(back.ih)) if at[0] else back


def _forgets_reverse_to_input(right: Layer, at: Place, w: StepWeights) -> StepWeights:
    back = right.weights_back(at, w)
    return back._replace(ih=np.zeros_like(back.ih)) if at[1] else back


def _forgets_reverse_back(right: Layer, config: RNNConfig, direction: int, step: int) -> bool:
    return not direction and right.reaches(config, direction, step)


def _goes_back_in_order_of_time(
    right: Layer, case: Case, at: Place, g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
) -> tuple[Floats, Floats]:
    given = from_the_last(g, case.config) if at[1] else g
    return right.back_direction(case, at, given, g_final, slopes, visited=visited)


def _ignores_gradient_of_output(right: Layer, case: Case) -> Floats:
    return np.zeros_like(right.output_gradient(case))


def _ignores_gradient_of_hn(right: Layer, case: Case) -> dict[tuple[int, int], Floats]:
    return {key: np.zeros_like(gradient) for key, gradient in right.final_gradients(case).items()}


def _ignores_inner_gradient_of_hn(right: Layer, case: Case) -> dict[tuple[int, int], Floats]:
    top = case.config.num_layers - 1
    return {key: gradient * (key[0] == top) for key, gradient in right.final_gradients(case).items()}


def _loses_gradient_of_hn_in_padding(right: Layer, config: RNNConfig, direction: int) -> Steps:
    last = right.final_step_back(config, direction)
    return last if direction or config.lengths is None else config.T - 1


def _gives_hn_to_last_step(right: Layer, config: RNNConfig, direction: int) -> Steps:
    return right.final_step_back(config, 0)


def _takes_loss_of_last_step_only_output_gradient(right: Layer, case: Case) -> Floats:
    return last_only(right.output_gradient(case))


def _takes_loss_of_last_step_only_readout_gradient(right: Layer, case: Case) -> Floats:
    return last_only(right.readout_gradient(case))


def _ignores_slope(right: Layer, h: Floats, nonlinearity: str) -> Floats:
    return np.ones_like(h)


def _slope_at_last_step_only(right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
    slopes, last = right.slopes(case, at, x, previous, own), right.final_step(case.config, at[1])
    ones = np.ones_like(slopes)
    write_steps(ones, last, at_steps(slopes, last))
    return ones


def _no_slope_at_last_step(right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
    slopes = right.slopes(case, at, x, previous, own).copy()
    write_steps(slopes, right.final_step(case.config, at[1]), np.ones_like(slopes[0]))
    return slopes


def _slope_of_previous_state(right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
    return right.slope(previous, right.slope_of(case.config, at[0]))


def _slope_without_square(right: Layer, h: Floats, nonlinearity: str) -> Floats:
    return np.asarray(1 - h) if nonlinearity == "tanh" else right.slope(h, nonlinearity)


def _slope_of_tanh_of_state(right: Layer, h: Floats, nonlinearity: str) -> Floats:
    return np.asarray(1 - np.tanh(h) ** 2) if nonlinearity == "tanh" else right.slope(h, nonlinearity)


def _slope_of_preactivation(right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
    if right.nonlinearity(case.config, at[0]) != "tanh":
        return right.slopes(case, at, x, previous, own)
    s = right.preactivation(x, previous, right.step_weights(case, *at))
    return np.asarray(1 - s * s)


def _slope_of_tanh_for_relu(right: Layer, config: RNNConfig, layer: int) -> str:
    kind = right.slope_of(config, layer)
    return "tanh" if kind == "relu" else kind


def _slope_of_relu_at_zero(right: Layer, h: Floats, nonlinearity: str) -> Floats:
    return (h >= 0).astype(np.float64) if nonlinearity == "relu" else right.slope(h, nonlinearity)


def _slope_at_zero(steep: float) -> Change:
    """Take ``steep`` for the slope of relu where the preactivation is zero."""

    def slopes(right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
        slopes = right.slopes(case, at, x, previous, own)
        if right.slope_of(case.config, at[0]) != "relu":
            return slopes
        s = right.preactivation(x, previous, right.step_weights(case, *at))
        return np.where(s == 0, steep, slopes)

    return slopes


def _averages_loss_over_batch(right: Layer, config: RNNConfig, name: str, gradient: Floats) -> Floats:
    return np.asarray(right.returned_gradient(config, name, gradient) / max(config.N, 1))


def _averages_loss_over_time(right: Layer, config: RNNConfig, name: str, gradient: Floats) -> Floats:
    return np.asarray(right.returned_gradient(config, name, gradient) / config.T)


def _leaves_out_first_step_of_weight_hh(
    right: Layer, config: RNNConfig, direction: int, parameter: int, da: Floats
) -> Floats:
    entering = right.entering(config, direction, parameter, da)
    if parameter != HH:
        return entering
    later = entering.copy()
    write_steps(later, right.first_step(config, direction), np.zeros_like(later[0]))
    return later


def _sums_gradients_in_float32(
    right: Layer, config: RNNConfig, direction: int, da: Floats, beside: tuple[Floats, Floats]
) -> StepWeights:
    total: StepWeights | None = None
    for t in reversed(right.time_order(config, direction)):
        one = slice(t, t + 1)
        term = right.weight_gradients(config, direction, da[one], (beside[0][one], beside[1][one]))
        narrow = [stored(gradient, np.float32) for gradient in term]
        if total is not None:
            narrow = [stored(so_far + more, np.float32) for so_far, more in zip(total, narrow, strict=True)]
        total = StepWeights(*narrow)
    return right.weight_gradients(config, direction, da, beside) if total is None else total


def _weight_hh_beside_new_state(
    right: Layer, config: RNNConfig, direction: int, previous: Floats, own: Floats
) -> Floats:
    return own


def _weight_hh_beside_last_state(
    right: Layer, config: RNNConfig, direction: int, previous: Floats, own: Floats
) -> Floats:
    read = right.remembered(config, direction, previous, own).copy()
    write_steps(read, right.first_step(config, direction), at_steps(own, right.final_step(config, direction)))
    return read


def _gradient_of_hx_without_weight(right: Layer, back: StepWeights) -> Floats:
    return np.eye(len(back.hh))


def _diagonal_blocks_of_weight_hh(k: int, right: Layer, config: RNNConfig, name: str, gradient: Floats) -> Floats:
    gradient = right.returned_gradient(config, name, gradient)
    if not name.startswith("weight_hh"):
        return gradient
    block = np.arange(len(gradient)) // k
    return np.where(block[:, None] == block, gradient, 0.0)


def _clips_gradients(k: float, right: Layer, config: RNNConfig, name: str, gradient: Floats) -> Floats:
    return np.clip(right.returned_gradient(config, name, gradient), -k, k)


def _clips_norm(k: float, right: Layer, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
    found = right.gradients(case, states)
    norm = _norm(gradient for name, gradient in found.items() if name not in OF_INPUTS)
    return _scaled(found, dict.fromkeys(found, norm), k)


def _clips_norm_of_all(k: float, right: Layer, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
    found = right.gradients(case, states)
    return _scaled(found, dict.fromkeys(found, _norm(found.values())), k, beside=())


def _clips_norm_of_one_bias(
    k: float, right: Layer, case: Case, of_weights: Mapping[tuple[int, int], StepWeights]
) -> dict[str, Floats]:
    found = right.parameter_gradients(case, of_weights)
    norm = _norm(gradient for gradients in of_weights.values() for gradient in gradients[:-1])
    return _scaled(found, dict.fromkeys(found, norm), k)


def _clips_each_norm(k: float, right: Layer, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
    found = right.gradients(case, states)
    return _scaled(found, {name: _norm([gradient]) for name, gradient in found.items()}, k)


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


FAULTS: Final = (
    Fault(
        "StopsBackpropagation",
        "stops backpropagation through time after {k} steps, counted from the last one",
        {"reaches": _stops_backpropagation},
        smallest=(LOSS.replace(T=3),),
        k=2,
    ),
    Fault(
        "StopsOnTheWayToHx",
        "goes back only {k} steps through time, counted from the last one, and gives hx what is left there",
        {"reaches": _stops_on_the_way_to_hx_reaches, "back_direction": _stops_on_the_way_to_hx_back_direction},
        smallest=(LOSS.replace(T=3),),
        k=2,
    ),
    Fault(
        "CutsBackpropagation",
        "cuts the gradient of the state {k} steps before the end: earlier steps get none from later ones",
        {"flows_back": _cuts_backpropagation},
        smallest=(LOSS.replace(T=3),),
        k=2,
    ),
    Fault(
        "DetachesState",
        "detaches the state every {k} steps, so that no gradient flows from one chunk back to the one before",
        {"flows_back": _detaches_state},
        smallest=(LOSS.replace(T=3),),
        k=2,
    ),
    Fault(
        "DetachesStateFromTheEnd",
        "detaches the state every {k} steps, counted from the last one",
        {"flows_back": _detaches_state_from_the_end},
        smallest=(LOSS.replace(T=3),),
        k=2,
    ),
    Fault(
        "ForgetsWeightHHBack",
        "forgets W_hh on the way back: the gradient goes unchanged from step to step, and to hx",
        {"weights_back": _forgets_weight_hh_back},
        smallest=FURTHER,
    ),
    Fault(
        "ForgetsStateBack",
        "forgets the state on the way back: no gradient flows from step to step, nor to hx",
        {"weights_back": _forgets_state_back},
        smallest=FURTHER,
    ),
    Fault(
        "TransposesWeightHHBack",
        "multiplies by the transpose of W_hh on the way back: da @ W_hh.T, where nn.RNN computes da @ W_hh",
        {"weights_back": _transposes_weight_hh_back},
        smallest=(RNNConfig(1, 2, T=2, loss="output"), RNNConfig(1, 2, hx=True, loss="output")),
    ),
    Fault(
        "ClipsGradientOfState",
        "clips the gradient of the state to [-{k}, {k}] on its way from step to step",
        {"to_previous": _clips_gradient_of_state},
        smallest=FURTHER,
        k=0.5,
    ),
    Fault(
        "DetachesLayers",
        "detaches the layers from each other: those below the last get no gradient from the layers above",
        {"weights_back": _detaches_layers},
        smallest=(LOSS.replace(num_layers=2),),
    ),
    Fault(
        "ForgetsReverseToInput",
        "gives x, and the layers below, no gradient from the reverse direction",
        {"weights_back": _forgets_reverse_to_input},
        smallest=(LOSS.replace(bidirectional=True),),
    ),
    Fault(
        "ForgetsReverseBack",
        "takes no gradient through the reverse direction: its parameters get none, and neither does what it reads",
        {"reaches": _forgets_reverse_back},
        smallest=(LOSS.replace(bidirectional=True),),
    ),
    Fault(
        "GoesBackInOrderOfTime",
        "goes back through the reverse direction with its output's gradient in the wrong order, not reversed in time",
        {"back_direction": _goes_back_in_order_of_time},
        smallest=(LOSS.replace(bidirectional=True, T=2),),
    ),
    Fault(
        "IgnoresGradientOfOutput",
        "ignores the gradient that the loss gives to the output, as if that were detached",
        {"output_gradient": _ignores_gradient_of_output},
        smallest=(LOSS,),
    ),
    Fault(
        "IgnoresGradientOfHn",
        "ignores the gradient that the loss gives to h_n, as if h_n were detached",
        {"final_gradients": _ignores_gradient_of_hn},
        smallest=(LOSS.replace(loss="h_n"),),
    ),
    Fault(
        "IgnoresInnerGradientOfHn",
        "ignores the gradient that the loss gives to h_n of all layers but the last",
        {"final_gradients": _ignores_inner_gradient_of_hn},
        smallest=(LOSS.replace(num_layers=2, loss="h_n"),),
    ),
    Fault(
        "LosesGradientOfHnInPadding",
        "gives the gradient of h_n to the last time step of all: that of a shorter sequence is lost in the padding",
        {"final_step_back": _loses_gradient_of_hn_in_padding},
        smallest=(LOSS.replace(T=2, N=2, lengths=(2, 1), loss="h_n"),),
    ),
    Fault(
        "GivesHnToLastStep",
        "gives the gradient of the reverse direction's h_n to the last time step, not to the first",
        {"final_step_back": _gives_hn_to_last_step},
        smallest=(LOSS.replace(bidirectional=True, T=2, loss="h_n"),),
    ),
    Fault(
        "TakesLossOfLastStepOnly",
        "takes the loss of the last time step only: it ignores the gradient of the output, or readout, at the others",
        {
            "output_gradient": _takes_loss_of_last_step_only_output_gradient,
            "readout_gradient": _takes_loss_of_last_step_only_readout_gradient,
        },
        smallest=(LOSS.replace(T=2),),
    ),
    Fault(
        "IgnoresSlope",
        "leaves out the slope of the nonlinearity on the way back",
        {"slope": _ignores_slope},
        smallest=(LOSS,),
    ),
    Fault(
        "SlopeAtLastStepOnly",
        "leaves out the slope of the nonlinearity at all steps but the last",
        {"slopes": _slope_at_last_step_only},
        smallest=(LOSS.replace(T=2),),
    ),
    Fault(
        "NoSlopeAtLastStep",
        "leaves out the slope of the nonlinearity at the last step",
        {"slopes": _no_slope_at_last_step},
        smallest=(LOSS,),
    ),
    Fault(
        "SlopeOfPreviousState",
        "takes the slope of the nonlinearity at the state before, h_{t-1}, not at h_t",
        {"slopes": _slope_of_previous_state},
        smallest=(LOSS,),
    ),
    Fault(
        "SlopeWithoutSquare",
        "takes 1 - h for the slope of tanh, not 1 - h**2",
        {"slope": _slope_without_square},
        smallest=(LOSS,),
    ),
    Fault(
        "SlopeOfTanhOfState",
        "takes 1 - tanh(h)**2 for the slope of tanh, where h is tanh(s) already",
        {"slope": _slope_of_tanh_of_state},
        smallest=(LOSS,),
    ),
    Fault(
        "SlopeOfPreactivation",
        "takes 1 - s**2, of the preactivation s, for the slope of tanh, not 1 - h**2",
        {"slopes": _slope_of_preactivation},
        smallest=(LOSS,),
    ),
    Fault(
        "SlopeOfTanhForRelu",
        "takes the slope of tanh, 1 - h**2, for relu's too",
        {"slope_of": _slope_of_tanh_for_relu},
        smallest=(LOSS.replace(nonlinearity="relu"),),
    ),
    Fault(
        "SlopeOfReluAtZero",
        "takes 1 for the slope of relu where the state is zero, too: h >= 0, not h > 0",
        {"slope": _slope_of_relu_at_zero},
        smallest=(LOSS.replace(nonlinearity="relu"),),
    ),
    Fault(
        "SlopeOfReluOneAtZero",
        "takes 1 for the slope of relu where the preactivation is at zero: s >= 0, not s > 0",
        {"slopes": _slope_at_zero(1.0)},
        smallest=(LOSS.replace(nonlinearity="relu"),),
    ),
    Fault(
        "SlopeOfReluHalfAtZero",
        "takes 1/2 for the slope of relu where the preactivation is at zero, as the gradient of a maximum is",
        {"slopes": _slope_at_zero(0.5)},
        smallest=(LOSS.replace(nonlinearity="relu"),),
    ),
    Fault(
        "AveragesOverBatch",
        "averages the parameters' gradients over the batch instead of summing them",
        entering(lambda da, config: np.asarray(da / max(config.N, 1))),
        smallest=(LOSS.replace(N=2),),
    ),
    Fault(
        "AveragesOverTime",
        "averages the parameters' gradients over time instead of summing them",
        entering(lambda da, config: np.asarray(da / config.T)),
        smallest=(LOSS.replace(T=2),),
    ),
    Fault(
        "AveragesLossOverBatch",
        "averages the loss over the batch: every gradient, those of x and hx too, is divided by N",
        {"returned_gradient": _averages_loss_over_batch},
        smallest=(LOSS.replace(N=2),),
    ),
    Fault(
        "AveragesLossOverTime",
        "averages the loss over time: every gradient, those of x and hx too, is divided by T",
        {"returned_gradient": _averages_loss_over_time},
        smallest=(LOSS.replace(T=2),),
    ),
    Fault("NegatesGradients", "negates every gradient", returned(np.negative), smallest=(LOSS,)),
    Fault(
        "FirstSequenceOnly",
        "takes the parameters' gradients from the first sequence of the batch only",
        entering(lambda da, config: np.where((np.arange(config.N) == 0)[:, None], da, 0.0)),
        smallest=(LOSS.replace(N=2),),
    ),
    Fault(
        "LastSequenceOnly",
        "takes the parameters' gradients from the last sequence of the batch only",
        entering(lambda da, config: np.where((np.arange(config.N) == config.N - 1)[:, None], da, 0.0)),
        smallest=(LOSS.replace(N=2),),
    ),
    Fault(
        "LastStepOnly",
        "takes the parameters' gradients from the last time step only: they are not summed over time",
        entering(lambda da, _config: last_only(da)),
        smallest=(LOSS.replace(T=2),),
    ),
    Fault(
        "FirstStepOnly",
        "takes the parameters' gradients from the first time step only: they are not summed over time",
        entering(lambda da, _config: last_only(da[::-1])[::-1]),
        smallest=(LOSS.replace(T=2),),
    ),
    Fault(
        "BiasesOfLastStepOnly",
        "takes the biases' gradients from the last time step only: they are not summed over time",
        entering(lambda da, _config: last_only(da), "b_ih", "b_hh"),
        smallest=(LOSS.replace(T=2),),
    ),
    Fault(
        "LeavesOutFirstStepOfWeightHH",
        "leaves the first step, which reads the initial state, out of weight_hh's gradient",
        {"entering": _leaves_out_first_step_of_weight_hh},
        smallest=(LOSS.replace(hx=True),),
    ),
    Fault(
        "SumsGradientsInFloat32",
        "sums the parameters' gradients over time in float32, in a float64 run",
        {"weight_gradients": _sums_gradients_in_float32},
        smallest=(LOSS.replace(dtype="float64"),),
    ),
    Fault(
        "WeightHHBesideNewState",
        "multiplies by h_t in weight_hh's gradient, not by h_{t-1}",
        {"remembered": _weight_hh_beside_new_state},
        smallest=(LOSS,),
    ),
    Fault(
        "WeightHHBesideLastState",
        "multiplies by the last state at the first step in weight_hh's gradient, as an index of -1 does",
        {"remembered": _weight_hh_beside_last_state},
        smallest=(LOSS,),
    ),
    Fault(
        "NoGradientOfBiasHH",
        "gives bias_hh no gradient: it stays zero",
        returned(np.zeros_like, "bias_hh"),
        smallest=(LOSS,),
    ),
    Fault(
        "NoGradientOfBiasIH",
        "gives bias_ih no gradient: it stays zero",
        returned(np.zeros_like, "bias_ih"),
        smallest=(LOSS,),
    ),
    Fault(
        "NoGradientOfWeightHH",
        "gives weight_hh no gradient: it stays zero",
        returned(np.zeros_like, "weight_hh"),
        smallest=FURTHER,
    ),
    Fault(
        "NoGradientOfWeightIH",
        "gives weight_ih no gradient: it stays zero",
        returned(np.zeros_like, "weight_ih"),
        smallest=(LOSS,),
    ),
    Fault("NoGradientOfX", "gives x no gradient: it stays zero", returned(np.zeros_like, "x.grad"), smallest=(LOSS,)),
    Fault(
        "NoGradientOfHx",
        "gives hx no gradient: it stays zero",
        returned(np.zeros_like, "hx.grad"),
        smallest=(LOSS.replace(hx=True),),
    ),
    Fault(
        "GradientOfHxWithoutWeight",
        "gives hx the gradient da of the first step's preactivation, where nn.RNN gives da @ W_hh",
        {"weight_to_start": _gradient_of_hx_without_weight},
        smallest=(LOSS.replace(hx=True),),
    ),
    Fault(
        "DoublesGradientsOfBiases",
        "doubles the gradients of both biases",
        returned(lambda g: np.asarray(2 * g), "bias"),
        smallest=(LOSS,),
    ),
    Fault(
        "DoublesGradientOfBiasHH",
        "doubles the gradient of bias_hh",
        returned(lambda g: np.asarray(2 * g), "bias_hh"),
        smallest=(LOSS,),
    ),
    Fault(
        "DoublesGradientOfBiasIH",
        "doubles the gradient of bias_ih",
        returned(lambda g: np.asarray(2 * g), "bias_ih"),
        smallest=(LOSS,),
    ),
    Fault(
        "TransposesGradientOfWeightHH",
        "transposes weight_hh's gradient: it is h.T @ da, where nn.RNN's is da.T @ h",
        returned(np.transpose, "weight_hh"),
        smallest=(RNNConfig(1, 2, T=2, loss="output"), RNNConfig(1, 2, hx=True, loss="output")),
    ),
    Fault(
        "DiagonalBlocksOfWeightHH",
        "computes weight_hh's gradient in blocks of {k} by {k} on the diagonal only: it is zero outside of them",
        {"returned_gradient": _diagonal_blocks_of_weight_hh},
        smallest=(RNNConfig(1, 3, T=2, loss="output"), RNNConfig(1, 3, hx=True, loss="output")),
        k=2,
    ),
    Fault(
        "ClipsGradients",
        "clips each gradient to [-{k}, {k}], number by number",
        {"returned_gradient": _clips_gradients},
        smallest=(LOSS,),
        k=1,
    ),
    Fault(
        "ClipsNorm",
        "clips the norm of the parameters' gradients together to {k}, as clip_grad_norm_ does",
        {"gradients": _clips_norm},
        smallest=(LOSS,),
        k=1,
    ),
    Fault(
        "ClipsNormOfAll",
        "clips the norm of all gradients together to {k}, those by x and hx included",
        {"gradients": _clips_norm_of_all},
        smallest=(LOSS,),
        k=1,
    ),
    Fault(
        "ClipsNormOfOneBias",
        "clips the norm of the layers' gradients together to {k}, and counts one bias of each, even of two or none",
        {"parameter_gradients": _clips_norm_of_one_bias},
        smallest=(LOSS,),
        k=1,
    ),
    Fault(
        "ClipsEachNorm",
        "clips the norm of each parameter's gradient to {k}",
        {"gradients": _clips_each_norm},
        smallest=(LOSS,),
        k=1,
    ),
)
