"""A subject in the process of its caller; the process ends if an answer takes too long.

Workers use it, because a worker that ends loses nothing, for subjects that leave their process as they found it: its
floating-point environment, NumPy, the warnings. It saves the cost of a separate process: a quarter of a search of small
cases, an eighth of torch's default one.
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
"""The seconds after which the process ends: five times what a plain loop in Python takes for the largest case of the
usual scope. A longer call is made in a separate process, whose cost is small beside such a call.
"""


class Sharing(NamedTuple):
    """A recipe for the subject that ``spec`` names: unpickling it makes a ``SharedSubject`` in that process."""

    spec: str
    timeout: float

    def __reduce__(self) -> tuple[Callable[[str, float], SharedSubject], tuple[str, float]]:
        """Pickle the constructor and its arguments instead of the subject."""
        return SharedSubject, (self.spec, self.timeout)


class SharedSubject:
    """The subject that ``spec`` names, in this process, which ends if a call is too long.

    A call is too long after ``timeout`` or ``PATIENCE`` seconds, whichever is less.
    """

    def __init__(self, spec: str, timeout: float) -> None:
        self._subject = find_subject(spec)
        self._patience = min(timeout, PATIENCE)
        self.name = self._subject.name
        self.capabilities = self._subject.capabilities.with_methods(self._within)

    def devices(self) -> tuple[str, ...]:
        """Return the devices on which it can run here."""
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        """Run the subject on a case."""
        with _watched(self._patience):
            return self._subject.run(case)

    def _within(self, _name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of the subject whose calls are watched, too."""

        @wraps(method)
        def call(*arguments: Any) -> Any:
            with _watched(self._patience):
                return method(*arguments)

        return call


@contextmanager
def _watched(seconds: float) -> Iterator[None]:
    """End the process if the block takes too long, no matter which thread holds Python's lock.

    An alarm signal without a handler ends it. That takes two system calls; starting and ending a watching thread takes
    0.3 ms on a busy machine.
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
    """Do the same on systems without alarms."""
    faulthandler.dump_traceback_later(seconds, file=_nowhere(), exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@cache
def _nowhere() -> IO[str]:
    """Open a file that discards the traceback; the separate process will report where the subject hangs."""
    return open(os.devnull, "w", encoding="ascii")  # noqa: PTH123 - stays open as long as the process lives
