"""Right recurrent layers, each with an arithmetic of its own, on which the harness must raise no alarm.

They are written from nn.RNN's equations, in NumPy, and share nothing with the reference. An arithmetic is one function
that takes all sums, forwards and backwards. Every order of the terms is right, and so is every rounding of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.space.config import RNNConfig
from harness.subjects.function import FunctionSubject
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject

Array = NDArray[Any]
Product = Callable[[Array, Array], Array]
Named = dict[str, Array]

TILE: Final = 8  # the number of terms that a tile of a sum has


@dataclass(frozen=True)
class Arithmetic:
    """The way in which a layer computes what every layer computes."""

    product: Product  # multiplies rows (R, K) by a matrix (K, C)
    wide: bool = False  # computes in float64, and rounds what it returns
    each_step: bool = False  # rounds every state, too
    transposed: bool = False  # weights lie in memory column by column
    at_once: bool = (
        True  # a preactivation is one sum of all its terms; else the sums of input, state and biases are added
    )


def by_blas(a: Array, b: Array) -> Array:
    """Multiply as NumPy does."""
    return np.asarray(a @ b)


def from_the_last(a: Array, b: Array) -> Array:
    """Multiply with sums that go from the last term to the first."""
    if not a.shape[1]:
        return by_blas(a, b)
    terms = a.T[:, :, None] * b[:, None, :]
    return np.asarray(np.add.accumulate(terms[::-1], axis=0)[-1])


def compensated(a: Array, b: Array) -> Array:
    """Multiply with compensated sums, as Kahan does: what one addition loses is added in the next."""
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    lost = np.zeros_like(total)
    for k in range(a.shape[1]):
        term = a[:, k, None] * b[k] - lost
        new = total + term
        lost = (new - total) - term
        lost[~np.isfinite(lost)] = 0  # a sum that is infinite has lost nothing
        total = new
    return total


def fused(a: Array, b: Array) -> Array:
    """Multiply with each product added before it is rounded, as a fused multiply-add does.

    A wider format emulates that.
    """
    wider = np.float64 if a.dtype == np.float32 else np.longdouble
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    left, right = a.astype(wider), b.astype(wider)
    for k in range(a.shape[1]):
        total = (left[:, k, None] * right[k] + total).astype(a.dtype)
    return total


def in_tiles(a: Array, b: Array) -> Array:
    """Multiply with sums of a few terms, which are then added up."""
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    for k in range(0, a.shape[1], TILE):
        total += a[:, k : k + TILE] @ b[k : k + TILE]
    return total


class _Call:
    """One call of a layer. Inside, every array is time first, (T, N, features), with a batch axis."""

    def __init__(
        self, arithmetic: Arithmetic, config: RNNConfig, h0: Array, lengths: Array | None, masks: Sequence[Array] | None
    ) -> None:
        self.arithmetic, self.config = arithmetic, config
        self.returned = h0.dtype
        self.inner = np.dtype(np.float64) if arithmetic.wide else h0.dtype
        self.T, self.N, self.H, self.D = config.T, config.N, config.hidden_size, config.num_directions
        there = np.arange(self.T)[:, None] < (np.full(self.N, self.T) if lengths is None else lengths)
        self.there = there[..., None]  # a mask of the steps that are no padding
        self.masks = [self.time_first(mask) for mask in masks or ()]
        # of each layer and direction: what its steps read, the states before them, and those after
        self.read: dict[tuple[int, int], tuple[Array, Array, Array]] = {}

    def time_first(self, array: Array) -> Array:
        if not self.config.batched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.config.batch_first else array

    def given_back(self, array: Array, *, batch: int | None = None) -> Array:
        """Return an array as the caller gets it; ``batch`` is the batch's axis where there is no time axis."""
        array = array.astype(self.returned)
        if not self.config.batched:
            return array[:, 0]
        return array.swapaxes(0, 1) if batch is None and self.config.batch_first else array

    def stored(self, weights: Mapping[str, Array]) -> Named:
        order: Any = "F" if self.arithmetic.transposed else "C"
        return {name: np.array(weight, self.inner, order=order) for name, weight in weights.items()}

    def total(self, *products: tuple[Array, Array], added: Sequence[Array] = ()) -> Array:
        """Return the sum of products of rows and matrices, and of what is added to every row."""
        if self.arithmetic.at_once:
            ones = [(np.ones((len(products[0][0]), 1), self.inner), row[None]) for row in added]
            left, right = zip(*products, *ones, strict=True)
            return self.arithmetic.product(np.concatenate(left, axis=1), np.concatenate(right))
        sums = [self.arithmetic.product(a, b) for a, b in products]
        return np.asarray(sum([*sums[1:], *added], sums[0]))

    def times(self, d: int) -> list[int]:
        return list(range(self.T))[:: -1 if d else 1]

    def dropped(self, layer: int, array: Array) -> Array:
        """Return what dropout leaves of an inner layer's output, or of its output's gradient."""
        if not self.masks:
            return array
        return np.where(self.masks[layer], array / self.inner.type(1 - self.config.dropout), 0)

    def forward(self, x: Array, h0: Array, weights: Named) -> tuple[Array, Array]:
        """Return the top layer's output, and every last state."""
        source = np.where(self.there, self.time_first(x), 0).astype(self.inner)
        h_n = (h0 if self.config.batched else h0[:, None]).astype(self.inner)
        for layer in range(self.config.num_layers):
            sides = []
            for d in range(self.D):
                row = layer * self.D + d
                states, h_n[row] = self.steps(layer, d, source, h_n[row], weights)
                sides.append(states)
            source = np.concatenate(sides, axis=-1)
            if layer + 1 < self.config.num_layers:
                source = self.dropped(layer, source)
        return source, h_n

    def steps(self, layer: int, d: int, source: Array, h: Array, weights: Named) -> tuple[Array, Array]:
        W, V = (weights[_named(role, layer, d)].T for role in ("weight_ih", "weight_hh"))
        biases = [weights[_named(role, layer, d)] for role in ("bias_ih", "bias_hh") if self.config.bias]
        before, after = (np.zeros((self.T, self.N, self.H), self.inner) for _ in range(2))
        for t in self.times(d):
            s = self.total((source[t], W), (h, V), added=biases)
            new = np.tanh(s) if self.config.nonlinearity == "tanh" else np.maximum(s, 0)
            if self.arithmetic.each_step:
                new = new.astype(self.returned).astype(self.inner)
            before[t], after[t] = np.where(self.there[t], h, 0), np.where(self.there[t], new, 0)
            h = np.where(self.there[t], new, h)
        self.read[layer, d] = source, before, after
        return after, h

    def back(self, weights: Named, g_output: Array, g_h_n: Array) -> Named:
        """Return the gradients by x, hx and the layers' parameters."""
        found: Named = {}
        g_hx, above = np.zeros_like(g_h_n), np.where(self.there, g_output, 0)
        for layer in reversed(range(self.config.num_layers)):
            pairs = []
            for d in range(self.D):
                row, V = layer * self.D + d, weights[_named("weight_hh", layer, d)]
                half = above[..., d * self.H : (d + 1) * self.H]
                by_s, g_hx[row] = self.steps_back(layer, d, V, half, g_h_n[row])
                source, before, _ = self.read[layer, d]
                found[_named("weight_ih", layer, d)] = self.total((_rows(by_s).T, _rows(source)))
                found[_named("weight_hh", layer, d)] = self.total((_rows(by_s).T, _rows(before)))
                for role in ("bias_ih", "bias_hh") if self.config.bias else ():
                    found[_named(role, layer, d)] = self.over_rows(by_s)
                pairs.append((_rows(by_s), weights[_named("weight_ih", layer, d)]))
            below = self.total(*pairs).reshape(self.read[layer, 0][0].shape)
            above = self.dropped(layer - 1, below) if layer else below
        found["x"] = np.where(self.there, above, 0)
        return found | {"hx": g_hx}

    def steps_back(self, layer: int, d: int, V: Array, g: Array, g_last: Array) -> tuple[Array, Array]:
        by_s, owed = np.zeros_like(g), g_last
        _, _, after = self.read[layer, d]
        for t in reversed(self.times(d)):
            given, h = g[t] + owed, after[t]
            slope = given * (1 - h * h) if self.config.nonlinearity == "tanh" else np.where(h <= 0, 0, given)
            by_s[t] = np.where(self.there[t], slope, 0)
            owed = np.where(self.there[t], self.total((by_s[t], V)), owed)
        return by_s, owed

    def over_rows(self, array: Array) -> Array:
        """Return the sum over time and batch."""
        rows = _rows(array)
        return np.asarray(self.total((np.ones((1, len(rows)), self.inner), rows))[0])


