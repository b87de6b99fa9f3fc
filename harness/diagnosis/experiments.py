"""experiments: causes of a failure that a subject was asked for, and how further failures with one are recognised.

What is wrong need not be the arithmetic of the layer: it may be the order of arguments, the weights of an earlier call,
a declaration, or how numbers are rounded. Each of these has a check of its own, and all causes have one protocol.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

from harness.checks.agreement import Observation
from harness.checks.result import Result
from harness.diagnosis.fresh_cases import fresh_cases
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.observation_cache import ObservationCache
from harness.search.search_record import Finding
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.scope import Scope
from harness.subjects.protocol import Subject


class Recognition(Protocol):
    """What tells whether a further failure is of a kind that was found before."""

    def explains(self, subject: Subject, observation: Observation, result: Result) -> bool:
        """Tell whether a subject's failing result, which came from an observation, is of the kind."""
        ...

    def left(self, subject: Subject, observation: Observation, result: Result) -> Result:
        """Return a result without what this explains of it; the result itself if that is nothing."""
        ...


class Cause(Recognition, Protocol):
    """A cause that is certain, because a subject was asked what only that cause answers."""

    @property
    def sentence(self) -> str:
        """The cause for people; it reads on from "the subject"."""
        ...

    @property
    def evidence(self) -> str:
        """The reason why that is certain."""
        ...


class WholeCause:
    """What explains all of a result, or nothing."""

    def left(self, _subject: Subject, _observation: Observation, result: Result) -> Result:
        return result


@dataclass(frozen=True)
class ShownCause(WholeCause):
    """A cause of which nothing more is to be said."""

    sentence: str
    evidence: str
    explains: Callable[[Subject, Observation, Result], bool]


class Question(NamedTuple):
    """A question to a check: the cause of a finding. The answer is a ``Cause`` or ``None``."""

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

    def hits(
        self,
        shows: Callable[[Subject, Case], bool],
        *,
        most: int,
        where: Callable[[RNNConfig], bool] = lambda _config: True,
    ) -> int:
        """Return on how many of as many fresh cases something shows; 0 if it does not on the finding's own."""
        case = self.finding.case
        if not shows(self.subject, case):
            return 0
        fresh = islice(fresh_cases(case.config, self.scope), most)
        return sum(where(sample.config) and shows(self.subject, sample) for sample in fresh)


@dataclass(frozen=True)
class FindingCause:
    """The known cause that a finding is: what recognises further failures like it."""

    name: str  # the finding's id
    subject: Subject
    cause: Recognition

    def covers(self, observation: Observation, result: Result) -> bool:
        """Tell whether the cause explains a failure."""
        return self.cause.explains(self.subject, observation, result)

    def left(self, observation: Observation, result: Result) -> Result:
        """Return a result without what the cause explains of it."""
        return self.cause.left(self.subject, observation, result)
