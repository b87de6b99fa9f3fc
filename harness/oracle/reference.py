"""Reference: the Elman RNN in NumPy float64, one step as its equation with three short loops around it.

The equations are those of the ``torch.nn.RNN`` documentation page (and of J. L. Elman, "Finding Structure in Time",
Cognitive Science 14, 1990), with its two biases a layer, which add up and are easily taken for one.

Every choice that an implementation can get wrong is a small method: a fault is a subclass that overrides one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.space.case import Array, Case
from harness.space.config import RNNConfig, weight_names

Floats = NDArray[np.float64]


class StepWeights(NamedTuple):
    """The float64 parameters of one layer and direction: W_ih (H, I or D*H), W_hh (H, H), b_ih and b_hh (H)."""

    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats


class Reference:
    """h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), over time, directions and layers; phi is tanh or relu."""

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
            w += [np.zeros(case.config.hidden_size)] * 2
        return StepWeights(*w)

    def initial_state(self, case: Case, layer: int, direction: int) -> Floats:
        """h_0 (N, H) of one layer and direction: its row of hx, or zeros."""
        if case.hx is None:
            return np.zeros((case.config.N, case.config.hidden_size))
        return to_float64(case.hx[layer * case.config.num_directions + direction])

    def time_order(self, config: RNNConfig, direction: int) -> Sequence[int]:
        """The order in which a direction visits the time steps."""
        return range(config.T - 1, -1, -1) if direction else range(config.T)

    def final_step(self, config: RNNConfig, direction: int) -> int:
        """The time step whose state is h_n: the last one visited."""
        return self.time_order(config, direction)[-1]

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

    def run(self, case: Case) -> dict[str, Floats]:
        """``output``, ``h_n`` and ``readout``, in the shapes of ``config.outputs``, in float64."""
        config = case.config
        below = self.time_major(case.x, config)
        final: dict[tuple[int, int], Floats] = {}
        for layer in range(config.num_layers):
            output = np.empty((config.T, config.N, config.num_directions * config.hidden_size))
            for direction in range(config.num_directions):
                states = output[..., self.features(config, direction)]
                self._run_direction(case, layer, direction, below, states)
                final[layer, direction] = states[self.final_step(config, direction)]
            below = output
        arrays = {"output": below, "h_n": np.stack([final[key] for key in self.h_n_order(config)])}
        if config.output_size is not None:
            weight, bias = readout_weights(case)
            arrays["readout"] = self.readout(below, weight, bias)
        return {name: self.laid_out(name, array, config) for name, array in arrays.items()}

    def laid_out(self, name: str, array: Floats, config: RNNConfig) -> Floats:
        """An array computed with time first, in the layout that the config asks of it."""
        return array.swapaxes(0, 1) if config.batch_first and name != "h_n" else array

    def _run_direction(self, case: Case, layer: int, direction: int, x: Floats, states: Floats) -> None:
        w, kind = self.step_weights(case, layer, direction), self.nonlinearity(case.config)
        h = self.initial_state(case, layer, direction)
        for t in self.time_order(case.config, direction):
            h = self.activation(self.preactivation(x[t], h, w), kind)
            states[t] = h


def readout_weights(case: Case) -> tuple[Floats, Floats]:
    """The readout's weight (O, D*H) and bias (O)."""
    return to_float64(case.weights["readout.weight"]), to_float64(case.weights["readout.bias"])


def to_float64(array: Array) -> Floats:
    """An exact cast: every number of the narrower dtypes is a float64."""
    return array.astype(np.float64)
