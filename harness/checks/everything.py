"""everything: all that a search asks of a subject on a case, in the order in which a failure is best explained."""

from __future__ import annotations

from collections.abc import Iterable

from harness.checks.agreement import REFERENCE, assess, observe
from harness.checks.derivatives import check_derivatives, differentiable
from harness.checks.known import known_deviation
from harness.checks.lawfulness import check_laws
from harness.checks.laws import Law
from harness.checks.repeatability import check_repeatability
from harness.checks.result import Method, Result, Verdict
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.reference import Reference
from harness.space.case import Case
from harness.space.scope import Scope
from harness.subjects.protocol import Subject


def check(
    subject: Subject,
    case: Case,
    reference: Reference = REFERENCE,
    *,
    accepted: Accepted = STRICT,
    with_probes: bool = True,
    laws: Iterable[Law] | None = None,
    scope: Scope | None = None,
) -> Result:
    """Agreement, unless a known deviation explains what is against it; then a law, and the rest.

    It ends with the first thing that is wrong. The law is one that fits the case, unless ``laws`` says which, or none;
    for it nothing is asked beyond ``scope``, which is all that the subject offers unless given.
    The rest, like probes, is left out without ``with_probes``: the same answer twice, and derivatives. That a subject
    refuses those is not held against it.
    """
    observation = observe(subject, case, accepted, with_probes=with_probes)
    result = assess(observation, reference)
    if result.failed or result.verdict is Verdict.SUSPECT:
        deviation = known_deviation(observation)
        return result if deviation is None else Result(Verdict.AGREES, method=result.method, deviation=deviation)
    if result.verdict is not Verdict.AGREES:
        return result
    random = case.config.drops and result.method is Method.FORM  # masks that cannot be had differ in every run
    if with_probes and not random and (unsteady := check_repeatability(subject, case, observation.raw)).failed:
        return unsteady
    lawful = check_laws(subject, case, accepted, laws=laws, scope=scope)
    if lawful.failed or not with_probes:
        return lawful if lawful.failed else result
    if differentiable(case.config):
        beyond = check_derivatives(subject, case, reference, accepted)
        if beyond.failed or beyond.verdict is Verdict.SUSPECT:
            return beyond
    return result
