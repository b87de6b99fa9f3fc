"""nonlinearity: another phi, one that is approximated, or one that is left out where it should be."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Changes, Fault
from benchmarks.planted.layer import Floats, Layer, Place, Visited, at_steps, write_steps
from harness.space.case import Case
from harness.space.config import RNNConfig

RELU = ONE.replace(nonlinearity="relu")
_Function = Callable[[Floats], Floats]

HARMLESS = "identity"  # The name of a nonlinearity that does nothing


def _always_tanh(right: Layer, config: RNNConfig, layer: int) -> str:
    return "tanh"


def _always_relu(right: Layer, config: RNNConfig, layer: int) -> str:
    return "relu"


def _exchanges_nonlinearities(right: Layer, config: RNNConfig, layer: int) -> str:
    return "relu" if right.nonlinearity(config, layer) == "tanh" else "tanh"


def _no_nonlinearity_nonlinearity(right: Layer, config: RNNConfig, layer: int) -> str:
    return HARMLESS


def _no_nonlinearity_activation(right: Layer, s: Floats, nonlinearity: str) -> Floats:
    return s if nonlinearity == HARMLESS else right.activation(s, nonlinearity)


def _no_nonlinearity_in_last_layer_nonlinearity_of(right: Layer, config: RNNConfig, layer: int) -> str:
    return HARMLESS if layer == config.num_layers - 1 else right.nonlinearity(config, layer)


def _no_nonlinearity_in_last_layer_activation(right: Layer, s: Floats, nonlinearity: str) -> Floats:
    return s if nonlinearity == HARMLESS else right.activation(s, nonlinearity)


def _nonlinearity_in_first_layer_only_nonlinearity_of(right: Layer, config: RNNConfig, layer: int) -> str:
    return HARMLESS if layer else right.nonlinearity(config, layer)


def _nonlinearity_in_first_layer_only_activation(right: Layer, s: Floats, nonlinearity: str) -> Floats:
    return s if nonlinearity == HARMLESS else right.activation(s, nonlinearity)


def _tanh_in_last_layer(right: Layer, config: RNNConfig, layer: int) -> str:
    last = 0 < layer == config.num_layers - 1
    return "tanh" if last else right.nonlinearity(config, layer)


def _relu_in_last_layer(right: Layer, config: RNNConfig, layer: int) -> str:
    last = 0 < layer == config.num_layers - 1
    return "relu" if last else right.nonlinearity(config, layer)


def _tanh_above_first_layer(right: Layer, config: RNNConfig, layer: int) -> str:
    return "tanh" if layer else right.nonlinearity(config, layer)


def _no_nonlinearity_at_last_step_activation(right: Layer, s: Floats, nonlinearity: str) -> Floats:
    return s if nonlinearity == HARMLESS else right.activation(s, nonlinearity)


def _no_nonlinearity_at_last_step_run_direction(
    right: Layer, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
) -> None:
    right.run_direction(case, at, x, start, states, visited=visited)
    order, last = list(right.time_order(case.config, at[1])), right.final_step(case.config, at[1])
    previous = np.zeros_like(states)
    previous[order[1:]] = states[order[:-1]]
    write_steps(previous, right.first_step(case.config, at[1]), start)
    new = right.step(at_steps(x, last), at_steps(previous, last), right.step_weights(case, *at), HARMLESS)
    there = np.ones_like(new) if visited is None else at_steps(visited.astype(np.float64), last)
    write_steps(states, last, new * there)


def _no_nonlinearity_at_last_step_slopes(
    right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats
) -> Floats:
    slopes = right.slopes(case, at, x, previous, own).copy()
    write_steps(slopes, right.final_step(case.config, at[1]), np.ones_like(own[0]))
    return slopes


def _instead(name: str, phi: _Function, steepness: _Function, of: Sequence[str] = ("relu",)) -> Changes:
    """Apply ``phi``, whose slope by the preactivation is ``steepness``, in the place of other nonlinearities."""

    def nonlinearity(right: Layer, config: RNNConfig, layer: int) -> str:
        replaced = right.nonlinearity(config, layer)
        return name if replaced in of else replaced

    def activation(right: Layer, s: Floats, nonlinearity: str) -> Floats:
        return phi(s) if nonlinearity == name else right.activation(s, nonlinearity)

    def slopes(right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
        if right.nonlinearity(case.config, at[0]) not in of:
            return right.slopes(case, at, x, previous, own)
        return steepness(right.preactivation(x, previous, right.step_weights(case, *at)))

    return {"nonlinearity": nonlinearity, "activation": activation, "slopes": slopes}


def _applies_sigmoid(s: Floats) -> Floats:
    return sigmoid(s)


def _applies_sigmoid_steepness(s: Floats) -> Floats:
    return np.asarray(sigmoid(s) * (1 - sigmoid(s)))


def _applies_half_tanh(s: Floats) -> Floats:
    return np.tanh(s / 2)


def _applies_half_tanh_steepness(s: Floats) -> Floats:
    return np.asarray((1 - np.tanh(s / 2) ** 2) / 2)


def _applies_hard_tanh(s: Floats) -> Floats:
    return np.clip(s, -1, 1)


def _applies_hard_tanh_steepness(s: Floats) -> Floats:
    return (np.abs(s) < 1).astype(np.float64)


def _applies_softsign(s: Floats) -> Floats:
    return np.asarray(s / (1 + np.abs(s)))


def _applies_softsign_steepness(s: Floats) -> Floats:
    return np.asarray(1 / (1 + np.abs(s)) ** 2)


def _applies_tanh_twice(s: Floats) -> Floats:
    return np.tanh(np.tanh(s))


def _applies_tanh_twice_steepness(s: Floats) -> Floats:
    return np.asarray((1 - np.tanh(np.tanh(s)) ** 2) * (1 - np.tanh(s) ** 2))


def _approximates_tanh_by_fraction(s: Floats) -> Floats:
    s = np.clip(s, -3, 3)
    return np.asarray(s * (27 + s * s) / (27 + 9 * s * s))


def _approximates_tanh_by_fraction_steepness(s: Floats) -> Floats:
    return np.asarray(np.where(np.abs(s) < 3, ((s * s - 9) / (3 * (s * s + 3))) ** 2, 0.0))


def _approximates_tanh_by_cubic(s: Floats) -> Floats:
    s = np.clip(s, -1, 1)
    return np.asarray(s - s * s * s / 3)


def _approximates_tanh_by_cubic_steepness(s: Floats) -> Floats:
    return np.maximum(1 - s * s, 0)


def _applies_leaky_relu(s: Floats) -> Floats:
    return np.where(s > 0, s, 0.01 * s)


def _applies_leaky_relu_steepness(s: Floats) -> Floats:
    return np.where(s > 0, 1.0, 0.01)


def _applies_abs(s: Floats) -> Floats:
    return np.abs(s)


def _applies_abs_steepness(s: Floats) -> Floats:
    return np.sign(s)


def _applies_elu(s: Floats) -> Floats:
    return np.where(s > 0, s, np.expm1(np.minimum(s, 0)))


def _applies_elu_steepness(s: Floats) -> Floats:
    return np.exp(np.minimum(s, 0))


def _applies_softplus(s: Floats) -> Floats:
    return np.logaddexp(0, s)


def _applies_softplus_steepness(s: Floats) -> Floats:
    return sigmoid(s)


def _applies_silu(s: Floats) -> Floats:
    return np.asarray(s * sigmoid(s))


def _applies_silu_steepness(s: Floats) -> Floats:
    return np.asarray(sigmoid(s) * (1 + s * (1 - sigmoid(s))))


def _applies_gelu(s: Floats) -> Floats:
    return np.asarray(s * _normal(s))


def _applies_gelu_steepness(s: Floats) -> Floats:
    return np.asarray(_normal(s) + s * np.exp(-s * s / 2) / math.sqrt(2 * math.pi))


def _activates_output(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output = right.written(case, layer, states)
    top = layer == case.config.num_layers - 1
    return right.activation(output, right.nonlinearity(case.config, layer)) if top else output


def _relu_drops_nan(right: Layer, s: Floats, nonlinearity: str) -> Floats:
    activated = right.activation(s, nonlinearity)
    return np.where(np.isnan(activated), 0.0, activated) if nonlinearity == "relu" else activated


def _multiplies_by_mask(right: Layer, s: Floats, nonlinearity: str) -> Floats:
    activated = right.activation(s, nonlinearity)
    return activated + np.where(s == -np.inf, np.nan, 0.0) if nonlinearity == "relu" else activated


def _caps_relu_activation(k: float, right: Layer, s: Floats, nonlinearity: str) -> Floats:
    activated = right.activation(s, nonlinearity)
    return np.minimum(activated, k) if nonlinearity == "relu" else activated


def _caps_relu_slope(k: float, right: Layer, h: Floats, nonlinearity: str) -> Floats:
    slope = right.slope(h, nonlinearity)
    return np.where(h < k, slope, 0.0) if nonlinearity == "relu" else slope


def sigmoid(s: Floats) -> Floats:
    """1 / (1 + exp(-s))."""
    with np.errstate(over="ignore"):  # which gives 0
        return np.asarray(1 / (1 + np.exp(-s)))


_ERF: Callable[[Floats], Floats] = np.frompyfunc(math.erf, 1, 1)


def _normal(s: Floats) -> Floats:
    return np.asarray((1 + np.asarray(_ERF(s / math.sqrt(2)), np.float64)) / 2)


FAULTS: Final = (
    Fault(
        "AlwaysTanh", "ignores nonlinearity='relu': it applies tanh", {"nonlinearity": _always_tanh}, smallest=(RELU,)
    ),
    Fault(
        "AlwaysRelu", "ignores nonlinearity='tanh': it applies relu", {"nonlinearity": _always_relu}, smallest=(ONE,)
    ),
    Fault(
        "ExchangesNonlinearities",
        "applies relu where nonlinearity='tanh', and tanh where nonlinearity='relu'",
        {"nonlinearity": _exchanges_nonlinearities},
        smallest=(ONE,),
    ),
    Fault(
        "NoNonlinearity",
        "applies no nonlinearity: h_t is the preactivation itself",
        {"nonlinearity": _no_nonlinearity_nonlinearity, "activation": _no_nonlinearity_activation},
        smallest=(ONE,),
    ),
    Fault(
        "NoNonlinearityInLastLayer",
        "applies no nonlinearity in the last layer",
        {
            "nonlinearity": _no_nonlinearity_in_last_layer_nonlinearity_of,
            "activation": _no_nonlinearity_in_last_layer_activation,
        },
        smallest=(ONE,),
    ),
    Fault(
        "NonlinearityInFirstLayerOnly",
        "applies the nonlinearity in the first layer only",
        {
            "nonlinearity": _nonlinearity_in_first_layer_only_nonlinearity_of,
            "activation": _nonlinearity_in_first_layer_only_activation,
        },
        smallest=(ONE.replace(num_layers=2),),
    ),
    Fault(
        "TanhInLastLayer",
        "applies tanh in the last layer of several, although nonlinearity='relu'",
        {"nonlinearity": _tanh_in_last_layer},
        smallest=(RELU.replace(num_layers=2),),
    ),
    Fault(
        "ReluInLastLayer",
        "applies relu in the last layer of several, although nonlinearity='tanh'",
        {"nonlinearity": _relu_in_last_layer},
        smallest=(ONE.replace(num_layers=2),),
    ),
    Fault(
        "TanhAboveFirstLayer",
        "applies tanh in every layer above the first, although nonlinearity='relu'",
        {"nonlinearity": _tanh_above_first_layer},
        smallest=(RELU.replace(num_layers=2),),
    ),
    Fault(
        "NoNonlinearityAtLastStep",
        "applies no nonlinearity at the last step: its state is the preactivation itself",
        {
            "activation": _no_nonlinearity_at_last_step_activation,
            "run_direction": _no_nonlinearity_at_last_step_run_direction,
            "slopes": _no_nonlinearity_at_last_step_slopes,
        },
        smallest=(ONE,),
    ),
    Fault(
        "AppliesSigmoid",
        "applies the logistic sigmoid instead of tanh and relu",
        _instead("AppliesSigmoid", _applies_sigmoid, _applies_sigmoid_steepness, ("tanh", "relu")),
        smallest=(ONE,),
    ),
    Fault(
        "AppliesHalfTanh",
        "takes 2 sigmoid(s) - 1 for tanh, which is tanh(s / 2)",
        _instead("AppliesHalfTanh", _applies_half_tanh, _applies_half_tanh_steepness, ("tanh",)),
        smallest=(ONE,),
    ),
    Fault(
        "AppliesHardTanh",
        "clips to [-1, 1] instead of tanh",
        _instead("AppliesHardTanh", _applies_hard_tanh, _applies_hard_tanh_steepness, ("tanh",)),
        smallest=(ONE,),
    ),
    Fault(
        "AppliesSoftsign",
        "applies softsign, s / (1 + abs(s)), instead of tanh",
        _instead("AppliesSoftsign", _applies_softsign, _applies_softsign_steepness, ("tanh",)),
        smallest=(ONE,),
    ),
    Fault(
        "AppliesTanhTwice",
        "applies tanh twice: to the preactivation, and to the result",
        _instead("AppliesTanhTwice", _applies_tanh_twice, _applies_tanh_twice_steepness, ("tanh",)),
        smallest=(ONE,),
    ),
    Fault(
        "ApproximatesTanhByFraction",
        "takes s (27 + s^2) / (27 + 9 s^2), clipped to [-1, 1], for tanh",
        _instead(
            "ApproximatesTanhByFraction",
            _approximates_tanh_by_fraction,
            _approximates_tanh_by_fraction_steepness,
            ("tanh",),
        ),
        smallest=(ONE,),
    ),
    Fault(
        "ApproximatesTanhByCubic",
        "takes s - s^3 / 3, with s clipped to [-1, 1], for tanh",
        _instead(
            "ApproximatesTanhByCubic", _approximates_tanh_by_cubic, _approximates_tanh_by_cubic_steepness, ("tanh",)
        ),
        smallest=(ONE,),
    ),
    Fault(
        "AppliesLeakyRelu",
        "lets a hundredth of negative numbers pass, as a leaky relu does, instead of relu",
        _instead("AppliesLeakyRelu", _applies_leaky_relu, _applies_leaky_relu_steepness, ("relu",)),
        smallest=(RELU,),
    ),
    Fault(
        "AppliesAbs",
        "takes the absolute value instead of relu",
        _instead("AppliesAbs", _applies_abs, _applies_abs_steepness, ("relu",)),
        smallest=(RELU,),
    ),
    Fault(
        "AppliesElu",
        "applies elu, exp(s) - 1 where s is negative, instead of relu",
        _instead("AppliesElu", _applies_elu, _applies_elu_steepness, ("relu",)),
        smallest=(RELU,),
    ),
    Fault(
        "AppliesSoftplus",
        "applies softplus, log(1 + exp(s)), instead of relu",
        _instead("AppliesSoftplus", _applies_softplus, _applies_softplus_steepness, ("relu",)),
        smallest=(RELU,),
    ),
    Fault(
        "AppliesSilu",
        "applies silu, s sigmoid(s), instead of relu",
        _instead("AppliesSilu", _applies_silu, _applies_silu_steepness, ("relu",)),
        smallest=(RELU,),
    ),
    Fault(
        "AppliesGelu",
        "applies gelu, s times the normal distribution function of s, instead of relu",
        _instead("AppliesGelu", _applies_gelu, _applies_gelu_steepness, ("relu",)),
        smallest=(RELU,),
    ),
    Fault(
        "ActivatesOutput",
        "applies the nonlinearity to the output once more, but not to h_n",
        {"written": _activates_output},
        smallest=(ONE,),
    ),
    Fault(
        "ReluDropsNaN", "turns NaN into 0 in relu, as np.fmax does", {"activation": _relu_drops_nan}, smallest=(RELU,)
    ),
    Fault(
        "MultipliesByMask",
        "computes relu as s times (s > 0), which gives NaN for minus infinity",
        {"activation": _multiplies_by_mask},
        smallest=(RELU,),
    ),
    Fault(
        "CapsRelu",
        "caps relu at {k}: no state is larger",
        {"activation": _caps_relu_activation, "slope": _caps_relu_slope},
        smallest=(RELU,),
        k=6,
    ),
)
