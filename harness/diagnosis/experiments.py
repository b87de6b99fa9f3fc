"""experiments: causes of a failure that an experiment tells, and how further failures with such a cause are recognised.

What is wrong need not be the arithmetic of the layer: it may be the order of arguments, the weights of an earlier call,
a declaration, or how numbers are rounded. Each of these has a check of its own, and all causes have one protocol.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from harness.checks.agreement import Observation
from harness.checks.result import Result
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.observation_cache import ObservationCache
from harness.search.search_record import Finding
from harness.space.case import Case
from harness.space.scope import Scope
from harness.subjects.protocol import Subject


class ExperimentCause(Protocol):
    """A cause that is certain, because a subject was asked what only that cause answers."""

    @property
    def fresh(self) -> int:
        """The number of cases, beside the failing one, on which it was seen."""
        ...

    @property
    def sentence(self) -> str:
        """The cause for people; it reads on from "the subject"."""
        ...

    @property
    def evidence(self) -> str:
        """The reason why that is certain."""
        ...

    def explains(self, subject: Subject, observation: Observation, result: Result) -> bool:
        """Tell whether a subject's failing result, which came from an observation, has this cause."""
        ...


class Question(NamedTuple):
    """A question to a check: the cause of a finding. The answer is a ``ExperimentCause`` or ``None``."""

    observations: ObservationCache
    finding: Finding
    scope: Scope
    check: Callable[[Case], Result]  # as the finding was checked
    until: float = math.inf
    identified: Sequence[Identification] = ()  # what the subject was found to compute for earlier findings

    @property
    def subject(self) -> Subject:
        """The subject, guarded as for an explanation."""
        return self.observations.subject


@dataclass(frozen=True)
class KnownByExperiment:
    """A known cause for every failure that a cause explains."""

    name: str
    subject: Subject
    cause: ExperimentCause

    def covers(self, observation: Observation, result: Result) -> bool:
        """Tell whether the cause explains a failure."""
        return self.cause.explains(self.subject, observation, result)


@dataclass(frozen=True)
class KnownByModel(KnownByExperiment):
    """A known cause for every failure that an identified layer explains, and for what it explains of others."""

    cause: IdentifiedCause

    def left(self, observation: Observation, result: Result) -> Result:
        """Return a result without what the identified layer explains."""
        return self.cause.left(self.subject, observation, result)
