"""Subject: what an implementation under test looks like to the harness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from harness.space.case import Case
from harness.space.errors import UsageError
from harness.space.outcome import Outcome


class SubjectError(UsageError):
    """A subject that cannot be had: unknown, not importable, of a wrong signature, or on a device that is not here."""


class Unsupported(NotImplementedError):
    """Raised by a subject to say that it does not do a config; a plain ``NotImplementedError`` says the same."""


def choose_devices(subject: Subject, asked: Sequence[str]) -> tuple[str, ...]:
    """The devices asked for by the subject's own names: ``cuda`` for ``cuda:0``. All of them, if none is asked for.

    Raises ``SubjectError`` for one that is not here.
    """
    here = subject.devices()
    chosen = tuple(device if device in here else f"{device}:0" for device in asked)
    for device, name in zip(asked, chosen, strict=True):
        if name not in here:
            raise SubjectError(f"device={device!r}: {subject.name} runs here on {', '.join(here)}")
    return chosen or here


@runtime_checkable
class Subject(Protocol):
    """An implementation under test.

    ``run`` reports the subject's own failures in the outcome; what it raises is the harness's fault. It gives the
    same answer to the same case, whatever ran before.
    """

    @property
    def name(self) -> str:
        """How the subject is asked for, and what reports call it."""
        ...

    def devices(self) -> tuple[str, ...]:
        """The devices on which it can run here; never empty."""
        ...

    def run(self, case: Case) -> Outcome:
        """What the subject gives on a case."""
        ...
