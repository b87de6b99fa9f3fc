"""Observations of a subject while a failure is explained: what was seen on a case is handed on."""

from dataclasses import replace

from harness.checks.agreement import Observation, assess, observe
from harness.checks.result import Verdict
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors
from harness.oracle.compare import OF_VALUE
from harness.search.search_record import Finding
from harness.space.case import Case
from harness.space.outcome import Outcome
from harness.subjects.protocol import Subject


class ObservationCache:
    """The observations of a subject under a tolerance, by case.

    A ``nondeterministic`` subject is observed anew each time, because one of its answers says little of the next.
    """

    def __init__(self, subject: Subject, accepted: AcceptedErrors = STRICT, *, nondeterministic: bool = False) -> None:
        self.subject, self.accepted, self.nondeterministic = subject, accepted, nondeterministic
        self._known: dict[tuple[bytes, bool], Observation] = {}  # by the case's digest, and whether with probes

    def of(self, case: Case, *, with_probes: bool = True) -> Observation:
        """Return what ``observe`` gives on a case; without a loss, there is nothing to probe."""
        key = case.digest, with_probes and case.config.loss is not None
        if key in self._known:
            return self._known[key]
        made = observe(self.subject, case, self.accepted, with_probes=key[1])
        if not self.nondeterministic:
            self._known[case.digest, False] = replace(made, probed=None) if key[1] else made
            self._known[key] = made
        return made

    def outcome(self, case: Case) -> Outcome | None:
        """Return what the subject returned on a case, if the case was observed."""
        earlier = self._known.get((case.digest, False))
        return None if earlier is None else earlier.raw


def nameable(finding: Finding) -> Case | None:
    """Return the part of a finding's case that tells its cause; ``None`` if its numbers tell nothing.

    A mistake on the way forward makes the way back wrong, too, in as many ways as there are to differentiate. So the
    way back is left out then.
    """
    mismatches = finding.result.mismatches
    if not mismatches or not all(mismatch.sort in OF_VALUE for mismatch in mismatches):
        return None
    return finding.case if mismatches[0].array.endswith(".grad") else finding.case.forward()


def is_right(observation: Observation) -> bool:
    """Tell whether nothing is wrong in an observation, as far as hard bounds tell."""
    return assess(observation, soft=False).verdict is Verdict.AGREES


def forward_part(observation: Observation) -> Observation:
    """Return what was observed on the way forward alone."""
    case = observation.case.forward()
    arrays = {name: array for name, array in observation.outcome.arrays.items() if name in case.config.outputs}
    return replace(observation, case=case, outcome=replace(observation.outcome, arrays=arrays), probed=None)
