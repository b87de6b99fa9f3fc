"""argument_order: the argument that a class takes by position in the place of another one of nn.RNN's.

A case whose constructor's arguments are given by position fails, and with names it does not fail so. The class's own
signature then tells what it takes there.
"""

from collections.abc import Callable
from typing import Final

from harness.checks.agreement import Observation
from harness.checks.case_checks import against
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import Question, ShownCause
from harness.diagnosis.failure_conditions import like
from harness.space.case import Case
from harness.space.factor_table import LAYER, OPTIONS
from harness.space.refit import fitted
from harness.subjects.protocol import Subject

PASSES: Final = "the same case passes with the arguments by name"
BY_NAME_OTHERWISE: Final = "with the arguments by name, the same case fails in another way, or for what is known"


def other_order(question: Question) -> ShownCause | None:
    """Return the first argument that is in another place, if a finding needs arguments by position and they have names.

    The sizes come first whatever they are called, because they are always given by position.
    """
    case, own = question.finding.case, question.subject.capabilities.positions[len(LAYER) - len(OPTIONS) :]
    differing = next((pair for pair in zip(own, OPTIONS, strict=False) if pair[0] != pair[1]), None)
    if differing is None or not case.config.positional:
        return None
    if (by_name := _by_name(question.check, case, question.finding.result)) is None:
        return None

    def explains(_subject: Subject, observation: Observation, result: Result) -> bool:
        config = observation.config
        return config.positional and _by_name(question.check, fitted(observation.case, config), result) is not None

    given, place = differing
    passes = by_name.verdict is Verdict.AGREES and by_name.known_as is None
    sentence = f"takes {given} where nn.RNN takes {place}, if arguments are given by position"
    return ShownCause(sentence, PASSES if passes else BY_NAME_OTHERWISE, explains)


def _by_name(check: Callable[[Case], Result], case: Case, result: Result) -> Result | None:
    """Return the result of a case with its arguments by name; ``None`` if it fails as it does by position."""
    by_name = check(fitted(case, case.config.replace(positional=False)))
    return None if against(by_name) and like(by_name) == like(result) else by_name
