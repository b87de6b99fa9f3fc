"""size: what is left over where a size is no multiple of a block, or lies beyond the block, is not computed."""

from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Fault, parameters
from benchmarks.planted.batch import taken
from benchmarks.planted.layer import Floats, Layer, Place, StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig

BLOCKS: Final = (2, 4, 8, 16, 32, 64)


def _leaves_out_last_units_new_state(k: int, right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return cut(right.new_state(activated, h, w), whole(activated.shape[-1], k))


def _leaves_out_last_units_slopes(
    k: int, right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats
) -> Floats:
    return cut(right.slopes(case, at, x, previous, own), whole(own.shape[-1], k))


def _leaves_out_last_inputs(k: int, right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    w = right.step_weights(case, layer, direction)
    return w._replace(ih=cut(w.ih, whole(w.ih.shape[1], k)))


def _leaves_out_last_states(k: int, right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    w = right.step_weights(case, layer, direction)
    return w._replace(hh=cut(w.hh, whole(w.hh.shape[1], k)))


def _leaves_out_last_sequences(k: int, right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    return taken(right.lengths(config), config, whole(config.N, k))


def _skips_last_unit_new_state(right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return cut(right.new_state(activated, h, w), activated.shape[-1] - 1)


def _skips_last_unit_slopes(right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
    return cut(right.slopes(case, at, x, previous, own), own.shape[-1] - 1)


def _skips_last_sequence(right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    return taken(right.lengths(config), config, max(config.N - 1, 0))


def _computes_first_units_only_new_state(k: int, right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return cut(right.new_state(activated, h, w), k)


def _computes_first_units_only_slopes(
    k: int, right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats
) -> Floats:
    return cut(right.slopes(case, at, x, previous, own), k)


def _sums_first_inputs_only(k: int, right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    w = right.step_weights(case, layer, direction)
    return w._replace(ih=cut(w.ih, k))


def _sums_first_states_only(k: int, right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
    w = right.step_weights(case, layer, direction)
    return w._replace(hh=cut(w.hh, k))


def _computes_first_steps_only(k: int, right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    given = right.lengths(config)
    if k >= config.T:
        return given
    return tuple(min(length, k) for length in given or (config.T,) * config.N)


def _computes_first_sequences_only(k: int, right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    return taken(right.lengths(config), config, k)


def cut(array: Floats, size: int) -> Floats:
    """Put zeros in an array's last axis from ``size`` on."""
    return array if size >= array.shape[-1] else np.where(np.arange(array.shape[-1]) < size, array, 0.0)


def whole(size: int, block: int) -> int:
    """Return the largest multiple of a block in a size."""
    return size - size % block


def inputs(config: RNNConfig) -> tuple[int, ...]:
    """Return how many numbers the layers read at a step: the first one, and those above it."""
    upper = config.num_directions * config.hidden_size
    return (config.input_size, upper) if config.num_layers > 1 else (config.input_size,)


def below(size: int) -> list[int]:
    """List the blocks that are smaller than a size."""
    return [block for block in (1, *BLOCKS, 128) if block < size]


FAULTS: Final = (
    Fault(
        "LeavesOutLastUnits",
        "computes units in blocks of {k}: the last (hidden_size mod {k}) of them stay zero",
        {"new_state": _leaves_out_last_units_new_state, "slopes": _leaves_out_last_units_slopes},
        smallest=(ONE,),
        k=8,
    ),
    Fault(
        "LeavesOutLastInputs",
        "sums inputs in blocks of {k}: the last (mod {k}) of those that a layer reads are left out of x @ W_ih.T",
        {"step_weights": _leaves_out_last_inputs},
        smallest=(ONE,),
        k=8,
    ),
    Fault(
        "LeavesOutLastStates",
        "sums states in blocks of {k}: the last (hidden_size mod {k}) of them are left out of h @ W_hh.T",
        {"step_weights": _leaves_out_last_states},
        smallest=(ONE.replace(T=2), ONE.replace(hx=True)),
        k=8,
    ),
    Fault(
        "LeavesOutLastSequences",
        "computes sequences in blocks of {k}: the states of the last (N mod {k}) of them stay zero",
        {"lengths": _leaves_out_last_sequences},
        smallest=(ONE,),
        k=8,
    ),
    Fault(
        "SkipsLastUnit",
        "computes all units but the last, which stays zero",
        {"new_state": _skips_last_unit_new_state, "slopes": _skips_last_unit_slopes},
        smallest=(ONE,),
    ),
    Fault(
        "SkipsLastInput",
        "leaves the last input of every layer out of the sum x @ W_ih.T",
        parameters(lambda w: w._replace(ih=cut(w.ih, w.ih.shape[1] - 1))),
        smallest=(ONE,),
    ),
    Fault(
        "SkipsLastState",
        "leaves the last unit's state out of the sum h @ W_hh.T",
        parameters(lambda w: w._replace(hh=cut(w.hh, w.hh.shape[1] - 1))),
        smallest=(ONE.replace(T=2), ONE.replace(hx=True)),
    ),
    Fault(
        "SkipsLastSequence",
        "computes all sequences but the last, whose states stay zero",
        {"lengths": _skips_last_sequence},
        smallest=(ONE,),
    ),
    Fault(
        "ComputesFirstUnitsOnly",
        "computes the first {k} units only: the others stay zero",
        {"new_state": _computes_first_units_only_new_state, "slopes": _computes_first_units_only_slopes},
        smallest=(RNNConfig(1, 3),),
        k=2,
    ),
    Fault(
        "SumsFirstInputsOnly",
        "sums only the first {k} of the inputs that a layer reads",
        {"step_weights": _sums_first_inputs_only},
        smallest=(RNNConfig(3, 1), RNNConfig(1, 3, num_layers=2), RNNConfig(1, 2, num_layers=2, bidirectional=True)),
        k=2,
    ),
    Fault(
        "SumsFirstStatesOnly",
        "sums the first {k} states only in h @ W_hh.T",
        {"step_weights": _sums_first_states_only},
        smallest=(RNNConfig(1, 3, T=2), RNNConfig(1, 3, hx=True)),
        k=2,
    ),
    Fault(
        "ComputesFirstStepsOnly",
        "computes the first {k} steps only: later states stay zero, and h_n is that of the last one computed",
        {"lengths": _computes_first_steps_only},
        smallest=(ONE.replace(T=3),),
        k=2,
    ),
    Fault(
        "ComputesFirstSequencesOnly",
        "computes the first {k} sequences only: the states of the others stay zero",
        {"lengths": _computes_first_sequences_only},
        smallest=(ONE.replace(N=3),),
        k=2,
    ),
)
