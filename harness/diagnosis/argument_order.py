"""argument_order: the argument that a class takes by position in the place of another one of nn.RNN's.

A case whose constructor's arguments are given by position fails, and with names it does not fail so. The class's own
signature then tells what it takes there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from harness.checks.agreement import Observation
from harness.checks.case_checks import against
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import Question
from harness.diagnosis.failure_conditions import like
from harness.space.case import Case
from harness.space.factor_table import LAYER, OPTIONS
from harness.space.refit import fitted
from harness.subjects.protocol import Subject

PASSES: Final = "the same case passes with the arguments by name"
BY_NAME_OTHERWISE: Final = "with the arguments by name, the same case fails in another way, or for what is known"


@dataclass(frozen=True)
class ArgumentOrder:
    """The first argument of ``nn.RNN``'s in whose place a class takes another one."""

    given_order: str
    place: str
    evidence: str  # The reason why that is certain: how the same case ends with the arguments by name
    check: Callable[[Case], Result] = field(compare=False, repr=False)  # as the finding was checked
    fresh: int = 0

    @property
    def sentence(self) -> str:
        """The cause for people; it reads on from "the subject"."""
        return f"takes {self.given_order} where nn.RNN takes {self.place}, if arguments are given by position"

    def explains(self, _subject: Subject, observation: Observation, result: Result) -> bool:
        """Tell if a case whose arguments are given by position does not fail so with them by name."""
        config = observation.config
        return config.positional and _by_name(self.check, fitted(observation.case, config), result) is not None


def other_order(question: Question) -> ArgumentOrder | None:
    """Return the first argument that is in another place, if a finding needs arguments by position and they have names.

    The sizes come first whatever they are called, because they are always given by position.
    """
    case, own = question.finding.case, question.subject.capabilities.positions[len(LAYER) - len(OPTIONS) :]
    differing = next((pair for pair in zip(own, OPTIONS, strict=False) if pair[0] != pair[1]), None)
    if differing is None or not case.config.positional:
        return None
    if (by_name := _by_name(question.check, case, question.finding.result)) is None:
        return None
    passes = by_name.verdict is Verdict.AGREES and by_name.known_as is None
    return ArgumentOrder(*differing, PASSES if passes else BY_NAME_OTHERWISE, question.check)


def _by_name(check: Callable[[Case], Result], case: Case, result: Result) -> Result | None:
    """Return the result of a case with its arguments by name; ``None`` if it fails as it does by position."""
    by_name = check(fitted(case, case.config.replace(positional=False)))
    return None if against(by_name) and like(by_name) == like(result) else by_name
