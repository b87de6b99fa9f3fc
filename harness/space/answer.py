"""answer: what came of one call of a recurrent module, be it well formed or not."""

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
        """How many stages come before this one."""
        return list(Stage).index(self)


class Kind(Enum):
    """What can come of a call."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """It raised an exception."""
    CRASHED = "crashed"
    """The process that ran it ended."""
    HUNG = "hung"
    """It did not come back in time."""


@dataclass(frozen=True)
class Answer:
    """What came of a call: what it returned, or what it raised and where, or how its process ended.

    ``classes`` are the names of the exception's class and of the classes that it inherits from, nearest first;
    ``returned`` says shape, dtype and finiteness of each thing returned.
    """

    kind: Kind
    stage: Stage | None = None
    classes: tuple[str, ...] = ()
    message: str = ""
    returned: tuple[str, ...] = ()

    @classmethod
    def accepted(cls, *returned: str) -> Answer:
        """It returned something."""
        return cls(Kind.ACCEPTED, returned=returned)

    @classmethod
    def refused(cls, stage: Stage, error: BaseException) -> Answer:
        """It raised ``error``."""
        return cls(Kind.REFUSED, stage, tuple(base.__name__ for base in type(error).__mro__), str(error))

    @classmethod
    def crashed(cls, message: str) -> Answer:
        """Its process ended; ``message`` says how, such as by which signal."""
        return cls(Kind.CRASHED, message=message)

    @classmethod
    def hung(cls, message: str) -> Answer:
        """It did not come back; ``message`` says after how long."""
        return cls(Kind.HUNG, message=message)

    @property
    def unsupported(self) -> bool:
        """Whether the subject says that it does not do this: of what must be refused, nothing follows from it."""
        return "NotImplementedError" in self.classes
