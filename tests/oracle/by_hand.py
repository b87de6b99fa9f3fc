"""An RNN and its backpropagation through time by hand: any order of summation, in the dtype itself or a wider one.

It shares nothing with the reference, and shows what no subject shows: the inner states, and da of every step.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import Case, RNNConfig

Array = NDArray[Any]
Product = Callable[[Array, Array], Array]
Tamper = Callable[[Array, int, int], Array]


class Run(NamedTuple):
    """The results and the inside of a run: time first, layer by layer, (T, N, D*H)."""

    arrays: dict[str, Array]
    states: list[Array]
    da: list[Array]


def one_by_one(a: Array, b: Array, step: int = 1) -> Array:
    """Return A b^T, term by term, with each sum rounded to the arrays' own dtype."""
    terms = [a[:, k : k + 1] * b[:, k] for k in range(a.shape[1])[::step]]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def in_pairs(a: Array, b: Array) -> Array:
    terms = [a[:, k : k + 1] * b[:, k] for k in range(a.shape[1])]
    while len(terms) > 1:
        terms = [terms[i] + terms[i + 1] if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0]


def fused(a: Array, b: Array) -> Array:
    """Return A b^T like an FMA chain: each exact product is rounded with its sum.

    The products are exact because float64 holds those of float32.
    """
    total = np.zeros((len(a), len(b)), np.float64)
    for k in range(a.shape[1]):
        total = (total + a[:, k : k + 1].astype(float) * b[:, k].astype(float)).astype(a.dtype).astype(float)
    return total.astype(a.dtype)


def flushing(a: Array, b: Array) -> Array:
    """Return A b^T with subnormal operands and results set to zero."""
    return _flushed(one_by_one(_flushed(a), _flushed(b)))


def _flushed(a: Array) -> Array:
    return np.where(np.abs(a) < np.finfo(a.dtype).tiny, a * 0, a)


PRODUCTS: dict[str, Product] = {
    "forwards": one_by_one,
    "backwards": partial(one_by_one, step=-1),
    "in pairs": in_pairs,
    "as BLAS does": lambda a, b: a @ b.T,
    "fused": fused,
    "flushing": flushing,
}


