"""The check of derivatives: a subject's directional derivatives, of its results and of its gradients.

They are asked of subjects that offer them (``subjects.capabilities``), on cases with a loss. Forward mode, ``jvp``, is
compared step by step like the states (``oracle.tangent_expectation``). Inner layers are reached in the same way: in a
single time step h_n and h_n.tangent hold them all; otherwise prefixes of the stack do, if both of these are equal. If
prefixes were needed, a difference above the first layer is proved only if the end-to-end comparison sees one, too.
Second order, ``second``, is compared with differences of the subject's own gradients (``oracle.taylor``), in float64
only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from harness.checks.agreement import REFERENCE, arithmetic_of, failure_of, unfit
from harness.checks.result import DERIVATIVES, Method, Result, Verdict
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.bound import np
from harness.oracle.compare import Mismatch, Sort, check_form, compare, same_numbers, suspect
from harness.oracle.expectation import (
    Expected,
    Setting,
    end_to_end_states,
    expect_end_to_end,
    expect_local,
    single_step_states,
)
from harness.oracle.known import Known, to_float64
from harness.oracle.reference import Reference
from harness.oracle.tangent_expectation import expect_tangents
from harness.oracle.taylor import STEPS, Point, nudged, suspect_rates
from harness.space.case import Array, Case
from harness.space.config import TANGENT, RNNConfig
from harness.space.outcome import Outcome
from harness.space.values import tangents
from harness.subjects.capabilities import Derivative
from harness.subjects.protocol import Subject

RETURNED: Final = ("output", "h_n")


class _Observation(NamedTuple):
    """The results of a subject's forward mode."""

    setting: Setting
    """The setting with the case as it was asked, without a loss and a readout."""
    along: Case
    """The tangents, each in the place of the array it belongs to."""
    arrays: Mapping[str, Array]
    layers: list[Mapping[str, Array]] | None
    """``output`` and ``output.tangent`` of every layer; ``None`` if they could not be obtained."""


def differentiable(config: RNNConfig) -> bool:
    """Return whether derivatives beyond gradients are asked for: in the plainest call, with respect to everything."""
    plain = config.plain == config.replace(grad_mode=None) and config.lengths is None and config.wrt == "all"
    return plain and not config.drops and config.device != "meta"


def check_derivatives(
    subject: Subject,
    case: Case,
    reference: Reference = REFERENCE,
    accepted: Accepted = STRICT,
    *,
    known: Outcome | None = None,
) -> Result:
    """Compare the derivatives that ``subject`` offers; the result is *unsupported* if it refuses all of them.

    ``known`` is what the subject gave on the case.
    """
    results: list[Result] = []
    setting = Setting(reference, case, arithmetic_of(subject, case, accepted))
    own = subject.capabilities
    if case.config.loss is not None and own.jvp is not None:
        results.append(_forward_mode(own.jvp, setting))
    if case.config.loss is not None and own.second is not None and case.config.dtype == "float64":
        results.append(_second_order(subject, own.second, setting, known))
    gravest = (Verdict.BROKEN, Verdict.DISAGREES, Verdict.SUSPECT, Verdict.AGREES, Verdict.UNSUPPORTED)
    worst = min(results, key=lambda result: gravest.index(result.verdict), default=Result(Verdict.UNSUPPORTED))
    return replace(worst, also=(DERIVATIVES,)) if worst.verdict is Verdict.AGREES else worst


def _forward_mode(jvp: Derivative, setting: Setting) -> Result:
    case = setting.case
    plain = case.prefix(case.config.num_layers)
    along = Case.from_arrays(plain.config, tangents(case))
    outcome = jvp(plain, _given(along))
    if (failure := failure_of(outcome)) is not None:
        return failure
    found = _form(plain.config, outcome.arrays)
    found += [Mismatch(name, Sort.CHANGED) for name in outcome.changed_inputs]
    if found:
        return Result(Verdict.DISAGREES, tuple(found))
    layers = _layers(jvp, plain, along, outcome.arrays)
    return _assess(_Observation(setting._replace(case=plain), along, outcome.arrays, layers))


def _layers(jvp: Derivative, case: Case, along: Case, arrays: Mapping[str, Array]) -> list[Mapping[str, Array]] | None:
    """Return the results of each layer in the subject's own run, as far as they can be obtained."""
    config = case.config
    if config.T == 1:
        return [{}] * config.num_layers  # h_n holds them
    inner: list[Mapping[str, Array]] = []
    for layers in range(1, config.num_layers):
        prefix, part = case.prefix(layers), along.prefix(layers)
        outcome = jvp(prefix, _given(part))
        if outcome.failure or _form(prefix.config, outcome.arrays):
            return None
        rows = slice(layers * config.num_directions)
        if not all(same_numbers(outcome.arrays[name], arrays[name][rows]) for name in ("h_n", "h_n" + TANGENT)):
            return None
        inner.append({name: outcome.arrays[name] for name in ("output", "output" + TANGENT)})
    return [*inner, arrays]


