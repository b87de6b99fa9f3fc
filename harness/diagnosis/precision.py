"""precision: the tests that tell whether a difference looks like coarser arithmetic, and how many bits that has.

Three questions are asked of a single time step, whose operands are all known; of a layer of gates, of the sum of one of
them, where the others are open or closed. Do the numbers that come back have fewer
significant bits than their dtype? How far is the activation off where the preactivation is exact, on small dyadic
numbers? And where the preactivation is rounded, is the activation's error like noise in proportion to the terms, and
how large is it?
"""

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from harness.checks.activation_accuracy import FEWEST_BITS, VIEWS, bits_of, significant_bits, split
from harness.checks.agreement import Observation, assess, holds_output
from harness.checks.result import Verdict
from harness.diagnosis.observation_cache import ObservationCache
from harness.oracle.arithmetic_assumptions import (
    TOLERANCES,
    U64,
    AcceptedErrors,
    Arithmetic,
    accepted as tolerance_of,
    function_tolerance,
)
from harness.oracle.array_layout import time_major
from harness.oracle.bounded_array import Floats, to_float64
from harness.oracle.setting import REFERENCE, reference_of
from harness.oracle.tolerance import REFERENCE_TANH_ERROR
from harness.oracle.unroll import StepWeights, initial_states, step_weights
from harness.space.case import Case
from harness.space.values import draw

# The number of cases of each kind: with N H = 64 numbers each, the standard error of a root mean square is 4 %.
PRECISION_SEEDS: Final = 6

# The formats, by the bits of their significand, the leading one included.
FORMAT_NAMES: Final = {53: "float64", 24: "float32", 11: "TF32 or float16", 8: "bfloat16"}

NOISE: Final = 8.0
"""The largest error over the root mean square that passes for noise. Of 384 numbers uniform in [-1, 1] it is 1.7, of
normal ones about 3. A value that is wrong here and there has a few large errors among many zeros."""


STANDARD_ERRORS: Final = 4.0
"""The number of standard errors of a mean that noise leaves. Beyond them, errors lean to one side, as those of a wrong
factor or bias do."""

MOST_TANH_STATE: Final = 0.9
"""The limit below which states of tanh are used: beyond it, the slope is so small that their own rounding hides what
came before."""

VARIANCE: Final = 1 / (8 * np.log(2))
"""The variance of an operand's relative rounding error, in units of u**2. To p bits, u = 2**-p, a significand M in
[1/2, 1) is off by at most u / 2, uniformly, so relatively by a mean square of (u / 2)**2 / 3 / M**2. Over M, whose
logarithm is uniform, 1 / M**2 averages 3 / (2 log 2): v = 1 / (8 log 2)."""

TINY_FLOAT64: Final = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class ShownPrecision:
    """The properties that a subject's arithmetic shows."""

    dtype_bits: int  # The bits of the dtype's significand
    returned_bits: int  # The significant bits of the numbers that it returns
    returned_error: float  # The largest error of these numbers; above 1, it is relative to them
    activation_error: float  # The largest error of the activation where the preactivation is exact
    activation_units: float  # The same error, relative to the largest that is assumed of it
    sum_bits: float | None
    """The bits of the operands that rounding errors of that size would come from; ``None`` if the errors are not like
    noise."""
    # The first looser tolerance under which the finding's case, and those asked here, would agree.
    accepted_by: str | None
    of: str = "results"  # the numbers that come back: results, or gradients

    @property
    def explains(self) -> bool:
        """True if coarser arithmetic is what was seen."""
        return self.rounds_results or self.coarse_activation or self.coarse_sums

    @property
    def rounds_results(self) -> bool:
        """True if what comes back has fewer bits than the dtype: of hundreds of numbers, some would need the last.

        Zeros, or other plain numbers in the place of right ones, are no roundings of these.
        """
        return FEWEST_BITS <= self.returned_bits < self.dtype_bits and self.returned_error < 2.0**-FEWEST_BITS

    @property
    def coarse_sums(self) -> bool:
        """True if sums err as if their operands had some format's bits, and more than two fewer than the dtype.

        It must explain the failing case, too: what one sequence takes of another one looks like noise as well.
        """
        few = self.sum_bits is not None and min(FORMAT_NAMES) - 2 <= self.sum_bits < self.dtype_bits - 2
        return few and self.accepted_by is not None

    @property
    def coarse_activation(self) -> bool:
        """True if the activation is off, though not by as much as a mistake would be, and its argument is not.

        Its error must explain the failing case, too: a sum that is wrong now and then is off by much there.
        """
        return self.activation_units > 1 and self.activation_error < 2.0**-FEWEST_BITS and self.accepted_by is not None


