"""A forward pass as a GPU kernel does it, block by block, in methods that a variation may override."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.space.config import RNNConfig

Array = NDArray[Any]
Weights = Mapping[str, Array]


class Kernel:
    """A layer computed in blocks of sequences and units; sums go over chunks of features."""

    block_n, block_h, chunk = 32, 8, 16

    def __init__(self, x: Array, h0: Array, weights: Weights, config: RNNConfig) -> None:
        if x.dtype not in (np.float32, np.float64):
            raise NotImplementedError(f"no {x.dtype}")
        if config.output_size is not None or not config.batched:
            raise NotImplementedError("no readout, and no call without a batch axis")
        self.x, self.h0, self.weights, self.config = x, h0, weights, config
        self.H, self.D = config.hidden_size, config.num_directions

    def run(self) -> tuple[Array, Array]:
        source = np.ascontiguousarray(self.x.swapaxes(0, 1) if self.config.batch_first else self.x)
        h_n = np.empty_like(self.h0)
        for layer in range(self.config.num_layers):
            target = np.empty((*source.shape[:2], self.D * self.H), source.dtype)
            for d in range(self.D):
                row, columns = layer * self.D + d, slice(d * self.H, (d + 1) * self.H)
                h_n[row] = self.launch(layer, d, source, self.h0[row], target[..., columns])
            source = target
        return source.swapaxes(0, 1) if self.config.batch_first else source, h_n

    def launch(self, layer: int, d: int, source: Array, h: Array, target: Array) -> Array:
        """Write one direction's states to ``target``, and return the last one."""
        end = f"_l{layer}{'_reverse' if d else ''}"
        w_ih, w_hh = self.weights["weight_ih" + end], self.weights["weight_hh" + end]
        biases = [self.weights[role + end] for role in ("bias_ih", "bias_hh") if self.config.bias]
        bias = sum(biases, np.zeros(self.H, source.dtype))
        T, N, _ = source.shape
        for step in range(T):
            t = T - 1 - step if d else step
            x_t, new = self.load(layer, t, source), np.zeros_like(h)
            for n in range(0, N, self.block_n):
                for j in range(0, self.H, self.block_h):
                    rows, units = slice(n, n + self.block_n), slice(j, j + self.block_h)
                    s = self.dot(layer, x_t[rows], w_ih[units]) + self.recurrent(h[rows], w_hh, units) + bias[units]
                    new[rows, units] = self.act(s)
            h = target[t] = self.store(new)
        return h

    def load(self, layer: int, t: int, source: Array) -> Any:
        return source[t]

    def store(self, new: Array) -> Array:
        return new

    def dot(self, layer: int, a: Array, w: Array) -> Array:
        return self.chunked(a, w)

    def recurrent(self, h: Array, w_hh: Array, units: slice) -> Array:
        return self.chunked(h, w_hh[units])

    def chunked(self, a: Array, w: Array) -> Array:
        total = np.zeros((len(a), len(w)), a.dtype)
        for k in range(0, a.shape[1], self.chunk):
            total += a[:, k : k + self.chunk] @ w[:, k : k + self.chunk].T
        return total

    def act(self, s: Array) -> Array:
        return self.tanh(s) if self.config.nonlinearity == "tanh" else np.maximum(s, 0)

    def tanh(self, s: Array) -> Array:
        return np.tanh(s)


def function(kernel: type[Kernel]) -> Callable[..., Any]:
    """Return the function that makes one call of ``kernel``; its name is the class's in snake case."""

    def rnn(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> tuple[Array, Array]:
        return kernel(x, h0, weights, config).run()

    named: Any = rnn
    named.__name__ = named.__qualname__ = re.sub("(?<!^)(?=[A-Z])", "_", kernel.__name__).lower()
    named.__module__ = kernel.__module__
    return rnn