def _assess(seen: _Observation) -> Result:
    if seen.layers is None:
        return _result(_end_to_end(seen), [], Method.END_TO_END)
    states, derivatives = _states(seen, "output"), [own.values for own in _states(seen, "output" + TANGENT)]
    local = expect_local(seen.setting, states)
    beyond = expect_tangents(seen.setting, seen.along, states, derivatives)
    expected = [{**one, **other} for one, other in zip(local, beyond, strict=True)]
    found = _compared(seen, expected)
    by_prefix = seen.setting.case.config.T > 1 and seen.setting.case.config.num_layers > 1
    if found and by_prefix and found[0].layer != 0:
        proved = _end_to_end(seen)
        return _result(proved, [replace(mismatch, sort=Sort.SUSPICIOUS) for mismatch in found])
    return _result(found, [] if found else _compared(seen, expected, soft=True))


def _states(seen: _Observation, name: str) -> list[Known]:
    """Return the output of every layer, or its tangent, time first."""
    assert seen.layers is not None
    reference, case, _ = seen.setting
    if case.config.T == 1:
        rows = seen.arrays[name.replace("output", "h_n")]
        inner = single_step_states(reference, case.config, to_float64(rows))
        return [*inner[:-1], Known(reference.time_major(seen.arrays[name], case.config))]
    return [Known(reference.time_major(arrays[name], case.config)) for arrays in seen.layers]


def _compared(seen: _Observation, expected: Sequence[Mapping[str, Expected]], *, soft: bool = False) -> list[Mismatch]:
    """Compare layer by layer, from the first one up."""
    assert seen.layers is not None
    config, arithmetic = seen.setting.case.config, seen.setting.arithmetic
    found: list[Mismatch] = []
    asked: list[tuple[int | None, Mapping[str, Array]]] = list(enumerate(seen.layers[:-1] if config.T > 1 else ()))
    for layer, arrays in [*asked, (None, {name: seen.arrays[name] for name in expected[-1]})]:
        of_layer = config if layer is None else config.prefix(layer + 1)
        allowed = expected[-1 if layer is None else layer]
        kept = {name: array for name, array in arrays.items() if name in allowed}
        if soft:
            found += suspect(of_layer, kept, allowed, arithmetic, layer)
        else:
            found += compare(of_layer, kept, allowed, layer)
    return found


def _end_to_end(seen: _Observation) -> list[Mismatch]:
    states = end_to_end_states(seen.setting)
    expected = expect_end_to_end(seen.setting, states) | expect_tangents(seen.setting, seen.along, states)[-1]
    return compare(seen.setting.case.config, seen.arrays, expected)


def _second_order(subject: Subject, second: Derivative, setting: Setting, known: Outcome | None) -> Result:
    case, along = setting.case, tangents(setting.case)
    outcome = second(case, along)
    if (failure := failure_of(outcome)) is not None:
        return failure
    names = tuple(case.config.gradients)
    form = check_form(case.config, outcome.arrays, required=names)
    found = [replace(mismatch, array=mismatch.array + TANGENT) for mismatch in form]
    found += [Mismatch(name, Sort.CHANGED) for name in outcome.changed_inputs]
    if found:
        return Result(Verdict.DISAGREES, tuple(found))
    here, points = known or subject.run(case), []
    derivative = {n: outcome.arrays[n] for n in names if _finite(outcome, n) and _finite(here, n)}
    for step in STEPS if derivative else ():
        there = nudged(case, along, step)
        gradients = subject.run(there)
        if (bad := unfit(there, gradients)) is not None:
            return bad
        points.append(Point(there, gradients.arrays))
    return _result([], suspect_rates(setting, derivative, here.arrays, points) if points else [])


def _finite(outcome: Outcome, name: str) -> bool:
    return name in outcome.arrays and bool(np.isfinite(outcome.arrays[name]).all())


def _given(along: Case) -> dict[str, Array]:
    return dict(along.arrays)


def _form(config: RNNConfig, arrays: Mapping[str, Array]) -> list[Mismatch]:
    """Check names, shapes and dtypes of the results and of the tangents."""
    plain = {name: array for name, array in arrays.items() if not name.endswith(TANGENT)}
    along = {name.removesuffix(TANGENT): array for name, array in arrays.items() if name.endswith(TANGENT)}
    found = [replace(m, array=m.array + TANGENT) for m in check_form(config, along, required=RETURNED)]
    return check_form(config, plain, required=RETURNED) + found


def _result(found: Sequence[Mismatch], suspicious: Sequence[Mismatch], method: Method = Method.LOCAL) -> Result:
    if found:
        return Result(Verdict.DISAGREES, tuple(found), method=method)
    if suspicious:
        return Result(Verdict.SUSPECT, tuple(suspicious), method=method)
    return Result(Verdict.AGREES, method=method)
