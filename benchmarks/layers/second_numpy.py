"""Wrong implementations in NumPy, each with one mistake that ports, kernels and homework make."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.layers.kernel_base import Kernel
from benchmarks.layers.kernel_base import function as kernel
from benchmarks.layers.numpy_base import Net, Record
from benchmarks.layers.numpy_base import function as whole
from harness.space.config import RNNConfig

Array = NDArray[Any]
Weights = Mapping[str, Array]


def _named(rnn: Callable[..., Any], net: type[Net]) -> Callable[..., Any]:
    named: Any = rnn
    named.__name__ = named.__qualname__ = re.sub("(?<!^)(?=[A-Z])", "_", net.__name__).lower()
    named.__module__ = net.__module__
    named.offers = {"batched": (True, False)}
    return rnn


def forwards(net: type[Net]) -> Callable[..., Any]:
    """Return a function of ``net`` without gradients, packed sequences and dropout."""

    def rnn(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> tuple[Any, ...]:
        return net(x, h0, weights, config).run({})

    return _named(rnn, net)


def packing(net: type[Net]) -> Callable[..., Any]:
    """Return a function of ``net`` without gradients and dropout."""

    def rnn(x: Array, h0: Array, weights: Weights, config: RNNConfig, lengths: Array | None) -> tuple[Any, ...]:
        return net(x, h0, weights, config, lengths).run({})

    return _named(rnn, net)


# Bias and weights.


class FirstBiasEverywhere(Net):
    """The sum of the biases was computed once per direction, above the loop over the layers."""

    def bias(self, layer: int, d: int) -> Array:
        return super().bias(0, d)


class DeepLayersShareWeights(Net):
    """The converter writes one tensor for the first layer and one for all that are "inner"."""

    def w_ih(self, layer: int, d: int) -> Array:
        return super().w_ih(min(layer, 1), d)

    def w_hh(self, layer: int, d: int) -> Array:
        return super().w_hh(min(layer, 1), d)


class ColumnMajorInputWeights(Net):
    """W_ih of the first layer was exported row by row and is read column by column."""

    def w_ih(self, layer: int, d: int) -> Array:
        w = super().w_ih(layer, d)
        return w if layer else w.reshape(w.shape[::-1]).T


class SinglePrecisionBias(Net):
    """The biases are added in a float32 buffer, whatever the dtype."""

    def bias(self, layer: int, d: int) -> Array:
        return super().bias(layer, d).astype(np.float32).astype(self.dtype)


class LateBias32(Net):
    """b_hh is loaded by one warp, a unit each."""

    def bias(self, layer: int, d: int) -> Array:
        if not self.config.bias:
            return super().bias(layer, d)
        b_hh = self.weights[self.named("bias_hh", layer, d)].copy()
        b_hh[32:] = 0
        return self.weights[self.named("bias_ih", layer, d)] + b_hh


class BiasAlongBatch(Net):
    """States are columns, (H, N), and the bias (H,) is left to broadcast where it can."""

    def cell(self, layer: int, d: int, t: int, x_t: Array, h: Array) -> Array:
        s = self.project(x_t, self.w_ih(layer, d)) + self.recur(h, self.w_hh(layer, d))
        bias = self.bias(layer, d)
        columns = s.T + (bias if self.N == self.H else bias[:, None])
        return self.act(columns.T)


# Time, layers, directions.


class UnrolledByFour(Net):
    """The loop over time is unrolled by four; the loop over the rest does not advance its pointer into x."""

    def scan(self, layer: int, d: int, inputs: Array) -> tuple[Array, Array]:
        order = self.times(d)
        rest = order[self.T - self.T % 4 :]
        read = inputs.copy()
        read[rest] = inputs[rest[:1]] if rest else inputs[rest]
        return super().scan(layer, d, read)


class Wavefront(Kernel):
    """The layers of a one-directional stack run as a wavefront without a barrier: each reads the one below too late."""

    def load(self, layer: int, t: int, source: Array) -> Any:
        if not layer or self.D == 2:
            return source[t]
        return source[t - 1] if t else np.zeros_like(source[t])


class ChunksOnward(Net):
    """Time is cut into chunks of 8; the reverse direction runs backwards in each chunk, but the chunks go forwards."""

    def times(self, d: int) -> list[int]:
        if not d:
            return super().times(d)
        return [t for start in range(0, self.T, 8) for t in reversed(range(start, min(start + 8, self.T)))]


class InPlaceDirections(Kernel):
    """A layer whose output is as wide as its input writes over it, forward half first."""

    forward_half: Array

    def launch(self, layer: int, d: int, source: Array, h: Array, target: Array) -> Array:
        if d and source.shape[-1] == 2 * self.H:
            source = np.concatenate([self.forward_half, source[..., self.H :]], axis=-1)
        last = super().launch(layer, d, source, h, target)
        self.forward_half = target.copy()
        return last


class ByteSteps(Kernel):
    """The step is counted in seven bits."""

    def load(self, layer: int, t: int, source: Array) -> Any:
        return source[t & 127]


# Nonlinearity and rounding.


class OutputActivated(Kernel):
    """The output of the last layer goes through the activation once more; its states do not."""

    def launch(self, layer: int, d: int, source: Array, h: Array, target: Array) -> Array:
        last = super().launch(layer, d, source, h, target).copy()
        if layer + 1 == self.config.num_layers:
            target[...] = self.act(target)
        return last


class SigmoidTanh(Kernel):
    """tanh(s) = 1 - 2 / (exp(2 s) + 1), as in many kernels: small results are lost beside the 1."""

    def tanh(self, s: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(1 - 2 / (np.exp(2 * s) + 1))


class OverflowingTanh(Kernel):
    """tanh(s) = (exp(2 s) - 1) / (exp(2 s) + 1) with an exact exp: it becomes infinity by infinity."""

    def tanh(self, s: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.where(np.isposinf(np.exp(2 * s)), np.asarray(np.nan, s.dtype), np.tanh(s))


class ReluByFmax(Kernel):
    """fmaxf(s, 0.0f) returns the number if one operand is a NaN."""

    def act(self, s: Array) -> Array:
        return super().act(s) if self.config.nonlinearity == "tanh" else np.fmax(s, 0)


class ReverseAlwaysTanh(Net):
    """The reverse cell is built without the nonlinearity."""

    def cell(self, layer: int, d: int, t: int, x_t: Array, h: Array) -> Array:
        s = self.project(x_t, self.w_ih(layer, d)) + self.recur(h, self.w_hh(layer, d)) + self.bias(layer, d)
        return np.tanh(s) if d else self.act(s)


# Sizes at which tiles end.


class OverlappingTail4(Net):
    """Four sequences are advanced at a time, and the last four once more for the rest, so some are advanced twice."""

    def cell(self, layer: int, d: int, t: int, x_t: Array, h: Array) -> Array:
        state = h.copy()
        for start in range(0, self.N, 4):
            first = max(min(start, self.N - 4), 0)
            rows = slice(first, first + 4)
            state[rows] = super().cell(layer, d, t, x_t[rows], state[rows])
        return state


class TailWithoutState8(Kernel):
    """The units after the last full block of 8 have a loop of their own, without the recurrent product."""

    def recurrent(self, h: Array, w_hh: Array, units: slice) -> Array:
        s = super().recurrent(h, w_hh, units)
        return np.zeros_like(s) if units.start and units.start >= self.H - self.H % 8 else s


class TransposedTiles16(Kernel):
    """If tiles of 16 by 16 fit, W_hh is loaded by tiles, each of which is transposed."""

    def recurrent(self, h: Array, w_hh: Array, units: slice) -> Array:
        if self.H % 16 == 0:
            tiles = self.H // 16
            w_hh = w_hh.reshape(tiles, 16, tiles, 16).transpose(0, 3, 2, 1).reshape(self.H, self.H)
        return super().recurrent(h, w_hh, units)


class StaleStage64(Kernel):
    """The first layer's weights are staged 64 columns at a time; the stage is not loaded again."""

    def dot(self, layer: int, a: Array, w: Array) -> Array:
        return super().dot(layer, a, w if layer else w[:, np.arange(w.shape[1]) % 64])


