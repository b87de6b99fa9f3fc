"""The error for a request that cannot be answered; its text says what was given, what was expected and what to do."""

import math
import reprlib
from numbers import Integral, Real
from typing import Any


class UsageError(ValueError):
    """A request that makes no sense as it stands; the command line turns it into exit code 2."""


def require_int(name: str, value: Any, least: int) -> None:
    """Raise ``UsageError`` unless an argument is an int of at least ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name}={reprlib.repr(value)}: expected an int of at least {least}")


def require_seconds(name: str, value: Any) -> None:
    """Raise ``UsageError`` unless an argument is a number of seconds above zero."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
        raise UsageError(f"{name}={reprlib.repr(value)}: expected seconds, a number above zero")


def require_type(name: str, value: Any, expected: type, make: str) -> None:
    """Raise ``UsageError`` unless an argument has the expected type; ``make`` says how to make one."""
    if not isinstance(value, expected):
        raise UsageError(f"{name}={reprlib.repr(value)}: expected {expected.__name__}; {make}")
