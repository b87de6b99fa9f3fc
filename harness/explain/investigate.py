"""investigate: everything that is said of a finding, and how a search tells further cases of its cause.

A finding goes through three questions: which known mistake is it, what does it depend on, and where does it begin. A
search that goes on past it asks ``recognise``, and later findings are seen beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from harness.checks.everything import check as check_everything
from harness.checks.known import Excuse
from harness.checks.lawfulness import GRADIENTS, law_of
from harness.checks.result import Result
from harness.explain.again import ByCause, ByRegion
from harness.explain.diagnose import Diagnosis, diagnose, nameable
from harness.explain.factors import Factors, depends_on
from harness.explain.faults import Fault
from harness.explain.parts import together
from harness.explain.where import Where, locate
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.compare import Sort
from harness.search.hang import Hang, ended_by_a_hang
from harness.search.hunt import Finding, Hunt
from harness.space.case import Case
from harness.space.outcome import Failure
from harness.space.scope import Scope
from harness.subjects.protocol import Subject


@dataclass(frozen=True)
class Explanation:
    """What is known of why a subject fails as a finding shows; each part may be missing, where it could not be had."""

    diagnosis: Diagnosis | None = None
    factors: Factors | None = None
    where: Where | None = None


@dataclass
class Investigation:
    """Explains the findings of one search as they come, each in the light of those before it."""

    subject: Subject
    accepted: Accepted = STRICT
    told: Callable[[Finding, Explanation], None] = lambda *_: None
    """Who is to hear of a finding as soon as it is explained: whatever comes later, it is not lost."""
    explanations: dict[str, Explanation] = field(default_factory=dict)
    """By the finding's id."""
    _beside: list[Fault] = field(default_factory=list)
    _excuses: list[Excuse] = field(default_factory=list)

    def recognise(self, finding: Finding, record: Hunt) -> Excuse | None:
        """Explain a finding, and give what tells its cause again; ``None`` where the search should end.

        A hang ends it, as every further one may take as long, and so does a subject that dies.
        """
        excuse = self._told_again(finding, self.explain(finding, record.scope))
        if excuse is not None:
            self._excuses.append(excuse)
        return excuse

    def _told_again(self, finding: Finding, explanation: Explanation) -> Excuse | None:
        if finding.result.failure in {Failure.HUNG, Failure.CRASHED} or explanation.factors is None:
            return None
        diagnosis = explanation.diagnosis
        if diagnosis is None or not diagnosis.certain:
            return ByRegion(finding.id, finding.result, explanation.factors)
        [cause] = diagnosis.causes
        known = [cause, *(together(cause, other) for other in self._beside)]
        self._beside += known
        return ByCause(finding.id, tuple(known), explanation.factors, forwards=not _of_gradients(finding))

    def explain(self, finding: Finding, scope: Scope) -> Explanation:
        """What is known of why the finding's case fails."""
        explanation = Explanation()
        if finding.result.failure is not Failure.HUNG and not finding.result.wavers:
            with suppress(Hang):
                explanation = self._explained(finding, scope)
        self.explanations[finding.id] = explanation
        self.told(finding, explanation)
        return explanation

    def _explained(self, finding: Finding, scope: Scope) -> Explanation:
        subject = ended_by_a_hang(self.subject)
        diagnosis = diagnose(subject, finding, scope, self.accepted, self._beside)
        factors = depends_on(finding, scope, self._check(subject, finding, scope))
        case = nameable(finding)
        where = None if case is None else locate(subject, case, scope, self.accepted)
        return Explanation(diagnosis, factors, where)

    def _check(self, subject: Subject, finding: Finding, scope: Scope) -> Callable[[Case], Result]:
        laws = law_of(finding.result.kind) or ()
        return partial(
            check_everything,
            subject,
            accepted=self.accepted,
            laws=laws,
            scope=scope,
            with_probes=_probed(finding),
            excuses=self._excuses,
        )


def _probed(finding: Finding) -> bool:
    """Whether the failure is seen with probes, or in what is asked along with them."""
    mismatches = finding.result.mismatches
    plain = mismatches and not mismatches[0].probed and mismatches[0].array in finding.case.config.returned
    return not plain or mismatches[0].sort is Sort.OVERWRITTEN


def _of_gradients(finding: Finding) -> bool:
    return bool(finding.result.mismatches) and finding.result.mismatches[0].array.endswith(GRADIENTS)