class _SingleStep(NamedTuple):
    """One case of a single step: what came back, what was expected of it, and the sizes that scale its errors."""

    observation: Observation
    actual: Floats
    expected: Floats
    s: Floats
    scale: Floats
    """The root mean square error of s, in units of the operands' roundoff: sqrt(2 q v), with q the sum of squared
    terms."""


def estimate(observations: ObservationCache, case: Case) -> ShownPrecision | None:
    """Estimate how precise a subject's arithmetic is, around a case; ``None`` where it cannot be asked.

    Sizes are 8 where the subject accepts that, so that sums are long enough to round, else those of the case. A failure
    that takes several steps to show needs a state that is not zero, which a single step has if it is given one.
    """
    near = case.forward().config.replace(T=1, num_layers=1, dropout=0.0, output_size=None)
    if near.gated:
        if (near.cell, "tanh") not in VIEWS:
            return None
        near = near.replace(proj_size=0, bias=True)
    larger = {"input_size": 8, "hidden_size": 8} | ({"N": 8} if near.batched else {})
    states = ({"hx": True}, {}) if case.config.T > 1 else ({},)
    first: ShownPrecision | None = None
    for config in (near.replace(**sizes, **state) for sizes in (larger, {}) for state in states):
        exact = [
            _see(observations, _of_one_sum(_of_biases(draw(config, "dyadic", seed)))) for seed in range(PRECISION_SEEDS)
        ]
        rounded = [_see(observations, _of_one_sum(draw(config, "normal", seed))) for seed in range(PRECISION_SEEDS)]
        if None not in exact + rounded:
            plain, generic = ([step for step in cases if step] for cases in (exact, rounded))
            if _all_agree([step.observation for step in plain + generic], observations.accepted):
                return first
            precision = _estimated(plain, generic, observations.of(case))
            if precision.explains:
                return precision
            first = first or precision  # another mistake may show at larger sizes alone
    return first


def _of_biases(case: Case) -> Case:
    """Return a case whose preactivation is the sum of its biases, if it has some: a matrix may have become another."""
    if not case.config.bias:
        return case
    return Case.from_arrays(case.config, {n: a * 0 if n.startswith("weight") else a for n, a in case.arrays.items()})


def _of_one_sum(case: Case) -> Case:
    """Return a case in which the tanh of one sum shows: nn.RNN's, or that of a gate, with others open or closed."""
    if not case.config.gated:
        return case
    [view], gates = VIEWS[case.config.cell, "tanh"], case.config.form.gates
    arrays = {name: array.copy() for name, array in case.arrays.items()}
    for name in case.weights:
        for gate, block in zip(gates, np.split(arrays[name], len(gates)), strict=True):
            if gate != view.swept:
                block[...] = view.biases.get(gate, 0.0) * name.startswith("bias_ih")
    return Case.from_arrays(case.config, arrays)


def estimate_arrays(observations: ObservationCache, case: Case) -> ShownPrecision | None:
    """Estimate how many bits the first array of a subject has that has fewer than the dtype; ``None`` if none has.

    With a loss, gradients are looked at.
    """
    near = case.config.replace(num_layers=1, dropout=0.0, output_size=None)
    larger = {"input_size": 8, "hidden_size": 8} | ({"N": 8} if near.batched and near.lengths is None else {})
    for config in (near.replace(**larger), near):
        observed = [observations.of(draw(config, "normal", seed), with_probes=False) for seed in range(PRECISION_SEEDS)]
        if all(observation.unfit is None for observation in observed):
            break
    else:
        return None
    bits = bits_of(observed[0].arithmetic.format.u)
    with np.errstate(all="ignore"):
        right = [reference_of(config).run(observation.case) for observation in observed]
    precisions: list[ShownPrecision] = []
    config = observed[0].case.config
    for name in config.outputs if config.loss is None else config.gradients:
        if any(name not in observation.outcome.arrays for observation in observed):
            continue
        arrays = [to_float64(observation.outcome.arrays[name]) for observation in observed]
        what = f"values of {name}" if config.loss is None else "gradients"
        returned = _returned(arrays, [run[name] for run in right])
        precisions.append(ShownPrecision(bits, *returned, 0.0, 0.0, None, None, what))
    return next((precision for precision in precisions if precision.rounds_results), None)


def _returned(arrays: list[Floats], expected: list[Floats]) -> tuple[int, float]:
    """Return the significant bits of what was returned, and its largest error."""
    actual, right = (np.concatenate([array.ravel() for array in several]) for several in (arrays, expected))
    return significant_bits(actual), float((np.abs(actual - right) / np.maximum(np.abs(right), 1)).max(initial=0))


