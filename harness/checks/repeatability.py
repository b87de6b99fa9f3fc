"""repeatability: the same case must give the same numbers again, or no other check of the subject means anything."""

from __future__ import annotations

from harness.checks.result import Result, Verdict
from harness.oracle.compare import same_numbers
from harness.space.case import Case
from harness.subjects.protocol import Subject


def check_repeatability(subject: Subject, case: Case) -> Result:
    """Run ``subject`` on ``case`` twice: *broken* if the outcomes differ in any number or in their failure."""
    first, second = subject.run(case), subject.run(case)
    same = (
        first.failure is second.failure
        and first.arrays.keys() == second.arrays.keys()
        and all(same_numbers(array, second.arrays[name]) for name, array in first.arrays.items())
    )
    if same:
        return Result(Verdict.AGREES)
    return Result(Verdict.BROKEN, message="not deterministic: two runs of the same case gave different results")
