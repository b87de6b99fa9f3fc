"""over_time: steps are visited in another order, left out, or read from one another at the wrong distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault, several
from harness.oracle.reference import Floats, Steps, Visited, at_steps, write_steps
from harness.space.case import Case
from harness.space.config import RNNConfig

BOTH = ONE.replace(bidirectional=True)


class ReverseReadsForwards(Fault):
    """reads time forwards in the reverse direction too."""

    family = "time"
    code = ("order = range(T)", lines.ORDER)
    smallest = (BOTH.replace(T=2),)

    def time_order(self, config: RNNConfig, direction: int) -> Sequence[int]:
        return super().time_order(config, 0)


class ForwardReadsBackwards(Fault):
    """reads time backwards in the forward direction too."""

    family = "time"
    code = ("order = range(T)[::-1]", lines.ORDER)
    smallest = (ONE.replace(T=2),)

    def time_order(self, config: RNNConfig, direction: int) -> Sequence[int]:
        return super().time_order(config, 1)


class LeavesReverseInVisitingOrder(Fault):
    """leaves the reverse direction's output in the order of its visits: the last time step's state stands first."""

    family, stepwise = "time", False
    code = ("output = np.concatenate([forward, reverse[::-1]], -1)", lines.JOIN)
    smallest = (BOTH.replace(T=2),)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output, config = super().written(case, layer, states), case.config
        if not config.bidirectional:
            return output
        turned, part = output.copy(), self.features(config, 1)
        turned[..., part] = from_the_last(output[..., part], config)
        return turned


class DelaysOutput(Fault):
    """returns at each step the state before it: the output starts with the initial state, and the last is missing."""

    family, stepwise = "time", False
    code = ("out[t] = h_prev", lines.OUT)
    smallest = (ONE,)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = super().written(case, layer, states).copy()
        for d in range(case.config.num_directions):
            part = self.features(case.config, d)
            output[..., part] = self.previous_states(case, layer, d, output[..., part])
        return output


class ReturnsLastStepOnly(Fault):
    """returns the last step's output only: that of the others stays zero."""

    family, stepwise = "time", False
    code = ("result[t] = output[t] if t == T - 1 else 0", lines.RESULT)
    smallest = (ONE.replace(T=2),)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output, last = super().written(case, layer, states), self.final_step(case.config, 0)
        if layer < case.config.num_layers - 1:
            return output
        alone = np.zeros_like(output)
        write_steps(alone, last, at_steps(output, last))
        return alone


class KeepsLastStatesOnly(Fault):
    """keeps the last k states only: the output of earlier steps is the first one kept."""

    family, stepwise = "time", False
    code = ("result[t] = output[max(t, T - {k})]", lines.RESULT)
    smallest = (ONE.replace(T=3),)
    parameter = ("keeps_last", 2)
    keeps_last: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return several(config.T)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output, config = super().written(case, layer, states), case.config
        if layer < config.num_layers - 1:
            return output
        return output[np.maximum(np.arange(config.T), config.T - self.keeps_last)]


class ReadsXLate(Fault):
    """reads x one step late: x_{t-1} at step t, and zeros at the first one."""

    family = "time"
    code = ("x_t = x[t - 1] if t > 0 else 0 * x[t]  # if layer == 0", lines.X_T)
    smallest = (ONE,)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        x = super().layer_input(case, layer, direction, below)
        return x if layer else late(x)


class ReadsXEarly(Fault):
    """reads x one step early: x_{t+1} at step t, and zeros at the last one."""

    family = "time"
    code = ("x_t = x[t + 1] if t < T - 1 else 0 * x[t]  # if layer == 0", lines.X_T)
    smallest = (ONE,)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        x = super().layer_input(case, layer, direction, below)
        return x if layer else late(x[::-1])[::-1]


class ReadsFirstX(Fault):
    """reads the first time step of x at every step."""

    family = "time"
    code = ("x_t = x[0]  # if layer == 0", lines.X_T)
    smallest = (ONE.replace(T=2),)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        x = super().layer_input(case, layer, direction, below)
        return x if layer else np.broadcast_to(x[:1], x.shape)


class LeavesOutLastStep(Fault):
    """leaves out the last time step: its output stays zero, and h_n is the state before it."""

    family = "time"
    code = ("order = range(T - 1)[::-1] if d == 1 else range(T - 1)", lines.ORDER)
    smallest = (ONE,)

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        return tuple(length - 1 for length in super().lengths(config) or (config.T,) * config.N)


class LeavesOutFirstStep(Fault):
    """leaves out the first time step: its output stays zero, and the second one reads the initial state."""

    family = "time"
    code = ("order = range(1, T)[::-1] if d == 1 else range(1, T)", lines.ORDER)
    smallest = (ONE,)

    def visited(self, config: RNNConfig) -> Visited | None:
        visited = super().visited(config)
        later = np.arange(config.T)[:, None, None] > 0
        return np.broadcast_to(later, (config.T, config.N, 1)) if visited is None else visited & later

    def first_step(self, config: RNNConfig, direction: int) -> Steps:
        return _at_least_one(super().first_step(config, direction), config)

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        return _at_least_one(super().final_step(config, direction), config)


class ReadsStateTwoBack(Fault):
    """reads the state of two steps back, h_{t-2}; the first two steps read the initial one."""

    role, family = "weight_hh", "time"
    code = ("h_prev = hs[i - 2] if i > 1 else h0", lines.READ)
    smallest = (ONE.replace(T=2),)

    def reads(self, config: RNNConfig, step: int) -> tuple[int, ...]:
        return tuple(max(read - 1, -1) for read in super().reads(config, step))


class ReadsHxAtEveryStep(Fault):
    """reads the initial state at every step: the state is never carried on."""

    role, family = "weight_hh", "time"
    code = ("h_prev = h0", lines.READ)
    smallest = (ONE.replace(T=2),)

    def reads(self, config: RNNConfig, step: int) -> tuple[int, ...]:
        return (-1,)


class AddsHxAtEveryStep(Fault):
    """adds hx to the state that each step reads."""

    role, family = "weight_hh", "time"
    code = ("h_prev = hs[i - 1] + h0 if i > 0 else h0", lines.READ)
    smallest = (ONE.replace(T=2, hx=True),)

    def reads(self, config: RNNConfig, step: int) -> tuple[int, ...]:
        return (*super().reads(config, step), -1) if step else super().reads(config, step)


class ResetsState(Fault):
    """resets the state to zero every k steps."""

    role, family = "weight_hh", "time"
    code = ("h_prev = 0 * h0  # if i > 0 and i % {k} == 0", lines.READ)
    smallest = (ONE.replace(T=3),)
    parameter = ("resets_every", 2)
    resets_every: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return several(config.T)

    def reads(self, config: RNNConfig, step: int) -> tuple[int, ...]:
        return () if step and step % self.resets_every == 0 else super().reads(config, step)


def from_the_last(array: Floats, config: RNNConfig) -> Floats:
    """The steps of each sequence (T, N, ..) from its last one to its first; padding stays where it is."""
    t, lengths = np.arange(config.T)[:, None], np.array(config.lengths or (config.T,) * config.N, int)
    return array[np.where(t < lengths, lengths - 1 - t, t), np.arange(config.N)]


def late(array: Floats) -> Floats:
    """Each step's (T, ..) one step later, and zeros at the first one."""
    return np.concatenate([np.zeros_like(array[:1]), array[:-1]])


def _at_least_one(steps: Steps, config: RNNConfig) -> Steps:
    at_least = min(1, config.T - 1)
    return max(steps, at_least) if isinstance(steps, int) else np.maximum(steps, at_least)
