"""The check of repeatability: the same case must give the same numbers again, or no other check means anything.

The results of a call must also stay unchanged when another call is made.
"""

from collections.abc import Callable
from typing import Final

from harness.checks.agreement import failure_of
from harness.checks.result import Result, Verdict
from harness.oracle.compare import Mismatch, MismatchKind, same_numbers
from harness.oracle.pinned_numpy import np
from harness.space.case import Array, Case
from harness.space.outcome import PROCESS_LOST, Failure, Outcome, is_last
from harness.space.scope import HIGHEST_COST
from harness.subjects.protocol import Subject, masks_of

DEAREST: Final = HIGHEST_COST
"""The highest cost of a case for which a further call is made, the same as for drawn configs. Of the cases that are
asked twice, one in thirteen costs more, and would take two fifths of the time of further calls. Without them, further
calls take some 2 % of torch's default search.
"""

REPEATS: Final = 5
"""The number of times that a failing case is run again. Of subjects that give one of two answers by chance, 3 % give
the same one in all of them.
"""


STEADY: Final = 3  # the deaths in a row that make one certain; those of one call in five come so once in 125
FLAKY_RUNS: Final = 20
"""The number of runs in which the different answers of a flaky subject are counted. If one call in five differs, all of
them are the same once in 70.
"""


def check_repeatability(subject: Subject, case: Case, first: Outcome | None = None) -> Result:
    """Run ``subject`` on ``case`` twice; the result is *broken* if the outcomes differ.

    Outcomes differ in a number or in their failure. ``first`` is the outcome of an earlier run, if there was one.
    """
    return _same(case, first or subject.run(case), subject.run(case))


def check_twice(subject: Subject, case: Case, first: Outcome) -> Result:
    """Compare a second run with ``first``, and see if a further call overwrites its results: then it *disagrees*.

    Overwriting is checked by the subject's ``run_twice``, if it has one, in the process of its arrays, because the
    arrays here are copies.
    """
    run_twice = subject.capabilities.run_twice if case.config.cost <= DEAREST else None
    second = (run_twice or subject.run)(case)
    if second.failure in PROCESS_LOST and (lost := failure_of(second)) is not None:
        return lost
    same = _same(case, first, second)
    if same.failed or not second.overwritten:
        return same
    return Result(Verdict.DISAGREES, tuple(Mismatch(name, MismatchKind.OVERWRITTEN) for name in second.overwritten))


def _same(case: Case, first: Outcome, second: Outcome) -> Result:
    if first.failure is not second.failure or first.arrays.keys() != second.arrays.keys():
        return Result.of_two_answers(f"it {_did(first)}, then it {_did(second)}")
    for name, array in first.arrays.items():
        if not same_numbers(array, second.arrays[name]):
            return Result.of_two_answers(_difference(case, name, array, second.arrays[name]))
    return Result(Verdict.AGREES)


def confirmed(subject: Subject, case: Case, result: Result, check: Callable[[Case], Result]) -> Result:
    """Return ``result``, which ``check`` gave on the case; or, if it gives two answers there, the result that says so.

    A process that died must die again and again of a run; or, if no run ends it, anywhere in the check. A hang is
    believed, because asking again may take as long. So is a run with unknown masks, which differs from any other run.
    """
    random = masks_of(subject, case) is None
    if is_last(result.failure, result.message) or result.nondeterministic or random:
        return result
    if result.failure is Failure.CRASHED:
        deaths = _deaths(subject, case)
        if deaths == STEADY or (deaths == 0 and check(case).failure is not None):
            return result
        return Result.of_two_answers(f"first {result.message}, then it did not die")
    first = subject.run(case)
    for _ in range(REPEATS):
        if (unsteady := check_repeatability(subject, case, first)).failed:
            return unsteady
    if check(case).kind == result.kind:
        return result
    return Result.of_two_answers("it failed, then it did not; earlier calls may be the reason")


def _deaths(subject: Subject, case: Case) -> int:
    """Run a case up to ``STEADY`` deaths in a row, or up to a run that differs from the first, and count the deaths."""
    died = [subject.run(case).failure in PROCESS_LOST]
    while len(set(died)) == 1 and len(died) < (STEADY if died[0] else FLAKY_RUNS):
        died.append(subject.run(case).failure in PROCESS_LOST)
    return sum(died)


def answers_of(subject: Subject, case: Case) -> int:
    """Return how many different answers a subject gives in ``FLAKY_RUNS`` runs of a case."""
    different: list[Outcome] = []
    for _ in range(FLAKY_RUNS):
        outcome = subject.run(case)
        if all(_same(case, answer, outcome).failed for answer in different):
            different.append(outcome)
    return len(different)


def _did(outcome: Outcome) -> str:
    did = {Failure.UNSUPPORTED: "refused the case", Failure.MALFORMED: f"returned no result ({outcome.message})"}
    if outcome.failure:
        return did.get(outcome.failure, outcome.failure.value)
    return f"returned {', '.join(outcome.arrays)}"


def _difference(case: Case, name: str, first: Array, second: Array) -> str:
    if first.shape != second.shape:
        return f"{name} of shape {first.shape}, then {second.shape}"
    differs = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    index = tuple(int(i) for i in np.argwhere(differs)[0])
    at = ", ".join(f"{axis}={i}" for axis, i in case.config.locate(name, index).items())
    return f"{name} at {at} was {first[index]!s}, then {second[index]!s}"
