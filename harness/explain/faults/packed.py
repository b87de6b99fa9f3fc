"""packed: the lengths of a packed batch are ignored, miscounted, or not sorted along with everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault
from harness.oracle.reference import Floats, Steps, Visited
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

FALLING = ONE.replace(T=2, N=2, lengths=(2, 1))
RISING = ONE.replace(T=2, N=2, lengths=(1, 2))


class RunsThroughPadding(Fault):
    """runs on through the padding, which it takes for zeros: h_n is the state at T, and the reverse starts there."""

    family, stepwise = "packed", False
    code = ("steps = range(T)", lines.LENGTH)
    smallest: ClassVar[tuple[RNNConfig, ...]] = (
        FALLING,
        FALLING.replace(bidirectional=True),
    )  # by h_n, and by the output

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        return None


class HnRunsThroughPadding(RunsThroughPadding):
    """runs on through the padding to the state at T, which it returns as h_n; the output is zero in the padding."""

    code = ("steps = range(T)  # out[lengths[n]:, n] = 0", lines.LENGTH_IN_ZEROS)

    smallest = (FALLING,)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = super().written(case, layer, states)
        lengths = case.config.lengths
        if lengths is None:
            return output
        return np.where((np.arange(case.config.T)[:, None] < np.array(lengths))[..., None], output, 0.0)


class ReverseStartsInPadding(Fault):
    """starts the reverse direction of a packed batch at T, in the padding, and not at each sequence's length."""

    family, stepwise = "packed", False
    code = ("steps = range(T)  # if d == 1", lines.LENGTH_IN_ZEROS)
    smallest = (FALLING.replace(bidirectional=True),)

    def first_step(self, config: RNNConfig, direction: int) -> Steps:
        return config.T - 1 if direction and config.lengths is not None else super().first_step(config, direction)

    def run_direction(
        self, case: Case, at: tuple[int, int], x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        through = at[1] and case.config.lengths is not None
        super().run_direction(case, at, x, start, states, visited=None if through else visited)
        if through and visited is not None:
            states[...] = np.where(visited, states, 0.0)


class LeavesReverseAtTheEnd(Fault):
    """leaves the reverse direction's output of a shorter sequence at the end of its row: T - length steps too late."""

    family, stepwise = "packed", False
    code = ("out[t + T - lengths[n], n] = h  # if d == 1", lines.OUT_OF_SEQUENCE)
    smallest = (FALLING.replace(bidirectional=True),)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output, config = super().written(case, layer, states), case.config
        if config.lengths is None or not config.bidirectional:
            return output
        output, part = output.copy(), self.features(config, 1)
        t, lengths = np.arange(config.T)[:, None], np.array(config.lengths)
        source = t - (config.T - lengths)
        there = (source >= 0) & (t < lengths)
        late = output[np.maximum(source, 0), np.arange(config.N)][..., part]
        output[..., part] = np.where(there[..., None], late, 0.0)
        return output


class TakesHnOfPaddedOutput(Fault):
    """takes h_n of a packed batch at T: it is zero where a sequence is shorter."""

    family = "packed"
    code = ("h_n[layer * D + d] = out[T - 1]  # if d == 0", lines.FINAL)
    smallest = (FALLING,)

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        last = super().final_step(config, direction)
        return last if direction or config.lengths is None else config.T - 1


class LengthsOneShort(Fault):
    """takes each length of a packed batch one step too short, where it is longer than one."""

    family = "packed"
    code = ("steps = range(max(lengths[n] - 1, 1))", lines.LENGTH)
    smallest = (ONE.replace(T=2, lengths=(2,)),)

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        lengths = super().lengths(config)
        if lengths is None or config.lengths is None:
            return lengths
        return tuple(max(length - 1, min(length, 1)) for length in lengths)


class SortsLengthsAlone(Fault):
    """sorts the lengths of a packed batch, but not its sequences."""

    family, stepwise = "packed", False
    code = ("steps = range(sorted(lengths)[::-1][n])", lines.LENGTH)
    smallest = (RISING,)

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        lengths = super().lengths(config)
        return lengths if lengths is None else tuple(sorted(lengths, reverse=True))


class LeavesHxUnsorted(Fault):
    """does not sort hx along with a packed batch: the longest sequence starts from the first sequence's hx."""

    family = "packed"
    code = ("h = hx[layer * D + d]", lines.SORTED_START)
    smallest = (RISING.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        return super().hx_row(config, layer, direction, hx)[np.argsort(sorting(config), kind="stable")]


class LeavesHnSorted(Fault):
    """leaves h_n of a packed batch sorted, the longest sequence first."""

    family, stepwise = "packed", False
    code = ("h_n = sorted_h_n", lines.UNSORTED_H_N)
    smallest = (RISING,)

    def run(self, case: Case) -> dict[str, Floats]:
        arrays = super().run(case)
        return arrays | {"h_n": arrays["h_n"][:, sorting(case.config)]}

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        return unsorted(super().final_gradients(case), case.config)


class SortsHnTwice(Fault):
    """puts h_n of a packed batch in order by the permutation that sorts it, where its inverse is needed."""

    family, stepwise = "packed", False
    code = ("h_n = sorted_h_n[:, longest_first]", lines.UNSORTED_H_N)
    smallest = tuple(ONE.replace(T=T, N=3, lengths=lengths) for T, lengths in ((2, (1, 2, 2)), (2, (1, 1, 2))))

    def run(self, case: Case) -> dict[str, Floats]:
        arrays, twice = super().run(case), sorting(case.config)
        return arrays | {"h_n": arrays["h_n"][:, twice[twice]]}

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        return unsorted(unsorted(super().final_gradients(case), case.config), case.config)


class LeavesOutputSorted(Fault):
    """leaves the output of a packed batch sorted, the longest sequence first."""

    family, stepwise = "packed", False
    code = ("output = sorted_output", lines.UNSORTED_OUTPUT)
    smallest = (RISING,)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = super().written(case, layer, states)
        return output if layer < case.config.num_layers - 1 else _sorted_output(output, case.config)


class LeavesResultsSorted(LeavesHnSorted, LeavesOutputSorted):
    """leaves output and h_n of a packed batch sorted, the longest sequence first."""

    code = ("output, h_n = sorted_output, sorted_h_n", lines.UNSORTED)


def sorting(config: RNNConfig) -> NDArray[np.intp]:
    """The sequences of a packed batch, the longest first; as they stand, if it is not packed."""
    lengths = np.array(config.lengths or (0,) * config.N, int)
    return np.argsort(-lengths, kind="stable")


def unsorted(rows: Mapping[tuple[int, int], Floats], config: RNNConfig) -> dict[tuple[int, int], Floats]:
    """What was sorted, as it stood before."""
    back = np.argsort(sorting(config), kind="stable")
    return {key: row[back] for key, row in rows.items()}


def _sorted_output(output: Floats, config: RNNConfig) -> Floats:
    if config.lengths is None:
        return output
    there = np.arange(config.T)[:, None] < np.array(config.lengths)
    return np.where(there[..., None], output[:, sorting(config)], 0.0)
