"""size: what is left over where a size is no multiple of a block, or lies beyond the block, is not computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault
from harness.explain.faults.batch import taken
from harness.oracle.reference import Floats, StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig

BLOCKS: Final = (2, 4, 8, 16, 32, 64)


class LeavesOutLastUnits(Fault):
    """computes units in blocks of k: the last (hidden_size mod k) of them stay zero."""

    family = "size"
    code = ("units = range(H // {k} * {k})", lines.UNITS)
    smallest = (ONE,)
    parameter = ("unit_block", 8)
    unit_block: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return remaining(config.hidden_size)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        return cut(super().new_state(activated, h, w), whole(activated.shape[-1], self.unit_block))

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        return cut(super().slopes(case, at, x, previous, own), whole(own.shape[-1], self.unit_block))


class LeavesOutLastInputs(Fault):
    """sums inputs in blocks of k: the last (mod k) of those that a layer reads are left out of x @ W_ih.T."""

    role, family = "weight_ih", "size"
    code = ("inputs = range(W_ih.shape[1] // {k} * {k})", lines.INPUTS)
    smallest = (ONE,)
    parameter = ("input_block", 8)
    input_block: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return remaining(*inputs(config))

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=cut(w.ih, whole(w.ih.shape[1], self.input_block)))


class LeavesOutLastStates(Fault):
    """sums states in blocks of k: the last (hidden_size mod k) of them are left out of h @ W_hh.T."""

    role, family = "weight_hh", "size"
    code = ("states = range(H // {k} * {k})", lines.STATES)
    smallest = (ONE.replace(T=2), ONE.replace(hx=True))
    parameter = ("state_block", 8)
    state_block: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return remaining(config.hidden_size)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=cut(w.hh, whole(w.hh.shape[1], self.state_block)))


class LeavesOutLastSequences(Fault):
    """computes sequences in blocks of k: the states of the last (N mod k) of them stay zero."""

    family = "size"
    code = ("sequences = range(N // {k} * {k})", lines.SEQUENCES)
    smallest = (ONE,)
    parameter = ("sequence_block", 8)
    sequence_block: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return remaining(config.N)

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        return taken(super().lengths(config), config, whole(config.N, self.sequence_block))


class SkipsLastUnit(Fault):
    """computes all units but the last, which stays zero."""

    family = "size"
    code = ("units = range(H - 1)", lines.UNITS)
    smallest = (ONE,)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        return cut(super().new_state(activated, h, w), activated.shape[-1] - 1)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        return cut(super().slopes(case, at, x, previous, own), own.shape[-1] - 1)


class SkipsLastInput(Fault):
    """leaves the last of the inputs that a layer reads out of the sum x @ W_ih.T."""

    role, family = "weight_ih", "size"
    code = ("inputs = range(W_ih.shape[1] - 1)", lines.INPUTS)
    smallest = (ONE,)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=cut(w.ih, w.ih.shape[1] - 1))


class SkipsLastState(Fault):
    """leaves the last unit's state out of the sum h @ W_hh.T."""

    role, family = "weight_hh", "size"
    code = ("states = range(H - 1)", lines.STATES)
    smallest = (ONE.replace(T=2), ONE.replace(hx=True))

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=cut(w.hh, w.hh.shape[1] - 1))


class SkipsLastSequence(Fault):
    """computes all sequences but the last, whose states stay zero."""

    family = "size"
    code = ("sequences = range(N - 1)", lines.SEQUENCES)
    smallest = (ONE,)

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        return taken(super().lengths(config), config, max(config.N - 1, 0))


class ComputesFirstUnitsOnly(Fault):
    """computes the first k units only: the others stay zero."""

    family = "size"
    code = ("units = range(H)[:{k}]", lines.UNITS)
    smallest = (RNNConfig(1, 3),)
    parameter = ("most_units", 2)
    most_units: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return below(config.hidden_size)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        return cut(super().new_state(activated, h, w), self.most_units)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        return cut(super().slopes(case, at, x, previous, own), self.most_units)


class SumsFirstInputsOnly(Fault):
    """sums the first k inputs only, of those that a layer reads."""

    role, family = "weight_ih", "size"
    code = ("inputs = range(W_ih.shape[1])[:{k}]", lines.INPUTS)
    smallest = (RNNConfig(3, 1), RNNConfig(1, 3, num_layers=2), RNNConfig(1, 2, num_layers=2, bidirectional=True))
    parameter = ("most_inputs", 2)
    most_inputs: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return below(max(inputs(config)))

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(ih=cut(w.ih, self.most_inputs))


class SumsFirstStatesOnly(Fault):
    """sums the first k states only in h @ W_hh.T."""

    role, family = "weight_hh", "size"
    code = ("states = range(H)[:{k}]", lines.STATES)
    smallest = (RNNConfig(1, 3, T=2), RNNConfig(1, 3, hx=True))
    parameter = ("most_states", 2)
    most_states: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return below(config.hidden_size)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        w = super().step_weights(case, layer, direction)
        return w._replace(hh=cut(w.hh, self.most_states))


class ComputesFirstStepsOnly(Fault):
    """computes the first k steps only: later states stay zero, and h_n is that of the last one computed."""

    family = "size"
    code = ("order = range({k})[::-1] if d == 1 else range({k})", lines.ORDER)
    smallest = (ONE.replace(T=3),)
    parameter = ("most_steps", 2)
    most_steps: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return below(config.T)

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        given = super().lengths(config)
        if self.most_steps >= config.T:
            return given
        return tuple(min(length, self.most_steps) for length in given or (config.T,) * config.N)


class ComputesFirstSequencesOnly(Fault):
    """computes the first k sequences only: the states of the others stay zero."""

    family = "size"
    code = ("sequences = range(N)[:{k}]", lines.SEQUENCES)
    smallest = (ONE.replace(N=3),)
    parameter = ("most_sequences", 2)
    most_sequences: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return [k for k in below(config.N) if k > 1]  # the first one only is ``batch.ComputesFirstSequenceOnly``

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        return taken(super().lengths(config), config, self.most_sequences)


def cut(array: Floats, size: int) -> Floats:
    """The array with zeros in its last axis from ``size`` on."""
    return array if size >= array.shape[-1] else np.where(np.arange(array.shape[-1]) < size, array, 0.0)


def whole(size: int, block: int) -> int:
    """The largest multiple of a block in a size."""
    return size - size % block


def inputs(config: RNNConfig) -> tuple[int, ...]:
    """How many numbers the layers read at a step: the first one, and those above it."""
    upper = config.num_directions * config.hidden_size
    return (config.input_size, upper) if config.num_layers > 1 else (config.input_size,)


def remaining(*sizes: int) -> list[int]:
    """The blocks of which some size is no multiple."""
    return [block for block in BLOCKS if any(size % block for size in sizes)]


def below(size: int) -> list[int]:
    """The blocks that are smaller than a size."""
    return [block for block in (1, *BLOCKS, 128) if block < size]
