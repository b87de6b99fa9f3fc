"""state: the state is forgotten, or h_n or hx are taken at the wrong place."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault
from harness.oracle.reference import Floats, Steps, StepWeights, Visited, at_steps, recalled, write_steps
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

TWO = ONE.replace(num_layers=2)
BOTH = ONE.replace(bidirectional=True)
TWO_BY_TWO = BOTH.replace(num_layers=2)
SECOND_STEP = (ONE.replace(T=2), ONE.replace(hx=True))
"""A state is met at the second step, or at the first where one is passed: neither is smaller than the other."""


class ForgetsState(Fault):
    """forgets the state: h @ W_hh.T is left out, so that no time step reads the one before."""

    role, family = "weight_hh", "state"
    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + b_hh)", lines.STEP)
    smallest = SECOND_STEP

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=np.zeros_like(w.hh))

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return super().preactivation(x, np.zeros_like(h), w)


class _AtFirstStep(Fault):
    """Other parameters at the first step: what ``first`` makes of them."""

    family, stepwise = "state", False

    @staticmethod
    def first(w: StepWeights) -> StepWeights:
        """Return the parameters of the first step."""
        raise NotImplementedError

    def run_direction(
        self, case: Case, at: tuple[int, int], x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        w, kind = self.step_weights(case, *at), self.nonlinearity_of(case.config, at[0])
        held, first = [start], np.asarray(self.first_step(case.config, at[1]))[..., None]
        for step, t in enumerate(self.time_order(case.config, at[1])):
            h = recalled(held, self.reads(case.config, step))
            new = self.step(x[t], h, w, kind)
            if (first == t).any():
                new = np.where(first == t, self.step(x[t], h, self.first(w), kind), new)
            held.append(new if visited is None else np.where(visited[t], new, held[-1]))
            states[t] = new if visited is None else np.where(visited[t], new, 0.0)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = super().entering(config, direction, parameter, da)
        if StepWeights._fields[parameter] not in self.left_out:
            return entering
        later = entering.copy()
        write_steps(later, self.first_step(config, direction), np.zeros_like(later[0]))
        return later

    left_out: ClassVar[tuple[str, ...]]
    """The parameters that are left out."""


class ForgetsStateAtFirstStep(_AtFirstStep):
    """leaves h @ W_hh.T + b_hh out at the first step."""

    code = ("h = {phi}(x[t] @ W_ih.T + b_ih)  # if i == 0", lines.STEP)
    smallest = (ONE,)
    left_out = ("hh", "b_hh")

    @staticmethod
    def first(w: StepWeights) -> StepWeights:
        return w._replace(hh=np.zeros_like(w.hh), b_hh=np.zeros_like(w.b_hh))

    def weight_to_start(self, back: StepWeights) -> Floats:
        return np.zeros_like(back.hh)


class IgnoresBiasHHAtFirstStep(_AtFirstStep):
    """leaves b_hh out at the first step."""

    code = ("h = {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh.T)  # if i == 0", lines.STEP)
    smallest = (ONE,)
    left_out = ("b_hh",)

    @staticmethod
    def first(w: StepWeights) -> StepWeights:
        return w._replace(b_hh=np.zeros_like(w.b_hh))


class IgnoresHx(Fault):
    """ignores hx: the recurrence starts from zeros."""

    family = "state"
    code = ("h = np.zeros((N, H))", lines.START)
    smallest = (ONE.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        return np.zeros_like(super().hx_row(config, layer, direction, hx))


class ActivatesHx(Fault):
    """applies the nonlinearity to hx, too."""

    family = "state"
    code = ("h = {phi}(hx[layer * D + d])", lines.START)
    smallest = (ONE.replace(hx=True), ONE.replace(hx=True, nonlinearity="relu"))

    def initial_state(self, case: Case, layer: int, direction: int) -> Floats:
        return self.activation(super().initial_state(case, layer, direction), self.nonlinearity_of(case.config, layer))


class ReadsHxByDirection(Fault):
    """reads hx in the wrong order: directions before layers, not row layer * directions + direction."""

    family, stepwise = "state", False
    code = ("h = hx[d * L + layer]", lines.START)
    smallest = (TWO_BY_TWO.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        row = direction * config.num_layers + layer
        return super().hx_row(config, *divmod(row, config.num_directions), hx)


class ReadsHxBySum(Fault):
    """reads row layer + direction of hx, not row layer * directions + direction."""

    family = "state"
    code = ("h = hx[layer + d]", lines.START)
    smallest = (TWO_BY_TWO.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        return super().hx_row(config, *divmod(layer + direction, config.num_directions), hx)


class WritesHnByDirection(Fault):
    """writes h_n in the wrong order: directions before layers, not row layer * directions + direction."""

    family, stepwise = "state", False
    code = ("h_n[d * L + layer] = h", lines.FINAL)
    smallest = (TWO_BY_TWO,)

    def h_n_order(self, config: RNNConfig) -> list[tuple[int, int]]:
        order, D = super().h_n_order(config), config.num_directions
        return [order[layer * D + d] for d in range(D) for layer in range(config.num_layers)]


class TakesHnAtLastStep(Fault):
    """takes the reverse direction's h_n at the last time step, not at the first, which it visits last."""

    family = "state"
    code = ("h_n[layer * D + d] = out[T - 1]  # if d == 1", lines.FINAL)
    smallest = (BOTH.replace(T=2),)

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        return super().final_step(config, 0)


