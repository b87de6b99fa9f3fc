"""unexplained_cause: the known cause by which a search recognises a failure of unknown cause: by where it shows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from harness.checks.agreement import Observation
from harness.checks.relation_check import GRADIENT_SUFFIX
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import WholeCause
from harness.diagnosis.failure_conditions import FailureConditions, like
from harness.diagnosis.gradient_of_forward import own_derivative
from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.compare import Mismatch, MismatchKind
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.setting import Setting, reference_of
from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.values import draw
from harness.subjects.protocol import Subject

GRADIENT_DRAWS: Final = 4
"""The most draws of numbers by which a gradient is looked for.

Measured: all of hx.grad is zero in 39 of 200 draws with T=257, N=1, input_size=1 and hidden_size=1, so in four draws
of a row about once in 700; in none of 200 with 16 units, or with T=14.
"""


def _follows(subject: Subject, observation: Observation, first: Mismatch, factors: FailureConditions) -> bool:
    """Tell whether a gradient is wrong because the forward pass is, where that is known to be wrong.

    A gradient that is missing is missing whatever the numbers, so it is asked about on numbers that are drawn.
    """
    config = observation.case.config
    if not first.array.endswith(GRADIENT_SUFFIX) or first.relation or not factors.covers(config):
        return False
    if first.sort is MismatchKind.MISSING:
        drawn = (draw(config, "default", seed) for seed in range(GRADIENT_DRAWS))
        telling = next((case for case in drawn if reference_of(case.config).run(case.plain())[first.array].any()), None)
        return telling is not None and own_derivative(subject, telling) is not None
    runs = [(observation.case, observation.outcome)]
    runs += [observation.probed] if first.probed and observation.probed is not None else []
    return first.sort is MismatchKind.VALUE and any(
        (wide := own_derivative(subject, case)) is not None and _are(case, outcome.arrays, wide, observation.arithmetic)
        for case, outcome in runs
    )


def _are(case: Case, arrays: Mapping[str, Array], wide: Mapping[str, Array], arithmetic: Arithmetic) -> bool:
    """Tell whether the gradients of a case are those of the same computation in float64, within the case's tolerances.

    A gradient may be wrong in one dtype, or in one way of calling, alone.
    """
    if arithmetic.backend.grids is not None:  # gradients have no tolerance there
        return False
    with np.errstate(all="ignore"):
        expected = expect_whole_run(Setting.of(case, arithmetic))
    names = [name for name in case.config.gradients if name in arrays and name in wide and name in expected]
    return all((abs(arrays[name] - wide[name]) <= expected[name].tolerance).all() for name in names)


@dataclass(frozen=True)
class UnexplainedCause(WholeCause):
    """What recognises failures like a finding of unknown cause, on configs where that finding shows.

    An error of one line, or one end of the process, passes wherever it shows. If the finding is wrong in the
    forward pass, gradients pass, too, that are the derivative of what the subject itself computes.
    """

    first_result: Result
    factors: FailureConditions
    arrays: tuple[str, ...] = ()  # those, of what is returned on the way forward, that alone are not known, if any

    def explains(self, subject: Subject, observation: Observation, result: Result) -> bool:
        """Tell whether a failure is like the finding's, on a config that has all that the finding needs."""
        wrong = [mismatch.array for mismatch in result.mismatches if not mismatch.array.endswith(GRADIENT_SUFFIX)]
        if self.arrays and not set(wrong) <= set(self.arrays):
            return False
        if _told_by_relation(result, self.first_result) or (
            result.error is not None and result.error == self.first_result.error
        ):
            return True
        if like(result) != like(self.first_result):
            first = result.mismatches[0] if result.mismatches and like(self.first_result) == "values" else None
            return first is not None and _follows(subject, observation, first, self.factors)
        if is_of_form(self.first_result):
            return True
        return any(self.factors.covers(config) for config in _calls(observation.config, result))


def _calls(config: RNNConfig, result: Result) -> Iterator[RNNConfig]:
    """Yield the config and, if something was raised or died, those of the calls which a used module saw before."""
    yield config
    if config.preparation == "used" and result.verdict is Verdict.BROKEN:
        yield from config.calls_before


def _told_by_relation(result: Result, known: Result) -> bool:
    """Tell whether a relation's other run failed as was found: at the same line, or in the form of the same array.

    A process may end without a line.
    """
    first = result.mismatches[0] if result.mismatches else None
    if not result.relation or known.relation:
        return False
    if first is None:
        if known.failure is not None and known.raised_at is None:
            return result.raised == known.raised
        return result.raised_at is not None and result.raised_at == known.raised_at
    return is_of_form(known) and (first.array, first.sort) == (known.mismatches[0].array, known.mismatches[0].sort)


def is_of_form(result: Result) -> bool:
    """Tell whether something other than values is wrong; for such a kind, one finding says it all."""
    return bool(result.mismatches) and result.mismatches[0].sort in REGION_OF_FORM


REGION_OF_FORM: Final = {
    *(MismatchKind.MISSING, MismatchKind.UNEXPECTED, MismatchKind.SHAPE, MismatchKind.DTYPE, MismatchKind.MALFORMED),
    *(MismatchKind.CHANGED, MismatchKind.ALIASED, MismatchKind.OVERWRITTEN, MismatchKind.DERIVATIVE),
}
