"""Recurrent layers written by hand, each in its own style and none from the reference: correct ones, and wrong ones.

They are subjects for the tests, so they share nothing with what they test.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import RNNConfig

Array = NDArray[Any]
Weights = Mapping[str, Array]
Pair = tuple[Array, ...]


def plain_python(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    """Compute one number at a time, with math.tanh and math.fsum, rounded once per step."""
    if config.batch_first:
        x = x.transpose(1, 0, 2)
    T, N, _ = x.shape
    H, D, scalar = config.hidden_size, 2 if config.bidirectional else 1, x.dtype.type
    below, finals = x, []
    for layer in range(config.num_layers):
        out = np.zeros((T, N, D * H), x.dtype)
        for d in range(D):
            end = f"_l{layer}" + "_reverse" * d
            W, V = weights["weight_ih" + end].astype(float), weights["weight_hh" + end].astype(float)
            bias = weights["bias_ih" + end].astype(float) + weights["bias_hh" + end] if config.bias else np.zeros(H)
            h = h0[layer * D + d].copy()
            for t in reversed(range(T)) if d else range(T):
                new = np.empty_like(h)
                for n in range(N):
                    for j in range(H):
                        terms = [w * float(v) for w, v in zip(W[j], below[t, n], strict=True)]
                        terms += [w * float(v) for w, v in zip(V[j], h[n], strict=True)]
                        s = exact_sum([*terms, float(bias[j])])
                        new[n, j] = scalar(math.tanh(s) if config.nonlinearity == "tanh" else max(s, 0.0))
                h = new
                out[t, :, d * H : (d + 1) * H] = h
            finals.append(h)
        below = out
    return finished(below, np.stack(finals), weights, config)


def exact_sum(terms: list[float]) -> float:
    try:
        return math.fsum(terms)
    except (ValueError, OverflowError):  # infinities of both signs, or a sum beyond float64
        return sum(terms)


def vectorised(
    x: Array,
    h0: Array,
    weights: Weights,
    config: RNNConfig,
    tamper: Callable[[Array, dict[str, Any]], Array] | None = None,
) -> Pair:
    """Compute whole batches at a time in the subject's own dtype; ``tamper`` may change each new state."""
    sequence = list(np.moveaxis(x, 1, 0)) if config.batch_first else list(x)
    states = dict(enumerate(h0))
    for layer in range(config.num_layers):
        tracks = []
        for d in range(config.num_directions):
            row = layer * config.num_directions + d
            steps = list(enumerate(sequence))
            track: dict[int, Array] = {}
            for t, frame in steps[::-1] if d else steps:
                end = f"l{layer}" + ("_reverse" if d else "")
                s = frame @ weights[f"weight_ih_{end}"].T + states[row] @ weights[f"weight_hh_{end}"].T
                if config.bias:
                    s = s + weights[f"bias_ih_{end}"] + weights[f"bias_hh_{end}"]
                new = np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)
                if tamper is not None:
                    new = tamper(new, {"layer": layer, "direction": d, "t": t, "config": config})
                track[t] = states[row] = new
            tracks.append([track[t] for t in range(len(sequence))])
        sequence = [np.concatenate(parts, axis=1) for parts in zip(*tracks, strict=True)]
    return finished(np.stack(sequence), np.stack([states[row] for row in sorted(states)]), weights, config)


def step_by_step(*, below: str, returned: str) -> Callable[..., Pair]:
    """Return a stack that takes all layers through one step after the other.

    What the layer above reads, and what is returned, is the state ``before`` or ``after`` the step; nn.RNN's is always
    that after it.
    """

    def rnn(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
        if config.bidirectional:
            raise NotImplementedError("one direction only")
        states, outputs = list(h0), []
        for x_t in np.moveaxis(x, 1, 0) if config.batch_first else x:
            seen = {"before": list(states), "after": states}
            for layer in range(config.num_layers):
                read = seen[below][layer - 1] if layer else x_t
                s = read @ weights[f"weight_ih_l{layer}"].T + states[layer] @ weights[f"weight_hh_l{layer}"].T
                if config.bias:
                    s = s + weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]
                states[layer] = np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)
            outputs.append(seen[returned][-1])
        return finished(np.stack(outputs), np.stack(states), weights, config)

    return rnn