def layer_of(arithmetic: Arithmetic) -> Callable[..., Any]:
    """Return a layer with that arithmetic, as a function that a user could hand to the harness."""

    def rnn(
        *,
        x: Array,
        h0: Array,
        weights: Mapping[str, Array],
        config: RNNConfig,
        cotangents: Mapping[str, Array],
        lengths: Array | None,
        masks: Sequence[Array] | None,
    ) -> tuple[Any, ...]:
        if x.dtype not in (np.float32, np.float64):
            raise NotImplementedError(f"no {x.dtype}")
        call = _Call(arithmetic, config, h0, lengths, masks)
        stored = call.stored(weights)
        output, h_n = call.forward(x, h0, stored)
        returned = [call.given_back(output), call.given_back(h_n, batch=1)]
        if config.output_size is not None:
            read = call.total((_rows(output), stored["readout.weight"].T), added=[stored["readout.bias"]])
            returned.append(call.given_back(read.reshape(config.T, config.N, config.output_size)))
        if not cotangents:
            return tuple(returned)
        return (*returned, _gradients(call, stored, cotangents, output, h_n))

    offered: Any = rnn
    offered.offers = {"batched": (True, True, False), "output_size": (None, None, 2)}
    return rnn


def _gradients(
    call: _Call, weights: Named, cotangents: Mapping[str, Array], output: Array, h_n: Array
) -> Mapping[str, Array]:
    config, found = call.config, {}
    given = {name: g.astype(call.inner) for name, g in cotangents.items()}
    g_output, g_h_n = np.zeros_like(output), np.zeros_like(h_n)
    if "h_n.grad" in given:
        g_h_n = given["h_n.grad"] if config.batched else given["h_n.grad"][:, None]
    if "output.grad" in given:
        g_output = call.time_first(given["output.grad"])
    if config.output_size is not None:
        g = np.zeros((config.T, config.N, config.output_size), call.inner)
        g = call.time_first(given["readout.grad"]) if "readout.grad" in given else g
        g_output = call.total((_rows(g), weights["readout.weight"])).reshape(output.shape)
        found["readout.weight"] = call.total((_rows(g).T, _rows(output)))
        found["readout.bias"] = call.over_rows(g)
    found |= call.back(weights, g_output, g_h_n)
    x, hx = call.given_back(found.pop("x")), call.given_back(found.pop("hx"), batch=1)
    rounded = {name: gradient.astype(call.returned) for name, gradient in found.items()}
    return rounded | {"x": x} | ({"hx": hx} if config.hx else {})


def _named(role: str, layer: int, d: int) -> str:
    return f"{role}_l{layer}{'_reverse' if d else ''}"


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


ARITHMETICS: Final[dict[str, Arithmetic]] = {
    "plain": Arithmetic(by_blas, at_once=False),
    "reversed": Arithmetic(from_the_last),
    "kahan": Arithmetic(compensated),
    "fused": Arithmetic(fused),
    "wide": Arithmetic(by_blas, wide=True),
    "wide-steps": Arithmetic(by_blas, wide=True, each_step=True),
    "transposed": Arithmetic(by_blas, at_once=False, transposed=True),
    "tiles": Arithmetic(in_tiles),
}
CORRECT: Final = (*ARITHMETICS, "torch")


@contextmanager
def correct_subject(name: str) -> Iterator[Subject]:
    """Yield the correct subject of that name; torch's own ``nn.RNN`` runs in a process of its own."""
    if name in ARITHMETICS:
        yield FunctionSubject(layer_of(ARITHMETICS[name]), name)
        return
    with IsolatedSubject(name) as subject:
        yield subject
