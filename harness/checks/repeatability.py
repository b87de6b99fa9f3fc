"""repeatability: the same case must give the same numbers again, or no other check of the subject means anything.

And what a call gave must stay as it is when another one is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from harness.checks.agreement import failure_of
from harness.checks.result import WAVERS, Result, Verdict
from harness.oracle.compare import Mismatch, Sort, same_numbers
from harness.space.case import Array, Case
from harness.space.outcome import LOST, Failure, Outcome
from harness.space.scope import COST
from harness.subjects.protocol import Subject, masks_of

DEAREST: Final = COST
"""What a case may cost for a further call: all that draws are held to. Of those asked twice, one in thirteen costs
more, and would take two fifths of what further calls take; without them that is some 2 % of torch's default search."""


def check_repeatability(subject: Subject, case: Case, first: Outcome | None = None) -> Result:
    """Run ``subject`` on ``case`` twice: *broken* if the outcomes differ in any number or in their failure.

    ``first`` is the outcome of a run that was made already.
    """
    return _same(case, first or subject.run(case), subject.run(case))


def check_twice(subject: Subject, case: Case, first: Outcome) -> Result:
    """The same of a run that was made already, and *disagrees* if what comes back is overwritten by a further call.

    That is asked of a subject that has ``run_twice``, which answers it where its arrays are: those here are copies.
    """
    run: Callable[[Case], Outcome] = subject.run
    if case.config.cost <= DEAREST:
        run = getattr(subject, "run_twice", run)
    second = run(case)
    if second.failure in LOST and (lost := failure_of(second)) is not None:
        return lost
    same = _same(case, first, second)
    if same.failed or not second.overwritten:
        return same
    return Result(Verdict.DISAGREES, tuple(Mismatch(name, Sort.OVERWRITTEN) for name in second.overwritten))


def _same(case: Case, first: Outcome, second: Outcome) -> Result:
    if first.failure is not second.failure or first.arrays.keys() != second.arrays.keys():
        return Result(Verdict.BROKEN, message=f"{WAVERS}: it {_did(first)}, then it {_did(second)}")
    for name, array in first.arrays.items():
        if not same_numbers(array, second.arrays[name]):
            return Result(Verdict.BROKEN, message=f"{WAVERS}: {_difference(case, name, array, second.arrays[name])}")
    return Result(Verdict.AGREES)


def confirmed(subject: Subject, case: Case, result: Result, check: Callable[[Case], Result]) -> Result:
    """``result``, which ``check`` gave on the case; or, if the subject wavers there, the result that says so.

    A process that dies must die again, wherever in the check it did. A hang is believed: asking again may take as long;
    and so is a run with masks that cannot be had, which differs from any other.
    """
    random = masks_of(subject, case) is None
    if result.failure is Failure.HUNG or result.wavers or random:
        return result
    if result.failure is Failure.CRASHED:
        again = check(case)
        if again.failure is not None:
            return result
        return Result(Verdict.BROKEN, message=f"{WAVERS}: first {result.message}, then it did not die")
    unsteady = check_repeatability(subject, case)
    if unsteady.failed or check(case).kind == result.kind:
        return unsteady if unsteady.failed else result
    return Result(Verdict.BROKEN, message=f"{WAVERS}: it failed, and then did not, which may be due to earlier calls")


def _did(outcome: Outcome) -> str:
    return outcome.failure.value if outcome.failure else f"returned {', '.join(outcome.arrays)}"


def _difference(case: Case, name: str, first: Array, second: Array) -> str:
    if first.shape != second.shape:
        return f"{name} of shape {first.shape}, then {second.shape}"
    differs = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    index = tuple(int(i) for i in np.argwhere(differs)[0])
    at = ", ".join(f"{axis}={i}" for axis, i in case.config.locate(name, index).items())
    return f"{name} at {at} was {first[index]!s}, then {second[index]!s}"