# Packed sequences.


class ReverseShifted(Net):
    """The output of the reverse direction is turned round within T, not within each sequence's own length."""

    def scan(self, layer: int, d: int, inputs: Array) -> tuple[Array, Array]:
        outputs, h = super().scan(layer, d, inputs)
        if not d:
            return outputs, h
        turned = np.zeros_like(outputs)
        for n, length in enumerate(self.lengths):
            turned[self.T - length :, n] = outputs[:length, n]
        return np.where(self.active, turned, 0), h


_LENGTHS: Final[dict[tuple[int, int], Array]] = {}


class LengthsKept(Net):
    """The padding mask is made once for each (T, N), and kept."""

    def __init__(self, x: Array, h0: Array, weights: Weights, config: RNNConfig, lengths: Array | None = None) -> None:
        if lengths is not None:
            lengths = _LENGTHS.setdefault((config.T, config.N), lengths.copy())
        super().__init__(x, h0, weights, config, lengths)


class SquareMaskTransposed(Net):
    """The padding mask comes as (N, T), and is turned depending on its shape."""

    def __init__(self, x: Array, h0: Array, weights: Weights, config: RNNConfig, lengths: Array | None = None) -> None:
        super().__init__(x, h0, weights, config, lengths)
        if self.T == self.N:
            self.active = self.active.swapaxes(0, 1)


