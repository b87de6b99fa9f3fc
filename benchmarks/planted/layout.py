"""layout: steps are taken for sequences, which gives the right shapes where there are as many of both."""

from collections.abc import Sequence
from typing import Final

from benchmarks.planted.base import ONE, TIED, Fault
from benchmarks.planted.layer import Floats, Layer
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

TURNED = ONE.replace(batch_first=True, T=2, N=2)
SQUARE = tuple(ONE.replace(batch_first=True, T=n, N=n) for n in TIED)


def _ignores_batch_first_time_major(right: Layer, array: Array, config: RNNConfig) -> Floats:
    as_asked = right.time_major(array, config)
    return as_asked.swapaxes(0, 1) if confused(config) else as_asked


def _ignores_batch_first_layout(right: Layer, array: Floats, config: RNNConfig) -> Floats:
    as_asked = right.layout(array, config)
    return as_asked.swapaxes(0, 1) if confused(config) else as_asked


def _reads_x_time_first(right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
    x = right.layer_input(case, layer, direction, below)
    return x.swapaxes(0, 1) if not layer and confused(case.config) else x


def _returns_output_time_first(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output = right.written(case, layer, states)
    top = layer == case.config.num_layers - 1
    return output.swapaxes(0, 1) if top and confused(case.config) else output


def _reshapes_x(right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
    x = right.layer_input(case, layer, direction, below)
    return x.swapaxes(0, 1).reshape(x.shape) if not layer and turned(case.config) else x


def _reshapes_output(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output = right.written(case, layer, states)
    if layer < case.config.num_layers - 1 or not turned(case.config):
        return output
    return output.reshape(output.shape[1], output.shape[0], -1).swapaxes(0, 1)


def _reshapes_hx(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    mixed = config.batch_first and config.N > 0
    read = hx.reshape(hx.shape[1], hx.shape[0], -1).swapaxes(0, 1) if mixed else hx
    return right.hx_row(config, layer, direction, read)


def _returns_gradient_of_x_time_first(right: Layer, config: RNNConfig, name: str, gradient: Floats) -> Floats:
    gradient = right.returned_gradient(config, name, gradient)
    return gradient.swapaxes(0, 1) if name == "x.grad" and confused(config) else gradient


def turned(config: RNNConfig) -> bool:
    """Tell whether the batch comes first, and there is one."""
    return config.batch_first and config.lengths is None and config.N > 0


def confused(config: RNNConfig) -> bool:
    """Tell whether steps can be taken for sequences, and nothing says that they are none."""
    return config.batch_first and config.T == config.N and config.lengths is None


FAULTS: Final = (
    Fault(
        "IgnoresBatchFirst",
        "ignores batch_first: it always runs along the first axis, which shows in values where T = N",
        {"time_major": _ignores_batch_first_time_major, "layout": _ignores_batch_first_layout},
        smallest=SQUARE,
    ),
    Fault(
        "ReadsXTimeFirst",
        "reads x as if time came first although batch_first is set, which shows in values where T = N",
        {"layer_input": _reads_x_time_first},
        smallest=SQUARE,
    ),
    Fault(
        "ReturnsOutputTimeFirst",
        "returns the output with time first although batch_first is set, which shows in values where T = N",
        {"written": _returns_output_time_first},
        smallest=SQUARE,
    ),
    Fault(
        "ReshapesX",
        "reshapes x to (T, N, input_size) with batch_first, where it should be transposed: sequences are mixed up",
        {"layer_input": _reshapes_x},
        smallest=(TURNED,),
    ),
    Fault(
        "ReshapesOutput",
        "reshapes the output to (N, T, ..) with batch_first, where it should be transposed: sequences are mixed up",
        {"written": _reshapes_output},
        smallest=(TURNED,),
    ),
    Fault(
        "ReshapesHx",
        "reads hx as (N, layers * directions, hidden_size) with batch_first, which does not change nn.RNN's hx",
        {"hx_row": _reshapes_hx},
        smallest=tuple(ONE.replace(batch_first=True, N=2, hx=True, num_layers=L, bidirectional=L == 1) for L in (1, 2)),
    ),
    Fault(
        "ReturnsGradientOfXTimeFirst",
        "returns x's gradient with time first although batch_first is set, which shows in values where T = N",
        {"returned_gradient": _returns_gradient_of_x_time_first},
        smallest=tuple(config.replace(loss="output") for config in SQUARE),
    ),
)
