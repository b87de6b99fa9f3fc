"""Reference: the Elman RNN in NumPy float64, one step as its equation with three short loops around it, and back.

The equations are those of the ``torch.nn.RNN`` documentation page (and of J. L. Elman, "Finding Structure in Time",
Cognitive Science 14, 1990), with its two biases a layer, which add up and are easily taken for one. The gradients are
backpropagation through time (P. J. Werbos, Proceedings of the IEEE 78(10), 1990), written out from the same equations.

Of complex numbers, everything that is called float64 here is complex128. The gradient of a real loss L by z = a + ib is
dL/da + i dL/db, as torch has it, and the loss is the real part of the sum of conj(cotangent) times what it belongs to.
A step is holomorphic, so that a gradient goes back through z -> w z as a product with conj(w).

Every choice that an implementation can get wrong is a small method: a fault is a subclass that overrides one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.space.case import Array, Case, padding
from harness.space.config import RNNConfig, weight_names

Floats = NDArray[np.float64]
"""Or complex128, of a complex dtype: what is true of both is written once."""
Visited = NDArray[np.bool_]
Steps = int | NDArray[np.intp]
"""A time step; or, of packed sequences, one each, (N)."""


class StepWeights(NamedTuple):
    """The float64 parameters of one layer and direction: W_ih (H, I or D*H), W_hh (H, H), b_ih and b_hh (H)."""

    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats


class Reference:
    """h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), over time, directions and layers; phi is tanh or relu.

    Back: with da_t = dloss/ds_t, dh_t = g_t + W_hh^T da_{t+1} and da_t = dh_t phi'(s_t), where g_t comes from the layer
    above or from the loss; every other gradient is a sum of products of some da_t with what stood beside it.
    """

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        """s_t, for rows of x (.., I) and of the previous state h (.., H)."""
        return x @ w.ih.T + w.b_ih + h @ w.hh.T + w.b_hh

    def nonlinearity(self, config: RNNConfig) -> str:
        """Which phi is applied; ``tolerance`` asks, too, for what a rounding error becomes depends on it."""
        return config.nonlinearity

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        """h_t = tanh(s_t) or max(s_t, 0)."""
        return np.tanh(s) if nonlinearity == "tanh" else np.maximum(s, 0)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        """The parameters of one layer and direction; a bias that the config leaves out is zero."""
        w = [to_float64(case.weights[name]) for name in weight_names(layer, direction, bias=case.config.bias)]
        if not case.config.bias:
            w += [zeros(case.config, case.config.hidden_size)] * 2
        return StepWeights(*w)

    def initial_state(self, case: Case, layer: int, direction: int) -> Floats:
        """h_0 (N, H) of one layer and direction: its row of hx, or zeros."""
        if case.hx is None:
            return zeros(case.config, case.config.N, case.config.hidden_size)
        return to_float64(case.hx[layer * case.config.num_directions + direction])

    def time_order(self, config: RNNConfig, direction: int) -> Sequence[int]:
        """The order in which a direction visits the time steps."""
        return range(config.T - 1, -1, -1) if direction else range(config.T)

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        """The time step whose state is h_n: the last one visited. Of packed sequences, one each, (N)."""
        if config.lengths is None:
            return self.time_order(config, direction)[-1]
        steps = np.array(self.time_order(config, direction))[:, None]
        behind = np.where(steps < np.array(config.lengths), np.arange(config.T)[:, None], -1)
        return np.asarray(steps[behind.argmax(0), 0])

    def first_step(self, config: RNNConfig, direction: int) -> Steps:
        """The time step that reads the initial state: the first one visited. Of packed sequences, one each, (N)."""
        if config.lengths is None:
            return self.time_order(config, direction)[0]
        steps = np.array(self.time_order(config, direction))[:, None]
        return np.asarray(steps[(steps < np.array(config.lengths)).argmax(0), 0])

    def visited(self, config: RNNConfig) -> Visited | None:
        """Which steps each sequence has, (T, N, 1); ``None`` if all have all. What is padding leaves no trace."""
        return None if config.lengths is None else ~time_major_padding(config)[..., None]

    def between(self, case: Case, layer: int, output: Floats) -> Floats:
        """What the next layer reads of a layer's output (T, N, D*H): what dropout keeps of it, over 1 - p.

        Backwards, likewise, what a layer's output is given of what the next one's input was.
        """
        return output if layer not in case.masks else self.dropped(output, case.masks[layer] * keep_scale(case.config))

    def dropped(self, array: Floats, factors: Floats) -> Floats:
        """What dropout leaves: what it keeps times 1 / (1 - p), and zeros, whatever stood there."""
        return np.where(factors == 0, 0.0, array * factors)

    def features(self, config: RNNConfig, direction: int) -> slice:
        """Where a direction's units stand among the D*H features of an output: forward first."""
        H = config.hidden_size
        return slice(direction * H, (direction + 1) * H)

    def h_n_order(self, config: RNNConfig) -> list[tuple[int, int]]:
        """The (layer, direction) of each row of h_n."""
        return [(layer, d) for layer in range(config.num_layers) for d in range(config.num_directions)]

    def readout(self, output: Floats, weight: Floats, bias: Floats) -> Floats:
        """y_t = W h_t + b, on every time step."""
        return output @ weight.T + bias

    def time_major(self, array: Array, config: RNNConfig) -> Floats:
        """An x or output as float64 with time first, whatever the layout. Its own inverse, but for the cast."""
        return to_float64(array.swapaxes(0, 1) if config.batch_first else array)

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        """phi'(s_t) by the state h_t = phi(s_t): 1 - h_t**2 for tanh; 1 where h_t > 0, else 0, for relu."""
        if nonlinearity == "tanh":
            return 1 - h * h
        return (h > 0).astype(np.float64) if nonlinearity == "relu" else np.ones_like(h)

    def reaches(self, config: RNNConfig, step: int) -> bool:
        """Whether the way back gets to a direction's step at all (0: its first)."""
        return True

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        """Whether the gradient of the state that a direction's step reads (0: its first) reaches whoever wrote it."""
        return True

    def weights_back(self, w: StepWeights) -> StepWeights:
        """The parameters that da_t is multiplied by on its way back: W_ih^T da_t to x_t, W_hh^T da_t to h_{t-1}."""
        return w

    def conjugate(self, array: Floats) -> Floats:
        """What stands beside a gradient in a product: the conjugate, which of real numbers is the array itself."""
        return array.conj()

    def entering(self, da: Floats, parameter: int) -> Floats:
        """What of da (T, N, H) enters the gradient of a parameter, by its place in ``StepWeights``: all of it."""
        return da

    def output_gradient(self, case: Case) -> Floats:
        """What the loss gives to the top layer's output (T, N, D*H), through the readout where there is one."""
        config = case.config
        if "output.grad" in case.cotangents:
            return self.time_major(case.cotangents["output.grad"], config)
        if "readout.grad" in case.cotangents:
            return self.time_major(case.cotangents["readout.grad"], config) @ self.conjugate(readout_weights(case)[0])
        return zeros(config, config.T, config.N, config.num_directions * config.hidden_size)

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        """What the loss gives to every layer's and direction's row of h_n, (N, H)."""
        order = self.h_n_order(case.config)
        if "h_n.grad" not in case.cotangents:
            return {key: zeros(case.config, case.config.N, case.config.hidden_size) for key in order}
        return dict(zip(order, to_float64(case.cotangents["h_n.grad"]), strict=True))

    def run(self, case: Case) -> dict[str, Floats]:
        """Every array that ``config.returned`` names, in its shapes, in float64; gradients where there is a loss."""
        config = case.config
        states = self.states(case)
        rows = [
            at_steps(states[layer], self.final_step(config, d))[:, self.features(config, d)]
            for layer, d in self.h_n_order(config)
        ]
        arrays = {"output": self.layout(states[-1], config), "h_n": np.stack(rows)}
        if config.output_size is not None:
            arrays["readout"] = self.layout(self.readout(states[-1], *readout_weights(case)), config)
        return arrays if config.loss is None else arrays | self.gradients(case, states)

    def states(self, case: Case) -> list[Floats]:
        """The output of every layer, (T, N, D*H)."""
        config = case.config
        below, states = self.time_major(case.x, config), []
        for layer in range(config.num_layers):
            output = zeros(config, config.T, config.N, config.num_directions * config.hidden_size)
            for d in range(config.num_directions):
                self._run_direction(case, layer, d, below, output[..., self.features(config, d)])
            states.append(output)
            below = self.between(case, layer, output)
        return states

    def gradients(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        """The gradient of the case's loss by every input and parameter, at the given output (T, N, D*H) of each layer.

        The loss is the sum of the cotangents times what they belong to.
        """
        config = case.config
        g, g_final = self.output_gradient(case), self.final_gradients(case)
        found: dict[str, Floats] = {}
        g_hx: dict[tuple[int, int], Floats] = {}
        for layer in reversed(range(config.num_layers)):
            x = self.between(case, layer - 1, states[layer - 1]) if layer else self.time_major(case.x, config)
            g_below = np.zeros_like(x)
            for d in range(config.num_directions):
                part, back = self.features(config, d), self.weights_back(self.step_weights(case, layer, d))
                own = states[layer][..., part]
                da = self._back_through(case, (layer, d), g[..., part], g_final[layer, d], own)
                beside = (x, self.previous_states(case, layer, d, own), None, None)
                for i, name in enumerate(weight_names(layer, d, bias=config.bias)):
                    rows, factor = self.entering(da, i), beside[i]
                    if factor is None:
                        found[f"{name}.grad"] = rows.sum((0, 1))
                    else:
                        found[f"{name}.grad"] = np.einsum("tni,tnk->ik", rows, self.conjugate(factor))
                g_hx[layer, d] = at_steps(da, self.first_step(config, d)) @ self.conjugate(back.hh)
                g_below += da @ self.conjugate(back.ih)
            g = self.between(case, layer - 1, g_below)
        found["x.grad"] = self.layout(g, config)
        found["hx.grad"] = np.stack([g_hx[key] for key in sorted(g_hx)])
        if config.output_size is not None:
            found |= readout_gradients(self, case, states[-1])
        return {name: found[name] for name in config.gradients}

    def tangents(self, case: Case, tangents: Mapping[str, Array]) -> dict[str, Floats]:
        """The directional derivatives of output and h_n along ``tangents`` of every input and parameter.

        ds_t = W_ih dx_t + dW_ih x_t + db_ih + W_hh dh_{t-1} + dW_hh h_{t-1} + db_hh, and dh_t = phi'(s_t) ds_t.
        """
        config = case.config.prefix(case.config.num_layers)
        along, kind = Case.from_arrays(config, tangents), self.nonlinearity(config)
        below, d_below = self.time_major(case.x, config), self.time_major(along.x, config)
        rows = []
        for layer in range(config.num_layers):
            output = zeros(config, config.T, config.N, config.num_directions * config.hidden_size)
            d_output = np.empty_like(output)
            for d in range(config.num_directions):
                part = self.features(config, d)
                w, dw = self.step_weights(case, layer, d), self.step_weights(along, layer, d)
                h, dh = self.initial_state(case, layer, d), self.initial_state(along, layer, d)
                for t in self.time_order(config, d):
                    ds = d_below[t] @ w.ih.T + dh @ w.hh.T + self.preactivation(below[t], h, dw)
                    h = self.activation(self.preactivation(below[t], h, w), kind)
                    dh = self.slope(h, kind) * ds
                    output[t][:, part], d_output[t][:, part] = h, dh
                rows.append(d_output[self.final_step(config, d)][:, part])
            below, d_below = output, d_output
        return {"output.tangent": self.layout(d_below, config), "h_n.tangent": np.stack(rows)}

    def previous_states(self, case: Case, layer: int, direction: int, own: Floats) -> Floats:
        """What each step read, of a direction's states (T, N, H): the state before, or the initial one."""
        order = np.asarray(self.time_order(case.config, direction))
        previous = np.zeros_like(own)  # whose first step is nobody's where a packed sequence is shorter
        previous[order[1:]] = own[order[:-1]]
        write_steps(previous, self.first_step(case.config, direction), self.initial_state(case, layer, direction))
        return previous

    def layout(self, array: Floats, config: RNNConfig) -> Floats:
        """An array computed with time first, in the layout that the config asks of x and output."""
        return array.swapaxes(0, 1) if config.batch_first else array

    def _run_direction(self, case: Case, layer: int, direction: int, x: Floats, states: Floats) -> None:
        w, kind = self.step_weights(case, layer, direction), self.nonlinearity(case.config)
        h, visited = self.initial_state(case, layer, direction), self.visited(case.config)
        for t in self.time_order(case.config, direction):
            new = self.activation(self.preactivation(x[t], h, w), kind)
            h = new if visited is None else np.where(visited[t], new, h)
            states[t] = h if visited is None else np.where(visited[t], new, 0.0)

    def _back_through(self, case: Case, at: tuple[int, int], g: Floats, g_final: Floats, own: Floats) -> Floats:
        """Da (T, N, H) of one layer and direction, from what reaches its states and its final one."""
        config, back = case.config, self.weights_back(self.step_weights(case, *at))
        slope = self.conjugate(self.slope(own, self.nonlinearity(config)))
        hh = self.conjugate(back.hh)
        da, carried = np.empty_like(own), np.zeros_like(own[0])
        visited, given = self.visited(config), np.zeros_like(own)
        write_steps(given, self.final_step(config, at[1]), g_final)
        for step, t in reversed(list(enumerate(self.time_order(config, at[1])))):
            dh = g[t] + carried + given[t]
            da[t] = dh * slope[t] if self.reaches(config, step) else 0.0
            if visited is not None:
                da[t] = np.where(visited[t], da[t], 0.0)
            carried = da[t] @ hh if self.flows_back(config, step) else np.zeros_like(carried)
        return da


def readout_gradients(reference: Reference, case: Case, output: Floats) -> dict[str, Floats]:
    """The gradients of the readout's weight (O, D*H) and bias (O); zeros where the loss does not read it."""
    config, weight = case.config, readout_weights(case)[0]
    if "readout.grad" not in case.cotangents:
        return {"readout.weight.grad": np.zeros_like(weight), "readout.bias.grad": zeros(config, weight.shape[0])}
    g = reference.time_major(case.cotangents["readout.grad"], config).reshape(-1, weight.shape[0])
    return {
        "readout.weight.grad": g.T @ reference.conjugate(output).reshape(-1, weight.shape[1]),
        "readout.bias.grad": g.sum(0),
    }


def readout_weights(case: Case) -> tuple[Floats, Floats]:
    """The readout's weight (O, D*H) and bias (O)."""
    return to_float64(case.weights["readout.weight"]), to_float64(case.weights["readout.bias"])


def keep_scale(config: RNNConfig) -> float:
    """What dropout multiplies by what it keeps: 1 / (1 - p), or anything where it keeps nothing."""
    return 1 / (1 - config.dropout) if config.dropout < 1 else 0.0


def at_steps(array: Floats, steps: Steps) -> Floats:
    """One time step of (T, N, ..): the same for every sequence, or one each."""
    return array[steps] if isinstance(steps, int) else array[steps, np.arange(array.shape[1])]


def write_steps(array: NDArray[Any], steps: Steps, values: NDArray[Any]) -> None:
    """Write (N, ..) into one time step of (T, N, ..): the same for every sequence, or one each."""
    if isinstance(steps, int):
        array[steps] = values
    else:
        array[steps, np.arange(array.shape[1])] = values


def time_major_padding(config: RNNConfig) -> Visited:
    """Which steps of which sequences are padding, (T, N)."""
    return padding(config).T if config.batch_first else padding(config)


def zeros(config: RNNConfig, *shape: int) -> Floats:
    """Zeros of what a config's numbers are cast to."""
    return np.zeros(shape, np.complex128 if config.is_complex else np.float64)


def to_float64(array: Array) -> Floats:
    """An exact cast: every number of the narrower dtypes is a float64; of complex ones, each part is."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
