"""Replace a failing case by one that shows more: finite values, contiguous arrays, no relation, forward alone."""

from collections.abc import Callable
from itertools import product
from typing import Final

from harness.checks.relation_check import GRADIENT_SUFFIX, asked_by, relations_of
from harness.checks.result import Result
from harness.oracle.compare import OF_EFFECT, OF_VALUE, MismatchKind
from harness.space.case import Case
from harness.space.scope import Scope, configure, factors_of
from harness.space.values import draw
from harness.subjects.protocol import Subject

Check = Callable[..., Result]

TAME: Final = ("normal", "default")  # distributions whose numbers stay finite
TAME_DRAWS: Final = 2
"""The number of seeds tried per tame distribution when a failure had infinities or NaN: a mistake that shows on half of
tame cases is met in one of the four with a probability of 94 %.
"""

FORWARD_DRAWS: Final = 2
"""The number of sets of generic values tried in the forward pass when a gradient is wrong, because one set may hide a
mistake.
"""


def with_tame_values(case: Case, result: Result, check: Check) -> tuple[Case, Result]:
    """Return the same config with tame values if it fails there, too, or is known to; otherwise the given case.

    The cause of a failure among infinities or NaN shows better on finite numbers, all of which can be compared. Other
    failures keep their case.
    """
    wild = case.origin is not None and case.origin.distribution == "special"
    if not (result.failed and result.mismatches and (wild or result.mismatches[0].sort is MismatchKind.FINITENESS)):
        return case, result
    for distribution, seed in product(TAME, range(TAME_DRAWS)):
        tame = draw(case.config, distribution, seed)
        answer = check(tame, relations=())
        if answer.known_as is not None or (answer.failed and answer.mismatches[:1] and answer.mismatches[0].sites):
            return tame, answer
    return case, result


def without_its_relation(
    case: Case, result: Result, check: Check, subject: Subject, scope: Scope
) -> tuple[Case, Result]:
    """Return a case that the failing relation ran and that fails alone, or else the given case; and the case's result.

    A case with a known issue counts, too.
    """
    for relation in relations_of(result) if result.failure is None else ():
        for candidate in asked_by(subject, case, relation, scope):
            alone = check(candidate, relations=())
            if alone.failed or alone.known_as is not None:
                return candidate, alone
    return case, result


def in_the_forward_pass(case: Case, result: Result, check: Check, scope: Scope) -> tuple[Case, Result]:
    """Look for a case of the same sizes that is wrong in the forward pass, if a gradient is wrong, and return it.

    A mistake in the forward pass makes gradients wrong, too, and its first effect says more. Without such a case,
    the given one is returned.
    """
    first = result.mismatches[0] if result.mismatches else None
    if first is None or first.relation or not first.array.endswith(GRADIENT_SUFFIX) or None not in scope.loss:
        return case, result
    plain = {"loss": None, "autocast": scope.autocast[0], "dtype": scope.dtype[0]}
    there = configure(factors_of(case.config) | plain, 0 if case.origin is None else case.origin.seed)
    for seed in range(FORWARD_DRAWS):
        answer = check(candidate := draw(there, TAME[0], seed), relations=(), with_probes=False)
        if answer.failed and answer.mismatches and answer.mismatches[0].sort in OF_VALUE:
            return candidate, answer
    return case, result


def in_memory_of_their_own(case: Case, result: Result, check: Check, scope: Scope) -> tuple[Case, Result]:
    """Return the case with contiguous inputs if values are wrong only because the subject writes into expanded ones.

    One write into an expanded input changes several of its numbers. The write is what is wrong, and it may be known.
    """
    config, first = case.config, result.mismatches[:1]
    if config.strides != "expanded" or "contiguous" not in scope.strides or not first or first[0].sort not in OF_VALUE:
        return case, result
    alone = Case.from_arrays(config.replace(strides="contiguous"), case.arrays)
    answer = check(alone, relations=())
    if answer.known_as is not None or (answer.failed and answer.mismatches and answer.mismatches[0].sort in OF_EFFECT):
        return alone, answer
    return case, result