class TakesHnAtFirstStep(Fault):
    """takes h_n at the step that is visited first."""

    family = "state"
    code = ("h_n[layer * D + d] = out[order[0]]", lines.FINAL)
    smallest = (ONE.replace(T=2),)

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        return self.first_step(config, direction)


class TakesHnOneStepEarly(Fault):
    """takes h_n one step before the last, where there is one."""

    family = "state"
    code = ("h_n[layer * D + d] = out[order[-2]]", lines.FINAL)
    smallest = (ONE.replace(T=2),)

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        last, first = super().final_step(config, direction), super().first_step(config, direction)
        early = np.where(np.asarray(last) == first, last, np.asarray(last) + (1 if direction else -1))
        return int(early) if early.ndim == 0 else early


class TakesHnBeforeLastStep(Fault):
    """takes the state before the last one for h_n: what the last step reads, with one step the initial state."""

    family, stepwise = "state", False
    code = ("h_n[layer * D + d] = h_prev  # which the last step read", lines.FINAL)
    smallest = (ONE,)

    def run(self, case: Case) -> dict[str, Floats]:
        arrays, config, states = super().run(case), case.config, self.states(case)
        rows = []
        for layer, d in self.h_n_order(config):
            previous = self.previous_states(case, layer, d, states[layer][..., self.features(config, d)], states)
            rows.append(at_steps(previous, self.final_step(config, d)))
        return arrays | {"h_n": np.stack(rows)}

    def back_direction(
        self, case: Case, at: tuple[int, int], g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        last, first = (
            np.broadcast_to(steps, len(g_final))
            for steps in (self.final_step_back(case.config, at[1]), self.first_step(case.config, at[1]))
        )
        alone, early = (last == first)[:, None], np.where(last == first, last, last + (1 if at[1] else -1))
        given = g.astype(np.result_type(g, g_final))
        write_steps(given, early, at_steps(given, early) + np.where(alone, 0.0, g_final))
        none = np.zeros_like(g_final)
        da, start = super().back_direction(case, at, given, none, slopes, visited=visited)
        return da, start + np.where(alone, g_final, 0.0)


class WritesTopLayerInEveryRow(Fault):
    """writes the last layer's state in every layer's rows of h_n."""

    family, stepwise = "state", False
    code = ("h_n[d::D] = h", lines.FINAL)
    smallest = (TWO,)

    def h_n_order(self, config: RNNConfig) -> list[tuple[int, int]]:
        return [(config.num_layers - 1, d) for _, d in super().h_n_order(config)]


class WritesTopRowOfHnOnly(Fault):
    """writes the last layer's rows of h_n only: the others stay zero."""

    family, stepwise = "state", False
    code = ("h_n[layer * D + d] = h if layer == L - 1 else 0", lines.FINAL)
    smallest = (TWO,)

    def run(self, case: Case) -> dict[str, Floats]:
        arrays = super().run(case)
        inner = np.arange(len(arrays["h_n"])) < len(arrays["h_n"]) - case.config.num_directions
        return arrays | {"h_n": np.where(inner[:, None, None], 0.0, arrays["h_n"])}

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        top = case.config.num_layers - 1
        return {key: g if key[0] == top else np.zeros_like(g) for key, g in super().final_gradients(case).items()}


class AddsPreviousState(Fault):
    """adds the previous state to what the nonlinearity gives: h_t = h_{t-1} + phi(s_t)."""

    family = "state"
    code = ("h = h + {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = SECOND_STEP

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        return np.asarray(super().new_state(activated, h, w) + h)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        return super().slopes(case, at, x, previous, np.asarray(own - previous))

    def to_previous(self, da: Floats, dh: Floats, hh: Floats) -> Floats:
        return np.asarray(super().to_previous(da, dh, hh) + dh)


class UpdatesInPlace(Fault):
    """updates the state in place: each unit reads the new states of the units before it."""

    role, family, stepwise = "weight_hh", "state", False
    code = ("h[:, j] = {phi}(x[t] @ W_ih[j] + b_ih[j] + h @ W_hh[j] + b_hh[j])", lines.UNIT)
    smallest = (RNNConfig(1, 2),)

    def step(self, x: Floats, h: Floats, w: StepWeights, nonlinearity: str) -> Floats:
        state = h.copy()
        for unit in range(h.shape[-1]):
            state[..., unit] = super().step(x, state, w, nonlinearity)[..., unit]
        return state
