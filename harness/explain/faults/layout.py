"""layout: steps are taken for sequences, which gives the right shapes where there are as many of both."""

from __future__ import annotations

from collections.abc import Sequence

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, TIED, Fault
from harness.oracle.reference import Floats
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

TURNED = ONE.replace(batch_first=True, T=2, N=2)
SQUARE = tuple(ONE.replace(batch_first=True, T=n, N=n) for n in TIED)


class IgnoresBatchFirst(Fault):
    """ignores batch_first: it runs along the first axis all the same, which shows in values where T = N."""

    family = "layout"
    code = ("time = 0", lines.TIME_AXIS)
    smallest = SQUARE

    def time_major(self, array: Array, config: RNNConfig) -> Floats:
        right = super().time_major(array, config)
        return right.swapaxes(0, 1) if confused(config) else right

    def layout(self, array: Floats, config: RNNConfig) -> Floats:
        right = super().layout(array, config)
        return right.swapaxes(0, 1) if confused(config) else right


class ReadsXTimeFirst(Fault):
    """reads x as if time came first although batch_first is set, which shows in values where T = N."""

    family = "layout"
    code = ("x = np.moveaxis(x, 0, 0)", lines.TIME_FIRST)
    smallest = SQUARE

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        x = super().layer_input(case, layer, direction, below)
        return x.swapaxes(0, 1) if not layer and confused(case.config) else x


class ReturnsOutputTimeFirst(Fault):
    """returns the output with time first although batch_first is set, which shows in values where T = N."""

    family, stepwise = "layout", False
    code = ("output = np.moveaxis(output, 0, 0)", lines.AS_ASKED)
    smallest = SQUARE

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = super().written(case, layer, states)
        top = layer == case.config.num_layers - 1
        return output.swapaxes(0, 1) if top and confused(case.config) else output


class ReshapesX(Fault):
    """reshapes x to (T, N, input_size) with batch_first, where it should be transposed: sequences are mixed up."""

    family = "layout"
    code = ("x = x.reshape(T, N, -1)  # if batch_first", lines.TIME_FIRST)
    smallest = (TURNED,)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        x = super().layer_input(case, layer, direction, below)
        return x.swapaxes(0, 1).reshape(x.shape) if not layer and turned(case.config) else x


class ReshapesOutput(Fault):
    """reshapes the output to (N, T, ..) with batch_first, where it should be transposed: sequences are mixed up."""

    family, stepwise = "layout", False
    code = ("output = output.reshape(N, T, -1)  # if batch_first", lines.AS_ASKED)
    smallest = (TURNED,)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = super().written(case, layer, states)
        if layer < case.config.num_layers - 1 or not turned(case.config):
            return output
        return output.reshape(output.shape[1], output.shape[0], -1).swapaxes(0, 1)


class ReshapesHx(Fault):
    """reads hx as (N, layers * directions, hidden_size) with batch_first, which leaves nn.RNN's hx as it is."""

    family, stepwise = "layout", False
    code = ("hx = hx.reshape(N, L * D, H).swapaxes(0, 1)  # if batch_first", lines.HX)
    smallest = tuple(ONE.replace(batch_first=True, N=2, hx=True, num_layers=L, bidirectional=L == 1) for L in (1, 2))

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        mixed = config.batch_first and config.N > 0
        read = hx.reshape(hx.shape[1], hx.shape[0], -1).swapaxes(0, 1) if mixed else hx
        return super().hx_row(config, layer, direction, read)


def turned(config: RNNConfig) -> bool:
    """Whether the batch comes first, and there is one."""
    return config.batch_first and config.lengths is None and config.N > 0


def confused(config: RNNConfig) -> bool:
    """Whether steps can be taken for sequences, and nothing says that they are none."""
    return config.batch_first and config.T == config.N and config.lengths is None
