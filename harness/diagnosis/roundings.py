"""roundings: errors that shrink with the dtype as roundings do, and as no mistake in what is computed does.

A subject that changes its weights and changes them back, or that takes a small difference of large numbers, is off by
more than the operations of nn.RNN can be, here and there. It computes the right thing: in float64 it is off by as many
units of that dtype's roundoff as in float32, which is 2**29 times less.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np

from harness.checks.agreement import Observation, assess
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import Question, WholeCause
from harness.diagnosis.fresh_cases import wider
from harness.diagnosis.value_threshold import drawn
from harness.oracle.arithmetic_assumptions import FORMATS
from harness.oracle.bounded_array import to_float64
from harness.oracle.compare import MismatchKind
from harness.oracle.setting import reference_of
from harness.space.case import Array, Case
from harness.space.factor_table import ConfigError
from harness.space.refit import fitted
from harness.space.scope import Scope
from harness.subjects.protocol import Subject

ROUNDED_DTYPES: Final = ("float32", "float64")  # a subject must be asked for the last one, or nothing is told

LARGEST_ERROR: Final = 2.0**12
"""The largest error, in units of u of the largest number of a case. In float64 it is 2**-41 of that: on drawn numbers,
a mistake in what is computed makes a larger difference, but for a chance of that size for each number."""

ROUNDING_SEEDS: Final = 8  # the cases that are drawn of each config and dtype; their gradients and signs differ in size

FRESH_BEYOND_ROUNDING: Final = 3  # the fresh cases on which it must be off by more than its operations can be

EXPECTED_MARGIN: Final = 4.0  # what is expected of other cases over what is measured: it is the largest of some 30 only

HINT: Final = (
    "such roundings are left by numbers that are changed and changed back (w -= d, later w += d), and by a small "
    "difference of large ones (old - new)"
)


@dataclass(frozen=True)
class RoundingOnlyCause(WholeCause):
    """The largest errors of a subject whose errors are roundings, in units of u of the largest number of the case."""

    off: Mapping[str, float]  # by dtype
    fresh: int

    @property
    def sentence(self) -> str:
        sizes = [f"{float(f'{units / 2:.2g}'):g} ulp in {dtype}" for dtype, units in self.off.items()]
        return f"rounds more than nn.RNN's operations can: it is off by up to {' and '.join(sizes)}"

    @property
    def evidence(self) -> str:
        return (
            f"its errors shrink with the dtype's roundoff, on this case and on {self.fresh} fresh ones; "
            "an ulp is one of the largest number of the case"
        )

    def explains(self, _subject: Subject, observation: Observation, result: Result) -> bool:
        """Tell whether all that is wrong is wrong by as little."""
        if observation.unfit is not None or not _of_value(result):
            return False
        runs = [(observation.case, observation.outcome), *([] if observation.probed is None else [observation.probed])]
        largest = max(_largest({**case.arrays, **outcome.arrays}) for case, outcome in runs)
        within = EXPECTED_MARGIN * max(self.off.values()) * FORMATS[observation.case.config.dtype].u * largest
        return all(site.difference <= within for mismatch in result.mismatches for site in mismatch.sites)


def roundings_of(question: Question) -> RoundingOnlyCause | None:
    """Return how large a subject's errors are, if they are roundings on a failing case and on fresh ones."""
    observations, finding, scope = question.observations, question.finding, question.scope
    result, config = finding.result, finding.case.config
    dtypes = [dtype for dtype in ROUNDED_DTYPES if scope.allows("dtype", dtype)]
    if result.inaccurate:  # the errors of a tanh are roundings, too, and which they are was measured
        return None
    if not _of_value(result) or config.dtype not in dtypes or dtypes[-1] != ROUNDED_DTYPES[-1]:
        return None
    off, failing = dict[str, float](), 0
    for number, case in enumerate(_cases(finding.case, dtypes, scope)):
        observation = observations.of(case, with_probes=False)
        if observation.unfit is not None:
            continue
        units = _units(observation)
        if not units <= LARGEST_ERROR:
            return None
        dtype = case.config.dtype
        off[dtype] = max(off.get(dtype, 0.0), units)
        failing += number > 0 and assess(observation, soft=False).verdict is Verdict.DISAGREES
    return RoundingOnlyCause(off, failing) if failing >= FRESH_BEYOND_ROUNDING and ROUNDED_DTYPES[-1] in off else None


def _cases(case: Case, dtypes: list[str], scope: Scope) -> Iterator[Case]:
    yield case
    for config in dict.fromkeys((case.config, wider(case.config, scope))):
        for number in range(ROUNDING_SEEDS):
            generic = drawn(config, number)
            for dtype in dtypes:
                with suppress(ConfigError):  # autocast is of float32 alone
                    yield fitted(generic, config.replace(dtype=dtype))


def _of_value(result: Result) -> bool:
    return bool(result.mismatches) and all(
        mismatch.sort in {MismatchKind.VALUE, MismatchKind.SUSPICIOUS} for mismatch in result.mismatches
    )


def _units(observation: Observation) -> float:
    """Return the largest error of a case, in units of u of its largest number."""
    with np.errstate(all="ignore"):
        right = reference_of(observation.case.config).run(observation.case)
    arrays = {name: to_float64(array) for name, array in observation.outcome.arrays.items() if name in right}
    largest = _largest({**observation.case.arrays, **{f"right {name}": right[name] for name in arrays}})
    if not 0 < largest < np.inf:
        return np.inf
    off = max(float(np.abs(array - right[name]).max(initial=0)) for name, array in arrays.items())
    return off / largest / FORMATS[observation.case.config.dtype].u


def _largest(arrays: Mapping[str, Array]) -> float:
    """Return the largest number of some arrays; padding is NaN."""
    return max((float(np.nanmax(np.abs(to_float64(a)), initial=0)) for a in arrays.values()), default=0.0)
