"""case_replay: a case is run once more, to see if it still fails."""

from enum import Enum
from functools import partial
from typing import Final

from harness.checks.case_checks import check as check_everything
from harness.checks.dropout import check_net
from harness.checks.relations import RELATIONS
from harness.checks.repeatability import confirmed
from harness.checks.result import Result, Verdict
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors
from harness.space.case import Case
from harness.subjects.protocol import Subject


class ReplayOutcome(Enum):
    """The possible outcomes of a failure that is run again, by a replay or by its script."""

    FIXED = "FIXED"
    FAILED = "FAILED"
    ERROR = "ERROR"  # it is not known: the subject now refuses the case, or the script did not get to its end


_FATES: Final = {Verdict.UNSUPPORTED: ReplayOutcome.ERROR, Verdict.AGREES: ReplayOutcome.FIXED}


def replay(
    subject: Subject, case: Case, accepted: AcceptedErrors = STRICT, *, of_dropout: bool = False
) -> tuple[ReplayOutcome, Result]:
    """Run the case once more, and return its fate (fixed, failed or suspect, or refused) and the result.

    A case that broke the statistics of dropout is held to that. ``SavedFinding.again`` tells if it fails in the same
    way as before.
    """
    if of_dropout:
        result = check_net(subject, case.config)
        return _FATES.get(result.verdict, ReplayOutcome.FAILED), result
    check = partial(check_everything, subject, accepted=accepted, relations=tuple(RELATIONS.values()))
    result = check(case)
    if result.verdict is Verdict.UNSUPPORTED:
        return ReplayOutcome.ERROR, result
    result = confirmed(subject, case, result, check)
    return (ReplayOutcome.FIXED if result.verdict is Verdict.AGREES else ReplayOutcome.FAILED), result
