"""hang: the first case that gets no answer ends what is being done with a subject, for the next may take as long."""

from __future__ import annotations

from typing import Any

from harness.checks.agreement import failure_of
from harness.checks.result import Result
from harness.space.case import Case
from harness.space.outcome import Failure, Outcome
from harness.subjects.protocol import Subject


class Hang(BaseException):
    """A subject did not answer in time; no ``Exception``, which Hypothesis would take for a failure to be shrunk."""

    def __init__(self, case: Case, result: Result) -> None:
        super().__init__(case, result)
        self.case = case
        self.result = result


def ended_by_a_hang(subject: Subject) -> Subject:
    """The same subject, but for its ``run``, which raises ``Hang`` with the very case, be it one layer of another."""
    return _Watched(subject)


class _Watched:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.name = subject.name

    def devices(self) -> tuple[str, ...]:
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        outcome = self._subject.run(case)
        if outcome.failure is Failure.HUNG and (result := failure_of(outcome)) is not None:
            raise Hang(case, result)
        return outcome

    def __getattr__(self, name: str) -> Any:
        """What the subject has beside the protocol; it has no more here than there."""
        return getattr(self._subject, name)
