"""The checks of a search: of planned cases, which are drawn and checked where they are, and of any others."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.checks.agreement import Observation, observe
from harness.checks.case_checks import against, check
from harness.checks.known_issues import KnownCause, known_or_not
from harness.checks.relations import Relation
from harness.checks.result import Result, Verdict
from harness.oracle.arithmetic_assumptions import AcceptedErrors
from harness.search.deadline import Hang
from harness.search.own_weights import OwnWeights
from harness.search.plan import PlanChunk, PlannedCase
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.scope import Scope
from harness.subjects.protocol import Subject, unrepeated_of


class CheckedCase(NamedTuple):
    """A case of the plan, and its result. If it fails, the case itself and what was observed come along."""

    planned: PlannedCase
    result: Result
    seconds: float  # for drawing and checking it
    case: Case | None = None  # of a hang, it may be a prefix
    observation: Observation | None = None  # but not of a hang
    unrepeated: int = 0  # deaths of the subject's process in it that were not seen again


@dataclass
class Checker:
    """The checks of one subject in one search."""

    subject: Subject
    accepted: AcceptedErrors
    scope: Scope
    known: list[KnownCause] = field(default_factory=list)  # the causes by which failures count as known, and pass
    weights: OwnWeights | None = None  # those that all planned cases have

    def __call__(self, case: Case, *, with_probes: bool = True, relations: Iterable[Relation] | None = None) -> Result:
        """Check any case."""
        return check(
            self.subject,
            case,
            accepted=self.accepted,
            with_probes=with_probes,
            relations=relations,
            scope=self.scope,
            known_causes=self.known,
        )

    def chunk(self, chunk: PlanChunk) -> Iterator[CheckedCase]:
        """Check the cases of a chunk, until one hangs; of a config that the subject refuses, only the first.

        Known causes do not count here, because a worker has none.
        """
        refused: RNNConfig | None = None
        for planned in chunk.planned():
            if planned.config is refused:
                continue
            checked = self._planned(planned)
            refused = planned.config if checked.result.verdict is Verdict.UNSUPPORTED else None
            yield checked
            if checked.case is not None and checked.observation is None:
                return

    def _planned(self, planned: PlannedCase) -> CheckedCase:
        start, before = time.perf_counter(), unrepeated_of(self.subject)
        case, relations = planned.case(), None if planned.with_relation else ()
        case = case if self.weights is None else self.weights.in_place(case, planned.seed)
        try:
            observation = observe(self.subject, case, self.accepted, with_probes=planned.with_probes)
            result = check(
                self.subject,
                case,
                accepted=self.accepted,
                with_probes=planned.with_probes,
                relations=relations,
                scope=self.scope,
                observation=observation,
            )
        except Hang as hang:
            return CheckedCase(planned, hang.result, time.perf_counter() - start, hang.case)
        seconds = time.perf_counter() - start
        unrepeated = unrepeated_of(self.subject) - before
        if not against(result):
            return CheckedCase(planned, result, seconds, unrepeated=unrepeated)
        return CheckedCase(planned, result, seconds, case, observation, unrepeated)

    def known_or_not(self, checked: CheckedCase) -> CheckedCase:
        """Return a checked case as it counts: as known, if it fails by a known cause."""
        if checked.observation is None or checked.result.nondeterministic:
            return checked
        return checked._replace(result=known_or_not(checked.observation, checked.result, self.known))
