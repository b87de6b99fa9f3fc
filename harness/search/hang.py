"""Hangs: the first case without an answer ends the work with a subject, because the next may take as long."""

from __future__ import annotations

from harness.checks.agreement import failure_of
from harness.checks.result import Result
from harness.space.case import Case
from harness.space.outcome import Failure, Outcome
from harness.subjects.protocol import Subject


class Hang(BaseException):
    """Raised when a subject did not answer in time; not an ``Exception``, which Hypothesis would try to shrink."""

    def __init__(self, case: Case, result: Result) -> None:
        super().__init__(case, result)
        self.case = case
        self.result = result


def ended_by_a_hang(subject: Subject) -> Subject:
    """Return the same subject with a ``run`` that raises ``Hang`` with the case that hung, which may be a prefix."""
    return _Watched(subject)


class _Watched:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.name = subject.name
        self.capabilities = subject.capabilities

    def devices(self) -> tuple[str, ...]:
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        outcome = self._subject.run(case)
        if outcome.failure is Failure.HUNG and (result := failure_of(outcome)) is not None:
            raise Hang(case, result)
        return outcome


def stop_at_hang(case: Case, result: Result) -> None:
    """Raise ``Hang`` for a hang outside ``run``."""
    if result.failure is Failure.HUNG:
        raise Hang(case, result)
