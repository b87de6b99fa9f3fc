"""readout: the linear layer on top is read out of something else, or not of every step."""

from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Fault
from benchmarks.planted.layer import Floats, Layer
from benchmarks.planted.over_time import late
from harness.space.case import Case
from harness.space.config import RNNConfig

READ = ONE.replace(output_size=1)


def _readout_ignores_bias_readout(right: Layer, output: Floats, weight: Floats, bias: Floats) -> Floats:
    return right.readout(output, weight, np.zeros_like(bias))


def _readout_ignores_bias_returned_gradient(right: Layer, config: RNNConfig, name: str, gradient: Floats) -> Floats:
    gradient = right.returned_gradient(config, name, gradient)
    return np.zeros_like(gradient) if name == "readout.bias.grad" else gradient


def _reads_out_forward_half_readout_input(right: Layer, config: RNNConfig, output: Floats) -> Floats:
    read = right.readout_input(config, output)
    return np.where(np.arange(read.shape[-1]) < config.hidden_size, read, 0.0) if config.bidirectional else read


def _reads_out_forward_half_output_gradient(right: Layer, case: Case) -> Floats:
    g, config = right.output_gradient(case), case.config
    if config.output_size is None or not config.bidirectional:
        return g
    return np.where(np.arange(g.shape[-1]) < config.hidden_size, g, 0.0)


def _reads_out_swapped_halves_readout_input(right: Layer, config: RNNConfig, output: Floats) -> Floats:
    return np.roll(right.readout_input(config, output), config.hidden_size * config.bidirectional, axis=-1)


def _reads_out_swapped_halves_output_gradient(right: Layer, case: Case) -> Floats:
    g, config = right.output_gradient(case), case.config
    return g if config.output_size is None else np.roll(g, config.hidden_size * config.bidirectional, axis=-1)


def _reads_out_in_turns_readout_input(right: Layer, config: RNNConfig, output: Floats) -> Floats:
    read = right.readout_input(config, output)
    apart = read.reshape(*read.shape[:-1], config.num_directions, config.hidden_size)
    return apart.swapaxes(-1, -2).reshape(read.shape)


def _reads_out_in_turns_output_gradient(right: Layer, case: Case) -> Floats:
    g, config = right.output_gradient(case), case.config
    if config.output_size is None or "readout.grad" not in case.cotangents:
        return g
    return g.reshape(*g.shape[:-1], config.hidden_size, config.num_directions).swapaxes(-1, -2).reshape(g.shape)


def _reads_out_late_readout_input(right: Layer, config: RNNConfig, output: Floats) -> Floats:
    return late(right.readout_input(config, output))


def _reads_out_late_output_gradient(right: Layer, case: Case) -> Floats:
    g = right.output_gradient(case)
    return g if case.config.output_size is None else late(g[::-1])[::-1]


def _reads_out_last_step_only_readout(right: Layer, output: Floats, weight: Floats, bias: Floats) -> Floats:
    return last_only(right.readout(output, weight, bias))


def _reads_out_last_step_only_readout_gradient(right: Layer, case: Case) -> Floats:
    return last_only(right.readout_gradient(case))


def last_only(array: Floats) -> Floats:
    """Put zeros in all steps of an array (T, ..) but the last."""
    return np.concatenate([np.zeros_like(array[:-1]), array[-1:]])


FAULTS: Final = (
    Fault(
        "ReadoutIgnoresBias",
        "ignores the readout's bias",
        {"readout": _readout_ignores_bias_readout, "returned_gradient": _readout_ignores_bias_returned_gradient},
        smallest=(READ,),
    ),
    Fault(
        "ReadsOutForwardHalf",
        "reads out the forward half of the output only",
        {
            "readout_input": _reads_out_forward_half_readout_input,
            "output_gradient": _reads_out_forward_half_output_gradient,
        },
        smallest=(READ.replace(bidirectional=True),),
    ),
    Fault(
        "ReadsOutSwappedHalves",
        "reads out the output with its reverse half before its forward half",
        {
            "readout_input": _reads_out_swapped_halves_readout_input,
            "output_gradient": _reads_out_swapped_halves_output_gradient,
        },
        smallest=(READ.replace(bidirectional=True),),
    ),
    Fault(
        "ReadsOutInTurns",
        "reads out the output as if its features alternated between the two directions",
        {"readout_input": _reads_out_in_turns_readout_input, "output_gradient": _reads_out_in_turns_output_gradient},
        smallest=(RNNConfig(1, 2, bidirectional=True, output_size=1),),
    ),
    Fault(
        "ReadsOutLate",
        "reads out the output one step late: that of t - 1 at step t, and zeros at the first",
        {"readout_input": _reads_out_late_readout_input, "output_gradient": _reads_out_late_output_gradient},
        smallest=(READ,),
    ),
    Fault(
        "ReadsOutLastStepOnly",
        "reads out the last time step only: the readout of the others stays zero",
        {"readout": _reads_out_last_step_only_readout, "readout_gradient": _reads_out_last_step_only_readout_gradient},
        smallest=(READ.replace(T=2),),
    ),
)
