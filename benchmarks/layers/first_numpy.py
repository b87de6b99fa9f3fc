"""Variations of ``numpy_base`` that are wrong, each in one way."""

from collections.abc import Mapping
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from benchmarks.layers.numpy_base import Net, Weights, function

Array = NDArray[Any]

# Biases and weights.


class OneBias(Net):
    def bias(self, layer: int, d: int) -> Array:
        return self.weights[self.named("bias_ih", layer, d)] if self.config.bias else super().bias(layer, d)


class BiasBelow(Net):
    def bias(self, layer: int, d: int) -> Array:
        return np.zeros(self.H, self.dtype) if layer else super().bias(layer, d)


class RowsFlipped(Net):
    def w_ih(self, layer: int, d: int) -> Array:
        return super().w_ih(layer, d)[::-1]


class HalvesSwapped(Net):
    def w_ih(self, layer: int, d: int) -> Array:
        w = super().w_ih(layer, d)
        return np.roll(w, self.H, axis=1) if layer and self.D == 2 else w


# Time, batch, states.


class StateBefore(Net):
    def emit(self, new: Array, h: Array) -> Array:
        return h


class FirstState(Net):
    def initial(self, layer: int, d: int) -> Array:
        return np.broadcast_to(super().initial(layer, d)[:1], (self.N, self.H))


class Stateful(Net):
    kept: ClassVar[dict[Any, Array]] = {}

    def forward(self) -> tuple[Array, Array]:
        key = (self.h0.shape, self.dtype.str)
        if not self.config.hx and key in self.kept:
            self.h0 = self.kept[key]
        output, h_n = super().forward()
        self.kept[key] = h_n.copy()
        return output, h_n


# Nonlinearities.


class NanToZero(Net):
    def act(self, s: Array) -> Array:
        return np.tanh(s) if self.config.nonlinearity == "tanh" else np.fmax(s, 0)


# Packed sequences.


class EndsAtPadding(Net):
    def carry(self, d: int, t: int, new: Array, h: Array) -> Array:
        return super().carry(d, t, new, h) if d else new


class BeginsAtPadding(Net):
    def carry(self, d: int, t: int, new: Array, h: Array) -> Array:
        return new if d else super().carry(d, t, new, h)


# Dropout.


class Unscaled(Net):
    def drop(self, layer: int, a: Array) -> Array:
        return np.where(self.masks[layer], a, 0) if self.masks else a


# Rounding.


class Bf16State(Net):
    def carry(self, d: int, t: int, new: Array, h: Array) -> Array:
        return super().carry(d, t, new.astype(ml_dtypes.bfloat16).astype(self.dtype), h)


class TensorFloat(Net):
    @staticmethod
    def tf32(a: Array) -> Array:
        mantissa, exponent = np.frexp(a)
        rounded: Array = np.ldexp(np.round(mantissa * 2048) / 2048, exponent)
        return rounded.astype(a.dtype)

    def project(self, x_t: Array, w_ih: Array) -> Array:
        return self.tf32(x_t) @ self.tf32(w_ih).T if self.dtype == np.float32 else super().project(x_t, w_ih)


class HalfSums(Net):
    def recur(self, h: Array, w_hh: Array) -> Array:
        total = np.zeros(h.shape, np.float16)
        for k in range(self.H):
            total = total + (h[:, k, None] * w_hh[:, k]).astype(np.float16)
        return total.astype(self.dtype)


class SinglePrecision(Net):
    def __init__(self, x: Array, h0: Array, weights: Weights, *others: Any) -> None:
        single = {name: w.astype(np.float32) for name, w in weights.items()}
        super().__init__(x.astype(np.float32), h0.astype(np.float32), single, *others)
        self.returned = x.dtype

    def run(self, cotangents: Mapping[str, Array]) -> tuple[Any, ...]:
        returned = super().run({name: g.astype(np.float32) for name, g in cotangents.items()})
        return tuple(
            {name: g.astype(self.returned) for name, g in a.items()} if isinstance(a, dict) else a.astype(self.returned)
            for a in returned
        )