def finished(output: Array, h_n: Array, weights: Weights, config: RNNConfig) -> Pair:
    if config.batch_first:
        output = np.ascontiguousarray(np.swapaxes(output, 0, 1))
    if config.output_size is None:
        return output, h_n
    return output, h_n, output @ weights["readout.weight"].T + weights["readout.bias"]


def changed_weights(change: Callable[[str, Array], Array]) -> Callable[..., Pair]:
    """Return a correct recurrence that is given wrong weights."""

    def rnn(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
        return vectorised(x, h0, {name: change(name, array) for name, array in weights.items()}, config)

    return rnn


def without_b_hh(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    wrong = {name: array * 0 if "bias_hh" in name else array for name, array in weights.items()}
    return vectorised(x, h0, wrong, config)


def transposed_recurrence(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    wrong = {name: array.T if "weight_hh" in name else array for name, array in weights.items()}
    return vectorised(x, h0, wrong, config)


def reverse_first(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    """Compute with the two halves of every layer's output exchanged, also in inner layers."""
    if not config.bidirectional:
        return vectorised(x, h0, weights, config)
    h0 = h0.reshape(config.num_layers, 2, *h0.shape[1:])[:, ::-1].reshape(h0.shape)
    wrong = {
        (name.removesuffix("_reverse") if name.endswith("_reverse") else name + "_reverse")
        if "_l" in name
        else name: array
        for name, array in weights.items()
    }
    axis = 1 if config.batch_first else 0  # time is reversed for both
    output, h_n, *readout = vectorised(np.flip(x, axis), h0, wrong, config)
    h_n = h_n.reshape(config.num_layers, 2, *h_n.shape[1:])[:, ::-1].reshape(h_n.shape)
    output = np.flip(output, axis)
    if config.output_size is not None:
        readout = [output @ weights["readout.weight"].T + weights["readout.bias"]]
    return (output, h_n, *readout)


def zero_start(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    return vectorised(x, np.zeros_like(h0), weights, config)


def wide_reverse_is_off(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    """Compute with an error only for H >= 17, in the reverse direction of the last unit."""

    def tamper(h: Array, at: dict[str, Any]) -> Array:
        if at["direction"] == 1 and config.hidden_size >= 17:
            h = h.copy()
            h[:, -1] += h.dtype.type(1e-3)
        return h

    return vectorised(x, h0, weights, config, tamper)


def late_drift(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    """Compute with an error from the fifth step on, by three parts in a hundred thousand."""
    return vectorised(x, h0, weights, config, lambda h, at: h * h.dtype.type(1 - 3e-5 * (at["t"] >= 4)))


def upper_layer_is_linear(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    """Compute with tanh applied twice in every layer above the first."""
    return vectorised(x, h0, weights, config, lambda h, at: np.tanh(h) if at["layer"] else h)


def order_by_depth(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    """Compute correctly, summing forwards in a single layer and backwards in a stack, as tuned kernels might."""
    step = 1 if config.num_layers == 1 else -1

    def product(a: Array, W: Array) -> Array:
        total = np.zeros((len(a), len(W)), a.dtype)
        for k in range(W.shape[1])[::step]:
            total = total + a[:, k : k + 1] * W[:, k]
        return total

    finals = []
    for layer in range(config.num_layers):
        h, states = h0[layer], []
        for frame in x:
            s = product(frame, weights[f"weight_ih_l{layer}"]) + product(h, weights[f"weight_hh_l{layer}"])
            s = s + weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]
            h = np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)
            states.append(h)
        x = np.stack(states)
        finals.append(h)
    return x, np.stack(finals)
