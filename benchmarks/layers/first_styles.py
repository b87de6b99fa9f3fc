"""Recurrent layers as twelve people might write them, each with one mistake."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.space.config import RNNConfig

Array = NDArray[Any]
Weights = Mapping[str, Array]
Pair = tuple[Array, Array]


def _refuse(x: Array, config: RNNConfig) -> None:
    if x.dtype not in (np.float32, np.float64):
        raise NotImplementedError(f"no {x.dtype}")
    if config.output_size is not None:
        raise NotImplementedError("no readout")
    if not config.batched:
        raise NotImplementedError("no calls without a batch axis")


def _suffix(layer: int, direction: int) -> str:
    return f"_l{layer}_reverse" if direction else f"_l{layer}"


def _activation(config: RNNConfig) -> Callable[[Array], Array]:
    return np.tanh if config.nonlinearity == "tanh" else lambda s: np.maximum(s, 0)


def _bias(weights: Weights, end: str) -> Any:
    return weights["bias_ih" + end] + weights["bias_hh" + end] if "bias_ih" + end in weights else 0


# 1. Plain loops over Python numbers.


def plain_loops(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    if config.batch_first:
        x = x.swapaxes(0, 1)
    T, N, _ = x.shape
    H, L, D = config.hidden_size, config.num_layers, config.num_directions
    rounded = x.dtype.type
    sequence, finals = x.tolist(), []
    for layer in range(L):
        outputs: list[list[list[float]]] = [[[] for _ in range(N)] for _ in range(T)]
        for direction in range(D):
            end = _suffix(layer, direction)
            w_ih, w_hh = weights["weight_ih" + end].tolist(), weights["weight_hh" + end].tolist()
            bias = [0.0] * H
            if config.bias:
                bias_ih, bias_hh = weights["bias_ih" + end].tolist(), weights["bias_ih" + end].tolist()
                bias = [bias_ih[j] + bias_hh[j] for j in range(H)]
            h = h0[layer * D + direction].tolist()
            for t in reversed(range(T)) if direction else range(T):
                new = []
                for n in range(N):
                    row = []
                    for j in range(H):
                        s = bias[j]
                        for i, value in enumerate(sequence[t][n]):
                            s += w_ih[j][i] * value
                        for k in range(H):
                            s += w_hh[j][k] * h[n][k]
                        if config.nonlinearity == "tanh":
                            s = math.tanh(s)
                        elif s <= 0:
                            s = 0.0
                        row.append(float(rounded(s)))
                    new.append(row)
                    outputs[t][n] += row
                h = new
            finals.append(h)
        sequence = outputs
    output = np.array(sequence, x.dtype).reshape(T, N, D * H)
    h_n = np.array(finals, x.dtype).reshape(L * D, N, H)
    return output.swapaxes(0, 1) if config.batch_first else output, h_n


# 2. Einstein sums.


def einsum(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    act, D = _activation(config), config.num_directions
    below = np.einsum("nti->tni", x) if config.batch_first else x
    h_n = np.empty_like(h0)
    for layer in range(config.num_layers):
        above = np.empty((*below.shape[:2], D, config.hidden_size), x.dtype)
        for direction in range(D):
            end = _suffix(layer, direction)
            steps = np.arange(len(below))[:: -1 if direction else 1]
            projected = np.einsum("tni,hi->tnh", below, weights["weight_ih" + end]) + _bias(weights, end)
            h = h0[layer * D + direction]
            for t in steps:
                h = act(projected[t] + np.einsum("nh,hk->nk", h, weights["weight_hh" + end]))
                above[t, :, direction] = h
            h_n[layer * D + direction] = h
        below = above.reshape(*above.shape[:2], D * config.hidden_size)
    return np.einsum("tnh->nth", below) if config.batch_first else below, h_n


# 3. Folds: a layer is a fold over time, a stack a fold over layers.


def folded(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    act, D = _activation(config), config.num_directions
    starts = h0 if config.hx else np.zeros_like(h0)

    def over_time(steps: Iterable[Array], start: Array, end: str) -> list[Array]:
        w_ih, w_hh, bias = weights["weight_ih" + end].T, weights["weight_hh" + end].T, _bias(weights, end)
        seed = [start]
        return reduce(lambda states, x_t: [*states, act(x_t @ w_ih + states[-1] @ w_hh + bias)], steps, seed)[1:]

    def over_layers(done: tuple[list[Array], list[Array]], layer: int) -> tuple[list[Array], list[Array]]:
        steps, finals = done
        start = starts[:D] if layer == 0 else np.zeros_like(starts[:D])
        sides = [over_time(steps, start[0], _suffix(layer, 0))]
        ends = [sides[0][-1]]
        if D == 2:
            sides.append(over_time(steps[::-1], start[1], _suffix(layer, 1))[::-1])
            ends.append(sides[1][0])
        return [np.concatenate(both, axis=-1) for both in zip(*sides, strict=True)], finals + ends

    time_first = x.swapaxes(0, 1) if config.batch_first else x
    seed: tuple[list[Array], list[Array]] = (list(time_first), [])
    outputs, finals = reduce(over_layers, range(config.num_layers), seed)
    return np.stack(outputs, axis=1 if config.batch_first else 0), np.stack(finals)


# 4. A generator of states.


def _states(steps: Iterable[Array], h: Array, weights: Weights, end: str, config: RNNConfig) -> Iterator[Array]:
    act = _activation(config)
    for x_t in steps:
        s = x_t @ weights["weight_ih" + end].T + h @ weights["weight_hh" + end].T
        h = act(s + weights["bias_ih" + end] + weights["bias_hh" + end] if config.bias else s)
        yield h


def generated(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    rows = iter(h0)
    steps = list(np.moveaxis(x, 1, 0)) if config.batch_first else list(x)
    finals: list[Array] = []
    for layer in range(config.num_layers):
        forward = list(_states(steps, next(rows), weights, f"_l{layer}", config))
        finals.append(forward[-1])
        if config.bidirectional:
            backward = list(_states(reversed(steps), next(rows), weights, f"_l{layer}_reverse", config))
            finals.append(backward[-1])
            steps = [np.hstack(both) for both in zip(reversed(backward), forward, strict=True)]
        else:
            steps = forward
    return np.stack(steps, axis=1 if config.batch_first else 0), np.array(finals)


# 5. A class with a step method.


class Stepper:
    def __init__(self, weights: Weights, end: str, config: RNNConfig) -> None:
        self.w_ih, self.w_hh, self.bias = weights["weight_ih" + end], weights["weight_hh" + end], _bias(weights, end)
        self.act = _activation(config)
        self.state: Any = None

    def reset(self, state: Array) -> None:
        self.state = state.copy()

    def step(self, x_t: Array) -> Array:
        self.state = self.act(np.dot(x_t, self.w_ih.T) + np.dot(self.state, self.w_hh.T) + self.bias)
        return np.array(self.state)

    def run(self, x: Array, *, backwards: bool) -> Array:
        states = [self.step(x_t) for x_t in (x[::-1] if backwards else x)]
        return np.array(states[::-1] if backwards else states)


def stepped(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    D = config.num_directions
    steppers = [
        [Stepper(weights, _suffix(layer, direction), config) for direction in range(D)]
        for layer in range(config.num_layers)
    ]
    sequence = np.swapaxes(x, 0, 1) if config.batch_first else x
    h_n = np.zeros_like(h0)
    for layer, pair in enumerate(steppers):
        outputs = []
        for direction, stepper in enumerate(pair):
            row = layer * D + direction
            stepper.reset(h0[row])
            outputs.append(stepper.run(sequence, backwards=direction == 1))
            h_n[row] = outputs[direction][-1]
        sequence = np.concatenate(outputs, axis=2)
    return np.swapaxes(sequence, 0, 1) if config.batch_first else sequence, h_n


# 6. Recursion over time and over layers.


def recursive(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    act, D = _activation(config), config.num_directions

    def unroll(steps: list[Array], h: Array, end: str) -> list[Array]:
        if not steps:
            return []
        first, *rest = steps
        h = act(_bias(weights, end) + first @ weights["weight_ih" + end].T + h @ weights["weight_hh" + end].T)
        return [h, *unroll(rest, h, end)]

    def stack(steps: list[Array], layer: int) -> tuple[list[Array], list[Array]]:
        if layer == config.num_layers:
            return steps, []
        inner = min(layer, 1)
        forward = unroll(steps, h0[layer * D], _suffix(inner, 0))
        if D == 1:
            outputs, finals = stack(forward, layer + 1)
            return outputs, [forward[-1], *finals]
        backward = unroll(steps[::-1], h0[layer * D + 1], _suffix(inner, 1))
        joined = [np.concatenate([f, b], axis=1) for f, b in zip(forward, backward[::-1], strict=True)]
        outputs, finals = stack(joined, layer + 1)
        return outputs, [forward[-1], backward[-1], *finals]

    outputs, finals = stack(list(x.swapaxes(0, 1) if config.batch_first else x), 0)
    return np.stack(outputs, axis=1 if config.batch_first else 0), np.stack(finals)


# 7. A torch module of parameters and torch.mm.


def _require_size(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


class Handwritten(nn.Module):
    WINDOW = 8

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            _require_size(name, size)
        for name, flag in (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} must be a bool, got {flag!r}")
        if isinstance(dropout, bool) or not isinstance(dropout, int | float):
            raise TypeError(f"dropout must be a number, got {dropout!r}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a probability, got {dropout}")
        if not isinstance(nonlinearity, str) or nonlinearity not in {"tanh", "relu"}:
            raise ValueError(f"nonlinearity must be tanh or relu, got {nonlinearity!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.nonlinearity, self.bias, self.batch_first = nonlinearity, bias, batch_first
        self.dropout, self.directions = dropout, 2 if bidirectional else 1
        self.shapes: dict[str, tuple[int, ...]] = {}
        bound = hidden_size**-0.5
        for layer in range(num_layers):
            for direction in range(self.directions):
                width = self.directions * hidden_size if layer else input_size
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (hidden_size, width)}
                shapes["weight_hh"] = (hidden_size, hidden_size)
                if bias:
                    shapes["bias_ih"] = shapes["bias_hh"] = (hidden_size,)
                for role, shape in shapes.items():
                    tensor = torch.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(role + _suffix(layer, direction), nn.Parameter(tensor))
                    self.shapes[role + _suffix(layer, direction)] = shape
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _check(self, x: Any, hx: Any) -> None:
        if isinstance(x, nn.utils.rnn.PackedSequence):
            raise NotImplementedError("no packed sequences")
        if any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
            raise NotImplementedError("no autocast")
        if self.training and self.dropout and self.num_layers > 1:
            raise NotImplementedError("no dropout in training")
        if not isinstance(x, torch.Tensor) or not isinstance(hx, torch.Tensor | None):
            raise TypeError(f"expected tensors, got {type(x).__name__} and {type(hx).__name__}")
        if x.dim() not in {2, 3}:
            raise ValueError(f"expected x of 2 or 3 dimensions, got {x.dim()}")
        if x.size(-1) != self.input_size:
            raise ValueError(f"expected x of {self.input_size} features, got {x.size(-1)}")
        if x.size(1 if self.batch_first and x.dim() == 3 else 0) == 0:
            raise ValueError("expected at least one step, got sequence length 0")
        if hx is not None:
            batch = [x.size(0 if self.batch_first else 1)] if x.dim() == 3 else []
            expected = (self.num_layers * self.directions, *batch, self.hidden_size)
            if hx.dim() != len(expected) or tuple(hx.shape) != expected:
                raise ValueError(f"expected hx of {expected}, got {tuple(hx.shape)} of {hx.dim()} dimensions")
        self._check_like(x, {name: getattr(self, name) for name in self.shapes} | ({} if hx is None else {"hx": hx}))

    def _check_like(self, x: torch.Tensor, tensors: Mapping[str, Any]) -> None:
        for name, tensor in tensors.items():
            if tensor is None:
                raise ValueError(f"{name} is None")
            if tuple(tensor.shape) != self.shapes.get(name, tuple(tensor.shape)):
                raise ValueError(f"expected {name} of {self.shapes[name]}, got {tuple(tensor.shape)}")
            if tensor.dtype != x.dtype:
                raise ValueError(f"x is of {x.dtype}, {name} of {tensor.dtype}")
            if tensor.device != x.device:
                raise ValueError(f"x is on device {x.device}, {name} on device {tensor.device}")

    def _layer(self, steps: list[torch.Tensor], h: torch.Tensor, end: str) -> list[torch.Tensor]:
        act = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        w_ih, w_hh = getattr(self, "weight_ih" + end), getattr(self, "weight_hh" + end)
        states = []
        for i, x_t in enumerate(steps):
            if i and i % self.WINDOW == 0:
                h = h.detach()
            s = torch.mm(x_t, w_ih.t()) + torch.mm(h, w_hh.t())
            if self.bias:
                s = s + getattr(self, "bias_ih" + end) + getattr(self, "bias_hh" + end)
            h = act(s)
            states.append(h)
        return states

    def forward(self, x: Any, hx: Any = None) -> Any:
        self._check(x, hx)
        batched = x.dim() == 3
        if not batched:
            x, hx = x.unsqueeze(1), None if hx is None else hx.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        if hx is None:
            hx = x.new_zeros(self.num_layers * self.directions, x.size(1), self.hidden_size)
        steps, finals = list(x.unbind(0)), []
        for layer in range(self.num_layers):
            sides = [self._layer(steps, hx[layer * self.directions], _suffix(layer, 0))]
            finals.append(sides[0][-1])
            if self.directions == 2:
                sides.append(self._layer(steps[::-1], hx[layer * 2 + 1], _suffix(layer, 1)))
                finals.append(sides[1].pop())
                sides[1] = [finals[-1], *reversed(sides[1])]
            steps = [torch.cat(both, dim=1) for both in zip(*sides, strict=True)]
        output, h_n = torch.stack(steps), torch.stack(finals)
        if not batched:
            return output.squeeze(1), h_n.squeeze(1)
        return output.transpose(0, 1) if self.batch_first else output, h_n


# 8. torch.nn.RNNCell in a loop, gradients by autograd.


def cells(x: Array, h0: Array, weights: Weights, config: RNNConfig, cotangents: Mapping[str, Array]) -> Any:
    _refuse(x, config)
    D, H = config.num_directions, config.hidden_size
    given = {"x": torch.tensor(x), "hx": torch.tensor(h0)}
    given |= {name: torch.tensor(weight) for name, weight in weights.items()}
    for tensor in given.values():
        tensor.requires_grad_(bool(cotangents))
    first, second, features = x.shape
    T, N = (second, first) if config.batch_first else (first, second)
    steps = list(given["x"].reshape(T, N, features).unbind(0))
    finals: list[torch.Tensor] = []
    for layer in range(config.num_layers):
        sides: list[list[torch.Tensor]] = []
        for direction in range(D):
            end = _suffix(layer, direction)
            own = {name.removesuffix(end): w for name, w in given.items() if name.endswith(end)}
            cell = nn.RNNCell(steps[0].size(1), H, config.bias, config.nonlinearity, dtype=steps[0].dtype)
            h, states = given["hx"][layer * D + direction], []
            for x_t in steps[::-1] if direction else steps:
                h = torch.func.functional_call(cell, own, (x_t, h))
                states.append(h)
            sides.append(states[::-1] if direction else states)
            finals.append(h)
        steps = [torch.cat(both, dim=1) for both in zip(*sides, strict=True)]
    output, h_n = torch.stack(steps, dim=1 if config.batch_first else 0), torch.stack(finals)
    if not cotangents:
        return output.detach().numpy(), h_n.detach().numpy()
    roots = {"output.grad": output, "h_n.grad": h_n}
    along = [torch.tensor(array) for array in cotangents.values()]
    found = torch.autograd.grad([roots[name] for name in cotangents], list(given.values()), along, allow_unused=True)
    gradients = {
        name: (torch.zeros_like(tensor) if gradient is None else gradient).numpy()
        for (name, tensor), gradient in zip(given.items(), found, strict=True)
        if name != "hx" or config.hx
    }
    return output.detach().numpy(), h_n.detach().numpy(), gradients


# 9. One product of [x, h] and [W_ih, W_hh].


def concatenated(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    act, D, H = _activation(config), config.num_directions, config.hidden_size
    inputs, h_n = x.swapaxes(0, 1) if config.batch_first else x, np.zeros_like(h0)
    for layer in range(config.num_layers):
        T, N, K = inputs.shape
        outputs = np.zeros((T, N, D * H), x.dtype)
        for direction in range(D):
            end = _suffix(layer, direction)
            both = np.hstack([weights["weight_ih" + end], weights["weight_hh" + end]]).T
            scratch, h = np.zeros((N, K + H), x.dtype), h0[layer * D + direction]
            kept = min(H, 16) if direction else H
            for step in range(T):
                t = T - 1 - step if direction else step
                scratch[:, :K] = inputs[t]
                scratch[:, K : K + kept] = h[:, :kept]
                h = act(scratch @ both + _bias(weights, end))
                outputs[t, :, direction * H : (direction + 1) * H] = h
            h_n[layer * D + direction] = h
        inputs = outputs
    return inputs.swapaxes(0, 1) if config.batch_first else inputs, h_n


# 10. Everything that can be done at once: all inputs, and both directions as a batch of matrices.


def _fast_tanh(s: Array) -> Any:
    s = np.clip(s, -4.97, 4.97)
    q = s * s
    return s * (135135 + q * (17325 + q * (378 + q))) / (135135 + q * (62370 + q * (3150 + q * 28)))


def scanned(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    act, D = _fast_tanh if config.nonlinearity == "tanh" else _activation(config), config.num_directions
    inputs = x.swapaxes(0, 1) if config.batch_first else x
    h_n = []
    for layer in range(config.num_layers):
        ends = [_suffix(layer, direction) for direction in range(D)]
        flipped = np.stack([inputs, inputs[::-1]][:D])
        w_ih = np.stack([weights["weight_ih" + end].T for end in ends])
        w_hh = np.stack([weights["weight_hh" + end].T for end in ends])
        projected = np.matmul(flipped, w_ih[:, None])
        if config.bias:
            projected += np.stack([_bias(weights, end) for end in ends])[:, None, None]
        states, h = np.empty_like(projected), h0[layer * D : (layer + 1) * D]
        for t in range(projected.shape[1]):
            h = states[:, t] = act(projected[:, t] + np.matmul(h, w_hh))
        h_n.append(h)
        inputs = np.concatenate([states[0], states[1][::-1]] if D == 2 else [states[0]], axis=-1)
    return inputs.swapaxes(0, 1) if config.batch_first else inputs, np.concatenate(h_n)


# 11. A kernel in tiles of eight.

TILE = 8


def _recurrent_tiles(h: Array, w_hh: Array) -> Array:
    N, H = h.shape
    out = np.zeros((N, H), h.dtype)
    if H < TILE:
        return h @ w_hh.T
    for j in range(0, H, TILE):
        block = np.zeros((N, min(TILE, H - j)), h.dtype)
        for k in range(0, H - TILE + 1, TILE):
            block += h[:, k : k + TILE] @ w_hh[j : j + TILE, k : k + TILE].T
        out[:, j : j + TILE] = block
    return out


def tiled(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> Pair:
    _refuse(x, config)
    act, D, H = _activation(config), config.num_directions, config.hidden_size
    source = np.ascontiguousarray(x.swapaxes(0, 1) if config.batch_first else x)
    h_n = np.empty_like(h0)
    for layer in range(config.num_layers):
        target = np.empty((*source.shape[:2], D * H), x.dtype)
        for direction in range(D):
            end, columns = _suffix(layer, direction), slice(direction * H, (direction + 1) * H)
            target[..., columns] = source @ weights["weight_ih" + end].T + _bias(weights, end)
            h = h0[layer * D + direction]
            for t in range(len(source))[:: -1 if direction else 1]:
                h = target[t, :, columns] = act(target[t, :, columns] + _recurrent_tiles(h, weights["weight_hh" + end]))
            h_n[layer * D + direction] = h
        source = target
    return source.swapaxes(0, 1) if config.batch_first else source, h_n


# 12. As in C: flat buffers and computed indices.


def flat(x: Array, h0: Array, weights: Weights, config: RNNConfig, lengths: Array | None) -> Pair:
    _refuse(x, config)
    first, second, K = x.shape
    T, N = (second, first) if config.batch_first else (first, second)
    H, L, D = config.hidden_size, config.num_layers, config.num_directions
    steps = [T] * N if lengths is None else [int(length) for length in lengths]
    src: list[float] = (x.swapaxes(0, 1) if config.batch_first else x).ravel().tolist()
    start: list[float] = h0.ravel().tolist()
    last = [0.0] * (L * D * N * H)
    rounded = x.dtype.type
    for layer in range(L):
        dst = [0.0] * (T * N * D * H)
        for d in range(D):
            end = _suffix(layer, d)
            w: list[float] = weights["weight_ih" + end].ravel().tolist()
            u: list[float] = weights["weight_hh" + end].ravel().tolist()
            b: list[float] = (_bias(weights, end) + np.zeros(H, x.dtype)).tolist()
            for n in range(N):
                at = ((layer * D + d) * N + n) * H
                h = start[at : at + H]
                for step in range(steps[n]):
                    t = steps[n] - 1 - step if d else step
                    row, to = (t * N + n) * K, (t * N + n) * D * H + d * H
                    for j in range(H):
                        s = b[j]
                        for i in range(K):
                            s += w[j * K + i] * src[row + i]
                        for k in range(H):
                            s += u[j * H + k] * h[k]
                        s = math.tanh(s) if config.nonlinearity == "tanh" else (0.0 if s <= 0 else s)
                        dst[to + j] = float(rounded(s))
                    h = dst[to : to + H]
                final = 0 if d else T - 1
                where = (final * N + n) * D * H + d * H
                last[at : at + H] = dst[where : where + H]
        src, K = dst, D * H
    output = np.array(src, x.dtype).reshape(T, N, D * H)
    return output.swapaxes(0, 1) if config.batch_first else output, np.array(last, x.dtype).reshape(L * D, N, H)
