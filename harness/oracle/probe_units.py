"""probe_units: units added to a layer that show a subject's inner states and gradients in one ordinary run.

A stack shows the states of its top layer, and of its gradients only sums. The probed case is another case of the same
layer, with more features and units: the given network stands in it, and the added units only carry. Each layer gets
num_layers blocks of H units. Block l of layer l is the given layer. Block j of a higher layer carries up what block j
holds below it, a state. Block j of a lower layer is read by the given layer j through a unit matrix, so that the
gradient by it is da of layer j. This goes on down from carrier to carrier to x.grad.

Up. A carrier of relu computes max(h + 0 + ... + 0, 0) = h, exactly. A carrier of tanh computes tanh(c h), where c is a
power of two so small that |tanh(a) - a| <= |a|**3 / 3 is less than a fraction of a rounding. Each carrier adds one
error of tanh.

Down. A carrier's da is the da above it times 1, plus products with 0, times its slope phi'. For tanh its state is 0,
and phi' = 1. For relu its state is a small positive constant, hence phi' = 1. The given layers above the first read
that constant, too, which makes them another network of the same weights. In floating point that respects what is
representable, nothing on this way is rounded.

A number that is not finite would spread, because 0 times inf is NaN. The probes say nothing then.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.array_layout import time_major
from harness.oracle.bounded_array import BoundedArray, Floats
from harness.oracle.element_equation import ElementEquation
from harness.oracle.expected import ExpectedArray, Index
from harness.oracle.pinned_numpy import np
from harness.oracle.setting import Setting
from harness.space.case import Array, Case
from harness.space.config import PREACTIVATION, RNNConfig, weight_names

# The factor c, by dtype. c**2 / 3 <= u / 8, which is far less than what tanh itself may be off by.
PROBE_SCALE: Final = {"float64": 2.0**-28, "float32": 2.0**-13, "bfloat16": 2.0**-5, "float16": 2.0**-7}

PILOT: Final = 2.0**-6  # The state of relu's carriers on the way down


class ProbedStates(NamedTuple):
    """The inside of a probed case, as its run shows it, layer by layer, (T, N, D*H) in the probed case's own sizes."""

    states: list[BoundedArray]
    preactivation_gradients: list[Floats]


def probed(case: Case) -> Case:
    """Return the case of a wider layer that holds the given one and probes.

    It has no readout: the loss reads the output.
    """
    narrow, config = case.config, _wider(case.config)
    arrays = {name: np.zeros(spec.shape) for name, spec in config.given.items()}
    arrays["x"][..., : narrow.input_size] = case.x
    if narrow.nonlinearity == "relu":
        arrays["x"][..., narrow.input_size + narrow.num_directions * narrow.hidden_size :] = PILOT
    for name, array in case.arrays.items():
        if name in arrays and name != "x":
            arrays[name][selection(narrow, name)] = array
    if "readout.grad" in case.cotangents:
        with np.errstate(over="ignore", invalid="ignore"):
            through = case.cotangents["readout.grad"].astype(np.float64) @ case.weights["readout.weight"]
        arrays["output.grad"][selection(narrow, "output.grad")] = through
    for layer in range(narrow.num_layers):
        for d in range(narrow.num_directions):
            _connect(narrow, arrays[weight_names(layer, d)[0]], layer, d)
    with np.errstate(over="ignore"):
        cast = {name: array.astype(config.dtype) for name, array in arrays.items()}
    return Case.from_arrays(config, cast)


def witness(setting: Setting, arrays: Mapping[str, Array]) -> ProbedStates | None:
    """Return what the run of ``probed(setting.case)`` shows; ``None`` where what shows it is not finite."""
    _, case, arithmetic = setting
    narrow, config = case.config, _wider(case.config)
    if not all(np.isfinite(arrays[name]).all() for name in ("output", "x.grad")):
        return None
    top = time_major(arrays["output"], config)
    probes = time_major(arrays["x.grad"], config)[..., narrow.input_size :]
    states: list[BoundedArray] = []
    gradients: list[Floats] = []
    for layer in range(narrow.num_layers):
        state, error = np.zeros_like(top), np.zeros_like(top)
        da = np.zeros_like(top)
        hops = narrow.num_layers - 1 - layer
        for d in range(narrow.num_directions):
            for j in range(narrow.num_layers):
                units = _units(narrow, j, d)
                if j > layer:
                    state[..., units] = PILOT if narrow.nonlinearity == "relu" else 0.0
                elif narrow.nonlinearity == "relu" or not hops:
                    state[..., units] = top[..., units]
                else:
                    scale = PROBE_SCALE[narrow.dtype] if j == layer else 1.0
                    state[..., units] = top[..., units] / scale
                    error[..., units] = _carried_error(state[..., units], hops, scale, arithmetic)
                if j >= layer:
                    start = (j * narrow.num_directions + d) * narrow.hidden_size
                    da[..., units] = probes[..., start : start + narrow.hidden_size]
        states.append(BoundedArray(state, error if error.any() else None))
        gradients.append(da)
    return ProbedStates(states, gradients)


