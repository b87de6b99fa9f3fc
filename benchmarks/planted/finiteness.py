"""finiteness: right on finite numbers, and wrong where an infinity meets a zero of padding, or another infinity."""

from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Fault
from benchmarks.planted.layer import Floats, Layer, StepWeights
from harness.checks.known_issues import times_zero

BLOCKS: Final = (2, 4, 8, 16)  # Terms that vector instructions take at once


def _repeats_last_term_times_zero(k: int, right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    filled = times_zero(x, k) + times_zero(h, k)
    return right.preactivation(x, h, w) + filled


def _reads_on_into_next_sequence_preactivation(k: int, right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    return right.preactivation(x, h, w) + _of_padding(x, k) + _of_padding(h, k)


def _of_padding(rows: Floats, k: int) -> Floats:
    """0, or NaN in the rows (.., N, K) that are followed by a number that is not finite, within the padding."""
    size = rows.shape[-1]
    read = np.zeros((*rows.shape[:-1], 1))
    for first in range(size, size + -size % k):
        following, column = divmod(first, size)
        later = rows[..., following:, column : column + 1] * 0.0
        read[..., : later.shape[-2], :] += later
    return read


def _makes_nan_of_infinite_sums(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    s = right.preactivation(x, h, w)
    return s + 0.0 * s


FAULTS: Final = (
    Fault(
        "RepeatsLastTermTimesZero",
        "sums products in blocks of {k}, and fills up the last block with the last term's operand times zero",
        {"preactivation": _repeats_last_term_times_zero},
        smallest=(ONE,),
        k=2,
    ),
    Fault(
        "ReadsOnIntoNextSequence",
        "sums products in blocks of {k}, and fills up the last block with the next sequence's numbers times zero",
        {"preactivation": _reads_on_into_next_sequence_preactivation},
        smallest=(ONE.replace(N=2),),
        k=2,
    ),
    Fault(
        "MakesNaNOfInfiniteSums",
        "gives NaN for an infinite sum, as infinity minus infinity between its parts does",
        {"preactivation": _makes_nan_of_infinite_sums},
        smallest=(ONE,),
    ),
)
