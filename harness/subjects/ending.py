"""ending: how a process ended, in words."""

from __future__ import annotations

import signal
from typing import Final

GRACE: Final = 1.0
"""The seconds that a process gets to end by itself when nobody waits for its work any more."""


def how_it_ended(code: int) -> str:
    """Return how a process with this exit code ended; a negative one stands for a signal."""
    return f"died of {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
