"""agreement: does a subject compute, on a case, what the reference says that nn.RNN computes?

``observe`` runs the subject, ``judge`` compares. The comparison is step-local (see ``oracle.expectation``), for which
the subject's output of every layer must be known. In a single time step, h_n holds them all. Otherwise inner layers
are reached by running the subject on prefixes of the stack, with the same weights, and taken for those inside the
full run if the h_n of both are equal. That is strong evidence, no proof: states that differ by a rounding may meet
again. So a difference that is seen only through a prefix counts only if the end-to-end comparison sees one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.checks.result import Method, Result, Verdict
from harness.oracle.compare import Mismatch, Sort, check_form, compare, same_numbers
from harness.oracle.expectation import expect_end_to_end, expect_local, single_step_states
from harness.oracle.reference import Reference
from harness.space.case import Array, Case
from harness.space.outcome import Failure, Outcome
from harness.subjects.protocol import Subject

REFERENCE = Reference()


class Observation(NamedTuple):
    """What a subject gave on a case, and on prefixes of its stack."""

    case: Case
    outcome: Outcome
    prefixes: dict[int, Array] | None
    """Its output of the first k layers run alone, by k, where the output of layer k is not in the outcome itself;
    ``None`` where that could not be had."""


def check_agreement(subject: Subject, case: Case, reference: Reference = REFERENCE) -> Result:
    """Run ``subject`` on ``case`` and compare ``output``, ``h_n`` and ``readout``, as far as it returns them."""
    return judge(observe(subject, case), reference)


def observe(subject: Subject, case: Case) -> Observation:
    """Run ``subject`` on ``case``, and on the prefixes of its stack that a local comparison needs."""
    outcome = subject.run(case)
    if outcome.failure or _form(case, outcome):
        return Observation(case, outcome, None)
    return Observation(case, outcome, _prefixes(subject, case, outcome))


def judge(observation: Observation, reference: Reference = REFERENCE) -> Result:
    """Compare what was observed with what ``reference`` allows."""
    case, outcome, prefixes = observation
    if (unfit := _unfit(case, outcome)) is not None:
        return unfit
    if prefixes is None:
        return _judged(_end_to_end(observation, reference), Method.END_TO_END)
    states = _states(observation, prefixes, reference)
    mismatches = _local(observation, states, reference)
    if (
        mismatches
        and prefixes
        and not _needs_no_prefix(mismatches[0], case)
        and not _end_to_end(observation, reference)
    ):
        return _judged((), Method.END_TO_END)
    return _judged(mismatches, Method.LOCAL)


def _prefixes(subject: Subject, case: Case, outcome: Outcome) -> dict[int, Array] | None:
    config, arrays = case.config, outcome.arrays
    known = "output" in arrays
    if known and config.num_layers == 1:
        return {}
    if "h_n" not in arrays:
        return None
    if config.T == 1:
        return {}
    outputs: dict[int, Array] = {}
    for layers in range(1, config.num_layers + (not known)):
        prefix = case.prefix(layers)
        inner = subject.run(prefix)
        if inner.failure or check_form(prefix.config, inner.arrays, required=_required(prefix)):
            return None
        if not same_numbers(inner.arrays["h_n"], arrays["h_n"][: layers * config.num_directions]):
            return None
        outputs[layers] = inner.arrays["output"]
    return outputs


def _states(observation: Observation, prefixes: dict[int, Array], reference: Reference) -> list[Array]:
    """The output of every layer: from the outcome where it holds it, else from a prefix."""
    case, arrays = observation.case, observation.outcome.arrays
    layers = case.config.num_layers
    told = len(prefixes) + ("output" in arrays) == layers
    states = [*prefixes.values()] if told else single_step_states(reference, case, arrays["h_n"])
    return [*states[: layers - 1], arrays["output"] if "output" in arrays else states[-1]]


def _local(observation: Observation, states: Sequence[Array], reference: Reference) -> list[Mismatch]:
    case = observation.case
    expected = expect_local(reference, case, states)
    mismatches: list[Mismatch] = []
    for layer, array in enumerate(states[:-1] if case.config.T > 1 else ()):  # in a single step, h_n says the same
        layers = case.config.prefix(layer + 1)
        mismatches += compare(layers, {"output": array}, {"output": expected.inner[layer]}, layer)
    return mismatches + compare(case.config, {"output": states[-1], **observation.outcome.arrays}, expected.arrays)


def _end_to_end(observation: Observation, reference: Reference) -> list[Mismatch]:
    case = observation.case
    return compare(case.config, observation.outcome.arrays, expect_end_to_end(reference, case))


def _needs_no_prefix(mismatch: Mismatch, case: Case) -> bool:
    """Whether a mismatch is the first layer's own: what it read is the case's x, not a prefix's output."""
    return mismatch.array == "output" and (mismatch.layer == 0 or case.config.num_layers == 1)


def _unfit(case: Case, outcome: Outcome) -> Result | None:
    """The result of an outcome that has no values to compare, or that broke a rule before any value matters."""
    if outcome.failure is Failure.UNSUPPORTED:
        return Result(Verdict.UNSUPPORTED, message=outcome.message)
    if outcome.failure is Failure.RAISED:
        return Result(Verdict.BROKEN, message=outcome.message, traceback=outcome.traceback)
    if outcome.failure is Failure.MALFORMED:
        return Result(Verdict.DISAGREES, (Mismatch("the result", Sort.MALFORMED, actual=outcome.message),))
    found = _form(case, outcome) + [Mismatch(name, Sort.CHANGED) for name in outcome.changed_inputs]
    return Result(Verdict.DISAGREES, tuple(found)) if found else None


def _form(case: Case, outcome: Outcome) -> list[Mismatch]:
    return check_form(case.config, outcome.arrays, required=_required(case))


def _required(case: Case) -> tuple[str, ...]:
    return ("output", "h_n") if case.config.output_size is None else ("readout",)


def _judged(mismatches: Sequence[Mismatch], method: Method) -> Result:
    return Result(Verdict.DISAGREES if mismatches else Verdict.AGREES, tuple(mismatches), method=method)
