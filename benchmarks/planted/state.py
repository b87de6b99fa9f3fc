"""state: the state is forgotten, or h_n or hx are taken at the wrong place."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Changes, Fault, added_after_phi, parameters, without
from benchmarks.planted.layer import Floats, Layer, Place, Steps, StepWeights, Visited, at_steps, write_steps
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

TWO = ONE.replace(num_layers=2)
BOTH = ONE.replace(bidirectional=True)
TWO_BY_TWO = BOTH.replace(num_layers=2)
# A state is met at the second step, or at the first where one is passed: neither is smaller than the other.
SECOND_STEP = (ONE.replace(T=2), ONE.replace(hx=True))


def _forgets_state_preactivation(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    return right.preactivation(x, np.zeros_like(h), w)


def _without_at_first_step(*left_out: str) -> Changes:
    """Leave some parameters out at the first step."""

    def run_direction(
        right: Layer, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        w, kind = right.step_weights(case, *at), right.nonlinearity(case.config, at[0])
        first = np.asarray(right.first_step(case.config, at[1]))[..., None]

        def step(t: int, held: Floats) -> Floats:
            new = right.step(x[t], held, w, kind)
            if (first == t).any():
                new = np.where(first == t, right.step(x[t], held, without(*left_out)(w), kind), new)
            return new

        right.along_time(case.config, at[1], start, step, states, visited=visited)

    def entering(right: Layer, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        entering = right.entering(config, direction, parameter, da)
        if StepWeights._fields[parameter] not in left_out:
            return entering
        later = entering.copy()
        write_steps(later, right.first_step(config, direction), np.zeros_like(later[0]))
        return later

    def weight_to_start(right: Layer, back: StepWeights) -> Floats:
        start = right.weight_to_start(back)
        return np.zeros_like(start) if "hh" in left_out else start

    return {"run_direction": run_direction, "entering": entering, "weight_to_start": weight_to_start}


def _ignores_hx(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    return np.zeros_like(right.hx_row(config, layer, direction, hx))


def _activates_hx(right: Layer, case: Case, layer: int, direction: int) -> Floats:
    return right.activation(right.initial_state(case, layer, direction), right.nonlinearity(case.config, layer))


def _activates_hx_hx_gradient(right: Layer, case: Case, rows: Mapping[Place, Floats]) -> Floats:
    inside = {
        at: g * right.slope(_activates_hx(right, case, *at), right.nonlinearity(case.config, at[0]))
        for at, g in rows.items()
    }
    return right.hx_gradient(case, inside)


def _reads_hx_by_direction(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    row = direction * config.num_layers + layer
    return right.hx_row(config, *divmod(row, config.num_directions), hx)


def _reads_hx_by_sum(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    return right.hx_row(config, *divmod(layer + direction, config.num_directions), hx)


def _writes_hn_by_direction(right: Layer, config: RNNConfig) -> list[tuple[int, int]]:
    order, D = right.h_n_order(config), config.num_directions
    return [order[layer * D + d] for d in range(D) for layer in range(config.num_layers)]


def _takes_hn_at_last_step(right: Layer, config: RNNConfig, direction: int) -> Steps:
    return right.final_step(config, 0)


def _takes_hn_at_first_step(right: Layer, config: RNNConfig, direction: int) -> Steps:
    return right.first_step(config, direction)


def _takes_hn_one_step_early(right: Layer, config: RNNConfig, direction: int) -> Steps:
    last, first = right.final_step(config, direction), right.first_step(config, direction)
    early = np.where(np.asarray(last) == first, last, np.asarray(last) + (1 if direction else -1))
    return int(early) if early.ndim == 0 else early


def _takes_hn_before_last_step_run(right: Layer, case: Case) -> dict[str, Floats]:
    arrays, config, states = right.run(case), case.config, right.states(case)
    rows = []
    for layer, d in right.h_n_order(config):
        previous = right.previous_states(case, layer, d, states[layer][..., right.features(config, d)], states)
        rows.append(at_steps(previous, right.final_step(config, d)))
    return arrays | {"h_n": np.stack(rows)}


def _takes_hn_before_last_step_back_direction(
    right: Layer, case: Case, at: Place, g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
) -> tuple[Floats, Floats]:
    last, first = (
        np.broadcast_to(steps, len(g_final))
        for steps in (right.final_step_back(case.config, at[1]), right.first_step(case.config, at[1]))
    )
    alone, early = (last == first)[:, None], np.where(last == first, last, last + (1 if at[1] else -1))
    given = g.astype(np.result_type(g, g_final))
    write_steps(given, early, at_steps(given, early) + np.where(alone, 0.0, g_final))
    none = np.zeros_like(g_final)
    da, start = right.back_direction(case, at, given, none, slopes, visited=visited)
    return da, start + np.where(alone, g_final, 0.0)


def _writes_top_layer_in_every_row(right: Layer, config: RNNConfig) -> list[tuple[int, int]]:
    return [(config.num_layers - 1, d) for _, d in right.h_n_order(config)]


def _writes_top_row_of_hn_only_run(right: Layer, case: Case) -> dict[str, Floats]:
    arrays = right.run(case)
    inner = np.arange(len(arrays["h_n"])) < len(arrays["h_n"]) - case.config.num_directions
    return arrays | {"h_n": np.where(inner[:, None, None], 0.0, arrays["h_n"])}


def _writes_top_row_of_hn_only_final_gradients(right: Layer, case: Case) -> dict[tuple[int, int], Floats]:
    top = case.config.num_layers - 1
    return {key: g if key[0] == top else np.zeros_like(g) for key, g in right.final_gradients(case).items()}


def _adds_previous_state_new_state(right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return np.asarray(right.new_state(activated, h, w) + h)


def _adds_previous_state_slopes(
    right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats
) -> Floats:
    return right.slopes(case, at, x, previous, np.asarray(own - previous))


def _adds_previous_state_to_previous(right: Layer, da: Floats, dh: Floats, hh: Floats) -> Floats:
    return np.asarray(right.to_previous(da, dh, hh) + dh)


def _adds_state_after_nonlinearity_preactivation(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    return right.preactivation(x, np.zeros_like(h), without("b_hh")(w))


def _adds_state_after_nonlinearity_new_state(right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return np.asarray(right.new_state(activated, h, w) + h @ w.hh.T + w.b_hh)


def _adds_state_after_nonlinearity_to_previous(right: Layer, da: Floats, dh: Floats, hh: Floats) -> Floats:
    return right.to_previous(dh, dh, hh)


def _updates_in_place(right: Layer, x: Floats, h: Floats, w: StepWeights, nonlinearity: str) -> Floats:
    state = h.copy()
    for unit in range(h.shape[-1]):
        state[..., unit] = right.step(x, state, w, nonlinearity)[..., unit]
    return state


FAULTS: Final = (
    Fault(
        "ForgetsState",
        "forgets the state: h @ W_hh.T is left out, so that no time step reads the one before",
        {**parameters(without("hh")), "preactivation": _forgets_state_preactivation},
        smallest=SECOND_STEP,
    ),
    Fault(
        "IgnoresHx",
        "ignores hx: the recurrence starts from zeros",
        {"hx_row": _ignores_hx},
        smallest=(ONE.replace(hx=True),),
    ),
    Fault(
        "ActivatesHx",
        "applies the nonlinearity to hx, too",
        {"initial_state": _activates_hx, "hx_gradient": _activates_hx_hx_gradient},
        smallest=(ONE.replace(hx=True), ONE.replace(hx=True, nonlinearity="relu")),
    ),
    Fault(
        "ReadsHxByDirection",
        "reads hx in the wrong order: directions before layers, not row layer * directions + direction",
        {"hx_row": _reads_hx_by_direction},
        smallest=(TWO_BY_TWO.replace(hx=True),),
    ),
    Fault(
        "ReadsHxBySum",
        "reads row layer + direction of hx, not row layer * directions + direction",
        {"hx_row": _reads_hx_by_sum},
        smallest=(TWO_BY_TWO.replace(hx=True),),
    ),
    Fault(
        "WritesHnByDirection",
        "writes h_n in the wrong order: directions before layers, not row layer * directions + direction",
        {"h_n_order": _writes_hn_by_direction},
        smallest=(TWO_BY_TWO,),
    ),
    Fault(
        "TakesHnAtLastStep",
        "takes the reverse direction's h_n at the last time step, not at the first, which it visits last",
        {"final_step": _takes_hn_at_last_step},
        smallest=(BOTH.replace(T=2),),
    ),
    Fault(
        "TakesHnAtFirstStep",
        "takes h_n at the step that is visited first",
        {"final_step": _takes_hn_at_first_step},
        smallest=(ONE.replace(T=2),),
    ),
    Fault(
        "TakesHnOneStepEarly",
        "takes h_n one step before the last, if there is such a step",
        {"final_step": _takes_hn_one_step_early},
        smallest=(ONE.replace(T=2),),
    ),
    Fault(
        "TakesHnBeforeLastStep",
        "takes the state before the last one for h_n; with a single step, that is the initial state",
        {"run": _takes_hn_before_last_step_run, "back_direction": _takes_hn_before_last_step_back_direction},
        smallest=(ONE,),
    ),
    Fault(
        "WritesTopLayerInEveryRow",
        "writes the last layer's state in every layer's rows of h_n",
        {"h_n_order": _writes_top_layer_in_every_row},
        smallest=(TWO,),
    ),
    Fault(
        "WritesTopRowOfHnOnly",
        "writes the last layer's rows of h_n only: the others stay zero",
        {"run": _writes_top_row_of_hn_only_run, "final_gradients": _writes_top_row_of_hn_only_final_gradients},
        smallest=(TWO,),
    ),
    Fault(
        "AddsPreviousState",
        "adds the previous state to what the nonlinearity gives: h_t = h_{t-1} + phi(s_t)",
        {
            "new_state": _adds_previous_state_new_state,
            "slopes": _adds_previous_state_slopes,
            "to_previous": _adds_previous_state_to_previous,
        },
        smallest=SECOND_STEP,
    ),
    Fault(
        "AddsStateAfterNonlinearity",
        "adds h @ W_hh.T + b_hh after the nonlinearity, not before it",
        {
            "new_state": _adds_state_after_nonlinearity_new_state,
            "to_previous": _adds_state_after_nonlinearity_to_previous,
            **added_after_phi(
                _adds_state_after_nonlinearity_preactivation, _adds_state_after_nonlinearity_to_previous, "hh", "b_hh"
            ),
        },
        smallest=(ONE,),
    ),
    Fault(
        "UpdatesInPlace",
        "updates the state in place: each unit reads the new states of the units before it",
        {"step": _updates_in_place},
        smallest=(RNNConfig(1, 2),),
    ),
    Fault(
        "ForgetsStateAtFirstStep",
        "leaves h @ W_hh.T + b_hh out at the first step",
        _without_at_first_step("hh", "b_hh"),
        smallest=(ONE,),
    ),
    Fault(
        "IgnoresBiasHHAtFirstStep", "leaves b_hh out at the first step", _without_at_first_step("b_hh"), smallest=(ONE,)
    ),
)
