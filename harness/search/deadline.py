"""Deadlines: the work with a subject ends when its time is over, at the next call at the latest."""

from __future__ import annotations

import time

from harness.space.case import Case
from harness.space.outcome import Outcome
from harness.subjects.protocol import Subject


class Late(BaseException):
    """Raised when the time is over; not an ``Exception``, which a subject's own code might catch."""


def ended_at(subject: Subject, moment: float) -> Subject:
    """Return the same subject with a ``run`` that raises ``Late`` from a moment of ``time.perf_counter`` on."""
    return _Timed(subject, moment)


class _Timed:
    def __init__(self, subject: Subject, moment: float) -> None:
        self._subject, self._moment = subject, moment
        self.name = subject.name
        self.capabilities = subject.capabilities

    def devices(self) -> tuple[str, ...]:
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        if time.perf_counter() >= self._moment:
            raise Late
        return self._subject.run(case)
