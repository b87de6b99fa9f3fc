"""positions: the argument that a class takes by position in the place of another one of nn.RNN's.

A case whose constructor's arguments are given by position fails, and with names it passes, which its certificate says.
The class's own signature then tells what it takes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.checks.agreement import Observation
from harness.checks.result import Result
from harness.space.config import RNNConfig
from harness.space.parts import LAYER, OPTIONS
from harness.subjects.protocol import Subject

GROUNDS: Final = "the same case passes with the arguments by name"
"""The reason why that is certain."""


@dataclass(frozen=True)
class OtherOrder:
    """The first argument of ``nn.RNN``'s in whose place a class takes another one."""

    taken: str
    place: str

    @property
    def sentence(self) -> str:
        """The cause for people; it reads on from "the subject"."""
        return f"takes {self.taken} where nn.RNN takes {self.place}, if arguments are given by position"


def other_order(subject: Subject, config: RNNConfig) -> OtherOrder | None:
    """Return the first argument that is in another place, if a config gives them by position and the names are known.

    The sizes come first whatever they are called, because they are always given by position.
    """
    own = subject.capabilities.positions[len(LAYER) - len(OPTIONS) :]
    if not config.positional:
        return None
    return next((OtherOrder(*pair) for pair in zip(own, OPTIONS, strict=False) if pair[0] != pair[1]), None)


class ByPosition:
    """An excuse for every failure of a constructor whose arguments are given by position."""

    def __init__(self, name: str) -> None:
        self.name = name

    def excuses(self, observation: Observation, _result: Result) -> bool:
        """Tell if arguments are given by position."""
        return observation.config.positional
