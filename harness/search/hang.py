"""Hangs: the first case without an answer ends the work with a subject, because the next may take as long.

A crash that takes the fork server along counts as one.
"""

from __future__ import annotations

from harness.checks.agreement import failure_of
from harness.checks.result import Result
from harness.space.case import Case
from harness.space.outcome import Failure, Outcome, is_last
from harness.subjects.protocol import Subject


class Hang(BaseException):
    """Raised when a subject did not answer in time; not an ``Exception``, which Hypothesis would try to shrink."""

    def __init__(self, case: Case, result: Result) -> None:
        super().__init__(case, result)
        self.case = case
        self.result = result

    @property
    def why(self) -> str:
        """The reason why the case was not made smaller."""
        may = "hang" if self.result.failure is Failure.HUNG else "take as long"
        return f"not made smaller, because every try may {may}"


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
        if is_last(outcome.failure, outcome.message) and (result := failure_of(outcome)) is not None:
            raise Hang(case, result)
        return outcome


def stop_at_hang(case: Case, result: Result) -> None:
    """Raise ``Hang`` for a hang outside ``run``."""
    if is_last(result.failure, result.message):
        raise Hang(case, result)
