"""agreement: does a subject compute, on a case, what the reference says that nn.RNN computes?

The comparison is step-local (see ``oracle.expectation``), for which the subject's output of every layer must be known.
Inner layers are reached by running the subject on prefixes of the stack, with the same weights; a prefix stands for
the layers inside the full run only if the h_n of both are equal bit for bit. Where they are not, or where the subject
refuses a prefix, the comparison is made end to end, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.checks.result import Method, Result, Verdict
from harness.oracle.compare import Mismatch, Sort, check_form, compare, equal_bits
from harness.oracle.expectation import expect_end_to_end, expect_local
from harness.oracle.reference import Reference
from harness.space.case import Array, Case
from harness.space.outcome import Failure, Outcome
from harness.subjects.protocol import Subject

REFERENCE = Reference()


def check_agreement(subject: Subject, case: Case, reference: Reference = REFERENCE) -> Result:
    """Run ``subject`` on ``case`` and compare ``output``, ``h_n`` and ``readout``, as far as it returns them."""
    outcome = subject.run(case)
    if (unfit := _unfit(case, outcome)) is not None:
        return unfit
    states = _states(subject, case, outcome)
    if states is None:
        return _judged(compare(case.config, outcome.arrays, expect_end_to_end(reference, case)), Method.END_TO_END)
    expected = expect_local(reference, case, states)
    mismatches: list[Mismatch] = []
    for layer, array in enumerate(states[:-1]):
        mismatches += compare(
            case.config.prefix(layer + 1), {"output": array}, {"output": expected.inner[layer]}, layer
        )
    mismatches += compare(case.config, {"output": states[-1], **outcome.arrays}, expected.arrays)
    return _judged(mismatches, Method.LOCAL)


def _unfit(case: Case, outcome: Outcome) -> Result | None:
    """The result of an outcome that has no values to compare, or that broke a rule before any value matters."""
    if outcome.failure is Failure.UNSUPPORTED:
        return Result(Verdict.UNSUPPORTED, message=outcome.message)
    if outcome.failure is Failure.RAISED:
        return Result(Verdict.BROKEN, message=outcome.message, traceback=outcome.traceback)
    if outcome.failure is Failure.MALFORMED:
        return Result(Verdict.DISAGREES, (Mismatch("the result", Sort.MALFORMED, actual=outcome.message),))
    found = check_form(case.config, outcome.arrays, required=_required(case))
    found += [Mismatch(name, Sort.CHANGED) for name in outcome.changed_inputs]
    return Result(Verdict.DISAGREES, tuple(found)) if found else None


def _states(subject: Subject, case: Case, outcome: Outcome) -> Sequence[Array] | None:
    """The subject's output of every layer, or ``None`` where it cannot be known."""
    config = case.config
    if "output" in outcome.arrays and config.num_layers == 1:
        return [outcome.arrays["output"]]
    if "h_n" not in outcome.arrays:
        return None
    states = []
    for layers in range(1, config.num_layers + 1):
        if layers == config.num_layers and "output" in outcome.arrays:
            states.append(outcome.arrays["output"])
            continue
        prefix = case.prefix(layers)
        inner = subject.run(prefix)
        if inner.failure or check_form(prefix.config, inner.arrays, required=_required(prefix)):
            return None
        if not equal_bits(inner.arrays["h_n"], outcome.arrays["h_n"][: layers * config.num_directions]):
            return None
        states.append(inner.arrays["output"])
    return states


def _required(case: Case) -> tuple[str, ...]:
    return ("output", "h_n") if case.config.output_size is None else ("readout",)


def _judged(mismatches: Sequence[Mismatch], method: Method) -> Result:
    return Result(Verdict.DISAGREES if mismatches else Verdict.AGREES, tuple(mismatches), method=method)
