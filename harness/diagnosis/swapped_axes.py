"""swapped_axes: the mistake of a layer that reads (N, T, input_size) and runs along N, as nn.RNN does by default.

It shows where the last output alone is returned, and the rows of that are steps of one sequence.
"""

from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from harness.checks.agreement import Observation, check_agreement
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import Question
from harness.diagnosis.fresh_cases import fresh_cases
from harness.space.case import Case
from harness.space.outcome import Outcome
from harness.subjects.capabilities import Capabilities
from harness.subjects.protocol import Subject

FRESH_WITH_SWAP: Final = 3  # fresh cases, with more than one sequence and one step, on which it is seen, too
MOST_SWAPPED: Final = 16  # that are tried at most


@dataclass(frozen=True)
class SwappedAxes:
    """A subject that takes sequences for steps, and steps for sequences."""

    fresh: int  # the number of fresh cases, beside the failing one, on which it does

    @property
    def sentence(self) -> str:
        """The cause for people; it reads on from "the subject"."""
        return "runs along the sequences, not along time, as a layer without batch_first=True does"

    @property
    def evidence(self) -> str:
        """The reason why that is certain."""
        return f"its rows are the steps of the last sequence, on this case and on {self.fresh} fresh ones"

    def explains(self, subject: Subject, observation: Observation, result: Result) -> bool:  # noqa: ARG002
        """Tell whether it does so on a case."""
        return _is_exchanged(subject, observation.case)


def exchanged_of(question: Question) -> SwappedAxes | None:
    """Return that a subject runs along the wrong axis of x; ``None`` if it does not."""
    subject, case = question.subject, question.finding.case
    if not _is_exchanged(subject, case):
        return None
    fresh = islice(fresh_cases(case.config, question.scope), MOST_SWAPPED)
    hits = sum(_is_exchanged(subject, sample) for sample in fresh if sample.config.T > 1 and sample.config.N > 1)
    return SwappedAxes(hits) if hits >= FRESH_WITH_SWAP else None


def _is_exchanged(subject: Subject, case: Case) -> bool:
    """Tell whether the last output of each sequence is a step of the last one of x, taken as (T, N, input_size)."""
    case = case.forward()
    config, capabilities = case.config, subject.capabilities
    if not (config.batch_first and capabilities.conventions.last_output_only) or config.hx or config.N == config.T == 1:
        return False
    outcome = subject.run(case)
    last = outcome.arrays.get("h_n")
    if last is None or last.shape != config.outputs["h_n"].shape:
        return False
    steps = config.replace(T=config.N, N=1, batch_first=False, training=False)
    output = last.transpose(1, 0, 2)
    answered = _StubSubject(subject, replace(outcome, arrays={"output": output, "h_n": output[-1:]}))
    sequence = Case.from_arrays(steps, {**case.arrays, "x": case.x[:, -1:]})
    return check_agreement(answered, sequence, with_probes=False).verdict is Verdict.AGREES


class _StubSubject:
    """A subject with a known outcome."""

    def __init__(self, subject: Subject, outcome: Outcome) -> None:
        self.name, self._outcome = subject.name, outcome
        self.capabilities = Capabilities(arithmetic=subject.capabilities.arithmetic)

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def run(self, case: Case) -> Outcome:  # noqa: ARG002 - there is one
        return self._outcome
