"""The recurrence and its gradients, written out in NumPy, in methods that a variation may override."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.space.config import RNNConfig

Array = NDArray[Any]
Weights = Mapping[str, Array]


class Record(NamedTuple):
    """The arrays that the backward pass needs of one layer and direction, time first: inputs and states."""

    inputs: Array
    before: Array
    after: Array


class Net:
    """One call, with everything time first inside, (T, N, features), and with a batch axis."""

    def __init__(
        self,
        x: Array,
        h0: Array,
        weights: Weights,
        config: RNNConfig,
        lengths: Array | None = None,
        masks: Sequence[Array] | None = None,
    ) -> None:
        if x.dtype not in (np.float32, np.float64):
            raise NotImplementedError(f"no {x.dtype}")
        self.config, self.weights, self.dtype = config, weights, x.dtype
        self.L, self.D, self.H = config.num_layers, config.num_directions, config.hidden_size
        self.x = self.time_first(x)
        self.T, self.N = self.x.shape[:2]
        self.h0 = self.with_batch(h0)
        self.lengths = np.full(self.N, self.T) if lengths is None else lengths
        self.active = (np.arange(self.T)[:, None] < self.lengths)[..., None]
        self.x = np.where(self.active, self.x, 0)
        self.masks = [self.time_first(mask) for mask in masks or ()]
        self.records: dict[tuple[int, int], Record] = {}

    # Layout.

    def time_first(self, a: Array) -> Array:
        if not self.config.batched:
            return a[:, None]
        return np.swapaxes(a, 0, 1) if self.config.batch_first else a

    def laid_out(self, a: Array) -> Array:
        """Undo ``time_first``."""
        if not self.config.batched:
            return a[:, 0]
        return a.swapaxes(0, 1) if self.config.batch_first else a

    def with_batch(self, state: Array) -> Array:
        return state if self.config.batched else state[:, None]

    def without_batch(self, state: Array) -> Array:
        return state if self.config.batched else state[:, 0]

    # Parameters.

    @staticmethod
    def named(role: str, layer: int, d: int) -> str:
        return f"{role}_l{layer}{'_reverse' if d else ''}"

    def w_ih(self, layer: int, d: int) -> Array:
        return self.weights[self.named("weight_ih", layer, d)]

    def w_hh(self, layer: int, d: int) -> Array:
        return self.weights[self.named("weight_hh", layer, d)]

    def bias(self, layer: int, d: int) -> Array:
        if not self.config.bias:
            return np.zeros(self.H, self.dtype)
        return self.weights[self.named("bias_ih", layer, d)] + self.weights[self.named("bias_hh", layer, d)]

    # Forward.

    def initial(self, layer: int, d: int) -> Any:
        return self.h0[layer * self.D + d]

    def times(self, d: int) -> list[int]:
        return list(range(self.T))[:: -1 if d else 1]

    def act(self, s: Array) -> Array:
        return np.tanh(s) if self.config.nonlinearity == "tanh" else np.maximum(s, 0)

    def project(self, x_t: Array, w_ih: Array) -> Array:
        return x_t @ w_ih.T

    def recur(self, h: Array, w_hh: Array) -> Array:
        return h @ w_hh.T

    def cell(self, layer: int, d: int, t: int, x_t: Array, h: Array) -> Array:
        s = self.project(x_t, self.w_ih(layer, d)) + self.recur(h, self.w_hh(layer, d))
        return self.act(s + self.bias(layer, d))

    def carry(self, d: int, t: int, new: Array, h: Array) -> Array:
        """Return the state after a step; a sequence that has ended, or not begun, keeps its own."""
        return np.where(self.active[t], new, h)

    def emit(self, new: Array, h: Array) -> Array:
        return new

    def scan(self, layer: int, d: int, inputs: Array) -> tuple[Array, Array]:
        h = self.initial(layer, d)
        before, after, outputs = (np.zeros((self.T, self.N, self.H), self.dtype) for _ in range(3))
        for t in self.times(d):
            new = self.cell(layer, d, t, inputs[t], h)
            before[t] = np.where(self.active[t], h, 0)
            after[t] = np.where(self.active[t], new, 0)
            outputs[t] = np.where(self.active[t], self.emit(new, h), 0)
            h = self.carry(d, t, new, h)
        self.records[layer, d] = Record(inputs, before, after)
        return outputs, h

    def drop(self, layer: int, a: Array) -> Array:
        """Apply dropout after an inner layer, to its output or to its output's gradient."""
        keep = np.asarray(1 - self.config.dropout, self.dtype)
        return np.where(self.masks[layer], a / keep, 0) if self.masks else a

    def forward(self) -> tuple[Array, Array]:
        inputs, h_n = self.x, np.zeros_like(self.h0)
        for layer in range(self.L):
            sides = []
            for d in range(self.D):
                outputs, h_n[layer * self.D + d] = self.scan(layer, d, inputs)
                sides.append(outputs)
            inputs = np.concatenate(sides, axis=-1)
            if layer + 1 < self.L:
                inputs = self.drop(layer, inputs)
        return inputs, h_n

    def read(self, output: Array) -> Array:
        return output @ self.weights["readout.weight"].T + self.weights["readout.bias"]

    # Back.

    def through_act(self, g: Array, h: Array) -> Array:
        """Return the gradient with respect to the preactivation, given the one with respect to the state h."""
        return g * (1 - h * h) if self.config.nonlinearity == "tanh" else np.where(h <= 0, 0, g)

    def pass_on(self, step: int, g: Array) -> Array:
        """Return the gradient with respect to a state as it enters ``step``, counted from the last one."""
        return g

    def scan_back(self, layer: int, d: int, g_out: Array, g_last: Array) -> tuple[Array, Array, Array]:
        """Return the gradients by the preactivations and the initial state, and the latter also for W_hh = 1."""
        by_s, h, first = np.zeros_like(g_out), g_last, np.zeros_like(g_last)
        for step, t in enumerate(reversed(self.times(d))):
            g = g_out[t] + self.pass_on(step, h)
            by_s[t] = np.where(self.active[t], self.through_act(g, self.records[layer, d].after[t]), 0)
            h = np.where(self.active[t], by_s[t] @ self.w_hh(layer, d), h)
            first = np.where(self.active[t], by_s[t], first)
        return by_s, h, first

    def by_bias(self, by_s: Array) -> Any:
        return by_s.sum((0, 1))

    def by_w_hh(self, by_s: Array, before: Array) -> Array:
        return self.flat(by_s).T @ self.flat(before)

    def by_initial(self, h: Array, first: Array) -> Array:
        return h

    @staticmethod
    def flat(a: Array) -> Array:
        return a.reshape(-1, a.shape[-1])

    def backward(self, g_output: Array, g_h_n: Array) -> dict[str, Array]:
        found: dict[str, Array] = {"hx": np.zeros_like(self.h0)}
        above = np.where(self.active, g_output, 0)
        for layer in reversed(range(self.L)):
            below = np.zeros_like(self.records[layer, 0].inputs)
            for d in range(self.D):
                row, record = layer * self.D + d, self.records[layer, d]
                half = above[..., d * self.H : (d + 1) * self.H]
                by_s, h, first = self.scan_back(layer, d, half, g_h_n[row])
                found["hx"][row] = self.by_initial(h, first)
                found[self.named("weight_ih", layer, d)] = self.flat(by_s).T @ self.flat(record.inputs)
                found[self.named("weight_hh", layer, d)] = self.by_w_hh(by_s, record.before)
                if self.config.bias:
                    found[self.named("bias_ih", layer, d)] = self.by_bias(by_s)
                    found[self.named("bias_hh", layer, d)] = self.by_bias(by_s)
                below += by_s @ self.w_ih(layer, d)
            above = self.drop(layer - 1, below) if layer else below
        found["x"] = np.where(self.active, above, 0)
        return found

    # Complete calls.

    def gradients(self, output: Array, h_n: Array, cotangents: Mapping[str, Array]) -> dict[str, Array]:
        g_output, g_h_n = np.zeros_like(output), np.zeros_like(h_n)
        readout: dict[str, Array] = {}
        if "output.grad" in cotangents:
            g_output = self.time_first(cotangents["output.grad"])
        if "h_n.grad" in cotangents:
            g_h_n = self.with_batch(cotangents["h_n.grad"])
        if self.config.output_size is not None:
            readout = {name: np.zeros_like(w) for name, w in self.weights.items() if name.startswith("readout")}
        if "readout.grad" in cotangents:
            g = self.time_first(cotangents["readout.grad"])
            g_output = g @ self.weights["readout.weight"]
            readout["readout.weight"] = self.flat(g).T @ self.flat(output)
            readout["readout.bias"] = g.sum((0, 1))
        found = self.backward(g_output, g_h_n) | readout
        found["x"], hx = self.laid_out(found["x"]), self.without_batch(found.pop("hx"))
        return found | ({"hx": hx} if self.config.hx else {})

    def run(self, cotangents: Mapping[str, Array]) -> tuple[Any, ...]:
        output, h_n = self.forward()
        returned = [self.laid_out(output), self.without_batch(h_n)]
        if self.config.output_size is not None:
            returned.append(self.laid_out(self.read(output)))
        return (*returned, self.gradients(output, h_n, cotangents)) if cotangents else tuple(returned)


def function(net: type[Net]) -> Callable[..., Any]:
    """Return the function that makes one call of ``net``; its name is the class's in snake case."""

    def rnn(
        x: Array,
        h0: Array,
        weights: Weights,
        config: RNNConfig,
        cotangents: Mapping[str, Array],
        lengths: Array | None,
        masks: Sequence[Array] | None,
    ) -> tuple[Any, ...]:
        return net(x, h0, weights, config, lengths, masks).run(cotangents)

    named: Any = rnn
    named.__name__ = named.__qualname__ = re.sub("(?<!^)(?=[A-Z])", "_", net.__name__).lower()
    named.__module__ = net.__module__
    named.offers = {"batched": (True, False)}
    return rnn


net = function(Net)