# Gradients.


class Averaged(Net):
    def by_w_hh(self, by_s: Array, before: Array) -> Any:
        return super().by_w_hh(by_s, before) / np.asarray(self.T, self.dtype)


class BiasOnce(Net):
    def by_bias(self, by_s: Array) -> Any:
        return by_s[0].sum(0)


class InitialBeforeWeights(Net):
    def by_initial(self, h: Array, first: Array) -> Array:
        return first


class Truncated(Net):
    def pass_on(self, step: int, g: Array) -> Array:
        return np.zeros_like(g) if step == 16 else g


class WrongSlope(Net):
    def through_act(self, g: Array, h: Array) -> Array:
        return g * (1 - h) if self.config.nonlinearity == "tanh" else super().through_act(g, h)


# Readout.


class ReadoutWithoutBias(Net):
    def read(self, output: Array) -> Array:
        return output @ self.weights["readout.weight"].T


class ReadoutHalves(Net):
    def read(self, output: Array) -> Array:
        return super().read(np.roll(output, self.H, axis=-1) if self.D == 2 else output)


# Layout.


class TimeFirstOutput(Net):
    def laid_out(self, a: Array) -> Array:
        return a if self.config.batched else super().laid_out(a)


class RawBuffer(Net):
    def __init__(self, x: Array, *others: Any) -> None:
        super().__init__(x.ravel(order="K").reshape(x.shape), *others)


# Conditional.


class RectifiedStart(Net):
    def initial(self, layer: int, d: int) -> Any:
        h = super().initial(layer, d)
        return h if self.config.nonlinearity == "tanh" else np.maximum(h, 0)


class SquareTransposed(Net):
    def w_ih(self, layer: int, d: int) -> Array:
        w = super().w_ih(layer, d)
        return w.T if layer == 0 and w.shape == (self.x.shape[-1], self.H) else w


class BatchFirstStart(Net):
    def initial(self, layer: int, d: int) -> Any:
        if not (self.config.batched and self.config.batch_first):
            return super().initial(layer, d)
        rows, batch, units = self.h0.shape
        return self.h0.reshape(batch, rows, units)[:, layer * self.D + d]


class UpperReverse(Net):
    def w_hh(self, layer: int, d: int) -> Array:
        return super().w_hh(layer, 0 if layer else d)


# Rare.


class BlankSkipped(Net):
    def cell(self, layer: int, d: int, t: int, x_t: Array, h: Array) -> Array:
        new = super().cell(layer, d, t, x_t, h)
        return new if layer else np.where((x_t != 0).any(-1, keepdims=True), new, h)


class Guarded(Net):
    def act(self, s: Array) -> Array:
        return np.where(np.abs(s) > 50, 0, super().act(s))


one_bias = function(OneBias)
bias_below = function(BiasBelow)
rows_flipped = function(RowsFlipped)
halves_swapped = function(HalvesSwapped)
state_before = function(StateBefore)
first_state = function(FirstState)
stateful = function(Stateful)
nan_to_zero = function(NanToZero)
ends_at_padding = function(EndsAtPadding)
begins_at_padding = function(BeginsAtPadding)
unscaled = function(Unscaled)
bf16_state = function(Bf16State)
tensor_float = function(TensorFloat)
half_sums = function(HalfSums)
single_precision = function(SinglePrecision)
averaged = function(Averaged)
bias_once = function(BiasOnce)
initial_before_weights = function(InitialBeforeWeights)
truncated = function(Truncated)
wrong_slope = function(WrongSlope)
readout_without_bias = function(ReadoutWithoutBias)
readout_halves = function(ReadoutHalves)
time_first_output = function(TimeFirstOutput)
raw_buffer = function(RawBuffer)
rectified_start = function(RectifiedStart)
square_transposed = function(SquareTransposed)
batch_first_start = function(BatchFirstStart)
upper_reverse = function(UpperReverse)
blank_skipped = function(BlankSkipped)
guarded = function(Guarded)
