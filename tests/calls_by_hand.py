"""Packed sequences and dropout by hand, from single sequences and single layers; correct, or wrong in a chosen way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import Case, RNNConfig
from tests.oracle.by_hand import PRODUCTS, run_by_hand

Array = NDArray[Any]
Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Wrong:
    """The mistakes that can be chosen; by default there are none."""

    final_state: bool = False  # True if h_n is the state at step T even where that is padding
    order: bool = False  # True if hx is read in the order of falling lengths
    ties: bool = False  # True if the second of two equally long sequences gets the first one's initial state
    padding_gradient: bool = False  # True if padding has a gradient
    scale: bool = False  # True if elements kept by dropout are not scaled
    drops_h_n: bool = False  # True if an inner layer's h_n is taken after dropout
    backward: bool = False  # True if dropout is forgotten in the backward pass


def by_sequence(  # a network in one go
    x: Array,
    h0: Array,
    weights: Weights,
    config: RNNConfig,
    cotangents: Weights,
    lengths: Array | None,
    masks: Sequence[Array] | None,
    wrong: Wrong = Wrong(),
) -> Any:
    """Compute outputs and gradients of a config without a readout."""
    H, D, N, T = config.hidden_size, config.num_directions, config.N, config.T
    last = [int(length) for length in lengths] if lengths is not None else [T] * N
    below = np.array(_turned(x, config))
    h0 = h0 if lengths is None else _misread(h0, last, wrong)
    kept = [_turned(mask, config) for mask in masks or ()]
    scale = x.dtype.type(1.0 if wrong.scale or not kept or config.dropout == 1 else 1 / (1 - config.dropout))
    inputs, finals = [], []
    for layer in range(config.num_layers):
        inputs.append(below)
        output, final = np.zeros((T, N, D * H), x.dtype), np.zeros((D, N, H), x.dtype)
        for n, length in enumerate(last):
            run = _alone(config, layer, n, length, below, h0, weights, {})
            output[:length, n], final[:, n] = run["output"][:, 0], run["h_n"][:, 0]
        below = np.where(kept[layer], output * scale, 0).astype(x.dtype) if layer < len(kept) else output
        if wrong.final_state:
            final[0] = output[-1, :, :H]
        if wrong.drops_h_n:
            final[0] = below[np.array(last) - 1, np.arange(N), :H]
        finals.append(final)
    h_n = np.concatenate(finals)
    if config.loss is None:
        return _turned(output, config), h_n
    gradients: dict[str, Array] = {name: np.zeros_like(array) for name, array in weights.items()} | {
        "hx": np.zeros_like(h0)
    }
    g = np.array(_turned(cotangents.get("output.grad", np.zeros_like(_turned(output, config))), config))
    g_final = cotangents.get("h_n.grad", np.zeros_like(h_n))
    for layer in reversed(range(config.num_layers)):
        g_below = np.zeros_like(inputs[layer])
        for n, length in enumerate(last):
            given = {"output.grad": g[:length, n : n + 1], "h_n.grad": g_final[layer * D : (layer + 1) * D, n : n + 1]}
            run = _alone(config, layer, n, length, inputs[layer], h0, weights, given)
            g_below[:length, n] = run["x.grad"][:, 0]
            gradients["hx"][layer * D : (layer + 1) * D, n] = run["hx.grad"][:, 0]
            for name in _of_layer(weights, layer):
                gradients[name] += run[f"{_as_first(name)}.grad"]
        keeps = layer > 0 and layer <= len(kept) and not wrong.backward
        g = np.where(kept[layer - 1], g_below * scale, 0).astype(x.dtype) if keeps else g_below
    if wrong.padding_gradient:
        g = np.where(np.arange(T)[:, None, None] >= np.array(last)[:, None], x.dtype.type(1), g)
    gradients["x"] = _turned(g, config)
    if not config.hx:
        del gradients["hx"]
    return _turned(output, config), h_n, gradients


def doing(**wrong: bool) -> Callable[..., Any]:
    """Return a function subject with the chosen mistakes."""

    def rnn(
        x: Array,
        h0: Array,
        weights: Weights,
        config: RNNConfig,
        cotangents: Weights,
        lengths: Array | None,
        masks: Sequence[Array] | None,
    ) -> Any:
        if config.output_size is not None or not config.batched or config.N == 0:
            raise NotImplementedError("no readout, and batches that have sequences")
        return by_sequence(x, h0, weights, config, cotangents, lengths, masks, replace(Wrong(), **wrong))

    return rnn


def _alone(
    config: RNNConfig, layer: int, n: int, length: int, below: Array, h0: Array, weights: Weights, given: Weights
) -> dict[str, Array]:
    """Compute one layer on one sequence."""
    D = config.num_directions
    one = RNNConfig(
        below.shape[2],
        config.hidden_size,
        nonlinearity=config.nonlinearity,
        bias=config.bias,
        bidirectional=config.bidirectional,
        T=length,
        N=1,
        hx=True,
        dtype=config.dtype,
        loss="both" if given else None,
    )
    own = {_as_first(name): weights[name] for name in _of_layer(weights, layer)}
    case = Case(one, below[:length, n : n + 1], h0[layer * D : (layer + 1) * D, n : n + 1], own, cotangents=given)
    return run_by_hand(case, PRODUCTS["as BLAS does"], stored=True).arrays


def _misread(h0: Array, last: list[int], wrong: Wrong) -> Array:
    if wrong.order:
        return h0[:, np.argsort([-length for length in last], kind="stable")]
    if wrong.ties:
        return h0[:, [last.index(length) for length in last]]
    return h0


def _of_layer(weights: Weights, layer: int) -> list[str]:
    return [name for name in weights if name.removesuffix("_reverse").endswith(f"_l{layer}")]


def _as_first(name: str) -> str:
    stem, _, end = name.rpartition("_l")
    return f"{stem}_l0" + "_reverse" * end.endswith("_reverse")


def _turned(array: Array, config: RNNConfig) -> Array:
    return array.swapaxes(0, 1) if config.batch_first else array
