"""confirm_and_shrink: the way from a case that fails to a confirmed finding, as small as it can be made."""

import math
import time
from dataclasses import replace
from functools import partial
from typing import Any, Final

from harness.checks.case_checks import against
from harness.checks.relation_check import relations_of
from harness.checks.relations import Relation
from harness.checks.repeatability import check_repeatability, confirmed
from harness.checks.result import Result, Verdict
from harness.oracle.compare import OF_VALUE
from harness.search.budget import Budget
from harness.search.checker import Checker
from harness.search.clarify import in_memory_of_their_own, in_the_forward_pass, with_tame_values, without_its_relation
from harness.search.deadline import TimeOver, stop_at_hang
from harness.search.evidence import Certificate, Suspicion, weigh
from harness.search.search_record import Finding, SearchRecord
from harness.search.shrink import CaseShrinker, ShrinkBudgetSpent
from harness.space.case import Case
from harness.space.outcome import Failure
from harness.subjects.protocol import masks_of

TRIES: Final = 300
SECONDS: Final = 10.0
"""The number of cases, and the seconds, that making one failure smaller may take. The cases decide, so that the same
failure ends on the same case; the seconds are for a subject, or a machine, that takes more than 30 ms a case. Of 205
failures of the layers in ``benchmarks/layers``, 197 end within 300 cases, half of them within 76; the longest would
take 539. A fresh process after a crash takes 20 to 30 ms, or one or two seconds if it imports torch again.
"""


class ShrinkingCutShort(BaseException):
    """Raised when shrinking crashes has taken too long; it says so. Not an ``Exception``, which shrinking may catch."""