class LastGradientLost(Net):
    """The gradient with respect to h_n enters at step T - 1, where shorter sequences are masked."""

    def scan_back(self, layer: int, d: int, g_out: Array, g_last: Array) -> tuple[Array, Array, Array]:
        return super().scan_back(layer, d, g_out, g_last if d else np.where(self.active[-1], g_last, 0))


# Dropout.


class DividedByP(Net):
    """Kept elements are divided by p, the probability to drop."""

    def drop(self, layer: int, a: Array) -> Array:
        return np.where(self.masks[layer], a / np.asarray(self.config.dropout, self.dtype), 0) if self.masks else a


class UnscaledOnTheWayBack(Net):
    """The backward pass uses the mask alone, without the factor."""

    back = False

    def backward(self, g_output: Array, g_h_n: Array) -> dict[str, Array]:
        self.back = True
        return super().backward(g_output, g_h_n)

    def drop(self, layer: int, a: Array) -> Array:
        return np.where(self.masks[layer], a, 0) if self.masks and self.back else super().drop(layer, a)


# State and memory.


class WritesInitialState(Net):
    """h = h0[row] is a view, and the steps write into it."""

    def carry(self, d: int, t: int, new: Array, h: Array) -> Array:
        h[...] = super().carry(d, t, new, h)
        return h


_WORKSPACES: Final[dict[tuple[Any, ...], Array]] = {}


class KeptWorkspace(Net):
    """Outputs are written to a workspace that is allocated once per shape, and returned."""

    def forward(self) -> tuple[Array, Array]:
        output, h_n = super().forward()
        kept = _WORKSPACES.setdefault((output.shape, self.dtype), np.empty_like(output))
        kept[...] = output
        return kept, h_n


# Gradients.


class WrongCheckpoint(Net):
    """States are recomputed in segments of 32 steps; the first step of each reads the checkpoint before its own."""

    def scan(self, layer: int, d: int, inputs: Array) -> tuple[Array, Array]:
        outputs, h = super().scan(layer, d, inputs)
        record, order = self.records[layer, d], self.times(d)
        before = record.before.copy()
        for step in range(32, self.T, 32):
            before[order[step]] = record.before[order[step - 32]]
        self.records[layer, d] = Record(record.inputs, before, record.after)
        return outputs, h


class TanhOfTanh(Net):
    """The derivative, 1 - tanh(.)^2, is given the state, which has been through tanh already."""

    def through_act(self, g: Array, h: Array) -> Array:
        return super().through_act(g, np.tanh(h) if self.config.nonlinearity == "tanh" else h)


class InitialStateForgotten(Net):
    """The gradient with respect to W_hh sums h_0 .. h_T-2 without the initial state."""

    def scan(self, layer: int, d: int, inputs: Array) -> tuple[Array, Array]:
        outputs, h = super().scan(layer, d, inputs)
        self.records[layer, d].before[self.lengths - 1 if d else 0, np.arange(self.N)] = 0
        return outputs, h


