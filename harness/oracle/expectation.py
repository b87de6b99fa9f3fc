"""expectation: what a correct subject may give on a case, each element with its expected value and its allowance.

Step-local where the subject's own states are known: every state is compared with one step of the reference taken at
the subject's own input and previous state, so that errors neither accumulate nor explode. End to end otherwise: the
allowance is carried along from step to step and layer to layer, which stays sound but soon goes blind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.oracle.reference import Floats, Reference, readout_weights
from harness.oracle.tolerance import Step, linear_allowance, step_allowance
from harness.space.case import Array, Case


class Expected(NamedTuple):
    """An array's expected values, and the largest difference from each that rounding can explain (inf: exempt)."""

    values: Floats
    allowance: Floats


class Operand(NamedTuple):
    """What a step reads: its values, and how far they may be off (``None``: exact)."""

    values: Floats
    error: Floats | None = None


class LocalExpectation(NamedTuple):
    """What each step may give, the subject's own states being what they are."""

    arrays: dict[str, Expected]
    """``output``, ``h_n`` and ``readout`` of the whole stack."""
    inner: list[Expected]
    """The output of every layer below the top."""


def expect_local(reference: Reference, case: Case, states: Sequence[Array]) -> LocalExpectation:
    """What the case's arrays may be, given the subject's own output of every layer.

    ``states[l]`` is the output of the first l + 1 layers as the subject returned it, (T, N, D*H) or (N, T, D*H).
    """
    config = case.config
    x = below = reference.time_major(case.x, config)
    final: dict[tuple[int, int], Expected] = {}
    outputs: list[Expected] = []
    for layer, array in enumerate(states):
        given = x if layer == 0 else below
        below = reference.time_major(array, config)
        output = Expected(np.empty_like(below), np.empty_like(below))
        for direction in range(config.num_directions):
            part = reference.features(config, direction)
            own = below[..., part]
            order = np.asarray(reference.time_order(config, direction))
            previous = np.empty_like(own)
            previous[order[0]] = reference.initial_state(case, layer, direction)
            previous[order[1:]] = own[order[:-1]]
            values, allowance = _step(reference, case, (layer, direction), Operand(given), Operand(previous))
            output.values[..., part], output.allowance[..., part] = values, allowance
            last = reference.final_step(config, direction)
            final[layer, direction] = Expected(values[last], allowance[last])
        outputs.append(output)
    arrays = _assemble(reference, case, outputs[-1], final, Expected(below, np.zeros_like(below)))
    return LocalExpectation(arrays, [_laid_out(reference, case, "output", output) for output in outputs[:-1]])


def single_step_states(reference: Reference, case: Case, h_n: Array) -> list[Array]:
    """The output of every layer of a case with a single time step, where h_n (L*D, N, H) holds them all."""
    config = case.config
    states = [np.empty((1, config.N, config.num_directions * config.hidden_size)) for _ in range(config.num_layers)]
    for (layer, direction), row in zip(reference.h_n_order(config), h_n, strict=True):
        states[layer][0][..., reference.features(config, direction)] = row
    return [reference.laid_out("output", array, config) for array in states]


def expect_end_to_end(reference: Reference, case: Case) -> dict[str, Expected]:
    """``output``, ``h_n`` and ``readout`` of the case, knowing nothing of the subject's states."""
    config = case.config
    x = reference.time_major(case.x, config)
    below = Expected(x, np.zeros_like(x))
    final: dict[tuple[int, int], Expected] = {}
    for layer in range(config.num_layers):
        shape = (config.T, config.N, config.num_directions * config.hidden_size)
        output = Expected(np.empty(shape), np.empty(shape))
        for direction in range(config.num_directions):
            part = reference.features(config, direction)
            h = reference.initial_state(case, layer, direction)
            state = Expected(h, np.zeros_like(h))
            for t in reference.time_order(config, direction):
                x_t = Operand(below.values[t], below.allowance[t])
                state = _step(reference, case, (layer, direction), x_t, Operand(*state))
                output.values[t][..., part], output.allowance[t][..., part] = state
            last = reference.final_step(config, direction)
            final[layer, direction] = Expected(output.values[last][..., part], output.allowance[last][..., part])
        below = output
    return _assemble(reference, case, below, final, below)


def _step(reference: Reference, case: Case, at: tuple[int, int], x: Operand, h: Operand) -> Expected:
    w, kind = reference.step_weights(case, *at), reference.nonlinearity(case.config)
    with np.errstate(over="ignore", invalid="ignore"):
        s = reference.preactivation(x.values, h.values, w)
        y = reference.activation(s, kind)
    step = Step(x.values, h.values, *w)
    return Expected(y, step_allowance(step, s, y, kind, case.config.dtype, x_error=x.error, h_error=h.error))


def _assemble(
    reference: Reference, case: Case, output: Expected, final: dict[tuple[int, int], Expected], read: Expected
) -> dict[str, Expected]:
    """Every array in the caller's layout; the readout is taken of ``read``."""
    config = case.config
    rows = [final[key] for key in reference.h_n_order(config)]
    arrays = {
        "output": output,
        "h_n": Expected(np.stack([row.values for row in rows]), np.stack([row.allowance for row in rows])),
    }
    if config.output_size is not None:
        weight, bias = readout_weights(case)
        with np.errstate(over="ignore", invalid="ignore"):
            y = reference.readout(read.values, weight, bias)
        allowance = linear_allowance(read.values, weight, bias, config.dtype, x_error=read.allowance)
        arrays["readout"] = Expected(y, allowance)
    return {name: _laid_out(reference, case, name, expected) for name, expected in arrays.items()}


def _laid_out(reference: Reference, case: Case, name: str, expected: Expected) -> Expected:
    return Expected(*(reference.laid_out(name, part, case.config) for part in expected))
