"""shared: a subject in the process of who asks it, which ends where an answer takes too long.

That is for workers, with whom nothing is lost, and for subjects that leave their process as they found it: its
floating-point environment, NumPy, the warnings. It spares what a process of its own costs: a quarter of a search of
small cases, an eighth of torch's default one.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import IO, Any, Final, NamedTuple

from harness.space.case import Case
from harness.space.outcome import Outcome
from harness.subjects.registry import find_subject

PATIENCE: Final = 5.0
"""Seconds after which the process ends: five times what the largest case of the usual scope takes a plain loop in
Python. A call that takes longer is made in a process of its own, whose cost is nothing beside it."""


class Sharing(NamedTuple):
    """The subject that ``spec`` names, wherever pickle makes it of this: a ``SharedSubject`` there."""

    spec: str
    timeout: float

    def __reduce__(self) -> tuple[Callable[[str, float], SharedSubject], tuple[str, float]]:
        """What is sent is how to make it."""
        return SharedSubject, (self.spec, self.timeout)


class SharedSubject:
    """The subject that ``spec`` names, in this process, which ends where a call takes ``timeout`` or ``PATIENCE``."""

    def __init__(self, spec: str, timeout: float) -> None:
        self._subject = find_subject(spec)
        self._patience = min(timeout, PATIENCE)
        self.name = self._subject.name

    def devices(self) -> tuple[str, ...]:
        """The devices on which it can run here."""
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        """What the subject gives on a case."""
        with _watched(self._patience):
            return self._subject.run(case)

    def __getattr__(self, name: str) -> Any:
        """What the subject has beside the protocol, watched where it is called."""
        found = getattr(self._subject, name)
        if not callable(found):
            return found

        @wraps(found)
        def call(*arguments: Any) -> Any:
            with _watched(self._patience):
                return found(*arguments)

        return call


@contextmanager
def _watched(seconds: float) -> Iterator[None]:
    """End the process unless the block is left in time, whoever holds Python's lock: by an alarm that nobody hears.

    Two system calls, where a thread that watches takes 0.3 ms to begin and end on a machine that is busy.
    """
    if not hasattr(signal, "setitimer"):
        with _watched_by_a_thread(seconds):
            yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _watched_by_a_thread(seconds: float) -> Iterator[None]:
    """The same, where there are no alarms."""
    faulthandler.dump_traceback_later(seconds, file=_nowhere(), exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@cache
def _nowhere() -> IO[str]:
    """A file that takes what nobody reads: a process of its own will say where the subject hangs."""
    return open(os.devnull, "w", encoding="ascii")  # noqa: PTH123 - for as long as the process lives
