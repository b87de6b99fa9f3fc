"""batch: a sequence reads what belongs to another one, or is left out."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Fault
from benchmarks.planted.layer import Floats, Layer, Place, Visited, at_steps
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

TWO = ONE.replace(N=2)


def _shares_hx_of_first_sequence(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    row = right.hx_row(config, layer, direction, hx)
    return np.broadcast_to(row[:1], row.shape)


def _reverses_batch_of_hx(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    return right.hx_row(config, layer, direction, hx)[::-1]


def _carries_state_to_next_sequence_start(
    right: Layer, case: Case, layer: int, direction: int, states: Sequence[Floats]
) -> Floats:
    first = right.start(case, layer, direction, states)[:1]
    final = at_steps(states[layer], right.final_step(case.config, direction))
    return np.concatenate([first, final[:, right.features(case.config, direction)]])[: case.config.N]


def _carries_state_to_next_sequence_run_direction(
    right: Layer, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
) -> None:
    h, last = start[:1], right.final_step(case.config, at[1])
    for n in range(case.config.N):
        one = slice(n, n + 1)
        there = None if visited is None else visited[:, one]
        right.run_direction(case, at, x[:, one], h, states[:, one], visited=there)
        h = states[last if isinstance(last, int) else last[n], one]


def _carries_state_to_next_sequence_back_direction(
    right: Layer, case: Case, at: Place, g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
) -> tuple[Floats, Floats]:
    if right.lengths(case.config) is not None or case.config.N == 0:
        return right.back_direction(case, at, g, g_final, slopes, visited=visited)
    da, given = np.empty(slopes.shape, np.result_type(g, slopes)), np.zeros_like(g_final[:1])
    for n in reversed(range(case.config.N)):
        one = slice(n, n + 1)
        there = None if visited is None else visited[:, one]
        final = g_final[one] + given
        da[:, one], given = right.back_direction(case, at, g[:, one], final, slopes[:, one], visited=there)
    return da, np.concatenate([given, np.zeros_like(g_final[1:])])


def _computes_first_sequence_only(right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    return taken(right.lengths(config), config, 1)


def taken(lengths: tuple[int, ...] | None, config: RNNConfig, sequences: int) -> tuple[int, ...] | None:
    """Return the lengths of a batch whose first sequences alone are computed."""
    if sequences >= config.N:
        return lengths
    return (*(lengths or (config.T,) * config.N)[:sequences], *(0,) * (config.N - sequences))


FAULTS: Final = (
    Fault(
        "SharesHxOfFirstSequence",
        "starts every sequence from the first sequence's hx",
        {"hx_row": _shares_hx_of_first_sequence},
        smallest=(TWO.replace(hx=True),),
    ),
    Fault(
        "ReversesBatchOfHx",
        "takes the sequences of hx from the last to the first",
        {"hx_row": _reverses_batch_of_hx},
        smallest=(TWO.replace(hx=True),),
    ),
    Fault(
        "CarriesStateToNextSequence",
        "carries the state on from one sequence to the next: only the first one starts from the initial state",
        {
            "start": _carries_state_to_next_sequence_start,
            "run_direction": _carries_state_to_next_sequence_run_direction,
            "back_direction": _carries_state_to_next_sequence_back_direction,
        },
        smallest=(TWO,),
    ),
    Fault(
        "ComputesFirstSequenceOnly",
        "computes the first sequence only: the states of the others stay zero",
        {"lengths": _computes_first_sequence_only},
        smallest=(TWO,),
    ),
)