def _see(observations: ObservationCache, case: Case) -> _SingleStep | None:
    observation, block, name = observations.of(case), slice(None), "h_n"
    if case.config.gated:
        view, H = VIEWS[case.config.cell, "tanh"][0], case.config.hidden_size
        first = case.config.form.gates.index(view.swept) * H
        block, name = slice(first, first + H), view.shows.replace("output", "h_n")
    last = observation.outcome.arrays.get(name)
    if last is None or last.shape != case.config.outputs[name].shape or not np.isfinite(last).all():
        return None
    if "output" in observation.outcome.arrays and not holds_output(observation.case.config, observation.outcome.arrays):
        return None  # a copy went wrong, and no arithmetic
    rows = []
    for d in range(case.config.num_directions):
        w, h = step_weights(case, (0, d)), initial_states(case, (0, d))[0]
        w = StepWeights(*(array[block] for array in w[:4]))
        x = time_major(case.x, case.config)[0]
        s = REFERENCE.preactivation(x, h, w)
        q = x**2 @ (w.ih**2).T + h**2 @ (w.hh**2).T + w.b_ih**2 + w.b_hh**2
        rows.append((s, REFERENCE.activation(s, case.config.nonlinearity), np.sqrt(2 * q * VARIANCE)))
    s, expected, scale = (np.stack(part) for part in zip(*rows, strict=True))
    return _SingleStep(observation, to_float64(last), expected, s, scale)


def _estimated(exact: list[_SingleStep], rounded: list[_SingleStep], failing: Observation) -> ShownPrecision:
    arithmetic = exact[0].observation.arithmetic
    narrow = arithmetic.dtype in {"bfloat16", "float16"}  # too narrow for dyadic sums to be exact
    off, units = 0.0, 0.0
    for step in exact if not narrow else ():
        difference = np.abs(step.actual - step.expected)
        off = max(off, float(difference.max()))
        assumed = (arithmetic.tanh_error + REFERENCE_TANH_ERROR * U64) * np.abs(step.expected)
        assumed += arithmetic.tanh_absolute + TINY_FLOAT64
        units = max(units, float((difference / assumed).max()))
    of_tanh = _tanh_profile(exact, arithmetic) if units > 1 else None
    observations = [failing, *(step.observation for step in rounded)]
    looser = [] if of_tanh is None else [of_tanh]
    looser += [n for n, tolerance in TOLERANCES.items() if tolerance.product_error > arithmetic.accepted.product_error]
    tolerances = (name for name in looser if _all_agree(observations, tolerance_of(name)))
    bits, error = _returned([step.actual for step in rounded], [step.expected for step in rounded])
    return ShownPrecision(
        dtype_bits=bits_of(arithmetic.format.u),
        returned_bits=bits,
        returned_error=error,
        activation_error=off,
        activation_units=units,
        sum_bits=_sum_bits(rounded),
        accepted_by=next(tolerances, None),
    )


def _tanh_profile(exact: list[_SingleStep], arithmetic: Arithmetic) -> str | None:
    """Return the tolerance that the errors of tanh fit into, in whole ulp; ``None`` for another activation."""
    if exact[0].observation.case.config.nonlinearity != "tanh":
        return None
    off = np.concatenate([np.abs(step.actual - step.expected).ravel() for step in exact])
    right = np.concatenate([step.expected.ravel() for step in exact])
    relative, absolute = split(off[right != 0], right[right != 0], arithmetic.format.u)
    return function_tolerance("tanh", 2 * math.ceil(relative / 2), absolute)


def _sum_bits(cases: list[_SingleStep]) -> float | None:
    relu = cases[0].observation.case.config.nonlinearity == "relu"
    noise: list[Floats] = []
    signs: list[Floats] = []
    for step in cases:
        sloped = step.expected > 0 if relu else np.abs(step.expected) < MOST_TANH_STATE
        slope = np.ones_like(step.expected) if relu else 1 - step.expected**2
        z = (step.actual - step.expected) / (slope * step.scale)
        noise.append(z[sloped])
        signs.append(np.sign(step.s[sloped]))
    z, sign = np.concatenate(noise), np.concatenate(signs)
    size = float(np.sqrt((z**2).mean())) if z.size else 0.0
    drift = STANDARD_ERRORS * size / np.sqrt(max(z.size, 1))
    like_noise = np.abs(z).max(initial=0) <= NOISE * size and max(abs(z.mean()), abs((z * sign).mean())) <= drift
    if not 0 < size < 2.0**-FEWEST_BITS or not like_noise:
        return None
    return float(-np.log2(size))


def _all_agree(observations: list[Observation], tolerance: AcceptedErrors) -> bool:
    for observation in observations:
        within = tolerance.in_dtype(observation.case.config.dtype)
        within = within.beside(observation.arithmetic.accepted)
        arithmetic = replace(observation.arithmetic, accepted=within)
        if assess(replace(observation, arithmetic=arithmetic)).verdict is not Verdict.AGREES:
            return False
    return True
