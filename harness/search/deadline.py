"""Reasons to stop early: the subject hangs, the time is over, Ctrl-C, SIGTERM, SIGHUP."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from types import FrameType
from typing import Any, Final, TypeVar

from harness.checks.agreement import failure_of
from harness.checks.result import Result
from harness.processes import TERMINATION_SIGNALS
from harness.search.search_record import SearchRecord, Stop
from harness.space.case import Case
from harness.space.outcome import Failure, Outcome, is_last
from harness.subjects.protocol import Subject

T = TypeVar("T")


class Hang(BaseException):
    """Raised when a subject did not answer in time, or crashed and took the fork server along.

    The next case may take as long. It is not an ``Exception``, which Hypothesis would try to shrink.
    """

    def __init__(self, case: Case, result: Result) -> None:
        super().__init__(case, result)
        self.case = case
        self.result = result

    @property
    def why(self) -> str:
        """The reason why the case was not made smaller."""
        may = "hang" if self.result.failure is Failure.HUNG else "take as long"
        return f"not made smaller, because every try may {may}"


class TimeOver(BaseException):
    """Raised when the time is over; not an ``Exception``, which a subject's own code might catch."""


def stop_at_hang(case: Case, result: Result) -> None:
    """Raise ``Hang`` for a result after which nothing more is asked."""
    if is_last(result.failure, result.message):
        raise Hang(case, result)


class DeadlineSubject:
    """A subject with a ``run`` that raises ``Hang``, and ``TimeOver`` from a moment of ``time.perf_counter`` on.

    The case of a hang may be a prefix of the one that was asked.
    """

    def __init__(self, subject: Subject, until: float = math.inf) -> None:
        self._subject, self._until = subject, until
        self.name, self.capabilities, self.devices = subject.name, subject.capabilities, subject.devices

    def run(self, case: Case) -> Outcome:
        """Run the subject on a case."""
        stop_if_interrupted()
        if time.perf_counter() >= self._until:
            raise TimeOver
        outcome = self._subject.run(case)
        if is_last(outcome.failure, outcome.message) and (result := failure_of(outcome)) is not None:
            raise Hang(case, result)
        return outcome


_NOTED: Final[list[int]] = []  # the signals that have interrupted the search


def stop_if_interrupted() -> None:
    """Raise ``KeyboardInterrupt`` if one came to the search, which may have been swallowed."""
    if _NOTED:
        raise KeyboardInterrupt


@contextmanager
def noted_interrupts() -> Iterator[None]:
    """Note each interrupt, for ``stop_if_interrupted`` to ask between cases.

    Python discards an exception raised inside a garbage collector's callback, and Hypothesis installs such a callback;
    also, a subject may catch everything. So the signal is recorded, too. SIGTERM and SIGHUP are heeded as Ctrl-C is,
    but for workers.
    """

    def note(number: int, frame: FrameType | None) -> None:
        _NOTED.append(number)
        _handle_as(previous[number], number, frame)
        if frame is None or frame.f_code.co_name != "gc_callback":
            raise KeyboardInterrupt

    try:
        with _handled(lambda _number: note) as previous:
            yield
    finally:
        _NOTED.clear()


@contextmanager
def uninterrupted(record: SearchRecord) -> Iterator[Callable[[Callable[[], T]], T | None]]:
    """Let no interrupt lose what was found, while it is kept and reported; the record notes each that comes.

    What takes long is done by the function that this gives. Once the search is interrupted, nobody waits for that: it
    is ended, or not begun, and the function returns ``None``.
    """

    def note(number: int, frame: FrameType | None) -> None:
        record.interrupt()
        _handle_as(previous[number], number, frame)

    def attempt(function: Callable[[], T]) -> T | None:
        if record.stop is Stop.INTERRUPTED:
            return None
        try:
            with _handled(previous.get):
                return function()
        except KeyboardInterrupt:
            record.interrupt()
            return None

    with _handled(lambda _number: note) as previous:
        yield attempt


def _handle_as(usual: Any, number: int, frame: FrameType | None) -> None:
    """Call the handler before, which may say that the interrupt was heard, or end the command."""
    if callable(usual):
        with suppress(KeyboardInterrupt):
            usual(number, frame)


@contextmanager
def _handled(by: Callable[[int], Any]) -> Iterator[dict[int, Any]]:
    """Handle each signal that interrupts by another handler, and give those before.

    In threads other than the main one, which no signal reaches, this does nothing.
    """
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ending = [signal.SIGINT, *(TERMINATION_SIGNALS if parent_process() is None else [])]  # a worker ends at SIGTERM
        ending = [number for number in ending if signal.getsignal(number) is not signal.SIG_IGN]
        previous |= {number: signal.signal(number, by(number)) for number in ending}
    try:
        yield previous
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
