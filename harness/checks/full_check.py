"""All checks that a search makes of a subject on a case, in the order in which a failure is best explained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from harness.checks.agreement import Observation, assess, effects_of, observe
from harness.checks.derivatives import check_derivatives
from harness.checks.known_issues import OF_NUMPY, OF_TORCH, READ_ON, KnownCause, excused, spared
from harness.checks.lawfulness import check_laws
from harness.checks.laws import Law
from harness.checks.repeatability import check_twice
from harness.checks.result import TWICE, Method, Result, Verdict
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.bound import warn_if_replaced
from harness.oracle.compare import Sort
from harness.space.case import Array, Case
from harness.space.scope import Scope
from harness.subjects.protocol import Subject


def check(
    subject: Subject,
    case: Case,
    *,
    accepted: Accepted = STRICT,
    with_probes: bool = True,
    laws: Iterable[Law] | None = None,
    scope: Scope | None = None,
    excuses: Sequence[KnownCause] = (),
    observation: Observation | None = None,
) -> Result:
    """Check agreement, unless a known issue explains a disagreement; then a law; then everything else.

    Last comes what a call did beside its results: what it wrote into, and memory that its arrays share. The check ends
    with the first thing that is wrong. The law is one that fits the case, unless ``laws`` says which
    laws, or none; for it the subject is asked nothing beyond ``scope``, which by default is all that it offers.

    Everything else is left out without ``with_probes``, like the probes themselves: the same answer twice, which a
    further call must leave unchanged, and derivatives, which a subject may refuse. Failures that ``excuses`` explain
    count as agreement, as known issues do. An ``observation`` of the case is one that was made before.
    """
    if observation is None:
        observation = observe(subject, case, accepted, with_probes=with_probes)
    result = assess(observation, with_margin=True)
    if against(result):
        warn_if_replaced()
        libraries = OF_NUMPY if subject.capabilities.takes is not None else ()
        return excused(observation, result, (*OF_TORCH, *libraries, *excuses))
    if result.verdict is not Verdict.AGREES:
        return result
    if result.method is not Method.FORM:
        result = replace(result, bits=bits_of(observation.outcome.arrays))
    rest = _Rest(subject, case, observation, result, accepted, laws, scope).result(with_probes=with_probes)
    if against(rest):
        infinite = bool(rest.law) and all(mismatch.sort is Sort.FINITENESS for mismatch in rest.mismatches)
        if infinite and subject.capabilities.is_torch and READ_ON in spared(observation.case):
            return replace(result, excused_by=READ_ON)  # a law's other run may have the sequences in another order
        return rest if rest.nondeterministic else excused(observation, rest, excuses)
    if (effects := effects_of(observation.raw)) is not None:
        return excused(observation, effects, excuses)
    own = subject.capabilities.is_torch  # known issues are of torch's own layers
    return replace(rest, spared=spared(observation.case)) if own and rest.method is not Method.FORM else rest


def bits_of(arrays: Mapping[str, Array]) -> str:
    """Return 16 hex digits that tell the names, dtypes and bits of a case's results from any others."""
    told = sha256()
    for name, array in sorted(arrays.items()):
        told.update(f"{name} {array.dtype} ".encode())
        told.update(array.tobytes())  # bfloat16 has no buffer
    return told.hexdigest()[:16]


def against(result: Result) -> bool:
    """Return whether a result counts against its subject, as a failure or a suspicion."""
    return result.failed or result.verdict is Verdict.SUSPECT


class _Rest(NamedTuple):
    subject: Subject
    case: Case
    observation: Observation
    agreement: Result
    accepted: Accepted
    laws: Iterable[Law] | None
    scope: Scope | None

    def result(self, *, with_probes: bool) -> Result:
        """Return the first thing that is wrong, or the agreement."""
        subject, case, agreement, raw = self.subject, self.case, self.agreement, self.observation.raw
        also = list(agreement.also)
        random = case.config.drops and agreement.method is Method.FORM  # unknown masks differ in every run
        if with_probes and not random and raw is not None:
            unsteady = check_twice(subject, case, raw)
            if unsteady.failed:
                return unsteady
            also.append(TWICE)
        lawful = check_laws(subject, case, self.accepted, laws=self.laws, scope=self.scope, known=raw)
        if lawful.failed:
            return lawful
        also += lawful.also
        if with_probes:
            beyond = check_derivatives(subject, case)
            if against(beyond):
                return beyond
            also += beyond.also
        if raw is None:
            return replace(agreement, also=tuple(also))
        return replace(agreement, also=tuple(also), not_compared=raw.not_returned, ignored=raw.ignored)
