"""The answer to one call of a recurrent module, whether the call is well formed or malformed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Stage(Enum):
    """The steps of using a module, in their order."""

    CONSTRUCTOR = "the constructor"
    PARAMETERS = "setting a parameter"
    PACKING = "packing"
    CALL = "the call"

    @property
    def place(self) -> int:
        """The number of stages before this one."""
        return list(Stage).index(self)


class Kind(Enum):
    """The ways in which a call can end."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """The call raised an exception."""
    CRASHED = "crashed"
    """The process that ran the call ended."""
    HUNG = "hung"
    """The call did not return in time."""


@dataclass(frozen=True)
class Answer:
    """The result of a call: the things it returned, the exception it raised and where, or how its process ended.

    ``classes`` are the names of the exception's class and of its base classes, nearest first. ``returned`` gives the
    shape, dtype and finiteness of each thing returned.
    """

    kind: Kind
    stage: Stage | None = None
    classes: tuple[str, ...] = ()
    message: str = ""
    returned: tuple[str, ...] = ()

    @classmethod
    def accepted(cls, *returned: str) -> Answer:
        """Return the answer of a call that returned something."""
        return cls(Kind.ACCEPTED, returned=returned)

    @classmethod
    def refused(cls, stage: Stage, error: BaseException) -> Answer:
        """Return the answer of a call that raised ``error``."""
        return cls(Kind.REFUSED, stage, tuple(base.__name__ for base in type(error).__mro__), str(error))

    @classmethod
    def crashed(cls, message: str) -> Answer:
        """Return the answer of a call whose process ended; ``message`` says how, such as by which signal."""
        return cls(Kind.CRASHED, message=message)

    @classmethod
    def hung(cls, message: str) -> Answer:
        """Return the answer of a call that did not come back; ``message`` says after how long."""
        return cls(Kind.HUNG, message=message)

    @property
    def unsupported(self) -> bool:
        """True if the subject says that it does not support this call.

        Such an answer does not show whether the subject refuses the malformed calls that it must refuse.
        """
        return "NotImplementedError" in self.classes