def run_by_hand(  # noqa: PLR0915 - it is a whole network in one go
    case: Case,
    product: Product = one_by_one,
    *,
    work: str | None = None,
    stored: bool = False,
    tamper: Tamper | None = None,
    carry: bool = True,
) -> Run:
    """Run a case in ``work`` (by default its own dtype); ``stored`` rounds every sum and tanh to the case's dtype.

    It can be wrong on purpose: ``tamper`` may change da, given layer and t; without ``carry`` no gradient flows back in
    time.
    """
    config = case.config
    inner = np.dtype(work or config.dtype)

    def kept(a: Array) -> Array:
        return a.astype(config.dtype).astype(inner) if stored else a.astype(inner)

    given = {name: array.astype(inner) for name, array in case.arrays.items()}
    T, N, H, D = config.T, config.N, config.hidden_size, config.num_directions
    zeros = np.zeros((config.num_layers * D, N, H), inner)
    h0, finals, g_hx = given.get("hx", zeros), zeros.copy(), zeros.copy()
    below, inputs, states = _turned(given["x"], config), [], []
    previous = {}
    for layer in range(config.num_layers):
        out = np.zeros((T, N, D * H), inner)
        for d in range(D):
            W, V, *biases = _parameters(given, config, layer, d)
            h = h0[layer * D + d]
            before = previous[layer, d] = np.zeros((T, N, H), inner)
            for t in _order(T, d):
                before[t] = h
                parts = [kept(product(below[t], W)), kept(product(h, V))]
                parts = [kept(part + b) for part, b in zip(parts, biases, strict=True)] if biases else parts
                s = kept(parts[0] + parts[1])
                h = kept(np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, 0))
                out[t, :, d * H : (d + 1) * H] = h
            finals[layer * D + d] = h
        inputs.append(below)
        states.append(out)
        below = out
    arrays = {"output": _turned(below, config), "h_n": finals}
    found: dict[str, Array] = {}
    g = np.zeros((T, N, D * H), inner)
    if config.output_size is not None:
        weight = given["readout.weight"]
        rows = kept(product(below.reshape(T * N, -1), weight))
        read = kept(rows + given["readout.bias"]).reshape(T, N, -1)
        arrays["readout"] = _turned(read, config)
        top = _turned(given.get("readout.grad", np.zeros_like(arrays["readout"])), config)
        flat = top.reshape(T * N, -1)
        found["readout.weight"] = kept(product(flat.T, below.reshape(T * N, -1).T))
        found["readout.bias"] = kept(product(flat.T, np.ones((1, T * N), inner)))[:, 0]
        g = kept(product(flat, weight.T)).reshape(T, N, -1)
    elif "output.grad" in given:
        g = _turned(given["output.grad"], config)
    g_final = given.get("h_n.grad", zeros)
    gradients: list[Array] = []
    for layer in reversed(range(config.num_layers)):
        da = np.zeros((T, N, D * H), inner)
        g_below = np.zeros_like(inputs[layer])
        for d in range(D):
            part, row = slice(d * H, (d + 1) * H), layer * D + d
            W, V, *biases = _parameters(given, config, layer, d)
            carried = g_final[row]
            for t in reversed(_order(T, d)):
                dh = kept(g[t, :, part] + carried)
                h = states[layer][t, :, part]
                slope = 1 - h * h if config.nonlinearity == "tanh" else (h > 0).astype(inner)
                da_t = kept(dh * slope)
                da[t, :, part] = da_t = da_t if tamper is None else tamper(da_t, layer, t)
                carried = kept(product(da_t, V.T)) if carry or t == _order(T, d)[0] else np.zeros_like(carried)
            g_hx[row] = carried
            flat = da[..., part].reshape(T * N, H)
            beside = [inputs[layer].reshape(T * N, -1), previous[layer, d].reshape(T * N, H)]
            beside += [np.ones((T * N, 1), inner)] * len(biases)
            for name, factor in zip(_names(config, layer, d), beside, strict=True):
                gradient = kept(product(flat.T, factor.T))
                found[name] = gradient[:, 0] if name.startswith("bias") else gradient
            g_below = kept(g_below + kept(product(flat, W.T)).reshape(g_below.shape))
        gradients.insert(0, da)
        g = g_below
    found |= {"x": _turned(g, config), "hx": g_hx}
    if config.loss is not None:
        arrays |= {name: found[name.removesuffix(".grad")] for name in config.gradients}
    arrays = {name: np.ascontiguousarray(a.astype(config.dtype)) for name, a in arrays.items()}
    return Run(arrays, [a.astype(config.dtype) for a in states], [a.astype(config.dtype) for a in gradients])


def subject(**wrong: Any) -> Callable[..., Any]:
    """Return a function subject that runs by hand."""

    def rnn(x: Array, h0: Array, weights: Mapping[str, Array], config: RNNConfig, cotangents: Any) -> Any:
        arrays = run_by_hand(
            Case(config, x, h0 if config.hx else None, weights, cotangents=cotangents),
            PRODUCTS["as BLAS does"],
            **wrong,
        ).arrays
        outputs = [arrays[name] for name in config.outputs]
        return (*outputs, {name: arrays[name] for name in config.gradients})

    return rnn


def _names(config: RNNConfig, layer: int, d: int) -> list[str]:
    end = f"_l{layer}" + "_reverse" * d
    return [role + end for role in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if config.bias else ()))]


def _parameters(given: Mapping[str, Array], config: RNNConfig, layer: int, d: int) -> list[Array]:
    return [given[name] for name in _names(config, layer, d)]


def _order(T: int, d: int) -> range:
    return range(T - 1, -1, -1) if d else range(T)


def _turned(array: Array, config: RNNConfig) -> Array:
    return array.swapaxes(0, 1) if config.batch_first else array
