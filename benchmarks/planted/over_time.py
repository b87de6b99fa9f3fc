"""over_time: steps are visited in another order, left out, or read from one another at the wrong distance."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Changes, Fault
from benchmarks.planted.layer import Floats, Layer, Steps, StepWeights, Visited, at_steps, write_steps
from harness.space.case import Case
from harness.space.config import RNNConfig

BOTH = ONE.replace(bidirectional=True)
# The configs in which a step is seen to be skipped: a bias, hx or the step before changes the state.
AT_ZERO = (ONE, ONE.replace(bias=False, hx=True), ONE.replace(bias=False, T=2))


def _reverse_reads_forwards(right: Layer, config: RNNConfig, direction: int) -> Sequence[int]:
    return right.time_order(config, 0)


def _forward_reads_backwards(right: Layer, config: RNNConfig, direction: int) -> Sequence[int]:
    return right.time_order(config, 1)


def _leaves_reverse_in_visiting_order(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output, config = right.written(case, layer, states), case.config
    if not config.bidirectional:
        return output
    turned, part = output.copy(), right.features(config, 1)
    turned[..., part] = from_the_last(output[..., part], config)
    return turned


def _delays_output(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output = right.written(case, layer, states).copy()
    for d in range(case.config.num_directions):
        part = right.features(case.config, d)
        output[..., part] = right.previous_states(case, layer, d, output[..., part])
    return output


def _returns_last_step_only(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output, last = right.written(case, layer, states), right.final_step(case.config, 0)
    if layer < case.config.num_layers - 1:
        return output
    alone = np.zeros_like(output)
    write_steps(alone, last, at_steps(output, last))
    return alone


def _keeps_last_states_only(k: int, right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output, config = right.written(case, layer, states), case.config
    if layer < config.num_layers - 1:
        return output
    return output[np.maximum(np.arange(config.T), config.T - k)]


def _reads_x_late(right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
    x = right.layer_input(case, layer, direction, below)
    return x if layer else late(x)


def _reads_x_early(right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
    x = right.layer_input(case, layer, direction, below)
    return x if layer else late(x[::-1])[::-1]


def _reads_first_x(right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
    x = right.layer_input(case, layer, direction, below)
    return x if layer else np.broadcast_to(x[:1], x.shape)


def _leaves_out_last_step(right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    return tuple(length - 1 for length in right.lengths(config) or (config.T,) * config.N)


def _leaves_out_first_step_visited(right: Layer, config: RNNConfig) -> Visited | None:
    visited = right.visited(config)
    later = np.arange(config.T)[:, None, None] > 0
    return np.broadcast_to(later, (config.T, config.N, 1)) if visited is None else visited & later


def _leaves_out_first_step_first_step(right: Layer, config: RNNConfig, direction: int) -> Steps:
    return _at_least_one(right.first_step(config, direction), config)


def _leaves_out_first_step_final_step(right: Layer, config: RNNConfig, direction: int) -> Steps:
    return _at_least_one(right.final_step(config, direction), config)


def _reads_state_two_back(right: Layer, config: RNNConfig, step: int) -> tuple[int, ...]:
    return tuple(max(read - 1, -1) for read in right.reads(config, step))


def _reads_hx_at_every_step(right: Layer, config: RNNConfig, step: int) -> tuple[int, ...]:
    return (-1,)


def _adds_hx_at_every_step(right: Layer, config: RNNConfig, step: int) -> tuple[int, ...]:
    return (*right.reads(config, step), -1) if step else right.reads(config, step)


def _resets_state(k: int, right: Layer, config: RNNConfig, step: int) -> tuple[int, ...]:
    return () if step and step % k == 0 else right.reads(config, step)


def _at_zero_x(new: Callable[[Floats], Floats], *, batch: bool = False, output: bool = True) -> Changes:
    """Take ``new`` of the previous state for the state where a step's x is all zeros, in a sequence or in all.

    Without ``output``, the output stays zero there. The way back is that of a step whose x is not zero.
    """
    axes = (-2, -1) if batch else (-1,)

    def step(right: Layer, x: Floats, h: Floats, w: StepWeights, nonlinearity: str) -> Floats:
        return np.where((x == 0).all(axes, keepdims=True), new(h), right.step(x, h, w, nonlinearity))

    def written(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
        skipped = (right.time_major(case.x, case.config) == 0).all(axes, keepdims=True)
        return np.where(skipped, 0.0, right.written(case, layer, states))

    def written_back(right: Layer, case: Case, layer: int, g: Floats) -> Floats:
        skipped = (right.time_major(case.x, case.config) == 0).all(axes, keepdims=True)
        return np.where(skipped, 0.0, g)

    return {"step": step} if output else {"step": step, "written": written, "written_back": written_back}


def from_the_last(array: Floats, config: RNNConfig) -> Floats:
    """Turn the steps of each sequence (T, N, ..), the last one first; padding stays where it is."""
    t, lengths = np.arange(config.T)[:, None], np.array(config.lengths or (config.T,) * config.N, int)
    return array[np.where(t < lengths, lengths - 1 - t, t), np.arange(config.N)]


def late(array: Floats) -> Floats:
    """Move each step's values (T, ..) one step later, and put zeros at the first one."""
    return np.concatenate([np.zeros_like(array[:1]), array[:-1]])


