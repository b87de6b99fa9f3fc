"""The outcome of one run: arrays, a refusal, a crash, or something that is not an answer at all."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from harness.space.case import Array
from harness.space.errors import require_type

_LEFT_OUT: Final = " ... (cut) ... "
# What terminals act on, and what begins a command in a log of GitHub's: :: in a line's beginning, ##[ anywhere.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]|^[ \t]*:(?=:)|#(?=#\[)", re.MULTILINE)


class Failure(Enum):
    """The reasons why a run gave no arrays."""

    UNSUPPORTED = "unsupported"  # The subject says that it does not support this config
    RAISED = "raised"  # The subject raised an error
    MALFORMED = "malformed"  # The subject returned something other than the arrays that it had to return
    CRASHED = "died"  # The subject's process ended without an answer
    HUNG = "hung"  # The subject did not answer in time


# The most characters of a failure's texts: more than a person reads, and little enough for a thousand of them.
LONGEST_TEXTS: Final = {"message": 2_000, "traceback": 20_000}

# The message of a crash that took the process along from which all others are forked.
ORPHANED: Final = "its process lost its fork server"

PROCESS_LOST: Final = frozenset(
    {Failure.CRASHED, Failure.HUNG}
)  # Failures after which there is no process left to ask again


def is_last(failure: Failure | None, message: str) -> bool:
    """Return whether a failure is the last thing to ask of a subject: the next call may cost as much time.

    That is true of a hang, and of a crash after which a fork server imports everything again.
    """
    return failure is Failure.HUNG or (failure is Failure.CRASHED and message == ORPHANED)


@dataclass(frozen=True, eq=False)
class Outcome:
    """The arrays of one run by name, or the failure of the run.

    The names are ``output``, ``h_n``, ``readout`` and those of the gradients; a subject may leave some out.
    ``changed_inputs`` names the arrays that the subject wrote into although they were only lent to it. ``aliased``
    lists pairs of arrays that share memory although each should be writable on its own, such as ``("h_n", "output")``.
    ``overwritten`` names the arrays that a further call changed, if one was made. ``not_returned`` names the gradients,
    or the output, that the subject does not have, and ``ignored`` the gradients that it returned although nn.RNN does
    not have them. ``message`` and ``traceback`` are kept ``legible``. ``classes`` are the names of the raised error's
    class and of its base classes, nearest first.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    failure: Failure | None = None
    message: str = ""
    traceback: str = ""
    classes: tuple[str, ...] = ()
    changed_inputs: tuple[str, ...] = ()
    aliased: tuple[tuple[str, str], ...] = ()
    overwritten: tuple[str, ...] = ()
    not_returned: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Keep the texts legible, whoever wrote them."""
        for name, most in LONGEST_TEXTS.items():
            require_type(name, getattr(self, name), str, "a text")
            object.__setattr__(self, name, legible(getattr(self, name), most))


def legible(text: str, most: int) -> str:
    """Return text of foreign origin as it may be printed: of at most so many characters, and without terminal control.

    Longer text is cut in the middle. Legible text stays as it is.
    """
    return _cut(printable(_cut(text, most)), most)


def printable(text: str) -> str:
    """Return text with escapes for what is acted on: control characters other than line ends and tabs, and others.

    These are halves of surrogate pairs, and what begins a command in a log of GitHub's.
    """
    return _CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    before, last = match[0][:-1], match[0][-1]
    return before + (f"\\x{ord(last):02x}" if last in ":#" else last.encode("unicode_escape").decode())


def _cut(text: str, most: int) -> str:
    half = (most - len(_LEFT_OUT)) // 2
    return text if len(text) <= most else f"{text[:half]}{_LEFT_OUT}{text[-half:]}"
