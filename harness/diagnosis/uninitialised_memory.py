"""uninitialised_memory: memory that a subject reads before it writes it, such as an array of ``np.empty``.

What is in such memory is not known, and often zero. So the subject is run with new arrays filled, with one number and
then with others: if what it returns follows them, it reads them.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Final

from harness.checks.agreement import Observation
from harness.checks.result import Result
from harness.diagnosis.experiments import Question
from harness.diagnosis.fresh_cases import fresh_cases
from harness.space.case import Case
from harness.subjects.protocol import Subject

# Small ones where tanh is not at its ends; large ones of both signs where it is, or where 16 bits round them away.
MEMORY_FILLS: Final = (0.5, 0.25, 1e3, -1e3)
FRESH_WITH_FILL: Final = 3  # fresh cases on which it is seen, too
MOST_FILLED: Final = 12  # that are tried at most


@dataclass(frozen=True)
class UninitialisedMemory:
    """A subject whose results follow what new arrays are filled with."""

    fresh: int  # the number of fresh cases, beside the failing one, on which they do

    @property
    def sentence(self) -> str:
        """The cause for people; it reads on from "the subject"."""
        return "reads memory before it is written, such as an array of np.empty or torch.empty"

    @property
    def evidence(self) -> str:
        """The reason why that is certain."""
        return f"its results follow what new arrays are filled with, on this case and on {self.fresh} fresh ones"

    def explains(self, subject: Subject, observation: Observation, result: Result) -> bool:  # noqa: ARG002
        """Tell whether what it returns on a case follows what new arrays are filled with."""
        return follows_new_arrays(subject, observation.case)


def unwritten_of(question: Question) -> UninitialisedMemory | None:
    """Return that a subject reads what it has not written; ``None`` if new arrays change nothing."""
    subject, case = question.subject, question.finding.case
    if not follows_new_arrays(subject, case):
        return None
    fresh = sum(
        follows_new_arrays(subject, sample) for sample in islice(fresh_cases(case.config, question.scope), MOST_FILLED)
    )
    return UninitialisedMemory(fresh) if fresh >= FRESH_WITH_FILL else None


def follows_new_arrays(subject: Subject, case: Case) -> bool:
    """Tell whether the results of a case follow what new arrays are filled with."""
    run = subject.capabilities.run_filled
    if run is None:
        return False

    def bits(number: float) -> dict[str, bytes]:
        return {name: array.tobytes() for name, array in run(case, number).arrays.items()}

    first = bits(MEMORY_FILLS[0])
    return bool(first) and first == bits(MEMORY_FILLS[0]) and any(bits(number) != first for number in MEMORY_FILLS[1:])