@lru_cache(256)
def selection(config: RNNConfig, name: str, layer: int | None = None) -> tuple[Array, ...]:
    """Return where the given layer's elements of an array stand in the probed one's: one index array for each axis.

    The index arrays can be broadcast together. ``layer`` is that of an output, or of a preactivation's gradient, where
    it is not the top one.
    """
    H, D = config.hidden_size, config.num_directions
    top = config.num_layers - 1 if layer is None else layer
    if name == PREACTIVATION:
        return np.ix_(np.arange(config.T), np.arange(config.N), _all_directions(config, top))
    name = name.removesuffix(".grad")
    spec = {**config.returned, **config.inputs, **config.weights}[name]
    if name in {"h_n", "hx"}:
        rows = np.arange(config.num_layers * D)[:, None, None]
        return rows, np.arange(config.N)[None, :, None], rows // D * H + np.arange(H)
    of_layer = int(name.partition("_l")[2].partition("_")[0]) if "_l" in name else top
    block = of_layer * H + np.arange(H)
    axes = {"H": block, "D*H": _all_directions(config, top)}
    if name.startswith("weight_ih") and of_layer:
        axes["D*H"] = _all_directions(config, of_layer - 1)
    return np.ix_(*(axes.get(axis, np.arange(size)) for axis, size in zip(spec.axes, spec.shape, strict=True)))


def cut(expected: ExpectedArray, chosen: tuple[Array, ...]) -> ExpectedArray:
    """Return the given layer's elements of what is expected of the probed one."""
    equation, floor = expected.equation, expected.floor
    values = expected.values[chosen]

    def at(index: Index) -> ElementEquation:
        assert equation is not None
        return equation(tuple(int(np.broadcast_to(axis, values.shape)[index]) for axis in chosen))

    return ExpectedArray(
        values, expected.tolerance[chosen], None if floor is None else floor[chosen], None if equation is None else at
    )


def _wider(config: RNNConfig) -> RNNConfig:
    L, H = config.num_layers, config.hidden_size
    features = config.input_size + config.num_directions * L * H
    return config.replace(input_size=features, hidden_size=L * H, output_size=None, wrt="all")


def _connect(config: RNNConfig, weight: Floats, layer: int, d: int) -> None:
    """Put the carriers' unit matrices into the W_ih (L*H, ..) of a layer and direction."""
    H, D = config.hidden_size, config.num_directions
    for j in range(config.num_layers):
        below = (d * config.num_layers + j) * H if layer else config.input_size + (j * D + d) * H
        scale = PROBE_SCALE[config.dtype] if j == layer - 1 and config.nonlinearity == "tanh" else 1.0
        if j >= layer or layer:
            weight[j * H + np.arange(H), below + np.arange(H)] = scale


def _units(config: RNNConfig, j: int, d: int) -> slice:
    """Return the slice of block j of a direction among a layer's D*L*H features."""
    start = (d * config.num_layers + j) * config.hidden_size
    return slice(start, start + config.hidden_size)


def _all_directions(config: RNNConfig, j: int) -> Array:
    return np.concatenate([np.r_[_units(config, j, d)] for d in range(config.num_directions)])


def _carried_error(state: Floats, hops: int, scale: float, arithmetic: Arithmetic) -> Floats:
    """Return how far a state may be from what ``hops`` carriers made of it.

    Relatively, a hop is off by tanh's error, and by the c**2 / 3 by which tanh(a) differs from a. Both hold to first
    order; twice their sum over all hops, taken off the denominator, pays for the rest. Underflow, and what tanh may be
    off by absolutely, are divided by c. The latter comes once a hop, and is taken twice to pay for what later hops make
    of it.
    """
    a_hop = arithmetic.tanh_error + PROBE_SCALE[arithmetic.dtype] ** 2 / 3
    relative = hops * a_hop / (1 - 2 * hops * a_hop)
    absolute = 4 * arithmetic.underflow + 2 * arithmetic.tanh_absolute
    return relative * np.abs(state) + hops * absolute / scale
