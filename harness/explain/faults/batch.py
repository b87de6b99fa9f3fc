"""batch: a sequence reads what belongs to another one, or is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault
from harness.oracle.reference import Floats, Visited, at_steps
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

TWO = ONE.replace(N=2)


class SharesHxOfFirstSequence(Fault):
    """starts every sequence from the first sequence's hx."""

    family = "batch"
    code = ("h = hx[layer * D + d, 0]", lines.START)
    smallest = (TWO.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        row = super().hx_row(config, layer, direction, hx)
        return np.broadcast_to(row[:1], row.shape)


class ReversesBatchOfHx(Fault):
    """takes the sequences of hx from the last to the first."""

    family = "batch"
    code = ("h = hx[layer * D + d, ::-1]", lines.START)
    smallest = (TWO.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        return super().hx_row(config, layer, direction, hx)[::-1]


class CarriesStateToNextSequence(Fault):
    """carries the state on from one sequence to the next: only the first one starts from the initial state."""

    family, across = "batch", True
    code = ("h = hx[layer * D + d, 0] if n == 0 else h", lines.START_OF_SEQUENCE)
    smallest = (TWO,)

    def start(self, case: Case, layer: int, direction: int, states: Sequence[Floats]) -> Floats:
        first = super().start(case, layer, direction, states)[:1]
        final = at_steps(states[layer], self.final_step(case.config, direction))
        return np.concatenate([first, final[:, self.features(case.config, direction)]])[: case.config.N]

    def run_direction(
        self, case: Case, at: tuple[int, int], x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        h, last = start[:1], self.final_step(case.config, at[1])
        for n in range(case.config.N):
            one = slice(n, n + 1)
            there = None if visited is None else visited[:, one]
            super().run_direction(case, at, x[:, one], h, states[:, one], visited=there)
            h = states[last if isinstance(last, int) else last[n], one]

    def back_direction(
        self, case: Case, at: tuple[int, int], g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        if self.lengths(case.config) is not None or case.config.N == 0:
            return super().back_direction(case, at, g, g_final, slopes, visited=visited)
        da, given = np.empty(slopes.shape, np.result_type(g, slopes)), np.zeros_like(g_final[:1])
        for n in reversed(range(case.config.N)):
            one = slice(n, n + 1)
            there = None if visited is None else visited[:, one]
            final = g_final[one] + given
            da[:, one], given = super().back_direction(case, at, g[:, one], final, slopes[:, one], visited=there)
        return da, np.concatenate([given, np.zeros_like(g_final[1:])])


class ComputesFirstSequenceOnly(Fault):
    """computes the first sequence only: the states of the others stay zero."""

    family = "batch"
    code = ("sequences = range(1)", lines.SEQUENCES)
    smallest = (TWO,)

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        return taken(super().lengths(config), config, 1)


def taken(lengths: tuple[int, ...] | None, config: RNNConfig, sequences: int) -> tuple[int, ...] | None:
    """The lengths of a batch of which only so many sequences are computed."""
    if sequences >= config.N:
        return lengths
    return (*(lengths or (config.T,) * config.N)[:sequences], *(0,) * (config.N - sequences))