class Clipped(Net):
    """The gradients with respect to the weights are clipped at 5, as a well-known script of a hundred lines does."""

    def backward(self, g_output: Array, g_h_n: Array) -> dict[str, Array]:
        found = super().backward(g_output, g_h_n)
        return {name: g if name in {"x", "hx"} else np.clip(g, -5, 5) for name, g in found.items()}


class OneLossOnly(Net):
    """The gradient code is ``if g_output is not None: ... elif g_h_n is not None: ...``."""

    def gradients(self, output: Array, h_n: Array, cotangents: Mapping[str, Array]) -> dict[str, Array]:
        if len(cotangents) > 1:
            cotangents = {name: g for name, g in cotangents.items() if name != "h_n.grad"}
        return super().gradients(output, h_n, cotangents)


# Readout, layout, and paths that depend on two things.


class InterleavedReadout(Net):
    """The readout's columns are taken to alternate between the directions."""

    def read(self, output: Array) -> Array:
        apart = output.reshape(*output.shape[:2], self.D, self.H)
        return super().read(apart.swapaxes(-1, -2).reshape(output.shape))


class UnbatchedAsBatch(Net):
    """An input without a batch axis gets a time axis of one: T sequences of one step."""

    def time_first(self, a: Array) -> Array:
        return super().time_first(a) if self.config.batched else a[None]

    def laid_out(self, a: Array) -> Array:
        return super().laid_out(a) if self.config.batched else a[0]

    def with_batch(self, state: Array) -> Array:
        return state if self.config.batched else np.repeat(state[:, None], self.N, axis=1)

    def without_batch(self, state: Array) -> Array:
        return state if self.config.batched else state[:, -1]


class NoBiasNoState(Net):
    """The path for layers without a bias starts at zero."""

    def initial(self, layer: int, d: int) -> Any:
        h = super().initial(layer, d)
        return h if self.config.bias else np.zeros_like(h)


first_bias_everywhere = forwards(FirstBiasEverywhere)
deep_layers_share_weights = forwards(DeepLayersShareWeights)
column_major_input_weights = forwards(ColumnMajorInputWeights)
single_precision_bias = forwards(SinglePrecisionBias)
late_bias_32 = forwards(LateBias32)
bias_along_batch = forwards(BiasAlongBatch)
unrolled_by_four = forwards(UnrolledByFour)
wavefront = kernel(Wavefront)
chunks_onward = forwards(ChunksOnward)
in_place_directions = kernel(InPlaceDirections)
byte_steps = kernel(ByteSteps)
output_activated = kernel(OutputActivated)
sigmoid_tanh = kernel(SigmoidTanh)
overflowing_tanh = kernel(OverflowingTanh)
relu_by_fmax = kernel(ReluByFmax)
reverse_always_tanh = forwards(ReverseAlwaysTanh)
overlapping_tail_4 = forwards(OverlappingTail4)
tail_without_state_8 = kernel(TailWithoutState8)
transposed_tiles_16 = kernel(TransposedTiles16)
stale_stage_64 = kernel(StaleStage64)
reverse_shifted = packing(ReverseShifted)
lengths_kept = packing(LengthsKept)
square_mask_transposed = packing(SquareMaskTransposed)
divided_by_p = whole(DividedByP)
last_gradient_lost = whole(LastGradientLost)
unscaled_on_the_way_back = whole(UnscaledOnTheWayBack)
writes_initial_state = packing(WritesInitialState)
kept_workspace = forwards(KeptWorkspace)
wrong_checkpoint = whole(WrongCheckpoint)
tanh_of_tanh = whole(TanhOfTanh)
initial_state_forgotten = whole(InitialStateForgotten)
clipped = whole(Clipped)
one_loss_only = whole(OneLossOnly)
interleaved_readout = forwards(InterleavedReadout)
unbatched_as_batch = forwards(UnbatchedAsBatch)
no_bias_no_state = forwards(NoBiasNoState)
