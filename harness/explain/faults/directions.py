"""directions: forward and reverse are exchanged, shared, joined or started in the wrong way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault
from harness.explain.faults.weights import half_of
from harness.oracle.reference import Floats, StepWeights, Visited
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

BOTH = ONE.replace(bidirectional=True)


class ReverseBeforeForward(Fault):
    """concatenates reverse before forward in the output's features."""

    family = "directions"
    code = ("output = np.concatenate([reverse, forward], -1)", lines.JOIN)
    smallest = (BOTH,)

    def features(self, config: RNNConfig, direction: int) -> slice:
        return super().features(config, config.num_directions - 1 - direction)


class ExchangesInnerHalves(Fault):
    """reads, above the first layer, the output below with its reverse half before its forward half."""

    family = "directions"
    code = ("x = np.roll(output, H, -1)", lines.BELOW)
    smallest = (BOTH.replace(num_layers=2),)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        read = super().layer_input(case, layer, direction, below)
        return np.roll(read, case.config.hidden_size, axis=-1) if layer and case.config.bidirectional else read


class SeparatesDirections(Fault):
    """reads, above the first layer, only the direction's own half of the output below: two stacks side by side."""

    role, family = "weight_ih", "directions"
    code = ("x_t = x[t] * (np.arange(2 * H) // H == d)  # if layer > 0", lines.X_T)
    smallest = (BOTH.replace(num_layers=2),)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=half_of(w.ih, direction, case)) if layer else w


class ReturnsForwardTwice(Fault):
    """returns the forward half of each output twice, in the place of the reverse half too."""

    family, stepwise = "directions", False
    code = ("output = np.concatenate([forward, forward], -1)", lines.JOIN)
    smallest = (BOTH,)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = super().written(case, layer, states).copy()
        for d in range(case.config.num_directions):
            output[..., self.features(case.config, d)] = output[..., self.features(case.config, 0)]
        return output


class ForgetsReverse(Fault):
    """does not run the reverse direction: its states stay zero."""

    family, stepwise = "directions", False
    code = ("directions = range(1)", lines.DIRECTIONS)
    smallest = (BOTH,)

    def run_direction(
        self, case: Case, at: tuple[int, int], x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        if at[1]:
            states[...] = 0.0
        else:
            super().run_direction(case, at, x, start, states, visited=visited)

    def reaches(self, config: RNNConfig, direction: int, step: int) -> bool:
        return not direction and super().reaches(config, direction, step)


class ReverseUsesForwardWeights(Fault):
    """uses the forward direction's weights in the reverse direction too."""

    family = "directions"
    code = ("W_ih, W_hh, b_ih, b_hh = weights[layer, 0]", lines.WEIGHTS)
    smallest = (BOTH,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        return super().step_weights(case, layer, 0)


class ReverseUsesForwardWeightHH(Fault):
    """uses the forward direction's weight_hh in the reverse direction too."""

    role, family = "weight_hh", "directions"
    code = ("W_hh = weight_hh[layer, 0]", lines.WEIGHT_HH)
    smallest = (BOTH.replace(T=2), BOTH.replace(hx=True))

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=super().step_weights(case, layer, 0).hh)


class ForwardUsesReverseWeights(Fault):
    """uses the reverse direction's weights in the forward direction too."""

    family = "directions"
    code = ("W_ih, W_hh, b_ih, b_hh = weights[layer, D - 1]", lines.WEIGHTS)
    smallest = (BOTH,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        return super().step_weights(case, layer, case.config.num_directions - 1)


class ReverseStartsFromForward(Fault):
    """starts the reverse direction from the final state of the forward one, not from hx."""

    family = "directions"
    code = ("h = h_n[layer * D]  # if d == 1", lines.START)
    smallest = (BOTH,)

    def starts_from(self, config: RNNConfig, layer: int, direction: int) -> tuple[int, int] | None:
        return (layer, 0) if direction else super().starts_from(config, layer, direction)


class ReverseUsesForwardHx(Fault):
    """starts the reverse direction from the forward one's row of hx."""

    family = "directions"
    code = ("h = hx[layer * D]", lines.START)
    smallest = (BOTH.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        return super().hx_row(config, layer, 0, hx)


class ReversesBatch(Fault):
    """reverses the batch in place of time in the reverse direction: its hx and h_n are those of other sequences."""

    family, stepwise = "directions", False
    code = ("def turn(a): return a[:, ::-1]", lines.TURN)
    smallest = (BOTH.replace(T=2), BOTH.replace(N=2))

    def time_order(self, config: RNNConfig, direction: int) -> Sequence[int]:
        return super().time_order(config, 0)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        row = super().hx_row(config, layer, direction, hx)
        return row[::-1] if direction else row

    def run(self, case: Case) -> dict[str, Floats]:
        arrays = super().run(case)
        rows = [row[::-1] if d else row for (_, d), row in zip(self.h_n_order(case.config), arrays["h_n"], strict=True)]
        return arrays | {"h_n": np.stack(rows)}

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        return {at: g[::-1] if at[1] else g for at, g in super().final_gradients(case).items()}


class WritesReverseHnFirst(Fault):
    """writes the reverse direction's state before the forward one's in each layer's rows of h_n."""

    family = "directions"
    code = ("h_n[layer * D + D - 1 - d] = h", lines.FINAL)
    smallest = (BOTH,)

    def h_n_order(self, config: RNNConfig) -> list[tuple[int, int]]:
        return [(layer, config.num_directions - 1 - d) for layer, d in super().h_n_order(config)]