def _at_least_one(steps: Steps, config: RNNConfig) -> Steps:
    at_least = min(1, config.T - 1)
    return max(steps, at_least) if isinstance(steps, int) else np.maximum(steps, at_least)


FAULTS: Final = (
    Fault(
        "ReverseReadsForwards",
        "reads time forwards in the reverse direction too",
        {"time_order": _reverse_reads_forwards},
        smallest=(BOTH.replace(T=2),),
    ),
    Fault(
        "ForwardReadsBackwards",
        "reads time backwards in the forward direction too",
        {"time_order": _forward_reads_backwards},
        smallest=(ONE.replace(T=2),),
    ),
    Fault(
        "LeavesReverseInVisitingOrder",
        "leaves the reverse direction's output in the order of its visits: the last time step's state stands first",
        {"written": _leaves_reverse_in_visiting_order},
        smallest=(BOTH.replace(T=2),),
    ),
    Fault(
        "DelaysOutput",
        "returns the state before each step: the initial one first, and never the final one",
        {"written": _delays_output},
        smallest=(ONE,),
    ),
    Fault(
        "ReturnsLastStepOnly",
        "returns the last step's output only: that of the others stays zero",
        {"written": _returns_last_step_only},
        smallest=(ONE.replace(T=2),),
    ),
    Fault(
        "KeepsLastStatesOnly",
        "keeps the last {k} states only: the output of earlier steps is the first one kept",
        {"written": _keeps_last_states_only},
        smallest=(ONE.replace(T=3),),
        k=2,
    ),
    Fault(
        "ReadsXLate",
        "reads x one step late: x_{t-1} at step t, and zeros at the first one",
        {"layer_input": _reads_x_late},
        smallest=(ONE,),
    ),
    Fault(
        "ReadsXEarly",
        "reads x one step early: x_{t+1} at step t, and zeros at the last one",
        {"layer_input": _reads_x_early},
        smallest=(ONE,),
    ),
    Fault(
        "ReadsFirstX",
        "reads the first time step of x at every step",
        {"layer_input": _reads_first_x},
        smallest=(ONE.replace(T=2),),
    ),
    Fault(
        "LeavesOutLastStep",
        "leaves out the last time step: its output stays zero, and h_n is the state before it",
        {"lengths": _leaves_out_last_step},
        smallest=(ONE,),
    ),
    Fault(
        "LeavesOutFirstStep",
        "leaves out the first time step: its output stays zero, and the second one reads the initial state",
        {
            "visited": _leaves_out_first_step_visited,
            "first_step": _leaves_out_first_step_first_step,
            "final_step": _leaves_out_first_step_final_step,
        },
        smallest=(ONE,),
    ),
    Fault(
        "ReadsStateTwoBack",
        "reads the state of two steps back, h_{t-2}; the first two steps read the initial one",
        {"reads": _reads_state_two_back},
        smallest=(ONE.replace(T=2),),
    ),
    Fault(
        "ReadsHxAtEveryStep",
        "reads the initial state at every step: the state is never carried on",
        {"reads": _reads_hx_at_every_step},
        smallest=(ONE.replace(T=2),),
    ),
    Fault(
        "AddsHxAtEveryStep",
        "adds hx to the state that each step reads",
        {"reads": _adds_hx_at_every_step},
        smallest=(ONE.replace(T=2, hx=True),),
    ),
    Fault(
        "ResetsState",
        "resets the state to zero every {k} steps",
        {"reads": _resets_state},
        smallest=(ONE.replace(T=3),),
        k=2,
    ),
    Fault(
        "SkipsZeroX",
        "skips steps at which x is all zeros, as if they were padding: the state and its output stay as they were",
        _at_zero_x(lambda h: h),
        smallest=AT_ZERO,
    ),
    Fault(
        "SkipsZeroXAndOutput",
        "skips steps at which x is all zeros, as if they were padding: the state stays, and its output is zero there",
        _at_zero_x(lambda h: h, output=False),
        smallest=AT_ZERO,
    ),
    Fault(
        "ResetsAtZeroX",
        "resets the state to zero at steps at which x is all zeros, as if they were padding",
        _at_zero_x(np.zeros_like),
        smallest=AT_ZERO,
    ),
    Fault(
        "SkipsZeroXOfBatch",
        "skips steps at which x is all zeros in every sequence: the state and its output stay as they were",
        _at_zero_x(lambda h: h, batch=True),
        smallest=AT_ZERO,
    ),
    Fault(
        "SkipsZeroXOfBatchAndOutput",
        "skips steps at which x is all zeros in every sequence: the state stays, and its output is zero there",
        _at_zero_x(lambda h: h, batch=True, output=False),
        smallest=AT_ZERO,
    ),
)
