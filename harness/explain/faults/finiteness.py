"""finiteness: right on finite numbers, and wrong where an infinity meets a zero of padding, or another infinity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from harness.checks.known import times_zero
from harness.explain.faults.base import ONE, Fault
from harness.oracle.reference import Floats, StepWeights
from harness.space.config import RNNConfig

BLOCKS: Final = (2, 4, 8, 16)
"""Terms that vector instructions take at once."""


class RepeatsLastTermTimesZero(Fault):
    """sums products in blocks of k, and fills up the last block with the last term's operand times zero."""

    family = "finiteness"
    smallest = (ONE,)
    parameter = ("zero_block", 2)
    zero_block: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        upper = config.num_directions * config.hidden_size if config.num_layers > 1 else config.input_size
        sizes = (config.input_size, upper, config.hidden_size)
        return [block for block in BLOCKS if any(size % block for size in sizes)]

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        filled = times_zero(x, self.zero_block) + times_zero(h, self.zero_block)
        return super().preactivation(x, h, w) + filled


class ReadsOnIntoNextSequence(Fault):
    """sums products in blocks of k, and fills up the last block with the next sequence's numbers times zero."""

    family, stepwise = "finiteness", False  # the rows of a step must be told apart
    smallest = (ONE.replace(N=2),)
    parameter = ("read_block", 2)
    read_block: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return [block for block in BLOCKS if any(size % block for size in (config.input_size, config.hidden_size))]

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return super().preactivation(x, h, w) + self._of_padding(x) + self._of_padding(h)

    def _of_padding(self, rows: Floats) -> Floats:
        """0, or NaN in the rows (N, K) that are followed by a number that is not finite, within the padding."""
        size = rows.shape[-1]
        read = np.zeros((len(rows), 1))
        for first in range(size, size + -size % self.read_block):
            following, column = divmod(first, size)
            later = rows[following:, column : column + 1] * 0.0
            read[: len(later)] += later.real
        return read


class MakesNaNOfInfiniteSums(Fault):
    """makes NaN of an infinite sum, as infinity minus infinity between its parts does."""

    family = "finiteness"
    smallest = (ONE,)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        s = super().preactivation(x, h, w)
        return s + 0.0 * s
