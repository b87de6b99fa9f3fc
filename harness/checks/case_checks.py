"""All checks that a search makes of a subject on a case, in the order in which a failure is best explained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import NamedTuple

from harness.checks.agreement import Observation, assess, effects_of, observe
from harness.checks.jvp_and_double_backward import check_derivatives
from harness.checks.known_issues import OF_NUMPY, READ_ON, KnownCause, known_or_not, spared
from harness.checks.relation_check import check_relations
from harness.checks.relations import Relation
from harness.checks.repeatability import check_twice
from harness.checks.result import TWICE, ComparisonMethod, Result, Verdict
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors
from harness.oracle.compare import MismatchKind
from harness.oracle.pinned_numpy import warn_if_replaced
from harness.space.case import Array, Case
from harness.space.scope import Scope
from harness.subjects.protocol import Subject
from harness.subjects.registry import find_subject
from harness.subjects.torch_variants import TORCH_LAYERS


def check(
    subject: Subject,
    case: Case,
    *,
    accepted: AcceptedErrors = STRICT,
    with_probes: bool = True,
    relations: Iterable[Relation] | None = None,
    scope: Scope | None = None,
    known_causes: Sequence[KnownCause] = (),
    observation: Observation | None = None,
) -> Result:
    """Check agreement, unless a known issue explains a disagreement; then a relation; then everything else.

    Last comes what a call did beside its results: what it wrote into, and memory that its arrays share. The check ends
    with the first thing that is wrong. The relation is one that fits the case, unless ``relations`` says which
    relations, or none; for it the subject is asked nothing beyond ``scope``, which by default is all that it offers.

    Everything else is left out without ``with_probes``, like the probes themselves: the same answer twice, which a
    further call must leave unchanged, and derivatives, which a subject may refuse. Failures that ``known_causes``
    explain count as agreement, as known issues do. An ``observation`` of the case is one that was made before.
    """
    if observation is None:
        observation = observe(subject, case, accepted, with_probes=with_probes)
    result = assess(observation, with_margin=True)
    if against(result):
        warn_if_replaced()
        result = _torch_issue_or_not(subject, case, observation, result)
        libraries = OF_NUMPY if subject.capabilities.takes is not None else ()
        return known_or_not(observation, result, (*libraries, *known_causes)) if against(result) else result
    if result.verdict is not Verdict.AGREES:
        return result
    if result.method is not ComparisonMethod.FORM:
        result = replace(result, bits=bits_of(observation.outcome.arrays))
    rest = _FurtherChecks(subject, case, observation, result, accepted, relations, scope).result(
        with_probes=with_probes
    )
    if against(rest):
        infinite = bool(rest.relation) and all(mismatch.sort is MismatchKind.FINITENESS for mismatch in rest.mismatches)
        if infinite and subject.capabilities.is_torch and READ_ON in spared(observation.case):
            return replace(result, known_as=READ_ON)  # a relation's other run may have the sequences in another order
        return rest if rest.nondeterministic else known_or_not(observation, rest, known_causes)
    if (effects := effects_of(observation.raw)) is not None:
        return known_or_not(observation, effects, known_causes)
    own = subject.capabilities.is_torch  # known issues are of torch's own layers
    return replace(rest, spared=spared(observation.case)) if own and rest.method is not ComparisonMethod.FORM else rest


@cache
def torch_layer(cell: str) -> Subject:
    """Return torch's own layer of a cell, in this process."""
    return find_subject(TORCH_LAYERS[cell])


def _torch_issue_or_not(subject: Subject, case: Case, observation: Observation, result: Result) -> Result:
    """Return an agreement, if a result is a known issue of torch: of another's layer, if torch's own has it here, too.

    Else the result names the issue. A layer of another maker may call torch's, or have the same mistake by itself.
    """
    covered = known_or_not(observation, result)
    if covered.known_as is None or subject.capabilities.is_torch:
        return covered
    seen = observe(torch_layer(case.config.cell), case, with_probes=False)
    own = assess(seen)
    shown = against(own) and known_or_not(seen, own).known_as == covered.known_as
    return covered if shown else replace(result, resembles=covered.known_as or "")


def bits_of(arrays: Mapping[str, Array]) -> str:
    """Return 16 hex digits that tell the names, dtypes and bits of a case's results from any others."""
    digest = sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} ".encode())
        digest.update(array.tobytes())  # bfloat16 has no buffer
    return digest.hexdigest()[:16]


def against(result: Result) -> bool:
    """Return whether a result counts against its subject, as a failure or a suspicion."""
    return result.failed or result.verdict is Verdict.SUSPECT


class _FurtherChecks(NamedTuple):
    subject: Subject
    case: Case
    observation: Observation
    agreement: Result
    accepted: AcceptedErrors
    relations: Iterable[Relation] | None
    scope: Scope | None

    def result(self, *, with_probes: bool) -> Result:
        """Return the first thing that is wrong, or the agreement."""
        subject, case, agreement, raw = self.subject, self.case, self.agreement, self.observation.raw
        also = list(agreement.also)
        random = case.config.drops and agreement.method is ComparisonMethod.FORM  # unknown masks differ in every run
        if with_probes and not random and raw is not None:
            unsteady = check_twice(subject, case, raw)
            if unsteady.failed:
                return unsteady
            also.append(TWICE)
        related = check_relations(subject, case, self.accepted, relations=self.relations, scope=self.scope, outcome=raw)
        if related.failed:
            return related
        also += related.also
        if with_probes:
            beyond = check_derivatives(subject, case)
            if against(beyond):
                return beyond
            also += beyond.also
        if raw is None:
            return replace(agreement, also=tuple(also))
        return replace(agreement, also=tuple(also), not_compared=raw.not_returned, ignored=raw.ignored)
