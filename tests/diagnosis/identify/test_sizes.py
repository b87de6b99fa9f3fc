"""Tests of what depends on sizes: what is left over of blocks, and matrices that are read in another order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.diagnosis.identify.by_hand import FORWARD, said_of


def layer(x: Any, h: Any, W: Any, V: Any, b: Any, counts: Callable[[Any], Any] = lambda h: h) -> Any:
    output = []
    for x_t in x:
        h = counts(np.tanh(x_t @ W.T + h @ V.T + b))
        output.append(h)
    return np.stack(output), h


def first(array: Any, axis: int, k: int, block: bool) -> Any:
    """Return an array that is 0 beyond the first k, or beyond whole blocks of k."""
    size = array.shape[axis]
    kept = np.arange(size) < (size // k * k if block else k)
    return array * (kept if axis in (-1, array.ndim - 1) else kept[:, None])


def hstack(x: Any, h: Any, W: Any, V: Any, b: Any) -> Any:
    M, output = np.concatenate([W, V], 1), []
    for x_t in x:
        h = np.tanh(np.concatenate([h, x_t], 1) @ M.T + b)
        output.append(h)
    return np.stack(output), h


LAYERS: dict[str, tuple[Callable[..., Any], str]] = {
    "right": (layer, ""),
    "inputs in blocks": (
        lambda x, h, W, V, b: layer(x, h, first(W, 1, 8, block=True), V, b),
        "leaves the inputs that are left of full blocks of 8 out of the sum of its step",
    ),
    "but the first inputs": (
        lambda x, h, W, V, b: layer(x, h, W * (np.arange(W.shape[1]) > 1), V, b),
        "leaves the first 2 inputs out of the sum of its step",
    ),
    "first states": (
        lambda x, h, W, V, b: layer(x, h, W, first(V, 1, 3, block=False), b),
        "sums over the first 3 states only",
    ),
    "units in blocks": (
        lambda x, h, W, V, b: layer(x, h, W, V, b, lambda h: first(h, 1, 4, block=True)),
        "does not compute the units that are left of full blocks of 4: 0 stays there",
    ),
    "many units": (
        lambda x, h, W, V, b: layer(x, h, W, V, b, lambda h: first(h, 1, 32, block=False)),
        "computes the first 32 units only: other states are 0",
    ),
    "first sequence": (
        lambda x, h, W, V, b: layer(x, h, W, V, b, lambda h: first(h, 0, 1, block=False)),
        "computes the first sequence only: other states are 0",
    ),
    "last sequence": (
        lambda x, h, W, V, b: layer(x, h, W, V, b, lambda h: h * (np.arange(len(h)) < len(h) - 1)[:, None]),
        "does not compute the last sequence: 0 stays there",
    ),
    "reversed": (
        lambda x, h, W, V, b: layer(x, h, W, V[::-1], b),
        "takes h[t-1] @ W_hh[::-1].T in its step, not h[t-1] @ W_hh.T",
    ),
    "by columns": (
        lambda x, h, W, V, b: layer(x, h, W.ravel().reshape(W.shape, order="F"), V, b),
        "takes x[t] @ W_ih.reshape(W_ih.shape[::-1]) in its step, not x[t] @ W_ih.T",
    ),
    "joined": (
        hstack,
        "takes np.hstack([h[t-1], x[t]]) @ np.hstack([W_ih, W_hh]).T in its step, whose parts do not belong together",
    ),
    "other sequence": (lambda x, h, W, V, b: layer(x, h[::-1], W, V, b), "starts at hx[::-1], not at hx"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_depends_on_sizes_is_found(name: str) -> None:
    function, sentence = LAYERS[name]

    def ported(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        bias = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
        output, h_n = function(x, h0[0], weights["weight_ih_l0"], weights["weight_hh_l0"], bias)
        return output, h_n[None]

    # of one sequence and few units nothing is said to be left out
    found, said = said_of(ported, FORWARD if sentence else FORWARD.only(N=1, input_size=3, hidden_size=5))

    assert said == [sentence] * bool(sentence)
    assert found.whole
