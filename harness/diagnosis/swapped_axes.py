"""swapped_axes: the mistake of a layer that reads (N, T, input_size) and runs along N, as nn.RNN does by default.

It shows where the last output alone is returned, and the rows of that are steps of one sequence.
"""

from dataclasses import replace
from typing import Final

from harness.checks.agreement import Observation, arithmetic_of, assess, plain_outcome, unfit
from harness.checks.result import Verdict
from harness.diagnosis.experiments import Question, ShownCause
from harness.space.case import Case
from harness.subjects.protocol import Subject

FRESH_WITH_SWAP: Final = 3  # fresh cases, with more than one sequence and one step, on which it is seen, too
MOST_SWAPPED: Final = 16  # that are tried at most


def exchanged_of(question: Question) -> ShownCause | None:
    """Return that a subject takes sequences for steps, and steps for sequences; ``None`` if it does not."""
    fresh = question.hits(_is_exchanged, most=MOST_SWAPPED, where=lambda config: config.T > 1 and config.N > 1)
    if fresh < FRESH_WITH_SWAP:
        return None
    return ShownCause(
        "runs along the sequences, not along time, as a layer without batch_first=True does",
        f"its rows are the steps of the last sequence, on this case and on {fresh} fresh ones",
        lambda subject, observation, _: _is_exchanged(subject, observation.case),
    )


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
    outcome = replace(outcome, arrays={"output": output, "h_n": output[-1:]})
    sequence = Case.from_arrays(steps, {**case.arrays, "x": case.x[:, -1:]})
    if unfit(sequence, outcome) is not None:
        return False
    plain, arithmetic = plain_outcome(steps, outcome), arithmetic_of(subject, sequence)
    independent = steps.strides != "expanded"
    seen = Observation(sequence.plain(), plain, arithmetic, independent=independent, prefixes={})
    return assess(seen).verdict is Verdict.AGREES