class FailureMinimiser:
    """The minimiser of one failure of a search, which notes in the record what came of it."""

    def __init__(self, checker: Checker, record: SearchRecord, budget: Budget) -> None:
        self.failing: tuple[Case, Result] | None = None
        """The failure as plain as it is so far; ``None`` before it is known to be one, and after it is reported."""
        self._checker, self._record, self._budget = checker, record, budget
        self._subject = checker.subject
        self._tries, self._until = 0, math.inf  # what shrinking has tried, and the moment at which its time is over
        self._relations: tuple[Relation, ...] = ()
        self._proved = False
        self._probing = True  # if it takes probes, or the checks made together with them, to see the failure

    def minimise(self, case: Case, result: Result, *, with_probes: bool) -> Finding | None:
        """Weigh a suspicion, look for the case that shows most of a failure, and shrink it.

        Returns ``None``, and counts in the record why, if it is not worth a finding. Raises ``ShrinkingCutShort`` or
        ``Hang`` with the failure in ``failing``, which is then not reported.
        """
        original = case
        if result.verdict is Verdict.SUSPECT:
            suspicion = self._weigh(case, result)
            if not suspicion.repeats:
                return None
            case, result = suspicion.case, suspicion.result
        self._set_smallest(case, result)  # an interrupt reports it as it is
        case, result = self._count_known(*with_tame_values(case, result, self._checker))
        if against(result):
            scope = self._record.scope
            case, result = self._count_known(*without_its_relation(case, result, self._checker, self._subject, scope))
        if against(result):
            case, result = self._count_known(*in_memory_of_their_own(case, result, self._checker, self._record.scope))
        if not against(result):
            self._clear()
            return None
        case, result = in_the_forward_pass(case, result, self._checker, self._record.scope)
        return self._confirm_and_shrink(case, result, with_probes=with_probes or case is not original)

    def _weigh(self, case: Case, result: Result) -> Suspicion:
        """Weigh a suspicion, and note it in the record if it does not repeat, or an interrupt comes."""
        try:
            suspicion = weigh(case, result, self._checker)
        except (KeyboardInterrupt, TimeOver):
            self._record.suspicions.append(Suspicion(case, result, again=0, runs=0))
            raise
        if not suspicion.repeats:
            self._record.suspicions.append(suspicion)
        return suspicion

    def _count_known(self, case: Case, result: Result) -> tuple[Case, Result]:
        self._record.known.update([result.known_as] if result.known_as else [])
        return case, result

    def _confirm_and_shrink(self, case: Case, result: Result, *, with_probes: bool) -> Finding | None:
        """Shrink a failure and confirm it, unless it is nondeterministic."""
        self._set_target(case, result)
        if self._nondeterministic(with_probes=with_probes):
            return self._report_nondeterministic()
        assert self.failing is not None
        self._until = time.perf_counter() + SECONDS
        original = self.failing[0]
        certificate = self._shrink()
        if self._broken_by_a_part():  # which did not fail by itself before
            certificate = self._shrink()
        if self.failing[0] is original and self._budget.too_late_to_shrink():  # it was confirmed a moment ago
            return self._report(certificate)
        if (process := self._subject.capabilities.process) is not None:
            process.restart()
        if self._nondeterministic():
            return self._report_nondeterministic()
        return self._report(replace(certificate, fresh_process=process is not None))

    def _set_target(self, case: Case, result: Result) -> None:
        """Take a failure as the one to shrink, and note what it takes to see it."""
        self._set_smallest(case, result)
        self._relations, self._proved = relations_of(result), result.failed
        first = result.mismatches[0] if result.mismatches else None
        forward = first is not None and first.sort in OF_VALUE and first.array in case.config.outputs
        self._probing = first is None or not forward or first.probed or bool(first.relation)

    def _broken_by_a_part(self) -> bool:
        """Take a case that a failing relation ran instead, if it fails alone, and tell whether there is one."""
        assert self.failing is not None
        case, result = self.failing
        if not against(result) or self._budget.too_late_to_shrink():
            return False
        part, alone = without_its_relation(case, result, self._checker, self._subject, self._record.scope)
        if part is case or not alone.failed:
            return False
        self._set_target(part, alone)
        return True

    def _nondeterministic(self, **options: Any) -> bool:
        """Confirm the failure, and tell whether the subject is nondeterministic there."""
        assert self.failing is not None
        case, result = self.failing
        again = partial(self._checker, relations=self._relations, **options)
        self.failing = case, confirmed(self._subject, case, result, again)
        return self.failing[1].nondeterministic

    def _report_nondeterministic(self) -> Finding | None:
        """Report once that the subject is nondeterministic."""
        before = next((finding for finding in self._record.findings if finding.result.nondeterministic), None)
        if before is None:
            return self._report(Certificate().but_for("not made smaller, because the subject is flaky"))
        self._record.known[before.id] += 1
        self._clear()
        return None

    def _report(self, certificate: Certificate) -> Finding:
        assert self.failing is not None
        finding = self._record.report(*self.failing, certificate)
        self._clear()
        return finding

    def _set_smallest(self, case: Case, result: Result) -> None:
        """Take a failure as the plainest so far."""
        self.failing, self._record.smallest = (case, result), case.config

    def _clear(self) -> None:
        self.failing = self._record.smallest = None

    def _shrink(self) -> Certificate:
        """Shrink the failure as far as possible."""
        assert self.failing is not None
        shrinking = CaseShrinker(*self.failing, self._record.scope, self._check)
        for case, result in shrinking:
            self._set_smallest(case, result)
            self._proved |= result.failed
        return shrinking.certificate

    def _check(self, case: Case) -> Result:
        assert self.failing is not None
        if time.perf_counter() >= self._until:
            if self.failing[1].failure is Failure.CRASHED:  # each further crash takes as long
                raise ShrinkingCutShort(f"shrinking not finished: {SECONDS:g} s of crashes are over")
            raise ShrinkBudgetSpent(f"{SECONDS:g} s are over")
        if self._tries >= TRIES:
            raise ShrinkBudgetSpent(f"{TRIES} cases were tried")
        if self._budget.too_late_to_shrink():
            raise ShrinkBudgetSpent("the time is over")
        self._tries += 1
        self._record.shrink_checks += 1
        result = self._checker(case, relations=self._relations, with_probes=self._probing)
        stop_at_hang(case, result)
        if result.verdict is Verdict.SUSPECT:
            suspicion = weigh(case, result, self._checker)
            return result if suspicion.repeats and not self._proved else Result(Verdict.AGREES)
        flaky = any(finding.result.nondeterministic for finding in self._record.findings)
        if flaky and against(result) and masks_of(self._subject, case) is not None:
            unsteady = check_repeatability(self._subject, case)  # another failure, which is reported already
            return unsteady if unsteady.failed else result
        return result
