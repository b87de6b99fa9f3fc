"""directions: forward and reverse are exchanged, shared, joined or started in the wrong way."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Fault
from benchmarks.planted.layer import Floats, Layer, Place, StepWeights, Visited
from benchmarks.planted.weights import half_of
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

BOTH = ONE.replace(bidirectional=True)


def _reverse_before_forward(right: Layer, config: RNNConfig, direction: int) -> slice:
    return right.features(config, config.num_directions - 1 - direction)


def _exchanges_inner_halves(right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
    read = right.layer_input(case, layer, direction, below)
    return np.roll(read, case.config.hidden_size, axis=-1) if layer and case.config.bidirectional else read


def _separates_directions(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    w = right.step_weights(case, layer, direction)
    return w._replace(ih=half_of(w.ih, direction, case)) if layer else w


def _returns_forward_twice(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output = right.written(case, layer, states).copy()
    for d in range(case.config.num_directions):
        output[..., right.features(case.config, d)] = output[..., right.features(case.config, 0)]
    return output


def _forgets_reverse_run_direction(
    right: Layer, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
) -> None:
    if at[1]:
        states[...] = 0.0
    else:
        right.run_direction(case, at, x, start, states, visited=visited)


def _forgets_reverse_reaches(right: Layer, config: RNNConfig, direction: int, step: int) -> bool:
    return not direction and right.reaches(config, direction, step)


def _reverse_uses_forward_weights(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    return right.step_weights(case, layer, 0)


def _reverse_uses_forward_weight_hh(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    w = right.step_weights(case, layer, direction)
    return w._replace(hh=right.step_weights(case, layer, 0).hh)


def _reverse_uses_forward_weight_ih(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    return right.step_weights(case, layer, direction)._replace(ih=right.step_weights(case, layer, 0).ih)


def _forward_uses_reverse_weights(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    return right.step_weights(case, layer, case.config.num_directions - 1)


def _reverse_starts_from_forward(right: Layer, config: RNNConfig, layer: int, direction: int) -> tuple[int, int] | None:
    return (layer, 0) if direction else right.starts_from(config, layer, direction)


def _reverse_uses_forward_hx(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    return right.hx_row(config, layer, 0, hx)


def _reverses_batch_time_order(right: Layer, config: RNNConfig, direction: int) -> Sequence[int]:
    return right.time_order(config, 0)


def _reverses_batch_hx_row(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    row = right.hx_row(config, layer, direction, hx)
    return row[::-1] if direction else row


def _reverses_batch_run(right: Layer, case: Case) -> dict[str, Floats]:
    arrays = right.run(case)
    rows = [row[::-1] if d else row for (_, d), row in zip(right.h_n_order(case.config), arrays["h_n"], strict=True)]
    return arrays | {"h_n": np.stack(rows)}


def _reverses_batch_final_gradients(right: Layer, case: Case) -> dict[tuple[int, int], Floats]:
    return {at: g[::-1] if at[1] else g for at, g in right.final_gradients(case).items()}


def _writes_reverse_hn_first(right: Layer, config: RNNConfig) -> list[tuple[int, int]]:
    return [(layer, config.num_directions - 1 - d) for layer, d in right.h_n_order(config)]


FAULTS: Final = (
    Fault(
        "ReverseBeforeForward",
        "concatenates reverse before forward in the output's features",
        {"features": _reverse_before_forward},
        smallest=(BOTH,),
    ),
    Fault(
        "ExchangesInnerHalves",
        "reads the output below, above the first layer, with its reverse half before its forward half",
        {"layer_input": _exchanges_inner_halves},
        smallest=(BOTH.replace(num_layers=2),),
    ),
    Fault(
        "SeparatesDirections",
        "reads only its own direction's half of the output below, above the first layer: two stacks side by side",
        {"step_weights": _separates_directions},
        smallest=(BOTH.replace(num_layers=2),),
    ),
    Fault(
        "ReturnsForwardTwice",
        "returns the forward half of each output twice, also in the place of the reverse half",
        {"written": _returns_forward_twice},
        smallest=(BOTH,),
    ),
    Fault(
        "ForgetsReverse",
        "does not run the reverse direction: its states stay zero",
        {"run_direction": _forgets_reverse_run_direction, "reaches": _forgets_reverse_reaches},
        smallest=(BOTH,),
    ),
    Fault(
        "ReverseUsesForwardWeights",
        "uses the forward direction's weights in the reverse direction too",
        {"step_weights": _reverse_uses_forward_weights},
        smallest=(BOTH,),
    ),
    Fault(
        "ReverseUsesForwardWeightHH",
        "uses the forward direction's weight_hh in the reverse direction too",
        {"step_weights": _reverse_uses_forward_weight_hh},
        smallest=(BOTH.replace(T=2), BOTH.replace(hx=True)),
    ),
    Fault(
        "ReverseUsesForwardWeightIH",
        "uses the forward direction's weight_ih in the reverse direction too",
        {"step_weights": _reverse_uses_forward_weight_ih},
        smallest=(BOTH,),
    ),
    Fault(
        "ForwardUsesReverseWeights",
        "uses the reverse direction's weights in the forward direction too",
        {"step_weights": _forward_uses_reverse_weights},
        smallest=(BOTH,),
    ),
    Fault(
        "ReverseStartsFromForward",
        "starts the reverse direction from the final state of the forward one, not from hx",
        {"starts_from": _reverse_starts_from_forward},
        smallest=(BOTH,),
    ),
    Fault(
        "ReverseUsesForwardHx",
        "starts the reverse direction from the forward one's row of hx",
        {"hx_row": _reverse_uses_forward_hx},
        smallest=(BOTH.replace(hx=True),),
    ),
    Fault(
        "ReversesBatch",
        "reverses the batch instead of time in the reverse direction: its hx and h_n are those of other sequences",
        {
            "time_order": _reverses_batch_time_order,
            "hx_row": _reverses_batch_hx_row,
            "run": _reverses_batch_run,
            "final_gradients": _reverses_batch_final_gradients,
        },
        smallest=(BOTH.replace(T=2), BOTH.replace(N=2)),
    ),
    Fault(
        "WritesReverseHnFirst",
        "writes the reverse direction's state before the forward one's in each layer's rows of h_n",
        {"h_n_order": _writes_reverse_hn_first},
        smallest=(BOTH,),
    ),
)
