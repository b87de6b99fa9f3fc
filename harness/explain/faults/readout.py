"""readout: the linear layer on top is read out of something else, or not of every step."""

from __future__ import annotations

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault
from harness.explain.faults.over_time import late
from harness.oracle.reference import Floats
from harness.space.case import Case
from harness.space.config import RNNConfig

READ = ONE.replace(output_size=1)


class ReadoutIgnoresBias(Fault):
    """ignores the readout's bias."""

    role, family = "readout.bias", "readout"
    code = ("y = output @ W_out.T", lines.READOUT)
    smallest = (READ,)

    def readout(self, output: Floats, weight: Floats, bias: Floats) -> Floats:
        return super().readout(output, weight, np.zeros_like(bias))

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        gradient = super().returned_gradient(config, name, gradient)
        return np.zeros_like(gradient) if name == "readout.bias.grad" else gradient


class ReadsOutForwardHalf(Fault):
    """reads out the forward half of the output only."""

    role, family = "readout.weight", "readout"
    code = ("y = output[..., :H] @ W_out[:, :H].T + b_out", lines.READOUT)
    smallest = (READ.replace(bidirectional=True),)

    def readout_input(self, config: RNNConfig, output: Floats) -> Floats:
        read = super().readout_input(config, output)
        return np.where(np.arange(read.shape[-1]) < config.hidden_size, read, 0.0) if config.bidirectional else read

    def output_gradient(self, case: Case) -> Floats:
        g, config = super().output_gradient(case), case.config
        if config.output_size is None or not config.bidirectional:
            return g
        return np.where(np.arange(g.shape[-1]) < config.hidden_size, g, 0.0)


class ReadsOutSwappedHalves(Fault):
    """reads out the output with its reverse half before its forward half."""

    role, family = "readout.weight", "readout"
    code = ("y = np.roll(output, H, -1) @ W_out.T + b_out", lines.READOUT)
    smallest = (READ.replace(bidirectional=True),)

    def readout_input(self, config: RNNConfig, output: Floats) -> Floats:
        return np.roll(super().readout_input(config, output), config.hidden_size * config.bidirectional, axis=-1)

    def output_gradient(self, case: Case) -> Floats:
        g, config = super().output_gradient(case), case.config
        return g if config.output_size is None else np.roll(g, config.hidden_size * config.bidirectional, axis=-1)


class ReadsOutInTurns(Fault):
    """reads out the output as if its features alternated between the two directions."""

    role, family = "readout.weight", "readout"
    code = ("read = np.stack([forward, reverse], -1).reshape(T, N, -1)", lines.READ_OUT)
    smallest = (RNNConfig(1, 2, bidirectional=True, output_size=1),)

    def readout_input(self, config: RNNConfig, output: Floats) -> Floats:
        read = super().readout_input(config, output)
        apart = read.reshape(*read.shape[:-1], config.num_directions, config.hidden_size)
        return apart.swapaxes(-1, -2).reshape(read.shape)

    def output_gradient(self, case: Case) -> Floats:
        g, config = super().output_gradient(case), case.config
        if config.output_size is None or "readout.grad" not in case.cotangents:
            return g
        return g.reshape(*g.shape[:-1], config.hidden_size, config.num_directions).swapaxes(-1, -2).reshape(g.shape)


class ReadsOutLate(Fault):
    """reads out the output one step late: that of t - 1 at step t, and zeros at the first."""

    family = "readout"
    code = ("y[t] = (output[t - 1] if t > 0 else 0 * output[t]) @ W_out.T + b_out", lines.READOUT_STEP)
    smallest = (READ,)

    def readout_input(self, config: RNNConfig, output: Floats) -> Floats:
        return late(super().readout_input(config, output))

    def output_gradient(self, case: Case) -> Floats:
        g = super().output_gradient(case)
        return g if case.config.output_size is None else late(g[::-1])[::-1]


class ReadsOutLastStepOnly(Fault):
    """reads out the last time step only: the readout of the others stays zero."""

    family = "readout"
    code = ("y[-1] = output[-1] @ W_out.T + b_out", lines.READOUT_STEP)
    smallest = (READ.replace(T=2),)

    def readout(self, output: Floats, weight: Floats, bias: Floats) -> Floats:
        return last_only(super().readout(output, weight, bias))

    def readout_gradient(self, case: Case) -> Floats:
        return last_only(super().readout_gradient(case))


def last_only(array: Floats) -> Floats:
    """The array (T, ..) with zeros in all steps but the last."""
    return np.concatenate([np.zeros_like(array[:-1]), array[-1:]])
