"""packed: the lengths of a packed batch are ignored, miscounted, or not sorted along with everything else."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.base import ONE, Fault
from benchmarks.planted.layer import Floats, Layer, Place, Steps, Visited
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

FALLING = ONE.replace(T=2, N=2, lengths=(2, 1))
RISING = ONE.replace(T=2, N=2, lengths=(1, 2))


def _runs_through_padding(right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    return None


def _hn_runs_through_padding(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output = right.written(case, layer, states)
    lengths = case.config.lengths
    if lengths is None:
        return output
    return np.where((np.arange(case.config.T)[:, None] < np.array(lengths))[..., None], output, 0.0)


def _reads_padding_run_direction(
    right: Layer, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
) -> None:
    lengths = case.config.lengths
    if lengths is not None:  # the padding of a drawn case is NaN
        x = np.where((np.arange(case.config.T)[:, None] < np.array(lengths))[..., None], x, np.nan)
    right.run_direction(case, at, x, start, states, visited=visited)


def _reverse_starts_in_padding_first_step(right: Layer, config: RNNConfig, direction: int) -> Steps:
    return config.T - 1 if direction and config.lengths is not None else right.first_step(config, direction)


def _reverse_starts_in_padding_run_direction(
    right: Layer, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
) -> None:
    through = at[1] and case.config.lengths is not None
    right.run_direction(case, at, x, start, states, visited=None if through else visited)
    if through and visited is not None:
        states[...] = np.where(visited, states, 0.0)


def _leaves_reverse_at_the_end(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output, config = right.written(case, layer, states), case.config
    if config.lengths is None or not config.bidirectional:
        return output
    output, part = output.copy(), right.features(config, 1)
    t, lengths = np.arange(config.T)[:, None], np.array(config.lengths)
    source = t - (config.T - lengths)
    there = (source >= 0) & (t < lengths)
    late = output[np.maximum(source, 0), np.arange(config.N)][..., part]
    output[..., part] = np.where(there[..., None], late, 0.0)
    return output


def _takes_hn_of_padded_output(right: Layer, config: RNNConfig, direction: int) -> Steps:
    last = right.final_step(config, direction)
    return last if direction or config.lengths is None else config.T - 1


def _lengths_one_short(right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    lengths = right.lengths(config)
    if lengths is None or config.lengths is None:
        return lengths
    return tuple(max(length - 1, min(length, 1)) for length in lengths)


def _sorts_lengths_alone(right: Layer, config: RNNConfig) -> tuple[int, ...] | None:
    lengths = right.lengths(config)
    return lengths if lengths is None else tuple(sorted(lengths, reverse=True))


def _leaves_hx_unsorted(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    return right.hx_row(config, layer, direction, hx)[np.argsort(sorting(config), kind="stable")]


def _leaves_hn_sorted_run(right: Layer, case: Case) -> dict[str, Floats]:
    arrays = right.run(case)
    return arrays | {"h_n": arrays["h_n"][:, sorting(case.config)]}


def _leaves_hn_sorted_final_gradients(right: Layer, case: Case) -> dict[tuple[int, int], Floats]:
    return unsorted(right.final_gradients(case), case.config)


def _sorts_hn_twice_run(right: Layer, case: Case) -> dict[str, Floats]:
    arrays, twice = right.run(case), sorting(case.config)
    return arrays | {"h_n": arrays["h_n"][:, twice[twice]]}


def _sorts_hn_twice_final_gradients(right: Layer, case: Case) -> dict[tuple[int, int], Floats]:
    return unsorted(unsorted(right.final_gradients(case), case.config), case.config)


def _leaves_output_sorted(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output = right.written(case, layer, states)
    return output if layer < case.config.num_layers - 1 else _sorted_output(output, case.config)


def sorting(config: RNNConfig) -> NDArray[np.intp]:
    """Sort the sequences of a packed batch, the longest first; where it is not packed, they stay as they are."""
    lengths = np.array(config.lengths or (0,) * config.N, int)
    return np.argsort(-lengths, kind="stable")


def unsorted(rows: Mapping[tuple[int, int], Floats], config: RNNConfig) -> dict[tuple[int, int], Floats]:
    """Put back in order what was sorted."""
    back = np.argsort(sorting(config), kind="stable")
    return {key: row[back] for key, row in rows.items()}


def _sorted_output(output: Floats, config: RNNConfig) -> Floats:
    if config.lengths is None:
        return output
    there = np.arange(config.T)[:, None] < np.array(config.lengths)
    return np.where(there[..., None], output[:, sorting(config)], 0.0)


FAULTS: Final = (
    Fault(
        "RunsThroughPadding",
        "runs on through the padding, which it takes for zeros: h_n is the state at T, and the reverse starts there",
        {"lengths": _runs_through_padding},
        smallest=(FALLING, FALLING.replace(bidirectional=True)),
    ),
    Fault(
        "HnRunsThroughPadding",
        "runs on through the padding to the state at T, which it returns as h_n; the output is zero in the padding",
        {"lengths": _runs_through_padding, "written": _hn_runs_through_padding},
        smallest=(FALLING,),
    ),
    Fault(
        "ReadsPadding",
        "computes with what stands in the padding of a packed batch: it reaches h_n, and the reverse starts there",
        {"lengths": _runs_through_padding, "run_direction": _reads_padding_run_direction},
        smallest=(FALLING, FALLING.replace(bidirectional=True)),
    ),
    Fault(
        "ReverseStartsInPadding",
        "starts the reverse direction of a packed batch at T, in the padding, and not at each sequence's length",
        {
            "first_step": _reverse_starts_in_padding_first_step,
            "run_direction": _reverse_starts_in_padding_run_direction,
        },
        smallest=(FALLING.replace(bidirectional=True),),
    ),
    Fault(
        "LeavesReverseAtTheEnd",
        "leaves the reverse direction's output of a shorter sequence at the end of its row: T - length steps too late",
        {"written": _leaves_reverse_at_the_end},
        smallest=(FALLING.replace(bidirectional=True),),
    ),
    Fault(
        "TakesHnOfPaddedOutput",
        "takes h_n of a packed batch at T: it is zero where a sequence is shorter",
        {"final_step": _takes_hn_of_padded_output},
        smallest=(FALLING,),
    ),
    Fault(
        "LengthsOneShort",
        "takes each length of a packed batch one step too short, where it is longer than one",
        {"lengths": _lengths_one_short},
        smallest=(ONE.replace(T=2, lengths=(2,)),),
    ),
    Fault(
        "SortsLengthsAlone",
        "sorts the lengths of a packed batch, but not its sequences",
        {"lengths": _sorts_lengths_alone},
        smallest=(RISING,),
    ),
    Fault(
        "LeavesHxUnsorted",
        "does not sort hx along with a packed batch: the longest sequence starts from the first sequence's hx",
        {"hx_row": _leaves_hx_unsorted},
        smallest=(RISING.replace(hx=True),),
    ),
    Fault(
        "LeavesHnSorted",
        "leaves h_n of a packed batch sorted, the longest sequence first",
        {"run": _leaves_hn_sorted_run, "final_gradients": _leaves_hn_sorted_final_gradients},
        smallest=(RISING,),
    ),
    Fault(
        "SortsHnTwice",
        "puts h_n of a packed batch in order by the permutation that sorts it, where its inverse is needed",
        {"run": _sorts_hn_twice_run, "final_gradients": _sorts_hn_twice_final_gradients},
        smallest=tuple(ONE.replace(T=T, N=3, lengths=lengths) for T, lengths in ((2, (1, 2, 2)), (2, (1, 1, 2)))),
    ),
    Fault(
        "LeavesOutputSorted",
        "leaves the output of a packed batch sorted, the longest sequence first",
        {"written": _leaves_output_sorted},
        smallest=(RISING,),
    ),
    Fault(
        "LeavesResultsSorted",
        "leaves output and h_n of a packed batch sorted, the longest sequence first",
        {
            "run": _leaves_hn_sorted_run,
            "final_gradients": _leaves_hn_sorted_final_gradients,
            "written": _leaves_output_sorted,
        },
        smallest=(RISING,),
    ),
)
