"""cut_off: a subject without a gradient as one whose gradient is zero, so that numbers tell what cuts it off."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from harness.checks.agreement import check_agreement
from harness.checks.lawfulness import GRADIENTS
from harness.checks.result import Verdict
from harness.diagnosis.diagnose import nameable
from harness.oracle.arithmetic import Accepted
from harness.oracle.compare import Sort
from harness.search.record import Finding
from harness.space.case import Case
from harness.space.outcome import Outcome
from harness.space.values import draw
from harness.subjects.protocol import Subject

# The values of the cases on which the gradient that should not be zero is looked for; one of each.
REGIMES: Final = ("default", "normal")


class Completed:
    """A subject whose missing gradients are zeros. Autograd has none for what it is not connected to."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.name, self.capabilities = subject.name, subject.capabilities

    def devices(self) -> tuple[str, ...]:
        """Return the subject's devices."""
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        """Run the case, and add the gradients that are missing."""
        outcome, config = self._subject.run(case), case.config
        if outcome.failure is not None:
            return outcome
        zeros = {name: np.zeros(spec.shape, config.dtype_of(name)) for name, spec in config.gradients.items()}
        return replace(outcome, arrays={**zeros, **outcome.arrays})


def with_numbers(subject: Subject, finding: Finding, accepted: Accepted) -> tuple[Subject, Finding] | None:
    """Return a completed subject, and a case of the finding's config on which it disagrees by numbers.

    The result is ``None`` if something else than gradients is missing, or if the completed subject is right.
    """
    mismatches = finding.result.mismatches
    if not mismatches or any(one.sort is not Sort.MISSING or not one.array.endswith(GRADIENTS) for one in mismatches):
        return None
    completed = Completed(subject)
    for regime in REGIMES:
        case = draw(finding.case.config, regime)
        result = check_agreement(completed, case, accepted=accepted)
        if result.verdict is Verdict.DISAGREES and nameable(made := replace(finding, case=case, result=result)):
            return completed, made
    return None
