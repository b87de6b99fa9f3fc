"""Handling of Ctrl-C and SIGTERM: they end a search for certain, even if the KeyboardInterrupt itself is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType
from typing import Final, NoReturn

ENDING: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a search; what was found until then is reported. In a worker process SIGTERM ends the process at
once.
"""

_TERMINATED: Final = threading.Event()


def terminated() -> bool:
    """Return whether SIGTERM has come, which is answered by another exit code than Ctrl-C."""
    return _TERMINATED.is_set()


def heed_sigterm() -> None:
    """Have SIGTERM interrupt this process as Ctrl-C does, from now on."""
    _TERMINATED.clear()
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    _TERMINATED.set()
    raise KeyboardInterrupt


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], None]]:
    """Give a function to call between cases, which raises ``KeyboardInterrupt`` if one came and was swallowed.

    Python discards an exception raised inside a garbage collector's callback, and Hypothesis installs such a callback;
    also, a subject may catch everything. So the signal is recorded, too. In threads other than the main one, which no
    signal reaches, this does nothing.
    """
    noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        noted = True
        if number == signal.SIGTERM:
            _TERMINATED.set()
        if frame is None or frame.f_code.co_name != "gc_callback":
            raise KeyboardInterrupt

    def ask() -> None:
        if noted:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield ask
        return
    ending = ENDING if parent_process() is None else ENDING[:1]
    previous = {number: signal.signal(number, note) for number in ending}
    try:
        yield ask
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
